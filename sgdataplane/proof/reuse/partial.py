"""Repeat the walk of addresses where something changed, and nowhere else.

Owns which packets these are, and their walk. It is given an earlier proof, and what must hold now. It must not know how
leaves are judged.

The earlier proof says that the earlier chains do what the earlier claims say, for all packets. A packet is judged as
before, so nothing has to be shown for it, if no claim that changed holds for it and the chains treat it as before. All
other packets are in boxes (regions.py). Each box is walked like the whole: today's chains against today's claims.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

from sgdataplane.model.state import Remote
from sgdataplane.net.ranges import symmetric_difference
from sgdataplane.net.values import AH, PORT_PROTOCOLS
from sgdataplane.nft.changes import between
from sgdataplane.nft.ir import Range
from sgdataplane.proof.reuse.regions import ChainPairs, ClippedSpan, Covered, RegionBox, UntoldError, ahead, is_met
from sgdataplane.proof.reuse.shared import Shared, SideClaims, far_of
from sgdataplane.proof.spec.axes import Axis
from sgdataplane.proof.spec.claims import AXES, PORT, Claim, Ranges
from sgdataplane.proof.spec.kinds import FAR, PROTOCOL, SessionKind
from sgdataplane.proof.spec.order import BoxOrder, meet
from sgdataplane.proof.walk.program import Program
from sgdataplane.proof.walk.ranks import ACCEPTS
from sgdataplane.proof.walk.walk import Mismatch, Walk

MAX_CLAIMS, MAX_WALKS = 16, 12  # if more claims changed, or boxes are to be walked, everything is walked
PORTS = 0xFFFF
Blocks = Mapping[Remote, Ranges]


@dataclass
class PartialWalk:
    """The walks of all boxes in which something changed."""

    shared: Shared
    kind: SessionKind
    side: SideClaims
    claims: Sequence[Claim]
    """The claims of the earlier proof."""
    blocks: Blocks
    """The blocks of remotes in the earlier proof."""
    leaves: Container[str]
    """The names of leaves of the earlier proof."""
    last_chains: set[str] = field(default_factory=set)
    """The leaves that packets came to; filled by the walks."""
    names: set[str] = field(default_factory=set)
    """The chains on their way that may be new; filled by the walks."""
    cells: int = 0
    """How many ends of walks were compared."""

    def __post_init__(self) -> None:
        self.program = self.new_program()

    def new_program(self, within: Mapping[int, tuple[int, int]] | None = None) -> Program:
        """Return a program without chains. It reads look-ups only for the numbers `within` these bounds, by axis."""
        structure, reading = self.shared.structure, self.kind.reading(by_group_set=False)
        ranks, lookups = self.shared.winners.leaves, structure.lookups
        return Program(structure.table, reading, {}, lookups, codes=ACCEPTS, ranks=ranks, within=within or {})

    def shows_all_right(self, entries: Sequence[str]) -> bool:
        """Return whether these walks show that the chains are right for all packets.

        False doesn't say that they are wrong: it also means that it can't be told, that a walk of everything is no more
        work, or that a changed chain has a problem, whether a packet meets it or not.
        """
        try:
            parts = [(box, self._claims_in(box)) for box in self._boxes(entries)]
            if sum(len(claims) for _, claims in parts) > len(self.side.of_addresses):
                return False
            self.program = self.new_program(_hull([box for box, _ in parts]))
            for (box, claims), entry in product(parts, entries):
                self._walk(entry, box, claims)
        except (UntoldError, Mismatch):
            return False
        read = self.program.steps
        self.names |= read.keys()
        return not any(step.problem for name in self.shared.structure.changed & read.keys() for step in read[name])

    def _boxes(self, entries: Sequence[str]) -> list[RegionBox]:
        """Return the boxes to walk, without those that are a part of another one."""
        found = list(dict.fromkeys([*self._of_claims(), *self._of_chains(entries)]))
        if len(found) > MAX_WALKS:
            raise UntoldError
        return [box for box in found if not any(_is_in(box, other) for other in found if other is not box)]

    def _claims_in(self, box: RegionBox) -> list[Claim]:
        """Return the claims that can hold for packets of a box."""
        (low, high), (first, last) = _ends(box[FAR], self.side.family.last), _ends(box[PORT], PORTS)
        near = [
            claim
            for claim in self.side.of_addresses
            if (hull := claim.hull) is None
            or (hull[0] <= high and hull[1] >= low and hull[2] <= last and hull[3] >= first)
        ]
        return [claim for claim in near if is_met(box, (*claim.ranges, self.side.far(claim)))]

    def _of_chains(self, entries: Sequence[str]) -> list[RegionBox]:
        """Return the boxes where today's chains may differ from the earlier ones."""
        pairs = ChainPairs(self.shared.structure, self.program.reading, self.leaves)
        for entry in entries:
            pairs.compare(entry, entry, (None,) * (FAR + 1))
        self.names |= pairs.names
        return pairs.boxes

    def _of_claims(self) -> Iterator[RegionBox]:
        """Yield the boxes where claims hold that came or went, or have other blocks.

        All other claims are in the same order as before.
        """
        gone, come = between(self.claims, self.side.of_addresses)
        if len(gone) + len(come) > MAX_CLAIMS:
            raise UntoldError
        yield from (_box(claim, self.blocks) for claim in gone)
        yield from (_box(claim, self.side.blocks) for claim in come)
        moved = {r for r, ranges in self.blocks.items() if self.side.blocks.get(r, ranges) != ranges}
        for claim in self.side.of_addresses if moved else ():
            if claim.remote is not None and claim.remote in moved:
                yield (*claim.ranges, _apart(self.blocks[claim.remote], self.side.blocks[claim.remote]))

    def _walk(self, entry: str, box: RegionBox, claims: Sequence[Claim]) -> None:
        """Walk a box from one chain for addresses on.

        Raises:
            Mismatch: A packet in the box isn't judged as it must be.
        """
        program = self.program
        program.add_within(entry, partial(ahead, box=box))
        program.behead(entry)
        axes = self._axes_of(box, claims)
        full = tuple(axis.full for axis in axes)
        regions = [tuple(map(_atoms, axes, (*claim.ranges, self.side.far(claim)))) for claim in claims]
        cell = meet(full, tuple(map(_atoms, axes, box)))
        if cell is not None and self.kind.is_behind_ah:
            cell = meet(cell, (*full[:PROTOCOL], axes[PROTOCOL].single(AH), *full[PROTOCOL + 1 :]))
        if cell is None:
            return
        order = BoxOrder(full, regions, [claim.outcome for claim in claims])
        with_ports = axes[PROTOCOL].select([Range.of(protocol) for protocol in PORT_PROTOCOLS])
        walk = Walk(program, axes, order, with_ports)
        walk.check(entry, cell, order.all)
        self.last_chains |= walk.last_chains
        self.cells += walk.cells

    def _axes_of(self, box: RegionBox, claims: Sequence[Claim]) -> tuple[ClippedSpan, ...]:
        """Cut the axes for a box, where its claims or chains ask for them."""
        family, program = self.side.family, self.program
        lasts = [*(axis.last(family) for axis in AXES), family.last]
        made = []
        for axis, (last, within) in enumerate(zip(lasts, box, strict=True)):
            asked = [*_near(program.cuts.get(axis, ()), within), *(within or ())]
            for claim in claims:
                asked += (self.side.far(claim) if axis == FAR else claim.ranges[axis]) or ()
            cuts = set(ClippedSpan.cuts_of(asked))
            if axis == PROTOCOL:
                cuts.update(cut for protocol in (*PORT_PROTOCOLS, AH) for cut in (protocol, protocol + 1))
            made.append(ClippedSpan(last, cuts, within))
        return tuple(made)


def _ends(ranges: Covered, last: int) -> tuple[int, int]:
    """Return the first and the last number of ranges. There is at least one."""
    return (0, last) if ranges is None else (int(ranges[0].first), int(ranges[-1].last))


def _hull(boxes: Sequence[RegionBox]) -> Mapping[int, tuple[int, int]]:
    """Return the first and the last number that any of the boxes has, by axis.

    Axes on which a box has all numbers are left out.
    """
    found = {}
    for axis, covered in enumerate(zip(*boxes, strict=True)):
        ends = [_ends(ranges, 0) for ranges in covered if ranges]
        if len(ends) == len(boxes):
            found[axis] = min(first for first, _ in ends), max(last for _, last in ends)
    return found


def _near(ranges: Sequence[Range], within: Covered) -> Sequence[Range]:
    """Return the ranges that begin or end in a box, or right beside it."""
    if not within:
        return ranges
    low, high = int(within[0].first) - 1, int(within[-1].last) + 1
    return [item for item in ranges if int(item.last) >= low and int(item.first) <= high]


def _box(claim: Claim, blocks: Blocks) -> RegionBox:
    return (*claim.ranges, far_of(claim, blocks))


def _is_in(box: RegionBox, other: RegionBox) -> bool:
    """Return whether a box is certainly a part of another one."""
    return all(theirs is None or mine == theirs for mine, theirs in zip(box, other, strict=True))


def _apart(one: Ranges, other: Ranges) -> Ranges:
    """Return the numbers that exactly one of both has."""
    numbers = (tuple([(int(item.first), int(item.last)) for item in some]) for some in (one, other))
    return tuple(Range(first, last) for first, last in symmetric_difference(*numbers))


def _atoms(axis: Axis, ranges: Covered) -> int:
    return axis.full if ranges is None else axis.select(ranges)
