"""`sgdp log --since`: denied packets of the past, from the agent's history.

Owns how rows of history are written as lines of the log. Must not know how history is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from sgdataplane.attach.names import describe_eni
from sgdataplane.cli.flows import describe_decision, document_of, traffic
from sgdataplane.cli.history import Document, coverage_of, history_path, query_of, say_coverage
from sgdataplane.cli.scopes import agent_config, names_here
from sgdataplane.history.read import open_history
from sgdataplane.history.rows import Fate
from sgdataplane.terminal.output import Exit, render_table, say, say_aside, say_block, whole_seconds
from sgdataplane.visible import json_text

MAX_ROWS = 10_000
HEADERS = ("FIRST", "LAST", "ENI", "DIRECTION", "OTHER END", "TRAFFIC", "COUNT", "DENIED BY")
WOULD = "would drop: "


def show_past(arguments: argparse.Namespace) -> int:
    """Print the denied packets of that time, the oldest first: one line for each minute and kind."""
    query = query_of(arguments, fates=(Fate.DROP, Fate.AUDITED))
    with open_history(history_path(arguments)) as history:
        coverage = coverage_of(history, query)
        found = [document_of(row) for row in history.buckets(query, most=MAX_ROWS + 1)]
    names = names_here(agent_config(arguments))
    rows = [names.add_to(row) for row in found]
    shown = sorted(rows[:MAX_ROWS], key=lambda row: row["first"])
    if arguments.format == "json":
        for row in shown:
            say(json_text({"event": "recorded", "time": row["first"], **row}))
        return Exit.DONE
    _say(shown)
    if len(rows) > MAX_ROWS:
        say_aside(f"only the last {MAX_ROWS:,} lines are shown: ask for --eni or a shorter time")
    say_coverage(coverage)
    return Exit.DONE


def _say(rows: Iterable[Document]) -> None:
    table = [_cells(row) for row in rows]
    if table:
        say_block(render_table(HEADERS, table))
    else:
        say_aside("no packet was denied in that time")


def _cells(row: Document) -> tuple[str, ...]:
    times = whole_seconds(row["first"]), whole_seconds(row["last"])
    why = f"{WOULD if row['verdict'] == Fate.AUDITED.value else ''}{describe_decision(row)}"
    eni, end = describe_eni(row["eni"], row["workload"]), describe_eni(row["end"], row["end_workload"])
    count = f"{'~' if row['sampled'] else ''}{row['packets']}"
    return (*times, eni, row["direction"], end, traffic(row), count, why)
