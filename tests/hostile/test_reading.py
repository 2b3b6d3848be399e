"""A process that reaches the router by number puts an interface over another workload's host end, and reads what that
sends. The agent removes it: from then on nothing is read, and the workload's traffic passes as before.

Without the agent it is read, which is the control. What it reads while the agent acts is printed: pytest -rP.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from sgdataplane.host.links import Links
from sgdataplane.host.netlink import attribute, nest
from sgdataplane.host.rtnetlink import MAX_LINKS
from tests.features.probes import IPVLAN, MACVTAP, require
from tests.support.events.eavesdrop import Listener, Stream, listening, streaming
from tests.support.kernel import netadmin as na
from tests.support.kernel.netadmin import NetAdmin
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.attachhost import ROUTER
from tests.support.scenes.pair import HERE, mac_at
from tests.support.scenes.reaching import Scene, reached, set_right

pytestmark = pytest.mark.kernel
RATE = 500  # of either kind of frame, a second
SOME = 20
SPY = "mv0"


@dataclass(frozen=True)
class Cover:
    """`reads`: whether it gets frames to the router, and those to all on the link."""

    kind: str
    data: Callable[[str], list[bytes]]  # of the victim's MAC
    reads: tuple[bool, bool]


def mode(value: int, *more: bytes) -> list[bytes]:
    return [attribute(na.MACVLAN_MODE, struct.pack("=I", value)), *more]


def copying(mac: str) -> list[bytes]:
    """What that MAC sends; it comes to the router all the same."""
    address = nest(na.MACVLAN_MACS, [attribute(na.MACVLAN_MAC, bytes.fromhex(mac.replace(":", "")))])
    return mode(na.SOURCE, attribute(na.MACVLAN_MAC_MODE, struct.pack("=I", na.SET_MACS)), address)


UNSEEN = attribute(na.MACVLAN_FLAGS, struct.pack("=H", na.NO_PROMISC))  # the link below doesn't get promiscuous
COVERS = {
    "private": Cover("macvlan", lambda _: mode(na.PRIVATE), (False, True)),
    "bridge": Cover("macvlan", lambda _: mode(na.BRIDGE), (False, True)),
    "passthru": Cover("macvlan", lambda _: mode(na.PASSTHRU), (True, True)),
    "passthru, unseen": Cover("macvlan", lambda _: mode(na.PASSTHRU, UNSEEN), (True, True)),
    "source": Cover("macvlan", copying, (True, True)),
}
TAP = Cover("macvtap", lambda _: mode(na.PASSTHRU), (True, True))
IPVLAN_L2 = Cover("ipvlan", lambda _: [attribute(1, struct.pack("=H", 0))], (False, True))


@pytest.fixture
def scene(bench: Bench, make_lab_name: Callable[[], str]) -> Iterator[Scene]:
    with reached(bench, make_lab_name) as scene:
        yield scene


@contextmanager
def watched(scene: Scene, place: str) -> Iterator[tuple[Stream, Listener]]:
    """The peer sends, and somebody listens at that place."""
    victim, gateway = scene.bench.pair["peer"], mac_at(ROUTER, "eni-b")
    with (
        streaming(victim, HERE["peer"][0], gateway, RATE) as stream,
        listening(place, stream) as listener,
    ):
        yield stream, listener


def put_over(scene: Scene, cover: Cover, into: int | None = None, router: int | None = None) -> None:
    """In the attacker's namespace, or `into` that of the uplink's other end, where the router has that number.

    Before Linux 6.15 a link is made where the one below is, and then moved, which sets it down.
    """
    victim = mac_at(scene.bench.pair["peer"], "eth0")
    there = na.number(scene.router if router is None else router)
    below = attribute(na.LINK, na.number(scene.index("eni-b"))) + attribute(na.LINK_NSID, there)
    assert scene.attacker.make(na.name(SPY), na.kind(cover.kind, cover.data(victim)), below, nsid=into) == ""
    if into is None:
        set_up(scene.attacker)
    else:
        with NetAdmin(scene.outside) as neighbour:
            set_up(neighbour)


def set_up(admin: NetAdmin) -> None:
    """Unless the agent has removed it already."""
    if (spy := admin.links().get(SPY)) is not None:
        admin.set(na.value(spy[0]), flags=na.IFF_UP, change=na.IFF_UP)


def number_of_router(place: str) -> int:
    """As seen from there, where somebody has listed the links once. The attacker can try all numbers."""
    with Links(place) as links:
        return next(link.lower_nsid for link in links.links() if link.ifname == "eth0")


def wait_read(listener: Listener, cover: Cover) -> None:
    """It reads what it can, and no more."""
    wait_until(lambda: all(count >= SOME for count, can in zip(listener.count, cover.reads, strict=True) if can))
    assert [count > 0 for count in listener.count] == list(cover.reads)


def nothing_more_is_read(stream: Stream, listener: Listener) -> None:
    before, sent = listener.count, stream.sent
    wait_until(lambda: stream.sent >= sent + 4 * SOME)
    assert listener.count == before


def check_closed(scene: Scene, cover: Cover) -> None:
    with watched(scene, scene.bench.place) as (stream, listener):
        scene.agent.end()
        put_over(scene, cover)
        wait_read(listener, cover)
        scene.agent.start()
        wait_until(lambda: scene.attacker.links().keys() == {"lo", "eth0"})
        nothing_more_is_read(stream, listener)
        told = scene.agent.status()["tampering"]["count"]
        before = listener.count
        put_over(scene, cover)
        wait_until(lambda: scene.attacker.links().keys() == {"lo", "eth0"})
        wait_until(lambda: scene.agent.status()["tampering"]["count"] > told)
        nothing_more_is_read(stream, listener)
        read = [now - old for now, old in zip(listener.count, before, strict=True)]
        print(f"read before it was closed, at {RATE} frames a second of either kind: {read}")
    assert scene.is_told(f"{SPY} ({cover.kind}) on top of eni-b")
    assert f"eni-a (pid {scene.bench.pid})" in scene.agent.status()["tampering"]["last"]["by"]
    (victim,) = (eni for eni in scene.agent.status()["enis"] if eni["eni"] == "eni-b")
    assert victim["outcome"] == "disturbed"
    set_right(scene)


@pytest.mark.parametrize("cover", COVERS.values(), ids=COVERS)
def test_an_interface_over_another_workload_s_end_is_closed(scene: Scene, cover: Cover) -> None:
    check_closed(scene, cover)


@pytest.mark.optional
def test_a_tap_over_another_workload_s_end_is_closed(scene: Scene) -> None:
    require(MACVTAP)
    check_closed(scene, TAP)


@pytest.mark.optional
def test_an_ipvlan_over_another_workload_s_end_is_closed(scene: Scene) -> None:
    require(IPVLAN)
    check_closed(scene, IPVLAN_L2)


def test_among_very_many_interfaces_it_is_found_and_these_are_told(scene: Scene) -> None:
    """So many that no search lists them."""
    for number in range(MAX_LINKS // 2):
        assert scene.attacker.make(na.name(f"v{number}"), na.veth(f"w{number}")) == ""
    scene.agent.reload()  # so that it has heard of all these before it hears of the one
    wait_until(lambda: scene.is_told(f"has more than {MAX_LINKS} interfaces"))
    put_over(scene, COVERS["passthru"])
    wait_until(lambda: any(f"{SPY} (macvlan) on top of eni-b" in line for line in warnings_of(scene, "eni-b")))
    wait_until(lambda: SPY not in scene.attacker.links())


def warnings_of(scene: Scene, eni: str) -> list[str]:
    """What the status says of that ENI. Its log has one line for all tampering that a cycle finds."""
    return next(each["warnings"] for each in scene.agent.status()["enis"] if each["eni"] == eni)


@pytest.mark.parametrize("is_running", [True, False], ids=["heard", "found-at-start"])
def test_an_interface_in_a_namespace_that_is_no_workload_is_closed(scene: Scene, is_running: bool) -> None:
    """The attacker reaches the namespace of the uplink's other end by that link's number, and so can whoever listens
    there."""
    outside = na.value(scene.attacker.links(scene.router)["up0"][na.LINK_NSID])
    cover, router = COVERS["passthru"], number_of_router(scene.outside)
    with watched(scene, scene.outside) as (stream, listener):
        scene.agent.end()
        put_over(scene, cover, outside, router)
        wait_read(listener, cover)
        if is_running:
            assert scene.attacker.delete(outside, scene.attacker.index(SPY, outside)) == ""
        scene.agent.start()
        if is_running:
            put_over(scene, cover, outside, router)
        wait_until(lambda: SPY not in scene.attacker.links(outside))
        nothing_more_is_read(stream, listener)
        wait_until(lambda: scene.is_told(f"{SPY} (macvlan) on top of eni-b"))
    set_right(scene)


def test_an_interface_over_an_uplink_in_a_namespace_that_is_no_workload_stays(scene: Scene) -> None:
    """It may be the user's. That the one over the host end goes, which came later, shows that both were looked at."""
    router = number_of_router(scene.outside)
    with NetAdmin(scene.outside) as user:
        for name, below in (("mine", "up0"), (SPY, "eni-b")):
            assert user.over(name, router, scene.index(below)) == ""
        wait_until(lambda: SPY not in user.links())
        assert "mine" in user.links()
