"""The chains of one profile against the rules of its groups: all addresses, protocols, ports, in both families.

Owns how a profile's packets are told apart. Is given an ENI that has the profile, and the chains where it begins.
Must not know what comes before those chains, or after the chains that carry verdicts out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_

from sgdataplane.model import always
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.values import PORT_PROTOCOLS, Address, Direction, Family, Prefix, Verdict
from sgdataplane.nft.ir import CtDirection, Field, Key, Range, Table
from sgdataplane.proof.axes import LACKING, Atoms, Axis, Span
from sgdataplane.proof.claims import Claim, claims, end_chain
from sgdataplane.proof.crossing import DESTINATION, LAST_PORT, LAST_PROTOCOL, NFPROTO, SOURCE, other_family
from sgdataplane.proof.far import FarClass, Kinships, Side, far_classes
from sgdataplane.proof.order import Boxes, Cell, Order
from sgdataplane.proof.program import Asked, Program, Reading
from sgdataplane.proof.walk import Mismatch, Walk

AXES = ("protocol", "local", "source port", "port")
LOCAL = AXES.index("local")
STOPS = {name: name for name in (end_chain(direction, verdict) for direction in Direction for verdict in Verdict)}


@dataclass(frozen=True, slots=True)
class View:
    """Opening packets, or replies, at one hook: where their headers have what a rule speaks of. A reply answers to the
    other direction's rules, and has the ports of its opening packet the other way round."""

    hook: Direction
    family: Family
    is_reply: bool

    @property
    def direction(self) -> Direction:
        return self.hook.other if self.is_reply else self.hook

    @property
    def fields(self) -> tuple[Field, Field, Field, Field, Field]:
        """Of the far address, and of each axis."""
        is_ingress = self.hook is Direction.INGRESS
        far, local = (SOURCE, DESTINATION) if is_ingress else (DESTINATION, SOURCE)
        ports = (Field.TH_SPORT, Field.TH_DPORT)
        source, port = reversed(ports) if self.is_reply else ports
        return far[self.family], Field.L4PROTO, local[self.family], source, port

    def own(self, eni: Eni) -> list[Prefix]:
        """What can be on the ENI's own side: its addresses, and where it is the destination, those that many have."""
        shared = always.SHARED[self.family] if self.hook is Direction.INGRESS else ()
        return [p for p in (*eni.own_prefixes, *shared) if p.family is self.family]

    def reading(self) -> Reading:
        far, *axes = self.fields
        other = other_family(self.family)
        known: dict[Field, Key | None] = {
            Field.NFPROTO: NFPROTO[self.family],
            Field.CT_DIRECTION: CtDirection.REPLY if self.is_reply else CtDirection.ORIGINAL,
            SOURCE[other]: LACKING,
            DESTINATION[other]: LACKING,
        }
        asked: dict[Asked, int] = {(name, None): index for index, name in enumerate(axes)}
        return Reading(known, asked, far)


class ProfileMismatch(Exception):  # noqa: N818  # carries a difference up, as Mismatch does
    """Where a profile's chains differ from its rules: `root` the first of them, `carriers` the ENIs that have it, with
    their interfaces; `claim` what should decide (None: no packet may come there at all)."""

    def __init__(self, check: ProfileCheck, view: View, root: str, walk: Walk, mismatch: Mismatch) -> None:
        super().__init__(str(mismatch))
        self.carriers, self.view, self.root, self.walk, self.mismatch = check.carriers, view, root, walk, mismatch
        self.claim = None if mismatch.box is None else check.sides[view.direction, view.family].claims[mismatch.box]


@dataclass
class ProfileCheck:
    """`carriers`: the ENIs with this profile, and their interfaces; `roots`: the chains that it begins with.
    `is_strict`: all packets, not only those that have addresses with which they come to one of the carriers' rules.

    `cells`, `classes`, `chains`, `maps`: what was compared so far, classes of far addresses, chains and maps that were
    read.
    """

    state: CloudState
    options: Options
    table: Table
    carriers: Sequence[tuple[str, Eni]]
    roots: Mapping[tuple[Direction, Family], Collection[str]]
    is_strict: bool = True
    cells: int = 0
    classes: int = 0
    chains: set[str] = field(default_factory=set)
    maps: set[str] = field(default_factory=set)
    sides: dict[tuple[Direction, Family], Side] = field(default_factory=dict)

    def check(self, kinships: Kinships) -> None:
        """ProfileMismatch if they differ anywhere."""
        _, eni = self.carriers[0]
        for family in Family:
            for direction in Direction:
                made = list(claims(self.state, eni, direction, family, self.options))
                self.sides[direction, family] = Side.of(self.state, made, family)
            self._family(family, kinships)

    def _family(self, family: Family, kinships: Kinships) -> None:
        views = [View(hook, family, is_reply) for hook in Direction for is_reply in (False, True)]
        programs = {view: self._program(view) for view in views}
        walks: dict[View, Walk] = {}
        for direction in Direction:
            both = {view: programs[view] for view in views if view.direction is direction}
            walks |= _walks(both, self.sides[direction, family])
        for hook in Direction:
            seen = [view for view in views if view.hook is hook]
            found = self._classes(seen, [programs[view] for view in seen], kinships)
            self.classes += len(found)
            for index, view in enumerate(seen):
                self._compare(view, walks[view], [(item.address, item.holding[index]) for item in found])

    def _classes(self, views: Sequence[View], programs: Sequence[Program], kinships: Kinships) -> list[FarClass]:
        """Of far addresses at one hook; with each, what holds for the rules of each view."""
        cuts = [cut for program in programs for cut in program.far_cuts]
        maps = {name for program in programs for name in program.far_maps}
        self.maps |= maps
        sides = [self.sides[view.direction, view.family] for view in views]
        return far_classes(kinships, sides, self.table, cuts, maps)

    def _program(self, view: View) -> Program:
        program = Program(self.table, view.reading(), STOPS)
        for root in self.roots.get((view.hook, view.family), ()):
            program.add(root)
        return program

    def _compare(self, view: View, walk: Walk, found: Sequence[tuple[int, Boxes]]) -> None:
        walk.common = reduce(and_, (holding for _, holding in found))
        cell = walk.order.full
        if not self.is_strict:
            cell = (cell[0], self._own_atoms(view, walk.axes[LOCAL]), *cell[2:])
            found = [(address, boxes) for address, boxes in found if not self._is_everyones(view, address)]
        for root in self.roots.get((view.hook, view.family), ()):
            try:
                _compare_root(walk, root, cell, found)
            except Mismatch as mismatch:
                raise ProfileMismatch(self, view, root, walk, mismatch) from mismatch
            finally:
                self.chains.update(walk.program.steps)
        self.cells += walk.cells

    def _own_atoms(self, view: View, axis: Axis) -> Atoms:
        """Where the ENI's own side can be, at one of the carriers."""
        own = [p for _, eni in self.carriers for p in view.own(eni)]
        return axis.overlapping((p.first, p.last) for p in own) if isinstance(axis, Span) else axis.full

    def _is_everyones(self, view: View, address: int) -> bool:
        """Whether a far address is each carrier's own, and so refused as spoofed on its way in."""
        far = Address(view.family.bits, address)
        is_ingress = view.hook is Direction.INGRESS
        return is_ingress and all(any(far in p for p in eni.private_prefixes) for _, eni in self.carriers)


def _compare_root(walk: Walk, root: str, cell: Cell, found: Iterable[tuple[int, Boxes]]) -> None:
    """For each class of far addresses; but once for those that come to the same chain with the same claims."""
    asked = set()
    for address, holding in found:
        chain = walk.program.follow(root, address)
        if (chain, holding) not in asked or chain in walk.program.far_chains:
            asked.add((chain, holding))
            walk.check(chain, cell, holding, address)


def _walks(programs: Mapping[View, Program], side: Side) -> dict[View, Walk]:
    """Of the two views of one direction, over axes cut where its claims or either program cut them."""
    cuts: list[set[int]] = [set() for _ in AXES]
    for claim in side.claims:
        for axis, ranges in enumerate(claim.ranges()):
            cuts[axis].update(Span.cuts_of(ranges or ()))
    for program in programs.values():
        for axis, asked in program.cuts.items():
            cuts[axis].update(Span.cuts_of(asked))
    cuts[0].update(cut for protocol in PORT_PROTOCOLS for cut in (protocol, protocol + 1))
    lasts = (LAST_PROTOCOL, side.family.last, LAST_PORT, LAST_PORT)
    axes = tuple(Span(last, cut) for last, cut in zip(lasts, cuts, strict=True))
    order = _order(side.claims, axes)
    with_ports = axes[0].select([Range.of(protocol) for protocol in PORT_PROTOCOLS])
    return {view: Walk(program, axes, order, with_ports) for view, program in programs.items()}


def _order(made: Sequence[Claim], axes: tuple[Span, ...]) -> Order:
    full = tuple(axis.full for axis in axes)
    regions = [
        tuple(axis.full if r is None else axis.select(r) for axis, r in zip(axes, claim.ranges(), strict=True))
        for claim in made
    ]
    return Order(full, regions, [claim.outcome for claim in made])
