"""What a suggestion says.

Owns the records. Must not know how it is made, nor printed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sgdataplane.analyse.difference import Difference
from sgdataplane.model.decision import Decision
from sgdataplane.model.state import CloudState, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Verdict
from sgdataplane.suggest.evidence import SeenFlow


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the user wants of a suggestion."""

    groups: frozenset[str] | None = None
    """The only groups that may change; None for all."""
    ports: Literal["exact", "range"] = "exact"
    """`exact` opens only ports that were seen; `range` also those between near ports from 1024 on."""
    ends: Literal["group", "address", "prefix"] = "group"
    """How the other ends are written."""
    allow_audited: bool = False
    """Make rules also for what passed though the state refuses it."""
    profile: str = "seed"
    """The set of quotas that applies."""


@dataclass(frozen=True, slots=True)
class SeenSummary:
    """What was seen of some flows."""

    sessions: int
    """How many sessions were seen."""
    ends: int
    """How many other ends they have."""
    answered: int | None = None
    """How many sessions were answered; None if nobody recorded it."""
    first: float | None = None
    """When the first one was seen, in seconds since 1970; None if unknown."""
    last: float | None = None
    """When the last one was seen, likewise."""

    @classmethod
    def of(cls, flows: Iterable[SeenFlow]) -> SeenSummary:
        """Return the summary of some flows; equal flows count once."""
        flows = tuple(dict.fromkeys(flows))
        answers = [flow.answered for flow in flows if flow.answered is not None]
        return cls(
            sum(flow.sessions for flow in flows),
            len({flow.remotes for flow in flows}),
            sum(answers) if answers else None,
            min((flow.first for flow in flows if flow.first is not None), default=None),
            max((flow.last for flow in flows if flow.last is not None), default=None),
        )

    @property
    def is_unanswered(self) -> bool:
        """Whether nobody answered anything: a scan, perhaps, or a service that is down."""
        return self.answered == 0


@dataclass(frozen=True, slots=True)
class Measure:
    """How much a rule accepts, and how much was accepted by what it replaces.

    A service is a port of TCP or UDP, or another protocol.
    """

    addresses: int
    """Far addresses that the rule accepts."""
    addresses_before: int
    """Far addresses that were accepted before."""
    services: int
    """Services that the rule accepts."""
    services_before: int
    """Services that were accepted before."""


@dataclass(frozen=True, slots=True)
class SuggestedRule:
    """An accept rule of the suggestion."""

    group_id: str
    rule: SecurityGroupRule
    replaces: tuple[str, ...]
    """What let its flows pass before: ids of rules, `inner_accept` or `default`; nothing for a new rule."""
    is_kept: bool
    """The state has the same rule."""
    is_new: bool
    """The state refuses what it accepts."""
    observed: SeenSummary
    """What was seen of the flows that it carries."""
    measure: Measure
    members: tuple[int, int] | None = None
    """How many ENIs of the group, or addresses of the list, that it names were seen, and how many there are."""


@dataclass(frozen=True, slots=True)
class UnusedRule:
    """A rule that decided no flow."""

    group_id: str
    rule: SecurityGroupRule

    @property
    def stays(self) -> bool:
        """Whether it stays in the suggestion: drop rules do."""
        return self.rule.policy is Verdict.DROP


@dataclass(frozen=True, slots=True)
class RefusedFlow:
    """A flow that the state refuses, though it passed."""

    flow: SeenFlow
    packet: Packet
    """A packet that the flow may have been."""
    decision: Decision
    """What refuses it."""
    is_allowed: bool
    """The suggestion has a rule for it."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A state that carries what was seen, and what there is to say about it."""

    before: CloudState
    after: CloudState
    rules: tuple[SuggestedRule, ...]
    """All accept rules of the groups that change."""
    closing: tuple[tuple[str, SecurityGroupRule], ...]
    """Rules that close the egress of basic groups, whose default is to accept."""
    inner: tuple[str, ...]
    """Groups whose inner policy becomes Drop."""
    unused: tuple[UnusedRule, ...]
    """Rules of these groups that decided no flow."""
    refused: tuple[RefusedFlow, ...]
    """What passed though the state refuses it."""
    carried: tuple[Packet, ...]
    """Packets that the flows may have been, all of which the suggestion accepts."""
    dropped: int
    """Sessions that the state refuses, and of which nobody says that they passed."""
    always: int
    """Sessions that pass whatever the rules say."""
    silent: tuple[str, ...]
    """ENIs of changed groups of which nothing was seen."""
    untouched: tuple[str, ...]
    """Groups that stay as they are, because none of their ENIs was seen."""
    notes: tuple[str, ...]
    """What the suggestion can't know, and what was widened to fit the quotas."""
    difference: Difference
    """What changes from the state before to the suggested one."""
