"""Denied packets, as they happen in one namespace: whose they are, and what denied each.

Owns the way from what the kernel logs to that. Is given where the namespace is, and which ENIs it has. Must not know
who asks, or how it is shown.

What denied a packet stands in the kernel's own words, the name of the counter that counted it just before: it can't be
another one, whatever becomes of the policy meanwhile. A state is asked only what such a name means.

A rule logs so many packets a second and no more (`compiler/drops.py`); its counter has all. So once a second counters
are read, and what they have more than was logged is told as a number. They are compared with what had been logged a
second later, when all of it has arrived.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sgdataplane.compiler.drops import LOG_GROUP
from sgdataplane.compiler.lower import counter_name
from sgdataplane.compiler.site import ARRIVING, SITES
from sgdataplane.host import netns
from sgdataplane.host.nflog import Logged, Nflog
from sgdataplane.model.placement import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction
from sgdataplane.nft.names import logged_counter
from sgdataplane.observe.drops import FIXED, read_counters
from sgdataplane.observe.headers import Headers, parse_headers
from sgdataplane.policy.resolve import Cause

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
    """One packet. `direction`: towards the ENI or from it. A reply is denied by the rules that would have let its
    session in: those of the other direction. `eni_id` None: its interface, if there is one, carries none."""

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
        """As Nflog; HostError if there is no such namespace, too."""
        self._place, self._site = place, SITES[place.placement]
        self._enis = {ifname: eni_id for eni_id, ifname in place.interfaces.items()}
        self._rules = {} if place.state is None else _rules_of(place.state, place.interfaces)
        self._names: dict[int, str] = {}
        with netns.inside(place.path):
            self._door = Nflog(LOG_GROUP)
        self._tally = _Tally({name for name, cause in self._rules.items() if cause.verdict.value == "drop"})
        try:
            self._tally.begin(read_counters(place.path))
        except BaseException:
            self._door.close()
            raise

    def fileno(self) -> int:
        return self._door.fileno()

    def close(self) -> None:
        self._door.close()

    def read(self) -> Iterator[Denied]:
        """What has come."""
        for logged in self._door.read():
            counter = logged_counter(logged.prefix)
            if counter is not None:  # others may log there, too
                self._tally.logged[counter] += 1
                yield self._denied(logged, self._why(counter))

    def tick(self, *, is_last: bool = False) -> Iterator[Unlogged]:
        """What has not been logged up to the last tick; if it is the last one, up to now. OSError if the kernel refuses
        to tell."""
        missing = self._tally.missing(read_counters(self._place.path), is_last=is_last)
        return (Unlogged(time.time(), packets, self._why(counter)) for counter, packets in missing)

    def _denied(self, logged: Logged, why: Why) -> Denied:
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


def _rules_of(state: CloudState, eni_ids: Collection[str]) -> dict[str, Cause]:
    """What the counters of the rules of these ENIs' groups count."""
    groups = {group for eni_id in eni_ids if eni_id in state.eni for group in state.eni[eni_id].security_group_ids}
    causes = (
        Cause(rule.direction, rule.policy, "rule", group, rule.security_group_rule_id, rule.priority)
        for group in sorted(groups)
        for rule in state.group[group].rules
    )
    return {counter_name(cause): cause for cause in causes}


@dataclass
class _Tally:
    """What was counted, and what of it was logged or told since. `rules`: counters that count denied packets besides
    the fixed ones; one that has logged is one, too."""

    rules: Collection[str]
    logged: Counter[str] = field(default_factory=Counter)
    _base: Mapping[str, int] = field(default_factory=dict)
    _last: Mapping[str, int] = field(default_factory=dict)
    _told: Counter[str] = field(default_factory=Counter)

    def begin(self, counters: Mapping[str, int]) -> None:
        self._base = self._last = counters

    def missing(self, counters: Mapping[str, int], *, is_last: bool) -> list[tuple[str, int]]:
        found = []
        for name in sorted({*FIXED, *self.rules, *self.logged}):
            seen = counters if is_last else self._last
            if counters.get(name, 0) < self._last.get(name, 0):  # somebody deleted the table: it begins anew
                self._base = {**self._base, name: 0}
                self.logged[name] = self._told[name] = 0
                continue
            packets = seen.get(name, 0) - self._base.get(name, 0) - self.logged[name] - self._told[name]
            if packets > 0:
                self._told[name] += packets
                found.append((name, packets))
        self._last = counters
        return found
