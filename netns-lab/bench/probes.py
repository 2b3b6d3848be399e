"""The measures that send packets: a slice of time on a path, and what a packet or a connection cost in it.

Owns what is sent. It is given the ends of a path. Must not know which filter is on it.

A slice's figure is the median of its batches, which take much less than a millisecond each. Other work on the machine
makes some of them longer, but doesn't change the median.
"""

from __future__ import annotations

import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator, Mapping

from bench.batch import PACKETS, SIZE, Batch
from bench.errors import BenchError
from bench.measures import Measure
from bench.path import RESET, Ends
from bench.policy import PORT, RECEIVER
from sgdataplane.host import netns

Figures = Mapping[Measure, float]  # ns each
Probe = Callable[[Ends, float], Figures]  # the time is seconds
CONNECTIONS = 10  # of one batch
LEAST_BATCHES = 5
TCP_DATA_SEGS_OUT = 156  # offset of tcpi_data_segs_out in struct tcp_info (linux/tcp.h)


def udp_session(ends: Ends, seconds: float) -> Figures:
    """Packets of a session that was answered, to the instance and from it."""
    batch, inward, outward = Batch(), list[float](), list[float]()
    with ends.session() as (client, server):
        for _ in _slices(seconds):
            inward.append(_send(batch, client, server))
            outward.append(_send(batch, server, client))
    return {Measure.UDP_IN: statistics.median(inward), Measure.UDP_OUT: statistics.median(outward)}


def tcp_connection(ends: Ends, seconds: float) -> Figures:
    """Data segments of an established connection, with the few acknowledgements that come at once."""
    with ends.connection() as (client, server):
        return {Measure.TCP_IN: _stream(client, server, seconds), Measure.TCP_OUT: _stream(server, client, seconds)}


def one_way(ends: Ends, seconds: float) -> Figures:
    """UDP that is never answered, like logs or metrics: to conntrack, each packet still belongs to a new session."""
    batch = Batch()
    return {Measure.ONE_WAY: statistics.median(_send(batch, ends.one_way, ends.inbox) for _ in _slices(seconds))}


def denied(ends: Ends, seconds: float) -> Figures:
    """UDP that no rule accepts. Beside a packet that gets through, check that none of these does."""
    batch = Batch()
    costs = [_timed(batch, ends.stranger) for _ in _slices(seconds)]
    ends.check(is_denying=True)
    return {Measure.DENIED: statistics.median(costs)}


def audited(ends: Ends, seconds: float) -> Figures:
    """UDP that no rule accepts and audit mode lets pass. All of it must arrive."""
    batch = Batch()
    return {Measure.AUDITED: statistics.median(_send(batch, ends.stranger, ends.inbox) for _ in _slices(seconds))}


def connections(ends: Ends, seconds: float) -> Figures:
    """TCP connections, from connect() to the server's accept(), with the reset that ends each."""
    address = (RECEIVER, PORT)
    with netns.inside(ends.path.sender):
        costs = [_connect(address, ends.listener) for _ in _slices(seconds)]
    return {Measure.CONNECT: statistics.median(costs)}


PROBES: tuple[Probe, ...] = (udp_session, tcp_connection, one_way, connections)


def _slices(seconds: float) -> Iterator[None]:
    """Repeat as often as fits into that time, but at least LEAST_BATCHES times."""
    end, done = time.monotonic() + seconds, 0
    while done < LEAST_BATCHES or time.monotonic() < end:
        yield
        done += 1


def _timed(batch: Batch, sender: socket.socket) -> float:
    """The ns for each packet."""
    started = time.perf_counter_ns()
    batch.send(sender)
    return (time.perf_counter_ns() - started) / PACKETS


def _send(batch: Batch, sender: socket.socket, receiver: socket.socket) -> float:
    """The ns for each packet. All of them must arrive."""
    cost = _timed(batch, sender)
    arrived = batch.receive(receiver)
    if arrived != PACKETS:
        raise BenchError(f"{arrived} of {PACKETS} packets arrived")
    return cost


def _stream(sender: socket.socket, receiver: socket.socket, seconds: float) -> float:
    """The ns for each segment. Segments are counted, because messages that the window holds back leave together."""
    batch, buffer, costs = Batch(), bytearray(PACKETS * SIZE), list[float]()
    before = _segments(sender)
    for _ in _slices(seconds):
        costs.append(_timed(batch, sender))
        missing = len(buffer)
        while missing:
            missing -= receiver.recv_into(buffer, missing)
    segments = (_segments(sender) - before) / len(costs)
    return statistics.median(costs) * PACKETS / segments


def _segments(sock: socket.socket) -> int:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    return int(struct.unpack_from("=I", info, TCP_DATA_SEGS_OUT)[0])


def _connect(address: tuple[str, int], listener: socket.socket) -> float:
    """The ns for each connection."""
    started = time.perf_counter_ns()
    for _ in range(CONNECTIONS):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.connect(address)
        server, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        server.close()
    return (time.perf_counter_ns() - started) / CONNECTIONS
