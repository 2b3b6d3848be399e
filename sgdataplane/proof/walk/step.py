"""Represent one rule as a kind of packet meets it: tests on axes and of the priority, effects.

Owns the way from ranges to sets of atoms. It must not know tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sgdataplane.contract.tables import AUDIT, LIMIT
from sgdataplane.nft.ir import (
    Exceeds,
    Key,
    Log,
    Match,
    OneIn,
    Range,
    Remember,
    SessionsExceed,
    Verdict,
    VerdictKind,
)
from sgdataplane.proof.spec.axes import Atoms, Axis, MalformedError
from sgdataplane.proof.spec.outcomes import Effects

Groups = tuple[tuple[Verdict, tuple[Range, ...]], ...]
TIMEOUTS = "timeouts-"  # names of chains that only set timeouts begin so (timeouts.py checks that they do no more)
APART = (TIMEOUTS, LIMIT, AUDIT)  # jumps to such chains are checked apart: timeouts.py, limits.py, audits.py
Unprovable = Exceeds | Log | OneIn | SessionsExceed | Remember
UNPROVABLE = {
    Exceeds: "a limit decides by the packets that came before",
    Log: "a log has no counter right before it",
    OneIn: "a random number decides",
    SessionsExceed: "a count of sessions decides",
    Remember: "it decides about packets that come later",
}
Limits = tuple[tuple[int, Atoms], ...]  # axes by index, each with the atoms that are wanted there


@dataclass(frozen=True, slots=True)
class Test:
    """A match on an axis: it holds in these ranges, or outside of them if negated."""

    axis: int
    """The index of the axis."""
    ranges: tuple[Range, ...]
    negate: bool
    mask: int | None
    reads_port: bool
    """Whether the field is a port, which not all packets have."""

    def atoms(self, axis: Axis) -> Atoms:
        """Return the atoms that it holds for."""
        chosen = axis.select(self.ranges, self.mask)
        return axis.present & ~chosen if self.negate else chosen


@dataclass(slots=True)
class RuleStep:
    """One rule, or the rest of one.

    If all tests hold, those of the priority included, it has its effects. Then comes one of four: a verdict, a look-up
    on an axis, a look-up of the priority, or the rest of the rule. If a test doesn't hold, or if there is no verdict,
    the packet goes on to the next rule.

    The last four fields are set by bind().
    """

    tests: tuple[Test, ...] = ()
    """Tests on axes."""
    asked: tuple[Match, ...] = ()
    """Tests of the priority."""
    asked_first: tuple[Match, ...] = ()
    """Those of them that come before any port is read."""
    effects: Effects = ()
    verdict: Verdict | None = None
    """What happens to packets that come so far; None if they go on."""
    groups: Groups = ()
    """A look-up on the axis with index `axis`: the ranges of each verdict."""
    axis: int = -1
    """The index of the axis of the look-up; -1 if there is none."""
    numbers: str = ""
    """The name of a map in which the priority is looked up."""
    reads_port: bool = False
    """Whether the look-up is by a port."""
    then: RuleStep | None = None
    """The rest of the rule."""
    problem: str = ""
    """Why no packet may come so far; "" if packets may."""
    limits: Limits = ()
    """All tests on axes, as atoms."""
    guard: Limits | None = None
    """The tests before the first one that reads a port, as atoms; None if none reads a port."""
    parts: tuple[tuple[Verdict, Atoms], ...] = ()
    """The groups, as atoms."""
    hit: Atoms = 0
    """All atoms that the look-up finds."""

    @property
    def is_plain(self) -> bool:
        """Whether it has no conditions."""
        return not (
            self.tests or self.asked or self.groups or self.numbers or self.problem or (self.effects and self.then)
        )

    def ask(self, match: Match) -> None:
        """Add a test of the priority."""
        self.asked += (match,)
        if not any(test.reads_port for test in self.tests):
            self.asked_first = self.asked

    def bind(self, axes: Sequence[Axis]) -> None:
        """Turn ranges into atoms of these axes."""
        try:
            self._bind(axes)
        except MalformedError as error:
            self.limits, self.problem = (), str(error)
        if self.then is not None:
            self.then.bind(axes)

    def _bind(self, axes: Sequence[Axis]) -> None:
        """Turn the ranges of this step into atoms."""
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


Entries = Iterable[tuple[Range, Verdict]]  # the entries of a look-up


def near(entries: Entries, within: tuple[int, int] | None) -> Entries:
    """Return the entries that have numbers between these two; all entries if there are no bounds.

    Raises:
        MalformedError: The ranges of all entries aren't disjoint and sorted.
    """
    return entries if within is None else _near(list(entries), *within)


def _near(entries: Sequence[tuple[Range, Verdict]], low: Key, high: Key) -> Entries:
    """Return the entries that have numbers from `low` to `high`."""
    before: Key | None = None
    for item, _ in entries:
        first, last = item.first, item.last
        if (before is not None and not before < first) or first > last:  # type: ignore[operator]
            raise MalformedError(f"range {first}-{last} is out of order")
        before = last
    return [entry for entry in entries if entry[0].first <= high and entry[0].last >= low]  # type: ignore[operator]


def group_by_verdict(entries: Iterable[tuple[Range, Verdict]]) -> Groups:
    """Return the ranges of each verdict.

    Raises:
        MalformedError: All ranges together aren't disjoint and sorted.
    """
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


@dataclass(frozen=True, slots=True)
class Bound:
    """What a leaf (verdict chain) asks first: packets with a priority in these ranges return."""

    ranges: tuple[Range, ...]

    def is_within(self, other: Bound) -> bool:
        """Return whether each range is in one of the other's."""
        return all(any(o.first <= r.first and r.last <= o.last for o in other.ranges) for r in self.ranges)  # type: ignore[operator]


def read_bound(steps: Sequence[RuleStep]) -> Bound | None:
    """Return the priorities that the chain returns at once; None if it begins with anything else."""
    first = steps[0] if steps else None
    if first is None or len(first.asked) != 1 or first.tests or first.effects or first.verdict is None:
        return None
    (match,), verdict = first.asked, first.verdict
    is_bound = verdict.kind is VerdictKind.RETURN and not match.negate and match.mask is None
    return Bound(match.ranges) if is_bound else None


def way_out(steps: Sequence[RuleStep]) -> str:
    """Return the chain that the first of these steps sends all packets to for good; "" if it doesn't."""
    first = steps[0] if steps else None
    verdict = first.verdict if first is not None and first.is_plain else None
    return verdict.chain if verdict is not None and verdict.kind is VerdictKind.GOTO else ""
