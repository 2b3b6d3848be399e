"""A workload that sends frames at a steady rate, and somebody elsewhere who counts those that come there.

Owns both. The frames pass the workload's fence: one in two goes to the router, the other to all on the link. Must not
know how they come there.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from sgdataplane.host import netns
from tests.fence.bench import ETH_P_ALL, PACKET_IGNORE_OUTGOING, SOL_PACKET, token
from tests.support.scenes.pair import mac_at

BROADCAST = "ff:ff:ff:ff:ff:ff"
BUFFER_BYTES = 4 << 20
SO_RCVBUFFORCE = 33


class Stream:
    """`sent`: how many frames so far. They carry `known`."""

    def __init__(self) -> None:
        self.known, self.sent = token(), 0
        self._end = threading.Event()

    def run(self, wire: socket.socket, frames: list[bytes], rate: int) -> None:
        while not self._end.wait(1 / rate):
            wire.send(frames[self.sent % len(frames)])
            self.sent += 1

    def stop(self) -> None:
        self._end.set()


@contextmanager
def streaming(place: str, source: str, gateway_mac: str, rate: int) -> Iterator[Stream]:
    """From a workload's eth0, from this address to nobody, so many frames a second of either kind."""
    stream, own = Stream(), mac_at(place, "eth0")
    packet = IP(src=source, dst="203.0.113.9") / UDP(sport=9, dport=9) / Raw(stream.known)
    frames = [bytes(Ether(src=own, dst=target) / packet) for target in (gateway_mac, BROADCAST)]
    with netns.inside(place):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with wire:
        wire.bind(("eth0", 0))
        sender = threading.Thread(target=stream.run, args=(wire, frames, 2 * rate))
        sender.start()
        try:
            yield stream
        finally:
            stream.stop()
            sender.join()


class Listener:
    """Counts a stream's frames at all interfaces of a place but eth0. One that has gone has no name any more."""

    def __init__(self, wire: socket.socket, stream: Stream) -> None:
        self._wire, self._stream = wire, stream
        self._to_one = self._to_all = 0

    @property
    def count(self) -> tuple[int, int]:
        """Frames so far: those to the router, and those to all on the link."""
        while True:
            try:
                frame, (ifname, *_) = self._wire.recvfrom(2048)
            except BlockingIOError:
                return self._to_one, self._to_all
            if ifname != "eth0" and self._stream.known in frame:
                is_to_all = frame.startswith(b"\xff" * 6)
                self._to_all += is_to_all
                self._to_one += not is_to_all


@contextmanager
def listening(place: str, stream: Stream) -> Iterator[Listener]:
    with netns.inside(place):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with wire:
        wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        wire.setblocking(False)
        yield Listener(wire, stream)
