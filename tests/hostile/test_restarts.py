"""A workload that is started anew is never open while `sgdp status` says healthy: it is listed as gone until it is
bound again, by itself where its name leads to one place, or until it is detached."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sgdataplane.host import netns
from sgdataplane.host.links import InterfaceAddress, Links, Route
from sgdataplane.host.neighbours import Neighbour, introduce
from sgdataplane.net.values import Address, Prefix
from tests.support.events.restarts import Arrivals, end, open_for, staying_in, streaming, wait_for
from tests.support.inputs.builders import mac_of
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.probes.links import veths_in
from tests.support.scenes import attachhost
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench, living_nowhere, state_of
from tests.support.scenes.attachhost import ENIS
from tests.support.scenes.pair import HERE, Pair, Session, join, made_pair, plug, switch_on
from tests.support.servers.engine import Engine, engine_at, line_of, only

pytestmark = [pytest.mark.daemon, pytest.mark.optional]
IN_FORCE, GONE = {"eni-a": "in force"}, {"eni-a": "gone"}
EVERYTHING = dict.fromkeys(ENIS.values(), "in force")
CONTAINER = "web"


@pytest.fixture
def pair(make_lab_name: Callable[[], str]) -> Iterator[Pair]:
    with made_pair(make_lab_name) as names:
        yield names


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentBench]:
    with agent_in(tmp_path) as agent:
        agent.write(state_of(WEB))
        yield agent


@pytest.fixture
def bench(pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(pair, 0, tmp_path, lambda: capsys.readouterr().out)


def health(agent: AgentBench) -> tuple[bool, dict[str, str]]:
    return agent.status()["healthy"], agent.outcomes()


def test_a_name_that_is_made_anew_is_bound_again_and_unhealthy_until_then(
    pair: Pair, bench: Bench, agent: AgentBench
) -> None:
    assert bench.attach("--netns", pair["instance"]) == 0
    agent.start()
    assert health(agent) == (True, IN_FORCE)
    with streaming(pair["peer"]) as stream:
        end(pair)
        wait_until(lambda: health(agent) == (False, GONE))
        netns.create(pair["instance"])
        with Arrivals(pair["instance"]) as arrivals:  # its link comes at once: open until the agent is there
            join(pair)
            wait_until(lambda: health(agent) == (True, IN_FORCE))
            opened = open_for(stream, arrivals)
            wait_for(len(arrivals.got[WEB]) + 100, arrivals, WEB)
            assert len(arrivals.got[DNS]) == opened, "closed for good"
        print(f"a link that comes with its namespace: {opened} packets, one a ms, until in force")
        end(pair)
        wait_until(lambda: health(agent) == (False, GONE))
        netns.create(pair["instance"])
        wait_until(lambda: agent.outcomes() == {"eni-a": "absent"})
        with Arrivals(pair["instance"]) as arrivals:  # its link comes later: closed from its first packet
            join(pair)
            wait_for(100, arrivals, WEB)
            assert arrivals.got[DNS] == []
        wait_until(lambda: health(agent) == (True, IN_FORCE))


def test_what_is_not_clear_is_not_bound_again(
    pair: Pair, bench: Bench, agent: AgentBench, make_lab_name: Callable[[], str]
) -> None:
    """A process' number, and a link to one, lead to whoever has it next; another's interface stays the other's."""
    link = netns.path_of(make_lab_name())
    with living_nowhere() as first, living_nowhere() as second, ExitStack() as stack:
        for process in (first, second):
            place = f"/proc/{process.pid}/ns/net"
            with Links(pair["peer"]) as links:
                links.add_veth(f"p{process.pid}", place, "eth0", "")
        link.symlink_to(f"/proc/{second.pid}/ns/net")
        stack.callback(link.unlink)
        assert bench.attach("--pid", first.pid, eni="eni-b") == 0
        assert bench.attach("--netns", link, eni="eni-c") == 0
        assert bench.attach("--netns", pair["instance"]) == 0
        agent.start()
        assert health(agent) == (False, {**IN_FORCE, "eni-b": "closed", "eni-c": "closed"})
        for process in (first, second):
            process.kill()
            process.wait()
        wait_until(lambda: agent.outcomes() == {**IN_FORCE, "eni-b": "gone", "eni-c": "gone"})
        link.unlink()
        link.symlink_to(netns.path_of(pair["instance"]))
        agent.end()
        agent.start()  # anew, it knows as much
        assert health(agent) == (False, {**IN_FORCE, "eni-b": "gone", "eni-c": "gone"})
        for eni in ("eni-b", "eni-c"):
            assert bench.sgdp("detach", "--eni", eni) == 0
        wait_until(lambda: health(agent) == (True, IN_FORCE))


@pytest.mark.parametrize("is_set", [True, False])
def test_the_mac_is_given_again_if_it_was_given(pair: Pair, bench: Bench, agent: AgentBench, is_set: bool) -> None:
    state = bench.write(state_of(WEB))
    assert bench.attach("--netns", pair["instance"], "--state", state, *(["--set-mac"] if is_set else [])) == 0
    agent.start()
    end(pair)
    netns.create(pair["instance"])
    plug(pair)
    with Links(pair["instance"]) as links:
        links.set_mac("eth0", mac_of("eni-other"))
    switch_on(pair)
    wait_until(lambda: agent.outcomes() == IN_FORCE)
    wait_until(lambda: is_set is not any("MAC" in line for line in agent.status()["enis"][0]["warnings"]))
    with Links(pair["instance"]) as links:
        (mac,) = [link.mac for link in links.links() if link.ifname == "eth0"]
    assert mac == mac_of("eni-a" if is_set else "eni-other")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    path = tmp_path / "podman.sock"
    only(monkeypatch, tmp_path, podman=path)
    with engine_at(path) as engine:
        yield engine


def test_a_container_of_the_same_name_is_bound_again_whatever_its_engine_says(
    make_lab_name: Callable[[], str], engine: Engine, agent: AgentBench, tmp_path: Path
) -> None:
    peer = make_lab_name()
    netns.create(peer)
    try:
        with living_nowhere() as first:
            pair = {"peer": peer, "instance": f"/proc/{first.pid}/ns/net"}
            join(pair)
            engine.answer(first.pid)
            assert Bench(pair, 0, tmp_path, str).attach("--container", CONTAINER) == 0
            agent.start()
            assert health(agent) == (True, IN_FORCE)
            wait_until(lambda: engine.follows > 0)
            engine.answer(0)
        wait_until(lambda: health(agent) == (False, GONE) and not veths_in(peer))
        followed = engine.follows
        engine.drop()  # it dies, and is followed again
        wait_until(lambda: engine.follows > followed)
        engine.tell(b"\n", b"web\n", line_of("../web"), b"[" * 5000 + b"\n", b"\xff" * 5000 + b"\n", line_of("other"))
        with living_nowhere() as second:
            pair["instance"] = f"/proc/{second.pid}/ns/net"
            join(pair)
            with Session(pair, WEB) as web, Session(pair, DNS) as dns:
                assert dns.passes(beside=web), "open until it is told"
                assert health(agent) == (False, GONE)
                engine.answer(second.pid)
                engine.tell(line_of(CONTAINER))
                wait_until(lambda: health(agent) == (True, IN_FORCE))
                assert not dns.passes(beside=web)
            assert agent.end() == 0
    finally:
        netns.remove(peer)


def test_a_name_that_leads_elsewhere_is_followed_though_the_namespace_before_lives_on(
    pair: Pair, bench: Bench, agent: AgentBench, make_lab_name: Callable[[], str]
) -> None:
    """Both are enforced then, by every policy, until the one before ends or the ENI is detached."""
    with remade(pair, bench, agent, make_lab_name()) as (before, after):
        wait_until(lambda: "inet sgdataplane" in nft(after["instance"], "list tables"))
        with ExitStack() as stack:
            sessions = [[stack.enter_context(Session(each, port)) for port in (WEB, DNS)] for each in (before, after)]
            wait_until(lambda: (health(agent), "lives on" in told(agent)) == ((True, IN_FORCE), True))
            assert "lives on" in agent.events("binding-superseded")[-1]
            assert agent.events("flowtable-bypasses-policy") == []
            for web, dns in sessions:
                assert not dns.passes(beside=web)
            agent.write(state_of(WEB, DNS))
            agent.reload()
            for web, dns in sessions:
                assert dns.passes(beside=web)
    wait_until(lambda: "lives on" not in told(agent))
    wait_until(lambda: health(agent) == (False, {"eni-a": "absent"}))  # its link went with the peer
    assert len(bench.registry.load()) == 1


def test_what_lives_on_is_detached_with_its_eni(
    pair: Pair, bench: Bench, agent: AgentBench, make_lab_name: Callable[[], str]
) -> None:
    with remade(pair, bench, agent, make_lab_name()) as (before, after):
        wait_until(lambda: len(bench.registry.load()) == 2)
        agent.end()
        agent.start()  # anew, it knows as much
        assert (health(agent), "lives on" in told(agent)) == ((True, IN_FORCE), True)
        assert "inet sgdataplane" in nft(before["instance"], "list tables")
        assert bench.sgdp("detach", "--eni", "eni-a") == 0
        for each in (before, after):
            assert nft(each["instance"], "list tables") == ""
        assert bench.registry.load() == ()


@contextmanager
def remade(pair: Pair, bench: Bench, agent: AgentBench, peer: str) -> Iterator[tuple[Pair, Pair]]:
    """The name of the workload's namespace leads to another one, with a link to `peer`, while a process is in the one
    before: both."""
    assert bench.attach("--netns", pair["instance"]) == 0
    agent.start()
    assert health(agent) == (True, IN_FORCE)
    after = {"peer": peer, "instance": pair["instance"]}
    with staying_in(pair["instance"]) as before, ExitStack() as stack:
        netns.create(peer)
        stack.callback(netns.remove, peer)
        netns.remove(pair["instance"])
        netns.create(pair["instance"])
        join(after)
        yield {**pair, "instance": before}, after


def told(agent: AgentBench) -> str:
    return " ".join(agent.status()["warnings"])


def test_a_container_that_leads_to_what_cannot_be_bound_is_told_until_it_leads_elsewhere(
    pair: Pair, engine: Engine, agent: AgentBench, tmp_path: Path
) -> None:
    """The one before lives on, so that all seems well."""
    with living_nowhere() as first, living_nowhere() as second:
        for process in (first, second):
            with Links(pair["peer"]) as links:
                links.add_veth(f"p{process.pid}", f"/proc/{process.pid}/ns/net", "eth0", "")
        engine.answer(first.pid)
        assert Bench(pair, 0, tmp_path, str).attach("--container", CONTAINER) == 0
        agent.start()
        assert health(agent) == (True, IN_FORCE)
        wait_until(lambda: engine.follows > 0)
        engine.answer(os.getpid())  # as with the network of the host
        engine.tell(line_of(CONTAINER))
        wait_until(lambda: health(agent) == (False, IN_FORCE))
        (refused,) = agent.status()["bind"]["refused"]
        assert (refused["eni"], "own namespace" in refused["reason"]) == ("eni-a", True)
        agent.write(state_of(DNS))
        wait_until(lambda: f"sgr-{DNS}" in nft(f"/proc/{first.pid}/ns/net", "list table inet sgdataplane"))
        assert health(agent) == (False, IN_FORCE)
        engine.answer(0)
        agent.reload()
        wait_until(lambda: health(agent) == (True, IN_FORCE))
        engine.answer(second.pid)
        engine.tell(line_of(CONTAINER))
        wait_until(lambda: "inet sgdataplane" in nft(f"/proc/{second.pid}/ns/net", "list tables"))
        assert health(agent) == (True, IN_FORCE)


@pytest.fixture
def hosted(make_lab_name: Callable[[], str], agent: AgentBench, tmp_path: Path) -> Iterator[tuple[str, Pair]]:
    """Where host ends come first, and two workloads whose ends are in their router."""
    home, *names = [make_lab_name() for _ in range(3)]
    pair = dict(zip(ENIS, names, strict=True))
    bench = Bench(pair, 0, tmp_path, str)
    agent.configure(placement="host")
    agent.write(attachhost.state_of(WEB))
    with ExitStack() as stack:
        for name in (home, *names):
            netns.create(name)
            stack.callback(netns.remove, name)
        stack.callback(bench.sgdp, "clear")
        stack.callback(agent.end)
        for role, eni in ENIS.items():
            connect(home, f"v-{role}", pair, role)
            assert bench.attach("--netns", pair[role], eni=eni) == 0
        agent.start()
        assert health(agent) == (True, EVERYTHING)
        yield home, pair


def test_in_host_placement_a_name_that_is_made_anew_goes_to_its_router_again(
    hosted: tuple[str, Pair], agent: AgentBench
) -> None:
    home, pair = hosted
    netns.remove(pair["instance"])
    wait_until(lambda: health(agent) == (False, {**EVERYTHING, "eni-a": "gone"}))
    wait_until(lambda: "eni-a" not in veths_in(attachhost.ROUTER))
    netns.create(pair["instance"])
    with streaming(home) as stream, Arrivals(pair["instance"]) as arrivals:
        connect_in_the_open(home, pair["instance"])
        wait_until(lambda: health(agent) == (True, EVERYTHING))
        opened, last = len(arrivals.read()[DNS]), stream.last
        assert last >= 0
        wait_until(lambda: stream.tried > last + 100)
        assert (len(arrivals.read()[DNS]), stream.last) == (opened, last), "there is no way any more"
    print(f"a host end that comes with its namespace: {opened} packets, one a ms, until it was in its router")
    with Session(pair, WEB) as web, Session(pair, DNS) as dns:
        assert not dns.passes(beside=web)


def test_in_host_placement_the_end_of_a_namespace_that_lives_on_goes_home(
    hosted: tuple[str, Pair], agent: AgentBench
) -> None:
    """Down, for the next one's, which has its name and routes in the router."""
    home, pair = hosted
    with staying_in(pair["instance"]) as before:
        netns.remove(pair["instance"])
        netns.create(pair["instance"])
        connect(home, "v-next", pair, "instance")
        wait_until(lambda: "lives on" in told(agent) and health(agent) == (True, EVERYTHING))
        with Links(home) as links:
            ends = {link.ifname: link.is_up for link in links.links() if link.kind == "veth"}
        assert ends == {"v-instance": False}
        assert "inet sgdataplane" in nft(before, "list tables")
        with Session(pair, WEB) as web, Session(pair, DNS) as dns:
            assert not dns.passes(beside=web)


def connect_in_the_open(home: str, place: str) -> None:
    """As `connect`; and there is a way from where the runtime puts the host end, before the link has come."""
    there = Address.parse(HERE["instance"][0])
    with Links(home) as links:
        links.add_veth("v-instance", home, "v-other", mac_of("eni-a"))
        links.add_address(InterfaceAddress("v-instance", Address.parse("10.0.0.254"), 32))
        for ifname in ("v-instance", "v-other"):  # the first has a carrier then
            links.set_up(ifname)
        links.add_route(Route("v-instance", Prefix.of(there)))
        introduce(home, [Neighbour("v-instance", there, mac_of("eni-a"))])
        links.move("v-other", place, "eth0")
    attachhost.set_up(place, HERE["instance"])


def connect(home: str, ifname: str, pair: Pair, role: str) -> None:
    """The host end of its link is in `home`."""
    with Links(home) as links:
        links.add_veth(ifname, pair[role], "eth0", mac_of(ENIS[role]))
    attachhost.set_up(pair[role], HERE[role])
