"""What stands on a page, as plain values that the templates take.

Owns these records. Must not know states, labs, captures or HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sgdataplane.report.picture import Drawing


@dataclass(frozen=True, slots=True)
class Page:
    """What every page has."""

    title: str
    source: str
    """What the page was made from, such as a state's file."""
    version: str
    facts: tuple[tuple[str, str], ...]
    """Names and values for its first lines."""


@dataclass(frozen=True, slots=True)
class Head:
    """The name of a row or column, and a line below it."""

    name: str
    detail: str = ""
    """The line below it."""


# who reaches whom


@dataclass(frozen=True, slots=True)
class Line:
    """What passes, with a text for each protocol."""

    services: tuple[str, ...]
    note: str = ""
    """The family or addresses that it is about; "" if it is about all."""
    is_some: bool = False
    """It passes only between some addresses."""

    @property
    def text(self) -> str:
        """The line as one text."""
        listed = "; ".join(self.services)
        return f"{self.note}: {listed}" if self.note else listed


@dataclass(frozen=True, slots=True)
class GridCell:
    """What passes from the row to the column."""

    lines: tuple[Line, ...] = ()
    is_same: bool = False
    """Row and column are the same, so nothing is shown."""
    is_some: bool = False
    """It passes only for some addresses outside."""
    is_wrong: bool = False
    """The policy says otherwise."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table in which rows reach columns."""

    rows: tuple[Head, ...]
    columns: tuple[Head, ...]
    cells: tuple[tuple[GridCell, ...], ...]
    """A tuple for each row."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing, and what it shows in words."""

    key: str
    """Its id on the page."""
    title: str
    story: tuple[str, ...]
    """What the drawing shows, as sentences."""
    drawing: Drawing


@dataclass(frozen=True, slots=True)
class FarRow:
    """Which sessions pass between the ENIs `names` and the addresses `who` outside."""

    names: str
    services: tuple[str, ...]
    who: str
    family: str


@dataclass(frozen=True, slots=True)
class Network:
    """One VPC."""

    key: str
    vpc_id: str
    detail: str
    picture: Picture | None
    grid: Grid
    incoming: tuple[FarRow, ...]
    outgoing: tuple[FarRow, ...]
    notes: tuple[str, ...] = ()
    """What is put together or left out."""


# the page about a state


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A rule of a group."""

    rule_id: str
    direction: str
    priority: int
    verdict: str
    protocol: str
    ports: str
    remote: str
    description: str
    hits: int | None = None
    """The packets that it has decided; None if that isn't known."""


@dataclass(frozen=True, slots=True)
class GroupTable:
    """A group with its rules."""

    group_id: str
    name: str
    detail: str
    """Its type, VPC, members and inner policy, in words."""
    rules: tuple[RuleRow, ...]


@dataclass(frozen=True, slots=True)
class FindingRow:
    """Something odd about the state."""

    severity: str
    code: str
    subject: str
    """The ids that it is about."""
    message: str
    advice: str
    """What the reader can do about it."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session of an ENI."""

    eni_id: str
    direction: str
    protocol: str
    remote: str
    local: str
    state: str
    next_packet: str
    """What becomes of its next packet."""
    decided_by: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What the kernel counts and has."""

    where: str
    """Whose numbers these are, and how far they can be trusted."""
    hits: Mapping[tuple[str, str], int]
    """Packets, by the ids of group and rule."""
    sessions: tuple[SessionRow, ...] = ()
    """The first of `session_count` sessions."""
    session_count: int = 0

    @property
    def told(self) -> str:
        """What the page says of it."""
        return f"hits and sessions: {self.where}"


@dataclass(frozen=True, slots=True)
class Unobserved:
    """Why there are no hits and sessions."""

    why: str
    """The reason, in words."""

    @property
    def told(self) -> str:
        """What the page says of it."""
        return f"no hits and sessions: {self.why}"


@dataclass(frozen=True, slots=True)
class ReportPage(Page):
    """The page about a state."""

    networks: tuple[Network, ...]
    networks_note: str
    """Says which VPCs are left out; "" if none is. The other notes do the same."""
    groups: tuple[GroupTable, ...]
    groups_note: str
    findings: tuple[FindingRow, ...]
    findings_note: str
    observed: Observed | Unobserved

    @property
    def is_counted(self) -> bool:
        """Whether hits are known."""
        return isinstance(self.observed, Observed)


# the page about a lab's matrix


@dataclass(frozen=True, slots=True)
class ProbeCell:
    """The expected and the observed verdict of one service between two ends."""

    expected: str
    observed: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """Two ends, with a cell for each service."""

    source: Head
    target: Head
    cells: tuple[ProbeCell | None, ...]
    """None for a service that wasn't probed."""


@dataclass(frozen=True, slots=True)
class MatrixPage(Page):
    """The page about a lab's matrix."""

    services: tuple[str, ...]
    picture: Picture
    grid: Grid | None
    """None if there are too many ends."""
    rows: tuple[ProbeRow, ...]
    wrong: tuple[tuple[str, str], ...]
    """A title and an explanation of each disagreement."""
    notes: tuple[str, ...] = ()


# the page about a replayed capture


@dataclass(frozen=True, slots=True)
class FlowFate:
    """What became of a flow's packets."""

    delivered: int
    """How many packets arrived."""
    verdict: str
    where: str
    """The direction that drops them."""
    decided_by: str
    remarks: tuple[str, ...] = ()
    """What is to be said about some of the packets."""


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A flow of a capture, and what became of it."""

    flow: Head
    """Its addresses in the capture, and which nodes stand for them."""
    packets: int
    """How many packets it has."""
    expected: int
    """How many of its packets should arrive."""
    fate: FlowFate
    problem: str
    """What isn't as expected, in words."""


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A flow under two policies; its fate is None under one that leaves it out."""

    flow: Head
    packets: int
    before: FlowFate | None
    after: FlowFate | None


@dataclass(frozen=True, slots=True)
class ReplayRun:
    """A capture under one policy."""

    key: str
    policy: str
    summary: str
    rows: tuple[FlowRow, ...]
    problems: tuple[str, ...]
    """Disagreements that belong to no row."""
    notes: tuple[str, ...]
    left_out: tuple[tuple[str, int, int], ...]
    """Reason, number of packets, and number of the first one."""
    addresses: tuple[tuple[str, str, str], ...]
    """Address in the capture, its node, and address in the lab."""
    addresses_notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """Flows that fare differently under two policies."""

    before: str
    after: str
    rows: tuple[ChangeRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplayPage(Page):
    """The page about a replayed capture."""

    changes: Changes | None
    """None if there was only one policy."""
    runs: tuple[ReplayRun, ...]


# the page about history


@dataclass(frozen=True, slots=True)
class FlowsPage(Page):
    """The page about history: flows as a table."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    """What is exact in the table, and what isn't."""


# the page about a trial


@dataclass(frozen=True, slots=True)
class TrialTable:
    """A table of a trial."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Cells of text, as many as there are headers; the first one says what becomes of the traffic."""


@dataclass(frozen=True, slots=True)
class TrialPage(Page):
    """The page about a trial: what it has seen."""

    tables: tuple[TrialTable, ...]
    sessions: TrialTable
    sessions_left: int
    """How many sessions aren't shown."""
    done: tuple[str, ...]
    """Sentences about what is in force now."""
    notes: tuple[str, ...]
