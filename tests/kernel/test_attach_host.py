"""`sgdp apply --placement host`: the host ends of workloads' links move to a router of ours, and obey there.

The host ends are at first in a namespace that stands for the machine's own, where nothing forwards.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest

from sgdataplane.attach import router
from sgdataplane.attach.reconcile import reconcile
from sgdataplane.attach.report import Manner
from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import InterfaceAddress, Links, Route
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address, Prefix
from tests.support.inputs.builders import as_member, make_group, make_rule
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.probes.links import add_fallback, veths_in
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.attachhost import ENIS, HOST, ROUTER, state_of, with_second_vpc
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import HERE, Session, know, mac_at

pytestmark = pytest.mark.kernel
OUTSIDE = "192.0.2.9"


@pytest.fixture
def bench(host_bench: Bench) -> Bench:
    return host_bench


def test_a_workload_s_own_bridge_is_no_fault(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The router judges what passes it (tests/features/test_bridge.py)."""
    for command in ("link add br0 type bridge", "link set eth0 master br0"):
        run_in(bench.place, "ip", *command.split())
    assert bench.sgdp("apply", bench.write(state_of(WEB)), *HOST) == 0
    assert "br0" not in capsys.readouterr().err


def test_workloads_obey_out_of_their_reach(bench: Bench, home: str) -> None:
    assert bench.apply(state_of(WEB), *HOST) == {"eni-a": "in force", "eni-b": "in force", "exit": "0"}
    assert veths_in(home) == {}
    assert veths_in(ROUTER).keys() == {"eni-a", "eni-b"}
    with Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
        assert not dns.passes(beside=web)
        assert bench.apply(state_of(DNS), *HOST)["exit"] == "0"
        assert not web.passes(beside=dns)
        nft(bench.place, "flush ruleset")
        assert not web.passes(beside=dns)
        assert nft(bench.place, "list tables") == ""
        assert bench.apply(state_of(WEB, DNS), *HOST)["exit"] == "0"
        assert dns.passes(beside=web)


def test_ipv6_takes_the_same_way(bench: Bench) -> None:
    bench.apply(state_of(WEB), *HOST)
    with ExitStack() as stack:
        opened = {}
        for port in (WEB, DNS):
            with netns.inside(bench.place):
                opened[port] = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            opened[port].bind((HERE["instance"][1], port))
            opened[port].settimeout(DEADLINE)
        with netns.inside(bench.pair["peer"]):
            client = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        for port in (DNS, WEB):
            client.sendto(b"question", (HERE["instance"][1], port))
        assert opened[WEB].recv(64) == b"question"
        opened[DNS].setblocking(False)
        with pytest.raises(BlockingIOError):
            opened[DNS].recv(64)


def introduce(bench: Bench) -> None:
    """Each workload knows the router's end of its link. A packet that waits for an answer is dropped if none comes in
    three seconds, as when the question was asked while the link was down."""
    for role, other in (("peer", "instance"), ("instance", "peer")):
        know(bench.pair[role], "eth0", [HERE[other][0]], mac_at(ROUTER, ENIS[role]))


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(state_of(WEB, without="eni-b"), id="unknown"),
        pytest.param(as_member(state_of(WEB), "eni-b"), id="member-only"),
    ],
)
def test_an_eni_whose_policy_the_state_has_not_passes_nothing(bench: Bench, state: CloudState) -> None:
    assert bench.apply(state, *HOST) == {"eni-a": "in force", "eni-b": "closed", "exit": "1"}
    assert veths_in("sgdp-+none").keys() == {"eni-b"}  # a VPC's router has routes to its ENIs, and this isn't one of it
    assert bench.apply(state_of(WEB), *HOST)["exit"] == "0"
    assert not netns.exists("sgdp-+none")
    introduce(bench)
    with Session(bench.pair, WEB) as web:
        web.must_pass()
        assert bench.apply(state, *HOST)["eni-b"] == "closed"
        sent, answer = web.send(), web.answer()
        assert bench.apply(state_of(WEB), *HOST)["eni-b"] == "in force"
        web.wait_carried()
        assert sent not in web.must_pass()
        assert answer not in web.must_be_answered()


def test_from_instance_placement_and_back_home(bench: Bench, home: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.apply(state_of(WEB))["exit"] == "0"
    assert "sgdataplane" in nft(bench.place, "list tables")
    assert bench.apply(state_of(WEB), *HOST)["exit"] == "0"
    assert nft(bench.place, "list tables") == ""
    assert bench.sgdp("apply", bench.write(state_of(WEB))) == 5
    assert "InvalidPlacement.Differs" in capsys.readouterr().err
    assert bench.attach() == 0  # is bound already, and stays where it is
    assert bench.sgdp("detach", "--eni", "eni-b") == 0
    assert "its host end is v-peer again" in capsys.readouterr().out
    assert (set(veths_in(home)), set(veths_in(ROUTER))) == ({"v-peer"}, {"eni-a"})
    assert bench.sgdp("clear") == 0
    assert veths_in(home).keys() == {"v-peer", "v-instance"}
    assert not netns.exists(ROUTER)
    with Links(home) as links:
        assert not any(link.is_up for link in links.links())


def test_outside_is_reached_by_uplinks_and_by_nothing_else(
    bench: Bench, make_lab_name: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    bench.apply(state_of(WEB), *HOST)
    outside = make_lab_name()
    netns.create(outside)
    try:
        with Links(outside) as links:
            links.add_veth("eth0", ROUTER, "up0", "")
        with Links(ROUTER) as links:
            links.set_up("up0")
            links.add_address(InterfaceAddress("up0", Address.parse("192.0.2.1"), 24))
        with Links(outside) as links:
            links.add_address(InterfaceAddress("eth0", Address.parse(OUTSIDE), 24))
            links.set_up("eth0")
            links.add_route(Route("eth0", Prefix.parse("10.0.0.0/24"), Address.parse("192.0.2.1")))
        with Session({**bench.pair, "peer": outside}, WEB, client=OUTSIDE) as web:
            assert bench.sgdp("apply", bench.write(state_of(WEB)), *HOST) == 0
            assert f"{ROUTER}: somebody put up0 (veth) there; set down" in capsys.readouterr().err
            with Links(ROUTER) as links:
                assert not next(link for link in links.links() if link.ifname == "up0").is_up
            assert bench.sgdp("apply", bench.write(state_of(WEB)), *HOST, "--uplink", "up0") == 0
            with Links(ROUTER) as links:
                links.set_up("up0")
            web.wait_carried()
            web.must_pass()
        assert bench.sgdp("clear") == 0
        assert f"namespace {ROUTER} stays, since it has these interfaces: up0" in capsys.readouterr().err
        assert nft(ROUTER, "list tables") == ""
    finally:
        netns.remove(ROUTER)
        netns.remove(outside)


def test_interfaces_that_a_router_has_by_itself_are_named_once_they_are_up(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    state = bench.write(state_of(WEB))
    assert bench.sgdp("apply", state, *HOST) == 0
    with netns.inside(ROUTER):
        add_fallback()
    assert bench.sgdp("apply", state, *HOST) == 0
    assert "somebody put" not in capsys.readouterr().err
    with Links(ROUTER) as links:
        links.set_up("sit0")
    assert bench.sgdp("apply", state, *HOST) == 0
    complaints = [line for line in capsys.readouterr().err.splitlines() if "somebody put" in line]
    assert [f"{ROUTER}: somebody put sit0" in line for line in complaints] == [True]
    with Links(ROUTER) as links:
        sit0 = links.link("sit0")
    assert sit0 is not None
    assert not sit0.is_up
    assert bench.sgdp("clear") == 0
    assert not netns.exists(ROUTER)  # they keep no router


def test_workloads_that_end_take_their_router_with_them(bench: Bench) -> None:
    bench.apply(state_of(WEB), *HOST)
    for place in bench.pair.values():
        os.kill(int(place.split("/")[2]), signal.SIGKILL)
    wait_until(lambda: veths_in(ROUTER) == {})
    assert bench.apply(state_of(WEB), *HOST) == {"eni-a": "gone", "eni-b": "gone", "exit": "1"}
    assert not netns.exists(ROUTER)
    assert [binding.host_end for binding in bench.registry.load()] == [None, None]


def test_who_is_attached_anew_leaves_no_empty_router(bench: Bench) -> None:
    assert bench.sgdp("detach", "--eni", "eni-b") == 0
    bench.apply(state_of(WEB), *HOST)
    os.kill(bench.pid, signal.SIGKILL)
    wait_until(lambda: veths_in(ROUTER) == {})
    assert bench.attach("--netns", bench.pair["peer"]) == 0
    assert not netns.exists(ROUTER)


def test_what_has_no_host_end_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    with Links(bench.place) as links:
        links.add_veth("eth1", bench.place, "eth2", "")
    bench.sgdp("detach", "--eni", "eni-a")
    assert bench.attach(ifname="eth1") == 0
    assert bench.sgdp("apply", bench.write(state_of(WEB)), *HOST) == 3
    assert "host placement needs a veth link" in capsys.readouterr().err


def test_a_namespace_of_that_name_that_is_not_ours_is_left_alone(
    bench: Bench, home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    netns.create(ROUTER)
    try:
        assert bench.sgdp("apply", bench.write(state_of(WEB)), *HOST) == 3
        assert "sgdp did not make it" in capsys.readouterr().err
        assert veths_in(home).keys() == {"v-peer", "v-instance"}
        assert bench.sgdp("clear") == 0
        assert netns.exists(ROUTER)
    finally:
        netns.remove(ROUTER)


def test_an_end_whose_home_is_gone_stays_down_in_the_router(
    bench: Bench, home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.apply(state_of(WEB), *HOST)
    netns.remove(home)
    assert bench.sgdp("clear") == 0
    assert f"namespace {ROUTER} stays" in capsys.readouterr().err
    assert veths_in(ROUTER) == {"eni-a": False, "eni-b": False}
    netns.remove(ROUTER)


def test_an_eni_that_changes_its_vpc_changes_its_router(bench: Bench, home: str) -> None:
    bench.apply(state_of(WEB), *HOST)
    assert bench.apply(with_second_vpc(state_of(WEB), "eni-a", "eni-b"), *HOST)["exit"] == "0"
    assert not netns.exists(ROUTER)
    with Session(bench.pair, WEB) as web:
        web.must_pass()
    assert bench.sgdp("clear") == 0
    assert veths_in(home).keys() == {"v-peer", "v-instance"}


def test_what_was_interrupted_is_gone_on_with(bench: Bench, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step that changes the kernel is the last one once: the next apply ends well, and the ends find home."""
    state = state_of(WEB)
    for step in ("make", "move_in", "enforce", "configure_ends", "remove"):
        with monkeypatch.context() as patched:
            where = "sgdataplane.attach.router" if step in ("make", "configure_ends") else "sgdataplane.attach.hosted"
            patched.setattr(f"{where}.{step}", interrupted)
            with pytest.raises(Died):
                reconcile(bench.registry, state, Manner(placement=Placement.HOST))
        with Session(bench.pair, DNS, waits=False) as dns:  # some steps leave a link down
            sent = dns.send()
            assert bench.apply(state, *HOST)["exit"] == "0"
            introduce(bench)
            with Session(bench.pair, WEB) as web:
                assert not dns.passes(beside=web)
            assert sent not in dns.read()
        assert bench.sgdp("clear") == 0
        assert veths_in(home).keys() == {"v-peer", "v-instance"}
        bench.attach()
        bench.attach("--netns", bench.pair["peer"], eni="eni-b")


class Died(BaseException):
    """Nothing is done after it, as nothing is after the end of a process."""


def interrupted(*_: object, **__: object) -> None:
    raise Died


def test_a_connection_that_runs_goes_on_when_its_link_moves(bench: Bench, home: str) -> None:
    state = state_of(WEB)
    rules = [make_rule("ingress tcp 80/80 from 0.0.0.0/0", "sgr-web")]
    state = replace(state, security_groups=(make_group("sg-a", rules), make_group("sg-b")))
    with netns.inside(home):
        for role in ENIS:
            sysctl.write(f"ipv4/conf/v-{role}/proxy_arp", "1")
    router.configure_ends(home, {f"v-{role}": state.eni[eni] for role, eni in ENIS.items()})  # as a machine that routes
    with ExitStack() as stack:
        with netns.inside(bench.place):
            listener = stack.enter_context(socket.create_server(("0.0.0.0", 80)))
        with netns.inside(bench.pair["peer"]):
            client = stack.enter_context(socket.create_connection((HERE["instance"][0], 80), timeout=DEADLINE))
        server, _ = listener.accept()
        stack.enter_context(server)
        assert bench.apply(state, *HOST)["exit"] == "0"
        for sender, receiver in ((client, server), (server, client)):
            receiver.settimeout(DEADLINE)
            sender.send(b"still there")
            assert receiver.recv(64) == b"still there"
        denied = replace(state, security_groups=(make_group("sg-a"), make_group("sg-b")))
        assert bench.apply(denied, *HOST)["exit"] == "0"
        client.send(b"revoked")
        with Session(bench.pair, DNS) as dns:
            dns.send()
            assert bench.apply(state_of(DNS), *HOST)["exit"] == "0"
            dns.wait_carried()
            dns.must_pass()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(64)


def test_sessions_of_what_is_attached_have_the_rule_that_lets_them_in(bench: Bench) -> None:
    """At the ends of both ENIs, which one router enforces."""
    assert bench.apply(state_of(WEB), *HOST)["exit"] == "0"
    with Session(bench.pair, WEB) as web:
        web.must_pass()
        found = without_time(bench.sessions("host"))
        keys = ("eni", "node", "direction", "local_port", "judged", "reason", "security_group_rule_id")
        assert {tuple(entry[key] for key in keys) for entry in found} == {
            ("eni-a", "i-a", "ingress", WEB, True, "rule", f"sgr-{WEB}-9"),
            ("eni-b", "i-b", "egress", found[-1]["local_port"], True, "default", None),
        }
        assert without_time(bench.sessions("host", "--node", "i-a")) == [found[0]]
        assert without_time(bench.sessions("host", "--eni", "eni-b")) == [found[1]]


def without_time(found: list[dict[str, object]]) -> list[dict[str, object]]:
    """What is the same in two answers, one after the other."""
    return [{key: value for key, value in entry.items() if key != "seconds_left"} for entry in found]
