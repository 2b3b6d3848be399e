"""Evidence: who was seen to talk to whom, as one ENI's policy sees it.

Owns the record, and how equal records become one. The readers of a capture, live sessions or history give them. Must
not know rules, nor where a flow was seen.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sgdataplane.errors import LimitError
from sgdataplane.net.values import PORT_PROTOCOLS, Address, Direction, Prefix

ANY = -1  # a protocol that wasn't recorded
MAX_FLOWS = 200_000  # flows that differ; each takes about 1 kB until the suggestion is made


class Passage(enum.IntEnum):
    """What the evidence itself says about a flow. If equal flows differ in it, the largest counts."""

    DROPPED = 0  # it was dropped where it was seen
    UNKNOWN = 1  # nobody answered, and nobody wrote down whether it passed
    PASSED = 2  # somebody answered, or it was recorded as accepted or audited


@dataclass(frozen=True, slots=True)
class SeenFlow:
    """Sessions that were seen at one ENI, equal in all that rules can require."""

    eni_id: str
    """The ENI at which they were seen."""
    direction: Direction
    """Egress if the ENI opened them."""
    remotes: tuple[Prefix, ...]
    """The other end: an address, or a block if only that was recorded; several if it may have been any of them."""
    protocol: int
    """The protocol's number; ANY if it wasn't recorded."""
    port: int | None = None
    """The destination port; None if the protocol has none, or it wasn't recorded."""
    local: Address | None = None
    """The ENI's own address; None if it wasn't recorded, or doesn't matter."""
    source_port: int | None = None
    """None if it wasn't recorded, or doesn't matter."""
    decided_by: tuple[str, str] = ("", "")
    """The group and the rule that decided when it was seen, if that was recorded."""
    passage: Passage = Passage.UNKNOWN
    is_audited: bool = False
    """It was recorded as passing in audit mode only, though that rule, or the default, refuses it."""
    sessions: int = 1
    """How many sessions were seen."""
    answered: int | None = None
    """How many of them were answered; None if that wasn't recorded."""
    first: float | None = None
    """When the first one was seen, in seconds since 1970; None if that wasn't recorded."""
    last: float | None = None
    """When the last one was seen, likewise."""

    @property
    def is_vague(self) -> bool:
        """Whether its protocol or port wasn't recorded."""
        return self.protocol == ANY or (self.protocol in PORT_PROTOCOLS and self.port is None)

    @property
    def key(self) -> tuple[object, ...]:
        """All that tells it from other flows; it sorts by ENI, direction, protocol, port, then the other end."""
        none = Address(0, 0)
        what = self.protocol, -1 if self.port is None else self.port
        own = self.local or none, -1 if self.source_port is None else self.source_port
        return self.eni_id, self.direction.value, *what, self.remotes, *own, self.decided_by, self.is_audited


def gather(flows: Iterable[SeenFlow]) -> tuple[SeenFlow, ...]:
    """Join flows that differ only in how often and when they were seen.

    The result doesn't depend on their order.

    Raises:
        LimitError: there are more than MAX_FLOWS.
    """
    found: dict[tuple[object, ...], SeenFlow] = {}
    for flow in flows:
        earlier = found.get(flow.key)
        found[flow.key] = flow if earlier is None else _join_flows(earlier, flow)
        if len(found) > MAX_FLOWS:
            where = "the evidence (fewer ENIs, or less time, have fewer flows)"
            raise LimitError(where, MAX_FLOWS, len(found))
    return tuple(flow for _, flow in sorted(found.items()))


def _join_flows(one: SeenFlow, other: SeenFlow) -> SeenFlow:
    answers = [flow.answered for flow in (one, other) if flow.answered is not None]
    return replace(
        one,
        passage=max(one.passage, other.passage),
        sessions=one.sessions + other.sessions,
        answered=sum(answers) if answers else None,
        first=min((at for at in (one.first, other.first) if at is not None), default=None),
        last=max((at for at in (one.last, other.last) if at is not None), default=None),
    )
