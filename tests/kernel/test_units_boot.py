"""The Debian package under a real systemd: installed, started, reloaded, hung, killed, booted, upgraded, purged."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.statefile import dump_native
from tests.support.attachbench import DNS, WEB, state_of
from tests.support.booted import Booted, booted
from tests.support.builders import mac_of
from tests.support.flood import wait_until

ROOT = Path(__file__).resolve().parents[2]
BUILD_S = 300
AGENT, BOOT = "sgdataplane.service", "sgdataplane-boot.service"
STATE, CONFIG, DEB = "/etc/sgdataplane/state.yaml", "/etc/sgdataplane/agent.toml", "/root/sgdataplane.deb"
RUNTIME = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""
pytestmark = [pytest.mark.daemon, pytest.mark.slow]


@pytest.fixture(scope="module")
def package() -> Path:
    built = subprocess.run(["tools/deb.sh"], cwd=ROOT, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert built.returncode == 0, built.stderr
    return ROOT / "build" / built.stdout.strip()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, make_lab_name: Callable[[], str]) -> Iterator[Booted]:
    with booted(tmp_path_factory.mktemp("machine"), make_lab_name()) as machine:
        yield machine


@pytest.fixture
def host(machine: Booted, package: Path) -> Iterator[Booted]:
    """The package is installed, the agent runs, and eni-a is attached: eth0 of the namespace w, at the other end w0."""
    shutil.copy(package, machine.path(DEB))
    machine.run("dpkg", "--install", DEB)
    write(machine, STATE, dump_native(state_of(WEB)))
    machine.run("ip", "netns", "add", "w")
    machine.run("ip", "link", "add", "w0", "type", "veth", "peer", "eth0", "netns", "w", "address", mac_of("eni-a"))
    machine.run("ip", "-n", "w", "link", "set", "eth0", "up")
    machine.run("sgdp", "attach", "--eni", "eni-a", "--netns", "w", "--ifname", "eth0")
    wait_until(lambda: outcomes(machine) == {"eni-a": "in force"})
    yield machine
    machine.run("dpkg", "--purge", "sgdataplane")
    machine.run("rm", "-rf", "/etc/sgdataplane", f"/run/systemd/system/{AGENT}.d")
    machine.run("ip", "netns", "delete", "w", check=False)


def write(machine: Booted, path: str, text: str) -> None:
    machine.path(path).parent.mkdir(parents=True, exist_ok=True)
    machine.path(path).write_text(text, "utf-8")


def status(machine: Booted) -> dict[str, Any]:
    said = machine.run("sgdp", "status", "--json", check=False)
    found = json.loads(said) if said.startswith("{") else {"enis": [], "pid": 0}
    assert isinstance(found, dict)
    return found


def outcomes(machine: Booted) -> dict[str, str]:
    return {eni["eni"]: eni["outcome"] for eni in status(machine)["enis"]}


def rules(machine: Booted, namespace: str = "w") -> str:
    """All of ours there, without what counts, and what goes by itself (the adoption window)."""
    listing = machine.run("ip", "netns", "exec", namespace, "nft", "-s", "list", "table", "inet", "sgdataplane")
    return "\n".join(line for line in listing.splitlines() if "timeout 30s" not in line)


def pid(machine: Booted) -> int:
    return int(machine.property(AGENT, "MainPID"))


def test_installed_it_runs_and_starts_at_boot(host: Booted) -> None:
    for unit, sub in ((AGENT, "running"), (BOOT, "exited")):
        assert host.run("systemctl", "is-enabled", unit) == "enabled\n"
        assert (host.property(unit, "ActiveState"), host.property(unit, "SubState")) == ("active", sub)
    assert host.property(AGENT, "StatusText") == "1 ENIs, healthy"
    found = status(host)
    assert (found["healthy"], found["pid"]) == (True, pid(host))
    assert "egress" in rules(host)


def test_it_is_kept_in(host: Booted) -> None:
    """What the unit says holds for the process: capabilities, and files."""
    text = host.path(f"/proc/{pid(host)}/status").read_text("ascii")
    bounds = re.search(r"^CapBnd:\s*(\w+)$", text, re.MULTILINE)
    assert bounds
    assert int(bounds[1], 16) == sum(1 << number for number in (11, 12, 18, 19, 21))
    inside = ["nsenter", "--target", pid(host), "--mount", "--root", "sh", "-c"]
    for path in ("/etc", "/usr", "/run", "/var", "/root", "/proc/sys/kernel/hostname"):
        target = f"{path}/x" if host.path(path).is_dir() else path
        assert "Read-only file system" in host.run(*inside, f"echo > {target}", check=False)
    host.run(*inside, "touch /run/sgdataplane/x /var/lib/sgdataplane/x && rm /run/sgdataplane/x /var/lib/sgdataplane/x")


def test_what_it_may_not_read_or_write_is_told_and_a_drop_in_allows_it(host: Booted) -> None:
    host.run("sh", "-c", f"chown nobody {STATE} && chmod 600 {STATE}")
    wait_until(lambda: "permission denied" in str(status(host)["state"]["error"]))
    assert outcomes(host) == {"eni-a": "in force"}
    host.run("chown", "root", STATE)
    host.run("cp", STATE, "/tmp/state.yaml")
    host.run("mkdir", "/srv/kept")
    write(host, CONFIG, 'state = "/tmp/state.yaml"\nstate_directory = "/srv/kept"\n')
    host.run("systemctl", "restart", AGENT)
    assert "no such file" in status(host)["state"]["error"]
    write(host, CONFIG, 'state_directory = "/srv/kept"\n')
    host.run("systemctl", "restart", AGENT)
    assert "Read-only file system" in status(host)["last_good"]["error"]
    write(host, f"/run/systemd/system/{AGENT}.d/paths.conf", "[Service]\nReadWritePaths=/srv/kept\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", AGENT)
    assert status(host)["healthy"]


def test_metrics_are_for_this_machine_until_a_drop_in_says_otherwise(host: Booted) -> None:
    host.run("ip", "link", "set", "lo", "up")
    host.run("ip", "address", "replace", "192.0.2.1/32", "dev", "lo")
    write(host, CONFIG, 'metrics = "0.0.0.0:9469"\n')
    host.run("systemctl", "restart", AGENT)

    def ask(address: str) -> str:
        program = f"import urllib.request as u; print(u.urlopen('http://{address}:9469/metrics', timeout=2).read())"
        return host.run("python3", "-c", program, check=False)

    assert "sgdataplane_healthy 1.0" in ask("127.0.0.1")
    assert "timed out" in ask("192.0.2.1")
    write(host, f"/run/systemd/system/{AGENT}.d/addresses.conf", "[Service]\nIPAddressAllow=192.0.2.0/24\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", AGENT)
    assert "sgdataplane_healthy 1.0" in ask("192.0.2.1")


def test_reload_reads_configuration_and_state_anew(host: Booted) -> None:
    before = pid(host)
    write(host, "/etc/sgdataplane/other.yaml", dump_native(state_of(DNS)))
    write(host, CONFIG, 'state = "/etc/sgdataplane/other.yaml"\n')
    host.run("systemctl", "reload", AGENT)
    wait_until(lambda: f"rule.sg-a.sgr-{DNS}" in rules(host))
    assert "reload" in status(host)["cycle"]["causes"]
    assert (pid(host), host.property(AGENT, "ActiveState")) == (before, "active")


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_killed_or_hung_it_is_started_anew_and_the_rules_stay(host: Booted, signal: str) -> None:
    """Hung: systemd's watchdog ends it."""
    write(host, f"/run/systemd/system/{AGENT}.d/watchdog.conf", "[Service]\nWatchdogSec=2\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", AGENT)
    before, held = pid(host), rules(host)
    host.run("sh", "-c", f"kill -{signal} {before}")
    wait_until(lambda: status(host)["pid"] not in (0, before))
    assert ("Watchdog timeout" in host.run("journalctl", "-u", AGENT)) == (signal == "STOP")
    assert outcomes(host) == {"eni-a": "in force"}
    assert rules(host) == held


def test_stopped_the_rules_and_what_is_attached_stay(host: Booted) -> None:
    held = rules(host)
    host.run("systemctl", "stop", AGENT)
    assert host.property(AGENT, "Result") == "success"
    assert rules(host) == held
    host.run("systemctl", "start", AGENT)
    assert outcomes(host) == {"eni-a": "in force"}
    assert rules(host) == held


def test_namespace_ends_though_the_agent_has_mounts_of_its_own(host: Booted) -> None:
    host.run("ip", "netns", "delete", "w")
    wait_until(lambda: outcomes(host) == {})
    assert "gone" in host.run("journalctl", "-u", AGENT)


def test_interfaces_of_namespaces_that_come_later_are_bound_by_alias(host: Booted) -> None:
    """Their names are mounts, which come to the agent's own mount namespace, too."""
    host.run("sgdp", "detach", "--eni", "eni-a")
    write(host, CONFIG, 'bind = ["alias"]\n')
    host.run("systemctl", "restart", AGENT)
    host.run("ip", "netns", "add", "later")
    host.run("ip", "link", "add", "l0", "type", "veth", "peer", "eth0", "netns", "later", "address", mac_of("eni-a"))
    host.run("ip", "-n", "later", "link", "set", "eth0", "alias", "eni-a", "up")
    wait_until(lambda: outcomes(host) == {"eni-a": "in force"})
    assert "egress" in rules(host, "later")
    host.run("ip", "netns", "delete", "later")
    wait_until(lambda: outcomes(host) == {})


def test_routers_are_the_machines_and_outlive_the_agent(host: Booted) -> None:
    write(host, CONFIG, 'placement = "host"\n')
    host.run("systemctl", "reload", AGENT)
    wait_until(lambda: [eni["placement"] for eni in status(host)["enis"]] == ["host"])
    (router,) = re.findall(r"^sgdp-\S+", host.run("ip", "netns", "list"), re.MULTILINE)
    held = rules(host, router)
    host.run("systemctl", "stop", AGENT)
    assert rules(host, router) == held
    assert "169.254.1.1" in host.run("ip", "-n", router, "address")
    host.run("systemctl", "start", AGENT)
    assert outcomes(host) == {"eni-a": "in force"}
    host.run("sgdp", "clear")
    assert "sgdp-" not in host.run("ip", "netns", "list")


def test_boot_unit_enforces_what_is_attached_by_the_last_good_policy(host: Booted) -> None:
    host.run("systemctl", "stop", AGENT, BOOT)
    host.run("ip", "netns", "exec", "w", "nft", "flush", "ruleset")
    write(host, STATE, "no state\n")
    host.run("systemctl", "start", BOOT)
    assert f"rule.sg-a.sgr-{WEB}" in rules(host)
    assert 'policy="last good"' in host.run("journalctl", "-u", BOOT)
    assert host.property(AGENT, "ActiveState") == "inactive"


def test_boot_unit_closes_what_is_attached_where_there_is_no_policy(host: Booted) -> None:
    host.run("systemctl", "stop", AGENT, BOOT)
    host.run("ip", "netns", "exec", "w", "nft", "flush", "ruleset")
    host.path(STATE).unlink()
    host.path("/var/lib/sgdataplane/last-good.yaml").unlink()
    host.run("systemctl", "start", BOOT)
    assert "rule.sg-a" not in rules(host)
    assert "policy=closed" in host.run("journalctl", "-u", BOOT)


def test_at_boot_it_is_there_before_the_network_and_before_containers(host: Booted) -> None:
    write(host, "/etc/systemd/system/docker.service", RUNTIME)
    host.run("systemctl", "enable", "docker.service")
    write(host, STATE, "no state\n")
    host.end()
    host.boot()

    def moment(unit: str, name: str) -> int:
        return int(host.property(unit, f"{name}TimestampMonotonic"))

    assert 0 < moment(BOOT, "ActiveEnter") <= moment("network-pre.target", "ActiveEnter")
    assert moment(BOOT, "ActiveEnter") <= moment(AGENT, "InactiveExit")
    assert 0 < moment(AGENT, "ActiveEnter") <= moment("docker.service", "InactiveExit")
    assert status(host)["state"]["origin"] == "last good"
    assert status(host)["enis"] == []
    host.run("systemctl", "disable", "--now", "docker.service")


def test_runtime_that_asks_for_the_agent_does_not_start_without_it(host: Booted) -> None:
    write(host, "/run/systemd/system/containerd.service", RUNTIME)
    drop_in = "[Unit]\nRequires=sgdataplane.service\nAfter=sgdataplane.service\n"
    write(host, "/run/systemd/system/containerd.service.d/agent.conf", drop_in)
    host.run("systemctl", "stop", AGENT)
    host.run("systemctl", "daemon-reload")
    write(host, CONFIG, "no configuration\n")
    assert "dependency" in host.run("systemctl", "start", "containerd.service", check=False)
    assert host.property("containerd.service", "ActiveState") == "inactive"
    write(host, CONFIG, "")
    wait_until(lambda: host.property(AGENT, "ActiveState") == "active")  # it is tried again each second
    host.run("systemctl", "start", "containerd.service")


def test_upgraded_it_is_another_process_and_the_rules_stay(host: Booted, package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path / "newer"], check=True)
    control = tmp_path / "newer/DEBIAN/control"
    text = control.read_text("utf-8")
    control.write_text(re.sub(r"^Version: .*$", "Version: 99", text, flags=re.MULTILINE), "utf-8")
    subprocess.run(["dpkg-deb", "--build", tmp_path / "newer", host.path(DEB)], check=True, capture_output=True)
    before, held = pid(host), rules(host)
    host.run("dpkg", "--install", DEB)
    assert pid(host) not in (0, before)
    assert (outcomes(host), rules(host)) == ({"eni-a": "in force"}, held)


def test_make_install_runs_under_systemd_and_is_undone(machine: Booted) -> None:
    where = {**os.environ, "DESTDIR": str(machine.path("")), "PREFIX": "/usr/local"}
    subprocess.run(["tools/install.sh"], cwd=ROOT, env=where, check=True)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "enable", "--now", BOOT, AGENT)
    assert (machine.property(AGENT, "ActiveState"), machine.property(BOOT, "ActiveState")) == ("active", "active")
    assert machine.property(AGENT, "FragmentPath").startswith("/usr/local/")
    assert f"pid {pid(machine)}" in machine.run("/usr/local/bin/sgdp", "status", check=False)
    machine.run("systemctl", "disable", "--now", BOOT, AGENT)
    subprocess.run(["tools/install.sh", "uninstall"], cwd=ROOT, env=where, check=True)
    machine.run("systemctl", "daemon-reload")
    assert machine.property(AGENT, "LoadState") == "not-found"


def test_purged_nothing_is_left_but_the_rules_and_what_users_wrote(host: Booted) -> None:
    held = rules(host)
    host.run("dpkg", "--remove", "sgdataplane")
    assert host.path(CONFIG).exists()
    assert host.path("/run/sgdataplane/attached/bindings.json").exists()
    assert host.path("/var/lib/sgdataplane/last-good.yaml").exists()
    assert host.property(AGENT, "LoadState") in ("not-found", "masked")
    host.run("dpkg", "--purge", "sgdataplane")
    places = ("/etc", "/usr/bin", "/usr/lib", "/usr/share", "/var/lib", "/var/cache", "/run")
    left = host.run("find", *places, "(", "-name", "*sgdataplane*", "-o", "-name", "sgdp", ")", "-print", "-prune")
    assert left.splitlines() == ["/etc/sgdataplane"]
    assert sorted(path.name for path in host.path("/etc/sgdataplane").iterdir()) == ["state.yaml"]
    assert rules(host) == held
