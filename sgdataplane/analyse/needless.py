"""Rules that nobody would miss: shadowed by the opposite action, or redundant.

Owns what these words mean, over all ENIs that have a rule: *shadowed* decides no packet, and somewhere a rule of the
opposite action comes before it; *redundant* can go, with all others that are called so, and no verdict changes.
Is given views. Must not know how traffic is cut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from sgdataplane.analyse.order import Mask
from sgdataplane.analyse.pools import RuleKey, View
from sgdataplane.analyse.stacks import TooMuchError
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import Verdict

Places = list[tuple[View, int]]  # the views that have a rule, and where


@dataclass(frozen=True, slots=True)
class Needless:
    """A rule, and what decides in its place: all that hides it, or all that would do the same."""

    rule: Decision
    is_shadowed: bool
    instead: tuple[Decision, ...]


@dataclass
class Needs:
    """What the views say of each rule. Each is added, then `needless` is asked."""

    _places: dict[RuleKey, Places] = field(default_factory=dict)
    _deciding: set[RuleKey] = field(default_factory=set)  # rules that decide some packet
    _needed: set[RuleKey] = field(default_factory=set)  # without which some packet's verdict would be another
    _opposed: set[RuleKey] = field(default_factory=set)  # hidden somewhere by a rule of the opposite action
    _void: set[RuleKey] = field(default_factory=set)  # drops hidden somewhere by inner accept
    _unknown: set[RuleKey] = field(default_factory=set)
    left_out: list[View] = field(default_factory=list)

    def add(self, view: View) -> None:
        """TooMuchError: nothing will be said of this view's rules."""
        try:
            view.stacks.budget.begin()
            self._add(view)
        except TooMuchError:
            self._unknown |= view.rules.keys()
            raise

    def _add(self, view: View) -> None:
        deciding = needed = 0
        for holding in view.classes:
            for first, second in view.followed(holding):
                deciding |= 1 << first
                needed |= (view.accepting >> first ^ view.accepting >> second) % 2 << first
        if not view.pool.enis:
            needed = deciding  # the ENIs that are to come may be in other groups, too
        for key, index in view.rules.items():
            self._places.setdefault(key, []).append((view, index))
            if deciding >> index & 1:
                self._deciding.add(key)
                self._needed |= {key} if needed >> index & 1 else set()
            elif key not in self._deciding:
                rivals = _either(before(view, index)) & ~view.alike(index)
                self._opposed |= {key} if rivals & ~view.inner else set()
                self._void |= {key} if rivals & view.inner else set()

    def needless(self) -> Iterator[Needless]:
        """By strength. A redundant rule that decides packets goes only if what is left then does the same; one that
        decides none goes first, so that of two equal rules it is the weaker one."""
        idle = self._places.keys() - self._needed - self._unknown
        hidden = idle - self._deciding
        gone: defaultdict[View, Mask] = defaultdict(int)
        leaving = hidden - self._opposed - self._void
        for key in leaving:
            self._leave(key, gone)
        for key in sorted(idle - hidden, key=self._strength):
            if self._can_leave(key, gone):
                self._leave(key, gone)
                leaving.add(key)
        shadowed = hidden & self._opposed
        for key in sorted(leaving | shadowed, key=self._strength):
            yield self._made(key, gone, is_shadowed=key in shadowed)

    def _leave(self, key: RuleKey, gone: dict[View, Mask]) -> None:
        for view, index in self._places[key]:
            gone[view] |= 1 << index

    def _can_leave(self, key: RuleKey, gone: dict[View, Mask]) -> bool:
        """False also where that would be too much to look at."""
        for view, index in self._places[key]:
            try:
                view.stacks.budget.begin()
                if not is_idle(view, index, gone[view]):
                    return False
            except TooMuchError:
                self.left_out.append(view)
                return False
        return True

    def _made(self, key: RuleKey, gone: dict[View, Mask], *, is_shadowed: bool) -> Needless:
        instead: dict[Decision, None] = {}
        with suppress(TooMuchError):  # then some are not named
            for view, index in self._places[key]:
                view.stacks.budget.begin()
                found = before(view, index) if is_shadowed else before(view, index, gone[view] | 1 << index)
                others = ~view.alike(index) if is_shadowed else view.alike(index)
                instead |= {view.decision(winner): None for winner in found if others >> winner & 1}
        return Needless(self._decision(key), is_shadowed, tuple(instead))

    def _decision(self, key: RuleKey) -> Decision:
        view, index = self._places[key][0]
        return view.decision(index)

    def _strength(self, key: RuleKey) -> tuple[int, bool, RuleKey]:
        decision = self._decision(key)
        return decision.priority, decision.verdict is Verdict.ACCEPT, key


def is_idle(view: View, index: int, gone: Mask = 0) -> bool:
    """Whether no packet's verdict would change without an entry, some others being gone already."""
    bit = 1 << index
    return all(view.is_same(holding & ~gone | bit, index) for holding in view.classes if holding & bit)


def before(view: View, index: int, gone: Mask = 0) -> Iterator[int]:
    """What decides the traffic that meets all conditions of an entry, if some are gone."""
    for holding in view.classes:
        if holding >> index & 1:
            for cell, winner in view.cells(holding & ~gone):
                if view.has_part(cell, index):
                    yield winner


def _either(places: Iterable[int]) -> Mask:
    found = 0
    for place in places:
        found |= 1 << place
    return found
