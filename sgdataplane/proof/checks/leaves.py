"""Check that each leaf (verdict chain) of a profile gives way to the right ranks.

Owns what is compared with what, and which leaves were compared before and needn't be looked at. It is given leaves. It
must not know how packets came to them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import product

from sgdataplane.nft.changes import between
from sgdataplane.nft.ir import Range
from sgdataplane.proof.spec.outcomes import Outcome, counter_of
from sgdataplane.proof.walk.priority import UNSET
from sgdataplane.proof.walk.program import Program
from sgdataplane.proof.walk.ranks import RankOrder, WrongRanksError
from sgdataplane.proof.walk.step import Bound


@dataclass(frozen=True, slots=True)
class ProvenLeaf:
    """A leaf that packets came to."""

    name: str
    outcome: Outcome
    bound: tuple[Range, ...]
    """The ranks that it gives way to."""


Leaves = Mapping[str, ProvenLeaf]  # by name


@dataclass(frozen=True, slots=True)
class Standing:
    """What leaves are compared with."""

    ranks: Mapping[int, Outcome]
    """What each rank of the profile stands for."""
    priorities: AbstractSet[int | None]
    """The priorities of packets without a rank."""
    order: Sequence[Outcome]
    """What each candidate must do, in the order of decide()."""
    places: Mapping[Outcome, int]
    """The place of each candidate in that order."""

    def check(self, leaves: Leaves, previous: tuple[Leaves, Standing] | None) -> None:
        """Check that each leaf gives way to exactly the stronger ranks.

        `previous` has leaves that were right, and what they were compared with.

        Raises:
            WrongRanksError: A leaf gives way to too many or too few.
        """
        others = sorted(value for value in self.priorities if value is not UNSET)
        is_touched = bool(others or self.ranks) and UNSET not in self.priorities
        if UNSET in self.priorities and others:
            raise WrongRanksError("some packets come with a priority that nobody has set")
        order = RankOrder(self.ranks, self.places, others)
        for leaf in leaves.values() if previous is None else self._find_unchecked(leaves, *previous):
            if leaf.bound and not is_touched:
                raise WrongRanksError(f"chain {leaf.name} asks for a priority that nobody has set", leaf.outcome)
            order.check(leaf.name, leaf.outcome, leaf.bound)

    def _find_unchecked(self, leaves: Leaves, known: Leaves, previous: Standing) -> Iterable[ProvenLeaf]:
        """Return the leaves for which another result is possible than before."""
        moved = self._find_moved(previous)
        if moved is None:
            return leaves.values()
        counters = set(map(counter_of, moved))
        some = [e for name, e in leaves.items() if known.get(name) is not e or counter_of(e.outcome) in counters]
        return [e for e in some if known.get(e.name) is not e or e.outcome in moved]

    def _find_moved(self, previous: Standing) -> AbstractSet[Outcome] | None:
        """Return the candidates whose place among the ranks may have changed; None if that may be all of them.

        If candidates came or went in one place only, and none of them has a rank, then all others have the same ranks
        before them.
        """
        gone, come = between(previous.order, self.order)
        is_same = self.ranks == previous.ranks and self.priorities == previous.priorities
        return {*come} if is_same and {*gone, *come}.isdisjoint(self.ranks.values()) else None


def leaf_of(program: Program, name: str, known: Container[Outcome]) -> Iterator[ProvenLeaf]:
    """Yield the leaf that a chain is, if it is one of these candidates; no packet comes to others."""
    outcome, bound = program.outs.get(name), program.bounds.get(name)
    if outcome is not None and outcome in known:
        yield ProvenLeaf(name, outcome, bound.ranges if bound is not None else ())


def find_unused_leaves(
    leaves: Leaves, previous: Sequence[Outcome], now: Sequence[Outcome], places: Container[Outcome]
) -> list[str]:
    """Return the names of leaves whose candidate doesn't exist any more.

    The leaf of a step stays when its chain goes. `previous` and `now` are the earlier and the present order of
    candidates; `places` is the place of each present one.
    """
    gone = {outcome for outcome in between(previous, now)[0] if outcome not in places}
    counters = set(map(counter_of, gone))
    some = [item for item in leaves.items() if counter_of(item[1].outcome) in counters] if gone else []
    return [name for name, leaf in some if leaf.outcome in gone]


def check_heads(heads: Mapping[str, Bound], leaves: Iterable[ProvenLeaf]) -> None:
    """Check that all leaves give way to what a chain for addresses returns at once.

    Packets that it returns would have come to some leaf.

    Raises:
        WrongRanksError: A leaf doesn't give way to some of it.
    """
    for (name, head), leaf in product(heads.items(), leaves):
        if not head.is_within(Bound(leaf.bound)):
            problem = f"chain {name} returns priorities that chain {leaf.name} doesn't give way to"
            raise WrongRanksError(problem, leaf.outcome)
