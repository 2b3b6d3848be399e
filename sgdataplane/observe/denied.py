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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sgdataplane.contract.counters import LOG_GROUP
from sgdataplane.contract.sites import ARRIVING, SITES
from sgdataplane.host import netns
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.observe.belief import Belief, Named
from sgdataplane.observe.drops import FIXED
from sgdataplane.observe.headers import Headers, parse_headers
from sgdataplane.observe.hits import rules

PREROUTING = 0  # NF_INET_PRE_ROUTING; the other hook is NF_INET_POST_ROUTING


@dataclass(frozen=True, slots=True)
class Denied:
    """One packet. `direction`: towards the ENI or from it. A reply, and an ICMP error about a session, is denied by the
    rules that would have let the session in. `eni_id` None: its interface, if there is one, carries none. `decision`
    None: of a rule that the state hasn't got (any more), of which the counter is all that is known."""

    seconds: float
    eni_id: str | None
    ifname: str | None
    direction: Direction
    headers: Headers
    ethertype: int
    counter: str
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Unlogged:
    """Packets that were denied and not logged, as too many came. `decision`: as of Denied."""

    seconds: float
    packets: int
    counter: str
    decision: Decision | None


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
        known = {} if place.state is None else rules(place.state, place.interfaces)
        self._decisions = {**FIXED, **known}
        self._names: dict[int, str] = {}
        drops = {name for name, decision in self._decisions.items() if decision.verdict is Verdict.DROP}
        with netns.inside(place.path):
            self._belief = Belief(LOG_GROUP, drops)

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
            yield Unlogged(time.time(), packets, counter, self._decisions.get(counter))
        forged = self._belief.forged()
        if forged:
            yield Forged(time.time(), forged)

    def _denied(self, named: Named) -> Denied:
        logged = named.packet
        if logged.is_netdev:
            direction, is_arriving = Direction.EGRESS, self._place.placement is Placement.HOST
        else:
            is_arriving = logged.hook == PREROUTING
            direction = next(side for side in Direction if (self._site.hooks[side] == ARRIVING) == is_arriving)
        ifname = self._name(logged.came_by if is_arriving else logged.leaves_by)
        eni_id = None if ifname is None else self._enis.get(ifname)
        headers = parse_headers(logged.ethertype, logged.payload)
        seconds = time.time() if logged.seconds is None else logged.seconds
        decision = self._decisions.get(named.counter)
        return Denied(seconds, eni_id, ifname, direction, headers, logged.ethertype, named.counter, decision)

    def _name(self, number: int) -> str | None:
        """Of an interface. Numbers aren't used again as long as the namespace is there."""
        if number not in self._names:
            with netns.inside(self._place.path):
                self._names |= dict(socket.if_nameindex())
        return self._names.get(number)
