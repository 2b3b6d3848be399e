"""The common part of verbs that show history, and `sgdp history`: say how much is kept, and forget some of it.

Owns where history is found, which time is asked for, and how an answer says what it doesn't know. Must not know what a
verb shows.

    {"path", "since", "until": the time that was asked for, "recorded_since": when history begins, or null,
     "gaps": {"packets", "sessions": that were counted, and not recorded one by one,
              "absent_s": for how many seconds nobody recorded}, ...}
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdataplane.cli.scopes import agent_config, find_named_lab
from sgdataplane.cli.times import read_time
from sgdataplane.daemon.lookup import look_up_here
from sgdataplane.errors import HostError
from sgdataplane.history.read import History, HistoryQuery
from sgdataplane.history.rows import Fate, Gap
from sgdataplane.history.span import TIME_WORDS
from sgdataplane.model.words import pluralize
from sgdataplane.terminal.arguments import ENI_HELP, Parser, Summary, Verbs, require_root
from sgdataplane.terminal.output import Exit, iso_time, print_json, say, say_aside, whole_seconds

LATE_S = 5  # what is seen is written so much later
Document = dict[str, Any]


def add_where(parser: Parser) -> None:
    """Add `--config`, which says whose history is meant."""
    parser.add_config()


def history_path(arguments: argparse.Namespace) -> Path:
    """Return the file of the agent's history. HostError if a lab is meant, which has none."""
    arguments.name = getattr(arguments, "name", None)
    lab = find_named_lab(arguments)
    if lab is not None:
        raise HostError(f"lab {lab}", "labs keep no history; the agent of a host does (unset SGDP_LAB to ask it)")
    return agent_config(arguments).state_directory / _name()


def _name() -> str:
    from sgdataplane.daemon.statefolder import HISTORY

    return HISTORY


def query_of(arguments: argparse.Namespace, **more: Any) -> HistoryQuery:  # noqa: ANN401  # fields of the query
    """Return the query for the time, and for the ENI if one is named. `more` are other fields of it."""
    until = time.time() + 1 if arguments.until is None else arguments.until
    if arguments.since is not None and arguments.since >= until:
        arguments.parser.error("--since must be before --until")
    return HistoryQuery(since=arguments.since or 0, until=until, eni_id=eni_of(arguments), **more)


def eni_of(arguments: argparse.Namespace) -> str | None:
    """Return the id of the ENI that --eni names. An id that nobody knows any more may still be in history."""
    if arguments.eni is None:
        return None
    found = look_up_here(agent_config(arguments), arguments.eni)
    return found.ids[0] if len(found.ids) == 1 else str(arguments.eni)


@dataclass(frozen=True, slots=True)
class Coverage:
    """The part of the time that was asked for that history knows."""

    since: float
    """Seconds since 1970."""
    until: float
    """Seconds since 1970."""
    recorded_since: int | None
    """When history begins, in seconds since 1970; None if nothing is recorded."""
    packets: int
    """Dropped packets that weren't recorded one by one."""
    sessions: int
    """Sessions that weren't recorded one by one."""
    absent_s: int
    """For how many seconds nobody recorded."""

    def as_json(self) -> Document:
        """Return the keys with which each document of history begins."""
        return {
            "since": iso_time(self.since),
            "until": iso_time(self.until),
            "recorded_since": None if self.recorded_since is None else iso_time(self.recorded_since),
            "gaps": {"packets": self.packets, "sessions": self.sessions, "absent_s": self.absent_s},
        }

    def lines(self) -> Iterable[str]:
        """Yield lines for people: what is exact, and what isn't."""
        if self.recorded_since is None:
            yield "nothing is recorded yet"
        elif self.recorded_since > self.since + 60:
            yield f"history begins at {whole_seconds(self.recorded_since)}"
        if self.absent_s:
            yield f"nothing was recorded for {self.absent_s:,} s of that time"
        if self.packets or self.sessions:
            kinds = (pluralize(self.packets, "dropped packet"), pluralize(self.sessions, "session"))
            yield f"{' and '.join(kinds)} came too fast to be recorded one by one: rows with ~ are samples"
            yield "--by eni and --by group have exact numbers"
        elif self.recorded_since is not None:
            yield "all rows are exact"


def coverage_of(history: History, query: HistoryQuery) -> Coverage:
    """Return what history knows of the time that a query asks about."""
    gaps = [gap for gap in history.gaps(query) if _concerns(gap, query)]
    lost = {fate: sum(gap.number for gap in gaps if not gap.is_absence and gap.fate is fate) for fate in Fate}
    absent = sum(gap.number for gap in gaps if gap.is_absence)
    until = min(query.until, time.time())
    return Coverage(max(0.0, query.since), until, history.since, lost[Fate.DROP], lost[Fate.ACCEPT], absent)


def _concerns(gap: Gap, query: HistoryQuery) -> bool:
    """Return whether a gap may concern the query's ENI. A router's scope may have the ENI, or not."""
    is_router = gap.scope.startswith("@") or not gap.scope
    return query.eni_id is None or is_router or query.eni_id in gap.scope.split("\n")


def say_coverage(coverage: Coverage) -> None:
    """Say on stderr what is exact, and what isn't."""
    for line in coverage.lines():
        say_aside(line)


# sgdp history

ACTIONS = {
    "show": Summary("say how much history is kept", "sudo sgdp history show"),
    "forget": Summary("remove rows for good", "sudo sgdp history forget --eni web --before 7d"),
}


def register(verbs: Verbs) -> None:
    """Add `history` and its verbs."""
    parser = verbs.add("history", None, "The agent keeps history if its configuration has the key history. Needs root.")
    actions = Verbs.below(parser, ACTIONS)
    shown = actions.add("show", run_show)
    shown.add_config()
    shown.add_json("sgdataplane/schemas/history-show.schema.json")
    more = "What is deleted is overwritten on the disk. Rows that come afterwards are kept as always."
    forgotten = actions.add("forget", run_forget, more)
    forgotten.add_config()
    forgotten.add_argument("--eni", metavar="ENI", help=f"rows of this ENI, also as the other end: {ENI_HELP}")
    forgotten.add_argument("--before", type=read_time, metavar="TIME", help=f"rows that ended before: {TIME_WORDS}")


def run_show(arguments: argparse.Namespace) -> int:
    """Print how much history is kept."""
    require_root("reading the agent's history")
    from sgdataplane.history.file import size_of
    from sgdataplane.history.read import open_history

    path = history_path(arguments)
    with open_history(path) as history:
        number, since = history.size, history.since
    size = size_of(path)
    if arguments.json:
        at = None if since is None else iso_time(since)
        print_json({"path": str(path), "bytes": size, "rows": number, "recorded_since": at})
        return Exit.DONE
    begin = "nothing yet" if since is None else f"since {whole_seconds(since)}"
    say(f"{path}: {pluralize(number, 'row')}, {size / 1e6:.1f} MB, {begin}")
    return Exit.DONE


def run_forget(arguments: argparse.Namespace) -> int:
    """Remove rows for good."""
    require_root("changing the agent's history")
    from sgdataplane.history.forget import forget

    if arguments.eni is None and arguments.before is None:
        arguments.parser.error("say what to forget: --eni, --before, or both")
    gone = forget(history_path(arguments), eni_of(arguments), arguments.before)
    say(f"{pluralize(gone, 'row')} forgotten")
    return Exit.DONE
