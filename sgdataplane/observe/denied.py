"""Denied packets, as they happen in one namespace: whose they are, and what denied each.

Owns the way from what the kernel logs to that. Is given where the namespace is, and which ENIs it has. Must not know
who asks, or how it is shown.

What denied a packet stands in the kernel's own words, the name of the counter that counted it just before: it can't be
another one, whatever becomes of the policy meanwhile. A state is asked only what such a name means.

Any rule in the namespace may log in that name. What is believed of it is known to belief.py, which also has what was
denied and not logged: a rule logs so many packets a second and no more (`compiler/drops.py`), its counter has all.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sgdataplane.compiler.drops import LOG_GROUP
from sgdataplane.compiler.lower import counter_name
from sgdataplane.compiler.site import ARRIVING, SITES
from sgdataplane.host import netns
from sgdataplane.model.decision import Decision
from sgdataplane.model.placement import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.observe.belief import Belief, Named
from sgdataplane.observe.drops import FIXED
from sgdataplane.observe.headers import Headers, parse_headers

PREROUTING = 0  # NF_INET_PRE_ROUTING; the other hook is NF_INET_POST_ROUTING


class Why(NamedTuple):
    """`reason`: "rule", "default", or what drops packets before any rule is asked (DESIGN.md sections 3 and 6). `side`:
    the direction whose rules or checks denied it; None: of a rule that the state hasn't got (any more), of which the
    counter is all that is known."""

    counter: str
    reason: str
    side: Direction | None
    group_id: str | None = None
    rule_id: str | None = None


@dataclass(frozen=True, slots=True)
class Denied:
    """One packet. `direction`: towards the ENI or from it. A reply, and an ICMP error about a session, is denied by the
    rules that would have let the session in. `eni_id` None: its interface, if there is one, carries none."""

    seconds: float
    eni_id: str | None
    ifname: str | None
    direction: Direction
    headers: Headers
    ethertype: int
    why: Why


@dataclass(frozen=True, slots=True)
class Unlogged:
    """Packets that were denied and not logged, as too many came."""

    seconds: float
    packets: int
    why: Why


@dataclass(frozen=True, slots=True)
class Forged:
    """Packets that were logged in the name of our rules, and that these didn't log: so many at least."""

    seconds: float
    packets: int


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace where policies are enforced: a name or path. `interfaces`: ENI -> interface. `state`: what it obeys,
    as far as it is known."""

    path: str
    interfaces: Mapping[str, str]
    placement: Placement
    state: CloudState | None = None


class Listener:
    """Listens to what is denied in one place. For a selector: `read` when it is readable, `tick` once a second."""

    def __init__(self, place: Place) -> None:
        """As Nflog; HostError if there is no such namespace, OSError if the kernel refuses to tell what was counted."""
        self._place, self._site = place, SITES[place.placement]
        self._enis = {ifname: eni_id for eni_id, ifname in place.interfaces.items()}
        self._rules = {} if place.state is None else _rules_of(place.state, place.interfaces)
        self._names: dict[int, str] = {}
        drops = {name for name, cause in self._rules.items() if cause.verdict is Verdict.DROP}
        with netns.inside(place.path):
            self._belief = Belief(LOG_GROUP, {*FIXED, *drops})

    def fileno(self) -> int:
        return self._belief.fileno()

    def close(self) -> None:
        self._belief.close()

    def read(self) -> Iterator[Denied]:
        """What has come. OSError if the kernel refuses to tell what was counted."""
        return map(self._denied, self._belief.read())

    def tick(self) -> Iterator[Denied | Unlogged | Forged]:
        """What has come, also of rules that are new; what was denied and not logged; what was forged. OSError as
        above."""
        believed, missing = self._belief.tick()
        yield from map(self._denied, believed)
        for counter, packets in missing:
            yield Unlogged(time.time(), packets, self._why(counter))
        forged = self._belief.forged()
        if forged:
            yield Forged(time.time(), forged)

    def _denied(self, named: Named) -> Denied:
        logged, why = named.packet, self._why(named.counter)
        if logged.is_netdev:
            direction, is_arriving = Direction.EGRESS, self._place.placement is Placement.HOST
        else:
            is_arriving = logged.hook == PREROUTING
            direction = next(side for side in Direction if (self._site.hooks[side] == ARRIVING) == is_arriving)
        ifname = self._name(logged.came_by if is_arriving else logged.leaves_by)
        eni_id = None if ifname is None else self._enis.get(ifname)
        headers = parse_headers(logged.ethertype, logged.payload)
        seconds = time.time() if logged.seconds is None else logged.seconds
        return Denied(seconds, eni_id, ifname, direction, headers, logged.ethertype, why)

    def _name(self, number: int) -> str | None:
        """Of an interface. Numbers aren't used again as long as the namespace is there."""
        if number not in self._names:
            with netns.inside(self._place.path):
                self._names |= dict(socket.if_nameindex())
        return self._names.get(number)

    def _why(self, counter: str) -> Why:
        if counter in FIXED:
            return Why(counter, FIXED[counter].cause, Direction(FIXED[counter].direction))
        cause = self._rules.get(counter)
        if cause is not None:
            return Why(counter, "rule", cause.direction, cause.security_group_id, cause.security_group_rule_id)
        return Why(counter, "rule", None)


def _rules_of(state: CloudState, eni_ids: Collection[str]) -> dict[str, Decision]:
    """What the counters of the rules of these ENIs' groups count."""
    groups = {group for eni_id in eni_ids if eni_id in state.eni for group in state.eni[eni_id].security_group_ids}
    causes = (
        Decision(rule.direction, rule.policy, "rule", group, rule.security_group_rule_id, rule.priority)
        for group in sorted(groups)
        for rule in state.group[group].rules
    )
    return {counter_name(cause): cause for cause in causes}
