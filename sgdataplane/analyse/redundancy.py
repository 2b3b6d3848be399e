"""Rules that do less than they seem to: shadowed by the opposite action, redundant, or without effect for some packets.

Owns what these words mean. Is given policies. Must not know how traffic is cut.

Over all ENIs that have it, a rule is *shadowed* if it decides no packet while a rule of the opposite action comes
before it somewhere. A rule is *redundant* if it can go, together with all others that are reported as redundant,
without changing a verdict. Per packet, an accept *loses a tie* to a drop of equal priority, and inner accept makes a
drop *void*. These two are found only where a packet at an ENI shows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from sgdataplane.analyse.arrangement import LOCAL_AT, BudgetSpentError, Mask, bits, mask_of
from sgdataplane.analyse.pools import PoolPolicy, RuleKey
from sgdataplane.model.decision import RULE, Decision
from sgdataplane.net.values import Verdict

Places = list[tuple[PoolPolicy, int]]  # the policies that have a rule, and its place in each


@dataclass(frozen=True, slots=True)
class RedundantRule:
    """A rule that is shadowed or redundant."""

    rule: Decision
    is_shadowed: bool
    instead: tuple[Decision, ...]
    """What decides instead of it: all that hides it, or all that would do the same."""


@dataclass
class Needs:
    """What the policies show about each rule. Add all policies, then call `redundant`."""

    _places: dict[RuleKey, Places] = field(default_factory=dict)
    _deciding: set[RuleKey] = field(default_factory=set)  # rules that decide some packet
    _needed: set[RuleKey] = field(default_factory=set)  # rules without which some packet's verdict changes
    _opposed: set[RuleKey] = field(default_factory=set)  # rules that one of the opposite action hides somewhere
    _void: set[RuleKey] = field(default_factory=set)  # drops that inner accept hides somewhere
    _unknown: set[RuleKey] = field(default_factory=set)
    left_out: list[PoolPolicy] = field(default_factory=list)
    """The policies that took too long to examine."""

    def add(self, policy: PoolPolicy) -> None:
        """Add what a policy shows about its rules.

        Raises:
            BudgetSpentError: it takes too long, and nothing will be reported about this policy's rules.
        """
        try:
            policy.stacks.budget.begin()
            self._add(policy)
        except BudgetSpentError:
            self._unknown |= policy.rules.keys()
            raise

    def _add(self, policy: PoolPolicy) -> None:
        deciding = needed = 0
        for holding in policy.classes:
            for first, second in policy.follow(holding):
                deciding |= 1 << first
                needed |= (policy.accepting >> first ^ policy.accepting >> second) % 2 << first
        if not policy.pool.enis:
            needed = deciding  # an ENI that joins later may be in other groups, too
        for key, index in policy.rules.items():
            self._places.setdefault(key, []).append((policy, index))
            if deciding >> index & 1:
                self._deciding.add(key)
                self._needed |= {key} if needed >> index & 1 else set()
            elif key not in self._deciding:
                rivals = mask_of(before(policy, index)) & ~policy.find_agreeing(index)
                self._opposed |= {key} if rivals & ~policy.inner else set()
                self._void |= {key} if rivals & policy.inner else set()

    def redundant(self) -> Iterator[RedundantRule]:
        """Yield the shadowed and redundant rules, the strongest first.

        Redundant rules that decide no packet leave first, so the weaker one of two equal rules leaves. A rule that
        decides packets leaves only if the rules that are still there do the same.
        """
        idle = self._places.keys() - self._needed - self._unknown
        hidden = idle - self._deciding
        gone: defaultdict[PoolPolicy, Mask] = defaultdict(int)
        leaving = hidden - self._opposed - self._void
        for key in leaving:
            self._leave(key, gone)
        for key in sorted(idle - hidden, key=self._strength):
            if self._can_leave(key, gone):
                self._leave(key, gone)
                leaving.add(key)
        shadowed = hidden & self._opposed
        for key in sorted(leaving | shadowed, key=self._strength):
            yield self._describe_rule(key, gone, is_shadowed=key in shadowed)

    def _leave(self, key: RuleKey, gone: dict[PoolPolicy, Mask]) -> None:
        for policy, index in self._places[key]:
            gone[policy] |= 1 << index

    def _can_leave(self, key: RuleKey, gone: dict[PoolPolicy, Mask]) -> bool:
        """Return whether a rule can go, besides those that are gone; False if it takes too long to find out."""
        for policy, index in self._places[key]:
            try:
                policy.stacks.budget.begin()
                if not is_idle(policy, index, gone[policy]):
                    return False
            except BudgetSpentError:
                self.left_out.append(policy)
                return False
        return True

    def _describe_rule(self, key: RuleKey, gone: dict[PoolPolicy, Mask], *, is_shadowed: bool) -> RedundantRule:
        instead: dict[Decision, None] = {}
        with suppress(BudgetSpentError):  # then some are not named
            for policy, index in self._places[key]:
                policy.stacks.budget.begin()
                found = before(policy, index) if is_shadowed else before(policy, index, gone[policy] | 1 << index)
                others = ~policy.find_agreeing(index) if is_shadowed else policy.find_agreeing(index)
                instead |= {policy.decision(winner): None for winner in found if others >> winner & 1}
        return RedundantRule(self._decision(key), is_shadowed, tuple(instead))

    def _decision(self, key: RuleKey) -> Decision:
        policy, index = self._places[key][0]
        return policy.decision(index)

    def _strength(self, key: RuleKey) -> tuple[int, bool, RuleKey]:
        decision = self._decision(key)
        return decision.priority, decision.verdict is Verdict.ACCEPT, key


def is_idle(policy: PoolPolicy, index: int, gone: Mask = 0) -> bool:
    """Return whether no packet's verdict changes without an entry when some others are gone already."""
    bit = 1 << index
    return all(policy.is_same(holding & ~gone | bit, index) for holding in policy.classes if holding & bit)


def before(policy: PoolPolicy, index: int, gone: Mask = 0) -> Iterator[int]:
    """Yield the entries that decide the traffic that meets all conditions of an entry, when some others are gone."""
    for holding in policy.classes:
        if holding >> index & 1:
            for cell, winner in policy.cells(holding & ~gone):
                if policy.has_part(cell, index):
                    yield winner


def ties(policy: PoolPolicy) -> Iterator[tuple[int, int]]:
    """Return the accepts that lose a tie, each with the drop: both match a packet, and the drop decides it."""
    found: set[tuple[int, int]] = set()
    accepts = _accepts_by_priority(policy)
    for holding, far in policy.classes.items():
        for cell, winner in policy.cells(holding):
            decision = policy.decision(winner)
            tied = holding & accepts.get(decision.priority, 0) if decision.cause == RULE else 0
            for index in bits(tied & ~policy.find_agreeing(winner)):
                pair = index, winner
                if pair not in found and policy.has_part(cell, index) and policy.is_met(far, policy.local(cell, index)):
                    found.add(pair)
    return iter(sorted(found))


def _accepts_by_priority(policy: PoolPolicy) -> dict[int, Mask]:
    found: dict[int, Mask] = {}
    for index in policy.rules.values():
        if policy.accepting >> index & 1:
            priority = policy.decision(index).priority
            found[priority] = found.get(priority, 0) | 1 << index
    return found


def void_drops(policy: PoolPolicy) -> Iterator[tuple[int, int]]:
    """Return the drops that inner accept makes void, each with the inner accept.

    Such a rule would drop a packet if the ENI and the remote didn't share a group whose members accept each other.
    """
    found: dict[int, int] = {}
    for holding, far in policy.classes.items():
        inner = holding & policy.inner
        if not inner:
            continue
        for cell, winner in policy.cells(holding & ~inner):
            is_drop = policy.decision(winner).cause == RULE and not policy.accepting >> winner & 1
            is_outranked = winner > next(bits(inner))  # at egress it may be the other way round (options)
            if is_drop and is_outranked and winner not in found and policy.is_met(far, cell.shape[LOCAL_AT]):
                found[winner] = next(bits(inner))
    return iter(sorted(found.items()))
