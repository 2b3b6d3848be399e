"""Set the idle timeouts of ENIs, and where two ENIs meet on one conntrack entry, the shorter ones.

Owns the rules that set a session's timeouts. It is given where the table stands, the timeouts of every interface's ENI,
and the namespace's own. It must not know what else happens to a packet.

    leaving      the ENI's own, or those of the ENI by whose interface the packet came, whichever are shorter:
                 jump timeouts-<own>, where the incoming interface leads to timeouts-<of both>, if that differs
    elsewhere    host placement, packets that leave by no ENI's interface or are for the router itself: those of the ENI
                 by whose interface the packet came: jump timeouts-elsewhere, for new sessions
    arriving     instance placement: the ENI's own

A session's first packet sets its timeouts. If it sets several, Linux 6.18 uses the last ones, and Debian's 6.12 and 6.1
the first ones. So in host placement it sets them once, where it leaves the router and both ENIs are known. In instance
placement most sessions end in the instance, and one more hook would cost each of their packets. So there they are set
where packets come in, and once more where the instance forwards them to another of its ENIs.
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

PREFIX = "timeouts-"  # names of chains begin so that do nothing but this
FAMILIES = {Family.IPV4: ("ip", Nfproto.IPV4), Family.IPV6: ("ip6", Nfproto.IPV6)}
Limits = tuple[int, ...]  # the timeout of each of a protocol's settings, in seconds


@dataclass(frozen=True, slots=True)
class Timed:
    """A protocol for which an ENI may have its own timeouts."""

    name: str
    number: int
    """The protocol's number."""
    states: tuple[tuple[str, int], ...]
    """The kernel's states, each with the index of its setting in Limits."""

    def limits(self, tracking: ConnectionTracking) -> Limits:
        """Return an ENI's settings for this protocol, in seconds."""
        if self.number == UDP:
            return (tracking.udp_timeout,)
        return tracking.tcp_established_timeout, tracking.tcp_closed_and_time_wait_timeout

    def timeout(self, limits: Limits, family: Family) -> Timeout:
        """Return the timeout object.

        Its name holds all its values, since the kernel can't change one that is in use.
        """
        l3proto, _ = FAMILIES[family]
        policy = tuple((state, limits[index]) for state, index in self.states)
        return Timeout("-".join([self.name, l3proto, *map(str, limits)]), self.name, l3proto, policy)


TIMED = (
    Timed("tcp", TCP, (("established", 0), ("close", 1), ("time_wait", 1))),
    Timed("udp", UDP, (("unreplied", 0), ("replied", 0))),
)


def shorter(one: Limits, other: Limits) -> Limits:
    """Return the shorter one of each setting."""
    return tuple(map(min, one, other))


@dataclass
class IdleTimeouts:
    """Makes the rules for the timeouts of all ENIs of a namespace, and what these rules need."""

    site: Site
    own: Mapping[str, ConnectionTracking]
    """The timeouts of the ENI at each interface."""
    unset: ConnectionTracking
    """The namespace's timeouts, where nothing is set."""
    chains: dict[str, Chain] = field(default_factory=dict)
    """The chains that the rules need, by name."""
    maps: dict[str, Map] = field(default_factory=dict)
    """The maps that the rules need, by name."""
    objects: set[Timeout] = field(default_factory=set)
    """The timeout objects that the rules need."""
    _rules: dict[tuple[str, Limits | None], tuple[Rule, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: HostPolicy) -> IdleTimeouts:
        """Start with the timeouts of a policy."""
        own = {eni.ifname: eni.connection_tracking for eni in policy.enis}
        return cls(SITES[policy.placement], own, policy.idle)

    def rules(self, ifname: str) -> dict[Direction, tuple[Rule, ...]]:
        """Return the rules at each hook for the ENI on that interface."""
        return {
            hook: (self.make_leaving_rules if self.site.is_leaving(hook) else self.make_arriving_rules)(ifname)
            for hook in Direction
        }

    def make_arriving_rules(self, ifname: str) -> tuple[Rule, ...]:
        """Return the rules for packets that come by this interface."""
        if self.site.delivery is not None:
            return ()
        limits = [(timed, timed.limits(self.own[ifname])) for timed in TIMED]
        own = [(timed, found) for timed, found in limits if found != timed.limits(self.unset)]
        return tuple(entry for timed, found in own for entry in self._set(timed, found))

    def make_leaving_rules(self, ifname: str) -> tuple[Rule, ...]:
        """Return the rules for packets that leave by this interface: the same for all ENIs with the same timeouts."""
        return tuple(
            entry for timed in TIMED for entry in self._make_leaving_rules(timed, timed.limits(self.own[ifname]))
        )

    def elsewhere(self) -> tuple[Rule, ...]:
        """Return the rules for packets that leave by no ENI's interface.

        This also makes the base chain for packets to the router itself.
        """
        if self.site.delivery is None:
            return ()
        rules = tuple(entry for timed in TIMED for entry in self._make_leaving_rules(timed, None))
        if not rules:
            return ()
        chain = self._keep_chain(content_chain(f"{PREFIX}elsewhere", rules))
        is_opening = is_value(Field.CT_STATE, CtState.NEW, CtState.RELATED)
        opening = rule(is_opening, jump(chain.name))
        self._keep_chain(Chain(DELIVERED, (opening, rule(ACCEPT)), self.site.delivery))
        return (opening,)

    def _make_leaving_rules(self, timed: Timed, limits: Limits | None) -> tuple[Rule, ...]:
        """Return the rules for packets to an ENI with these limits, or to none (None)."""
        place = (timed.name, limits)
        if place not in self._rules:
            self._rules[place] = tuple(self._make_meeting_rules(timed, limits))
        return self._rules[place]

    def _make_meeting_rules(self, timed: Timed, limits: Limits | None) -> Iterator[Rule]:
        """Yield the rules for packets to an ENI with these limits, whichever interface they came by."""
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
        chain = self._keep_chain(content_chain(name, (came_by, *self._set(timed, alone))))
        yield rule(is_value(Field.L4PROTO, timed.number), jump(chain.name))

    def _chain(self, timed: Timed, limits: Limits) -> Chain:
        name = PREFIX + "-".join([timed.name, *map(str, limits)])
        return self._keep_chain(content_chain(name, tuple(self._set(timed, limits))))

    def _keep_chain(self, chain: Chain) -> Chain:
        return self.chains.setdefault(chain.name, chain)

    def _set(self, timed: Timed, limits: Limits) -> Iterator[Rule]:
        """Yield the rules that set these limits in both families, and note the timeout objects."""
        for family, (_, nfproto) in FAMILIES.items():
            timeout = timed.timeout(limits, family)
            self.objects.add(timeout)
            is_it = is_value(Field.NFPROTO, nfproto), is_value(Field.L4PROTO, timed.number)
            yield rule(*is_it, SetTimeout(timeout.name))
