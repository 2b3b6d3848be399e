"""Everything together: a real API, relay, syncs and agents, and packets. Who enforces what, and who says so when."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.control.actions.importing import import_state
from sgdataplane.handover.publishing import Publisher
from sgdataplane.host import netns
from sgdataplane.store.audit import local_call
from sgdataplane.store.documents import Documents
from sgdataplane.store.hosts import add_host, host_of
from sgdataplane.store.sqlite.store import SqliteStore
from tests.control.test_served import Service
from tests.support.inputs.builders import VPC_ID, mac_of
from tests.support.probes.flood import wait_until
from tests.support.run.warmprocess import command
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench, living_nowhere, state_of
from tests.support.scenes.pair import Session
from tests.support.scenes.workload import bench, dns, pair, process, web  # noqa: F401  # fixtures
from tests.support.servers.relaying import ROOT, Plant, Running, url_of

pytestmark = pytest.mark.daemon

RULE = {"Permissions.1.IpProtocol": "UDP", "Permissions.1.SourceCidrIp": "0.0.0.0/0"}


@dataclass
class Machine:
    """One host: its agent, with bindings of its own, and its sync."""

    name: str
    agent: AgentBench
    sync: Running

    def attach(self, eni: str, pid: int) -> None:
        self._sgdp("attach", "--eni", eni, "--pid", str(pid), "--ifname", "eth0")

    def detach(self, eni: str) -> None:
        self._sgdp("detach", "--eni", eni)

    def _sgdp(self, *words: str) -> None:
        called = command(*words, "--bindings", str(self.agent.folder / "attached"))
        subprocess.run(called, check=True, capture_output=True, cwd=ROOT)


class Site:
    """A store with ENI eni-a, whose group lets the port WEB in, and with the hosts host-1 and host-2."""

    def __init__(self, folder: Path, plant: Plant) -> None:
        self.file, self.folder, self.plant = folder / "store", folder, plant
        self.store = SqliteStore(self.file)
        for name in ("host-1", "host-2"):
            add_host(self.store, local_call("AddHost"), name)
        import_state(self.store, state_of(WEB), "seed", local_call("ImportState"))
        self.url = url_of(plant.relay(self.file))
        self.api = Service(self.file, keys=("full",))

    @contextmanager
    def machine(self, name: str) -> Iterator[Machine]:
        folder = self.folder / name
        folder.mkdir()
        with agent_in(folder) as agent:
            agent.state = Publisher(self.plant.folder_of(name)).current
            agent.configure()
            machine = Machine(name, agent, self.plant.sync(name, self.url, socket=agent.socket))
            wait_until(agent.state.exists)
            agent.start()
            yield machine

    def ask(self, action: str, **parameters: str) -> Mapping[str, Any]:
        reply = self.api.ask(action, **parameters)
        assert reply.status == 200, reply
        return reply.body

    def change(self, action: str, port: int) -> int:
        """The revision."""
        reply = self.api.ask(action, SecurityGroupId="sg-a", **RULE, **{"Permissions.1.PortRange": f"{port}/{port}"})
        assert reply.status == 200, reply
        return int(reply.headers["x-sgdp-revision"])

    def wait(self, timeout: int, **asked: str) -> dict[str, list[str]]:
        """What SgdpWait answers, without what is empty."""
        answer = self.ask("SgdpWait", Timeout=str(timeout), **asked)
        failed = [one["Host"] for one in answer["Failed"]]
        return {
            name: found
            for name in ("Enforced", "Lagging", "Failed", "Unknown")
            if (found := failed if name == "Failed" else answer[name])
        }

    def said(self, verb: str, code: int = 0) -> str:
        """What `sgdp VERB --store FILE` prints."""
        called = command(verb, "--store", str(self.file))
        done = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done
        return done.stdout

    def move(self, host: str) -> None:
        self.ask("ModifyNetworkInterfaceAttribute", NetworkInterfaceId="eni-a", SgdpHost=host)

    def bound(self) -> str | None:
        documents = Documents.of(self.store.snapshot())
        body = documents.get("network_interface/eni-a")
        assert body is not None
        return host_of(documents, body)

    def close(self) -> None:
        self.api.stop(kill=True)
        self.store.close()


@pytest.fixture
def site(tmp_path: Path, plant: Plant) -> Iterator[Site]:
    made = Site(tmp_path, plant)
    yield made
    made.close()


@pytest.fixture
def first(site: Site) -> Iterator[Machine]:
    with site.machine("host-1") as machine:
        yield machine


@pytest.fixture
def second(site: Site) -> Iterator[Machine]:
    with site.machine("host-2") as machine:
        yield machine


EVERYWHERE, AT_HOST_1 = {"Enforced": ["host-1", "host-2"]}, {"Enforced": ["host-1"]}


@pytest.mark.usefixtures("second")
def test_a_revision_is_enforced_only_once_packets_obey_it(
    site: Site,
    first: Machine,
    bench: Bench,  # noqa: F811
    web: Session,  # noqa: F811
    dns: Session,  # noqa: F811
) -> None:
    first.attach("eni-a", bench.pid)
    wait_until(lambda: site.bound() == "host-1")
    assert site.wait(60) == EVERYWHERE
    assert first.agent.outcomes() == {"eni-a": "in force"}
    assert not dns.passes(beside=web)
    for _ in range(3):
        opened = site.change("AuthorizeSecurityGroup", DNS)
        assert site.wait(60, Revision=str(opened)) == EVERYWHERE
        assert dns.passes(beside=web)
        closed = site.change("RevokeSecurityGroup", DNS)
        assert site.wait(60, Revision=str(closed)) == EVERYWHERE
        assert not dns.passes(beside=web)
    actions = [record.record["action"] for record in site.store.events()]
    assert actions.count("Claim") == 1


def test_an_agent_that_stands_still_is_not_called_done(
    site: Site,
    first: Machine,
    bench: Bench,  # noqa: F811
    web: Session,  # noqa: F811
    dns: Session,  # noqa: F811
) -> None:
    first.attach("eni-a", bench.pid)
    wait_until(lambda: site.bound() == "host-1")
    assert site.wait(60, VpcId=VPC_ID) == AT_HOST_1
    process = first.agent.process  # noqa: F811
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        opened = site.change("AuthorizeSecurityGroup", DNS)
        assert "Enforced" not in site.wait(3, Revision=str(opened), VpcId=VPC_ID)
        assert not dns.passes(beside=web)
    finally:
        process.send_signal(signal.SIGCONT)
    assert site.wait(60, Revision=str(opened), VpcId=VPC_ID) == AT_HOST_1
    assert dns.passes(beside=web)


@pytest.mark.usefixtures("second")
def test_a_host_without_its_sync_is_unknown_and_enforces_what_it_had(
    site: Site,
    first: Machine,
    bench: Bench,  # noqa: F811
    web: Session,  # noqa: F811
    dns: Session,  # noqa: F811
) -> None:
    first.attach("eni-a", bench.pid)
    wait_until(lambda: site.bound() == "host-1")
    assert site.wait(60) == EVERYWHERE
    first.sync.end(signal.SIGKILL)
    opened = site.change("AuthorizeSecurityGroup", DNS)
    wait_until(lambda: site.wait(0, Revision=str(opened)) == {"Enforced": ["host-2"], "Lagging": ["host-1"]})
    began = time.monotonic()
    assert site.wait(60, Revision=str(opened)) == {"Enforced": ["host-2"], "Unknown": ["host-1"]}
    assert time.monotonic() - began < 60, "it ends before its deadline"
    assert "unknown at host-1: no report for 15 s" in site.said("wait", code=1)
    assert re.search(r"^host-1 +unknown .*\nhost-2 +enforced ", site.said("hosts"), re.MULTILINE)
    assert not dns.passes(beside=web)
    site.plant.sync("host-1", site.url, socket=first.agent.socket)
    wait_until(lambda: site.wait(10, Revision=str(opened)) == EVERYWHERE)
    assert site.said("wait") == f"revision {opened} is in force at 2 hosts\n"
    assert dns.passes(beside=web)


def test_of_two_hosts_that_claim_an_eni_the_later_one_is_told_and_gets_nothing(
    site: Site,
    first: Machine,
    second: Machine,
    bench: Bench,  # noqa: F811
    web: Session,  # noqa: F811
) -> None:
    """Until the ENI is moved to it: then the first one is told."""
    first.attach("eni-a", bench.pid)
    wait_until(lambda: first.agent.outcomes() == {"eni-a": "in force"})
    assert site.bound() == "host-1"
    with living_nowhere() as other:
        with netns.inside(f"/proc/{other.pid}/ns/net"):
            link = ("ip", "link", "add", "eth0", "address", mac_of("eni-a"), "type", "veth", "peer", "name", "eth1")
            subprocess.run(link, check=True)
        second.attach("eni-a", other.pid)
        second.sync.wait_for("eni-a.*another host has this ENI")
        assert second.agent.outcomes() == {"eni-a": "closed"}
        assert (site.bound(), first.agent.outcomes()) == ("host-1", {"eni-a": "in force"})
        web.must_pass()
        site.move("host-2")
        wait_until(lambda: second.agent.outcomes() == {"eni-a": "in force"})
        wait_until(lambda: first.agent.outcomes() == {"eni-a": "closed"})
        first.sync.wait_for("eni-a.*another host has this ENI")
        assert site.bound() == "host-2"
    claims = [record.record for record in site.store.events() if record.record["action"] == "Claim"]
    assert [(claim["key"], claim["changed"]) for claim in claims] == [("host/host-1", ["network_interface/eni-a"])]


def test_sessions_of_an_eni_that_moves_away_stop_at_the_old_host(
    site: Site,
    first: Machine,
    bench: Bench,  # noqa: F811
    web: Session,  # noqa: F811
) -> None:
    """They go on if it comes back, as rules accept them."""
    first.attach("eni-a", bench.pid)
    wait_until(lambda: first.agent.outcomes() == {"eni-a": "in force"})
    web.must_pass()
    site.move("host-2")
    wait_until(lambda: first.agent.outcomes() == {"eni-a": "closed"})
    lost = web.send()
    site.move("host-1")
    wait_until(lambda: first.agent.outcomes() == {"eni-a": "in force"})
    last, received = web.send(), list[bytes]()

    def has_come() -> bool:
        received.extend(web.read())
        return last in received

    wait_until(has_come)
    assert lost not in received


def test_a_host_that_comes_back_empty_gets_what_it_had(
    site: Site,
    first: Machine,
    bench: Bench,  # noqa: F811
    web: Session,  # noqa: F811
    dns: Session,  # noqa: F811
) -> None:
    """What is bound to it is in the store, whatever it has lost."""
    first.attach("eni-a", bench.pid)
    wait_until(lambda: first.agent.outcomes() == {"eni-a": "in force"})
    first.sync.end(signal.SIGKILL)
    first.agent.end(signal.SIGKILL)
    shutil.rmtree(site.plant.folder_of("host-1"))
    shutil.rmtree(first.agent.folder / "attached")
    shutil.rmtree(first.agent.var)
    opened = site.change("AuthorizeSecurityGroup", DNS)
    site.plant.sync("host-1", site.url, socket=first.agent.socket)
    wait_until(first.agent.state.exists)
    first.agent.start()
    assert site.bound() == "host-1"
    first.attach("eni-a", bench.pid)
    wait_until(lambda: first.agent.outcomes() == {"eni-a": "in force"})
    assert site.wait(60, Revision=str(opened), VpcId=VPC_ID) == AT_HOST_1
    assert dns.passes(beside=web)
