"""The report of a trial as one value: for everybody who shows it, and for the way from the agent to a command.

Owns the record and its form between processes. Must not know how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sgdataplane.analyse.document import change_as_json
from sgdataplane.model.words import pluralize
from sgdataplane.observe.ledger import Sum
from sgdataplane.trial.lines import TrialLine
from sgdataplane.trial.linetext import line_as_plain, line_of
from sgdataplane.trial.record import TrialRecord
from sgdataplane.trial.samples import LineSamples
from sgdataplane.trial.trial import DoneLine, Trial, spell_time

MAX_UNSAMPLED = 8  # that are told
LATE_S = 120.0  # a reading that finds more packets so long after the last sample shows that samples are missing


@dataclass(frozen=True, slots=True)
class SeenLine:
    """A line and what its counter has counted: new sessions that were opened, and each packet that was refused."""

    line: TrialLine
    counter: str
    packets: int
    sharing: int = 1
    """How many lines count with that counter, this one included."""
    first: str = ""
    """When the first packet was seen, as in RFC 3339; empty for never."""
    last: str = ""
    """When the last packet was seen, as in RFC 3339; empty for never."""
    ends: tuple[str, ...] = ()
    """The ends that came most often among the samples."""

    @property
    def is_opening(self) -> bool:
        """Whether the line's traffic would be accepted, and is refused now."""
        return self.line.change.is_opening


@dataclass(frozen=True, slots=True)
class TrialReport:
    """Everything that is known of a trial at one moment."""

    record: TrialRecord
    paused: str
    """Why nothing is counted now, or empty."""
    lines: tuple[SeenLine, ...]
    done: tuple[DoneLine, ...]
    """Lines that an apply has made true."""
    unsampled: tuple[str, ...] = ()
    """Namespaces that are counted and not sampled, each with why."""

    @property
    def is_merged(self) -> bool:
        """Whether lines share counters."""
        return any(seen.sharing > 1 for seen in self.lines)

    def packets(self, *, is_opening: bool) -> int:
        """Return how many packets were counted at lines that open, or that close."""
        found = {seen.counter: seen.packets for seen in self.lines if seen.is_opening is is_opening}
        return sum(found.values())

    def as_plain(self) -> dict[str, object]:
        """Return the report as JSON can have it."""
        return {
            "record": asdict(self.record),
            "paused": self.paused,
            "lines": [
                [line_as_plain(seen.line), seen.counter, seen.packets, seen.sharing, seen.first, seen.last, seen.ends]
                for seen in self.lines
            ],
            "done": [[line_as_plain(one.line), one.packets, one.at] for one in self.done],
            "unsampled": self.unsampled,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> TrialReport:
        """Return the report that such a document holds."""
        lines = tuple(map(_line_seen_by, document["lines"]))
        done = tuple(DoneLine(line_of(line), packets, at) for line, packets, at in document["done"])
        record = document["record"]
        known = TrialRecord(**{**record, "enis": tuple(record["enis"])})
        return cls(known, document["paused"], lines, done, tuple(document["unsampled"]))


def _line_seen_by(entry: Sequence[Any]) -> SeenLine:
    line, counter, packets, sharing, first, last, ends = entry
    return SeenLine(line_of(line), counter, packets, sharing, first, last, tuple(ends))


def line_as_json(seen: SeenLine) -> dict[str, object]:
    """Return a line as `sgdp trial show --json` has it."""
    return {
        **change_as_json(seen.line.change),
        "verdict": "opens" if seen.is_opening else "closes",
        "packets": seen.packets,
        "counter": seen.counter,
        "lines_of_counter": seen.sharing,
        "first_seen": seen.first or None,
        "last_seen": seen.last or None,
        "frequent_ends": list(seen.ends),
    }


def report_of(trial: Trial, unsampled: Iterable[str] = ()) -> TrialReport:
    """Return what is known of a trial now. `unsampled` is as in TrialReport; a few of them are kept."""
    sharing: dict[str, int] = {}
    for counter in trial.counters.values():
        sharing[counter] = sharing.get(counter, 0) + 1
    lines = tuple(_line_seen(trial, line, sharing[trial.counters[name]]) for name, line in trial.lines.items())
    return TrialReport(trial.record, trial.paused, lines, tuple(trial.done), _few(tuple(unsampled)))


def _few(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the first texts, and how many more there are."""
    more = len(texts) - MAX_UNSAMPLED
    return (*texts[:MAX_UNSAMPLED], *([f"{pluralize(more, 'more namespace')}"] if more > 0 else []))


def _line_seen(trial: Trial, line: TrialLine, sharing: int) -> SeenLine:
    total, counter = trial.sum_of(line), trial.counters[line.name]
    times = _times(trial.samples.by_counter.get(counter), total)
    return SeenLine(line, counter, total.packets, sharing, *times)


def _times(sampled: LineSamples | None, counted: Sum) -> tuple[str, str, tuple[str, ...]]:
    """Return when packets were seen first and last, and the ends that came most often.

    Readings give a time somewhat too late, samples the right one; but samples may be missing. A line whose counter
    shows nothing has none, because others can log in its name.
    """
    if not counted.packets:
        return "", "", ()
    if sampled is None:
        return counted.first, counted.last, ()
    is_late = spell_time(sampled.last + LATE_S) < counted.last
    last = counted.last if is_late else spell_time(sampled.last)
    return min(counted.first, spell_time(sampled.first)), last, sampled.most
