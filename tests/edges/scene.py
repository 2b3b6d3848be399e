"""A protected instance, its VPC's router and a host outside, for tests of single packets and of few sessions.

Owns sockets, raw packets, links' MTUs and what the table has counted. Must not know what a test expects of them.

    near (eth0) -- router -- outside          the policy is in near, or in the router
"""

from __future__ import annotations

import errno
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from scapy.packet import Packet

from sgdataplane.enforce import ApplyReport, Settings
from sgdataplane.host import netns
from sgdataplane.host.conntrack import Tracked, list_tracked
from sgdataplane.host.links import RTPROT_OURS
from sgdataplane.host.routing import router_ifname
from sgdataplane.lab.parts import external_node, netns_of
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.net.values import Address, Family
from tests.support.inputs.builders import VPC_ID, make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE
from tests.support.scenes import labs
from tests.support.scenes.sessionlab import IFNAME, NEAR, Place, SessionLab, session_lab

AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
NO_WINDOW = Settings(adoption_window=0)
FAMILIES = (Family.IPV4, Family.IPV6)
EVERYWHERE = {Family.IPV4: "0.0.0.0/0", Family.IPV6: "::/0"}
REFUSALS = {"default.egress.drop", "egress.midstream", "egress.invalid"}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, so that no TIME_WAIT holds the port


@dataclass
class Scene:
    """What a test gets. Sockets and listeners that it opens are closed when it ends."""

    lab: SessionLab
    router: str
    near_link: str
    outside_link: str
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def near(self) -> Place:
        return self.lab.near

    @property
    def outside(self) -> Place:
        return self.lab.outside

    @property
    def enforced(self) -> str:
        """The namespace where the policy is."""
        return self.lab.site.netns

    @property
    def is_host(self) -> bool:
        return self.lab.site.placement == "host"

    def enforce(
        self,
        *rules: str,
        advanced: bool = True,
        tracking: ConnectionTracking | None = None,
        settings: Settings = NO_WINDOW,
        options: Options = DEFAULTS,
    ) -> ApplyReport:
        """Put one group's rules in force at `near`, in both families (`any` is everywhere). Advanced groups refuse what
        no rule accepts, in both directions."""
        texts = [rule.replace("any", EVERYWHERE[family]) for rule in rules for family in FAMILIES]
        group = make_group("sg-near", list(dict.fromkeys(texts)), advanced=advanced)
        eni = make_eni("eni-a", NEAR, "sg-near", connection_tracking=tracking or ConnectionTracking())
        desired = self.lab.site.desired(make_state([group], [eni]), options)
        return enforce(self.enforced, desired, settings=settings)

    # sockets

    def open(self, place: Place, family: Family, kind: int, protocol: int = 0) -> socket.socket:
        """A socket at that place, with a deadline on all it does."""
        with netns.inside(place.netns):
            made = self.stack.enter_context(socket.socket(AF[family], kind, protocol))
        made.settimeout(DEADLINE)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return made

    def listen(self, place: Place, family: Family, port: int) -> socket.socket:
        listener = self.open(place, family, socket.SOCK_STREAM)
        listener.bind((place.address(family), port))
        listener.listen()
        return listener

    def udp(self, place: Place, family: Family, port: int = 0) -> socket.socket:
        made = self.open(place, family, socket.SOCK_DGRAM)
        made.bind((place.address(family), port))
        return made

    def connect(self, client: Place, server: Place, family: Family, port: int) -> tuple[socket.socket, socket.socket]:
        """A TCP session: the client's socket, and the server's. Both are closed with a reset."""
        listener = self.listen(server, family, port)
        opener = self.open(client, family, socket.SOCK_STREAM)
        opener.bind((client.address(family), 0))
        opener.connect((server.address(family), port))
        accepted = self.stack.enter_context(listener.accept()[0])
        listener.close()
        for sock in (opener, accepted):
            sock.settimeout(DEADLINE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return opener, accepted

    # packets

    def send(self, place: Place, *packets: Packet) -> int:
        """Send whole IP packets from a raw socket; the last error number (a refusal at egress is EPERM), 0 if none."""
        failure = 0
        for packet in packets:
            family = Family.IPV4 if packet.version == 4 else Family.IPV6
            with self._raw(place, family) as door:
                try:
                    door.sendto(bytes(packet), (packet.dst, 0))
                except OSError as error:
                    failure = error.errno or -1
        return failure

    def refuses(self, attempt: Callable[[], object]) -> bool:
        """Whether the egress policy refuses what `near` sends. An error says so where that policy is in its own
        namespace; of a router's it hears nothing, and a counter tells."""
        before = self.counts()
        is_told = is_refused(attempt)
        if not self.is_host:
            return is_told
        until(lambda: not REFUSALS.isdisjoint(grown(before, self.counts())), "refusal")
        return not is_told

    @contextmanager
    def _raw(self, place: Place, family: Family) -> Iterator[socket.socket]:
        with netns.inside(place.netns), socket.socket(AF[family], socket.SOCK_RAW, socket.IPPROTO_RAW) as door:
            yield door

    def counts(self) -> dict[str, int]:
        """Packets that each counter of our table has counted, zeroes and those that count by ENI left out."""
        text = nft(self.enforced, "list counters table inet sgdataplane")
        found = re.findall(r"counter (\S+) \{[^}]*?packets (\d+)", text)
        return {name: int(number) for name, number in found if number != "0" and not name.startswith("dropped.")}

    def tracked(self) -> list[Tracked]:
        with netns.inside(self.enforced):
            return list_tracked()

    def forget_all(self) -> None:
        """Empty the conntrack table that the policy asks."""
        labs.run_in(self.enforced, "conntrack", "-F")

    def set_mtu(self, mtu: int) -> None:
        """Of the way that the router takes to the host outside; its links stay as wide as they are, for a veth loses
        what its peer sends above its own MTU, and whoever sent it hears nothing of that."""
        for family, option in ((Family.IPV4, "-4"), (Family.IPV6, "-6")):
            way = (self.outside.address(family), "dev", self.outside_link, "proto", str(RTPROT_OURS))
            labs.run_in(self.router, "ip", option, "route", "change", *way, "mtu", str(mtu))
        self._forget_paths()

    def set_mtu_of_near(self, mtu: int) -> None:
        """Of both ends of the link at `near`."""
        labs.run_in(self.router, "ip", "link", "set", self.near_link, "mtu", str(mtu))
        labs.run_in(self.near.netns, "ip", "link", "set", IFNAME, "mtu", str(mtu))
        self._forget_paths()

    def _forget_paths(self) -> None:
        for namespace in (self.near.netns, self.outside.netns, self.router):
            for option in ("-4", "-6"):
                labs.run_in(namespace, "ip", option, "route", "flush", "cache")


@contextmanager
def scene(name: str, placement: str = "instance") -> Iterator[Scene]:
    with session_lab(name, placement) as lab:
        yield Scene(lab, netns_of(name, VPC_ID), router_ifname("eni-a"), _outside_link(lab))


def _outside_link(lab: SessionLab) -> str:
    external = external_node(Address.parse(lab.outside.addresses[0]))
    return router_ifname(f"{external}.link")


def until(condition: Callable[[], bool], what: str = "it") -> None:
    """Return when it holds; fail at the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in time"
        time.sleep(0.005)


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """By how much each counter has."""
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


def is_refused(attempt: Callable[[], object], *codes: int) -> bool:
    """Whether the attempt ends in one of these errors (EPERM by default)."""
    try:
        attempt()
    except OSError as error:
        return error.errno in (codes or (errno.EPERM,))
    return False


def drained(sock: socket.socket) -> list[bytes]:
    """What has arrived so far."""
    found: list[bytes] = []
    sock.setblocking(False)
    with suppress(BlockingIOError):
        while not found or found[-1]:
            found.append(sock.recv(65535))
    sock.settimeout(DEADLINE)
    return found
