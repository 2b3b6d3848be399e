"""Compare the fixed part of a table with its clauses, for every header field and session, at every interface.

Owns the comparison before and after rules are evaluated, interface by interface. It is given the table and the ENIs.
It must not know rules: where they begin, this part ends. An interface that is like a proven one isn't walked
(template.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import product

from sgdataplane.contract.priority import CODES
from sgdataplane.contract.tables import LOOPBACK, audit_name
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Key, Match
from sgdataplane.proof.reuse.proven import ProvenGate, judging
from sgdataplane.proof.reuse.template import Template
from sgdataplane.proof.spec.axes import holds, representatives
from sgdataplane.proof.spec.crossing import Crossing, Space
from sgdataplane.proof.spec.fixed import ENDS, IS_ICMP, IS_RELATED, JUDGE, Common, FixedClause, end_clauses, ends_at
from sgdataplane.proof.spec.order import BoxOrder
from sgdataplane.proof.spec.readings import FieldReading
from sgdataplane.proof.spec.specification import Namespace
from sgdataplane.proof.walk.gatewalk import GateWalk, place_behind
from sgdataplane.proof.walk.priority import OnePriority
from sgdataplane.proof.walk.program import Program
from sgdataplane.proof.walk.structure import Structure, map_value
from sgdataplane.proof.walk.walk import Mismatch

Kind = Hashable  # interfaces that may be alike have equal ones (specification.py: Namespace.kind)


class GateMismatch(Exception):  # noqa: N818  # carries a difference up, as Mismatch does
    """A difference between the fixed part and its clauses.

    Attributes:
        chain: The chain that the packets were put into.
        clauses: What must happen to packets there.
        is_adopting: Whether the difference is about packets while the ENI is being adopted.
        space: The axes of the packets.
        mismatch: The packets, and what was wrong.
    """

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
    """Whether this is while the packets' ENI is being adopted."""
    code: int | None = None
    """The priority that packets come with; None for any."""


@dataclass(frozen=True, slots=True)
class ProvenEnd:
    """A chain that carries verdicts out, proven at one interface."""

    beginning: Beginning
    ifname: str
    program: Program
    """What was read of the chain."""

    def is_for(self, beginning: Beginning, ifname: str) -> bool:
        """Return whether this proves the chain at another interface, too.

        It does if the chain asks no map, and all matches on interface names have the same result there.
        """
        program = self.program
        same = all(holds(match, ifname) == holds(match, self.ifname) for match in program.names)
        return same and not program.keys and not program.maps and self.beginning == beginning


@dataclass
class GateCheck:
    """The check of the fixed part at all interfaces."""

    structure: Structure
    namespace: Namespace
    templates: dict[Kind, Template] = field(default_factory=dict)
    """Interfaces that were right, in this table or an earlier one, by kind."""
    cells: int = 0
    """How many ends of walks were compared so far."""
    chains: set[str] = field(default_factory=set)
    """The chains that were read so far."""
    ends: dict[tuple[Direction, Family, str], ProvenEnd] = field(default_factory=dict)
    """Chains that carry verdicts out and were right in this table, at one interface."""

    def __post_init__(self) -> None:
        self.beginnings = {name: JUDGE[side] for name in self.structure.table.chain if (side := judging(name))}

    def names(self) -> list[str]:
        """Return the interfaces to check.

        They are all that state or table name, one for each name that stands for many, and one that nobody names.
        """
        wanted = self.namespace.wanted
        named = {*self.structure.interfaces, *self.namespace.enis, LOOPBACK, *wanted.internal, *wanted.uplinks}
        return representatives(named)

    def check(self, ifname: str) -> ProvenGate:
        """Compare table and clauses at one interface, by a template or by a walk.

        Raises:
            GateMismatch: They differ.
        """
        own, kind = self.namespace.own(ifname), self.namespace.kind(ifname)
        if own is None:
            return self._walk_interface(ifname)
        template = self.templates.pop(kind, None)
        found = None if template is None else template.put_in(self.structure, own, self.namespace.basis(ifname))
        if found is None:
            found = self._walk_interface(ifname)
            template = Template.of(self._common(), own, found, self.structure)
        if template is not None:
            self.templates[kind] = template
        return found

    def _common(self) -> Common:
        namespace = self.namespace
        return Common(namespace.wanted.site, namespace.wanted.options, namespace.epoch, namespace.secret)

    def _walk_interface(self, ifname: str) -> ProvenGate:
        """Compare table and clauses at one interface by walks at all hooks, in both families."""
        one = _InterfaceCheck(self, ifname)
        for hook, family in product(Direction, Family):
            one.check(Crossing(self.namespace.wanted.site, hook, family, ifname))
        self.cells += one.cells
        self.chains |= one.chains
        keys = {asked: map_value(self.structure, *asked) for asked in one.keys}
        basis = self.namespace.basis(ifname)
        return ProvenGate(basis, frozenset(one.chains), frozenset(one.maps), keys, one.roots)

    def stops(self, hook: Direction, beginning: Beginning) -> dict[str, str]:
        """Return the chains at which a walk stops: where verdicts are carried out, and where rules of an ENI begin."""
        stops = {**ends_at(hook), **self.beginnings}
        stops.pop(beginning.chain, None)
        return stops


@dataclass
class _InterfaceCheck:
    """The check of one interface, and what it has read of the table."""

    gate: GateCheck
    """The check that this is a part of."""
    ifname: str
    cells: int = 0
    chains: set[str] = field(default_factory=set)
    maps: set[str] = field(default_factory=set)
    keys: set[tuple[str, Key]] = field(default_factory=set)
    roots: dict[tuple[Direction, Family], AbstractSet[str]] = field(default_factory=dict)
    """The chains of rules that packets came to."""

    def check(self, crossing: Crossing) -> None:
        """Compare table and clauses at one hook, in one family, up to rules and in the chains after them.

        Raises:
            GateMismatch: They differ.
        """
        namespace, place = self.gate.namespace, (crossing.hook, crossing.family, self.ifname)
        link = namespace.link(*place)
        reached: set[str] = set()
        for is_adopting in (False, True) if link is not None and link.is_egress else (False,):
            made = namespace.clauses(*place, is_adopting=is_adopting)
            reached |= self._compare(crossing, Beginning(crossing.hook.value, made, is_adopting))[0]
        if link is not None:
            for side in Direction:
                roots = {name for name in reached if judging(name) is side}
                self.roots[side, crossing.family] = roots | self.roots.get((side, crossing.family), set())
            for name, end in ends_at(crossing.hook).items():
                side, verdict = ENDS[end]
                clauses = list(end_clauses(link, side, verdict))
                self._end(crossing, Beginning(name, clauses, code=CODES[side, verdict]))

    def _end(self, crossing: Crossing, beginning: Beginning) -> None:
        """Check a chain that carries verdicts out.

        This is done once for all interfaces with the same clauses, if their names make no difference.
        """
        place = (crossing.hook, crossing.family, beginning.chain)
        known = self.gate.ends.get(place)
        if known is None or not known.is_for(beginning, self.ifname):
            one = _InterfaceCheck(self.gate, self.ifname)
            program = one._compare(crossing, beginning)[1]
            known = self.gate.ends[place] = ProvenEnd(beginning, self.ifname, program)
            self.cells += one.cells
        self._note(known.program)

    def _note(self, program: Program) -> None:
        """Note what a program has read of the table."""
        self.chains |= program.steps.keys()
        self.maps |= program.maps
        self.keys |= program.keys

    def _compare(self, crossing: Crossing, beginning: Beginning) -> tuple[set[str], Program]:
        """Compare table and clauses from a chain on. Return the stops that packets came to, and what was read."""
        structure = self.gate.structure
        passing = (self.ifname,) if beginning.is_adopting else ()
        axes = {asked: index for index, asked in enumerate(crossing.list_axes())}
        stops = self.gate.stops(crossing.hook, beginning)
        program = Program(
            structure.table, FieldReading(crossing.get_known_fields(), axes, passing=passing), stops, structure.lookups
        )
        program.add(beginning.chain)
        space = Space(crossing, _conditions(beginning), program.cuts)
        try:
            walk = _walk(program, space, beginning)
            walk.begin(beginning.chain, space.kinds(), beginning.code)
            self.cells += walk.cells
        except Mismatch as mismatch:
            raise GateMismatch(beginning, space, mismatch) from mismatch
        if not walk.reached.isdisjoint(self.gate.beginnings):
            self._go_on(program, space, beginning)
        self._note(program)
        return walk.reached, program

    def _audit(self, hook: Direction) -> str:
        """Return the chain where ranks must lead first; "" if the ENI isn't in audit mode."""
        eni = self.gate.namespace.enis.get(self.ifname)
        return audit_name(hook) if eni is not None and eni.is_audited else ""

    def _go_on(self, program: Program, space: Space, beginning: Beginning) -> None:
        """Check that packets that return from rules get the verdict that the rules have decided."""
        for name, decided in ENDS.items():
            clauses = [FixedClause(((), name), (), f"{decided[1].value}, as {decided[0].value} rules say")]
            behind = replace(beginning, clauses=clauses)
            try:
                walk = _walk(program, space, behind)
                walk.audit = self._audit(space.crossing.hook)
                for cell in space.kinds():
                    walk.go_on(cell, CODES[decided])
                self.cells += walk.cells
            except Mismatch as mismatch:
                raise GateMismatch(behind, space, mismatch) from mismatch


def _walk(program: Program, space: Space, beginning: Beginning) -> GateWalk:
    """Make the walk that compares a program with clauses."""
    regions = [space.region(clause.conditions) for clause in beginning.clauses]
    order = BoxOrder(space.full(), regions, [clause.outcome for clause in beginning.clauses])
    return GateWalk(
        program=program,
        axes=space.axes,
        order=order,
        with_ports=space.with_ports(),
        priorities=OnePriority(order.full[0]),
        rules=JUDGE.values(),
        reset=space.region((IS_RELATED, IS_ICMP) if beginning.code is None else ()),
        behind=place_behind(program, beginning.chain),
    )


def _conditions(beginning: Beginning) -> Iterator[Match]:
    """Yield all matches that the axes must be cut for."""
    yield from (match for clause in beginning.clauses for match in clause.conditions)
    yield from (IS_RELATED, IS_ICMP)
