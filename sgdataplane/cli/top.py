"""`sgdp top`: new sessions and drops a second, by ENI, rule and other end, as they happen.

Owns what is shown, and how a plain terminal is drawn and asked. Must not know how history is kept.

With --json, an object a line (sgdataplane/schemas/top.schema.json). While it runs, the recorder writes each second. By
ENI and rule the numbers are the kernel's own; other ends are what was recorded one by one.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.attach.names import WorkloadNames, describe_eni
from sgdataplane.cli.history import Document, history_path
from sgdataplane.cli.scopes import agent_config, names_here
from sgdataplane.history import live
from sgdataplane.history.read import HistoryQuery, open_history
from sgdataplane.history.rows import ALL_OF_ENI, BUCKET_S
from sgdataplane.model import words
from sgdataplane.terminal.arguments import Verbs, read_limit, read_seconds, require_root
from sgdataplane.terminal.output import (
    Exit,
    iso_time,
    local_time,
    paint_verdict,
    render_table,
    say,
    say_block,
    say_screen,
)

MAX_JSON = 100
TABLES = {"enis": "ENI", "rules": "RULE", "ends": "OTHER END"}
LEAST_LINES = 3
QUIT = ("q", "Q", "\x03", "\x04")
Key = tuple[str, str, str]  # what it is, direction, verdict
Counts = Mapping[str, Mapping[tuple[int, Key], int]]  # table -> bucket and key -> count


@dataclass(frozen=True, slots=True)
class TopReading:
    """All counts of the last buckets."""

    at: float
    """Seconds since 1970."""
    counts: Counts


def register(verbs: Verbs) -> None:
    """Add the verb."""
    more = "Press q to quit. The agent must keep history: its configuration has the key history. Needs root."
    parser = verbs.add("top", run, more)
    parser.add_config()
    words = "seconds between two looks (default: 2)"
    parser.add_argument("--interval", type=read_seconds(3600), default=2.0, metavar="S", help=words)
    parser.add_argument("--count", type=read_limit, metavar="N", help="end after so many looks")
    parser.add_json("sgdataplane/schemas/top.schema.json")


def run(arguments: argparse.Namespace) -> int:
    """Show rates until somebody presses q, or after --count looks."""
    require_root("reading the agent's history")
    path, config = history_path(arguments), agent_config(arguments)
    with _follow(path), _keys() as wants_to_quit, suppress(KeyboardInterrupt):
        before = read(path)
        left = arguments.count
        while left != 0 and not wants_to_quit(arguments.interval):
            now = read(path)
            document = rates(before, now, names_here(config))
            _show(document, is_json=arguments.json)
            before = now
            left = None if left is None else left - 1
    return Exit.DONE


@contextmanager
def _follow(path: Path) -> Iterator[None]:
    """Make the recorder write each second while the block runs, as it does while somebody follows it."""
    link = live.connect(path.parent)
    try:
        yield
    finally:
        if link is not None:
            link.close()


def read(path: Path) -> TopReading:
    """Read the last buckets. HostError if there is no history."""
    at = time.time()
    query = HistoryQuery(since=at - 3 * BUCKET_S)
    enis, rules, ends = Counter[tuple[int, Key]](), Counter[tuple[int, Key]](), Counter[tuple[int, Key]]()
    with open_history(path) as history:
        for total in history.totals(query, is_summed=False):
            decision = total.decision
            is_eni = decision.cause == ALL_OF_ENI
            what = total.scope if is_eni else words.name(decision)
            key = (what, decision.direction.value, total.fate.value)
            (enis if is_eni else rules)[total.start, key] += total.packets
        for row in history.buckets(query):
            ends[row.start, (row.key.end, row.key.direction.value, row.key.fate.value)] += row.count.packets
    return TopReading(at, {"enis": enis, "rules": rules, "ends": ends})


def rates(before: TopReading, now: TopReading, names: WorkloadNames) -> Document:
    """Return what has come between two readings, a second; the most frequent first.

    `names` are those of containers and pods at ENIs.
    """
    seconds = max(now.at - before.at, 0.001)
    found: Document = {"time": iso_time(now.at), "seconds": round(seconds, 3)}
    for table in TABLES:
        grown: Counter[Key] = Counter()
        for (start, key), count in now.counts[table].items():
            grown[key] += count - before.counts[table].get((start, key), 0)
        ordered = sorted(
            ((key, count) for key, count in grown.items() if count > 0), key=lambda item: (-item[1], item[0])
        )
        found[table] = [
            {
                "name": key[0],
                **({} if table == "rules" else {"workload": names.workload(key[0])}),
                "direction": key[1],
                "verdict": key[2],
                "per_second": round(count / seconds, 2),
            }
            for key, count in ordered[:MAX_JSON]
        ]
    return found


def _show(document: Document, *, is_json: bool) -> None:
    """Print one look: as JSON, on the terminal's screen, or as plain lines."""
    if is_json:
        from sgdataplane.visible import json_text

        say(json_text(document), flush=True)
    elif sys.stdout.isatty():
        columns, lines = shutil.get_terminal_size((80, 24))
        say_screen(screen(document, columns, lines))
    else:
        say_block("\n".join(screen(document, 80, 10_000)))


def screen(document: Document, columns: int, lines: int) -> list[str]:
    """Return the lines of the view, no more and no longer than these."""
    total = {verdict: _sum(document["enis"], verdict) for verdict in ("accept", "drop")}
    clock = local_time(document["time"], "%H:%M:%S")
    head = (
        f"sgdp top {clock}  {total['accept']:,.1f} new sessions a second, {total['drop']:,.1f} drops a second  q: quit"
    )
    each = max(LEAST_LINES, (lines - 2) // len(TABLES) - 2)
    shown = [head[:columns]]
    for table, header in TABLES.items():
        shown += ["", *_fit(header, document[table][:each], each + 1)]
    return shown[: lines - 1]


def _fit(header: str, rows: Sequence[Document], room: int) -> list[str]:
    """Return a table of as many rows as fit into so many lines, since a long name takes several."""
    found = _table(header, rows)
    while len(found) > room and len(rows) > 1:
        rows = rows[:-1]
        found = _table(header, rows)
    return found[:room]


def _table(header: str, rows: Sequence[Document]) -> list[str]:
    cells = [
        (
            describe_eni(row["name"], row.get("workload")),
            row["direction"],
            paint_verdict(row["verdict"]),
            f"{row['per_second']:,.1f}",
        )
        for row in rows
    ]
    return render_table((header, "DIRECTION", "VERDICT", "A SECOND"), cells or [("-", "", "", "0.0")]).splitlines()


def _sum(rows: Sequence[Document], verdict: str) -> float:
    return sum(float(row["per_second"]) for row in rows if row["verdict"] == verdict)


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Give a function that waits so many seconds and returns whether somebody pressed q meanwhile.

    Without a terminal nobody can press it.
    """
    if not sys.stdin.isatty():
        yield _sleep
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield lambda seconds: _is_asked_to_quit(descriptor, seconds)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> bool:
    """Wait; return that nobody pressed q."""
    time.sleep(seconds)
    return False


def _is_asked_to_quit(descriptor: int, seconds: float) -> bool:
    """Wait so many seconds at most; return whether somebody pressed q, or the terminal is gone."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            pressed = os.read(descriptor, 64).decode("ascii", "replace")
            if not pressed or any(key in pressed for key in QUIT):
                return True
    return False
