"""A trial's lines as a document, for the file of a trial.

Owns the form. Must not know where it is kept, nor how lines are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgdataplane.analyse.rows import JudgedTraffic
from sgdataplane.analyse.view import VerdictChange
from sgdataplane.model.decision import Decision
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.policy.dimensions import DIMENSIONS
from sgdataplane.trial.lines import TrialLine

Row = Sequence[Any]  # what JSON makes of it


def line_as_plain(line: TrialLine) -> list[object]:
    """Return the line as lists, numbers and texts."""
    change = line.change
    return [
        change.eni_id,
        change.direction.value,
        change.family.value,
        change.ranges,
        _plain(change.before),
        _plain(change.after),
        *line.judged,
    ]


def line_of(document: Row) -> TrialLine:
    """Return the line in such a document. ValueError or TypeError if it isn't one."""
    eni_id, direction, family, ranges, before, after, far, local = document
    parts = tuple(None if part is None else _interval(part) for part in ranges)
    if len(parts) != len(DIMENSIONS):
        raise ValueError("it has other dimensions")
    change = VerdictChange(
        str(eni_id), Direction(direction), Family(family), parts, _decision(before), _decision(after)
    )
    return TrialLine(change, JudgedTraffic(tuple(map(_interval, far)), tuple(map(_interval, local))))


def _plain(decision: Decision) -> list[object]:
    ids = decision.security_group_id, decision.security_group_rule_id, decision.priority
    would = None if decision.would is None else _plain(decision.would)
    return [decision.direction.value, decision.verdict.value, decision.cause, *ids, would]


def _decision(document: Row) -> Decision:
    direction, verdict, cause, group, rule, priority, would = document
    ids = str(group), str(rule), int(priority)
    told = None if would is None else _decision(would)
    return Decision(Direction(direction), Verdict(verdict), str(cause), *ids, told)


def _interval(document: Row) -> Interval:
    first, last = document
    return int(first), int(last)
