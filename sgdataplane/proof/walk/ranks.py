"""Know what each rank stands for: a permission on a group, and the permissions that it is stronger than.

Owns which leaf (verdict chain) each rank leads to, and whether the ranks that a leaf gives way to are those of stronger
permissions. It is given one side's chains behind the address chains, and the order of decide(). It must not know how
ranks are numbered: it compares them one by one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from operator import or_

from sgdataplane.contract.priority import CODES, RANKS
from sgdataplane.contract.tables import WINNERS
from sgdataplane.net.values import Family, Verdict
from sgdataplane.nft.ir import Key, Map, Range, Table, VerdictKind
from sgdataplane.nft.ir import Verdict as Lead
from sgdataplane.proof.spec.claims import end_chain
from sgdataplane.proof.spec.outcomes import Outcome
from sgdataplane.proof.spec.readings import FieldReading
from sgdataplane.proof.walk.far import GroupSetAtoms, GroupSetNumbers
from sgdataplane.proof.walk.program import Program


class WrongRanksError(Exception):
    """Ranks that don't mean what they must; str() says why.

    Attributes:
        outcomes: What the decisions do that it is about.
    """

    def __init__(self, problem: str, *outcomes: Outcome) -> None:
        super().__init__(problem)
        self.outcomes = outcomes


# For each priority that says what was decided, the chain that carries it out.
DECISIONS = {code: end_chain(*decided) for decided, code in CODES.items()}
# What a profile's own chains may decide. Each refusal has a rank instead, so that an ENI in audit mode can let it pass.
ACCEPTS = {code: end_chain(side, verdict) for (side, verdict), code in CODES.items() if verdict is Verdict.ACCEPT}


@dataclass(frozen=True, eq=False)
class Winners:
    """Where each rank leads. Two of them are compared by identity."""

    leaves: Mapping[int, Outcome | None]
    """The outcome of the leaf that each rank leads to; None if no leaf is there that always decides."""
    names: Mapping[int, str]
    """The name of the chain that each rank leads to."""
    of: Mapping[Outcome, int]
    """The rank of each outcome."""
    doubled: AbstractSet[Outcome]
    """The outcomes that have several ranks."""
    asked: Map | None = None
    """The map that says where ranks lead."""

    @classmethod
    def read(cls, table: Table, changed: AbstractSet[str], previous: Winners) -> Winners:
        """Read where a table's ranks lead.

        `previous` is what was read of an earlier table, and `changed` are the chains that have changed since.
        """
        asked = table.map.get(WINNERS)
        if asked is not None and asked is previous.asked and previous.chains.isdisjoint(changed):
            return previous
        names = dict(_targets(asked))
        known = {name: previous.leaves[rank] for rank, name in previous.names.items() if name not in changed}
        if names == previous.names and len(known) == len(set(names.values())):
            return previous
        known |= outcomes(table, [name for name in names.values() if name not in known])
        leaves = {rank: known[name] for rank, name in names.items()}
        of, doubled = dict[Outcome, int](), set[Outcome]()
        for rank, outcome in leaves.items():
            if outcome is not None and of.setdefault(outcome, rank) != rank:
                doubled.add(outcome)
        return cls(leaves, names, of, doubled, asked)

    @cached_property
    def chains(self) -> AbstractSet[str]:
        """The chains that ranks lead to."""
        return frozenset(self.names.values())


NO_WINNERS = Winners({}, {}, {}, frozenset())


def _targets(asked: Map | None) -> Iterator[tuple[int, str]]:
    """Yield the chains that ranks lead to, and that return.

    The base chain looks up no other numbers in this map (gatewalk.py).
    """
    elements = asked.elements if asked is not None else ()
    leads = ((rank, to) for rank, to in elements if isinstance(rank, int) and isinstance(to, Lead))
    return ((rank, to.chain) for rank, to in leads if rank in RANKS and to.kind is VerdictKind.JUMP)


def outcomes(table: Table, names: Sequence[str]) -> Iterator[tuple[str, Outcome | None]]:
    """Yield what each of these chains does with every packet; None if it isn't a leaf, or gives way to something."""
    program = Program(table, FieldReading({}, {}), {}, codes=DECISIONS)
    for name in names:
        program.add(name)
        yield name, program.outs.get(name) if name not in program.bounds else None


@dataclass(frozen=True)
class RankOrder:
    """The ranks of a profile, in the order of decide()."""

    own: Mapping[int, Outcome]
    """What each rank of the profile stands for."""
    standing: Mapping[Outcome, int]
    """The place of each outcome in the order of decide()."""
    others: Sequence[int]
    """The priorities that packets without a rank have, sorted."""

    @cached_property
    def _ranks(self) -> Sequence[int]:
        return sorted(self.own)

    @cached_property
    def _below(self) -> Sequence[int]:
        """For each number n, the places of the n smallest ranks, as a mask."""
        places = (1 << self.standing[self.own[rank]] for rank in self._ranks)
        return list(accumulate(places, or_, initial=0))

    def check(self, name: str, outcome: Outcome, bound: Iterable[Range]) -> None:
        """Check that the leaf of an outcome gives way to all stronger ranks, and to nothing else.

        Raises:
            WrongRanksError: It doesn't.
        """
        found = 0
        for item in bound:
            low, high = int(item.first), int(item.last)
            if bisect_left(self.others, low) != bisect_right(self.others, high):
                raise WrongRanksError(f"chain {name} takes other priorities for ranks", outcome)
            found |= self._below[bisect_right(self._ranks, high)] & ~self._below[bisect_left(self._ranks, low)]
        wrong = found ^ self._below[-1] & ((1 << self.standing[outcome]) - 1)
        if wrong:
            place = (wrong & -wrong).bit_length() - 1
            rank = next(r for r in self._ranks if self.standing[self.own[r]] == place)
            what = "gives way to" if found >> place & 1 else "doesn't give way to"
            raise WrongRanksError(f"chain {name} {what} rank {rank}", outcome, self.own[rank])


Strengths = tuple[tuple[str, int], ...]  # groups with their ranks, strongest first


@dataclass
class RankMaps:
    """Tells which maps give each group set the rank of its strongest group."""

    numbers: GroupSetNumbers
    """The numbers of each group's members."""
    table: Table
    checked: dict[tuple[str, Strengths, str], tuple[Map, Map | None, bool]] = field(default_factory=dict)
    """The maps that were looked through, and whether they were right."""

    @classmethod
    def after(cls, previous: RankMaps | None, atoms: Mapping[Family, GroupSetAtoms], table: Table) -> RankMaps:
        """Start with what was found out about an earlier table's maps, unless there are other group sets by now."""
        if previous is not None and previous.numbers.is_of(atoms):
            return cls(previous.numbers, table, dict(previous.checked))
        return cls(GroupSetNumbers.of(atoms), table)

    def are_right(self, names: Sequence[str], strengths: Strengths) -> bool:
        """Return whether these one or two maps, asked in this order, rank each group set by just these groups.

        Each group set that is in some of the groups must get the rank of the first of them, and the maps must hold
        nothing else. If the result is False, they may be right all the same. Of two maps, the last one must be about
        the strongest groups, and the other one about no group set of these.
        """
        *others, last = names
        if not others:
            return self._is_right(last, strengths)
        held = frozenset(self.table.elements_of(last).values())
        first = 1 + max((place for place, (_, rank) in enumerate(strengths) if rank in held), default=-1)
        is_right = len(others) == 1 and self._is_right(last, strengths[:first])
        return is_right and self._is_right(others[0], strengths[first:], last)

    def _is_right(self, name: str, strengths: Strengths, but: str = "") -> bool:
        """Return the same for one map. `but` names a map that is about all group sets that this one leaves out."""
        entry, other, key = self.table.map[name], self.table.map.get(but), (name, strengths, but)
        known, known_other, is_right = self.checked.get(key, (None, None, False))
        if known is not entry or known_other is not other:
            is_right = self.numbers.is_clear and self._is_equal(entry, strengths, but)
            self.checked[key] = entry, other, is_right
        return is_right

    def _is_equal(self, entry: Map, strengths: Strengths, but: str) -> bool:
        """Return whether the map holds exactly the rank of the first of these groups for each group set."""
        wanted: dict[Key, int] = {}
        for group, rank in reversed(strengths):
            wanted.update(dict.fromkeys(self.numbers.of_group.get(group, ()), rank))
        apart = self.table.elements_of(but) if but else {}
        left = {group_set: rank for group_set, rank in wanted.items() if group_set not in apart}
        return dict(entry.elements) == left and apart.keys().isdisjoint(left.values())
