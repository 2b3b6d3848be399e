"""Far addresses -> classes: which remotes an address belongs to decides which permissions can matter to it.

Owns the split of one family's address space for one profile. Is given resolved remotes.
Must not know ports or nftables.

Two look-ups find an address's class. First members: single addresses of groups, by the exact set of groups that
they are in (their *kinship*), so that a member that joins or leaves is one element whatever the rules are. Then, for
everyone else and for kinships that CIDR blocks cut apart, the disjoint segments of all CIDR blocks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sgdataplane.model.state import GroupRef, PrefixListRef, Remote
from sgdataplane.net.values import Family, Prefix
from sgdataplane.policy.resolve import Interval, RemoteAddresses

RemoteSet = int  # a bit mask: bit i stands for AddressClasses.remotes[i]
Segments = tuple[tuple[Interval, RemoteSet], ...]


@dataclass(frozen=True, slots=True)
class AddressClasses:
    """`members`: address -> kinship; `kin`: kinship -> what to ask of its addresses next; `segments` for all others.

    Segments are disjoint, sorted and cover the family; a kinship whose members agree has one segment.
    """

    remotes: tuple[Remote, ...]
    members: tuple[tuple[int, RemoteSet], ...]
    kin: Mapping[RemoteSet, Segments]
    segments: Segments

    def named(self, some: RemoteSet) -> list[Remote]:
        """The remotes of a set."""
        return [remote for index, remote in enumerate(self.remotes) if some >> index & 1]


def classify(
    remotes: Iterable[Remote], addresses: Mapping[Remote, Mapping[Family, RemoteAddresses]], family: Family
) -> AddressClasses:
    """Split a family's addresses by the remotes that hold them."""
    wanted = sorted(set(remotes), key=_order)
    segments = _segments([addresses[remote][family].ranges for remote in wanted], family.last)
    kinship: dict[int, RemoteSet] = {}
    for index, remote in enumerate(wanted):
        for address in addresses[remote][family].singles:
            kinship[address] = kinship.get(address, 0) | 1 << index
    members = tuple(sorted(kinship.items()))
    return AddressClasses(tuple(wanted), members, _kin_segments(members, segments), segments)


def _order(remote: Remote) -> tuple[int, int, int, int, str]:
    match remote:
        case Prefix(family_bits, first, length):
            return 0, family_bits, first, length, ""
        case GroupRef(name):
            return 1, 0, 0, 0, name
        case PrefixListRef(name):
            return 2, 0, 0, 0, name


def _segments(ranges: Sequence[Sequence[Interval]], last: int) -> Segments:
    """Cut the address space at every end of every range; neighbours with equal remotes are joined."""
    turns: dict[int, RemoteSet] = {0: 0}
    for index, intervals in enumerate(ranges):
        for first, end in _united(intervals):
            turns[first] = turns.get(first, 0) ^ 1 << index
            turns[end + 1] = turns.get(end + 1, 0) ^ 1 << index
    turns.pop(last + 1, None)
    holding = 0
    found: list[tuple[int, RemoteSet]] = []
    for first in sorted(turns):
        holding ^= turns[first]
        if not found or turns[first]:
            found.append((first, holding))
    ends = [first - 1 for first, _ in found[1:]] + [last]
    return tuple(((first, end), holding) for (first, holding), end in zip(found, ends, strict=True))


def _united(intervals: Sequence[Interval]) -> Iterable[Interval]:
    """Disjoint, sorted, none beginning where another ends."""
    if len(intervals) < 2:
        return intervals
    united: list[Interval] = []
    for first, end in sorted(intervals):
        if united and first <= united[-1][1] + 1:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        else:
            united.append((first, end))
    return united


def _kin_segments(members: Iterable[tuple[int, RemoteSet]], segments: Segments) -> dict[RemoteSet, Segments]:
    """Per kinship the segments that its members lie in, each with the kinship's own remotes added."""
    starts = [interval[0] for interval, _ in segments]
    used: dict[RemoteSet, set[int]] = {}
    for address, kin in members:
        used.setdefault(kin, set()).add(bisect_right(starts, address) - 1)
    return {
        kin: _agreed(tuple((segments[i][0], segments[i][1] | kin) for i in sorted(indices)))
        for kin, indices in used.items()
    }


def _agreed(segments: Segments) -> Segments:
    """One segment if all lead to the same class."""
    first, last = segments[0][0][0], segments[-1][0][1]
    return (((first, last), segments[0][1]),) if len({holding for _, holding in segments}) == 1 else segments
