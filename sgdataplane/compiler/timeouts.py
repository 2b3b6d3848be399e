"""Idle timeouts that ENIs have of their own, and where two ENIs meet on one conntrack entry, the shorter ones.

Owns the rules that have a session heed them. Is given where the table stands, every interface's timeouts, and those
that the namespace has by itself. Must not know what else happens to a packet.

    leaving      the ENI's own, or, of the ENI by whose interface the packet came, whichever are shorter:
                 jump timeouts-<own>, where the interface it came by leads to timeouts-<of both>, if it matters
    elsewhere    host placement: of a packet that leaves by no ENI's interface, or that the router itself gets, those of
                 the ENI by whose interface it came: jump timeouts-elsewhere, for new sessions
    arriving     instance placement: the ENI's own

A session's first packet sets its timeouts. If it sets several, Linux 6.18 heeds the last ones, and Debian's 6.12 and
6.1 the first. So in host placement it sets them once, where it leaves the router: there both ENIs are known. (Most
sessions of an instance end in it, and would pay for one more hook at each packet. So there they are set where packets
come in, and once more where the instance forwards them to another of its ENIs.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sgdataplane.compiler.skeleton import by_interface, content_chain
from sgdataplane.contract.fields import CtState, Field, Nfproto
from sgdataplane.contract.sites import SITES, Site
from sgdataplane.contract.tables import DELIVERED
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.net.values import TCP, UDP, Direction, Family
from sgdataplane.nft.ir import ACCEPT, Chain, Map, Rule, SetTimeout, Timeout, VerdictMap, is_value, jump, rule
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

    site: Site
    own: Mapping[str, ConnectionTracking]
    unset: ConnectionTracking
    chains: dict[str, Chain] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    objects: set[Timeout] = field(default_factory=set)
    _rules: dict[tuple[str, Limits | None], tuple[Rule, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: HostPolicy) -> IdleTimeouts:
        own = {eni.ifname: eni.connection_tracking for eni in policy.enis}
        return cls(SITES[policy.placement], own, policy.idle)

    def rules(self, ifname: str) -> dict[Direction, tuple[Rule, ...]]:
        """At each hook, of the ENI on that interface."""
        return {hook: (self.leaving if self.site.is_leaving(hook) else self.arriving)(ifname) for hook in Direction}

    def arriving(self, ifname: str) -> tuple[Rule, ...]:
        """For packets that come by this interface."""
        if self.site.delivery is not None:
            return ()
        limits = [(timed, timed.limits(self.own[ifname])) for timed in TIMED]
        own = [(timed, found) for timed, found in limits if found != timed.limits(self.unset)]
        return tuple(entry for timed, found in own for entry in self._set(timed, found))

    def leaving(self, ifname: str) -> tuple[Rule, ...]:
        """For packets that leave by this interface. They are the same for all ENIs with the same timeouts."""
        return tuple(entry for timed in TIMED for entry in self._leaving(timed, timed.limits(self.own[ifname])))

    def elsewhere(self) -> tuple[Rule, ...]:
        """For packets that leave by no ENI's interface. Makes the base chain of those that the router itself gets."""
        if self.site.delivery is None:
            return ()
        rules = tuple(entry for timed in TIMED for entry in self._leaving(timed, None))
        if not rules:
            return ()
        chain = self._kept(content_chain(f"{PREFIX}elsewhere", rules))
        is_opening = is_value(Field.CT_STATE, CtState.NEW, CtState.RELATED)
        opening = rule(is_opening, jump(chain.name))
        self._kept(Chain(DELIVERED, (opening, rule(ACCEPT)), self.site.delivery))
        return (opening,)

    def _leaving(self, timed: Timed, limits: Limits | None) -> tuple[Rule, ...]:
        """Towards an ENI with these limits; None: towards none."""
        place = (timed.name, limits)
        if place not in self._rules:
            self._rules[place] = tuple(self._meeting(timed, limits))
        return self._rules[place]

    def _meeting(self, timed: Timed, limits: Limits | None) -> Iterator[Rule]:
        others = {ifname: timed.limits(tracking) for ifname, tracking in self.own.items()}
        unset = timed.limits(self.unset)
        if set(others.values()) <= {unset}:
            return
        alone = unset if limits is None else limits
        both = {ifname: other if limits is None else shorter(limits, other) for ifname, other in others.items()}
        apart = {ifname: found for ifname, found in both.items() if found != alone}
        if not apart:
            yield from self._set(timed, alone)
            return
        name = PREFIX + "-".join([timed.name, *(["elsewhere"] if limits is None else map(str, limits))])
        limited = {found: self._chain(timed, found) for found in sorted(set(apart.values()))}
        self.maps[name] = by_interface(name, {ifname: limited[found] for ifname, found in apart.items()})
        came_by = rule(VerdictMap(Field.IIFNAME, name=name))
        chain = self._kept(content_chain(name, (came_by, *self._set(timed, alone))))
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
