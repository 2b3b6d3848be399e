"""The API's Debian package under a real systemd: run as the page says, kept in, stopped under writers, restored."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents.samples import steady
from tests.support.probes.flood import wait_until
from tests.support.scenes.bootedhost import AGENT, CONFIG, outcomes, rules, status, write
from tests.support.scenes.pair import HERE, Session, join
from tests.support.servers.booted import Booted

pytestmark = [pytest.mark.daemon, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
API, USER = "sgdataplane-api.service", "sgdataplane-api"
EXAMPLES = "/usr/share/doc/sgdataplane/examples"
STORE, STATE = "/var/lib/sgdataplane-api/store.db", "/var/lib/sgdataplane-api/state"
EPOCH = re.compile(r" of epoch [0-9]+")
URL = "http://127.0.0.1:8080"
INSIDE = "import sys; sys.path.insert(0, '/usr/lib/sgdataplane'); from sgdataplane.control.http.client import *\n"
CALL = "print(json.dumps(ApiClient(*sys.argv[1:4]).ask(sys.argv[4], **json.loads(sys.argv[5]))))"
# Threads that create groups until nobody answers; the ids that were answered.
WRITE = """
import threading
client, made, begun = ApiClient(*sys.argv[1:4]), [], threading.Event()
def write(name):
    try:
        for number in range(10_000):
            made.append(client.ask("CreateSecurityGroup", SecurityGroupName=f"{name}-{number}")["SecurityGroupId"])
            begun.set()
    except (EndpointError, RefusedError) as error:
        refused.append(str(error))
refused = []
threads = [threading.Thread(target=write, args=(f"w{number}",)) for number in range(8)]
for thread in threads: thread.start()
begun.wait()
open("/run/writing", "w").close()
for thread in threads: thread.join()
print(json.dumps([made, refused]))
"""


class ApiHost:
    """Both packages, and a workload without an ENI: eth0 of the namespace w, at the other end that of p."""

    def __init__(self, machine: Booted) -> None:
        self.machine = machine
        self.key: tuple[str, str] = ("", "")
        self.pair = {"peer": str(machine.path("/run/netns/p")), "instance": str(machine.path("/run/netns/w"))}

    def run(self, command: str, *, check: bool = True) -> str:
        """As a shell in there runs it, with the API's variables."""
        given = ("SGDP_API", "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET")
        variables = [f"{name}={value}" for name, value in zip(given, (URL, *self.key), strict=True)]
        return self.machine.run("env", *variables, "sh", "-c", command, check=check)

    def python(self, program: str, *arguments: str) -> Any:  # noqa: ANN401  # a document
        words = ("/usr/bin/python3", "-I", "-c", INSIDE + program, URL, *self.key, *arguments)
        return json.loads(self.machine.run(*words).splitlines()[-1])

    def ask(self, action: str, **parameters: object) -> Mapping[str, Any]:
        found = self.python(CALL, action, json.dumps(parameters))
        assert isinstance(found, dict)
        return found

    def settle(self) -> None:
        answer = self.ask("SgdpWait", Timeout=60)
        assert answer["Enforced"] == ["this host"], answer

    def create_key(self) -> None:
        found = json.loads(self.run("sgdp api keys create --json 2>/dev/null"))
        self.key = found["access_key_id"], found["access_key_secret"]

    def attach(self) -> str:
        """The workload becomes an instance of the API's, in a group without rules; the group's id."""
        vpc = self.ask("CreateVpc", CidrBlock="10.0.0.0/16")["VpcId"]
        zone = {"CidrBlock": "10.0.0.0/24", "ZoneId": "cn-hangzhou-a"}
        switch = self.ask("CreateVSwitch", VpcId=vpc, **zone)["VSwitchId"]
        group = str(self.ask("CreateSecurityGroup", VpcId=vpc, SecurityGroupName="web")["SecurityGroupId"])
        address = HERE["instance"][0]
        self.ask("RunInstances", VSwitchId=switch, SecurityGroupId=group, InstanceName="new1", PrivateIpAddress=address)
        self.settle()
        where = f"--netns w --ifname eth0 --state {STATE}/current --set-mac"
        self.run(f"sgdp attach --eni new1 {where}")
        wait_until(lambda: list(outcomes(self.machine).values()) == ["in force"])
        mac = self.run("ip netns exec w cat /sys/class/net/eth0/address").strip()
        self.run(f"ip -n p neighbour replace {address} lladdr {mac} dev eth0")  # the peer knows the one before
        return group


@pytest.fixture
def host(systemd_machine: Booted, packages: tuple[Path, ...]) -> Iterator[ApiHost]:
    """Both packages are installed; nothing is configured yet."""
    machine, host = systemd_machine, ApiHost(systemd_machine)
    for package in packages[:2]:
        shutil.copy(package, machine.path(f"/root/{package.name}"))
        machine.run("dpkg", "--install", f"/root/{package.name}")
    machine.run("ip", "link", "set", "lo", "up")
    for name in ("p", "w"):
        machine.run("ip", "netns", "add", name)
    join(host.pair)
    yield host
    machine.run("sgdp", "clear", check=False)
    machine.run("dpkg", "--purge", "sgdataplane-api", "sgdataplane")
    machine.run("rm", "-rf", "/etc/sgdataplane", f"/run/systemd/system/{API}.d")
    for name in ("p", "w"):
        machine.run("ip", "netns", "delete", name)


@pytest.fixture
def running(host: ApiHost) -> ApiHost:
    """The agent follows the API, which runs."""
    door = 'status_socket = "/run/sgdataplane-api/agent.sock"'
    write(host.machine, CONFIG, f'state = "{STATE}/current"\n{door}\n')
    host.create_key()
    host.run(f"systemctl restart {AGENT} && systemctl start {API}")
    return host


def commands(heading: str) -> Iterator[tuple[str, str]]:
    """Of the first block there, without those that build, install and set variables. With what each says."""
    page = (ROOT / "docs/api.md").read_text("utf-8")
    block = page.partition(f"## {heading}\n")[2].partition("```\n")[2].partition("```")[0]
    for part in block.split("# ")[1:]:
        command, _, says = part.partition("\n")
        if not command.startswith(("make", "export")):
            yield command, says


def without_ids(text: str) -> str:
    """Rules are given another id in each run."""
    return re.sub(r"\bsgr-\w+", "sgr-ID", text)


def test_as_the_page_says_and_packets_obey(host: ApiHost) -> None:
    host.run("ip netns add db1 && ip link add d0 type veth peer eth0 netns db1")
    for command, says in commands("Run it on a host"):
        said = host.run(f"cd {EXAMPLES} && {command}")
        if command.startswith("sgdp api keys create"):
            key, secret = re.findall(r"^access key (?:id|secret): +(\S+)$", said, re.MULTILINE)
            host.key = key, secret
        elif says:
            assert steady(says) in steady(said)
    wait_until(lambda: outcomes(host.machine) == {"eni-db1": "in force"})
    assert "5433" in rules(host.machine, "db1")
    host.run("sgdp detach --eni eni-db1 && ip netns delete db1")
    group = host.attach()
    with Session(host.pair, 8080) as web, Session(host.pair, 5353) as dns:
        assert "in force at this host" in host.run(f"sgdp group authorize {group} udp/8080 --from 10.0.0.1/32")
        assert not dns.passes(beside=web)
        assert "in force at this host" in host.run(f"sgdp group authorize {group} udp/5353 --from 10.0.0.1/32")
        assert "in force at this host" in host.run(f"sgdp group revoke {group} udp/8080 --from 10.0.0.1/32")
        assert not web.passes(beside=dns)
        host.run(f"systemctl restart {API}")
        host.settle()
        host.run(f"systemctl stop {API}")
        assert host.machine.property(API, "Result") == "success"
        assert not web.passes(beside=dns), "what is in force stays"
    assert status(host.machine)["healthy"]


def test_it_is_installed_and_not_started(host: ApiHost) -> None:
    assert host.machine.run("systemctl", "is-enabled", API, check=False) == "disabled\n"
    assert host.machine.property(API, "ActiveState") == "inactive"


def test_it_is_kept_in(running: ApiHost) -> None:
    """What the unit says holds for the process: no capability, and only its own folder to write to."""
    pid = running.machine.property(API, "MainPID")
    text = running.machine.path(f"/proc/{pid}/status").read_text("ascii")
    assert set(re.findall(r"^Cap\w+:\s*(\w+)$", text, re.MULTILINE)) == {"0" * 16}
    user = running.run(f"id -u {USER}").strip()
    assert re.findall(r"^Uid:\s*(.*)$", text, re.MULTILINE) == ["\t".join([user] * 4)]
    inside = f"nsenter --target {pid} --mount --root setpriv --reuid {USER} --regid {USER} --clear-groups sh -c"
    for path in ("/etc/x", "/usr/x", "/run/x", "/var/x", "/run/sgdataplane-api/x", "/etc/sgdataplane/api.toml"):
        assert re.search("Read-only|Permission denied", running.run(f"{inside} 'echo > {path}'", check=False)), path
    running.run(f"{inside} 'touch {STATE}/x && rm {STATE}/x'")
    assert "Permission denied" in running.run(f"{inside} 'ls /run/sgdataplane'", check=False)


def test_only_it_and_root_may_read_what_it_writes(running: ApiHost) -> None:
    running.attach()
    for path in (STORE, f"{STORE}.key"):
        assert running.run(f"stat --format '%U %a' {path}") == f"{USER} 600\n"
    found = running.run(f"find {STATE}/generations/ -printf '%U %G %m\\n' | sort -u").splitlines()
    user = running.run(f"id -u {USER}").strip()
    assert set(found) == {f"{user} 0 2750", f"{user} 0 640"}
    asks = f"setpriv --reuid nobody --regid nogroup --clear-groups ls {STATE}"
    assert "Permission denied" in running.run(asks, check=False)


def test_a_folder_that_others_can_write_is_refused(running: ApiHost) -> None:
    running.attach()
    running.run(f"chmod o+w {STATE}")
    running.ask("CreateSecurityGroup", SecurityGroupName="more")
    assert running.ask("SgdpWait", Timeout=60)["Unknown"] == ["this host"], "nobody is the owner"
    assert "InvalidSource.Writable" in status(running.machine)["state"]["error"]
    assert list(outcomes(running.machine).values()) == ["in force"], "the policy before stays"
    running.run(f"chmod o-w {STATE}")
    wait_until(lambda: running.ask("SgdpWait", Timeout=10)["Enforced"] == ["this host"])


def test_without_the_agent_nothing_is_called_enforced(running: ApiHost) -> None:
    running.settle()
    running.run(f"systemctl stop {AGENT}")
    running.ask("CreateSecurityGroup", SecurityGroupName="more")
    assert running.ask("SgdpWait", Timeout=60)["Unknown"] == ["this host"]
    running.run(f"systemctl start {AGENT}")
    wait_until(lambda: running.ask("SgdpWait", Timeout=10)["Enforced"] == ["this host"])


def test_stopped_under_writers_nothing_that_was_answered_is_lost(running: ApiHost) -> None:
    stop = f"(while [ ! -e /run/writing ]; do sleep 0.01; done; systemctl stop {API}) & "
    words = " ".join(map(shlex.quote, ("/usr/bin/python3", "-I", "-c", INSIDE + WRITE, URL, *running.key)))
    made, refused = json.loads(running.run(f"{stop} {words}; wait").splitlines()[-1])
    assert len(made) > 8
    assert len(refused) == 8
    assert running.machine.property(API, "Result") == "success"
    running.run(f"systemctl start {API}")
    there = running.ask("DescribeSecurityGroups", MaxResults=100)
    assert there["TotalCount"] == len(made)
    listed = json.loads(running.run("sgdp group list --json"))["SecurityGroups"]
    assert {group["SecurityGroupId"] for group in listed} == set(made)


def test_a_backup_is_restored_as_root_and_is_the_units_again(running: ApiHost) -> None:
    kept = running.ask("CreateSecurityGroup", SecurityGroupName="kept")["SecurityGroupId"]
    for number, (command, says) in enumerate(commands("Keys, audit and backups")):
        said = running.run(command)
        assert EPOCH.sub("", says) in EPOCH.sub("", said)
        if not number:
            running.ask("CreateSecurityGroup", SecurityGroupName="lost")
            assert "stop `sgdp api` first" in running.run("sgdp api restore /root/copy.db", check=False)
    running.settle()
    listed = json.loads(running.run("sgdp group list --json"))["SecurityGroups"]
    assert [group["SecurityGroupId"] for group in listed] == [kept]
    running.ask("CreateSecurityGroup", SecurityGroupName="more")
    assert running.run(f"stat --format '%U %a' {STORE}") == f"{USER} 600\n"


def test_purged_only_its_user_and_the_agent_are_left(running: ApiHost) -> None:
    running.run("dpkg --purge sgdataplane-api")
    left = running.run("find /etc /usr/lib /var/lib /run -name '*sgdataplane-api*' -print -prune").splitlines()
    assert left == []
    assert running.machine.property(AGENT, "ActiveState") == "active"
    running.run(f"systemctl daemon-reload && systemctl restart {AGENT}")
    assert "status-not-served" in running.run(f"journalctl -u {AGENT}")
