"""A tap on an interface: it sees which packets pass, in which direction, and can prove that it works.

Owns one packet socket per interface, and the record of what was seen (`Sightings`). It is given keys of packets
(frames.py). Must not judge what it sees.

The kernel shows a tap outgoing frames after every netfilter hook and incoming frames before any. So a tap never sees a
packet that a policy drops on its way out, but does see one that a policy drops on its way in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections import OrderedDict
from dataclasses import dataclass

from sgdataplane.lab import frames
from sgdataplane.lab.waiting import scale_timeout

ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS = 263, 6  # linux/if_packet.h
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 16 << 20
BATCH = 256
CONTROL_S = scale_timeout(1.0)

IN, OUT = "in", "out"
REMEMBERED = 100_000


class Sightings:
    """Counts of the packets that were seen, by place and key (frames.py). The oldest are forgotten."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._waiting: dict[tuple[str, str], asyncio.Event] = {}

    def record(self, place: str, key: str) -> None:
        """Count one more packet."""
        sighting = (place, key)
        self._seen[sighting] = self._seen.get(sighting, 0) + 1
        self._seen.move_to_end(sighting)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        waiting = self._waiting.pop(sighting, None)
        if waiting is not None:
            waiting.set()

    def count(self, place: str, key: str) -> int:
        """Return how many such packets were seen, among those that have been read so far."""
        return self._seen.get((place, key), 0)

    async def wait_seen(self, place: str, key: str, seconds: float, beyond: int = 0) -> bool:
        """Wait until more than `beyond` such packets were seen; return False if that takes longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.count(place, key) <= beyond:
                    await self._waiting.setdefault((place, key), asyncio.Event()).wait()
        return self.count(place, key) > beyond


@dataclass(frozen=True, slots=True)
class TapEnd:
    """The interface of a tap, and the control question that proves its wire."""

    ifname: str
    own: str
    """The interface's address, which asks."""
    gateway: str
    """The address that is asked for."""

    @property
    def is_ipv4(self) -> bool:
        """Whether the control question is ARP, and no neighbour discovery."""
        return ":" not in self.own


class Tap:
    """A packet socket that records in `seen` what passes an interface.

    Must be made inside the namespace, with a running event loop.
    """

    def __init__(self, end: TapEnd) -> None:
        self.end = end
        self.seen = Sightings()
        self._listener = self._open()
        self._sender = self._open_sender()
        asyncio.get_running_loop().add_reader(self._listener, self._read)

    def _open(self) -> socket.socket:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        listener.bind((self.end.ifname, ETH_P_ALL))
        return listener

    def _open_sender(self) -> socket.socket:
        """Open a socket for sending only.

        It stays open, because closing a packet socket waits for an RCU grace period.
        """
        if self.end.is_ipv4:
            return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sender.bind((self.end.own, 0))
        return sender

    def _read(self) -> None:
        """Record the frames that have come in, at most BATCH at once."""
        for _ in range(BATCH):
            try:
                frame, origin = self._listener.recvfrom(2048)
            except BlockingIOError:
                return
            key = frames.key_of_frame(frame)
            if key is not None:
                self.seen.record(OUT if origin[2] == socket.PACKET_OUTGOING else IN, key)

    async def prove(self) -> str:
        """Ask the gateway for its address, and see both the question and the answer; return what went wrong, or "".

        A packet socket's frames come in order. So once the question was seen, all that left before it is recorded.
        """
        nonce = os.urandom(8)
        kind = "arp" if self.end.is_ipv4 else "nd"
        answer = f"{kind}! {self.end.gateway}"
        answers = self.seen.count(IN, answer)
        try:
            self._ask(nonce)
        except OSError as error:
            return f"the control frame could not be sent on {self.end.ifname}: {error.strerror}"
        if not await self.seen.wait_seen(OUT, f"{kind}? {self.end.gateway} {nonce.hex()}", CONTROL_S):
            return f"the control frame did not leave {self.end.ifname}"
        if not await self.seen.wait_seen(IN, answer, CONTROL_S, answers):
            return f"the gateway did not answer on {self.end.ifname}"
        return f"the tap on {self.end.ifname} lost frames" if self._count_lost() else ""

    def _ask(self, nonce: bytes) -> None:
        """Send ARP as a frame, but neighbour discovery from a socket: a policy may refuse IP in raw frames."""
        mac = self._listener.getsockname()[4]
        if self.end.is_ipv4:
            request = frames.arp_request(mac, self.end.own, self.end.gateway, nonce)
            self._sender.sendto(request, (self.end.ifname, 0))
        else:
            group = (frames.derive_solicited_node(self.end.gateway), 0, 0, socket.if_nametoindex(self.end.ifname))
            self._sender.sendto(frames.neighbour_solicitation(mac, self.end.gateway, nonce), group)

    def _count_lost(self) -> int:
        """Return how many frames were lost for want of buffer since the last call."""
        _, drops = struct.unpack("II", self._listener.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return int(drops)
