"""Named counters, read from the kernel: those of one table, whatever else there is."""

from __future__ import annotations

import socket

import pytest

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.nft.counters import read_packets
from tests.support.kernel.nft import nft

pytestmark = pytest.mark.kernel


def test_they_are_those_of_that_table_alone(namespace: str) -> None:
    nft(
        namespace,
        *("add table inet a", "add table inet b", "add table netdev a"),
        "add counter inet a n1 { packets 7 bytes 1 }",
        "add counter inet a n2 { packets 99999999999 bytes 1 }",
        "add quota inet a q { over 1 bytes }",
        "add counter inet b n1 { packets 8 bytes 1 }",
        "add counter netdev a n1 { packets 9 bytes 1 }",
    )
    with netns.inside(namespace), Nfnetlink() as door:
        assert read_packets(door, "a") == {"n1": 7, "n2": 99999999999}
        assert read_packets(door, "a", "netdev") == {"n1": 9}
        assert read_packets(door, "none") == {}


def test_they_grow_by_the_packets_that_are_counted(namespace: str) -> None:
    nft(
        namespace,
        *("add table inet a", "add counter inet a n1", "add counter inet a n2"),
        "add chain inet a c { type filter hook output priority 0; }",
        "add rule inet a c udp dport 9 counter name n1",
        "add rule inet a c udp dport != 9 counter name n2",
    )
    with Links(namespace) as links:
        links.set_up("lo")
    with netns.inside(namespace), Nfnetlink() as door, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(1, 4):
            sender.sendto(b"", ("127.0.0.1", 9))
            assert read_packets(door, "a") == {"n1": number, "n2": 0}
