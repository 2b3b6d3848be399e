"""Rows of history as evidence.

Owns what a row leaves open: the ENI's own address, the source port, and the address of an ENI at the other end. Is
given anything that looks like a row. Must not know how history is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Protocol

from sgdataplane.model.state import CloudState
from sgdataplane.net.values import PORT_PROTOCOLS, Direction, Prefix
from sgdataplane.suggest.evidence import ANY, Passage, SeenFlow

AUDITED = "audited"
PASSAGES = {"accept": Passage.PASSED, AUDITED: Passage.PASSED, "drop": Passage.DROPPED}


class RecordedKey(Protocol):
    """What a row is about."""

    @property
    def eni_id(self) -> str:
        """The ENI at which it was recorded."""

    @property
    def direction(self) -> Direction:
        """The direction, seen from that ENI."""

    @property
    def end(self) -> str:
        """The other end: an ENI's id, an address or a block."""

    @property
    def protocol(self) -> int:
        """The protocol's number."""

    @property
    def port(self) -> int:
        """The port of TCP and UDP; ANY if several were merged."""

    @property
    def fate(self) -> Enum:
        """What became of the sessions; its value is accept, audited or drop."""

    @property
    def group_id(self) -> str:
        """The group of the rule that decided."""

    @property
    def rule_id(self) -> str:
        """The rule that decided."""


class RecordedCount(Protocol):
    """How often it was seen, and when."""

    @property
    def packets(self) -> int:
        """The number of packets."""

    @property
    def first(self) -> int:
        """The first time, in seconds since 1970."""

    @property
    def last(self) -> int:
        """The last time, likewise."""


class RecordedRow(Protocol):
    """One row of history."""

    @property
    def key(self) -> RecordedKey:
        """What the row is about."""

    @property
    def count(self) -> RecordedCount:
        """How often it was seen, and when."""


class HistoryEvidence:
    """Reads rows of history.

    Attributes:
        unplaced: sessions whose other end is an ENI that the state doesn't have (any more).
    """

    def __init__(self, state: CloudState) -> None:
        self._state = state
        self.unplaced = 0

    def read(self, rows: Iterable[RecordedRow]) -> Iterator[SeenFlow]:
        """Yield a flow for each row whose other end is known."""
        for row in rows:
            remotes = self._remotes(row.key.end)
            if not remotes:
                self.unplaced += row.count.packets
                continue
            key, count = row.key, row.count
            has_port = key.protocol in PORT_PROTOCOLS and key.port != ANY
            yield SeenFlow(
                key.eni_id, key.direction, remotes, key.protocol, key.port if has_port else None,
                decided_by=(key.group_id, key.rule_id), passage=PASSAGES[str(key.fate.value)],
                is_audited=key.fate.value == AUDITED,
                sessions=count.packets, first=count.first, last=count.last,
            )  # fmt: skip

    def _remotes(self, end: str) -> tuple[Prefix, ...]:
        eni = self._state.eni.get(end)
        if eni is not None:
            return eni.private_prefixes
        try:
            return (Prefix.parse(end),)
        except ValueError:
            return ()
