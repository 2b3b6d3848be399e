"""Far addresses -> classes: which remotes an address belongs to decides which permissions can matter to it.

Owns the split of one family's address space for one profile. Is given resolved remotes, and the members of groups.
Must not know ports or nftables.

Two look-ups find an address's class. The first one finds members: single addresses of groups, by the exact set of
groups that they are in (their *kinship*). So a member that joins or leaves is one element, whatever the rules are. The
second one is for all other addresses, and for kinships that CIDR blocks cut apart: the disjoint segments of all CIDR
blocks.

Which classes there are follows from how many members of each kinship lie in which segments. That is a sum over all
members, so it can be adjusted from an earlier one, by members on pages that changed, members in segments that changed,
and members of kinships that are asked about for the first time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from sgdataplane.model.members import Kin, MemberPage, Members, Pages
from sgdataplane.model.state import GroupRef, PrefixListRef, Remote
from sgdataplane.net.ranges import Interval, Ranges, united
from sgdataplane.net.values import Family, Prefix
from sgdataplane.policy.resolve import RemoteAddresses

RemoteSet = int  # a bit mask of remotes
Segments = tuple[tuple[Interval, RemoteSet], ...]
MANY = 64  # with more changed segments than this, all members are counted anew


@dataclass(frozen=True)
class Spread:
    """`counts`: (kinship, remotes that hold the address) -> how many members, at least one; for these kinships only."""

    pages: Pages
    kins: AbstractSet[Kin]
    segments: Segments
    counts: Mapping[tuple[Kin, RemoteSet], int]


def spread(pages: Pages, kins: AbstractSet[Kin], segments: Segments, before: Spread | None) -> Spread:
    """Count all members, or adjust an earlier count."""
    turned = [] if before is None else list(_turned(before.segments, segments))
    if before is None or len(turned) > MANY:
        before, turned = Spread({}, frozenset(), segments, {}), []
    kept = kins & before.kins
    known = _Count(kept, before.segments, _of(kept, before))
    for number in before.pages.keys() | pages.keys():
        old, new = before.pages.get(number), pages.get(number)
        if old is not new:
            known.page(old, -1)
            known.page(new, 1)
    for interval, was, held in turned:
        for kin in _within(pages, interval):
            if kin in kept:
                known.add(kin, was, -1)
                known.add(kin, held, 1)
    fresh = _Count(kins - kept, segments, known.counts)
    for page in pages.values() if len(kept) < len(kins) else ():
        fresh.page(page, 1)
    return Spread(pages, kins, segments, fresh.counts)


def _of(kins: AbstractSet[Kin], known: Spread) -> dict[tuple[Kin, RemoteSet], int]:
    """The counts of some of the kinships."""
    if len(kins) == len(known.kins):
        return dict(known.counts)
    return {(kin, held): number for (kin, held), number in known.counts.items() if kin in kins}


class _Count:
    """The counts of some kinships while members come and go. It changes `counts`."""

    def __init__(self, kins: AbstractSet[Kin], segments: Segments, counts: dict[tuple[Kin, RemoteSet], int]) -> None:
        self._kins, self.counts = kins, counts
        self._starts = [first for (first, _), _ in segments]
        self._held = [held for _, held in segments]

    def add(self, kin: Kin, held: RemoteSet, number: int) -> None:
        left = self.counts.get((kin, held), 0) + number
        if left:
            self.counts[kin, held] = left
        else:
            del self.counts[kin, held]

    def page(self, page: MemberPage | None, sign: int) -> None:
        """All members on a page come (1) or go (-1)."""
        for kin, addresses in page.by_kin.items() if page is not None else ():
            if kin not in self._kins:
                continue
            low, high = (bisect_right(self._starts, address) - 1 for address in (addresses[0], addresses[-1]))
            if low == high:
                self.add(kin, self._held[low], sign * len(addresses))
                continue
            for address in addresses:
                self.add(kin, self._held[bisect_right(self._starts, address) - 1], sign)


def _turned(old: Segments, new: Segments) -> Iterator[tuple[Interval, RemoteSet, RemoteSet]]:
    """The pieces of the address space that other remotes hold now, with those that did and those that do."""
    if old == new:
        return
    left, right, start = 0, 0, 0
    while left < len(old) and right < len(new):
        (_, end_old), was = old[left]
        (_, end_new), held = new[right]
        end = min(end_old, end_new)
        if was != held:
            yield (start, end), was, held
        left, right, start = left + (end_old == end), right + (end_new == end), end + 1


def _within(pages: Pages, interval: Interval) -> Iterator[Kin]:
    """The kinship of each member in the interval."""
    first, last = interval
    for page in pages.values():
        for address in page.addresses[bisect_left(page.addresses, first) : bisect_right(page.addresses, last)]:
            yield page.kin[address]


SPARE = 256  # how many remotes keep their bits though no rule names them any more


@dataclass(frozen=True)
class AddressClasses:
    """`blocks`: the blocks of each remote; a group's are the prefixes delegated to its members. `masks`: kinship -> the
    remotes that its members are in, 0 if none; `kin`: remotes of members -> the segments that these members are in;
    `segments`: for all addresses.

    Segments are disjoint, sorted and cover the family; a kinship whose members agree has one segment. Which bit stands
    for a remote depends on earlier compiles, so nothing that is made of classes may depend on the bits.
    """

    places: Mapping[Remote, int]  # remote -> its bit in a RemoteSet
    blocks: Mapping[Remote, Ranges]
    members: Pages
    masks: Mapping[Kin, RemoteSet]
    kin: Mapping[RemoteSet, Segments]
    segments: Segments
    spread: Spread

    def is_like(self, other: AddressClasses) -> bool:
        """Whether both lead to the same chains, whoever the members are."""
        return self.places is other.places and self.segments == other.segments and self.kin == other.kin

    def named(self, some: RemoteSet) -> list[Remote]:
        """The remotes of a set, in an order that doesn't depend on bits."""
        return sorted((remote for remote, place in self.places.items() if some >> place & 1), key=_order)

    def kinships(self) -> dict[int, RemoteSet]:
        """Each member's address with the remotes that it is in by its groups."""
        kin = ((address, self.masks[kin]) for page in self.members.values() for address, kin in page.kin.items())
        return {address: mask for address, mask in kin if mask}


def classify(
    remotes: Iterable[Remote],
    addresses: Mapping[Remote, Mapping[Family, RemoteAddresses]],
    members: Members,
    family: Family,
    before: AddressClasses | None = None,
) -> AddressClasses:
    """Split a family's addresses by the remotes that hold them. `addresses`: of all remotes but groups. `before`: the
    classes of similar remotes and members; it only makes this faster."""
    wanted = sorted(set(remotes) - {Prefix(family.bits, 0, 0)}, key=_order)  # which tells no addresses apart
    if before is not None and len(before.places) > 2 * len(wanted) + SPARE:
        before = None
    places = before.places if before is not None else {}
    if new := [remote for remote in wanted if remote not in places]:
        places = {**places, **{remote: place for place, remote in enumerate(new, len(places))}}
    blocks = {remote: united(_ranges(remote, addresses, members, family)) for remote in wanted}
    segments = _segments({places[remote]: some for remote, some in blocks.items()}, family)
    bits = {remote.security_group_id: 1 << places[remote] for remote in wanted if isinstance(remote, GroupRef)}
    masks = {kin: sum(bits.get(group_id, 0) for group_id in kin) for kin in members.kins(family)}
    pages = members.pages(family)
    found = spread(
        pages, frozenset(kin for kin, mask in masks.items() if mask), segments, before.spread if before else None
    )
    return AddressClasses(places, blocks, pages, masks, _kin_segments(found, masks, family), segments, found)


def _ranges(
    remote: Remote,
    addresses: Mapping[Remote, Mapping[Family, RemoteAddresses]],
    members: Members,
    family: Family,
) -> Sequence[Interval]:
    if isinstance(remote, GroupRef):
        return members.delegated(remote.security_group_id, family)
    return addresses[remote][family].ranges


def _order(remote: Remote) -> tuple[int, int, int, int, str]:
    match remote:
        case Prefix(family_bits, first, length):
            return 0, family_bits, first, length, ""
        case GroupRef(name):
            return 1, 0, 0, 0, name
        case PrefixListRef(name):
            return 2, 0, 0, 0, name


def _segments(ranges: Mapping[int, Sequence[Interval]], family: Family) -> Segments:
    """Cut the address space at every end of every range; neighbours with equal remotes are joined."""
    turns: dict[int, RemoteSet] = {0: 0}
    for place, intervals in ranges.items():
        for first, end in intervals:
            turns[first] = turns.get(first, 0) ^ 1 << place
            turns[end + 1] = turns.get(end + 1, 0) ^ 1 << place
    turns.pop(family.last + 1, None)
    holding = 0
    found: list[tuple[int, RemoteSet]] = []
    for first in sorted(turns):
        holding ^= turns[first]
        if not found or turns[first]:
            found.append((first, holding))
    ends = [first - 1 for first, _ in found[1:]] + [family.last]
    return tuple(((first, end), holding) for (first, holding), end in zip(found, ends, strict=True))


def _kin_segments(found: Spread, masks: Mapping[Kin, RemoteSet], family: Family) -> dict[RemoteSet, Segments]:
    """For each set of groups, the segments that tell its members apart, with the groups' own remotes added to each."""
    used: dict[RemoteSet, set[RemoteSet]] = {}
    for kin, holding in found.counts:
        used.setdefault(masks[kin], set()).add(holding)
    where: dict[RemoteSet, list[Interval]] = {}
    for interval, holding in found.segments:
        where.setdefault(holding, []).append(interval)
    return {mask: _covering(mask, {held: where[held] for held in some}, family) for mask, some in used.items()}


def _covering(mask: RemoteSet, where: Mapping[RemoteSet, Sequence[Interval]], family: Family) -> Segments:
    """Segments for the whole family. Addresses that no member has count as those remotes that come in most pieces."""
    most = max(where, key=lambda held: (len(where[held]), -where[held][0][0]))
    others = sorted((interval, held) for held, intervals in where.items() if held != most for interval in intervals)
    covering: list[tuple[Interval, RemoteSet]] = []
    start = 0
    for (first, end), held in others:
        if first > start:
            covering.append(((start, first - 1), most | mask))
        covering.append(((first, end), held | mask))
        start = end + 1
    if start <= family.last:
        covering.append(((start, family.last), most | mask))
    return tuple(covering)
