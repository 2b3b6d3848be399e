"""An instance whose frames are watched from the other end of its link, by the router.

Owns sending a frame past the policy, and the proof that it did or did not leave. Must not know what a test expects.
Frames of one link come in order, so when the barrier, which always may pass, has come, what was sent before it has come
or never will. A frame is known again by the token that it carries.
"""

from __future__ import annotations

import errno
import itertools
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Padding

from sgdataplane.enforce import Settings
from sgdataplane.host import netns
from sgdataplane.lab.manage import Enforcer, EnforceRequest
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

# i-a may send UDP 53 to the hosts outside, and owns an allowed pair and a delegated prefix.
STATE = labs.state_of("""
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    security_group_type: enterprise
    rules:
      - {type: egress, ip_protocol: udp, port_range: 53/53, cidr_ip: 198.51.100.0/24}
      - {type: egress, ip_protocol: udp, port_range: 53/53, ipv6_cidr_ip: "2001:db8:ffff::/48"}
instances: [{instance_id: i-a}, {instance_id: i-b}]
network_interfaces:
  - {network_interface_id: eni-a, instance_id: i-a, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:0a", private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"],
     ipv4_prefixes: [10.0.16.0/28], allowed_address_pairs: [10.0.32.9/32]}
  - {network_interface_id: eni-b, instance_id: i-b, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     private_ip_addresses: [10.0.0.2], ipv6_addresses: ["2001:db8:a::2"]}
""")
HOSTS = (("198.51.100.7", "2001:db8:ffff::7"),)
MAC, OTHER_MAC, EVERYONE = "00:16:3e:00:00:0a", "00:16:3e:00:00:0b", "ff:ff:ff:ff:ff:ff"
OWN, OTHER, HOST, GATEWAY = "10.0.0.1", "10.0.0.2", "198.51.100.7", "169.254.1.1"
OWN6, OTHER6, HOST6 = "2001:db8:a::1", "2001:db8:a::2", "2001:db8:ffff::7"
OF_ENIS = ("dropped.", "fence-dropped.")  # what counters of ENIs begin with
ETH_P_ALL, SOL_PACKET, PACKET_QDISC_BYPASS, PACKET_IGNORE_OUTGOING, SO_MARK = 3, 263, 20, 23, 36
Build = Callable[[bytes], Packet]
_numbers = itertools.count(1)


def unfenced(request: EnforceRequest) -> None:
    """The policy alone: the control of everything that the fence stops."""
    enforce(request.netns, request.wanted, request.previous, Settings(adoption_window=0, fence=False))


def token() -> bytes:
    return b"<fence-test-%08d>" % next(_numbers)


def arp(sender_ip: str = OWN, sender_mac: str = MAC, ether: str = MAC, **fields: object) -> Build:
    """A question of whoever says so of himself; `fields` are ARP's."""
    asked = {"op": 1, "pdst": GATEWAY, "hwsrc": sender_mac, "psrc": sender_ip, **fields}
    return lambda mark: Ether(src=ether, dst=EVERYONE) / ARP(**asked) / Padding(mark)


@dataclass
class Bench:
    """`enforced` is the namespace where policy and fence are: the instance's or the router's."""

    instance: str
    enforced: str
    router: str
    outside: str
    tap: socket.socket
    sender: socket.socket
    stack: ExitStack = field(default_factory=ExitStack)

    def send(self, frame: bytes, protocol: int = 0, mark: int = 0, *, bypass: bool = False) -> None:
        """One frame from a packet socket. `protocol`: what the kernel is told that it is (0: what it says).
        A refusal on the way out is no error here: what is asked is what came out."""
        with netns.inside(self.instance), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
            set_mark(sender, mark)
            sender.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, int(bypass))
            try_to_send(sender, frame, ("eth0", protocol))

    def leaves(self, build: Build, protocol: int = 0, mark: int = 0, *, bypass: bool = False) -> bool:
        """Whether such a frame reaches the other end of the link."""
        known = token()
        self.send(bytes(build(known)), protocol, mark, bypass=bypass)
        return any(known in frame for frame in self.seen_until_barrier())

    def seen_until_barrier(self) -> list[bytes]:
        """What has come to the other end so far, in order."""
        known = token()
        seen: list[bytes] = []
        self.sender.send(bytes(arp()(known)))
        for frame in self.frames():
            if known in frame:
                return seen
            seen.append(frame)
        raise AssertionError("the barrier did not come: the link or the tap is broken")

    def frames(self) -> Iterator[bytes]:
        """Frames as they come to the other end, for DEADLINE seconds at most."""
        end = time.monotonic() + DEADLINE
        while (left := end - time.monotonic()) > 0:
            self.tap.settimeout(left)
            try:
                yield self.tap.recv(65535)
            except TimeoutError:
                return

    def counted(self, family: str = "netdev") -> dict[str, int]:
        """Packets by counter, at the fence (or `inet`: at the policy's hooks); those that count by ENI aside."""
        text = nft(self.enforced, f"list counters table {family} sgdataplane")
        found = re.findall(r"counter (\S+) \{[^}]*?packets (\d+)", text)
        return {name: int(number) for name, number in found if not name.startswith(OF_ENIS)}

    def open(self, family: int, kind: int, protocol: int = 0, *, outside: bool = False) -> socket.socket:
        """A socket in the instance (or outside), with a deadline; closed with the test."""
        with netns.inside(self.outside if outside else self.instance):
            made = self.stack.enter_context(socket.socket(family, kind, protocol))
        made.settimeout(DEADLINE)
        return made


def set_mark(sender: socket.socket, mark: int) -> None:
    """The mark of all that the socket sends."""
    sender.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark))


def try_to_send(sender: socket.socket, frame: bytes, target: tuple[str, int]) -> None:
    try:
        sender.sendto(frame, target)
    except OSError as error:
        if error.errno != errno.ENOBUFS:  # what the sender of a dropped frame is told
            raise


@contextmanager
def bench(name: str, enforcer: Enforcer = enforce_policy, placement: str = "instance") -> Iterator[Bench]:
    with labs.running(name, STATE, enforcer, HOSTS, placement=placement) as lab, ExitStack() as stack:
        node, (host,) = lab.topology.node["i-a"], (n for n in lab.topology.nodes if not n.is_instance)
        router = lab.topology.routers_of_vpc["vpc-a"][0].netns
        with netns.inside(router):
            tap = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            tap.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            tap.bind((node.interfaces[0].router_ifname, ETH_P_ALL))
        with netns.inside(node.netns):
            sender = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            sender.bind(("eth0", 0))
        yield Bench(node.netns, lab.enforced[0].netns, router, host.netns, tap, sender)
