"""Two workloads in host placement, a real agent, an uplink, and a process that reaches their router by number.

Owns that scene, and how one sees that the router is as it has to be. Must not know attacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from tests.support.kernel.netadmin import NetAdmin
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.attachhost import ROUTER, state_of
from tests.support.scenes.pair import HERE, Session


@dataclass(frozen=True)
class Scene:
    """The attacker is in the instance's workload, and the peer's host end is what it is after. `router`: its number
    there. `insider`: somebody in the router itself, for what the kernel lets nobody do from outside, up to now.
    `outside`: the namespace of the uplink's other end."""

    bench: Bench
    agent: AgentBench
    attacker: NetAdmin
    insider: NetAdmin
    router: int
    uplinks: dict[str, int]
    outside: str

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


@contextmanager
def reached(bench: Bench, make_lab_name: Callable[[], str]) -> Iterator[Scene]:
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
            yield Scene(bench, agent, attacker, insider, attacker.reach(), {"up0": insider.index("up0")}, outside)


def routed_to(address: str) -> set[str]:
    """The links of the router that lead to this address."""
    with Links(ROUTER) as links:
        return {route.ifname for route in links.routes() if str(route.destination) == f"{address}/32"}


def numbers_in_router() -> dict[str, int]:
    """Of all links that are up there."""
    with Links(ROUTER) as links:
        return {link.ifname: link.index for link in links.links() if link.is_up}


def set_right(scene: Scene) -> None:
    """The router is as it was: what is allowed passes, what isn't doesn't, and the routes lead to the host ends."""
    with Session(scene.bench.pair, WEB) as web, Session(scene.bench.pair, DNS) as dns:
        assert not dns.passes(beside=web)
    assert {ifname: routed_to(HERE[role][0]) for role, ifname in (("instance", "eni-a"), ("peer", "eni-b"))} == {
        "eni-a": {"eni-a"},
        "eni-b": {"eni-b"},
    }
