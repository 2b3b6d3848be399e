"""What stands on a page, as plain values that the templates take.

Owns these records. Must not know states, labs, captures or HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sgdataplane.report.picture import Drawing


@dataclass(frozen=True, slots=True)
class Page:
    """What every page has. `facts`: names and values for its first lines."""

    title: str
    source: str
    version: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Head:
    """The name of a row or column, and a line below it."""

    name: str
    detail: str = ""


# who reaches whom


@dataclass(frozen=True, slots=True)
class Line:
    """What passes, with a text for each protocol. `note`: the family or addresses that it is about, if not all.
    `is_some`: only some addresses."""

    services: tuple[str, ...]
    note: str = ""
    is_some: bool = False

    @property
    def text(self) -> str:
        listed = "; ".join(self.services)
        return f"{self.note}: {listed}" if self.note else listed


@dataclass(frozen=True, slots=True)
class GridCell:
    """What passes from the row to the column. `is_same`: row and column are the same, so nothing is shown; `is_some`:
    it passes only for some addresses outside; `is_wrong`: the policy says otherwise."""

    lines: tuple[Line, ...] = ()
    is_same: bool = False
    is_some: bool = False
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: rows reach columns; `cells` has a tuple for each row."""

    rows: tuple[Head, ...]
    columns: tuple[Head, ...]
    cells: tuple[tuple[GridCell, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """`title` and `story` say in words what the drawing shows."""

    key: str
    title: str
    story: tuple[str, ...]
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
    """One VPC. `notes` say what is put together or left out."""

    key: str
    vpc_id: str
    detail: str
    picture: Picture | None
    grid: Grid
    incoming: tuple[FarRow, ...]
    outgoing: tuple[FarRow, ...]
    notes: tuple[str, ...] = ()


# the page about a state


@dataclass(frozen=True, slots=True)
class RuleRow:
    """`hits` is None if it isn't known."""

    rule_id: str
    direction: str
    priority: int
    verdict: str
    protocol: str
    ports: str
    remote: str
    description: str
    hits: int | None = None


@dataclass(frozen=True, slots=True)
class GroupTable:
    group_id: str
    name: str
    detail: str
    rules: tuple[RuleRow, ...]


@dataclass(frozen=True, slots=True)
class FindingRow:
    severity: str
    code: str
    subject: str
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class SessionRow:
    eni_id: str
    direction: str
    protocol: str
    remote: str
    local: str
    state: str
    next_packet: str
    decided_by: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What the kernel counts and has. `where`: whose numbers these are, and how far they can be trusted. `hits`: (group
    id, rule id) -> packets. `sessions`: the first of `session_count`."""

    where: str
    hits: Mapping[tuple[str, str], int]
    sessions: tuple[SessionRow, ...] = ()
    session_count: int = 0

    @property
    def told(self) -> str:
        return f"hits and sessions: {self.where}"


@dataclass(frozen=True, slots=True)
class Unobserved:
    """Why there are no hits and sessions."""

    why: str

    @property
    def told(self) -> str:
        return f"no hits and sessions: {self.why}"


@dataclass(frozen=True, slots=True)
class ReportPage(Page):
    """The notes say what is left out."""

    networks: tuple[Network, ...]
    networks_note: str
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
    """One service between two ends: expected and observed verdict."""

    expected: str
    observed: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """Two ends, with a cell for each service; None if it wasn't probed."""

    source: Head
    target: Head
    cells: tuple[ProbeCell | None, ...]


@dataclass(frozen=True, slots=True)
class MatrixPage(Page):
    """`grid` is None if there are too many ends. `wrong`: a title and an explanation of each disagreement."""

    services: tuple[str, ...]
    picture: Picture
    grid: Grid | None
    rows: tuple[ProbeRow, ...]
    wrong: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


# the page about a replayed capture


@dataclass(frozen=True, slots=True)
class FlowFate:
    """What became of a flow's packets. `where`: the direction that drops them; `remarks`: about some of the packets."""

    delivered: int
    verdict: str
    where: str
    decided_by: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowRow:
    """`flow`: its addresses in the capture, and which nodes stand for them. `problem`: what isn't as expected, in
    words."""

    flow: Head
    packets: int
    expected: int
    fate: FlowFate
    problem: str


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A flow under two policies; its fate is None under one that leaves it out."""

    flow: Head
    packets: int
    before: FlowFate | None
    after: FlowFate | None


@dataclass(frozen=True, slots=True)
class ReplayRun:
    """A capture under one policy. `left_out`: reason, number of packets, number of the first one. `addresses`: in the
    capture, its node, in the lab. `problems`: disagreements that belong to no row."""

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
    """Flows that fare differently under two policies."""

    before: str
    after: str
    rows: tuple[ChangeRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplayPage(Page):
    """`changes` is None if there was only one policy."""

    changes: Changes | None
    runs: tuple[ReplayRun, ...]


# the page about history


@dataclass(frozen=True, slots=True)
class FlowsPage(Page):
    """Flows as a table. `notes`: what is exact in it, and what isn't."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


# the page about a trial


@dataclass(frozen=True, slots=True)
class TrialTable:
    """`rows`: cells of text, as many as there are headers; the first one says what becomes of the traffic."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class TrialPage(Page):
    """What a trial has seen. `sessions_left`: how many aren't shown. `done`: sentences about what is in force now."""

    tables: tuple[TrialTable, ...]
    sessions: TrialTable
    sessions_left: int
    done: tuple[str, ...]
    notes: tuple[str, ...]
