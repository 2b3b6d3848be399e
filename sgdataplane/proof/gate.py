"""The fixed part of a table against its clauses: every header field and every kind of session, at every interface.

Owns the comparison before rules are asked and after they have decided, interface by interface; and when two interfaces
differ only in names and numbers, so that they are walked once. Is given the table and the ENIs. Must not know rules:
where they begin, this part ends.

A walk sees chains as places, values as atoms, and effects as things that are equal or not. So two walks with the same
places, atoms, ends and order go the same way: they have one form. In it an interface's slot is written as `own`, also
where it stands in the clauses. Equal things stay equal by that and different things stay different, as long as marks
are written or kept whole. The counters that belong to the ENI alone are written in the same way.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from sgdataplane.contract.counters import eni_counter
from sgdataplane.contract.tables import LOOPBACK
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Count, Key, Match, SetMark, Verdict
from sgdataplane.proof.axes import holds, representatives
from sgdataplane.proof.crossing import Crossing, Space
from sgdataplane.proof.fixed import JUDGE, FixedClause, end_clauses
from sgdataplane.proof.order import BoxOrder, Cell
from sgdataplane.proof.program import Program
from sgdataplane.proof.specification import ENDS, Namespace
from sgdataplane.proof.step import Effect, FieldReading, RuleStep
from sgdataplane.proof.structure import Structure
from sgdataplane.proof.walk import Mismatch, Walk

Form = Hashable


@dataclass(frozen=True, slots=True)
class Slots:
    """The masks of slots in a mark, each with this interface's slot there; and the counters of its ENI."""

    own: Mapping[int, int]
    counters: tuple[str, ...] = ()

    def effect(self, effect: Effect) -> Hashable:
        """The effect with "own" for each slot of this interface and each counter of its ENI."""
        if isinstance(effect, Count):
            return ("own", self.counters.index(effect.counter)) if effect.counter in self.counters else effect
        if not isinstance(effect, SetMark):
            return effect
        value, found = effect.value, list[Hashable]()
        for mask, slot in self.own.items():
            kept, written = effect.keep & mask, effect.value & mask
            if (kept and kept != mask) or (kept and written):
                return effect, tuple(self.own.values())  # slots made of parts: no other interface is like this one
            found.append("own" if written == slot else written)
            value &= ~mask
        return effect.keep, value, *found

    def outcome(self, outcome: tuple[Iterable[Effect], str]) -> Hashable:
        return tuple(map(self.effect, outcome[0])), outcome[1]


def form_of(walk: Walk, begin: str, cells: Sequence[Cell], slots: Slots) -> tuple[Form, list[str]]:
    """The form of the walk from a chain on, and the names of its chains in the order in which the form has them."""
    order, places = walk.order, _Places(walk, begin, slots)
    outcomes = tuple(map(slots.outcome, order.outcomes))  # type: ignore[arg-type]
    specified = order.full, tuple(order.regions), outcomes, walk.with_ports, tuple(cells)
    return (tuple(places.forms()), specified), places.names


class _Places:
    """Numbers for chains, in the order in which they are met."""

    def __init__(self, walk: Walk, begin: str, slots: Slots) -> None:
        self._walk, self._slots = walk, slots
        self.names = [begin]
        self._numbers = {begin: 0}

    def forms(self) -> Iterable[Hashable]:
        program = self._walk.program
        for name in self.names:  # grows on the way
            way_out = program.outs.get(name)
            if way_out is None:
                yield tuple(map(self._step, self._walk.bound(name)))
            elif name in program.stops:
                yield program.stops[name]
            else:
                yield self._slots.outcome((way_out[0], "")), self._number(way_out[1])

    def _number(self, chain: str) -> int:
        if chain not in self._numbers:
            self._numbers[chain] = len(self.names)
            self.names.append(chain)
        return self._numbers[chain]

    def _verdict(self, verdict: Verdict | None) -> Hashable:
        return verdict if verdict is None or not verdict.chain else (verdict.kind, self._number(verdict.chain))

    def _step(self, step: RuleStep) -> Hashable:
        return (
            step.limits,
            step.guard,
            tuple(map(self._slots.effect, step.effects)),
            self._verdict(step.verdict),
            tuple((self._verdict(verdict), atoms) for verdict, atoms in step.parts),
            step.axis,
            step.problem,
            step.then and self._step(step.then),
        )


RULES = "profile-"  # what the chains are called where the rules of an ENI begin
Roots = Mapping[tuple[Direction, Family], AbstractSet[str]]  # where the rules of an ENI begin, for either direction


class GateMismatch(Exception):  # noqa: N818  # carries a difference up, as Mismatch does
    """A difference between the fixed part and its clauses. `chain`: where the packets were put in. `is_adopting`: it
    holds while the ENI is being adopted."""

    def __init__(self, beginning: Beginning, space: Space, mismatch: Mismatch) -> None:
        super().__init__(str(mismatch))
        self.chain, self.clauses, self.is_adopting = beginning.chain, beginning.clauses, beginning.is_adopting
        self.space, self.mismatch = space, mismatch


@dataclass(frozen=True, slots=True)
class Beginning:
    """A chain to begin at, and what must happen to packets from there on."""

    chain: str
    clauses: Sequence[FixedClause]
    is_adopting: bool = False


@dataclass(frozen=True, slots=True)
class ProvenGate:
    """One interface whose fixed part is proven. `basis`: the part of the specification that it was compared with.
    `chains`, `maps`, `keys`: what was read of the table; of some maps only the values of single keys. `roots`: the
    chains of rules that it leads to."""

    basis: object
    chains: frozenset[str]
    maps: frozenset[str]
    keys: Mapping[tuple[str, Key], object]
    roots: Roots

    def is_same(self, basis: object, structure: Structure) -> bool:
        """Whether the comparison would be the same: of the same chains and maps with the same basis. The structure has
        what changed since it was proven."""
        return (
            structure.changed.isdisjoint(self.chains)
            and structure.changed_maps.isdisjoint(self.maps)
            and all(
                _said(structure, *asked) == value
                for asked, value in self.keys.items()
                if asked[0] in structure.changed_maps
            )
            and self.basis == basis
        )


@dataclass(frozen=True, slots=True)
class ProvenEnd:
    """A chain that carries verdicts out, proven at one interface. `program`: what was read of it."""

    beginning: Beginning
    ifname: str
    program: Program

    def is_for(self, beginning: Beginning, ifname: str) -> bool:
        """Whether that proves it at another interface: if it asks no map, and all matches on names have the same result
        there."""
        program = self.program
        same = all(holds(match, ifname) == holds(match, self.ifname) for match in program.names)
        return same and not program.keys and not program.maps and self.beginning == beginning


@dataclass
class GateCheck:
    """The check of all interfaces. `forms`: of walks that were right, here or in earlier tables, each with the stops
    that packets came to, by their numbers. `ends`: chains that were right in this table, at one interface. `cells`,
    `chains`: what was compared so far, and the chains that were read."""

    structure: Structure
    namespace: Namespace
    forms: dict[Form, tuple[int, ...]] = field(default_factory=dict)
    cells: int = 0
    chains: set[str] = field(default_factory=set)
    ends: dict[tuple[Direction, Family, str], ProvenEnd] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._beginnings = {name: JUDGE[side] for name in self.structure.table.chain if (side := _judging(name))}

    def names(self) -> list[str]:
        """All interfaces that state or table name, one for each name that stands for many, and one that nobody
        names."""
        wanted = self.namespace.wanted
        named = {*self.structure.interfaces, *self.namespace.enis, LOOPBACK, *wanted.internal, *wanted.uplinks}
        return representatives(named)

    def check(self, ifname: str) -> ProvenGate:
        """Compare table and clauses at one interface. GateMismatch if they differ anywhere."""
        one = _InterfaceCheck(self, ifname)
        for hook, family in product(Direction, Family):
            one.check(Crossing(self.namespace.wanted.site, hook, family, ifname))
        self.cells += one.cells
        self.chains |= one.chains
        keys = {asked: _said(self.structure, *asked) for asked in one.keys}
        basis = self.namespace.basis(ifname)
        return ProvenGate(basis, frozenset(one.chains), frozenset(one.maps), keys, one.roots)

    def stops(self, beginning: Beginning) -> dict[str, str]:
        """The chains at which a walk stops: where verdicts are carried out, and where rules of an ENI begin."""
        stops = {**{name: name for name in ENDS}, **self._beginnings}
        stops.pop(beginning.chain, None)
        return stops


@dataclass
class _InterfaceCheck:
    """The check of one interface, and what it has read."""

    gate: GateCheck
    ifname: str
    cells: int = 0
    chains: set[str] = field(default_factory=set)
    maps: set[str] = field(default_factory=set)
    keys: set[tuple[str, Key]] = field(default_factory=set)
    roots: dict[tuple[Direction, Family], AbstractSet[str]] = field(default_factory=dict)

    def check(self, crossing: Crossing) -> None:
        namespace, place = self.gate.namespace, (crossing.hook, crossing.family, self.ifname)
        link = namespace.link(*place)
        reached: set[str] = set()
        for is_adopting in (False, True) if link is not None and link.is_egress else (False,):
            made = namespace.clauses(*place, is_adopting=is_adopting)
            reached |= self._compare(crossing, Beginning(crossing.hook.value, made, is_adopting))[0]
        if link is not None:
            for side in Direction:
                roots = {name for name in reached if _judging(name) is side}
                self.roots[side, crossing.family] = roots | self.roots.get((side, crossing.family), set())
            for name, (side, verdict) in ENDS.items():
                self._end(crossing, Beginning(name, list(end_clauses(link, side, verdict))))

    def _end(self, crossing: Crossing, beginning: Beginning) -> None:
        """Checks an end chain, once for all interfaces with the same clauses if their names make no difference."""
        place = (crossing.hook, crossing.family, beginning.chain)
        known = self.gate.ends.get(place)
        if known is None or not known.is_for(beginning, self.ifname):
            one = _InterfaceCheck(self.gate, self.ifname)
            program = one._compare(crossing, beginning)[1]
            known = self.gate.ends[place] = ProvenEnd(beginning, self.ifname, program)
            self.cells += one.cells
        self._note(known.program)

    def _note(self, program: Program) -> None:
        self.chains |= program.steps.keys()
        self.maps |= program.maps
        self.keys |= program.keys

    def _compare(self, crossing: Crossing, beginning: Beginning) -> tuple[set[str], Program]:
        """Compares from a chain on. Returns the stops that packets came to, and the program that was read."""
        structure = self.gate.structure
        passing = (self.ifname,) if beginning.is_adopting else ()
        axes = {asked: index for index, asked in enumerate(crossing.asked())}
        stops = self.gate.stops(beginning)
        program = Program(
            structure.table, FieldReading(crossing.known(), axes, passing=passing), stops, structure.lookups
        )
        program.add(beginning.chain)
        space = Space(crossing, _conditions(beginning), program.cuts)
        regions = [space.region(clause.conditions) for clause in beginning.clauses]
        order = BoxOrder(space.full(), regions, [clause.outcome for clause in beginning.clauses])
        walk = Walk(program, space.axes, order, space.with_ports())
        self._note(program)
        cells, forms = space.kinds(), self.gate.forms
        form, names = form_of(walk, beginning.chain, cells, self._slots)
        if form not in forms:
            try:
                for cell in cells:
                    walk.check(beginning.chain, cell, order.all)
            except Mismatch as mismatch:
                raise GateMismatch(beginning, space, mismatch) from mismatch
            forms[form] = tuple(number for number, name in enumerate(names) if name in walk.reached)
        self.cells += walk.cells
        return {names[number] for number in forms[form]}, program

    @cached_property
    def _slots(self) -> Slots:
        marks, slot = self.gate.namespace.wanted.site.marks, self.gate.namespace.slots.get(self.ifname, 0)
        own = {marks.slot_mask(side): marks.slot(side, slot) for side in Direction if slot}
        return Slots(own, tuple(eni_counter(side, self.ifname) for side in Direction))


def _judging(chain: str) -> Direction | None:
    """The direction whose rules begin at that chain."""
    return next((side for side in Direction if chain.startswith(f"{RULES}{side.value}.")), None)


def _said(structure: Structure, name: str, key: Key) -> object:
    """The value of a key in a map, and the lifetime of the map's elements."""
    entry = structure.table.map.get(name)
    return None if entry is None else (structure.lookups[name].get(key), entry.lifetime)


def _conditions(beginning: Beginning) -> Iterator[Match]:
    return (match for clause in beginning.clauses for match in clause.conditions)
