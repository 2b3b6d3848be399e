"""The rows of history, as everybody who reads them gets them.

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
    """The fate of a row's packets or sessions."""

    __hash__ = object.__hash__

    ACCEPT = "accept"
    DROP = "drop"
    AUDITED = "audited"
    """Accepted because its ENI is in audit mode, though the policy refuses it."""

    @classmethod
    def of(cls, decision: Decision) -> Fate:
        """Return the fate of packets with that decision."""
        if decision.cause == cls.AUDITED.value:
            return cls.AUDITED
        return cls.DROP if decision.verdict is Verdict.DROP else cls.ACCEPT


def traffic_words(protocol: int, port: int) -> str:
    """Return protocol and port, as they are in a FlowKey, in words."""
    if protocol == ANY:
        return "any"
    name = str(Protocol(protocol))
    if port == ANY:
        return name
    return f"{name} type {port >> 8} code {port & 0xFF}" if protocol in (ICMP, ICMPV6) else f"{name}/{port}"


class FlowKey(NamedTuple):
    """Everything that tells a flow row from others of its bucket."""

    eni_id: str
    direction: Direction
    end: str
    """An ENI's id, an address, or a block of addresses."""
    protocol: int
    """Its number, or ANY."""
    port: int
    """The port that rules look at, which is that of the end that was asked.

    For ICMP it is 256 * type + code. It is ANY if there is none, or if rows of several are merged.
    """
    fate: Fate
    cause: str
    """The decision's cause."""
    group_id: str
    rule_id: str

    @property
    def traffic(self) -> str:
        """Protocol and port in words: "tcp/443", "icmp type 8 code 0", "any"."""
        return traffic_words(self.protocol, self.port)

    @property
    def decision(self) -> Decision:
        """The decision; for an audited session, the one that would have dropped it."""
        verdict = Verdict.ACCEPT if self.fate is Fate.ACCEPT else Verdict.DROP
        return Decision(self.direction, verdict, self.cause, self.group_id, self.rule_id)


@dataclass(slots=True)
class FlowCount:
    """The count of a row, and when it came."""

    packets: int
    """How many packets were dropped, or how many sessions were opened."""
    bytes: int
    """The bytes of these packets, or of the sessions' opening packets, with IP headers."""
    first: int
    """Seconds since 1970."""
    last: int
    """Seconds since 1970."""
    is_sampled: bool = False
    """Whether more of the kind came in that time than were recorded one by one."""
    is_merged: bool = False
    """Whether the other end, or the port, stands for several."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A flow row of history: a bucket, what it is about, and how often."""

    start: int
    """When the bucket, or the first one of several that were summed up, begins, in seconds since 1970."""
    seconds: int
    """How long it is until the end of the (last) bucket."""
    key: FlowKey
    count: FlowCount


@dataclass(frozen=True, slots=True)
class TotalRow:
    """The packets that a rule or cause has decided in one bucket, in all ENIs of a scope, as the kernel counts.

    With the cause ALL_OF_ENI, `scope` is an ENI, and the row counts all its dropped packets, or all sessions, audited
    ones too, that were opened from or to it.
    """

    start: int
    seconds: int
    scope: str
    """As in observe/ledger.py."""
    fate: Fate
    decision: Decision
    """The decision; if the fate is AUDITED, the one that would have dropped the packets."""
    packets: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Packets (or sessions) of a scope in one bucket that were counted and not recorded one by one."""

    start: int
    seconds: int
    scope: str
    fate: Fate
    """What became of them."""
    number: int
    """How many they are; with `is_absence`, seconds."""
    is_absence: bool = False
    """Whether nobody recorded at all."""
