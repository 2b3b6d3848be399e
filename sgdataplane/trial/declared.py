"""Trials that a state declares: a group has rules on trial (`trial` in the native format).

Owns which trials these are, and how they are called here. Must not know where trials run.

Such a trial has no state of its own: what it compares with is the state in force, with the group as proposed. So it is
about this group alone, whatever else changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from sgdataplane.contract import names
from sgdataplane.errors import SgDataplaneError
from sgdataplane.model.state import CloudState, SecurityGroup
from sgdataplane.trial.record import NAME, TrialFolder, TrialRecord
from sgdataplane.trial.report import TrialReport, line_as_json

PREFIX = "group-"
MAX_LINES, MAX_PAUSED = 50, 500  # of a trial that are told: lines, those with the most packets; characters of a reason


@dataclass(frozen=True, slots=True)
class DeclaredTrial:
    """What is told of a declared trial to those from whom the state comes."""

    group: str
    since: int
    """When it began, in seconds since 1970."""
    until: int
    """When it ends, in seconds since 1970."""
    paused: str = ""
    """Why nothing is counted now, or empty."""
    opens: int = 0
    """How many packets were counted at lines that open."""
    closes: int = 0
    """How many packets were counted at lines that close."""
    count: int = 0
    """How many lines it has."""
    lines: tuple[dict[str, object], ...] = ()
    """Those of its lines that have the most packets, as `sgdp trial show --json` has them."""

    @classmethod
    def of(cls, report: TrialReport) -> DeclaredTrial:
        """Return what is told of such a report."""
        record, most = report.record, sorted(report.lines, key=lambda seen: -seen.packets)
        opens, closes = (report.packets(is_opening=is_opening) for is_opening in (True, False))
        lines = tuple(map(line_as_json, most[:MAX_LINES]))
        told = cls.of_paused(record, report.paused)
        return replace(told, opens=opens, closes=closes, count=len(report.lines), lines=lines)

    @classmethod
    def of_paused(cls, record: TrialRecord, why: str) -> DeclaredTrial:
        """Return what is told of a trial that counts nothing."""
        return cls(record.group, int(record.since), int(record.until), why[:MAX_PAUSED])

    def as_plain(self) -> dict[str, object]:
        """Return it as JSON can have it."""
        return {**asdict(self), "lines": list(self.lines)}


def list_declared(state: CloudState, now: float) -> dict[str, TrialRecord]:
    """Return the trials that a state declares and whose time isn't over, by name. `now` is in seconds since 1970."""
    found = (_record_of(group) for group in state.security_groups if group.trial is not None)
    return {record.name: record for record in found if record.until > now}


def _record_of(group: SecurityGroup) -> TrialRecord:
    assert group.trial is not None
    since, until = (datetime.fromisoformat(text).timestamp() for text in (group.trial.since, group.trial.until))
    group_id = group.security_group_id
    return TrialRecord(name_of_declared(group_id), f"rules proposed for {group_id}", (), since, until, group_id)


def name_of_declared(group_id: str) -> str:
    """Return the name here of the trial that a state declares for a group."""
    name = f"{PREFIX}{group_id}"
    return name if NAME.fullmatch(name) else f"{PREFIX}{names.digest(group_id, 16)}"


def list_ended(folder: TrialFolder, declared: dict[str, TrialRecord]) -> Iterator[str]:
    """Yield the trials that a state has declared, and that none declares any more, or not as they are."""
    for name in folder.names():
        with suppress(SgDataplaneError):
            record = folder.record(name)
            if record.group and declared.get(name) != record:
                yield name


def begin_declared(folder: TrialFolder, declared: dict[str, TrialRecord]) -> dict[str, str]:
    """Keep those declared trials that aren't kept yet. Return those that can't be, each with the reason."""
    refused = {}
    for name, record in declared.items():
        try:
            if not _is_kept(folder, record):
                folder.add(record, None)
        except (SgDataplaneError, OSError) as error:
            refused[name] = str(error)
    return refused


def _is_kept(folder: TrialFolder, record: TrialRecord) -> bool:
    with suppress(SgDataplaneError):
        return folder.record(record.name) == record
    return False
