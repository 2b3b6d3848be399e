"""Who reaches whom, exactly, from the state alone: between kinds of ENIs, and to and from everywhere else.

Owns how the policies of both ends are joined, and which addresses are outside. Is given a state. Must not know how the
answer is shown. tests/property/test_reachable.py compares it with decide().

A session from A to B passes if A's egress and B's ingress both accept it. ENIs of different VPCs don't meet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sgdataplane.analyse.kinds import AddressClass, Block, Blocks, EniKind, kinds_of, segments_of
from sgdataplane.analyse.passing import OTHER, Passing, PassingRow, effort, find_passing, normal
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.state import CloudState, GroupRef
from sgdataplane.net.ranges import Interval, Ranges, count, minus, unite
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.modes import of_mode
from sgdataplane.policy.resolve import Permission, resolve_profile

Further = tuple[Ranges, ...]  # the `further` of a row
EFFORT = 1_000_000  # permissions; this takes some seconds


@dataclass(frozen=True, slots=True)
class Way:
    """What passes between two kinds of ENIs in one family."""

    family: Family
    passing: Passing
    is_some: bool = False
    """Rules tell addresses of the two ends apart, and it passes only between some of them."""


@dataclass(frozen=True, slots=True)
class Far:
    """What passes from or to exactly these addresses outside."""

    family: Family
    passing: Passing
    addresses: Ranges
    is_some: bool = False
    """It passes only for some of the ENI's own addresses."""


class _ByBlock:
    """Permissions, found by the blocks of a remote. There can be a thousand, but few are for any one address."""

    def __init__(self, permissions: Sequence[Permission]) -> None:
        self._permissions = permissions
        self._always: list[int] = []  # for groups and for everyone, whatever the blocks
        self._naming: dict[Block, list[int]] = defaultdict(list)
        for place, permission in enumerate(permissions):
            remote = permission.remote
            (self._always if remote is None or isinstance(remote, GroupRef) else self._naming[remote]).append(place)

    def list_naming(self, blocks: Blocks) -> Iterator[Permission]:
        """Return the permissions for these blocks, for groups and for everyone, in order."""
        named = (place for block in blocks for place in self._naming.get(block, ()))
        return (self._permissions[place] for place in sorted((*self._always, *named)))


class TooIntricateError(Exception):
    """Rules overlap in so many ways that an answer would take too long (raised by Reachability alone)."""


class Reachability:
    """Who reaches whom in one state.

    All answers together may examine `effort` permissions; after that, they raise TooIntricateError.

    Attributes:
        kinds: the state's ENIs, grouped where no rule tells them apart.
    """

    def __init__(self, state: CloudState, options: Options = DEFAULTS, effort: int = EFFORT) -> None:
        self._effort = effort
        self._state, self._options = state, options
        self._segments = segments_of(state)
        self.kinds = kinds_of(state, self._segments)
        self._orders: dict[tuple[EniKind, Direction], _ByBlock] = {}
        self._outside: dict[tuple[str, Family], Ranges] = {}

    def between(self, source: EniKind, target: EniKind) -> tuple[Way, ...]:
        """Return what passes from any ENI of one kind to any (other) ENI of the other kind; () if nothing can."""
        found: dict[tuple[Family, Passing], int] = defaultdict(int)
        pairs: dict[Family, int] = defaultdict(int)
        for near in source.places:
            for far in target.places:
                if near.family is far.family and source.vpc_id == target.vpc_id:
                    pairs[near.family] += 1
                    found[near.family, self._both(source, near, target, far)] += 1
        return tuple(Way(family, what, number < pairs[family]) for (family, what), number in found.items() if what)

    def _both(self, source: EniKind, near: AddressClass, target: EniKind, far: AddressClass) -> Passing:
        leaving = self._steps(source, Direction.EGRESS, near, far.blocks, target)
        arriving = self._steps(target, Direction.INGRESS, far, near.blocks, source)
        return self._find_passing((leaving, arriving), near.family)

    def _find_passing(self, ways: Sequence[Sequence[Permission]], family: Family) -> Passing:
        needed = effort(ways, family)
        if needed > self._effort:
            raise TooIntricateError
        self._effort -= needed
        return find_passing(ways, family)

    def _steps(
        self, kind: EniKind, direction: Direction, local: AddressClass, remote: Blocks, other: EniKind | None
    ) -> list[Permission]:
        """Return the permissions that hold for these two ends; `other` is the remote's kind, None if it is outside."""
        groups = other.security_group_ids if other is not None and other.enis[0].is_member else ()
        return [
            permission
            for permission in self._order(kind, direction).list_naming(remote)
            if (permission.narrowing is None or permission.narrowing in local.blocks)
            and (not isinstance(permission.remote, GroupRef) or permission.remote.security_group_id in groups)
        ]

    def _order(self, kind: EniKind, direction: Direction) -> _ByBlock:
        if (kind, direction) not in self._orders:
            profile = of_mode(resolve_profile(self._state, kind.enis[0], self._options), kind.enis[0])
            self._orders.update({(kind, side): _ByBlock(profile.permissions(side)) for side in Direction})
        return self._orders[kind, direction]

    def outside(self, vpc_id: str, family: Family) -> Ranges:
        """Return all addresses except those of the VPC's blocks and of its ENIs."""
        key = (vpc_id, family)
        if key not in self._outside:
            inside = [*self._state.vpc[vpc_id].cidr_blocks]
            inside += [
                p for eni in self._state.network_interfaces if eni.vpc_id == vpc_id for p in eni.private_prefixes
            ]
            taken = unite((prefix.first, prefix.last) for prefix in inside if prefix.family is family)
            self._outside[key] = minus(((0, family.last),), taken)
        return self._outside[key]

    def far(self, kind: EniKind, direction: Direction) -> tuple[Far, ...]:
        """Return what passes from (ingress) or to (egress) addresses outside, each session once.

        The rows with most addresses come first.
        """
        found: dict[tuple[Family, Ranges, Passing], int] = defaultdict(int)
        places: dict[Family, int] = defaultdict(int)
        for local in kind.places:
            places[local.family] += 1
            for addresses, what in by_addresses(self._far_of(kind, direction, local)):
                found[local.family, addresses, what] += 1
        rows = [
            Far(family, what, addresses, number < places[family]) for (family, addresses, what), number in found.items()
        ]
        return tuple(sorted(rows, key=lambda row: (row.family.value, -count(row.addresses), row.passing.rows)))

    def _far_of(self, kind: EniKind, direction: Direction, local: AddressClass) -> dict[Passing, Ranges]:
        """Return what passes, with the addresses that it passes for, which are disjoint."""
        known: dict[Blocks, Passing] = {}
        found: dict[Passing, list[Interval]] = {}
        for span, blocks in self._segments[local.family].of(self.outside(kind.vpc_id, local.family)):
            if blocks not in known:
                known[blocks] = self._find_passing((self._steps(kind, direction, local, blocks, None),), local.family)
            found.setdefault(known[blocks], []).append(span)
        return {what: unite(spans) for what, spans in found.items()}


def by_addresses(groups: Mapping[Passing, Ranges]) -> Iterator[tuple[Ranges, Passing]]:
    """Turn disjoint addresses, each with all that passes there, into disjoint sessions with all their addresses."""
    protocols = {OTHER, *(number for what in groups for number in what.named)}
    found: dict[Ranges, dict[int, list[PassingRow]]] = {}
    for protocol in protocols:
        for row, addresses in _rows_by_addresses(groups, protocol):
            found.setdefault(addresses, {}).setdefault(protocol, []).append(row)
    for addresses, rows_of in found.items():
        yield addresses, normal({number: _join_rows(number, rows_of.get(number, ())) for number in protocols})


def _rows_by_addresses(groups: Mapping[Passing, Ranges], protocol: int) -> Iterator[tuple[PassingRow, Ranges]]:
    """Yield one protocol's rows, cut where what passes changes, each with all addresses that it passes for."""
    turns: dict[Further, dict[int, set[Passing]]] = {}  # the ports at which groups begin and cease to pass
    for what in groups:
        for row in _rows_of(what, protocol):
            of_these = turns.setdefault(row.further, {})
            for first, last in row.ports:
                of_these.setdefault(first, set()).symmetric_difference_update((what,))
                of_these.setdefault(last + 1, set()).symmetric_difference_update((what,))
    known: dict[frozenset[Passing], Ranges] = {}
    for further, of_these in turns.items():
        now: frozenset[Passing] = frozenset()
        for first, after in pairwise(sorted(of_these)):
            now ^= of_these[first]
            if now not in known:
                known[now] = unite(span for what in now for span in groups[what])
            if now:
                yield PassingRow(protocol, ((first, after - 1),), further), known[now]


def _rows_of(what: Passing, protocol: int) -> Iterator[PassingRow]:
    key = protocol if protocol in what.named else OTHER
    return (PassingRow(protocol, row.ports, row.further) for row in what.rows if row.protocol == key)


def _join_rows(protocol: int, rows: Iterable[PassingRow]) -> tuple[PassingRow, ...]:
    """Return the rows with those joined that differ only in their ports."""
    ports: dict[Further, list[Interval]] = {}
    for row in rows:
        ports.setdefault(row.further, []).extend(row.ports)
    return tuple(sorted(PassingRow(protocol, unite(spans), further) for further, spans in ports.items()))
