"""Which sessions are asked for, and in what order.

Owns the conditions and the orders. Is given sessions. Must not know where they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sgdataplane.net.values import Direction, Prefix, Protocol
from sgdataplane.observe.sessions import Session

Rank = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """All that are set must hold. `port` is the one that a session was opened to; `internal` lets those of no ENI's in
    as well, as far as the other conditions can hold for them."""

    eni_id: str | None = None
    direction: Direction | None = None
    remote: Prefix | None = None
    protocol: Protocol | None = None
    port: int | None = None
    state: str | None = None
    rule_id: str | None = None
    internal: bool = False

    def holds(self, session: Session) -> bool:
        rule_id = session.decision.security_group_rule_id if session.decision else None
        return (
            (self.internal or session.eni_id != "")
            and self.eni_id in (None, session.eni_id)
            and self.direction in (None, session.direction)
            and (self.remote is None or session.remote in self.remote)
            and (self.protocol is None or self.protocol.matches(session.protocol, session.family))
            and self.port in (None, session.port)
            and self.state in (None, session.state)
            and self.rule_id in (None, rule_id)
        )


def _usual(session: Session) -> Rank:
    """By ENI, then who opened it, then what for, then the other end."""
    direction = "" if session.direction is None else session.direction.value
    opener = (session.remote, session.remote_port or 0, session.local, session.local_port or 0)
    return (session.namespace, session.eni_id, direction, session.protocol, session.port or 0, opener)


def _rule(session: Session) -> Rank:
    found = session.decision
    return (found.priority or 0, found.security_group_id or "", found.security_group_rule_id or "") if found else (0,)


def _bytes(session: Session) -> Rank:
    return (sum(way.bytes for way in (session.ingress, session.egress) if way is not None),)


ORDERS: dict[str, Callable[[Session], Rank]] = {
    "eni": _usual,
    "remote": lambda session: (session.remote, session.remote_port or 0),
    "port": lambda session: (session.protocol, session.port or 0),
    "state": lambda session: (session.state,),
    "seconds-left": lambda session: (session.seconds_left,),
    "bytes": _bytes,
    "rule": _rule,
}


def in_order(sessions: Iterable[Session], order: str = "eni", *, descending: bool = False) -> list[Session]:
    """Sorted by one of ORDERS; those that are equal in it, by ENI."""
    usual = sorted(sessions, key=_usual)
    return usual if order == "eni" and not descending else sorted(usual, key=ORDERS[order], reverse=descending)
