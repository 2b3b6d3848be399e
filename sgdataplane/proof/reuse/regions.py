"""Find the packets that a changed table can treat otherwise than the proven one, as boxes.

Owns the comparison of chains side by side, and boxes. It is given both versions of the chains. It must not know rules
of users.

For a packet outside of all boxes, both tables do the same, and the same is read of both. A box may be too large, never
too small. If chains differ in too many places, or if it can't be told, there is no answer.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, takewhile

from sgdataplane.contract.fields import Field
from sgdataplane.nft.changes import same_ends
from sgdataplane.nft.ir import Chain, Match, Range, Rule, Statement, Verdict, VerdictKind, VerdictMap
from sgdataplane.proof.spec.axes import Atoms, Span, holds, patterns
from sgdataplane.proof.spec.readings import FieldReading
from sgdataplane.proof.walk.step import RuleStep
from sgdataplane.proof.walk.structure import Structure

Covered = tuple[Range, ...] | None  # None: all values
RegionBox = tuple[Covered, ...]  # the values on each axis
Entries = Sequence[tuple[Range, Verdict]]  # the entries of a look-up
Rests = tuple[Verdict | None, Verdict | None]  # the verdicts on packets that the one and the other look-up don't find
MAX_BOXES = 24  # so many boxes there may be, and so many entries of two maps may differ
MAX_PAIRS = 16 * MAX_BOXES  # so many pairs of chains are compared


class UntoldError(Exception):
    """It can't be told where chains differ, or a walk of everything is cheaper."""


def overlap(one: Sequence[Range], other: Sequence[Range]) -> bool:
    """Return whether two lists of ranges, both sorted, have a number in common."""
    if not one or not other:
        return False
    if one[-1].last < other[0].first or other[-1].last < one[0].first:  # type: ignore[operator]
        return False
    return any(a.first <= b.last and b.first <= a.last for a in one for b in other)  # type: ignore[operator]


def is_met(box: RegionBox, ranges: Iterable[Covered]) -> bool:
    """Return whether a packet can be in both the box and the ranges."""
    return all(a is None or b is None or overlap(a, b) for a, b in zip(box, ranges, strict=True))


def ahead(steps: Iterable[RuleStep], box: RegionBox) -> Iterator[str]:
    """Yield the chains to which steps can send packets in the box."""
    for step in steps:
        tests = [(box[test.axis], test.ranges) for test in step.tests if not test.negate and test.mask is None]
        if any(_is_apart(mine, ranges) for mine, ranges in tests):
            continue
        if step.verdict is not None and step.verdict.chain:
            yield step.verdict.chain
        for verdict, ranges in step.groups:
            if verdict.chain and not _is_apart(box[step.axis], ranges):
                yield verdict.chain
        if step.then is not None:
            yield from ahead([step.then], box)


def _is_apart(mine: Covered, ranges: Sequence[Range]) -> bool:
    """Return whether ranges that a table asks for certainly have nothing in common with `mine`.

    The table's ranges may be in any order.
    """
    if mine and len(ranges) == 1:
        first, last = int(ranges[0].first), int(ranges[0].last)
        if first <= last and (last < int(mine[0].first) or first > int(mine[-1].last)):
            return True
    return mine is not None and is_sorted(ranges) and not overlap(mine, ranges)


def is_sorted(ranges: Sequence[Range]) -> bool:
    """Return whether ranges of numbers are disjoint and sorted."""
    ends = [int(end) for item in ranges for end in (2 * int(item.first), 2 * int(item.last) + 1)]
    return all(one < other for one, other in pairwise(ends))


class ClippedSpan(Span):
    """An axis for packets in some ranges only. Outside of these it isn't cut, and sets say nothing."""

    def __init__(self, last: int, cuts: Iterable[int], within: Covered) -> None:
        self._low, self._high = (int(within[0].first), int(within[-1].last)) if within else (0, last)
        inside = (cut for cut in cuts if self._low <= cut <= self._high + 1)
        super().__init__(last, (*inside, self._low, self._high + 1))

    def _select(self, ranges: Sequence[Range]) -> Atoms:
        if len(ranges) == 1:  # most entries of a map are like that, and few of them are in the box
            first, last = int(ranges[0].first), int(ranges[0].last)
            if 0 <= first <= last <= self.last and (last < self._low or first > self._high):
                return 0
        patterns([ranges], self.last)  # raises MalformedError, as any other span does
        ends = ((max(int(item.first), self._low), min(int(item.last), self._high)) for item in ranges)
        return super()._select([Range(first, last) for first, last in ends if first <= last])


@dataclass
class ChainPairs:
    """Compares two versions of chains, side by side."""

    structure: Structure
    """The later table's structure, which says what has changed."""
    reading: FieldReading
    """How the packets' fields are read."""
    leaves: Container[str]
    """The names of earlier leaves, which must stay as they are."""
    boxes: list[RegionBox] = field(default_factory=list)
    """Where the chains do something else; filled by compare()."""
    names: set[str] = field(default_factory=set)
    """The later chains that were looked into; filled by compare()."""
    _pairs_left: int = MAX_PAIRS

    @cached_property
    def _axes(self) -> Mapping[Field, int]:
        return {asked: axis for (asked, mask), axis in self.reading.axes.items() if mask is None}

    def compare(self, one: str, other: str, box: RegionBox) -> None:
        """Compare the earlier chain `one` with the later one `other`, for the packets of a box.

        Raises:
            UntoldError: They differ in too many places, or it can't be told where.
        """
        structure = self.structure
        if one == other and one not in structure.dirty:
            return
        self._pairs_left -= 1
        if not self._pairs_left:
            raise UntoldError
        self.names.add(other)
        before, after = structure.gone.get(one) or structure.table.chain.get(one), structure.table.chain.get(other)
        if before is None or after is None or one in self.leaves or not self._is_comparable(before, after):
            self._note_box(box)
        else:
            self._compare_chains(before.rules, after.rules, box)

    def _is_comparable(self, before: Chain, after: Chain) -> bool:
        """Return whether both have as many rules, and all that the later chain uses exists and is the same."""
        facts = self.structure.facts[after.name]
        return (
            len(before.rules) == len(after.rules)
            and facts.counters <= self.structure.table.counter.keys()
            and facts.maps.isdisjoint(self.structure.touched_maps)
        )

    def _compare_chains(self, before: Sequence[Rule], after: Sequence[Rule], box: RegionBox) -> None:
        """Compare the rules of two chains, until one pair of rules lets no packet go on."""
        for index, (mine, theirs) in enumerate(zip(before, after, strict=True)):
            self._compare_rules(mine, theirs, box, (_rest(before[index + 1 :]), _rest(after[index + 1 :])))
            if self._takes_all(mine) and self._takes_all(theirs):
                return

    def _note_box(self, box: RegionBox | None) -> None:
        """Note a box in which the chains may differ.

        Raises:
            UntoldError: There are too many.
        """
        if box is not None and box not in self.boxes:
            self.boxes.append(box)
        if len(self.boxes) > MAX_BOXES:
            raise UntoldError

    def _compare_rules(self, mine: Rule, theirs: Rule, box: RegionBox, rests: Rests) -> None:
        """Compare two rules.

        If they differ only in where they lead, the chains there are compared. If they differ in anything else, their
        packets are noted.
        """
        before, one, other = mine.statements[:-1], _last(mine), _last(theirs)
        is_like = before == theirs.statements[:-1] and not any(map(_leads, before))
        if is_like and isinstance(one, Verdict) and isinstance(other, Verdict):
            self._compare_verdicts(one, other, self._narrow(box, before))
        elif is_like and isinstance(one, VerdictMap) and isinstance(other, VerdictMap) and _are_plain(one, other):
            self._compare_maps(one, other, self._narrow(box, before), rests)
        elif not is_like or one != other or isinstance(one, VerdictMap):
            for rule in (mine, theirs):
                self._note_box(self._narrow(box, takewhile(_is_match, rule.statements)))

    def _compare_verdicts(self, one: Verdict, other: Verdict, box: RegionBox | None) -> None:
        """Compare where two verdicts lead."""
        if box is not None and one.kind is other.kind and one.chain and other.chain:
            self.compare(one.chain, other.chain, box)
        elif box is not None and one != other:
            self._note_box(box)

    def _compare_maps(self, one: VerdictMap, other: VerdictMap, box: RegionBox | None, rests: Rests) -> None:
        """Compare two look-ups in elements of their own, for each interval of values in which they may differ."""
        axis = self._axes.get(one.field)
        if box is None or axis is None:
            self._note_box(box)
            return
        if not is_sorted([item for item, _ in other.entries]):
            raise UntoldError
        ways = self._differing(one.entries, other.entries)
        if sum(map(len, ways)) > MAX_BOXES:
            self._note_box(box)
            return
        for first, after in pairwise(sorted({end for some in ways for item, _ in some for end in _ends_of(item)})):
            found = [_at(some, first) for some in ways]
            part = _within(box, axis, (Range(first, after - 1),))
            if found != [None, None] and part is not None:  # else neither look-up is about these values
                self._compare_ways(found[0] or rests[0], found[1] or rests[1], part)

    def _differing(self, one: Entries, other: Entries) -> tuple[Entries, Entries]:
        """Return the entries of two look-ups that aren't the same, or lead to chains that may differ."""
        start, end = same_ends(one, other)
        at_ends = (*one[:start], *one[len(one) - end :])
        moved = [entry for entry in at_ends if entry[1].chain in self.structure.dirty]
        here, there = one[start : len(one) - end], other[start : len(other) - end]
        same = {entry for entry in set(here) & set(there) if entry[1].chain not in self.structure.dirty}
        mine, theirs = ([*moved, *(e for e in some if e not in same)] for some in (here, there))
        return mine, theirs

    def _compare_ways(self, one: Verdict | None, other: Verdict | None, box: RegionBox) -> None:
        """Compare where two look-ups lead; None stands for a verdict that isn't known."""
        if one is None or other is None:
            self._note_box(box)
        else:
            self._compare_verdicts(one, other, box)

    def _narrow(self, box: RegionBox, statements: Iterable[Statement]) -> RegionBox | None:
        """Return the part of the box for which all matches hold, or more; None if there is none."""
        left: RegionBox | None = box
        for match in (statement for statement in statements if isinstance(statement, Match)):
            axis = self._axes.get(match.field)
            if self._certainly(match) is False:
                return None
            if axis is not None and left is not None and not match.negate and match.mask is None:
                if not is_sorted(match.ranges):
                    raise UntoldError
                left = _within(left, axis, match.ranges)
        return left

    def _certainly(self, match: Match) -> bool | None:
        """Return whether a match holds for all packets of the kind, or for none; None if that depends on the packet."""
        reading = self.reading
        if reading.axis(match.field, match.mask) is not None:
            return None
        return holds(match, reading.known[match.field]) if match.field in reading.known else reading.answers.get(match)

    def _takes_all(self, rule: Rule) -> bool:
        """Return whether no packet goes on to the next rule."""
        last = _last(rule)
        is_certain = all(isinstance(some, Match) and self._certainly(some) for some in rule.statements[:-1])
        return is_certain and isinstance(last, Verdict) and last.kind is not VerdictKind.JUMP


def _last(rule: Rule) -> Statement | None:
    return rule.statements[-1] if rule.statements else None


def _is_match(statement: Statement) -> bool:
    return isinstance(statement, Match)


def _leads(statement: Statement) -> bool:
    """Return whether packets can leave the rule at this statement."""
    return isinstance(statement, Verdict | VerdictMap)


def _are_plain(one: VerdictMap, other: VerdictMap) -> bool:
    """Return whether both look up the same field in elements of their own."""
    return one.field is other.field and not one.name and not other.name


def _rest(rules: Sequence[Rule]) -> Verdict | None:
    """Return the verdict that the first of these rules has for all packets.

    Return None if it does something else, or if packets come back.
    """
    statements = rules[0].statements if rules else ()
    verdict = statements[0] if len(statements) == 1 else None
    return verdict if isinstance(verdict, Verdict) and verdict.kind is not VerdictKind.JUMP else None


def _ends_of(item: Range) -> tuple[int, int]:
    return int(item.first), int(item.last) + 1


def _at(entries: Entries, value: int) -> Verdict | None:
    return next((v for item, v in entries if int(item.first) <= value <= int(item.last)), None)


def _within(box: RegionBox, axis: int, ranges: tuple[Range, ...]) -> RegionBox | None:
    """Return the part of a box in some ranges of an axis; None if there is none."""
    mine = box[axis]
    if mine is not None:
        ranges = tuple(
            Range(max(int(a.first), int(b.first)), min(int(a.last), int(b.last)))
            for a in mine
            for b in ranges
            if int(a.first) <= int(b.last) and int(b.first) <= int(a.last)
        )
    return (*box[:axis], ranges, *box[axis + 1 :]) if ranges else None
