"""Idle timeouts that ENIs have of their own, and where two ENIs meet on one conntrack entry, the shorter ones.

Owns the rules that have a session heed them. Is given every interface's timeouts, and those that the namespace has by
itself. Must not know what else happens to a packet.

    arriving     the ENI's own
    leaving      the ENI's own, or, of the ENI by whose interface the packet came, whichever are shorter:
                 jump timeouts-<own>, where the interface it came by leads to timeouts-<of both>, if it matters

Linux 6.18 heeds the last ones that are set before a session's first packet has passed, and none later. So what is set
when a packet leaves says all there is to say of both ENIs: it makes no use of what was set when it came. (Debian's 6.12
and 6.1 heed the first ones: where both ENIs are on one host, what was set when it came.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sgdataplane.compiler.content import content_chain
from sgdataplane.compiler.site import Site
from sgdataplane.compiler.skeleton import by_interface, is_value
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.net.values import TCP, UDP, Direction, Family
from sgdataplane.nft.ir import (
    Chain,
    Field,
    Map,
    Nfproto,
    Rule,
    SetTimeout,
    Timeout,
    VerdictMap,
    jump,
    rule,
)
from sgdataplane.policy.resolve import HostPolicy

PREFIX = "timeouts-"  # of chains that do nothing but this
FAMILIES = {Family.IPV4: ("ip", Nfproto.IPV4), Family.IPV6: ("ip6", Nfproto.IPV6)}
Limits = tuple[int, ...]  # seconds, one for each of a protocol's settings


@dataclass(frozen=True, slots=True)
class Timed:
    """A protocol of which an ENI may have its own timeouts. `states`: which setting is for which of the kernel's."""

    name: str
    number: int
    states: tuple[tuple[str, int], ...]

    def limits(self, tracking: ConnectionTracking) -> Limits:
        if self.number == UDP:
            return (tracking.udp_timeout,)
        return tracking.tcp_established_timeout, tracking.tcp_closed_and_time_wait_timeout

    def timeout(self, limits: Limits, family: Family) -> Timeout:
        """Its name says all there is to say, since the kernel can't change one that is in use."""
        l3proto, _ = FAMILIES[family]
        policy = tuple((state, limits[index]) for state, index in self.states)
        return Timeout("-".join([self.name, l3proto, *map(str, limits)]), self.name, l3proto, policy)


TIMED = (
    Timed("tcp", TCP, (("established", 0), ("close", 1), ("time_wait", 1))),
    Timed("udp", UDP, (("unreplied", 0), ("replied", 0))),
)


def shorter(one: Limits, other: Limits) -> Limits:
    """Of each setting."""
    return tuple(map(min, one, other))


@dataclass
class IdleTimeouts:
    """Of all ENIs of a namespace, by interface. `unset`: what holds there where nothing is set."""

    own: Mapping[str, ConnectionTracking]
    unset: ConnectionTracking
    chains: dict[str, Chain] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    objects: set[Timeout] = field(default_factory=set)
    _rules: dict[tuple[str, Limits], tuple[Rule, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: HostPolicy) -> IdleTimeouts:
        return cls({eni.ifname: eni.connection_tracking for eni in policy.enis}, policy.idle)

    def rules(self, site: Site, ifname: str) -> dict[Direction, tuple[Rule, ...]]:
        """At each hook, of the ENI on that interface."""
        return {hook: (self.leaving if site.is_leaving(hook) else self.arriving)(ifname) for hook in Direction}

    def arriving(self, ifname: str) -> tuple[Rule, ...]:
        """For packets that come by this interface."""
        limits = [(timed, timed.limits(self.own[ifname])) for timed in TIMED]
        own = [(timed, found) for timed, found in limits if found != timed.limits(self.unset)]
        return tuple(entry for timed, found in own for entry in self._set(timed, found))

    def leaving(self, ifname: str) -> tuple[Rule, ...]:
        """For packets that leave by this interface. They are the same for all ENIs with the same timeouts."""
        return tuple(entry for timed in TIMED for entry in self._leaving(timed, timed.limits(self.own[ifname])))

    def _leaving(self, timed: Timed, limits: Limits) -> tuple[Rule, ...]:
        place = (timed.name, limits)
        if place not in self._rules:
            self._rules[place] = tuple(self._meeting(timed, limits))
        return self._rules[place]

    def _meeting(self, timed: Timed, limits: Limits) -> Iterator[Rule]:
        others = {ifname: timed.limits(tracking) for ifname, tracking in self.own.items()}
        if {timed.limits(self.unset), *others.values()} == {limits}:
            return
        both = {ifname: shorter(limits, other) for ifname, other in others.items()}
        lower = {ifname: found for ifname, found in both.items() if found != limits}
        if not lower:
            yield from self._set(timed, limits)
            return
        name = PREFIX + "-".join([timed.name, *map(str, limits)])
        limited = {found: self._chain(timed, found) for found in sorted(set(lower.values()))}
        self.maps[name] = by_interface(name, {ifname: limited[found] for ifname, found in lower.items()})
        came_by = rule(VerdictMap(Field.IIFNAME, name=name))
        chain = self._kept(content_chain(name, (came_by, *self._set(timed, limits))))
        yield rule(is_value(Field.L4PROTO, timed.number), jump(chain.name))

    def _chain(self, timed: Timed, limits: Limits) -> Chain:
        name = PREFIX + "-".join([timed.name, *map(str, limits)])
        return self._kept(content_chain(name, tuple(self._set(timed, limits))))

    def _kept(self, chain: Chain) -> Chain:
        return self.chains.setdefault(chain.name, chain)

    def _set(self, timed: Timed, limits: Limits) -> Iterator[Rule]:
        for family, (_, nfproto) in FAMILIES.items():
            timeout = timed.timeout(limits, family)
            self.objects.add(timeout)
            is_it = is_value(Field.NFPROTO, nfproto), is_value(Field.L4PROTO, timed.number)
            yield rule(*is_it, SetTimeout(timeout.name))
