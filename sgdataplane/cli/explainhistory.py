"""`sgdp explain --history`: when a flow was seen last at each end, how often, and what decided.

Owns which rows of history are about a packet, and how they are said. Must not know how history is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sgdataplane.analyse.explain import Explanation, FlowExplanation
from sgdataplane.cli.flows import document_of
from sgdataplane.cli.history import Coverage, Document, coverage_of, history_path, say_coverage
from sgdataplane.history.gather import BLOCK
from sgdataplane.history.read import History, HistoryQuery, open_history
from sgdataplane.history.rows import ANY, REST, Fate, HistoryRow
from sgdataplane.model import words
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import PORT_PROTOCOLS, Address, Prefix
from sgdataplane.terminal.output import paint_verdict, say, whole_seconds

WERE = {Fate.ACCEPT: "accepted by", Fate.DROP: "dropped by", Fate.AUDITED: "would have been dropped by"}


@dataclass(frozen=True, slots=True)
class Past:
    """The rows of history about each end of a flow, the last first."""

    coverage: Coverage
    rows: tuple[tuple[HistoryRow, ...], ...]

    def as_json(self, end: int) -> Document:
        """Return the rows of one end, and what history doesn't know."""
        return {**self.coverage.as_json(), "seen": [document_of(row) for row in self.rows[end]]}


def read_past(arguments: argparse.Namespace, state: CloudState, flow: FlowExplanation) -> Past:
    """Read what history has of both ends of a flow. HostError if there is no history."""
    query = HistoryQuery(since=arguments.since)
    with open_history(history_path(arguments)) as history:
        rows = tuple(tuple(_rows(history, state, end.packet, arguments.since)) for end in flow.ends)
        return Past(coverage_of(history, query), rows)


def _rows(history: History, state: CloudState, packet: Packet, since: float) -> Iterator[HistoryRow]:
    """Yield the rows that are about such a packet; also those that stand for several ends, or ports."""
    query = HistoryQuery(since, eni_id=packet.eni_id, direction=packet.direction, ends=tuple(_ends(state, packet)))
    port = packet.port if packet.protocol in PORT_PROTOCOLS else None
    for row in history.flows(query):
        is_icmp = packet.icmp_type is not None and row.key.port != ANY
        asked = row.key.port >> 8 == packet.icmp_type if is_icmp else port is None or row.key.port in (port, ANY)
        if row.key.protocol in (packet.protocol, ANY) and asked:
            yield row


def _ends(state: CloudState, packet: Packet) -> Iterator[str]:
    """Yield the names that the packet's other end may have in history."""
    remote = packet.remote
    yield str(remote)
    yield str(_block(remote))
    yield REST[remote.family_bits]
    vpc = state.eni[packet.eni_id].vpc_id
    yield from (e.network_interface_id for e in state.network_interfaces if e.vpc_id == vpc and remote in e.addresses)


def _block(address: Address) -> Prefix:
    """Return the block of addresses to which history merges an address."""
    length = BLOCK[address.family_bits]
    return Prefix(
        address.family_bits, address.value >> (address.family_bits - length) << (address.family_bits - length), length
    )


def say_past(past: Past, ends: Sequence[Explanation]) -> None:
    """Print the rows below the explanation."""
    say()
    say(f"in history since {whole_seconds(past.coverage.since)}:")
    for end, rows in zip(ends, past.rows, strict=True):
        whose = f"  {end.packet.eni_id} {end.packet.direction.value}"
        if not rows:
            say(f"{whose}: not seen")
        for row in rows:
            say(f"{whose}: {_sentence(row)}")
    say_coverage(past.coverage)


def _sentence(row: HistoryRow) -> str:
    """Return a row as a sentence."""
    fate, count = row.key.fate, row.count
    what = words.pluralize(count.packets, "session" if fate is not Fate.DROP else "packet")
    about = f"{'at least ' if count.is_sampled else ''}{what}"
    merged = f", among others, as it was merged to {row.key.end}" if count.is_merged else ""
    verdict = paint_verdict("drop" if fate is Fate.DROP else "accept")
    return (
        f"{about}, the last at {whole_seconds(count.last)}: {verdict}, "
        f"{WERE[fate]} {words.because(row.key.decision)}{merged}"
    )
