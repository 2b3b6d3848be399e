"""A process with CAP_NET_ADMIN in a workload of the machine's initial user namespace reaches the router by number. The
agent, a real one, goes by what the kernel numbers: what was put there is closed, what was changed is set right, and
both are told with who can have done it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from sgdataplane.host.netlink import attribute
from tests.support.kernel.netadmin import (
    ALIAS,
    BRIDGE,
    IFF_UP,
    LINK,
    MAC,
    MASTER,
    NS_PID,
    PASSTHRU,
    PRIVATE,
    NetAdmin,
    kind,
    macvlan,
    name,
    number,
    veth,
)
from tests.support.probes.flood import wait_until
from tests.support.probes.links import veths_in
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.attachhost import ROUTER
from tests.support.scenes.pair import HERE
from tests.support.scenes.reaching import Scene, numbers_in_router, reached, routed_to, set_right

pytestmark = pytest.mark.kernel


@pytest.fixture
def scene(bench: Bench, make_lab_name: Callable[[], str]) -> Iterator[Scene]:
    with reached(bench, make_lab_name) as scene:
        yield scene


def rename(scene: Scene) -> list[str]:
    return [scene.insider.rename(scene.index("eni-b"), "x")]


def exchange(scene: Scene) -> list[str]:
    a, b, rename = scene.index("eni-a"), scene.index("eni-b"), scene.insider.rename
    return [rename(a, "x"), rename(b, "eni-a"), rename(a, "eni-b")]


def set_down(scene: Scene) -> list[str]:
    return [scene.insider.set_down(scene.index("eni-b"))]


def change_mac(scene: Scene) -> list[str]:
    return [scene.insider.set(scene.index("eni-b"), attribute(MAC, bytes.fromhex("0200000000aa")))]


def change_alias(scene: Scene) -> list[str]:
    return [scene.insider.set(scene.index("eni-b"), attribute(ALIAS, b"mine"))]


def change_alias_of_lo(scene: Scene) -> list[str]:
    return [scene.insider.set(1, attribute(ALIAS, b"mine"))]


def enslave(scene: Scene) -> list[str]:
    made = scene.attacker.make(name("br0"), kind("bridge"), nsid=scene.router, is_up=False)
    return [made, scene.insider.set(scene.index("eni-b"), attribute(MASTER, number(scene.index("br0"))))]


def cover(scene: Scene) -> list[str]:
    return [scene.attacker.over("mv0", scene.router, scene.index("eni-b"), PRIVATE)]


def cover_wholly(scene: Scene) -> list[str]:
    return [scene.attacker.over("mv0", scene.router, scene.index("eni-b"), PASSTHRU)]


def cover_uplink(scene: Scene) -> list[str]:
    return [scene.attacker.over("mv0", scene.router, scene.index("up0"), BRIDGE)]


def cover_in_router(scene: Scene) -> list[str]:
    lower = attribute(LINK, number(scene.index("eni-b")))
    return [scene.insider.make(name("mv0"), macvlan(PASSTHRU), lower)]


def lead_there(scene: Scene) -> list[str]:
    return [scene.attacker.make(name("mine"), veth("back", 0, mine(scene)), nsid=scene.router)]


def mine(scene: Scene) -> bytes:
    """In the attacker's namespace."""
    return attribute(NS_PID, number(scene.attacker.pid))


SET_RIGHT: dict[str, tuple[Callable[[Scene], list[str]], str]] = {
    "renamed": (rename, "eni-b was renamed x"),
    "exchanged": (exchange, "eni-b was renamed eni-a"),
    "down": (set_down, "eni-b was set down"),
    "MAC": (change_mac, "the MAC of eni-b was changed"),
    "alias": (change_alias, "the alias of eni-b was changed"),
    "alias of lo": (change_alias_of_lo, "the alias of lo was changed"),
    "enslaved": (enslave, "eni-b was put into another interface"),
    "covered": (cover, "mv0 (macvlan) on top of eni-b"),
    "covered wholly": (cover_wholly, "mv0 (macvlan) on top of eni-b"),
    "uplink covered": (cover_uplink, "mv0 (macvlan) on top of up0"),
    "covered in the router": (cover_in_router, "mv0 (macvlan)"),
    "veth": (lead_there, "mine (veth)"),
}


@pytest.mark.parametrize(("attack", "words"), SET_RIGHT.values(), ids=SET_RIGHT)
def test_what_others_change_is_told_and_set_right(
    scene: Scene, attack: Callable[[Scene], list[str]], words: str
) -> None:
    before = numbers_in_router()
    assert not any(attack(scene))
    wait_until(lambda: scene.is_told(words))
    wait_until(lambda: numbers_in_router() == before)
    wait_until(lambda: scene.attacker.links().keys() == {"lo", "eth0"})
    wait_until(lambda: veths_in(ROUTER) == {"eni-a": True, "eni-b": True, "up0": True})
    set_right(scene)
    last = scene.agent.status()["tampering"]["last"]
    assert f"eni-a (pid {scene.bench.pid})" in last["by"]


def test_it_is_told_within_a_second(scene: Scene) -> None:
    """A busy machine may take longer once or twice, but no timer does."""
    took = list[float]()
    for _ in range(5):
        before, began = scene.agent.status()["tampering"]["count"], time.monotonic()
        assert not any(set_down(scene))
        wait_until(lambda: scene.agent.status()["tampering"]["count"] > before)  # noqa: B023  (called here only)
        took.append(time.monotonic() - began)
        assert not scene.agent.status()["healthy"]
        wait_until(lambda: veths_in(ROUTER)["eni-b"])
    print(f"told after {min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms")
    assert min(took) < 1


def test_an_impostor_of_a_deleted_end_gets_nothing(scene: Scene) -> None:
    """It has the name and the index of the peer's host end, and leads to the attacker."""
    set_right(scene)
    end = scene.index("eni-b")
    assert scene.attacker.delete(scene.router, end) == ""
    assert scene.attacker.make(name("eni-b"), veth("stolen", 0, mine(scene)), nsid=scene.router, index=end) == ""
    wait_until(lambda: scene.is_told("eni-b"))
    wait_until(lambda: not veths_in(ROUTER).get("eni-b", False))
    assert routed_to(HERE["peer"][0]) == set()
    assert scene.agent.outcomes() == {"eni-a": "in force", "eni-b": "absent"}


def test_an_impostor_with_another_index_is_removed(scene: Scene) -> None:
    assert scene.attacker.delete(scene.router, scene.index("eni-b")) == ""
    assert scene.attacker.make(name("eni-b"), veth("stolen", 0, mine(scene)), nsid=scene.router) == ""
    wait_until(lambda: scene.is_told("eni-b (veth)"))
    wait_until(lambda: veths_in(ROUTER) == {"eni-a": True, "up0": True})
    assert routed_to(HERE["peer"][0]) == set()


def test_an_end_that_is_moved_to_the_attacker_is_lost_and_told(scene: Scene) -> None:
    assert scene.insider.set(scene.index("eni-b"), mine(scene)) == ""
    wait_until(lambda: not scene.agent.status()["healthy"] and scene.agent.outcomes()["eni-b"] != "in force")
    assert routed_to(HERE["peer"][0]) == set()


def test_a_workload_s_end_that_is_moved_to_the_attacker_is_cut_off(scene: Scene) -> None:
    with NetAdmin(scene.bench.pair["peer"]) as insider:
        assert insider.set(insider.index("eth0"), name("stolen"), mine(scene)) == ""
    assert scene.attacker.set(scene.attacker.index("stolen"), flags=IFF_UP, change=IFF_UP) == ""
    wait_until(lambda: scene.is_told("the other end of eni-b is elsewhere now"))
    wait_until(lambda: veths_in(ROUTER) == {"eni-a": True, "eni-b": False, "up0": True})
    assert routed_to(HERE["peer"][0]) == set()


def test_an_uplink_that_is_replaced_is_closed_until_the_user_asks(scene: Scene) -> None:
    assert scene.attacker.delete(scene.router, scene.index("up0")) == ""
    assert scene.attacker.make(name("up0"), veth("up1", 0, mine(scene)), nsid=scene.router) == ""
    wait_until(lambda: scene.is_told("up0"))
    wait_until(lambda: not veths_in(ROUTER).get("up0", False))


def test_many_changes_make_few_lines(scene: Scene) -> None:
    end = scene.index("eni-b")
    for count in range(100):
        scene.insider.set(end, attribute(ALIAS, b"%d" % count))
    wait_until(lambda: scene.is_told("the alias of eni-b was changed"))
    set_right(scene)
    assert len(scene.agent.events("tampering")) <= 10
