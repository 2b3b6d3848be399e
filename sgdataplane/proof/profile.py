"""The chains of one profile against the rules of its groups: all addresses, protocols, ports, in both families.

Owns how a profile's packets are told apart, where their sessions have what a rule speaks of, and what of a proof holds
for the next table. Is given an ENI that has the profile, and the chains where it begins. Must not know what comes
before those chains, or after the chains that carry verdicts out.

A profile's root looks members up, and leaves all other addresses to one chain. That one is proven as a whole, with the
far address as one axis among others, for the claims on address blocks. Members' chains leave packets to it, too: there
it remains to show that no claim on their groups decides.

A class of far addresses is proven at a chain for the claims that hold for it, in their order. It isn't proven again
where that chain, with all that it leads to, is the same, and so are these claims. What chains further up do is asked
anew of each class.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sgdataplane.contract.fields import NFPROTO, Field
from sgdataplane.contract.sites import Site
from sgdataplane.model import always
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.values import AH, PORT_PROTOCOLS, Direction, Family, Prefix, Verdict
from sgdataplane.nft.ir import Key, Match, Range
from sgdataplane.proof.axes import LACKING, Atoms, Axis, Span
from sgdataplane.proof.claims import AXES, Claim, Ranges, claims, end_chain
from sgdataplane.proof.crossing import ANSWERED, OPENED, other_family
from sgdataplane.proof.far import FarClass, Kinships, Side, Words, far_classes
from sgdataplane.proof.order import Boxes, BoxOrder, Cell
from sgdataplane.proof.program import Program
from sgdataplane.proof.step import Asked, FieldReading
from sgdataplane.proof.structure import Structure
from sgdataplane.proof.walk import Mismatch, Walk

BEHIND_AH = ("protocol", "source_port", "port")  # fields of the entry that belong to another packet there
IS_AH = Match(Field.L4PROTO, (Range.of(AH),))


@dataclass(frozen=True, slots=True)
class SessionKind:
    """All packets whose session one direction's rules judge: opening packets, replies, ICMP errors. They are judged by
    the opening packet as it is on the wire, which conntrack keeps. It is in the entry's original tuple if the packet
    meets its hook on the way in (`is_arriving`); else, as addresses may have been translated by then, in the reply
    tuple. AH over IPv6 carries the entry of the packet behind the header, so its protocol is taken from the header."""

    direction: Direction
    family: Family
    is_arriving: bool
    is_behind_ah: bool = False

    @property
    def fields(self) -> Mapping[str, Field]:
        """The fields of the far address ("far") and of each axis, in the order of the axes."""
        return self._fields(self.family)

    def _fields(self, family: Family) -> Mapping[str, Field]:
        ends = (OPENED if self.is_arriving else ANSWERED)[family]
        is_ingress = self.direction is Direction.INGRESS
        far, local = ("source", "destination") if is_ingress else ("destination", "source")
        found = {**ends, "local": ends[local]}
        return {"far": ends[far], **{axis.name: found[axis.name] for axis in AXES if axis.name in found}}

    def own(self, eni: Eni) -> list[Prefix]:
        """The addresses that can be on the ENI's side: its own, and where it is the destination, multicast and the
        like."""
        shared = always.SHARED[self.family] if self.direction is Direction.INGRESS else ()
        return [p for p in (*eni.own_prefixes, *shared) if p.family is self.family]

    def reading(self, *, has_far_axis: bool = False) -> FieldReading:
        """How such packets' fields are read. With AH, no rule may ask for the entry's protocol or ports.
        `has_far_axis`: the far address is one more axis, the last one."""
        mine, others = self.fields, self._fields(other_family(self.family))
        known: dict[Field, Key | None] = {
            Field.NFPROTO: NFPROTO[self.family],
            others["far"]: LACKING,
            others["local"]: LACKING,
        }
        unasked = BEHIND_AH if self.is_behind_ah else ()
        asked: dict[Asked, int] = {
            (mine[axis.name], None): index
            for index, axis in enumerate(AXES)
            if axis.name in mine and axis.name not in unasked
        }
        answers = {IS_AH: self.is_behind_ah} if self.family is Family.IPV6 else {}
        if has_far_axis:
            asked[mine["far"], None] = FAR
        return FieldReading(known, asked, None if has_far_axis else mine["far"], answers=answers)


FAR = len(AXES)  # the axis of far addresses, where there is one
NOTHING: frozenset[str] = frozenset()
Class = tuple[str, Boxes, Boxes]  # the chain that it comes to, and the claims that hold for it: all, and by its block


@dataclass(frozen=True, slots=True)
class ProvenKind:
    """What is proven for one kind. `rest`: the chains that have the addresses of no member. `near`: chains that neither
    ask for the far address nor lead to one that does, but for these. `proven`: classes at such chains."""

    rest: AbstractSet[str] = NOTHING
    near: AbstractSet[str] = NOTHING
    proven: AbstractSet[Class] = frozenset()

    def without(self, turned: AbstractSet[str]) -> ProvenKind:
        """Without chains that have changed."""
        if turned.isdisjoint(self.near) and turned.isdisjoint(self.rest):
            return self
        proven = {known for known in self.proven if known[0] not in turned}
        return ProvenKind(self.rest - turned, self.near - turned, proven)


@dataclass(frozen=True)
class ProvenProfile:
    """A proven profile. `basis`: the part of the specification that its claims follow from, but for the members of the
    groups in `spoken`; `roots`: the chains that it begins with."""

    basis: object
    spoken: frozenset[str]
    roots: Mapping[tuple[Direction, Family], AbstractSet[str]]
    sides: Mapping[tuple[Direction, Family], Side]
    kinds: Mapping[SessionKind, ProvenKind] = field(default_factory=dict)

    def without(self, turned: AbstractSet[str]) -> ProvenProfile:
        """Without chains that have changed, by their names: a later proof must not take them for what they were."""
        kinds = {kind: known.without(turned) for kind, known in self.kinds.items()}
        return ProvenProfile(self.basis, self.spoken, self.roots, self.sides, kinds)


class Renumbering:
    """Finds the earlier numbers of claims, which change where others come or go."""

    def __init__(self, before: Sequence[Claim], after: Sequence[Claim]) -> None:
        self._runs: list[tuple[int, Boxes, int]] = []  # first number now, how many as a mask, first number before
        self._known: Boxes = 0
        self._all = before is after
        for new, old, length in () if self._all else _runs(before, after):
            self._runs.append((new, (1 << length) - 1, old))
            self._known |= ((1 << length) - 1) << new

    def before(self, boxes: Boxes) -> Boxes | None:
        """The earlier numbers of these claims, in the same order; None if one of them is new."""
        if self._all:
            return boxes
        if boxes & ~self._known:
            return None
        found = 0
        for new, mask, old in self._runs:
            found |= (boxes >> new & mask) << old
        return found


def _runs(before: Sequence[Claim], after: Sequence[Claim]) -> list[tuple[int, int, int]]:
    """(first number now, first number before, length) of runs of equal claims, in the order of both."""
    most = min(len(before), len(after))
    start = next((n for n in range(most) if before[n] != after[n]), most)
    end = next((n for n in range(most - start) if before[-1 - n] != after[-1 - n]), most - start)
    place = {claim: number for number, claim in enumerate(before[: len(before) - end]) if number >= start}
    found, last = [(0, 0, start)], start - 1
    for number in range(start, len(after) - end):
        old = place.get(after[number], -1)
        if old > last:
            found.append((number, old, 1))
            last = old
    return [*found, (len(after) - end, len(before) - end, end)]


PROTOCOL, LOCAL = map([axis.name for axis in AXES].index, ("protocol", "local"))
STOPS = {name: name for name in (end_chain(direction, verdict) for direction in Direction for verdict in Verdict)}
WordsOf = Callable[[Family, Sequence[str]], Words]  # of a family, and of the maps of these names


class Todo(NamedTuple):
    """A class of far addresses that has to be compared: the chain that it begins at, the chain that it comes to, and
    one of its addresses with the claims that hold for it."""

    root: str
    chain: str
    of: FarClass


class ProfileMismatch(Exception):  # noqa: N818  # carries a difference up, as Mismatch does
    """A difference between a profile's chains and its rules. `root`: the chain that packets begin at; `carriers`: the
    ENIs with the profile, and their interfaces; `claim`: what should decide (None: no packet may come there)."""

    def __init__(self, check: ProfileCheck, kind: SessionKind, root: str, walk: Walk, mismatch: Mismatch) -> None:
        super().__init__(str(mismatch))
        self.carriers, self.kind, self.root, self.walk, self.mismatch = check.carriers, kind, root, walk, mismatch
        side = check.sides[kind.direction, kind.family]
        made = side.claims if len(walk.axes) == FAR else [claim for claim, _ in side.located]
        self.claim = None if mismatch.box is None else made[mismatch.box]


@dataclass
class ProfileCheck:
    """The check of one profile. `carriers`: the ENIs that have it, and their interfaces; `roots`: the chains that it
    begins with. `before`: the profile as an earlier proof left it; the structure has what changed since. `is_strict`:
    compare all packets, not only those with addresses that reach the carriers' rules.

    `cells`, `classes`, `chains`: what was compared so far, classes of far addresses, and chains that were read.
    `sides`, `kinds`: for the next proof.
    """

    state: CloudState
    options: Options
    site: Site
    structure: Structure
    carriers: Sequence[tuple[str, Eni]]
    roots: Mapping[tuple[Direction, Family], Collection[str]]
    before: ProvenProfile | None = None
    is_strict: bool = True
    cells: int = 0
    classes: int = 0
    chains: set[str] = field(default_factory=set)
    sides: dict[tuple[Direction, Family], Side] = field(default_factory=dict)
    kinds: dict[SessionKind, ProvenKind] = field(default_factory=dict)
    _rests: dict[SessionKind, AbstractSet[str]] = field(default_factory=dict)

    def check(self, kinships: Kinships, words_of: WordsOf, *, has_same_claims: bool = False) -> None:
        """ProfileMismatch if chains and rules differ anywhere. `has_same_claims`: the claims are those of `before`."""
        _, eni = self.carriers[0]
        sides = self.before.sides if self.before is not None and has_same_claims else {}
        for family in Family:
            for direction in Direction:
                before = sides.get((direction, family))
                made = before.claims if before else list(claims(self.state, eni, direction, family, self.options))
                self.sides[direction, family] = Side.of(self.state, kinships, made, family, before)
                self._direction(direction, family, words_of)

    def _direction(self, direction: Direction, family: Family, words_of: WordsOf) -> None:
        is_arriving = not self.site.is_leaving(direction)
        behind_ah = (False, True) if family is Family.IPV6 else (False,)
        kinds = [SessionKind(direction, family, is_arriving, is_behind_ah) for is_behind_ah in behind_ah]
        side = self.sides[direction, family]
        programs: dict[SessionKind, Program] = {}
        known: dict[SessionKind, ProvenKind] = {}
        for kind in kinds:
            self._check_rest(kind, side)
            known[kind] = self._known(kind)
            programs[kind] = self._program(kind, known[kind].near)
        found = self._classes(side, list(programs.values()), words_of)
        todo = {kind: self._todo(kind, program, found, known[kind]) for kind, program in programs.items()}
        asked = {kind: program for kind, program in programs.items() if todo[kind]}
        self.classes += len(found) if asked else 0
        for kind, walk in (_walks(asked, side) if asked else {}).items():
            walk.proven = self._rest(kind)
            self._compare(kind, walk, todo[kind])

    def _check_rest(self, kind: SessionKind, side: Side) -> None:
        """Compare the chains that have the addresses of no member, unless they are proven."""
        before = None if self.before is None else self.before.sides[kind.direction, kind.family]
        is_same = before is not None and before.located == side.located
        known = self._before(kind).rest - self.structure.turned if is_same else NOTHING
        for chain in self._rest(kind) - known:
            program = Program(self.structure.table, kind.reading(has_far_axis=True), STOPS, self.structure.lookups)
            program.add(chain)
            walk = _far_walk(program, side)
            try:
                walk.check(chain, self._cell(kind, walk), walk.order.all)
            except Mismatch as mismatch:
                raise ProfileMismatch(self, kind, self._roots(kind)[0], walk, mismatch) from mismatch
            self.classes += walk.axes[FAR].full.bit_length()
            self.chains.update(program.steps)
            self.cells += walk.cells

    def _rest(self, kind: SessionKind) -> AbstractSet[str]:
        """The chains to which the roots leave all addresses that they don't look up."""
        if kind not in self._rests:
            program = Program(self.structure.table, kind.reading(), STOPS, self.structure.lookups)
            self._rests[kind] = {chain for root in self._roots(kind) if (chain := program.rest(root))} - STOPS.keys()
        return self._rests[kind]

    def _classes(self, side: Side, programs: Sequence[Program], words_of: WordsOf) -> list[FarClass]:
        cuts = [cut for program in programs for cut in program.far_cuts]
        maps = {name for program in programs for name in program.far_maps}
        return far_classes(words_of(side.family, sorted(maps)), side, cuts)

    def _program(self, kind: SessionKind, near: AbstractSet[str]) -> Program:
        """The chains from the roots on, as far as they ask for the far address, without those that are proven."""
        program, roots = Program(self.structure.table, kind.reading(), STOPS, self.structure.lookups), self._roots(kind)
        for root in roots:
            program.add(root, (near | self._rest(kind)) - set(roots))
        return program

    def _roots(self, kind: SessionKind) -> Sequence[str]:
        return sorted(self.roots.get((kind.direction, kind.family), ()))

    def _before(self, kind: SessionKind) -> ProvenKind:
        return ProvenKind() if self.before is None else self.before.kinds.get(kind, ProvenKind())

    def _known(self, kind: SessionKind) -> ProvenKind:
        """What is still proven of the chains before those that have the rest."""
        before, rest = self._before(kind), self._rest(kind)
        if before.rest != rest:
            return ProvenKind()
        return replace(before.without(self.structure.turned_before(rest) - rest), rest=rest)

    def _todo(self, kind: SessionKind, program: Program, found: Sequence[FarClass], before: ProvenKind) -> list[Todo]:
        """The classes that aren't proven yet. Of classes that come to the same chain with the same claims it has only
        one, unless the chain asks for the far address again."""
        claims, rest = self.sides[kind.direction, kind.family].claims, self._rest(kind)
        then = claims if self.before is None else self.before.sides[kind.direction, kind.family].claims
        renumbering, proven, todo = Renumbering(then, claims), set[Class](), list[Todo]()
        for root in self._roots(kind):
            for item in found:
                chain = program.follow(root, item.address)
                if chain in rest and item.holding == item.by_block:
                    continue
                place = (chain, item.holding, item.by_block)
                if chain in program.far_chains:
                    todo.append(Todo(root, chain, item))
                elif place not in proven:
                    proven.add(place)
                    if (chain, *map(renumbering.before, place[1:])) not in before.proven:
                        todo.append(Todo(root, chain, item))
        for entry in todo:
            program.add(entry.chain, rest)
        near = before.near | (program.steps.keys() - program.far_chains)
        self.kinds[kind] = ProvenKind(rest, near, proven)
        return todo

    def _compare(self, kind: SessionKind, walk: Walk, todo: Sequence[Todo]) -> None:
        cell = self._cell(kind, walk)
        for root, chain, of in todo:
            try:
                walk.check(chain, cell, of.holding, of.address, of.by_block)
            except Mismatch as mismatch:
                raise ProfileMismatch(self, kind, root, walk, mismatch) from mismatch
        self.chains.update(walk.program.steps)
        self.cells += walk.cells

    def _cell(self, kind: SessionKind, walk: Walk) -> Cell:
        """All packets of a kind."""
        cell = list(walk.order.full)
        if kind.is_behind_ah:
            cell[PROTOCOL] = walk.axes[PROTOCOL].single(AH)
        if not self.is_strict:
            cell[LOCAL] = self._own_atoms(kind, walk.axes[LOCAL])
        return tuple(cell)

    def _own_atoms(self, kind: SessionKind, axis: Axis) -> Atoms:
        """The atoms that the own addresses of any carrier have a part in."""
        own = [p for _, eni in self.carriers for p in kind.own(eni)]
        return axis.overlapping((p.first, p.last) for p in own) if isinstance(axis, Span) else axis.full


def _walks(programs: Mapping[SessionKind, Program], side: Side) -> dict[SessionKind, Walk]:
    """Walks for the kinds of one direction, over axes that are cut where its claims or any program need it."""
    axes = _axes(side.family, [claim.ranges for claim in side.claims], list(programs.values()))
    order = _order(side.claims, [claim.ranges for claim in side.claims], axes)
    with_ports = _with_ports(axes)
    return {kind: Walk(program, axes, order, with_ports) for kind, program in programs.items()}


def _far_walk(program: Program, side: Side) -> Walk:
    """A walk with an axis of far addresses, for the claims that hold for addresses whoever has them."""
    claims = [claim for claim, _ in side.located]
    ranges = [
        (*claim.ranges, None if blocks is None else tuple(Range(*block) for block in blocks))
        for claim, blocks in side.located
    ]
    axes = _axes(side.family, ranges, [program], has_far_axis=True)
    return Walk(program, axes, _order(claims, ranges, axes), _with_ports(axes))


AxisRanges = tuple[Ranges | None, ...]  # of one claim, by axis


def _axes(
    family: Family, asked: Sequence[AxisRanges], programs: Sequence[Program], *, has_far_axis: bool = False
) -> tuple[Span, ...]:
    lasts = [*(axis.last(family) for axis in AXES), *([family.last] if has_far_axis else [])]
    cuts: list[set[int]] = [set() for _ in lasts]
    for ranges in asked:
        for axis, some in enumerate(ranges):
            cuts[axis].update(Span.cuts_of(some or ()))
    for program in programs:
        for axis, found in program.cuts.items():
            cuts[axis].update(Span.cuts_of(found))
    cuts[PROTOCOL].update(cut for protocol in (*PORT_PROTOCOLS, AH) for cut in (protocol, protocol + 1))
    return tuple(Span(last, cut) for last, cut in zip(lasts, cuts, strict=True))


def _order(made: Sequence[Claim], asked: Sequence[AxisRanges], axes: tuple[Span, ...]) -> BoxOrder:
    full = tuple(axis.full for axis in axes)
    regions = [
        tuple([axis.full if r is None else axis.select(r) for axis, r in zip(axes, ranges, strict=True)])
        for ranges in asked
    ]
    return BoxOrder(full, regions, [claim.outcome for claim in made])


def _with_ports(axes: Sequence[Span]) -> Atoms:
    return axes[PROTOCOL].select([Range.of(protocol) for protocol in PORT_PROTOCOLS])
