"""Host ends in routers where something goes wrong: routers that refuse, workloads that change their links, names that
are taken. None of it leaves an end up without its policy and its fence."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from sgdataplane.attach import router
from sgdataplane.attach.ends import Look, look_after
from sgdataplane.attach.reconcile import reconcile
from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import Manner
from sgdataplane.attach.router import move_home
from sgdataplane.contract.tables import TABLE
from sgdataplane.errors import HostError, UnsupportedError
from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import Links
from sgdataplane.host.routing import ROUTER as SETTINGS
from sgdataplane.model.options import Placement
from tests.support.inputs.builders import mac_of
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.probes.links import veths_in
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.attachhost import (
    HOST,
    ROUTER,
    ROUTER_TWO,
    VPC_TWO,
    state_of,
    with_second_vpc,
)
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import HERE, Session

pytestmark = pytest.mark.kernel
IN_FORCE = {"eni-a": "in force", "eni-b": "in force", "exit": "0"}
UP = {"eni-a": True, "eni-b": True}


@pytest.fixture
def bench(host_bench: Bench) -> Iterator[Bench]:
    """Enforced already; WEB is open."""
    assert host_bench.apply(state_of(WEB), *HOST) == IN_FORCE
    yield host_bench
    host_bench.sgdp("clear")
    netns.remove(ROUTER)


@pytest.fixture
def foreign() -> Iterator[str]:
    """A namespace of the name that the second VPC's router would have, which is not ours."""
    netns.create(ROUTER_TWO)
    yield ROUTER_TWO
    netns.remove(ROUTER_TWO)


def become(bench: Bench, *commands: str) -> None:
    """Run commands as root of the peer."""
    for command in commands:
        subprocess.run(["nsenter", f"--net={bench.pair['peer']}", *command.split()], check=True)


def ends_in_registry(bench: Bench) -> dict[str, str]:
    return {binding.eni_id: binding.host_end.router for binding in bench.registry.load() if binding.host_end}


# an ENI changes its VPC


@pytest.mark.usefixtures("foreign")
def test_where_the_new_router_refuses_the_old_one_keeps_its_policy(bench: Bench) -> None:
    moved = with_second_vpc(state_of(WEB, DNS), "eni-a", "eni-b")
    assert bench.apply(moved, *HOST) == {"eni-a": "refused", "eni-b": "refused", "exit": "3"}
    assert (veths_in(ROUTER), ends_in_registry(bench)) == (UP, {"eni-a": ROUTER, "eni-b": ROUTER})
    with Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
        assert not dns.passes(beside=web)
        netns.remove(ROUTER_TWO)
        assert bench.apply(moved, *HOST) == IN_FORCE
        assert dns.passes(beside=web)
    assert not netns.exists(ROUTER)
    assert ends_in_registry(bench) == {"eni-a": ROUTER_TWO, "eni-b": ROUTER_TWO}


@pytest.mark.usefixtures("foreign")
def test_an_end_that_waits_in_the_old_router_is_down_where_that_goes_on(bench: Bench) -> None:
    moved = with_second_vpc(state_of(WEB), "eni-b")
    assert bench.apply(moved, *HOST) == {"eni-a": "in force", "eni-b": "refused", "exit": "3"}
    assert veths_in(ROUTER) == {"eni-a": True, "eni-b": False}
    netns.remove(ROUTER_TWO)
    assert bench.apply(moved, *HOST) == IN_FORCE
    assert (veths_in(ROUTER), veths_in(ROUTER_TWO)) == ({"eni-a": True}, {"eni-b": True})
    assert bench.apply(state_of(WEB), *HOST) == IN_FORCE
    assert not netns.exists(ROUTER_TWO)


def test_who_dies_between_move_and_memory_is_gone_on_with(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = with_second_vpc(state_of(WEB), "eni-a", "eni-b")
    with monkeypatch.context() as patched:
        patched.setattr("sgdataplane.attach.router.Links.without_own_link_local", interrupted)
        with pytest.raises(Died):
            reconcile(bench.registry, moved, Manner(placement=Placement.HOST))
    assert ends_in_registry(bench) == {"eni-a": ROUTER, "eni-b": ROUTER}
    assert len(veths_in(ROUTER)) == 1
    assert bench.apply(state_of(WEB), *HOST) == IN_FORCE
    assert not netns.exists(ROUTER_TWO)
    with Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
        assert not dns.passes(beside=web)


class Died(BaseException):
    """Nothing is done after it, as nothing is after the end of a process."""


def interrupted(*_: object, **__: object) -> None:
    raise Died


@pytest.mark.usefixtures("bench")
def test_a_router_without_our_rules_has_none_of_our_ends_up() -> None:
    assert veths_in(ROUTER) == UP
    router.leave(ROUTER, UP)
    assert veths_in(ROUTER) == {"eni-a": False, "eni-b": False}
    assert nft(ROUTER, "list tables") == ""


def test_an_end_in_the_bridge_that_is_an_uplink_is_released_by_the_look(bench: Bench) -> None:
    """The bridge is the user's, and stays."""
    for command in ("ip link add br0 type bridge", "ip link set eni-a master br0"):
        run_in(ROUTER, *command.split())
    looked = look_after(ROUTER, bench.registry.load(), Look(uplinks=["br0"]))
    assert [entry.enis for entry in looked.tampering] == [("eni-a",)]
    with Links(ROUTER) as links:
        end, bridge = links.link("eni-a"), links.link("br0")
    assert end is not None
    assert bridge is not None
    assert end.master == 0


# what root of a workload does

RENAMED = ("ip link set eth0 down", "ip link set eth0 name eth9", "ip link set eth9 up")
REPLACED = (*RENAMED, "ip link add eth0 type veth peer name eth1", "ip link set eth0 up")


def spoofed() -> int:
    """Frames of the peer that the fence has dropped, since they are the instance's by their source."""
    found = re.search(
        r"counter fence.spoofed \{[^}]*?packets (\d+)", nft(ROUTER, f"list counters table netdev {TABLE}")
    )
    assert found is not None
    return int(found[1])


def is_fenced(bench: Bench, ifname: str) -> bool:
    with Links(ROUTER) as links:
        gateway = next(link.mac for link in links.links() if link.ifname == "eni-b")
    frame = Ether(src=mac_of("eni-b"), dst=gateway) / IP(src="192.0.2.9", dst=HERE["instance"][0]) / UDP(dport=WEB)
    before = spoofed()
    with netns.inside(bench.pair["peer"]), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((ifname, 0))
        sender.send(bytes(frame))  # a veth hands it over before this returns
    return spoofed() == before + 1


@pytest.mark.parametrize(("commands", "outcome"), [(RENAMED, "absent"), (REPLACED, "in force")], ids=["away", "other"])
def test_a_renamed_interface_stays_fenced(bench: Bench, commands: tuple[str, ...], outcome: str) -> None:
    assert is_fenced(bench, "eth0")
    become(bench, *commands)
    wait_until(lambda: veths_in(bench.pair["peer"])["eth9"])
    for _ in range(2):
        assert bench.apply(state_of(WEB), *HOST)["eni-b"] == outcome
        assert veths_in(ROUTER) == UP
        assert is_fenced(bench, "eth9")


def test_an_interface_that_outlives_its_workload_is_down(bench: Bench, make_netns: Callable[[], str]) -> None:
    elsewhere = make_netns()
    with Links(bench.pair["peer"]) as links:
        links.move("eth0", elsewhere, "eth0")
    assert bench.apply(state_of(WEB), *HOST)["eni-b"] == "absent"
    assert veths_in(ROUTER) == {"eni-a": True, "eni-b": False}  # it leads to another namespace
    os.kill(int(bench.pair["peer"].split("/")[2]), signal.SIGKILL)
    wait_until(lambda: bench.apply(state_of(WEB), *HOST).get("eni-b") != "absent")
    assert veths_in(ROUTER) == {"eni-a": True, "eni-b": False}


@pytest.mark.parametrize("is_gone", [False, True])
def test_detach_needs_nothing_of_the_workload(bench: Bench, home: str, is_gone: bool) -> None:
    become(bench, *RENAMED)
    if is_gone:
        become(bench, "ip link delete eth9")
    assert bench.sgdp("detach", "--eni", "eni-b") == 0
    assert (set(veths_in(home)), set(veths_in(ROUTER))) == (set() if is_gone else {"v-peer"}, {"eni-a"})
    assert bench.sgdp("clear") == 0
    assert not netns.exists(ROUTER)


def test_clear_goes_on_past_what_refuses(
    bench: Bench, home: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:

        def refuse_one(binding: Binding, place: str | None) -> str:
            if binding.eni_id == "eni-a":
                raise HostError("eni-a", "refused")
            return move_home(binding, place)

        patched.setattr("sgdataplane.attach.manage.move_home", refuse_one)
        assert bench.sgdp("clear") == 3
    assert "eni-a stays attached: eni-a: refused" in capsys.readouterr().err
    assert (set(veths_in(home)), ends_in_registry(bench)) == ({"v-peer"}, {"eni-a": ROUTER})
    assert f"table inet {TABLE}" in nft(ROUTER, "list tables")
    assert bench.sgdp("clear") == 0
    assert veths_in(home).keys() == {"v-peer", "v-instance"}


# names that are taken


def test_an_end_whose_name_at_home_is_taken_stays_down_in_the_router(
    bench: Bench, home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Links(home) as links:
        links.add_veth("v-peer", home, "other", "")
    assert bench.sgdp("detach", "--eni", "eni-b") == 0
    assert f"stays, down, as eni-b of {ROUTER}" in capsys.readouterr().out
    assert veths_in(ROUTER) == {"eni-a": True, "eni-b": False}
    assert veths_in(home).keys() == {"v-peer", "other"}
    assert bench.attach("--netns", bench.pair["peer"], eni="eni-b") == 0  # and is found there
    assert bench.apply(state_of(WEB), *HOST) == IN_FORCE


def test_an_end_whose_name_in_the_router_is_taken_stays_where_it_is(bench: Bench, home: str) -> None:
    assert bench.sgdp("detach", "--eni", "eni-b") == 0
    with Links(home) as links:
        links.add_veth("other", ROUTER, "eni-b", "")
    assert bench.attach("--netns", bench.pair["peer"], eni="eni-b") == 0
    for _ in range(2):
        assert bench.apply(state_of(WEB), *HOST) == {"eni-a": "in force", "eni-b": "refused", "exit": "3"}
        assert veths_in(home).keys() == {"v-peer", "other"}
    with Links(home) as links:
        links.delete_link("other")
    assert bench.apply(state_of(WEB), *HOST) == IN_FORCE


# what moves nothing


@pytest.mark.parametrize(
    "step",
    [
        "sgdataplane.enforce.proven.require_proof",
        "sgdataplane.attach.hosted.check_kernel",
        "sgdataplane.attach.hosted.check_fence",
    ],
)
def test_what_is_refused_before_ends_move_leaves_instance_placement_in_force(
    bench: Bench, home: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    bench.sgdp("clear")
    assert bench.attach() == 0
    assert bench.apply(state_of(WEB))["exit"] == "0"

    def refuse(*_: object) -> None:
        raise UnsupportedError("this", "more")

    monkeypatch.setattr(step, refuse)
    assert bench.apply(state_of(WEB), *HOST) == {"eni-a": "refused", "exit": "3"}
    assert veths_in(home).keys() == {"v-peer", "v-instance"}
    assert f"table inet {TABLE}" in nft(bench.place, "list tables")


def test_a_router_that_was_half_made_is_finished(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = with_second_vpc(state_of(WEB), "eni-a", "eni-b")
    with monkeypatch.context() as patched:
        patched.setattr("sgdataplane.attach.router.sysctl.write_all", interrupted)
        with pytest.raises(Died):
            reconcile(bench.registry, moved, Manner(placement=Placement.HOST))
    assert bench.apply(moved, *HOST) == IN_FORCE
    with netns.inside(f"sgdp-{VPC_TWO}"):
        assert {path: sysctl.read(path) for path in SETTINGS} == SETTINGS
