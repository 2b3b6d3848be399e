"""`sgdp lab up --api`: whole hosts that follow an API, which answers on this machine's loopback."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from sgdataplane.control.http.client import KEY, SECRET, URL, ApiClient
from sgdataplane.errors import HostError
from sgdataplane.host.links import Links
from sgdataplane.host.routing import router_ifname
from sgdataplane.lab.hosts.hostslab import hosts_lab
from sgdataplane.lab.hosts.housekeeping import Housekeeper, LabClient
from tests.support.probes.flood import wait_until

pytestmark = [pytest.mark.traffic, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "shop.yaml"
SUMMARY = "sgdp/summary/"
PLACED = re.compile(r"(\S+) \((\S+?)[,)].* of (\S+) is on (\S+): nsenter --net=(\S+) COMMAND")


@dataclass
class Running:
    """The command. `given`: what it says that a shell needs. `lines`: what it says then."""

    process: subprocess.Popen[str]
    given: dict[str, str]
    lines: IO[str]

    @property
    def client(self) -> ApiClient:
        return ApiClient(self.given[URL], self.given[KEY], self.given[SECRET], Path(self.given["SSL_CERT_FILE"]))

    def placed(self) -> tuple[str, str, str, str]:
        """The next ENI that appears: its address, instance and host, and the namespace."""
        found = PLACED.match(self.lines.readline())
        assert found
        return found[2], found[3], found[4], found[5]


@contextmanager
def running(*words: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "sgdataplane", "lab", "up", "--api", "--listen", "127.0.0.1:0", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            given = (shlex.split(process.stdout.readline())[1].partition("=") for _ in range(4))
            yield Running(process, {name: value for name, _, value in given}, process.stdout)
        finally:
            process.kill()


def reaches(sender: str, address: str, port: int, receiver: str) -> bool:
    """Whether a TCP connection between two namespaces comes about; the listener is up."""
    listen = f"import socket; s = socket.create_server(('{address}', {port})); print(1, flush=True); s.accept()"
    with subprocess.Popen(
        ["nsenter", f"--net={receiver}", sys.executable, "-c", listen], stdout=subprocess.PIPE
    ) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"1\n"
        connect = f"import socket; socket.create_connection(('{address}', {port}), timeout=1)"
        command = ["nsenter", f"--net={sender}", sys.executable, "-c", connect]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        listener.kill()
    assert done.returncode == 0 or "TimeoutError" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("words", [(), ("--placement", "host")], ids=["instance", "host"])
def test_an_eni_appears_on_a_host_and_what_the_api_says_is_what_packets_show(words: tuple[str, ...]) -> None:
    """The instances of a state are spread over the hosts; each end of the connections is on another one."""
    with running("--hosts", "2", *words, str(SHOP)) as lab:
        places = {
            instance: (address, host, inside) for address, instance, host, inside in (lab.placed() for _ in range(5))
        }
        hosts = [host for _, host, _ in places.values()]
        assert sorted((hosts.count("host1"), hosts.count("host2"))) == [2, 3]
        _, web_host, from_web = places["i-web1"]
        name, (db, _, to_db) = next((name, places[name]) for name in ("i-db1", "i-db2") if places[name][1] != web_host)
        settle(lab.client)
        wait_until(lambda: reaches(from_web, db, 5432, to_db))
        assert not reaches(from_web, db, 5433, to_db)
        lab.client.ask("RevokeSecurityGroup", SecurityGroupId="sg-db", SecurityGroupRuleId=["sgr-from-web"])
        settle(lab.client)
        assert not reaches(from_web, db, 5432, to_db)
        lab.client.ask("DeleteInstance", InstanceId=name)
        assert f"of {name} has left" in lab.lines.readline()
        assert not Path(to_db).exists()
        lab.process.send_signal(signal.SIGINT)
        assert lab.process.wait(60) == 0


def settle(client: ApiClient) -> None:
    wait_until(lambda: len(client.ask("SgdpWait", Timeout=5)["Enforced"]) == 2)


def test_a_lab_whose_command_is_killed_is_gone() -> None:
    with running("--hosts", "1") as lab:
        file = Path(lab.given["SSL_CERT_FILE"])
        assert file.exists()
        lab.process.kill()
        lab.process.wait()
        wait_until(lambda: not file.exists())
        pid = file.parts[2]
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or is_ending(pid))


def is_ending(pid: str) -> bool:
    return "Z" in Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[:1]


def test_a_workload_that_cannot_be_made_is_tried_again() -> None:
    """Somebody's interface has the name that its link needs. What was made of it is gone meanwhile."""
    with hosts_lab(1) as lab:
        keeper, (host,) = Housekeeper(lab, LabClient(lab)), lab.hosts
        vpc = keeper.client.ask("CreateVpc", CidrBlock="10.0.0.0/16")["VpcId"]
        switch = keeper.client.ask("CreateVSwitch", VpcId=vpc, CidrBlock="10.0.0.0/16", ZoneId="cn-hangzhou-a")
        group = keeper.client.ask("CreateSecurityGroup", VpcId=vpc)["SecurityGroupId"]
        made = {"VSwitchId": switch["VSwitchId"], "SecurityGroupId": group}
        assert keeper.turn() == ([], [])
        keeper.client.ask("RunInstances", **made)
        (eni,) = keeper.client.all_of("DescribeNetworkInterfaces", "NetworkInterfaceSets", "NetworkInterfaceSet")
        name = eni["NetworkInterfaceId"]
        with Links(host.namespace.netns) as links:
            links.add_bridge(router_ifname(name))
            with pytest.raises(HostError, match="exists"):
                keeper.turn()
            links.delete_link(router_ifname(name))
        ((guest,), _) = keeper.turn()
        assert (guest.eni_id, keeper.turn()) == (name, ([], []))
        wait_until(lambda: host.outcomes() == {name: "in force"})


def test_each_relay_may_write_its_own_summary_and_no_other_ones() -> None:
    """As docs/etcd.md says it."""
    with hosts_lab(0, apis=0) as lab:
        own, other = (f"{SUMMARY}{relay.name}" for relay in lab.relays)
        listing = ("get", SUMMARY, "--prefix", "--keys-only")
        wait_until(lambda: lab.run_etcdctl(*listing).split() == [own, other])
        user = lab.relays[0].name
        lab.relays[0].kill()
        assert lab.run_etcdctl("put", own, "ours", user=user).strip() == "OK"
        refused = ("put", other, "theirs"), ("get", other), ("del", SUMMARY, "--prefix"), ("put", "sgdp/head", "7")
        for words in refused:
            with pytest.raises(HostError, match="permission denied"):
                lab.run_etcdctl(*words, user=user)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--listen", "127.0.0.1:0"), "--listen needs --api"),
        ((), "the following arguments are required: STATE"),
        (("--api", "--time-scale", "2", "--on-change", "keep"), "--on-change, --time-scale can't be given"),
        (("--api", "--listen", "192.0.2.1:80"), "plain HTTP is served on loopback only"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(words: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", "sgdataplane", "lab", "up", *words]
    environment = {name: value for name, value in os.environ.items() if name != "SGDP_STATE"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert said in done.stderr
