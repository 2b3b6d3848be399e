"""The lines of a trial: where the policy in force and the state on trial differ, each with its counter.

Owns what a line is, which lines share a counter if there are very many, and which have packets in common. Is given a
comparison of two states. Must not know chains, or what was counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.rows import PLACES, JudgedTraffic
from sgdataplane.analyse.view import VerdictChange
from sgdataplane.contract import names
from sgdataplane.net.ranges import Ranges, meet
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.dimensions import DIMENSIONS, LOCAL, REMOTE

MAX_COUNTERS = 2_000  # of one namespace: with more lines than that, several lines share one counter
PREFIX = "line"  # the names of counters begin with it


@dataclass(frozen=True, slots=True)
class TrialLine:
    """Traffic of an ENI whose verdict would change: one line of `sgdp diff`."""

    change: VerdictChange
    judged: JudgedTraffic
    """The part of it that rules judge. A packet beyond it that lies in the line's ranges changes no verdict."""

    @property
    def name(self) -> str:
        """A name that lasts as long as the traffic and its new verdict stay, whichever rules decide."""
        change = self.change
        traffic = (change.eni_id, change.direction.value, change.family.value, change.ranges, change.is_opening)
        return names.digest(repr(traffic), 16)

    @property
    def counter(self) -> str:
        """The counter of this line alone."""
        return names.identifier(PREFIX, self.name)

    @property
    def place(self) -> tuple[str, Direction, Family]:
        """The ENI, direction and family: only lines of one place can have packets in common."""
        return self.change.eni_id, self.change.direction, self.change.family

    @property
    def ranges(self) -> tuple[Ranges, ...]:
        """The numbers in each of DIMENSIONS; of local and remote addresses, those that the rules judge."""
        found = []
        for dimension, part in zip(DIMENSIONS, self.change.ranges, strict=True):
            whole = dimension.whole(self.change.family)
            found.append(whole if part is None else (part,))
        local = PLACES[LOCAL]
        found[local] = meet(found[local], self.judged.local)
        found[PLACES[REMOTE]] = meet(found[PLACES[REMOTE]], self.judged.far)
        return tuple(found)


class TrialLines(NamedTuple):
    """All lines of one namespace, sorted."""

    lines: tuple[TrialLine, ...]
    counters: Mapping[str, str]
    """The counter of each line, by the line's name."""
    is_merged: bool
    """Whether several lines share a counter."""

    @property
    def counter_names(self) -> tuple[str, ...]:
        """The names of all counters, sorted."""
        return tuple(sorted(set(self.counters.values())))


def lines_at(diff: StateDiff, enis: Iterable[str]) -> TrialLines:
    """Return the lines of a comparison at these ENIs."""
    wanted = set(enis)
    return with_counters(
        TrialLine(change, diff.view(eni_id, change.direction, change.family).judged)
        for eni_id in diff.list_concerned()
        if eni_id in wanted
        for change in diff.at(eni_id).changes
    )


def with_counters(lines: Iterable[TrialLine], most: int = MAX_COUNTERS) -> TrialLines:
    """Return the lines with a counter each.

    Beyond `most`, there is one counter for all that open, and one for all that close, in each direction of an ENI. If
    these are too many as well, all ENIs share them.
    """
    every = tuple(lines)
    counters = _counters(every, lambda line: line.name)
    for key in (_of_eni, _of_all):
        if len(set(counters.values())) <= most:
            break
        counters = _counters(every, key)
    return TrialLines(every, counters, len(set(counters.values())) < len(every))


def _counters(lines: Iterable[TrialLine], key: Callable[[TrialLine], str]) -> dict[str, str]:
    """Return the counter of each line's name; lines with equal keys share one."""
    return {line.name: names.identifier(PREFIX, key(line)) for line in lines}


def _of_eni(line: TrialLine) -> str:
    """Return a key that an ENI's lines in one direction share; those that open and those that close differ."""
    change = line.change
    return names.digest(repr((change.eni_id, change.direction.value, change.is_opening)), 16)


def _of_all(line: TrialLine) -> str:
    """Return a key that all ENIs' lines in one direction share; those that open and those that close differ."""
    return names.digest(repr((line.change.direction.value, line.change.is_opening)), 16)


class LineFinder:
    """Many lines, among which to look for one that has packets in common with another line."""

    def __init__(self, lines: Iterable[TrialLine]) -> None:
        by_place: dict[object, list[tuple[Ranges, ...]]] = {}
        for line in lines:
            if all(ranges := line.ranges):
                by_place.setdefault(line.place, []).append(ranges)
        self._places = {place: _SortedLines(boxes) for place, boxes in by_place.items()}

    def meets(self, line: TrialLine) -> bool:
        """Return whether some packet is in this line and in one of the others."""
        boxes, mine = self._places.get(line.place), line.ranges
        return boxes is not None and all(mine) and any(_meet(mine, other) for other in boxes.list_near(mine))


class _SortedLines:
    """The ranges of lines of one place, sorted by the dimension in which they differ most."""

    def __init__(self, boxes: Sequence[tuple[Ranges, ...]]) -> None:
        self._dim = max(range(len(DIMENSIONS)), key=lambda dim: len({box[dim] for box in boxes}))
        self._boxes = sorted(boxes, key=lambda box: box[self._dim][0][0])
        self._firsts = [box[self._dim][0][0] for box in self._boxes]
        self._lasts = list(accumulate((box[self._dim][-1][1] for box in self._boxes), max))

    def list_near(self, mine: tuple[Ranges, ...]) -> Iterator[tuple[Ranges, ...]]:
        """Yield the ranges that may meet these: in that dimension they begin in time, and not all have ended."""
        first, last = mine[self._dim][0][0], mine[self._dim][-1][1]
        at = bisect_right(self._firsts, last)
        while at and self._lasts[at - 1] >= first:
            at -= 1
            yield self._boxes[at]


def _meet(one: tuple[Ranges, ...], other: tuple[Ranges, ...]) -> bool:
    return all(meet(mine, theirs) for mine, theirs in zip(one, other, strict=True))
