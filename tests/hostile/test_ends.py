"""A process with CAP_NET_ADMIN in a workload of the machine's initial user namespace reaches the router by number. The
agent, a real one, goes by what the kernel numbers: what was put there is closed, what was changed is set right, and
both are told with who can have done it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.host.netlink import attribute
from tests.support.agentbench import AgentBench, agent_in
from tests.support.attachbench import DNS, WEB, Bench
from tests.support.attachhost import ROUTER, state_of
from tests.support.flood import wait_until
from tests.support.links import veths_in
from tests.support.netadmin import (
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
from tests.support.pair import HERE, Session

pytestmark = pytest.mark.kernel


@dataclass(frozen=True)
class Scene:
    """The attacker is in the instance's workload, and the peer's host end is what it is after. `router`: its number
    there. `insider`: somebody in the router itself, for what the kernel lets nobody do from outside, up to now."""

    bench: Bench
    agent: AgentBench
    attacker: NetAdmin
    insider: NetAdmin
    router: int

    def index(self, ifname: str) -> int:
        return self.attacker.index(ifname, self.router)

    def is_told(self, *words: str) -> bool:
        """Whether the agent isn't healthy and says so."""
        status = self.agent.status()
        last = status["tampering"]["last"]
        is_told = last is not None and all(any(word in line for line in self.lines) for word in words)
        return not status["healthy"] and is_told

    @property
    def lines(self) -> list[str]:
        """All that was told of tampering, by the log and the status."""
        last = self.agent.status()["tampering"]["last"]
        return [*self.agent.events("tampering"), *([last["what"]] if last else [])]


@pytest.fixture
def scene(bench: Bench, make_lab_name: Callable[[], str]) -> Iterator[Scene]:
    """With an uplink, which is named in the agent's configuration."""
    outside = make_lab_name()
    netns.create(outside)
    with ExitStack() as stack:
        for place in (ROUTER, outside):
            stack.callback(netns.remove, place)
        agent = stack.enter_context(agent_in(bench.folder))
        agent.configure(adoption_window=0, placement="host", uplinks=["up0"])
        agent.write(state_of(WEB))
        agent.start()
        with Links(ROUTER) as links:
            links.add_veth("up0", outside, "eth0", "")
            links.set_up("up0")
        agent.reload()
        assert agent.status()["healthy"], agent.log.read_text("utf-8")
        with NetAdmin(bench.place) as attacker, NetAdmin(ROUTER) as insider:
            yield Scene(bench, agent, attacker, insider, attacker.reach())


def routed_to(address: str) -> set[str]:
    """The links of the router that lead to this address."""
    with Links(ROUTER) as links:
        return {route.ifname for route in links.routes() if str(route.destination) == f"{address}/32"}


def numbers_in_router() -> dict[str, int]:
    with Links(ROUTER) as links:
        return {link.ifname: link.index for link in links.links()}


def set_right(scene: Scene) -> None:
    """The router is as it was: what is allowed passes, what isn't doesn't, and the routes lead to the host ends."""
    with Session(scene.bench.pair, WEB) as web, Session(scene.bench.pair, DNS) as dns:
        assert not dns.passes(beside=web)
    assert {ifname: routed_to(HERE[role][0]) for role, ifname in (("instance", "eni-a"), ("peer", "eni-b"))} == {
        "eni-a": {"eni-a"},
        "eni-b": {"eni-b"},
    }


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
