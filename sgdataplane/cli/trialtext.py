"""The report of a trial as text, Markdown, HTML and JSON.

Owns the wording, and the keys of `--json` (sgdataplane/schemas/trial.schema.json). Is given a report and live sessions.
Must not know where a trial runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from sgdataplane import __version__
from sgdataplane.analyse.document import change_as_json
from sgdataplane.cli.diff import COLOURS, HEADERS, MAX_MARKDOWN, NAMED, escape, row_of
from sgdataplane.cli.ending import MAX_SESSIONS, SESSION_HEADERS, Ending, EndingSessions
from sgdataplane.model.state import CloudState
from sgdataplane.model.words import first_of, pluralize
from sgdataplane.net.values import Direction
from sgdataplane.report.content import TrialPage, TrialTable
from sgdataplane.terminal.output import hanging, iso_time, paint, render_table, say, say_block, warn, whole_seconds
from sgdataplane.trial.lines import TrialLine
from sgdataplane.trial.record import TrialRecord
from sgdataplane.trial.report import SeenLine, TrialReport, line_as_json
from sgdataplane.trial.tables import SAMPLES_A_SECOND
from sgdataplane.trial.trial import DoneLine

SEEN_HEADERS = ("SEEN", "FIRST", "LAST", "MOST FREQUENT ENDS")
MAX_DONE = 20
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
TWO_DAYS = 2 * 86400
SAMPLED = f"Counts are exact. Ends are samples: at most {SAMPLES_A_SECOND} packets a second of each line."
MERGED = "There are very many lines: several of them share one counter, which is shown at each of them."


@dataclass(frozen=True, slots=True)
class ShownTrial:
    """Everything that is shown of a trial."""

    report: TrialReport
    sessions: tuple[Ending, ...]
    """Live sessions that the change would end."""
    owners: Mapping[str, str]
    """Address -> ENI id, by the state in force."""
    now: float
    """Seconds since 1970."""

    def is_seen(self, what: str | None) -> bool:
        """Return whether something was seen that would close, or that would open; either, if `what` is None."""
        closes = bool(self.report.packets(is_opening=False) or self.sessions)
        opens = bool(self.report.packets(is_opening=True))
        return {"close": closes, "open": opens}.get(what or "", closes or opens)

    def end(self, address: str) -> str:
        """Return an address, with the ENI that has it."""
        return f"{address} ({self.owners[address]})" if address in self.owners else address

    @property
    def unseen(self) -> str:
        """What is said of a line that has counted nothing."""
        return f"not seen in {duration(self.now - self.report.record.since)}"


def owners_of(state: CloudState | None) -> dict[str, str]:
    """Return the ENI of each address that only one ENI has."""
    found: dict[str, set[str]] = {}
    for eni in () if state is None else state.network_interfaces:
        for address in eni.addresses:
            found.setdefault(str(address), set()).add(eni.network_interface_id)
    return {address: min(enis) for address, enis in found.items() if len(enis) == 1}


def duration(seconds: float) -> str:
    """Return a time as people say it, in its largest unit, up to two days in hours: "26 h"."""
    whole = max(0, int(seconds))
    for size, unit in UNITS:
        if whole >= (TWO_DAYS if unit == "d" else size):
            return f"{whole // size} {unit}"
    return "0 s"


# text


def say_started(report: TrialReport) -> None:
    """Say what runs now."""
    record = report.record
    enis = {seen.line.change.eni_id for seen in report.lines}
    lines = f"counts {pluralize(len(report.lines), 'line')} at {pluralize(len(enis), 'ENI')}"
    say(f"trial {record.name}: {lines} until {whole_seconds(iso_time(record.until))}")
    if report.is_merged:
        say(MERGED)
    if report.paused:
        warn(f"it is paused: {report.paused}")
    elif not report.lines:
        say("no verdict would change at these ENIs")
    else:
        say("no verdict is changed; `sgdp trial show` shows what was counted")


def print_text(shown: ShownTrial) -> None:
    """Print the lines by ENI and direction, then the sessions that would end, then what an apply has made true."""
    report = shown.report
    say(headline(shown))
    if report.paused:
        warn(f"it is paused, so nothing is counted now: {report.paused}")
    for title, lines in by_place([seen for seen in report.lines if seen.packets]):
        _print_seen(shown, title, lines)
    _print_unseen(shown)
    if not report.lines:
        say("no verdict would change at these ENIs")
    EndingSessions(shown.sessions).say()
    for one in report.done[:MAX_DONE]:
        say(describe_done(one))
    if len(report.done) > MAX_DONE:
        say(f"{pluralize(len(report.done) - MAX_DONE, 'more line')} that an apply has made true; --json has all")
    say(summary(shown))
    if any(seen.ends for seen in report.lines):
        say(SAMPLED)
    if report.is_merged:
        say(MERGED)
    if report.unsampled:
        warn(explain_unsampled(report))


def explain_unsampled(report: TrialReport) -> str:
    """Say where no ends are sampled, and why."""
    return f"packets are counted and not sampled in {'; '.join(report.unsampled)}"


def _print_seen(shown: ShownTrial, title: str, lines: Sequence[SeenLine]) -> None:
    """Print what was seen at one ENI in one direction: the lines, then when, and from where."""
    say(paint(title, "bold"))
    rows = [(_verdict(seen), _packets(seen), *row_of(seen.line.change)[1:]) for seen in lines]
    say_block(render_table(("VERDICT", "SEEN", *HEADERS), rows, indent=2))
    for seen in lines:
        _, first, last, ends = make_seen_cells(shown, seen)
        times = f"at {first}" if first == last else f"from {first} to {last}"
        say_block(hanging("  ", f"{traffic(seen.line)}: {times}" + (f"; most {_way(seen)} {ends}" if ends else "")))


def _way(seen: SeenLine) -> str:
    return "from" if seen.line.change.direction is Direction.INGRESS else "to"


def _print_unseen(shown: ShownTrial) -> None:
    """Print all other lines; ENIs with the same ones share a table."""
    groups: dict[tuple[str, tuple[tuple[str, ...], ...]], list[str]] = {}
    for _, lines in by_place([seen for seen in shown.report.lines if not seen.packets]):
        rows = tuple((_verdict(seen), *row_of(seen.line.change)[1:]) for seen in lines)
        change = lines[0].line.change
        groups.setdefault((change.direction.value, rows), []).append(change.eni_id)
    for (direction, rows), enis in groups.items():
        say(f"{shown.unseen}: {direction} of {first_of(enis, NAMED)}")
        say_block(render_table(("VERDICT", *HEADERS), rows, indent=2))


def _verdict(seen: SeenLine) -> str:
    verdict = row_of(seen.line.change)[0]
    return paint(verdict, COLOURS[verdict])


def traffic(line: TrialLine) -> str:
    """Return a line in short."""
    return " ".join(filter(None, row_of(line.change)[1:4]))


def headline(shown: ShownTrial) -> str:
    """Say which trial it is, of which state, and for how long it runs."""
    record = shown.report.record
    since, until = duration(shown.now - record.since), whole_seconds(iso_time(record.until))
    return f"trial {record.name} of {record.source}: runs for {since}, until {until}"


def by_place(lines: Sequence[SeenLine]) -> Iterator[tuple[str, list[SeenLine]]]:
    """Yield the lines of each ENI and direction, with a title."""
    ordered = sorted(lines, key=_order)
    for (eni_id, direction), some in groupby(ordered, lambda seen: _order(seen)[:2]):
        yield f"{direction} of {eni_id}", list(some)


def _order(seen: SeenLine) -> tuple[str, str, bool]:
    change = seen.line.change
    return change.eni_id, change.direction.value, not seen.packets


def cells(shown: ShownTrial, seen: SeenLine) -> tuple[str, ...]:
    """Return one row of the table."""
    return (*row_of(seen.line.change), *make_seen_cells(shown, seen))


def make_seen_cells(shown: ShownTrial, seen: SeenLine) -> tuple[str, ...]:
    """Return how much was seen, when, and from where."""
    if not seen.packets:
        return shown.unseen, "", "", ""
    ends = ", ".join(map(shown.end, seen.ends))
    return _packets(seen), whole_seconds(seen.first), whole_seconds(seen.last), ends


def _packets(seen: SeenLine) -> str:
    return f"{seen.packets:,}" + (f" (by {seen.sharing:,} lines)" if seen.sharing > 1 else "")


def describe_done(one: DoneLine) -> str:
    """Say what an apply has made true."""
    change = one.line.change
    seen = "" if one.packets is None else f"; {pluralize(one.packets, 'packet')} had been seen"
    what = f"{row_of(change)[0]} {change.direction.value} of {change.eni_id}, {traffic(one.line)}"
    return f"now in force: {what} (since {whole_seconds(one.at)}{seen})"


def summary(shown: ShownTrial) -> str:
    """Say in one line what was seen in all."""
    report = shown.report
    numbers = {word: report.packets(is_opening=word == "open") for word in ("close", "open")}
    parts = [f"{number:,} that would {word}" for word, number in numbers.items() if number]
    sessions = f"; {pluralize(len(shown.sessions), 'live session')} would end" if shown.sessions else ""
    if not parts:
        return f"nothing was seen that would change{sessions}"
    return f"new sessions seen: {', '.join(parts)}{sessions}"


# Markdown


def as_markdown(shown: ShownTrial) -> str:
    """Return the report for a comment on a pull request; what doesn't fit is left out."""
    blocks = [f"### {escape(headline(shown))}", escape(summary(shown))]
    if shown.report.paused:
        blocks.append(f"> [!WARNING]\n> Paused: {escape(shown.report.paused)}")
    if shown.report.unsampled:
        blocks.append(f"> [!WARNING]\n> {escape(explain_unsampled(shown.report))}")
    header = ("VERDICT", *HEADERS, *SEEN_HEADERS)
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = [
        (f"**{escape(title)}**", header, [cells(shown, seen) for seen in lines])
        for title, lines in by_place(shown.report.lines)
    ]
    if shown.sessions:
        ending = EndingSessions(shown.sessions)
        tables.append((f"**{escape(ending.title)}**", SESSION_HEADERS, ending.rows))
    length = sum(map(len, blocks))
    for number, (title, names, rows) in enumerate(tables):
        block = _table(title, names, rows)
        length += len(block)
        if length > MAX_MARKDOWN:
            blocks.append(f"{pluralize(len(tables) - number, 'more table')} would make this too long.")
            break
        blocks.append(block)
    return "\n\n".join((*blocks, *(escape(describe_done(one)) for one in shown.report.done[:MAX_DONE])))


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"{title}\n", f"| {' | '.join(name.lower() for name in header)} |", f"|{'---|' * len(header)}"]
    return "\n".join((*lines, *(f"| {' | '.join(map(escape, row))} |" for row in rows)))


# HTML


def as_html(shown: ShownTrial) -> str:
    """Return the report as one page."""
    from sgdataplane.report.render import render_page

    record = shown.report.record
    header = ("VERDICT", *HEADERS, *SEEN_HEADERS)
    tables = [
        TrialTable(title, header, tuple(cells(shown, seen) for seen in lines))
        for title, lines in by_place(shown.report.lines)
    ]
    ending = EndingSessions(shown.sessions)
    sessions = TrialTable(ending.title, SESSION_HEADERS, tuple(ending.rows))
    facts = (
        ("State on trial", record.source),
        ("Since", whole_seconds(iso_time(record.since))),
        ("Until", whole_seconds(iso_time(record.until))),
        ("Lines", f"{len(shown.report.lines):,}"),
        ("Seen", summary(shown)),
    )
    notes = [SAMPLED, *([MERGED] if shown.report.is_merged else [])]
    if shown.report.unsampled:
        notes.append(explain_unsampled(shown.report))
    if shown.report.paused:
        notes.insert(0, f"The trial is paused, so nothing is counted now: {shown.report.paused}")
    return render_page(
        TrialPage(
            title=f"Trial {record.name}",
            source=record.source,
            version=__version__,
            facts=facts,
            tables=tuple(tables),
            sessions=sessions,
            sessions_left=max(0, len(shown.sessions) - MAX_SESSIONS),
            done=tuple(map(describe_done, shown.report.done)),
            notes=tuple(notes),
        )
    )


# JSON


def as_json(shown: ShownTrial) -> dict[str, object]:
    """Return the document of `--json`."""
    report = shown.report
    return {
        **record_as_json(report.record),
        "paused": report.paused or None,
        "unsampled": list(report.unsampled),
        "seen": {word: report.packets(is_opening=word == "open") for word in ("open", "close")},
        "lines": [line_as_json(seen) for seen in report.lines],
        "now_in_force": [
            {**change_as_json(one.line.change), "packets": one.packets, "since": one.at} for one in report.done
        ],
        "sessions": EndingSessions(shown.sessions).as_json(),
    }


def record_as_json(record: TrialRecord) -> dict[str, object]:
    """Return a trial as `trial list --json` has it."""
    plain = asdict(record)
    return {
        "name": plain["name"],
        "state": plain["source"],
        "enis": list(record.enis),
        "since": iso_time(record.since),
        "until": iso_time(record.until),
    }
