"""An instance whose policy stands in its router, and two receivers that count: a neighbour and a host outside.

Owns sending a frame from inside one of their namespaces, and the proof of what became of it: which receivers' wires saw
it, and which counters of drops grew. Must not know what a test expects.

A frame is known again by the token that it carries. After it goes a packet to each receiver that always may pass: when
these have come, what was sent before them has come or never will.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.lab.manage import Enforcer
from tests.fence.bench import ETH_P_ALL, OF_ENIS, PACKET_IGNORE_OUTGOING, SOL_PACKET, token
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

# i-a may send UDP 53 to all; GRE, IP in IP, IPv6 in IP and AH to the hosts outside only. It owns a delegated prefix of
# each family and a pair that it shares with i-b, as two nodes of VRRP do. All may come in.
AGAIN_S = 1.0  # after which a barrier that didn't come is sent again
STATE = labs.state_of("""
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    security_group_type: enterprise
    rules:
      - {type: egress, ip_protocol: udp, port_range: 53/53, cidr_ip: 0.0.0.0/0}
      - {type: egress, ip_protocol: udp, port_range: 53/53, ipv6_cidr_ip: "::/0"}
      - {type: egress, ip_protocol: gre, port_range: -1/-1, cidr_ip: 198.51.100.0/24}
      - {type: egress, ip_protocol: "4", port_range: -1/-1, cidr_ip: 198.51.100.0/24}
      - {type: egress, ip_protocol: "41", port_range: -1/-1, cidr_ip: 198.51.100.0/24}
      - {type: egress, ip_protocol: "51", port_range: -1/-1, cidr_ip: 198.51.100.0/24}
      - {type: egress, ip_protocol: "51", port_range: -1/-1, ipv6_cidr_ip: "2001:db8:ffff::/48"}
      - {type: ingress, ip_protocol: all, port_range: -1/-1, cidr_ip: 0.0.0.0/0}
      - {type: ingress, ip_protocol: all, port_range: -1/-1, ipv6_cidr_ip: "::/0"}
instances: [{instance_id: i-a}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:0a", private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"],
     ipv4_prefixes: [10.0.16.0/28], ipv6_prefixes: ["2001:db8:a:1::/80"], allowed_address_pairs: [10.0.32.9/32]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:0b", private_ip_addresses: [10.0.0.2], ipv6_addresses: ["2001:db8:a::2"],
     allowed_address_pairs: [10.0.32.9/32]}
""")
PORT = 53
OWN, OWN6, MAC, GATEWAY = "10.0.0.1", "2001:db8:a::1", "00:16:3e:00:00:0a", "169.254.1.1"


@dataclass(frozen=True)
class End:
    """A receiver: its addresses."""

    name: str
    v4: str
    v6: str


NEIGHBOUR, OUTSIDE = End("neighbour", "10.0.0.2", "2001:db8:a::2"), End("outside", "198.51.100.7", "2001:db8:ffff::7")
ENDS = (NEIGHBOUR, OUTSIDE)


@dataclass(frozen=True)
class Party:
    """A namespace, its IPv4 address, a packet socket on its eth0 that sees what comes in, and the MACs of both ends of
    its link."""

    netns: str
    v4: str
    wire: socket.socket
    mac: str
    gateway_mac: str

    def ether(self, src: str = "", dst: str = "") -> Ether:
        """To the router, as the kernel addresses it."""
        return Ether(src=src or self.mac, dst=dst or self.gateway_mac)


@dataclass(frozen=True)
class Fate:
    """What became of frames: which receivers' wires saw the token, and by how much each counter of drops grew."""

    seen_by: frozenset[str]
    drops: dict[str, int]


Send = Callable[[bytes], object]


@dataclass
class HostBench:
    """`instance` sends, `parties` receive, by name. `families`: of the tables of ours that stand in the router."""

    router: str
    instance: Party
    parties: dict[str, Party]
    families: tuple[str, ...]

    def fate(self, build: Callable[[bytes], Packet], send: Send | None = None) -> Fate:
        """Of one frame, made around a token; from the instance's packet socket, unless `send` is another way."""
        known = token()
        return self.fate_of_all(known, [(send or self.instance.wire.send, build(known))])

    def fate_of_all(self, known: bytes, frames: Iterable[tuple[Send, Packet]]) -> Fate:
        """Of frames that are sent one after the other, and carry that token between them."""
        before = self.drops()
        for send, frame in frames:
            send(bytes(frame))
        ends = (end for end in ENDS if end.name in self.parties)
        seen = frozenset(end.name for end in ends if any(known in frame for frame in self.frames_until_barrier(end)))
        after = self.drops()
        return Fate(seen, {name: after[name] - before[name] for name in after if after[name] != before[name]})

    def frames_until_barrier(self, end: End) -> Iterator[bytes]:
        """What has come to a receiver's wire so far. Behind a flood the barrier may find a queue full; then another one
        follows."""
        known, wire = token(), self.parties[end.name].wire
        packet = IP(src=self.instance.v4, dst=end.v4) / UDP(sport=PORT, dport=PORT, chksum=0) / Raw(known)
        barrier = bytes(self.instance.ether() / packet)
        self.instance.wire.send(barrier)
        deadline = time.monotonic() + DEADLINE
        wire.settimeout(AGAIN_S)
        while time.monotonic() < deadline:
            try:
                frame = wire.recv(65535)
            except TimeoutError:
                self.instance.wire.send(barrier)
                continue
            if known in frame:
                return
            yield frame
        raise AssertionError(f"the barrier did not come to {end.name}")

    def drops(self) -> dict[str, int]:
        """Packets by counter of what drops, at the fence and at the policy; those that count by ENI aside."""
        texts = [nft(self.router, f"list counters table {family} sgdataplane") for family in self.families]
        counters = [found for text in texts for found in re.findall(r"counter (\S+) \{[^}]*?packets (\d+)", text)]
        passing = (".always", ".icmp-error", ".accept")
        return {
            name: int(number)
            for name, number in counters
            if not name.startswith(("rule.", *OF_ENIS)) and not name.endswith(passing)
        }


@contextmanager
def host_bench(name: str, enforcer: Enforcer = enforce_policy, placement: str = "host") -> Iterator[HostBench]:
    """`enforcer` labs.no_policy: the control, in which nothing is stopped but by the kernel itself. `placement`
    instance: the receivers' wires come before their policies, and no table stands in the router."""
    hosts = ((OUTSIDE.v4, OUTSIDE.v6),)
    with labs.running(name, STATE, enforcer, hosts, placement=placement) as lab, ExitStack() as stack:
        nodes = {("outside" if not node.is_instance else node.name): node for node in lab.topology.nodes}
        router = lab.topology.routers_of_vpc["vpc-a"][0].netns
        made = {
            role: Party(
                nodes[role].netns,
                address,
                _wire(stack, nodes[role].netns),
                mac_in(nodes[role].netns, "eth0"),
                mac_in(router, nodes[role].interfaces[0].router_ifname),
            )
            for role, address in (("i-a", OWN), ("i-b", NEIGHBOUR.v4), ("outside", OUTSIDE.v4))
        }
        tables = nft(router, "list tables")
        families = tuple(family for family in ("netdev", "inet") if f"table {family} sgdataplane" in tables)
        yield HostBench(router, made["i-a"], {"neighbour": made["i-b"], "outside": made["outside"]}, families)


def mac_in(namespace: str, ifname: str) -> str:
    """Of an interface there."""
    with Links(namespace) as links:
        return next(link.mac for link in links.links() if link.ifname == ifname)


@contextmanager
def device(namespace: str, ifname: str) -> Iterator[Send]:
    """What sends frames from an interface there."""
    with netns.inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((ifname, 0))
        yield sender.send


def _wire(stack: ExitStack, namespace: str) -> socket.socket:
    with netns.inside(namespace):
        made = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        made.bind(("eth0", ETH_P_ALL))
    return made
