"""`sgdp counters --unused --since`: rules in force that nothing has used for a while, by the agent's history.

Owns how the counters' document changes by that. Must not know how history is kept.
"""

from __future__ import annotations

import argparse
import time
from datetime import datetime

from sgdataplane.cli.history import Document, coverage_of, history_path, say_coverage
from sgdataplane.history.read import HistoryQuery, open_history
from sgdataplane.history.rows import TotalRow
from sgdataplane.terminal.output import iso_time


def since_then(document: Document, arguments: argparse.Namespace) -> tuple[list[Document], str | None]:
    """Return the scopes with only what was decided since the time that was asked for, and when history begins.

    In these, "packets" is only 1 or 0: whether the rule was used.
    """
    query = HistoryQuery(since=arguments.since)
    with open_history(history_path(arguments)) as history:
        coverage = coverage_of(history, query)
        used = {_ids(total) for total in history.totals(query) if total.packets}
    if not arguments.json:
        say_coverage(coverage)
    begin = max(arguments.since, coverage.recorded_since or time.time())
    scopes = [
        {
            **scope,
            "counters": [
                {
                    **row,
                    "since": iso_time(max(begin, _seconds(row["since"]))),
                    "packets": int((row["security_group_id"], row["security_group_rule_id"]) in used),
                }
                for row in scope["counters"]
            ],
        }
        for scope in document["scopes"]
    ]
    return scopes, coverage.as_json()["recorded_since"]


def _ids(total: TotalRow) -> tuple[str | None, str | None]:
    return total.decision.security_group_id or None, total.decision.security_group_rule_id or None


def _seconds(at: str | None) -> float:
    return 0.0 if at is None else datetime.fromisoformat(at).timestamp()
