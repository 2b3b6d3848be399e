"""What stands on a page, as plain values that templates take.

Owns these records. Must not know states, labs or HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sgdataplane.report.picture import Drawing


@dataclass(frozen=True, slots=True)
class Line:
    """What passes, a text for each protocol. `note`: which family or addresses it is about, if not all; `is_some`: only
    some addresses."""

    services: tuple[str, ...]
    note: str = ""
    is_some: bool = False

    @property
    def text(self) -> str:
        listed = "; ".join(self.services)
        return f"{self.note}: {listed}" if self.note else listed


@dataclass(frozen=True, slots=True)
class Cell:
    """What passes from the row to the column. `is_same`: they are one and the same, so that there is nothing to say."""

    lines: tuple[Line, ...] = ()
    is_same: bool = False
    is_some: bool = False  # only for some of the addresses outside
    is_wrong: bool = False  # not as the policy says


@dataclass(frozen=True, slots=True)
class Head:
    """Of a row or column: a name, and a line below it."""

    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows reach columns; `cells` has a tuple for each row."""

    rows: tuple[Head, ...]
    columns: tuple[Head, ...]
    cells: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class FarRow:
    """Who outside may open what to these ENIs, or be opened it by them."""

    names: str
    services: tuple[str, ...]
    who: str
    family: str


@dataclass(frozen=True, slots=True)
class Picture:
    """`title` and `story` say in words what the drawing shows."""

    key: str
    title: str
    story: tuple[str, ...]
    drawing: Drawing


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


@dataclass(frozen=True, slots=True)
class RuleRow:
    """`hits` None: not known."""

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
    """What the kernel had to tell. `where`: whose numbers these are, with what there is to beware of. `hits`: packets
    by group id and rule id. `sessions` are the first ones of `session_count`."""

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
class ReportPage:
    """`is_counted`: hits are known."""

    title: str
    source: str
    version: str
    facts: tuple[tuple[str, str], ...]
    networks: tuple[Network, ...]
    networks_note: str
    groups: tuple[GroupTable, ...]
    groups_note: str
    findings: tuple[FindingRow, ...]
    findings_note: str
    observed: Observed | Unobserved

    @property
    def is_counted(self) -> bool:
        return isinstance(self.observed, Observed)


@dataclass(frozen=True, slots=True)
class ProbeCell:
    """One service between two ends: expected and observed verdict."""

    expected: str
    observed: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """Between two ends, a cell for each service; None: not probed."""

    source: Head
    target: Head
    cells: tuple[ProbeCell | None, ...]


@dataclass(frozen=True, slots=True)
class MatrixPage:
    """`grid` None: there are too many ends. `wrong`: a title and an explanation of each disagreement."""

    title: str
    source: str
    version: str
    facts: tuple[tuple[str, str], ...]
    services: tuple[str, ...]
    picture: Picture
    grid: Grid | None
    rows: tuple[ProbeRow, ...]
    wrong: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
