"""ENIs that no rule tells apart: who reaches whom is worked out once for all of them, and is exact.

Owns the split of a state's ENIs into kinds. Is given a state. Must not know protocols, ports or verdicts.

Two ENIs are of one kind if they are in one VPC, in the same groups and of one mode, and if each address of one lies in
the same CIDR blocks and prefix lists that rules name as some address of the other. Addresses are the private ones and
those of delegated prefixes, which are cut where a rule's block begins or ends.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sgdataplane.model.state import CloudState, Eni, GroupRef, NicType, PrefixListRef, SecurityGroupRule
from sgdataplane.net.ranges import Interval, Ranges
from sgdataplane.net.values import Family, Prefix

Block = Prefix | PrefixListRef
Blocks = frozenset[Block]


@dataclass(frozen=True, slots=True)
class AddressClass:
    """Addresses of one family that lie in the same blocks, of all blocks that rules name."""

    family: Family
    blocks: Blocks


@dataclass(frozen=True, slots=True, eq=False)
class EniKind:
    """ENIs that no rule tells apart, at least one. Kinds are compared by identity."""

    vpc_id: str
    security_group_ids: tuple[str, ...]
    nic_type: NicType
    places: tuple[AddressClass, ...]
    """The classes that its ENIs' addresses are in."""
    enis: tuple[Eni, ...]


class Segments:
    """The addresses of one family, cut wherever a block begins or ends."""

    def __init__(self, blocks: Iterable[tuple[Block, Interval]], family: Family) -> None:
        turns: dict[int, list[tuple[int, Block]]] = {0: []}
        for block, (first, last) in blocks:
            turns.setdefault(first, []).append((1, block))
            turns.setdefault(last + 1, []).append((-1, block))
        self._last = family.last
        self.starts = sorted(start for start in turns if start <= family.last)
        known: dict[Blocks, Blocks] = {}
        active: dict[Block, int] = {}  # a list's entries may overlap
        self.blocks: list[Blocks] = []
        for start in self.starts:
            for step, block in turns[start]:
                active[block] = active.get(block, 0) + step
                if not active[block]:
                    del active[block]
            found = frozenset(active)
            self.blocks.append(known.setdefault(found, found))

    def within(self, first: int, last: int) -> Iterator[tuple[Interval, Blocks]]:
        """Yield the pieces of a range, each with the blocks that it lies in."""
        index = bisect_right(self.starts, first) - 1
        while index < len(self.starts) and self.starts[index] <= last:
            end = self.starts[index + 1] - 1 if index + 1 < len(self.starts) else self._last
            yield (max(first, self.starts[index]), min(last, end)), self.blocks[index]
            index += 1

    def of(self, spans: Ranges) -> Iterator[tuple[Interval, Blocks]]:
        """Return the pieces of some ranges, each with the blocks that it lies in."""
        return (piece for first, last in spans for piece in self.within(first, last))


def segments_of(state: CloudState) -> Mapping[Family, Segments]:
    """Return the segments of each family, cut by all blocks that rules name.

    A rule names a block as its remote, or for the ENI's own side.
    """
    named = dict.fromkeys(block for group in state.security_groups for rule in group.rules for block in _blocks(rule))
    return {
        family: Segments(((block, span) for block in named for span in spans_of(state, block, family)), family)
        for family in Family
    }


def _blocks(rule: SecurityGroupRule) -> Iterator[Block]:
    if not isinstance(rule.remote, GroupRef):
        yield rule.remote
    if rule.narrowing is not None:
        yield rule.narrowing


def spans_of(state: CloudState, block: Block, family: Family) -> Iterator[Interval]:
    """Return a block's ranges in one family; those of a list may overlap."""
    prefixes = (
        [block] if isinstance(block, Prefix) else [e.cidr for e in state.prefix_list[block.prefix_list_id].entries]
    )
    return ((prefix.first, prefix.last) for prefix in prefixes if prefix.family is family)


def kinds_of(state: CloudState, segments: Mapping[Family, Segments]) -> tuple[EniKind, ...]:
    """Return all ENIs with a policy by kind, in the order of each kind's first ENI."""
    found: dict[tuple[str, tuple[str, ...], NicType, bool, frozenset[AddressClass]], list[Eni]] = {}
    for eni in state.judged_enis:
        groups = tuple(sorted(eni.security_group_ids))
        places = frozenset(_places(eni, segments))
        found.setdefault((eni.vpc_id, groups, eni.nic_type, eni.is_audited, places), []).append(eni)
    return tuple(
        EniKind(vpc_id, groups, nic_type, tuple(sorted(places, key=_order)), tuple(enis))
        for (vpc_id, groups, nic_type, _, places), enis in found.items()
    )


def _places(eni: Eni, segments: Mapping[Family, Segments]) -> Iterator[AddressClass]:
    for prefix in eni.private_prefixes:
        for _, blocks in segments[prefix.family].within(prefix.first, prefix.last):
            yield AddressClass(prefix.family, blocks)


def _order(place: AddressClass) -> tuple[str, list[str]]:
    return place.family.value, sorted(map(str, place.blocks))
