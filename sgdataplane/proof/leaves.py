"""Leaves of a profile, and whether each gives way to the right ranks.

Owns what is compared with what, and which leaves need no look because they were compared before. Is given leaves. Must
not know how packets came to them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import product

from sgdataplane.nft.changes import between
from sgdataplane.nft.ir import Range
from sgdataplane.proof.priority import UNSET
from sgdataplane.proof.program import Program
from sgdataplane.proof.ranks import RankOrder, WrongRanksError
from sgdataplane.proof.step import Bound, Outcome, counter_of


@dataclass(frozen=True, slots=True)
class ProvenLeaf:
    """A leaf that packets came to, and the ranks that it gives way to."""

    name: str
    outcome: Outcome
    bound: tuple[Range, ...]


Leaves = Mapping[str, ProvenLeaf]  # by name


@dataclass(frozen=True, slots=True)
class Standing:
    """What leaves are compared with: the ranks, the priorities of packets without a rank, and the order of candidates.
    `places`: of these."""

    ranks: Mapping[int, Outcome]
    priorities: AbstractSet[int | None]
    order: Sequence[Outcome]
    places: Mapping[Outcome, int]

    def check(self, leaves: Leaves, before: tuple[Leaves, Standing] | None) -> None:
        """WrongRanksError unless each leaf gives way to exactly the stronger ranks. `before`: leaves that were right,
        and what they were compared with."""
        others = sorted(value for value in self.priorities if value is not UNSET)
        is_touched = bool(others or self.ranks) and UNSET not in self.priorities
        if UNSET in self.priorities and others:
            raise WrongRanksError("some packets come with a priority that nobody has set")
        order = RankOrder(self.ranks, self.places, others)
        for leaf in leaves.values() if before is None else self._unchecked(leaves, *before):
            if leaf.bound and not is_touched:
                raise WrongRanksError(f"chain {leaf.name} asks for a priority that nobody has set", leaf.outcome)
            order.check(leaf.name, leaf.outcome, leaf.bound)

    def _unchecked(self, leaves: Leaves, known: Leaves, before: Standing) -> Iterable[ProvenLeaf]:
        """Leaves for which another result is possible than before."""
        moved = self._moved(before)
        if moved is None:
            return leaves.values()
        counters = set(map(counter_of, moved))
        some = [e for name, e in leaves.items() if known.get(name) is not e or counter_of(e.outcome) in counters]
        return [e for e in some if known.get(e.name) is not e or e.outcome in moved]

    def _moved(self, before: Standing) -> AbstractSet[Outcome] | None:
        """The candidates whose place among the ranks may be another one now. None: maybe all. Others than these came
        or went in one place, and no rank among them, so that all others have the same ranks before them."""
        gone, come = between(before.order, self.order)
        is_same = self.ranks == before.ranks and self.priorities == before.priorities
        return {*come} if is_same and {*gone, *come}.isdisjoint(self.ranks.values()) else None


def leaf_of(program: Program, name: str, known: Container[Outcome]) -> Iterator[ProvenLeaf]:
    """The leaf of a candidate; no packet comes to others."""
    outcome, bound = program.outs.get(name), program.bounds.get(name)
    if outcome is not None and outcome in known:
        yield ProvenLeaf(name, outcome, bound.ranges if bound is not None else ())


def gone_of(leaves: Leaves, before: Sequence[Outcome], now: Sequence[Outcome], places: Container[Outcome]) -> list[str]:
    """Leaves of candidates that there are no more. (A step's leaf stays when its chain goes.) `before`, `now`:
    the order of candidates; `places`: that of the latter."""
    gone = {outcome for outcome in between(before, now)[0] if outcome not in places}
    counters = set(map(counter_of, gone))
    some = [item for item in leaves.items() if counter_of(item[1].outcome) in counters] if gone else []
    return [name for name, leaf in some if leaf.outcome in gone]


def check_heads(heads: Mapping[str, Bound], leaves: Iterable[ProvenLeaf]) -> None:
    """Packets that a chain for addresses returns at once would come to some leaf. Each of these has to return them,
    too."""
    for (name, head), leaf in product(heads.items(), leaves):
        if not head.is_within(Bound(leaf.bound)):
            problem = f"chain {name} returns priorities that chain {leaf.name} doesn't give way to"
            raise WrongRanksError(problem, leaf.outcome)
