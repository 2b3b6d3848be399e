"""The fixed part of a table against its clauses: every header field and every kind of session, at every interface.

Owns the comparison before rules are asked, and after they have decided. Is given the table and the ENIs. Must not know
rules: where they begin, this part ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, product

from sgdataplane.compiler.skeleton import LOOPBACK
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Field, KeyType, Match, Table
from sgdataplane.proof.axes import is_name
from sgdataplane.proof.crossing import Crossing, Space
from sgdataplane.proof.fixed import JUDGE, Clause, end_clauses
from sgdataplane.proof.order import Order
from sgdataplane.proof.program import Program, Reading
from sgdataplane.proof.specification import ENDS, Namespace
from sgdataplane.proof.walk import Mismatch, Walk

RULES = "profile-"  # what the chains are called where the rules of an ENI begin
INTERFACES = (Field.IIFNAME, Field.OIFNAME)
Roots = dict[tuple[str, Direction, Family], set[str]]  # (interface, hook, family) -> where its rules begin


class GateMismatch(Exception):  # noqa: N818  # carries a difference up, as Mismatch does
    """Where the fixed part differs from its clauses; `chain` is where these packets were put in. `is_adopting`: while
    the ENI is being adopted."""

    def __init__(self, part: Part, space: Space, mismatch: Mismatch) -> None:
        super().__init__(str(mismatch))
        self.chain, self.clauses, self.is_adopting = part.chain, part.clauses, part.is_adopting
        self.space, self.mismatch = space, mismatch


@dataclass(frozen=True, slots=True)
class Part:
    """A chain to begin with, and what must become of packets from there on."""

    chain: str
    clauses: Sequence[Clause]
    is_adopting: bool = False


@dataclass
class GateCheck:
    """`roots`: found on the way. `cells`, `chains`: what was compared so far, and the chains that were read."""

    table: Table
    namespace: Namespace
    roots: Roots = field(default_factory=dict)
    cells: int = 0
    chains: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.beginnings = [name for name in self.table.chain if name.startswith(RULES)]

    def check(self) -> None:
        """GateMismatch if they differ anywhere."""
        names = self.names()
        for ifname, hook, family in product(names, Direction, Family):
            self._interface(Crossing(self.namespace.wanted.site, hook, family, ifname, names))

    def names(self) -> tuple[str, ...]:
        """All that are spoken of, one more for each that stands for many, and one that nobody has named."""
        wanted = self.namespace.wanted
        named = {*_named(self.table), *self.namespace.enis, LOOPBACK, *wanted.internal, *wanted.uplinks}
        found = {f"{name[:-1]}0" if name.endswith("*") else name for name in named}
        other = next(f"other{number}" for number in count() if not any(is_name(n, f"other{number}") for n in named))
        return (*sorted(found), other)

    def _interface(self, crossing: Crossing) -> None:
        place = (crossing.hook, crossing.family, crossing.ifname)
        link = self.namespace.link(*place)
        reached: set[str] = set()
        for is_adopting in (False, True) if link is not None and link.is_egress else (False,):
            made = self.namespace.clauses(*place, is_adopting=is_adopting)
            reached |= self._compare(crossing, Part(crossing.hook.value, made, is_adopting))
        if link is not None:
            self.roots[crossing.ifname, crossing.hook, crossing.family] = reached - ENDS.keys()
            for name, (side, verdict) in ENDS.items():
                self._compare(crossing, Part(name, list(end_clauses(link, side, verdict))))

    def _compare(self, crossing: Crossing, part: Part) -> set[str]:
        """From the part's chain on; the stops that packets came to."""
        passing = (crossing.ifname,) if part.is_adopting else ()
        axes = {asked: index for index, asked in enumerate(crossing.asked())}
        stops = {name: label for name, label in self._stops(crossing) if name != part.chain}
        program = Program(self.table, Reading(crossing.known(), axes, passing=passing), stops)
        program.add(part.chain)
        space = Space(crossing, (match for clause in part.clauses for match in clause.conditions), program.cuts)
        regions = [space.region(clause.conditions) for clause in part.clauses]
        order = Order(space.full(), regions, [clause.outcome for clause in part.clauses])
        walk = Walk(program, space.axes, order, space.with_ports())
        try:
            for cell in space.kinds():
                walk.check(part.chain, cell, order.all)
        except Mismatch as mismatch:
            raise GateMismatch(part, space, mismatch) from mismatch
        finally:
            self.cells += walk.cells
            self.chains.update(program.steps)
        return walk.reached

    def _stops(self, crossing: Crossing) -> Iterator[tuple[str, str]]:
        """Where verdicts are carried out, and where the rules of an ENI begin."""
        yield from ((name, name) for name in ENDS)
        yield from ((name, JUDGE) for name in self.beginnings if name.startswith(f"{RULES}{crossing.hook.value}."))


def _named(table: Table) -> Iterator[str]:
    """The interfaces that a table speaks of."""
    for entry in table.maps:
        if entry.key_type is KeyType.IFNAME:
            yield from (str(key) for key, _ in entry.elements)
    for statement in _statements(table):
        if isinstance(statement, Match) and statement.field in INTERFACES:
            yield from (str(item.first) for item in statement.ranges)


def _statements(table: Table) -> Iterator[object]:
    return (statement for chain in table.chains for rule in chain.rules for statement in rule.statements)
