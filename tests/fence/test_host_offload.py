"""A limit of host placement: who may open a packet socket tells the kernel where a checksum belongs, and a device that
fills it in, after the policy, overwrites what the policy saw. Links of a lab fill in nothing, a host's uplink does."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from sgdataplane.host import netns
from tests.fence.bench import SOL_PACKET, token
from tests.fence.hostbench import OUTSIDE, OWN, PORT, HostBench
from tests.support.scenes.labs import run_in

pytestmark = pytest.mark.traffic

PACKET_VNET_HDR, NEEDS_CSUM = 15, 1  # linux/if_packet.h, linux/virtio_net.h
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h
UDP_START, PORT_OFFSET, REFUSED = 34, 2, PORT + 1


def fill_in(bench: HostBench, is_done: bool) -> None:
    """Whether checksums are filled in before a frame leaves by the uplink, as a host's own device does."""
    links = run_in(bench.router, "ip", "-brief", "link").splitlines()
    (uplink,) = (name for name in (line.split("@")[0] for line in links) if not name.startswith(("lo", "eni-")))
    with netns.inside(bench.router), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        value = ctypes.create_string_buffer(struct.pack("=II", ETHTOOL_STXCSUM, not is_done))
        fcntl.ioctl(door, SIOCETHTOOL, struct.pack("16sP", uplink.encode(), ctypes.addressof(value)))


@pytest.fixture
def filling(hosted: HostBench) -> Iterator[HostBench]:
    fill_in(hosted, is_done=True)
    yield hosted
    fill_in(hosted, is_done=False)


def arrives_at(bench: HostBench, port: int) -> int:
    """The port that the host outside sees of a datagram to PORT, whose checksum of that value goes into its place."""
    known = token()
    head = bench.instance.ether() / IP(src=OWN, dst=OUTSIDE.v4) / UDP(sport=PORT, dport=PORT, chksum=0)
    frame = bytes(head / Raw(known + bytes(len(known) % 2 + 2)))
    frame = frame[:-2] + struct.pack("!H", (0xFFFF - port - ones_sum(frame[UDP_START:])) % 0xFFFF)
    with netns.inside(bench.instance.netns), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sender.bind(("eth0", 0))
        sender.send(struct.pack("=BBHHHH", NEEDS_CSUM, 0, 0, 0, UDP_START, PORT_OFFSET) + frame)
    (seen,) = (found for found in bench.frames_until_barrier(OUTSIDE) if known in found)
    return int.from_bytes(seen[UDP_START + PORT_OFFSET :][:2], "big")


def ones_sum(octets: bytes) -> int:
    """As checksums add up (RFC 1071)."""
    words: tuple[int, ...] = struct.unpack(f"!{len(octets) // 2}H", octets)
    return sum(words) % 0xFFFF


def test_checksum_that_the_uplink_fills_in_overwrites_the_port(filling: HostBench) -> None:
    assert arrives_at(filling, REFUSED) == REFUSED


def test_nothing_is_filled_in_where_the_uplink_is_a_veth_link(hosted: HostBench) -> None:
    assert arrives_at(hosted, REFUSED) == PORT
