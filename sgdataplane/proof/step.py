"""One rule as a kind of packet meets it: how its fields are read, tests on axes and of the priority, and effects.

Owns which field is known or on an axis, and the way from ranges to sets of atoms. Must not know tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sgdataplane.contract.fields import Field
from sgdataplane.contract.tables import AUDIT, LIMIT
from sgdataplane.nft.ir import (
    Count,
    Exceeds,
    Key,
    Log,
    MapPriority,
    Match,
    OneIn,
    Range,
    Remember,
    SessionsExceed,
    SetMark,
    SetPacketMark,
    SetPriority,
    Verdict,
    VerdictKind,
)
from sgdataplane.proof.axes import Atoms, Axis, MalformedError

Asked = tuple[Field, int | None]  # a field, under a mask where it is split by masks


@dataclass(frozen=True)
class FieldReading:
    """How one kind of packet's fields are read. `known`: fields with a known value (LACKING: the packet has none);
    `axes`: fields, or fields under a mask, with the index of their axis. No other field may be read, but for `far`,
    and that only in the map `members`. `passing`: keys that are now in maps whose elements expire. `answers`: whether
    these matches hold, where nothing else is known about their fields."""

    known: Mapping[Field, Key | None]
    axes: Mapping[Asked, int]
    far: Field | None = None
    members: str = ""
    passing: tuple[Key, ...] = ()
    answers: Mapping[Match, bool] = field(default_factory=dict)

    def parts(self, match: Match) -> list[Match]:
        """The match as several ones, each under the mask of one axis, unless it is on one axis itself."""
        mask = match.mask
        if mask is None or match.negate or len(match.ranges) != 1 or self.axis(match.field, mask) is not None:
            return [match]
        masks = [part for asked, part in self.axes if asked is match.field and part and not part & ~mask]
        (value,) = match.ranges
        if sum(masks) != mask or value.first != value.last:
            return [match]
        return [Match(match.field, (Range.of(int(value.first) & part),), mask=part) for part in masks]

    def axis(self, asked: Field, mask: int | None) -> int | None:
        found = self.axes.get((asked, None))
        return self.axes.get((asked, mask)) if found is None else found


Effect = Count | SetMark | SetPacketMark | SetPriority | MapPriority
Effects = tuple[Effect, ...]
Outcome = tuple[Effects, str]  # effects; accept, drop, "end" (of the base chain), or what a stop stands for
Groups = tuple[tuple[Verdict, tuple[Range, ...]], ...]
TIMEOUTS = "timeouts-"  # the names of chains that only set timeouts begin so (timeouts.py checks that they do no more)
APART = (TIMEOUTS, LIMIT, AUDIT)  # jumps there are checked apart: those to a limit (limits.py), of ranks (audits.py)
Unprovable = Exceeds | Log | OneIn | SessionsExceed | Remember
UNPROVABLE = {
    Exceeds: "a limit decides by the packets that came before",
    Log: "a log has no counter right before it",
    OneIn: "a random number decides",
    SessionsExceed: "a count of sessions decides",
    Remember: "it decides about packets that come later",
}
Limits = tuple[tuple[int, Atoms], ...]  # axes, each with the atoms that are wanted on it


@dataclass(frozen=True, slots=True)
class Test:
    """Holds in these ranges of an axis, or outside of them."""

    axis: int
    ranges: tuple[Range, ...]
    negate: bool
    mask: int | None
    reads_port: bool

    def atoms(self, axis: Axis) -> Atoms:
        """The atoms that it holds for."""
        chosen = axis.select(self.ranges, self.mask)
        return axis.present & ~chosen if self.negate else chosen


@dataclass(slots=True)
class RuleStep:
    """One rule, or the rest of one. If all tests hold, and all that is `asked` about the priority, it has effects, then
    a verdict, a look-up on an axis (`groups`) or of the priority in a map (`numbers`), or `then`, the rest of the rule.
    If they don't hold, or if there is no verdict, the next rule is asked. `asked_first`: what is asked about the
    priority before any port is read. `problem`: no packet may come so far.

    Once it is bound to axes it has `limits`: the tests; `guard`: those before the first one that reads a port, None if
    none does; `parts`: the groups; `hit`: the union of their atoms.
    """

    tests: tuple[Test, ...] = ()
    asked: tuple[Match, ...] = ()
    asked_first: tuple[Match, ...] = ()
    effects: Effects = ()
    verdict: Verdict | None = None
    groups: Groups = ()
    axis: int = -1
    numbers: str = ""
    reads_port: bool = False
    then: RuleStep | None = None
    problem: str = ""
    limits: Limits = ()
    guard: Limits | None = None
    parts: tuple[tuple[Verdict, Atoms], ...] = ()
    hit: Atoms = 0

    @property
    def is_plain(self) -> bool:
        """Whether it has no conditions."""
        return not (
            self.tests or self.asked or self.groups or self.numbers or self.problem or (self.effects and self.then)
        )

    def ask(self, match: Match) -> None:
        """Adds a test of the priority."""
        self.asked += (match,)
        if not any(test.reads_port for test in self.tests):
            self.asked_first = self.asked

    def bind(self, axes: Sequence[Axis]) -> None:
        """Turn ranges into atoms."""
        try:
            self._bind(axes)
        except MalformedError as error:
            self.limits, self.problem = (), str(error)
        if self.then is not None:
            self.then.bind(axes)

    def _bind(self, axes: Sequence[Axis]) -> None:
        wanted: dict[int, Atoms] = {}
        self.guard, self.hit = None, 0
        for test in self.tests:
            if test.reads_port and self.guard is None:
                self.guard = tuple(wanted.items())
            wanted[test.axis] = wanted.get(test.axis, axes[test.axis].full) & test.atoms(axes[test.axis])
        self.limits = tuple(wanted.items())
        if self.reads_port and self.guard is None:
            self.guard = self.limits
        self.parts = tuple((verdict, axes[self.axis].select(ranges)) for verdict, ranges in self.groups)
        for _, atoms in self.parts:
            self.hit |= atoms


Entries = Iterable[tuple[Range, Verdict]]  # of a look-up


def near(entries: Entries, within: tuple[int, int] | None) -> Entries:
    """The entries that have numbers between these two. MalformedError unless the ranges of all are disjoint and
    sorted."""
    return entries if within is None else _near(list(entries), *within)


def _near(entries: Sequence[tuple[Range, Verdict]], low: Key, high: Key) -> Entries:
    before: Key | None = None
    for item, _ in entries:
        first, last = item.first, item.last
        if (before is not None and not before < first) or first > last:  # type: ignore[operator]
            raise MalformedError(f"range {first}-{last} is out of order")
        before = last
    return [entry for entry in entries if entry[0].first <= high and entry[0].last >= low]  # type: ignore[operator]


def grouped(entries: Iterable[tuple[Range, Verdict]]) -> Groups:
    """The ranges of each verdict. MalformedError unless all ranges together are disjoint and sorted."""
    found: dict[object, tuple[Verdict, list[Range]]] = {}
    before: Key | None = None
    for item, verdict in entries:
        if (before is not None and not before < item.first) or item.first > item.last:  # type: ignore[operator]
            raise MalformedError(f"range {item.first}-{item.last} is out of order")
        before = item.last
        key = verdict.chain if verdict.kind is VerdictKind.GOTO else (verdict.kind, verdict.chain)
        if key in found:
            found[key][1].append(item)
        else:
            found[key] = (verdict, [item])
    return tuple((verdict, tuple(ranges)) for verdict, ranges in found.values())


def counter_of(outcome: Outcome) -> str:
    """The counter that packets meet first; "" if none. Many outcomes are told apart by it: hashing one is slow."""
    first = outcome[0][0] if outcome[0] else None
    return first.counter if isinstance(first, Count) else ""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a leaf asks first: packets with a priority in these ranges return."""

    ranges: tuple[Range, ...]

    def is_within(self, other: Bound) -> bool:
        """Whether each range is in one of the other's."""
        return all(any(o.first <= r.first and r.last <= o.last for o in other.ranges) for r in self.ranges)  # type: ignore[operator]


def bound_of(steps: Sequence[RuleStep]) -> Bound | None:
    """What the chain asks first, if that is the priority, and nothing else is asked or done then."""
    first = steps[0] if steps else None
    if first is None or len(first.asked) != 1 or first.tests or first.effects or first.verdict is None:
        return None
    (match,), verdict = first.asked, first.verdict
    is_bound = verdict.kind is VerdictKind.RETURN and not match.negate and match.mask is None
    return Bound(match.ranges) if is_bound else None


def way_out(steps: Sequence[RuleStep]) -> str:
    """The chain that the first of these steps sends all packets to for good; "" if it doesn't."""
    first = steps[0] if steps else None
    verdict = first.verdict if first is not None and first.is_plain else None
    return verdict.chain if verdict is not None and verdict.kind is VerdictKind.GOTO else ""
