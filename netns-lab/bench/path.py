"""The path: two namespaces joined by a veth pair, or by a router between them, with sockets at both ends. The filter is
in the receiver's namespace, or in the router.

Owns links, addresses and sockets. Must not know which filter it is, or what is measured.

A veth delivers a packet within the sender's own system call, so a send takes as long as the whole path.

While other links of the machine come up or go, the kernel takes its time until a new one is up, for seconds if they are
hundreds. Until then it drops what is sent. So a path is made only when its links are up.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Self

from bench.errors import BenchError
from bench.policy import CHANGE, PORT, PROBE, RECEIVER, STRANGER
from sgdataplane.host import netns, sysctl
from sgdataplane.host.links import InterfaceAddress, Links
from sgdataplane.host.routing import FORWARDING, ROUTER
from sgdataplane.net.values import Address

TIMEOUT_S = 5.0
READY_S, POLL_S = 60.0, 0.005  # for links to come up
UPLINK, HOST_END, GATEWAY = "up0", "eni-probe", "169.254.1.1"  # of a router
BUFFER = 1 << 24  # bytes: a batch must fit, whatever the kernel adds to each packet
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, so that no TIME_WAIT holds the port


@dataclass
class Path:
    """The namespaces `<name>s` and `<name>r`. When the path closes, all sockets are closed and both are removed."""

    name: str
    mac: str = ""
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def sender(self) -> str:
        return f"{self.name}s"

    @property
    def receiver(self) -> str:
        return f"{self.name}r"

    @property
    def filtering(self) -> str:
        """The namespace where the filter is."""
        return self.receiver

    def __enter__(self) -> Self:
        for namespace in (self.sender, self.receiver):
            netns.create(namespace)
            self.stack.callback(netns.remove, namespace)
        with Links(self.sender) as links:
            links.add_veth("eth0", self.receiver, "eth0", "")
        self._bring_up(self.sender, PROBE, STRANGER)
        self._bring_up(self.receiver, RECEIVER)
        wait_until_up(self.sender, "eth0")
        wait_until_up(self.receiver, "eth0")
        self.mac = self._introduce(self.sender, self.receiver, RECEIVER)
        self._introduce(self.receiver, self.sender, PROBE, STRANGER)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @staticmethod
    def _bring_up(namespace: str, *addresses: str) -> None:
        with Links(namespace) as links:
            for address in addresses:
                links.add_address(InterfaceAddress("eth0", Address.parse(address), 24))
            links.set_up("lo")
            links.set_up("eth0")

    @staticmethod
    def _introduce(namespace: str, other: str, *addresses: str) -> str:
        """Enter the other end's MAC address as a permanent neighbour, and return it."""
        with Links(other) as links:
            mac = next(link.mac for link in links.links() if link.ifname == "eth0")
        for address in addresses:
            entry = ("neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent")
            subprocess.run(("ip", "-n", namespace, *entry), check=True)
        return mac

    # sockets

    def udp(self, address: str, port: int = 0) -> socket.socket:
        """A datagram socket at that address, in the namespace that has the address."""
        return self._bound(socket.SOCK_DGRAM, address, port)

    def tcp(self, address: str, port: int = 0) -> socket.socket:
        made = self._bound(socket.SOCK_STREAM, address, port)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return made

    def _bound(self, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
        with netns.inside(self.receiver if address == RECEIVER else self.sender):
            made = self.stack.enter_context(socket.socket(socket.AF_INET, kind))
        made.settimeout(TIMEOUT_S)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            made.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        made.bind((address, port))
        return made


class RoutedPath(Path):
    """With the namespace `<name>f` between them, as host placement has it: UPLINK leads to the sender, HOST_END to the
    receiver."""

    @property
    def filtering(self) -> str:
        return f"{self.name}f"

    def __enter__(self) -> Self:
        for namespace in (self.sender, self.receiver, self.filtering):
            netns.create(namespace)
            self.stack.callback(netns.remove, namespace)
        with netns.inside(self.filtering):
            sysctl.write_all(ROUTER)
        with Links(self.filtering) as links:
            links.add_veth(UPLINK, self.sender, "eth0", "")
            links.add_veth(HOST_END, self.receiver, "eth0", "")
        with netns.inside(self.filtering):
            sysctl.write_all(FORWARDING)
        self._lead(UPLINK, self.sender, PROBE, STRANGER)
        self.mac = self._lead(HOST_END, self.receiver, RECEIVER)
        return self

    def _lead(self, end: str, namespace: str, *addresses: str) -> str:
        """Routes and neighbours of one link. Return the MAC address of its far end."""
        macs = {}
        ends = ((self.filtering, end), (namespace, "eth0"))
        for where, ifname in ends:
            with Links(where) as links:
                links.set_up("lo")
                links.set_up(ifname)
        for where, ifname in ends:
            wait_until_up(where, ifname)
            with Links(where) as links:
                macs[where] = next(link.mac for link in links.links() if link.ifname == ifname)
        inside = [f"address add {address}/32 dev eth0" for address in addresses]
        neighbour = f"neigh replace {GATEWAY} lladdr {macs[self.filtering]} dev eth0 nud permanent"
        default = f"route add default via {GATEWAY} dev eth0 onlink src {addresses[0]}"
        _ip(namespace, *inside, neighbour, default)
        for address in addresses:
            known = f"neigh replace {address} lladdr {macs[namespace]} dev {end} nud permanent"
            _ip(self.filtering, f"route add {address}/32 dev {end}", known)
        return macs[namespace]

    def add_ends(self, names: Iterable[str]) -> None:
        """More host ends, whose other ends are in a namespace that nobody uses."""
        idle = f"{self.name}i"
        netns.create(idle)
        self.stack.callback(netns.remove, idle)
        add_ends(self.filtering, idle, names)


def add_ends(namespace: str, far: str, names: Iterable[str]) -> None:
    """Interfaces of these names; each one's other end has the same name in the namespace `far`. They stay down: when
    hundreds come up, the kernel takes seconds until it lets the next one send."""
    _ip(namespace, *(f"link add {name} type veth peer name {name} netns {far}" for name in names))


def wait_until_up(namespace: str, ifname: str, seconds: float = READY_S) -> None:
    """BenchError if the interface doesn't come up in that time."""
    deadline = time.monotonic() + seconds
    with Links(namespace) as links:
        while any(link.ifname == ifname and link.operstate != "UP" for link in links.links()):
            if time.monotonic() > deadline:
                raise BenchError(f"{ifname} didn't come up in {seconds:g} s")
            time.sleep(POLL_S)


def _ip(namespace: str, *commands: str) -> None:
    subprocess.run(("ip", "-n", namespace, "-batch", "-"), input="\n".join(commands), text=True, check=True)


class Ends:
    """The sockets of a path: for what is allowed, what is denied, and what the change lets in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = path.tcp(RECEIVER, PORT)
        self.listener.listen(64)
        self.inbox = path.udp(RECEIVER, PORT)  # of whoever sends to the port and has no session
        self.one_way = _connected(path.udp(PROBE), PORT)  # nobody answers it
        self.stranger = _connected(path.udp(STRANGER), PORT)
        self._change_inbox = path.udp(RECEIVER, CHANGE.port)
        self._changed = _connected(path.udp(STRANGER), CHANGE.port)
        self._control = _connected(path.udp(PROBE), PORT)
        self._sent = 0

    @contextmanager
    def session(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """A new UDP session that has seen packets in both directions: its client and its server. Each has another port:
        one whose place in the kernel's hash tables is crowded would cost 250 ns more, in every round."""
        with self.path.udp(RECEIVER, PORT) as server, _connected(self.path.udp(PROBE), PORT) as client:
            server.connect(client.getsockname())
            for here, there in ((client, server), (server, client)):
                here.send(b"session")
                there.recv(64)
            yield client, server

    @contextmanager
    def connection(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """A new TCP connection that sends each message as a segment: its client and its server."""
        client, server = self._connect()
        with client, server:
            yield client, server

    def _connect(self) -> tuple[socket.socket, socket.socket]:
        client = self.path.tcp(PROBE)
        client.connect((RECEIVER, PORT))
        server = self.path.stack.enter_context(self.listener.accept()[0])
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        for sock in (client, server):
            sock.settimeout(TIMEOUT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client, server

    def check(self, *, is_denying: bool) -> None:
        """BenchError unless the probe's TCP and UDP get through, and the stranger's UDP does as it should."""
        for end in self._connect():
            end.close()
        if self._arrives(self.stranger, self.inbox) == is_denying:
            raise BenchError(f"the stranger's packets are {'let through' if is_denying else 'dropped'}")

    def check_change(self, *, is_in_force: bool) -> None:
        """BenchError unless the packets that the change is about get through, or don't."""
        if self._arrives(self._changed, self._change_inbox) != is_in_force:
            raise BenchError(f"a change was not in force when its command returned (wanted: {is_in_force})")

    def _arrives(self, sender: socket.socket, inbox: socket.socket) -> bool:
        """Whether a packet gets through. A packet of the probe, which must get through, follows as a control."""
        self._sent += 1
        known = b"%d" % self._sent
        _drain(self.inbox)
        sender.send(known)
        self._control.send(b"control")
        return known in (*_until_control(self.inbox), *_drain(inbox))


def _connected(sock: socket.socket, port: int) -> socket.socket:
    sock.connect((RECEIVER, port))
    return sock


def _until_control(inbox: socket.socket) -> list[bytes]:
    """What arrives before the control packet."""
    found: list[bytes] = []
    try:
        while not found or found[-1] != b"control":
            found.append(inbox.recv(64))
    except TimeoutError as error:
        raise BenchError("the probe's own packets don't get through") from error
    return found


def _drain(inbox: socket.socket) -> list[bytes]:
    """Read and drop what has already arrived."""
    found = []
    inbox.setblocking(False)
    try:
        while True:
            found.append(inbox.recv(64))
    except BlockingIOError:
        inbox.settimeout(TIMEOUT_S)
        return found
