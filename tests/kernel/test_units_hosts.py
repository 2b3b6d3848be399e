"""The package of relay and sync under a real systemd, with a real store and certificates: what the store says comes
into force by way of both, whatever is killed; and they are kept in."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.statefile import dump_native
from sgdataplane.store.sqlite.store import SqliteStore
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import DNS, WEB, state_of
from tests.support.scenes.bootedhost import AGENT, CONFIG, STATE, outcomes, rules, write
from tests.support.scenes.pair import Session, join
from tests.support.servers.booted import Booted
from tests.support.servers.certificates import Authority, Signed
from tests.support.servers.relaying import HERE, set_ports
from tests.support.servers.scraping import Scrape

pytestmark = [pytest.mark.daemon, pytest.mark.slow]
RELAY, SYNC = "sgdataplane-relay.service", "sgdataplane-sync.service"
USERS = {RELAY: "sgdataplane-relay", SYNC: "sgdataplane-sync"}
PORTS = {RELAY: 9470, SYNC: 9471}
FOLDER, STORE = "/var/lib/a-store", "/var/lib/a-store/cloud.db"
GENERATIONS = "/var/lib/sgdataplane-sync/state"
DROP_IN = f"/run/systemd/system/{RELAY}.d/store.conf"
METRICS = "import sys, urllib.request as u; print(u.urlopen(f'http://127.0.0.1:{sys.argv[1]}/metrics').read().decode())"


class Site:
    """One machine with store, relay, sync and agent, and a workload, eth0 of the namespace w; at its other end p."""

    def __init__(self, machine: Booted, authority: Authority) -> None:
        self.machine, self._authority = machine, authority
        self.pair = {"peer": str(machine.path("/run/netns/p")), "instance": str(machine.path("/run/netns/w"))}

    def run(self, command: str, *, check: bool = True) -> str:
        return self.machine.run("sh", "-c", command, check=check)

    def give(self, signed: Signed, name: str, user: str) -> None:
        """A certificate and its key, as the user's own."""
        for file, ending, mode in ((signed.certificate, "pem", "644"), (signed.key, "key", "600")):
            place = f"/etc/sgdataplane/{name}.{ending}"
            shutil.copy(file, self.machine.path(place))
            self.run(f"chown {user} {place} && chmod {mode} {place}")

    def give_host_another(self) -> None:
        """A certificate that is issued now."""
        self.give(self._authority.sign("host-1", begins=dt.datetime.now(dt.UTC)), "host", USERS[SYNC])

    def configure(self) -> None:
        """As docs/operations.md says, with the store in a file."""
        write(self.machine, STATE, dump_native(state_of(WEB)))
        shutil.copy(self._authority.certificate, self.machine.path("/etc/sgdataplane/ca.pem"))
        self.give(self._authority.sign("relay", HERE), "relay", USERS[RELAY])
        self.give_host_another()
        self.run(f"install -d -m 700 {FOLDER} && sgdp api import {STATE} --store {STORE}")
        self.run(f"sgdp hosts add host-1 --store {STORE} && chown -R {USERS[RELAY]} {FOLDER}")
        write(self.machine, DROP_IN, f"[Service]\nReadWritePaths={FOLDER}\n")
        for name, more in (
            ("relay", f'store = "sqlite:{STORE}"\nlisten = "{HERE}:8443"\nmetrics = "{HERE}:{PORTS[RELAY]}"\n'),
            ("sync", f'relays = ["wss://{HERE}:8443"]\nmetrics = "{HERE}:{PORTS[SYNC]}"\n'),
        ):
            file = f"/etc/sgdataplane/{name}.toml"
            whose = "relay" if name == "relay" else "host"
            tls = f'tls_cert = "/etc/sgdataplane/{whose}.pem"\ntls_key = "/etc/sgdataplane/{whose}.key"\n'
            said = self.machine.path(file).read_text("utf-8")
            write(self.machine, file, f'{said}{more}{tls}tls_ca = "/etc/sgdataplane/ca.pem"\n')
        door = 'status_socket = "/run/sgdataplane-sync/agent.sock"'
        write(self.machine, CONFIG, f'state = "{GENERATIONS}/current"\n{door}\n')

    def start(self) -> None:
        self.run(f"systemctl daemon-reload && systemctl restart {AGENT} && systemctl start {RELAY} {SYNC}")
        wait_until(lambda: self.run(f"test -e {GENERATIONS}/current && echo yes", check=False) == "yes\n")
        self.run("sgdp attach --eni eni-a --netns w --ifname eth0")
        wait_until(lambda: outcomes(self.machine) == {"eni-a": "in force"})

    def set_ports(self, *ports: int) -> None:
        """From within: SQLite follows each link of a path, so none that leads into another root."""

        def work() -> None:
            with closing(SqliteStore(Path(STORE))) as store:
                set_ports(store, "sg-a", *ports)

        self.machine.inside(work)

    def host(self) -> Any:  # noqa: ANN401  # a document
        """What `sgdp hosts` says of the only one."""
        (found,) = json.loads(self.run(f"sgdp hosts --json --store {STORE}"))["hosts"]
        return found

    def settle(self) -> None:
        """The last revision is in force. Until a relay that has just started has told of the host, nobody knows, and a
        wait ends at once: then it is asked again."""
        said: list[str] = []

        def is_in_force() -> bool:
            said.append(self.run(f"sgdp wait --timeout 60 --store {STORE}", check=False))
            return "is in force at 1 host" in said[-1]

        wait_until(is_in_force, must=False)
        assert "is in force at 1 host" in said[-1], (
            said[-1],
            self.run(f"journalctl -u {RELAY} -u {SYNC} | tail -n 30"),
        )

    def pid(self, unit: str) -> int:
        return int(self.machine.property(unit, "MainPID"))

    def metrics(self, unit: str) -> Scrape:
        return Scrape(self.machine.run("/usr/bin/python3", "-I", "-c", METRICS, PORTS[unit]))


@pytest.fixture
def site(systemd_machine: Booted, packages: tuple[Path, ...], tmp_path: Path) -> Iterator[Site]:
    """Both packages are installed, and configured; nothing runs yet but the agent."""
    machine, site = systemd_machine, Site(systemd_machine, Authority(tmp_path / "ca"))
    for package in (packages[0], packages[2]):
        shutil.copy(package, machine.path(f"/root/{package.name}"))
        machine.run("dpkg", "--install", f"/root/{package.name}")
    for unit in (RELAY, SYNC):
        assert machine.run("systemctl", "is-enabled", unit, check=False) == "disabled\n"
        assert machine.property(unit, "ActiveState") == "inactive"
    machine.run("ip", "link", "set", "lo", "up")
    for name in ("p", "w"):
        machine.run("ip", "netns", "add", name)
    join(site.pair)
    site.configure()
    yield site
    machine.run("sgdp", "clear", check=False)
    machine.run("dpkg", "--purge", "sgdataplane-hosts", "sgdataplane")
    machine.run("rm", "-rf", "/etc/sgdataplane", FOLDER, str(Path(DROP_IN).parent), f"/run/systemd/system/{AGENT}.d")
    for name in ("p", "w"):
        machine.run("ip", "netns", "delete", name)


@pytest.fixture
def running(site: Site) -> Site:
    """Everything runs, and the policy is in force."""
    site.start()
    site.settle()
    return site


def test_packets_obey_the_store_whatever_is_killed_or_stopped(running: Site) -> None:
    machine = running.machine
    with Session(running.pair, WEB) as web, Session(running.pair, DNS) as dns:
        assert not dns.passes(beside=web)
        before = {unit: running.pid(unit) for unit in (RELAY, SYNC)}
        running.run(f"kill -9 {' '.join(map(str, before.values()))}")
        running.set_ports(DNS)
        running.settle()
        assert not web.passes(beside=dns)
        for unit, pid in before.items():
            assert running.pid(unit) not in (0, pid)
            assert machine.property(unit, "NRestarts") == "1"
            assert machine.property(unit, "ActiveState") == "active"
        running.run(f"systemctl stop {RELAY} {SYNC}")
        assert [machine.property(unit, "Result") for unit in before] == ["success", "success"]
        running.set_ports(WEB, DNS)
        assert not web.passes(beside=dns), "what is in force stays"
        running.run(f"systemctl start {RELAY} {SYNC}")
        running.settle()
        for session in (web, dns):
            session.must_pass()
    assert str(WEB) in rules(machine)


def test_both_are_healthy_and_say_so(running: Site) -> None:
    assert (running.host()["status"], running.host()["error"]) == ("enforced", "")
    for unit, told in ((RELAY, f"serving at wss://{HERE}:8443"), (SYNC, f"{GENERATIONS}/current")):
        assert told in running.machine.property(unit, "StatusText")
        assert running.machine.property(unit, "NRestarts") == "0"
    relay, sync = running.metrics(RELAY), running.metrics(SYNC)
    for found in (relay, sync):  # also from within the sandbox
        assert any(sample.name == "process_resident_memory_bytes" for sample in found.samples)
    assert (relay.value("relay_streams"), relay.value("relay_lagging_hosts")) == (1, 0)
    assert (sync.value("sync_connected"), sync.value("sync_error"), sync.value("sync_attached_enis")) == (1, 0, 1)
    enforced = sync.value("sync_revision", stage="enforced")
    assert enforced == sync.value("sync_revision", stage="received") > 0


def test_both_are_kept_in(running: Site) -> None:
    """What the units say holds for the processes: no capability, no other's files, and little to write to."""
    may_write = {RELAY: FOLDER, SYNC: GENERATIONS}
    for unit, user in USERS.items():
        pid = running.pid(unit)
        text = running.machine.path(f"/proc/{pid}/status").read_text("ascii")
        assert set(re.findall(r"^Cap\w+:\s*(\w+)$", text, re.MULTILINE)) == {"0" * 16}
        assert re.findall(r"^NoNewPrivs:\s*(\d)$", text, re.MULTILINE) == ["1"]
        number = running.run(f"id -u {user}").strip()
        assert re.findall(r"^Uid:\s*(.*)$", text, re.MULTILINE) == ["\t".join([number] * 4)]
        inside = f"nsenter --target {pid} --mount --root setpriv --reuid {user} --regid {user} --clear-groups sh -c"
        other = next(folder for name, folder in may_write.items() if name != unit)
        for path in ("/etc", "/usr", "/run", "/var", "/var/lib/sgdataplane", "/run/sgdataplane-sync", other):
            said = running.run(f"{inside} 'echo > {path}/x'", check=False)
            assert re.search("Read-only|Permission denied", said), (unit, path, said)
        running.run(f"{inside} 'touch {may_write[unit]}/x && rm {may_write[unit]}/x'")
        key = "/etc/sgdataplane/host.key" if unit == RELAY else "/etc/sgdataplane/relay.key"
        for path in (key, "/etc/shadow", "/run/sgdataplane/agent.sock"):
            assert "Permission denied" in running.run(f"{inside} 'head -c 1 {path}'", check=False), (unit, path)


def test_only_sync_and_root_may_read_what_it_writes(running: Site) -> None:
    found = running.run(f"find {GENERATIONS}/generations/ -printf '%U %G %m\\n' | sort -u").splitlines()
    user = running.run(f"id -u {USERS[SYNC]}").strip()
    assert set(found) == {f"{user} 0 2750", f"{user} 0 640"}
    asks = f"setpriv --reuid {USERS[RELAY]} --regid {USERS[RELAY]} --clear-groups ls {GENERATIONS}"
    assert "Permission denied" in running.run(asks, check=False)


def test_a_host_that_is_revoked_gets_nothing_more(running: Site) -> None:
    def refused() -> float:
        return running.metrics(RELAY).value("relay_streams_ended_total", reason="revoked")

    running.run(f"sgdp hosts revoke host-1 --store {STORE}")
    wait_until(lambda: refused() > 0)
    running.set_ports(DNS)
    wait_until(lambda: refused() > 2)
    assert str(DNS) not in rules(running.machine)
    assert outcomes(running.machine) == {"eni-a": "in force"}
    running.run(f"sgdp hosts add host-1 --store {STORE}")
    before = refused()
    wait_until(lambda: refused() > before + 1)  # the certificate from before the revocation lets nobody in
    assert str(DNS) not in rules(running.machine)
    running.give_host_another()
    running.run(f"systemctl restart {SYNC}")  # it reads its files at a start
    wait_until(lambda: str(DNS) in rules(running.machine))
    running.settle()


def test_purged_nothing_of_them_is_left_but_the_agent(running: Site) -> None:
    running.run("dpkg --purge sgdataplane-hosts")
    left = running.run("find /etc /usr/lib /var/lib /run -name '*sgdataplane-sync*' -print -prune").splitlines()
    assert left == []
    assert running.machine.property(AGENT, "ActiveState") == "active"
    assert outcomes(running.machine) == {"eni-a": "in force"}
