"""The rows of history, as whoever reads them gets them.

Owns what a row says. Must not know how rows are kept or made.

A flow row counts what one ENI exchanged with one other end in one bucket of time: sessions that were accepted (or
audited), or packets that were dropped. A total row counts, in one bucket, all packets that one rule or cause decided in
a namespace, as the kernel's counters say.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from sgdataplane.model.decision import Decision
from sgdataplane.net.values import ICMP, ICMPV6, Direction, Protocol, Verdict

BUCKET_S, HOUR_S, DAY_S = WIDTHS = (60, 3600, 86400)  # of buckets: new ones, after a day, after a week
ANY = -1  # in a key: no such field, or any value of it
REST = {32: "0.0.0.0/0", 128: "::/0"}  # the other end of what is merged completely, by the bits of an address
ALL_OF_ENI = "*"  # the cause in a total of all that one ENI did


class Fate(enum.Enum):
    """What became of the packets or sessions of a row. `audited`: accepted, as its ENI is in audit mode, though the
    policy refuses it."""

    __hash__ = object.__hash__

    ACCEPT = "accept"
    DROP = "drop"
    AUDITED = "audited"

    @classmethod
    def of(cls, decision: Decision) -> Fate:
        if decision.cause == cls.AUDITED.value:
            return cls.AUDITED
        return cls.DROP if decision.verdict is Verdict.DROP else cls.ACCEPT


def traffic_words(protocol: int, port: int) -> str:
    """The same numbers as in a FlowKey, in words."""
    if protocol == ANY:
        return "any"
    name = str(Protocol(protocol))
    if port == ANY:
        return name
    return f"{name} type {port >> 8} code {port & 0xFF}" if protocol in (ICMP, ICMPV6) else f"{name}/{port}"


class FlowKey(NamedTuple):
    """What tells a flow row from others of its bucket. `end`: an ENI's id, an address, or a block of addresses. `port`:
    the one that the rules ask for, so that of whoever was asked; for ICMP, 256 * type + code; ANY: there is none, or
    rows of several are merged. `protocol`: its number, or ANY."""

    eni_id: str
    direction: Direction
    end: str
    protocol: int
    port: int
    fate: Fate
    cause: str
    group_id: str
    rule_id: str

    @property
    def traffic(self) -> str:
        """Protocol and port in words: "tcp/443", "icmp type 8 code 0", "any"."""
        return traffic_words(self.protocol, self.port)

    @property
    def decision(self) -> Decision:
        """What decided. Of an audited session, what would have."""
        verdict = Verdict.ACCEPT if self.fate is Fate.ACCEPT else Verdict.DROP
        return Decision(self.direction, verdict, self.cause, self.group_id, self.rule_id)


@dataclass(slots=True)
class FlowCount:
    """How often, and when. `packets`: of drops; sessions otherwise. `bytes`: of these packets, with IP headers; for
    sessions, of their opening packets. `first`, `last`: seconds since 1970. `is_sampled`: more of the kind came in that
    time than were recorded one by one. `is_merged`: the other end, or the port, stands for several."""

    packets: int
    bytes: int
    first: int
    last: int
    is_sampled: bool = False
    is_merged: bool = False


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A flow row of history: a bucket of `seconds` from `start` on (seconds since 1970), what it is about, and how
    often. Rows that were summed up begin with their first bucket, and `seconds` lead to the end of their last one."""

    start: int
    seconds: int
    key: FlowKey
    count: FlowCount


@dataclass(frozen=True, slots=True)
class TotalRow:
    """What a rule or cause has decided in one bucket, in all ENIs of a scope together (observe/ledger.py), as the
    kernel counts. `fate`: what became of it; if audited, `decision` is what would have dropped it. With the cause
    ALL_OF_ENI, `scope` is an ENI, and the row counts all its dropped packets, or all sessions, audited ones too, that
    were opened from or to it."""

    start: int
    seconds: int
    scope: str
    fate: Fate
    decision: Decision
    packets: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Gap:
    """In one bucket, so many packets (or sessions) of a scope that were counted and not recorded one by one. `fate`:
    what became of them. `is_absence`: nobody recorded at all, for `number` seconds."""

    start: int
    seconds: int
    scope: str
    fate: Fate
    number: int
    is_absence: bool = False
