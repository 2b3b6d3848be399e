"""Far addresses -> classes: which remotes an address belongs to decides which permissions can matter to it.

Owns the split of one family's address space for one profile. Is given resolved remotes.
Must not know ports or nftables.

Two look-ups find an address's class. First members: single addresses of groups, by the exact set of groups that
they are in (their *kinship*), so that a member that joins or leaves is one element whatever the rules are. Then, for
everyone else and for kinships that CIDR blocks cut apart, the disjoint segments of all CIDR blocks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sgdataplane.model.state import Remote
from sgdataplane.net.values import Family
from sgdataplane.policy.resolve import Interval, RemoteAddresses

RemoteSet = frozenset[Remote]
Segments = tuple[tuple[Interval, RemoteSet], ...]


@dataclass(frozen=True, slots=True)
class AddressClasses:
    """`members`: address -> kinship; `kin`: kinship -> what to ask of its addresses next; `segments` for all others.

    Segments are disjoint, sorted and cover the family; a kinship whose members agree has one segment.
    """

    members: tuple[tuple[int, RemoteSet], ...]
    kin: Mapping[RemoteSet, Segments]
    segments: Segments


def classify(
    remotes: Iterable[Remote], addresses: Mapping[Remote, Mapping[Family, RemoteAddresses]], family: Family
) -> AddressClasses:
    """Split a family's addresses by the remotes that hold them."""
    wanted = sorted(set(remotes), key=repr)
    segments = _segments([(remote, addresses[remote][family].ranges) for remote in wanted], family.last)
    kinship: dict[int, set[Remote]] = {}
    for remote in wanted:
        for address in addresses[remote][family].singles:
            kinship.setdefault(address, set()).add(remote)
    members = tuple(sorted((address, frozenset(kin)) for address, kin in kinship.items()))
    return AddressClasses(members, _kin_segments(members, segments), segments)


def _segments(ranges: Sequence[tuple[Remote, Iterable[Interval]]], last: int) -> Segments:
    """Cut the address space at every end of every range; neighbours with equal remotes are joined."""
    changes: dict[int, list[tuple[Remote, int]]] = {0: []}
    for remote, intervals in ranges:
        for first, end in intervals:
            changes.setdefault(first, []).append((remote, 1))
            changes.setdefault(end + 1, []).append((remote, -1))
    changes.pop(last + 1, None)
    depth: Counter[Remote] = Counter()
    found: list[tuple[int, RemoteSet]] = []
    for first in sorted(changes):
        for remote, step in changes[first]:
            depth[remote] += step
            if not depth[remote]:
                del depth[remote]
        holding = frozenset(depth)
        if not found or found[-1][1] != holding:
            found.append((first, holding))
    ends = [first - 1 for first, _ in found[1:]] + [last]
    return tuple(((first, end), holding) for (first, holding), end in zip(found, ends, strict=True))


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
