"""Far addresses that neither the rules nor the table tell apart: one of each, with the claims that hold there.

Owns the classes of a family's addresses. Is given the state's members, claims and programs. Must not know the order.

An address is known by the block of it that no range cuts, the groups it is a member of, and what each map of single
addresses says of it. 65,536 members cost a few look-ups each, in loops that the interpreter of Python doesn't run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from sgdataplane.model.state import CloudState, GroupRef, NicType, Remote
from sgdataplane.net.values import Family
from sgdataplane.nft.ir import Key, Table, Verdict, VerdictKind
from sgdataplane.proof.claims import Claim, remote_ranges
from sgdataplane.proof.order import Boxes

NOBODY = 0  # the kinship of an address that is in no group
Signs = dict[Key, str]  # what a map says of an address, in a word


@dataclass
class Kinships:
    """Who is a member of what: per family the kinship of each single address, and the groups of each kinship."""

    of: dict[Family, dict[int, int]] = field(default_factory=lambda: {family: {} for family in Family})
    groups: list[tuple[str, ...]] = field(default_factory=lambda: [()])

    @classmethod
    def read(cls, state: CloudState) -> Kinships:
        """A member's addresses are those of its private interfaces (`semantics.is_member`); an address that several
        have is in the groups of all of them."""
        made = cls()
        index: dict[tuple[str, ...], int] = {(): NOBODY}
        ipv4, ipv6 = made.of[Family.IPV4], made.of[Family.IPV6]
        for eni in state.network_interfaces:
            if eni.nic_type is not NicType.INTRANET:
                continue
            for address in eni.addresses:
                known = ipv4 if address.family_bits == 32 else ipv6
                kin = eni.security_group_ids
                if address.value in known:
                    kin = tuple(sorted({*kin, *made.groups[known[address.value]]}))
                known[address.value] = index.setdefault(kin, len(index))
                if len(index) > len(made.groups):
                    made.groups.append(kin)
        return made


@dataclass(frozen=True)
class Side:
    """The claims of one direction in one family, and the address blocks of their remotes."""

    claims: Sequence[Claim]
    family: Family
    blocks: Mapping[Remote, tuple[tuple[int, int], ...]]

    @classmethod
    def of(cls, state: CloudState, claims: Sequence[Claim], family: Family) -> Side:
        remotes = {claim.remote for claim in claims if claim.remote is not None}
        blocks = {
            remote: tuple((int(item.first), int(item.last)) for item in remote_ranges(state, remote, family))
            for remote in remotes
        }
        return cls(claims, family, blocks)

    def cuts(self) -> Iterator[int]:
        for intervals in self.blocks.values():
            for first, last in intervals:
                yield first
                yield last + 1

    def by_remote(self) -> dict[Remote | None, Boxes]:
        """The claims with each remote."""
        found: dict[Remote | None, Boxes] = {}
        for box, claim in enumerate(self.claims):
            found[claim.remote] = found.get(claim.remote, 0) | 1 << box
        return found

    def at_blocks(self, starts: Sequence[int]) -> list[Boxes]:
        """For each block the claims that hold for whoever is in it. `starts` has all cuts."""
        of = self.by_remote()
        turns: dict[int, Boxes] = {}
        for remote, intervals in self.blocks.items():
            for first, last in intervals:
                turns[first] = turns.get(first, 0) ^ of[remote]
                turns[last + 1] = turns.get(last + 1, 0) ^ of[remote]
        holding, found = of.get(None, 0), []
        for start in starts:
            holding ^= turns.get(start, 0)
            found.append(holding)
        return found

    def of_kinships(self, kinships: Kinships) -> list[Boxes]:
        """For each kinship the claims that hold for its members, wherever they are."""
        of = {ref.security_group_id: boxes for ref, boxes in self.by_remote().items() if isinstance(ref, GroupRef)}
        found = []
        for groups in kinships.groups:
            boxes = 0
            for group in groups:
                boxes |= of.get(group, 0)
            found.append(boxes)
        return found


@dataclass(frozen=True, slots=True)
class FarClass:
    """One address of a class; and the claims that hold for it: of each side, in the order of the sides."""

    address: int
    holding: tuple[Boxes, ...]


def far_classes(
    kinships: Kinships, sides: Sequence[Side], table: Table, cuts: Iterable[int], maps: Iterable[str]
) -> list[FarClass]:
    """One class at least for every address. `cuts`, `maps`: what the table asks of far addresses."""
    family = sides[0].family
    every = {0, *cuts, *(cut for side in sides for cut in side.cuts())}
    starts = sorted(start for start in every if start <= family.last)
    at_blocks = [side.at_blocks(starts) for side in sides]
    of_kinships = [side.of_kinships(kinships) for side in sides]
    known = kinships.of[family]
    elements = [_signs(table.elements_of(name)) for name in sorted(maps)]
    special = _special(known, of_kinships, elements)
    found = []
    for (kin, block, *_), address in _signatures(special, known, starts, elements).items():
        pairs = zip(at_blocks, of_kinships, strict=True)
        found.append(FarClass(address, tuple(blocks[block] | kins[kin] for blocks, kins in pairs)))
    taken = set(special)
    for block, address in _first_outside(starts, family.last, taken):
        found.append(FarClass(address, tuple(blocks[block] for blocks in at_blocks)))
    return found


def _signs(elements: Mapping[Key, Verdict | int]) -> Signs:
    """What tells verdicts apart, and is quick to compare."""
    if all(isinstance(verdict, Verdict) and verdict.kind is VerdictKind.GOTO for verdict in elements.values()):
        return {key: verdict.chain for key, verdict in elements.items() if isinstance(verdict, Verdict)}
    return {key: repr(verdict) for key, verdict in elements.items()}


def _special(known: Mapping[int, int], of_kinships: Sequence[Sequence[Boxes]], elements: Sequence[Signs]) -> list[int]:
    """The addresses that differ from their neighbours: members that a claim speaks of, and keys of maps."""
    counts = [any(boxes) for boxes in zip(*of_kinships, strict=True)]
    found = {address: None for address, kin in known.items() if counts[kin]}
    for signs in elements:
        found.update((int(key), None) for key in signs)
    return list(found)


def _signatures(
    addresses: Sequence[int], known: Mapping[int, int], starts: Sequence[int], elements: Sequence[Signs]
) -> dict[tuple[int, ...], int]:
    """(kinship, block, what each map says) -> an address."""
    kins = map(known.get, addresses, repeat(NOBODY))
    blocks = (index - 1 for index in map(bisect_right, repeat(starts), addresses))
    says = (map(signs.get, addresses) for signs in elements)
    return dict(zip(zip(kins, blocks, *says, strict=True), addresses, strict=True))


def _first_outside(starts: Sequence[int], last: int, taken: set[int]) -> Iterator[tuple[int, int]]:
    """Each block with its first address that isn't taken; blocks that are all taken have none."""
    ends = [start - 1 for start in starts[1:]] + [last]
    for block, (address, end) in enumerate(zip(starts, ends, strict=True)):
        while address in taken:
            address += 1  # noqa: PLW2901
        if address <= end:
            yield block, address
