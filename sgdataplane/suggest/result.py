"""What a suggestion says. Owns the records. Must not know how it is made, nor printed."""

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
class Wishes:
    """What the user asks for.

    groups          the only groups that may change; None: all
    ports           `exact`: only ports that were seen; `range`: also those between near ports from 1024 on
    ends            how the other ends are written
    allow_audited   make rules also for what passed though the state refuses it
    profile         the quotas that hold
    """

    groups: frozenset[str] | None = None
    ports: Literal["exact", "range"] = "exact"
    ends: Literal["group", "address", "prefix"] = "group"
    allow_audited: bool = False
    profile: str = "seed"


@dataclass(frozen=True, slots=True)
class SeenSummary:
    """What was seen of some flows. `ends`: how many other ends; `answered`: how many sessions were answered, None if
    nobody recorded it; times are in seconds since 1970, None if unknown."""

    sessions: int
    ends: int
    answered: int | None = None
    first: float | None = None
    last: float | None = None

    @classmethod
    def of(cls, flows: Iterable[SeenFlow]) -> SeenSummary:
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
    """How many addresses and services (a port of TCP or UDP, or another protocol) a rule accepts, and how many what it
    replaces accepted."""

    addresses: int
    addresses_before: int
    services: int
    services_before: int


@dataclass(frozen=True, slots=True)
class SuggestedRule:
    """An accept rule of the suggestion.

    replaces   what let its flows pass before: ids of rules, `inner_accept` or `default`; nothing for a new rule
    is_kept    the state has the same rule
    is_new     the state refuses what it accepts
    members    of how many ENIs of the group, or addresses of the list, that it names something was seen, and how many
               there are
    """

    group_id: str
    rule: SecurityGroupRule
    replaces: tuple[str, ...]
    is_kept: bool
    is_new: bool
    observed: SeenSummary
    measure: Measure
    members: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class UnusedRule:
    """A rule that decided no flow. `stays`: drop rules stay."""

    group_id: str
    rule: SecurityGroupRule

    @property
    def stays(self) -> bool:
        return self.rule.policy is Verdict.DROP


@dataclass(frozen=True, slots=True)
class RefusedFlow:
    """A flow that the state refuses, though it passed. `is_allowed`: the suggestion has a rule for it."""

    flow: SeenFlow
    packet: Packet
    decision: Decision
    is_allowed: bool


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A state that carries what was seen, and what there is to say about it.

    closing     rules that close the egress of basic groups, whose default is to accept
    inner       groups whose inner policy becomes Drop
    refused     what passed though the state refuses it
    dropped     sessions that the state refuses, and of which nobody says that they passed
    always      sessions that pass whatever the rules say
    silent      ENIs of changed groups of which nothing was seen
    untouched   groups that stay as they are, as none of their ENIs was seen
    notes       what this can't know, and what was widened to fit the quotas
    """

    before: CloudState
    after: CloudState
    rules: tuple[SuggestedRule, ...]
    closing: tuple[tuple[str, SecurityGroupRule], ...]
    inner: tuple[str, ...]
    unused: tuple[UnusedRule, ...]
    refused: tuple[RefusedFlow, ...]
    carried: tuple[Packet, ...]
    dropped: int
    always: int
    silent: tuple[str, ...]
    untouched: tuple[str, ...]
    notes: tuple[str, ...]
    difference: Difference
