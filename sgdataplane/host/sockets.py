"""TCP sessions as the sockets of the calling thread's network namespace know them, and which end opened each.

Conntrack learns here of those that were running before it was. Owns the shape of these sock_diag messages
(linux/inet_diag.h). Its input is prefixes. Must not know policy.

A socket does not say who opened its session. If somebody listens at the local port, the far end did. If nobody listens
any more, the ports tell: an ephemeral port, which the kernel gives to programs that ask for none, is a client's.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.errors import HostError, UnsupportedError
from sgdataplane.host import sysctl
from sgdataplane.host.conntrack import SessionTuple, track_established
from sgdataplane.host.netlink import NLM_F_DUMP, open_netlink, parse_attributes, receive_list, request
from sgdataplane.host.timeouts import FOLDER
from sgdataplane.net.values import TCP, Address, Family, PortRange, Prefix

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
REQUEST = struct.Struct("=BBBxI48x")  # family, protocol, extensions, states; any socket
SOCKET = struct.Struct("!BBxxHH16s16s32x")  # family, state, local port, remote port, local and remote address, ...
INET_DIAG_SKV6ONLY = 11
# include/net/tcp_states.h. The next segment of an opening session tells its direction; one in TIME_WAIT is over.
LISTEN = 10
RUNNING = {"ESTABLISHED": 1, "FIN_WAIT1": 4, "FIN_WAIT2": 5, "CLOSE_WAIT": 8, "LAST_ACK": 9, "CLOSING": 11}
STATES = sum(1 << state for state in (LISTEN, *RUNNING.values()))
MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, IPv4 on an IPv6 socket (RFC 4291, 2.5.5.2)

End = tuple[Address, int]


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """One end of a session, or a listener."""

    state: int
    local: End
    remote: End  # all zeros for a listener
    is_v6only: bool = False  # whether it is an IPv6 listener without IPv4


def list_tcp_sessions(own: Collection[Prefix]) -> list[SessionTuple]:
    """List the running TCP sessions from or to these addresses, each as the end that opened it sees it.

    Sessions between two sockets of this namespace are left out.

    Raises:
        HostError: The kernel refuses.
        UnsupportedError: The kernel can't list sockets.
    """
    first, last = map(int, sysctl.read("ipv4/ip_local_port_range").split())
    return find_sessions(_list_sockets(), own, PortRange(first, last))


def find_sessions(sockets: Iterable[TcpSocket], own: Collection[Prefix], ephemeral: PortRange) -> list[SessionTuple]:
    """Return the sessions of given sockets, as `list_tcp_sessions` does.

    `ephemeral` are the ports that the kernel gives to programs that ask for none.
    """
    found = list(sockets)
    listening = {end for entry in found if entry.state == LISTEN for end in _ends_listened_at(entry)}
    pairs = {(entry.local, entry.remote) for entry in found if entry.state != LISTEN}
    ours = {address for address in {local[0] for local, _ in pairs} if any(address in prefix for prefix in own)}

    def session(local: End, remote: End) -> SessionTuple:
        is_served = local in listening or (_wildcard(local[0].family), local[1]) in listening
        is_inbound = is_served or (local[1] not in ephemeral and remote[1] in ephemeral)
        return _make_tuple(remote, local) if is_inbound else _make_tuple(local, remote)

    return [
        session(local, remote) for local, remote in sorted(pairs) if local[0] in ours and (remote, local) not in pairs
    ]


def _make_tuple(source: End, target: End) -> SessionTuple:
    return SessionTuple(TCP, source[0], target[0], source[1], target[1])


def _ends_listened_at(listener: TcpSocket) -> Iterator[End]:
    """Yield the ends at which a listener listens. One at :: gets IPv4, too, unless it is IPv6 only."""
    address, port = listener.local
    yield listener.local
    if address == _wildcard(Family.IPV6) and not listener.is_v6only:
        yield _wildcard(Family.IPV4), port


def _wildcard(family: Family) -> Address:
    return Address(family.bits, 0)


def _list_sockets() -> list[TcpSocket]:
    try:
        return [parse_socket(message) for family in (socket.AF_INET, socket.AF_INET6) for message in _dump(family)]
    except OSError as error:
        if error.errno == errno.ENOENT:
            needs = "the kernel module tcp_diag (CONFIG_INET_TCP_DIAG), or an adoption window of 0 seconds"
            raise UnsupportedError("listing TCP sockets", needs) from error
        raise HostError("TCP sockets", os.strerror(error.errno or 0)) from error


def _dump(family: int) -> Iterator[bytes]:
    """Yield one message for each socket of the family."""
    with open_netlink(NETLINK_SOCK_DIAG) as sock:
        sock.send(request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, REQUEST.pack(family, TCP, 0, STATES)))
        yield from filter(None, receive_list(sock))


def parse_socket(message: bytes) -> TcpSocket:
    """Read one socket from a message. An IPv4 address is returned as one, even on an IPv6 socket."""
    family, state, local_port, remote_port, local, remote = SOCKET.unpack_from(message)
    is_v6only = False
    if state == LISTEN:
        is_v6only = any(parse_attributes(message[SOCKET.size :]).get(INET_DIAG_SKV6ONLY, b""))
    return TcpSocket(state, (_address(family, local), local_port), (_address(family, remote), remote_port), is_v6only)


def _address(family: int, packed: bytes) -> Address:
    if family == socket.AF_INET:
        return Address(32, int.from_bytes(packed[:4], "big"))
    if packed.startswith(MAPPED):
        return Address(32, int.from_bytes(packed[12:], "big"))
    return Address(128, int.from_bytes(packed, "big"))


MAX_PASSES = 3
IN_USE = re.compile(r"^TCP6?: inuse [1-9]|^TCP: .* tw [1-9]", re.MULTILINE)  # tw has those in FIN_WAIT2, too
COUNTS = (Path("/proc/thread-self/net/sockstat"), Path("/proc/thread-self/net/sockstat6"))  # if there is IPv6


def has_tcp() -> bool:
    """Whether the calling thread's namespace has any TCP socket that is connected, closing or listening."""
    texts = (path.read_text("ascii") for path in COUNTS if path.exists())
    return any(IN_USE.search(text) for text in texts)


def seed_sessions(own: Collection[Prefix]) -> int:
    """Have conntrack track the running TCP sessions of these addresses, each as if it had seen it open.

    Return how many it did not know. It looks again for sessions that began meanwhile. A namespace without TCP isn't
    asked for a list: for that the kernel walks the sockets of all.

    Raises:
        HostError: The kernel refuses.
        UnsupportedError: The kernel can't list sockets.
    """
    seconds = sysctl.read_number(f"{FOLDER}/nf_conntrack_tcp_timeout_established")
    made, known = 0, set[SessionTuple]()
    if not has_tcp():
        return made
    for _ in range(MAX_PASSES):
        new = [session for session in list_tcp_sessions(own) if session not in known]
        if not new:
            break
        made += track_established(new, seconds)
        known.update(new)
    return made
