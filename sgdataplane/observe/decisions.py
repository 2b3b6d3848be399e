"""decide() for many packets: packets that no rule can tell apart are decided once.

Owns which packets are equal for the rules. Is given a state. Must not decide anything itself.

decide() looks at an address only through the prefixes, groups and lists that contain it, and at a port only through the
ranges that contain it. So the addresses and ports are cut wherever one of these begins or ends, and the pieces that
contain a packet's addresses and ports are its key. (100,000 packets from as many remotes, 1,000 rules and 2,000
members: 2 s; with decide() alone 130 s.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from operator import xor

from sgdataplane.model import always
from sgdataplane.model.decision import Decision
from sgdataplane.model.members import PAGES, GroupSet, Pages
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState, Eni, Remote
from sgdataplane.net.packet import Packet
from sgdataplane.net.ranges import Ranges, unite
from sgdataplane.net.values import Address, Family, Prefix
from sgdataplane.policy.dimensions import CONDITIONS, LOCAL, PROTOCOL, Condition
from sgdataplane.policy.resolve import Permission, resolve_profile, resolve_remote

Key = tuple[object, ...]
CUT = tuple(each for each in CONDITIONS if each not in (PROTOCOL, LOCAL))  # fixed clauses name these two


class Decider:
    """A cache of what decide() says under one state, for many packets."""

    def __init__(self, state: CloudState, options: Options) -> None:
        self._state, self._options = state, options
        self._enis: dict[str, _Eye] = {}
        self._known: dict[Key, Decision] = {}

    def decide(self, packet: Packet) -> Decision:
        """Return what `semantics.decide` does. KeyError if the state has no such ENI."""
        if packet.eni_id not in self._enis:
            self._enis[packet.eni_id] = _Eye.of(self._state, self._state.eni[packet.eni_id], self._options)
        key = self._enis[packet.eni_id].key(packet)
        if key not in self._known:
            self._known[key] = decide(self._state, packet, self._options)
        return self._known[key]


@dataclass(frozen=True, slots=True)
class _Pieces:
    """One family's addresses, cut where a place that a rule can name begins or ends."""

    members: Pages
    """The groups of each member."""
    starts: tuple[int, ...]
    """The first address of each piece."""
    holding: tuple[int, ...]
    """The prefixes that contain each piece, as bits."""

    @classmethod
    def of(cls, prefixes: Iterable[Ranges], members: Pages) -> _Pieces:
        """Cut the addresses. `prefixes` has the addresses of each place that a rule can name, as a set."""
        turns = {0: 0}
        for bit, intervals in enumerate(prefixes):
            for first, last in intervals:
                turns[first] = turns.get(first, 0) ^ 1 << bit
                turns[last + 1] = turns.get(last + 1, 0) ^ 1 << bit
        starts = sorted(turns)
        return cls(members, tuple(starts), tuple(accumulate(map(turns.__getitem__, starts), xor)))

    def at(self, address: Address) -> tuple[GroupSet | None, int]:
        """Return everything by which rules can tell an address from others."""
        page = self.members.get(address.value % PAGES)
        group_set = None if page is None else page.group_set.get(address.value)
        return group_set, self.holding[bisect_right(self.starts, address.value) - 1]


@dataclass(frozen=True, slots=True)
class _Eye:
    """Everything that one ENI's rules, and the clauses before all rules, can tell apart."""

    addresses: dict[Family, _Pieces]
    starts: tuple[tuple[int, ...], ...]
    """For each of CUT, the values at which it begins to mean something else."""

    @classmethod
    def of(cls, state: CloudState, eni: Eni, options: Options) -> _Eye:
        """Return what the rules of an ENI can tell apart."""
        profile = resolve_profile(state, eni, options)
        permissions = (*profile.ingress, *profile.egress)
        places: set[Remote] = {*_list_fixed_places(eni, options), *_list_named_places(permissions)}
        resolved = [{f: unite(resolve_remote(state, place, f).ranges) for f in Family} for place in places]
        pieces = {f: _Pieces.of([found[f] for found in resolved], state.members.pages(f)) for f in Family}
        return cls(pieces, tuple(_starts(permissions, each) for each in CUT))

    def key(self, packet: Packet) -> Key:
        """Return a key that is equal for packets that no rule can tell apart."""
        pieces = self.addresses[packet.family]
        return (
            packet.eni_id,
            packet.direction,
            packet.family,
            pieces.at(packet.remote),
            pieces.at(packet.local),
            packet.protocol,
            *map(_piece, self.starts, [each.of_packet(packet) for each in CUT]),
            packet.icmp_type,
            packet.hop_limit,
            packet.is_syn,
        )


def _piece(starts: tuple[int, ...], value: int | None) -> int | None:
    return None if value is None else bisect_right(starts, value)


def _list_named_places(permissions: Iterable[Permission]) -> Iterator[Remote]:
    """Yield the places that rules name, and those that narrow them."""
    for permission in permissions:
        if permission.remote is not None:
            yield permission.remote
        if permission.narrowing is not None:
            yield permission.narrowing


def _list_fixed_places(eni: Eni, options: Options) -> Iterator[Prefix]:
    """Yield the addresses that decide() looks for without any rule."""
    yield from eni.own_prefixes
    yield from options.metadata
    yield from always.UNNUMBERED
    yield from always.DHCP_UNNUMBERED.values()
    yield from (prefix for shared in always.SHARED.values() for prefix in shared)
    yield from (Prefix.of(everyone) for _, _, everyone in always.DHCP.values())
    yield from (Prefix.of(gateway) for gateway in options.gateways)
    yield from always.on_link(eni.own_prefixes, options, Placement.INSTANCE)


def _starts(permissions: Iterable[Permission], condition: Condition) -> tuple[int, ...]:
    """Return where a value of the condition begins to mean something else; DHCP's ports are among them."""
    dhcp = tuple((port, port) for client, server, _ in always.DHCP.values() for port in (client, server))
    asked = (condition.of_rule(permission, family) for permission in permissions for family in Family)
    intervals = [interval for some in (*asked, dhcp) for interval in some or ()]
    return tuple(sorted({edge for first, last in intervals for edge in (first, last + 1)}))
