"""What stands on a page about a replayed capture, as plain values that the template takes.

Owns these records. Must not know captures, labs or HTML.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdataplane.report.content import Head


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a flow's packets. `where`: the direction that drops; `remarks`: on some of its packets."""

    delivered: int
    verdict: str
    where: str
    decided_by: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowRow:
    """`flow`: its addresses of the capture, and who they are; `problem`: in words, where it isn't as expected."""

    flow: Head
    packets: int
    expected: int
    fate: Fate
    problem: str


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A flow under two policies; None: it was left out."""

    flow: Head
    packets: int
    before: Fate | None
    after: Fate | None


@dataclass(frozen=True, slots=True)
class ReplayRun:
    """A capture under one policy. `left_out`: reason, packets, the first one's number; `addresses`: of the capture, its
    node, its address in the lab; `problems`: disagreements that are no row's."""

    key: str
    policy: str
    summary: str
    rows: tuple[FlowRow, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: tuple[tuple[str, int, int], ...]
    addresses: tuple[tuple[str, str, str], ...]
    addresses_notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """Flows whose fate isn't the same under two policies."""

    before: str
    after: str
    rows: tuple[ChangeRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """`changes` None: there was one policy alone."""

    title: str
    source: str
    version: str
    facts: tuple[tuple[str, str], ...]
    changes: Changes | None
    runs: tuple[ReplayRun, ...]
