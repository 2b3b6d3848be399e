"""`sgdp diff --live`: dropped packets of the last hour that a change would accept, from the agent's history.

Owns which rows of history are in a line that opens, and their wording. Is given what a comparison found. Must not know
how history is kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.analyse.view import VerdictChange
from sgdataplane.cli.flows import document_of
from sgdataplane.cli.history import Coverage, Document, coverage_of, history_path
from sgdataplane.cli.scopes import is_about_this_host
from sgdataplane.errors import HostError
from sgdataplane.history.read import HistoryQuery, open_history
from sgdataplane.history.rows import HOUR_S, Fate, HistoryRow
from sgdataplane.model import words
from sgdataplane.model.state import CloudState
from sgdataplane.model.words import pluralize
from sgdataplane.net.ranges import Ranges, meet, minus, unite
from sgdataplane.net.values import Family
from sgdataplane.policy.dimensions import DIMENSIONS, PORT, PROTOCOL, REMOTE, Dimension
from sgdataplane.suggest.evidence import ANY, SeenFlow
from sgdataplane.suggest.rows import HistoryEvidence
from sgdataplane.terminal.output import paint, render_table, say, say_aside, say_block, whole_seconds
from sgdataplane.trial.lines import TrialLine

MAX_ROWS = 20  # that are listed for people
HEADERS = ("ENI", "DIRECTION", "OTHER END", "TRAFFIC", "PACKETS", "LAST SEEN", "DECIDED AFTER")


@dataclass(frozen=True, slots=True)
class OpenedRow:
    """A row of history whose packets a change would accept."""

    row: HistoryRow
    line: TrialLine
    is_certain: bool
    """Whether all its packets are in the line. A row doesn't say its source port, nor the ENI's own address."""

    def as_json(self) -> Document:
        """Return the row as `sgdp flows --json` has it, with what would decide after the change."""
        return {**document_of(self.row), "after": self.line.change.after.as_json(), "is_certain": self.is_certain}

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells below HEADERS."""
        key, count = self.row.key, self.row.count
        after = words.cite_decision(self.line.change.after)
        shown = after if self.is_certain else f"perhaps {after}"
        last = whole_seconds(count.last)
        return key.eni_id, key.direction.value, key.end, key.traffic, f"{count.packets:,}", last, shown


@dataclass(frozen=True, slots=True)
class OpenedRows:
    """Everything that was dropped in the last hour and that a change would accept."""

    rows: tuple[OpenedRow, ...]
    coverage: Coverage

    @classmethod
    def read(
        cls, arguments: argparse.Namespace, before: CloudState, diff: StateDiff, changes: Iterable[VerdictChange]
    ) -> Self | None:
        """Return what history has; None, and a line on stderr that says why, if no history is kept there."""
        if not is_about_this_host(arguments):
            return None  # labs keep none
        now = time.time()
        query = HistoryQuery(since=now - HOUR_S, until=now + 1, fates=(Fate.DROP,))
        try:
            with open_history(history_path(arguments)) as history:
                rows = tuple(find_opened(history.flows(query), before, diff, changes))
                return cls(rows, coverage_of(history, query))
        except HostError as error:
            say_aside(f"dropped packets aren't compared: {error}")
            return None

    @property
    def title(self) -> str:
        """How many packets, in words; those of which not all are certain to be accepted are counted apart."""
        certain, perhaps = (
            sum(each.row.count.packets for each in self.rows if each.is_certain is is_certain)
            for is_certain in (True, False)
        )
        more = f", and perhaps {perhaps:,}" if perhaps else ""
        return f"packets dropped in the last hour that the change would accept: {certain:,}{more}"

    def say(self, *, is_markdown: bool = False) -> None:
        """Print the title, the rows, the latest first, and since when history knows."""
        say(f"**{self.title}**" if is_markdown else paint(self.title, "bold"))
        if self.rows:
            say_block(render_table(HEADERS, [each.cells for each in self.rows[:MAX_ROWS]], indent=2))
        if len(self.rows) > MAX_ROWS:
            say(f"  {pluralize(len(self.rows) - MAX_ROWS, 'more row')}; --json has all")
        begin = self.coverage.recorded_since
        if begin is None or begin > self.coverage.since:
            say("  nothing is recorded yet" if begin is None else f"  history begins at {whole_seconds(begin)}")

    def as_json(self) -> Document:
        """Return all rows, with what history doesn't know of that hour."""
        return {**self.coverage.as_json(), "flows": [each.as_json() for each in self.rows]}


def find_opened(
    rows: Iterable[HistoryRow], before: CloudState, diff: StateDiff, changes: Iterable[VerdictChange]
) -> Iterator[OpenedRow]:
    """Yield the rows with packets in a line that opens, each with such a line."""
    by_place: dict[object, list[TrialLine]] = {}
    for change in changes:
        if change.is_opening:
            line = TrialLine(change, diff.view(change.eni_id, change.direction, change.family).judged)
            by_place.setdefault(line.place, []).append(line)
    evidence = HistoryEvidence(before)
    for row in rows:
        for flow in evidence.read([row]):
            families = sorted({remote.family for remote in flow.remotes}, key=lambda family: family.bits)
            found = [each for family in families if (each := _find_line(flow, family, by_place)) is not None]
            if found:
                is_certain = len(found) == len(families) and all(has_all for _, has_all in found)
                yield OpenedRow(row, found[0][0], is_certain)


def _find_line(
    flow: SeenFlow, family: Family, by_place: Mapping[object, Sequence[TrialLine]]
) -> tuple[TrialLine, bool] | None:
    """Return a line with packets of a row, if possible with all of that family, and whether it has them all."""
    known = _numbers_of(flow, family)
    found = None
    for line in by_place.get((flow.eni_id, flow.direction, family), ()):
        pairs = [(known.get(each), ranges) for each, ranges in zip(DIMENSIONS, line.ranges, strict=True)]
        if all(bool(ranges) if mine is None else meet(mine, ranges) for mine, ranges in pairs):
            found = line, _has_all(line, known)
            if found[1]:
                break
    return found


def _numbers_of(flow: SeenFlow, family: Family) -> Mapping[Dimension, Ranges]:
    """Return the numbers that a row tells, by dimension."""
    known = {REMOTE: unite((remote.first, remote.last) for remote in flow.remotes if remote.family is family)}
    if flow.protocol != ANY:
        known[PROTOCOL] = ((flow.protocol, flow.protocol),)
    if flow.port is not None:
        known[PORT] = ((flow.port, flow.port),)
    return known


def _has_all(line: TrialLine, known: Mapping[Dimension, Ranges]) -> bool:
    """Return whether a line has all packets with these numbers."""
    return all(
        part is None if each not in known else not minus(known[each], ranges)
        for each, ranges, part in zip(DIMENSIONS, line.ranges, line.change.ranges, strict=True)
    )
