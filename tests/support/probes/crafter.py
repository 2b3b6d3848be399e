"""`python -m tests.support.probes.crafter`: a lab's prober that also sends and counts hand-made packets.

Owns these requests (`inject`, `watch`, `watch_self`). A fleet starts it in place of the lab's own prober. Must not know
what policy expects.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from sgdataplane.lab.frames import ASK, ProbeMessage
from sgdataplane.lab.listeners import AF, Arrival, bind_socket, read_all
from sgdataplane.lab.prober import Prober, start_nodes
from sgdataplane.net.values import Address, Family


class Crafter(Prober):
    """Answers the requests of a Prober, and those about hand-made packets."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401  # a Prober's own
        super().__init__(*arguments)
        self._watched: dict[tuple[int, Family], socket.socket] = {}

    async def watch(self, protocol: int, family: str) -> dict[str, object]:
        """Begin to count tokens in packets of a protocol, including TCP and UDP, without answering."""
        place = (protocol, Family(family))
        if place not in self._watched:
            sock = bind_socket(socket.SOCK_RAW, protocol, 0, place[1])
            asyncio.get_running_loop().add_reader(sock, read_all, sock, place[1], self._count)
            self._watched[place] = sock
        return {}

    def _count(self, _: socket.socket, __: Family, arrival: Arrival) -> None:
        self._listeners.count(arrival.message.token)

    async def inject(self, packets: list[str], target: str, ifname: str, key: str) -> dict[str, object]:
        """Send whole IP packets, given in hex, from a raw socket. Results as of `send`."""
        family = Address.parse(target).family
        sent_error = 0
        with socket.socket(AF[family], socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
            for packet in packets:
                try:
                    sender.sendto(bytes.fromhex(packet), (target, 0))
                except OSError as error:
                    sent_error = error.errno or -1
        left, control = await self._did_leave(key, ifname)
        return {"left": left, "control": control, "sent_error": sent_error}

    async def watch_self(self, protocol: int, address: str, token: str, seconds: float) -> dict[str, object]:
        """Send this node a token over loopback. `alive`: the counter of hand-made packets counted it."""
        family = Address.parse(address).family
        with socket.socket(AF[family], socket.SOCK_RAW, protocol) as sender:
            sender.bind((address, 0))
            sender.sendto(ProbeMessage(ASK, token).encode(), (address, 0))
        return {"alive": await self._listeners.wait_counted(token, seconds) > 0}


if __name__ == "__main__":
    start_nodes(socket.socket(fileno=int(sys.argv[1])), Crafter)
