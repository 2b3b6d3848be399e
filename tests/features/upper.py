"""Devices on top of an ENI's link, at its own end and at the other one, and datagrams between them.

Owns addresses on such devices, and the proof beside a datagram that takes the link as it is. Must not know what kind
they are, or what a test expects.

The other end of the link is the peer, in instance placement, or the router, where the policy is.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from sgdataplane.host import netns
from sgdataplane.lab.topology import GATEWAYS
from sgdataplane.net.values import Family
from tests.features.passage import QUICK
from tests.fence.bench import OF_ENIS
from tests.fence.hostbench import mac_in
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import ARRIVAL, HERE, LINKS, Pair, desired_at, made_pair

# UDP ports: the policy lets the first two in, not the third, and all out but the last.
OPEN, PLAIN, REFUSED, BARRED = 5000, 5050, 6000, 7000
RULES = [
    rule
    for anybody in ("0.0.0.0/0", "::/0")
    for rule in (
        f"ingress udp {OPEN}/{OPEN} from {anybody}",
        f"ingress udp {PLAIN}/{PLAIN} from {anybody}",
        f"egress udp {BARRED}/{BARRED} to {anybody} drop",
    )
]
STATE = make_state([make_group("sg-a", RULES)], [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")])
OWN, OTHER = ("192.168.7.2", "fd07::2"), ("192.168.7.1", "fd07::1")  # of devices: at the instance's end, at the other
LENGTHS = (24, 64)
PASSING = (".always", ".icmp-error", ".accept")  # what counters are called that count no drops

Spot = tuple[str, str]  # a namespace, and an interface or an address in it


class Line:
    """Datagrams from one address to a port of another; a socket waits there. `last`: what was sent last."""

    def __init__(self, stack: ExitStack, source: Spot, target: Spot, port: int) -> None:
        self.server = _bound(stack, target, port)
        self.client = _bound(stack, source, 0)
        self.client.connect(self.server.getsockname())
        self._number, self.last = 0, b""

    def send(self) -> bytes:
        """One more, which may be refused on its way out; its content, which no other one has."""
        self._number += 1
        self.last = f"{self.client.getsockname()[1]}/{self._number}".encode()
        with suppress(PermissionError):
            self.client.send(self.last)
        return self.last

    def answer(self) -> None:
        """One back from the socket, which may be refused."""
        with suppress(PermissionError):
            self.server.sendto(b"answer", self.client.getsockname())

    def must_pass(self) -> set[bytes]:
        """One more, which has to arrive; what came before it."""
        content, found = self.send(), set[bytes]()
        while (got := self.server.recv(64)) != content:
            found.add(got)
        return found

    def passes(self, beside: Line, send: Callable[[], bytes] | None = None) -> bool:
        """Whether one more arrives, before one of `beside`, which has to. `send`: another way to send it."""
        content = (send or self.send)()
        beside.must_pass()
        return content in self.read()

    def read(self) -> set[bytes]:
        """What has come and was not read yet."""
        found = set()
        self.server.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                found.add(self.server.recv(64))
        self.server.settimeout(ARRIVAL)
        return found


def _bound(stack: ExitStack, place: Spot, port: int) -> socket.socket:
    namespace, address = place
    with netns.inside(namespace):
        made = stack.enter_context(
            socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        )
    made.settimeout(ARRIVAL)
    made.bind((address, port))
    return made


@dataclass
class Scene:
    """`own`, `other`: where the link ends, namespace and interface. `plain`: by way, what takes it as it is."""

    pair: Pair
    own: Spot
    other: Spot
    stack: ExitStack
    placement: str
    plain: dict[str, Line] = field(default_factory=dict)

    def enforce(self) -> None:
        assert enforce(self.pair["policy"], desired_at(self.pair, STATE), None, QUICK).leftover == ""

    def add(self, end: Spot, *kind: str, ifname: str = "upper", namespace: str = "") -> Spot:
        """A device on top of that end, without addresses yet; in another namespace, if one is named."""
        place, lower = end
        run_in(place, "ip", "link", "add", "link", lower, "name", ifname, "type", *kind)
        if namespace:
            run_in(place, "ip", "link", "set", ifname, "netns", namespace)
        return namespace or place, ifname

    def number(self, own: Spot, other: Spot) -> None:
        """Give two devices their addresses, take them up, and have each know the other's MAC."""
        for (namespace, ifname), addresses in ((own, OWN), (other, OTHER)):
            for address, length in zip(addresses, LENGTHS, strict=True):
                nodad = ["nodad"] if ":" in address else []
                run_in(namespace, "ip", "address", "add", f"{address}/{length}", "dev", ifname, *nodad)
            run_in(namespace, "ip", "link", "set", ifname, "up")
        carried(own, other)
        for (namespace, ifname), far, addresses in ((own, other, OTHER), (other, own, OWN)):
            mac = mac_in(*far)
            for address in addresses:
                run_in(namespace, "ip", "neigh", "replace", address, "lladdr", mac, "dev", ifname, "nud", "permanent")

    def lines(self, own: str, other: str, family: Family, port: int = OPEN) -> dict[str, Line]:
        """Between those two devices, in these namespaces, by way."""
        at = list(Family).index(family)
        near, far = (own, OWN[at]), (other, OTHER[at])
        return {"in": Line(self.stack, far, near, port), "out": Line(self.stack, near, far, port)}

    def drops(self) -> dict[str, int]:
        """Packets that were dropped so far, by the counter of the cause."""
        texts = [nft(self.pair["policy"], f"list counters table {family} sgdataplane") for family in ("inet", "netdev")]
        found = [found for text in texts for found in re.findall(r"counter (\S+) \{[^}]*?packets (\d+)", text)]
        return {k: int(n) for k, n in found if not k.startswith(("rule.", *OF_ENIS)) and not k.endswith(PASSING)}

    def dropped(self, line: Line, way: str, send: Callable[[], bytes] | None = None) -> set[str]:
        """One more must not arrive, while a plain one does. What has counted drops meanwhile: of that one, and of what
        kernels say of themselves by a new device."""
        before = self.drops()
        assert not line.passes(self.plain[way], send)
        after = self.drops()
        return {name for name in after if after[name] != before[name]}


@contextmanager
def made_scene(make_name: Callable[[], str], placement: str) -> Iterator[Scene]:
    with made_pair(make_name, placement) as pair, ExitStack() as stack:
        other = (pair["peer"], "eth0") if placement == "instance" else (pair["policy"], LINKS["instance"])
        scene = Scene(pair, (pair["instance"], "eth0"), other, stack, placement)
        instance, peer = ((pair[role], HERE[role][0]) for role in ("instance", "peer"))
        scene.plain = {"in": Line(stack, peer, instance, PLAIN), "out": Line(stack, instance, peer, PLAIN)}
        carried(scene.own, scene.other, (pair["peer"], "eth0"))
        for line in scene.plain.values():
            line.must_pass()
        yield scene


def carried(*ends: Spot) -> None:
    """Return when these devices send what they are given: the kernel takes a link into use a moment after it came up,
    and drops what is sent meanwhile."""

    def is_in_use(end: Spot) -> bool:
        shown = json.loads(run_in(end[0], "ip", "-json", "link", "show", "dev", end[1]))
        return shown[0]["operstate"] in ("UP", "UNKNOWN")

    for end in ends:
        wait_until(partial(is_in_use, end))


def put_under(scene: Scene, ifname: str, *kind: str) -> None:
    """The instance's end becomes a part of a new device, which gets its addresses, neighbours and routes."""
    namespace, lower = scene.own
    mac, is_routed = mac_in(*scene.own), scene.pair["policy"] != namespace
    shown = json.loads(run_in(namespace, "ip", "-json", "address", "show", "dev", lower))[0]["addr_info"]
    addresses = [f"{entry['local']}/{entry['prefixlen']}" for entry in shown if entry["scope"] == "global"]
    run_in(namespace, "ip", "link", "set", lower, "down")
    run_in(namespace, "ip", "link", "add", ifname, "address", mac, "type", *kind)
    run_in(namespace, "ip", "link", "set", lower, "master", ifname)
    for device in (lower, ifname):
        run_in(namespace, "ip", "link", "set", device, "up")
    carried((namespace, lower), (namespace, ifname))
    run_in(namespace, "ip", "address", "flush", "dev", lower, "scope", "global")
    gateways = [str(gateway) for gateway in GATEWAYS.values()]
    for address, near, gateway in zip(addresses, HERE["peer"], gateways, strict=True):
        nodad = ["nodad"] if ":" in address else []
        run_in(namespace, "ip", "address", "add", address, "dev", ifname, *nodad)
        hop = gateway if is_routed else near
        run_in(namespace, "ip", "neigh", "replace", hop, "lladdr", mac_in(*scene.other), "dev", ifname)
        if is_routed:
            run_in(namespace, "ip", "route", "add", "default", "via", gateway, "dev", ifname, "onlink")
