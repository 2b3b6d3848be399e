"""Real sockets in the nodes of a lab, with both ends of each session.

Owns the sockets. It is given nodes and addresses. Must not know policy: what it opens has to be accepted.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass

from scapy.layers import inet
from scapy.layers.inet6 import ICMPv6EchoRequest

from sgdataplane.host import netns
from tests.support.probes.flood import DEADLINE


@dataclass
class Ends:
    """Sockets in the namespaces of a lab, which stay open until the lab is removed."""

    lab: str
    stack: ExitStack

    def open(self, node: str, kind: int, address: str, protocol: int = 0) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with netns.inside(f"{self.lab}-{node}"):
            made = self.stack.enter_context(socket.socket(family, kind, protocol))
        made.settimeout(DEADLINE)
        return made

    def listen(self, node: str, address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        made = self.open(node, kind, address)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen()
        return made

    def tcp(self, node: str, address: str, port: int, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
        """A connection from a node: its socket, and the listener's."""
        client = self.open(node, socket.SOCK_STREAM, address)
        client.connect((address, port))
        served, _ = listener.accept()
        served.settimeout(DEADLINE)
        return client, self.stack.enter_context(served)

    def udp(self, node: str, address: str, port: int, listener: socket.socket, *, is_answered: bool) -> None:
        client = self.open(node, socket.SOCK_DGRAM, address)
        client.connect((address, port))
        client.send(b"question")
        _, sender = listener.recvfrom(64)
        if is_answered:
            listener.sendto(b"answer", sender)
            assert client.recv(64) == b"answer"

    def ping(self, node: str, address: str) -> None:
        is_v6 = ":" in address
        protocol = socket.IPPROTO_ICMPV6 if is_v6 else socket.IPPROTO_ICMP
        raw = self.open(node, socket.SOCK_RAW, address, protocol)
        raw.sendto(bytes(ICMPv6EchoRequest(id=77) if is_v6 else inet.ICMP(id=77)), (address, 0))
        reply = 129 if is_v6 else 0
        while raw.recv(256)[0 if is_v6 else 20] != reply:
            pass
