"""The packets that rules log to an nflog group of a namespace, as they come.

Owns the messages of nfnetlink_log (linux/netfilter/nfnetlink_log.h). Its input is a group; it returns what was logged.
Must not know who logged it, or why.

Each group of a namespace has at most one listener, a socket that was opened there. The socket keeps the namespace alive
after its last process, so its owner has to check from time to time whether anybody else is still there.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from sgdataplane.errors import HostError, UnsupportedError
from sgdataplane.host.netlink import (
    SO_RCVBUFFORCE,
    attribute,
    messages,
    parse_attributes,
    receive_all,
    refusals_of,
    text_of,
)
from sgdataplane.host.nfnetlink import GENMSG, Nfnetlink, message_kind

SUBSYSTEM, PACKET, CONFIG = 4, 0, 1  # NFNL_SUBSYS_ULOG, NFULNL_MSG_*
COMMAND, MODE, THRESHOLD = 1, 2, 5  # NFULA_CFG_*
BIND, UNBIND, COPY_PACKET = 1, 2, 2  # NFULNL_CFG_CMD_*, NFULNL_COPY_*
HEADER_OF_PACKET, TIMESTAMP, CAME_BY, LEAVES_BY, PAYLOAD, PREFIX = 1, 3, 4, 5, 9, 10  # NFULA_*
NETDEV, INGRESS, EGRESS = 5, 0, 1  # NFPROTO_NETDEV, and its hooks
MAC_HEADER = 14
COPIED_BYTES = 512
BUFFER_BYTES = 8 << 20
MAX_READS = 1000  # of one call; what is left stays readable
NEEDS = "the kernel modules nfnetlink_log and nft_log (CONFIG_NETFILTER_NETLINK_LOG, CONFIG_NFT_LOG)"


class Logged(NamedTuple):
    """One logged packet.

    It is a tuple because floods make many, and a frozen dataclass takes four times as long to make.
    """

    prefix: str  # the text in its rule
    is_netdev: bool  # whether a rule of a netdev table logged it
    hook: int  # the kernel's number of the hook (NF_INET_*, NF_NETDEV_*)
    came_by: int  # the index of the interface; 0: none
    leaves_by: int  # the index of the interface; 0: none
    ethertype: int  # the type of what follows the MAC header
    payload: bytes  # what follows the MAC header
    seconds: float | None  # when, since 1970; None if the kernel doesn't say


class Nflog(Nfnetlink):
    """Listens to one group in the namespace that the calling thread is in. For a selector; `read` never waits."""

    def __init__(self, group: int, buffer_bytes: int = BUFFER_BYTES) -> None:
        """Begin to listen.

        Raises:
            UnsupportedError: The kernel has no nflog.
            HostError: Another process listens already.
        """
        super().__init__()
        self.group, self._has_lost = group, False
        kind = message_kind(SUBSYSTEM, CONFIG)
        mode = attribute(MODE, struct.pack("!IBB", COPIED_BYTES, COPY_PACKET, 0))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer_bytes)
            self.tell(kind, socket.AF_UNSPEC, attribute(COMMAND, bytes([BIND])), resource=group)
            self.tell(kind, socket.AF_UNSPEC, mode + attribute(THRESHOLD, struct.pack("!I", 1)), resource=group)
        except OSError as error:
            self.close()
            if error.errno in (errno.EPERM, errno.EBUSY):  # the group is another socket's
                what = "another process listens already, and the kernel allows only one listener"
                raise HostError(f"nflog group {group}", what) from error
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
                raise UnsupportedError("nflog", NEEDS) from error
            raise HostError(f"nflog group {group}", error.strerror or str(error)) from error
        self._socket.setblocking(False)

    def close(self) -> None:
        """Stop listening. From here on others may listen, whenever another thread closes the socket."""
        with suppress(OSError):  # there is no such group, or it is another socket's
            self._send(
                message_kind(SUBSYSTEM, CONFIG), 0, socket.AF_UNSPEC, attribute(COMMAND, bytes([UNBIND])), self.group
            )
        super().close()

    def keep(self) -> None:
        """Close the socket: it listens, so nobody else can use it."""
        self.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when packets have come."""
        return self._socket.fileno()

    def read(self) -> list[Logged]:
        """Return the packets that have come. What didn't fit into the socket's buffer is lost.

        If there are very many, it returns the first ones, and the socket stays readable.
        """
        with refusals_of("nflog"):
            parts = list(islice(receive_all(self._socket), MAX_READS))
        self._has_lost |= any(part.is_lossy for part in parts)
        packet = message_kind(SUBSYSTEM, PACKET)
        return [parse(payload) for part in parts for kind, _, _, payload in messages(part.data) if kind == packet]

    def take_lost(self) -> bool:
        """Whether packets were lost since the last call, as far as they have been read."""
        has_lost, self._has_lost = self._has_lost, False
        return has_lost


def parse(payload: bytes) -> Logged:
    """Read one message, without its netlink header."""
    found = parse_attributes(payload[GENMSG.size :])
    is_netdev = payload[0] == NETDEV
    ethertype, hook = struct.unpack_from("!HB", found.get(HEADER_OF_PACKET, bytes(4)))
    packet = found.get(PAYLOAD, b"")
    if is_netdev and hook == EGRESS:  # the only hook whose packets still have their MAC header
        packet = packet[MAC_HEADER:]
    seconds, micros = struct.unpack("!QQ", found.get(TIMESTAMP, bytes(16)))
    came_by, leaves_by = (int.from_bytes(found.get(asked, b""), "big") for asked in (CAME_BY, LEAVES_BY))
    when = seconds + micros / 1e6 if seconds else None
    return Logged(text_of(found.get(PREFIX, b"")), is_netdev, hook, came_by, leaves_by, ethertype, packet, when)
