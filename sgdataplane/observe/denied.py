"""Denied packets of one namespace, as they happen: whose they are, and what denied each.

Packets that pass only because their ENI is in audit mode are among them.

Owns the way from what the kernel logs to that. Is given where the namespace is, and which ENIs it has. Must not know
who asks, or how it is shown.

The log line carries the name of the counter that counted the packet just before. So it names what denied the packet,
whatever becomes of the policy meanwhile. The state is asked only what such a name means.

Any rule in the namespace may log in that name: belief.py says which packets to believe. It also knows how many were
denied and not logged: a rule logs only so many packets a second (`compiler/verdicts.py`), and its counter has all.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sgdataplane.contract.counters import LOG_GROUP
from sgdataplane.contract.sites import ARRIVING, SITES
from sgdataplane.host import netns
from sgdataplane.host.nflog import INGRESS
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.observe.belief import Belief, LoggedAs
from sgdataplane.observe.drops import FIXED
from sgdataplane.observe.headers import Headers, parse_headers
from sgdataplane.observe.hits import map_logged

PREROUTING = 0  # NF_INET_PRE_ROUTING; the other hook is NF_INET_POST_ROUTING


@dataclass(frozen=True, slots=True)
class Denied:
    """One denied packet.

    A reply, or an ICMP error about a session, is denied by the rules that would have let the session in. A packet in
    audit mode has passed, and its decision is to accept it.
    """

    seconds: float
    """When it was logged, in seconds since 1970."""
    eni_id: str | None
    """None if its interface, if any, carries no ENI."""
    ifname: str | None
    """None if the packet has no interface, or it is gone."""
    direction: Direction
    """Whether it came towards the ENI (ingress) or from it."""
    headers: Headers
    ethertype: int
    counter: str
    """The counter that counted it."""
    decision: Decision | None
    """None if the state doesn't have the rule (any more), so that only the counter is known."""


@dataclass(frozen=True, slots=True)
class Unlogged:
    """Packets that were denied and not logged, because too many came."""

    seconds: float
    packets: int
    counter: str
    decision: Decision | None
    """None as in Denied."""


@dataclass(frozen=True, slots=True)
class Forged:
    """A report that at least so many packets were logged in the name of our rules, but not by them."""

    seconds: float
    packets: int


@dataclass(frozen=True, slots=True)
class EnforcedPlace:
    """A namespace where policies are enforced."""

    path: str
    """Its name or path."""
    interfaces: Mapping[str, str]
    """ENI id -> interface."""
    placement: Placement
    state: CloudState | None = None
    """The state that it obeys; None if that isn't known."""


class Interpreter:
    """A reader of logged packets that says whose they are, and what decided.

    Args:
        place: The namespace.
        decisions: Counter -> what it counts.
    """

    def __init__(self, place: EnforcedPlace, decisions: Mapping[str, Decision]) -> None:
        self._place, self._site, self._decisions = place, SITES[place.placement], decisions
        self._enis = {ifname: eni_id for eni_id, ifname in place.interfaces.items()}
        self._names: dict[int, str] = {}

    def interpret(self, named: LoggedAs) -> Denied:
        """Return a logged packet as a denied one. HostError if the namespace has ended."""
        logged = named.packet
        if logged.is_netdev:
            is_arriving = logged.hook == INGRESS
            is_in = not is_arriving and self._place.placement.is_outside  # it leaves a router
            direction = Direction.INGRESS if is_in else Direction.EGRESS
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
        """Return the name of the interface with that index; None if there is none.

        A namespace doesn't use an index again, so names are read once.
        """
        if number not in self._names:
            with netns.inside(self._place.path):
                self._names |= dict(socket.if_nameindex())
        return self._names.get(number)


class Listener:
    """A reporter of what is denied in one place.

    It is for a selector: call `read` when it is readable, and `tick` once a second.
    """

    def __init__(self, place: EnforcedPlace) -> None:
        """Begin to listen. Errors as in Nflog.

        Raises:
            HostError: There is no such namespace.
            OSError: The kernel refuses to list counters.
        """
        known = {} if place.state is None else map_logged(place.state, place.interfaces)
        self._decisions = {**FIXED, **known}
        self._interpreter = Interpreter(place, self._decisions)
        drops = {name for name, decision in self._decisions.items() if decision.enforced.verdict is Verdict.DROP}
        with netns.inside(place.path):
            self._belief = Belief(LOG_GROUP, drops)

    def fileno(self) -> int:
        """Return the descriptor of the log's socket, for a selector."""
        return self._belief.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._belief.close()

    def read(self) -> Iterator[Denied]:
        """Return what has come. OSError if the kernel refuses to list counters."""
        return map(self._interpreter.interpret, self._belief.read())

    def tick(self) -> Iterator[Denied | Unlogged | Forged]:
        """Yield what has come, also from new rules; then what was denied and not logged, and what was forged.

        Raises:
            OSError: The kernel refuses to list counters.
        """
        believed, missing = self._belief.tick()
        yield from map(self._interpreter.interpret, believed)
        for counter, packets in missing:
            yield Unlogged(time.time(), packets, counter, self._decisions.get(counter))
        forged = self._belief.count_forged()
        if forged:
            yield Forged(time.time(), forged)
