"""Give permissions ranks: numbers for their strength, so that the kernel can compare one on a group with others.

Refusals by addresses have such a number, too, by which their leaf is found. Owns the numbers. It is given the
permissions of all profiles in order. It must not know maps or chains.

A rank has the level of its permission in its high bits, and in the low ones a hash of which permission it is. So a
permission keeps its rank when others come or go. Levels follow the order of `decide()`: there, at equal priority and
verdict, permissions on groups come first (semantics.py: strength), so that a level decides unless both are on groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from sgdataplane.contract import names
from sgdataplane.model.decision import INNER_ACCEPT, RULE, Decision
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.nft.ir import Range
from sgdataplane.policy.resolve import Permission, Profile

SLOT_BITS = 22
SLOTS = 1 << SLOT_BITS  # how many ranks each level has; no slot of a mark
# Levels: of inner accept, before or behind all rules, and of the default. Those of rules are between the first two.
FIRST, AFTER_RULES, LAST = 0, 254, 255


Ranks = Mapping[Decision, int]


def ranks_of(decisions: Iterable[Decision], inner: Mapping[Direction, int]) -> Ranks:
    """Return the ranks of these permissions; no two are equal. `inner` is the level of inner accept on each side."""
    found: dict[Decision, int] = {}
    taken: set[int] = set()
    for decision in sorted(set(decisions), key=_identity):
        found[decision] = _free(level(decision, inner[decision.direction]), decision, taken)
        taken.add(found[decision])
    return found


@dataclass(frozen=True)
class Strength:
    """How strong the permissions of one side of a profile are."""

    ranks: Ranks
    """The ranks of permissions on groups, in the order of decide()."""
    inner: int
    """The level of inner accept."""
    refusals: Ranks
    """The ranks of other permissions that refuse."""

    @classmethod
    def of(cls, profile: Profile, side: Direction, ranks: Ranks, inner: int) -> Strength:
        """Take one side's ranks from those of all profiles."""
        own = [permission.decision for permission in profile.on_groups[side]]
        others = profile.refusals[side]
        return cls({decision: ranks[decision] for decision in own}, inner, {other: ranks[other] for other in others})

    def of_refusal(self, decision: Decision) -> int:
        """Return the rank by which a refusal's leaf is found; 0 if the decision accepts."""
        if decision.verdict is not Verdict.DROP:
            return 0
        return self.ranks[decision] if decision in self.ranks else self.refusals[decision]

    @property
    def ranks_before_rules(self) -> tuple[Range, ...]:
        """All ranks that inner accept may have, if it comes before all rules; else none."""
        return _above(FIRST + 1) if self.inner == FIRST else ()

    def find_stronger(self, decision: Decision) -> tuple[Range, ...]:
        """Return the ranks that are stronger than a permission which matches a packet by an address.

        A permission on a group does so by prefixes that are delegated to its members.
        """
        if not self.ranks:
            return ()
        own = level(decision, self.inner)
        if decision not in self.ranks:
            return _above(own + 1)
        stronger = _above(own) if own else ()
        before = list(self.ranks).index(decision)
        peers = (rank for rank in list(self.ranks.values())[:before] if rank >> SLOT_BITS == own)
        return (*stronger, *map(Range.of, sorted(peers)))


@cache
def _above(of_level: int) -> tuple[Range, ...]:
    """Return the ranks of all levels that are stronger than this one."""
    return (Range(1, of_level * SLOTS - 1),)


def inner_level(on_groups: Iterable[Sequence[Permission]], is_first: Iterable[bool]) -> int:
    """Return the level of inner accept, which comes first or after all rules.

    The parameters are the permissions on groups of each profile, and whether it begins with inner accept.
    """
    is_always_first = all(first for some, first in zip(on_groups, is_first, strict=True) if _has_inner(some))
    return FIRST if is_always_first else AFTER_RULES


def begins_inner(permissions: Sequence[Permission]) -> bool:
    """Return whether the first permission is inner accept."""
    return permissions[0].decision.cause == INNER_ACCEPT


def _has_inner(permissions: Sequence[Permission]) -> bool:
    return any(permission.decision.cause == INNER_ACCEPT for permission in permissions)


def level(decision: Decision, inner: int) -> int:
    """Return the level of a decision; a smaller one is stronger. `inner` is that of inner accept."""
    if decision.cause == RULE:
        return 2 * decision.priority - (decision.verdict is Verdict.DROP)
    return inner if decision.cause == INNER_ACCEPT else LAST


def _free(of_level: int, decision: Decision, taken: set[int]) -> int:
    """Return the rank of a decision; never 0, which stands for no rank."""
    slot = int(names.digest(repr(_identity(decision)), 8), 16) % (SLOTS - 1)
    while of_level * SLOTS + slot + 1 in taken:
        slot = (slot + 1) % (SLOTS - 1)
    return of_level * SLOTS + slot + 1


def _identity(decision: Decision) -> tuple[str, str, str, str]:
    """Return what tells a decision from all others."""
    return (
        decision.direction.value,
        decision.cause,
        decision.security_group_id,
        decision.security_group_rule_id,
    )
