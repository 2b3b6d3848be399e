"""Behind any chain of extension headers the kernel's rules judge the protocol and port that net/headers.py reads."""

from __future__ import annotations

import json
import random
import socket
from itertools import product

import pytest

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.net.headers import ETH_IPV6, EXTENSIONS, find_upper
from sgdataplane.net.values import AH, PORT_PROTOCOLS
from tests.support.inputs.chains import BETWEEN, LAST, PORT, packet_of
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until

pytestmark = pytest.mark.kernel

LONG = 40  # chains of 3 to 5, for each protocol
RULES = """
table ip6 seen {
    set judged { type ipv6_addr . inet_proto; flags dynamic; size 65535; }
    set ports { type ipv6_addr . inet_service; flags dynamic; size 65535; }
    chain arriving {
        type filter hook prerouting priority -450
        add @judged { ip6 saddr . meta l4proto }
        meta l4proto { tcp, udp } add @ports { ip6 saddr . th dport }
    }
}
"""


def chains() -> list[tuple[str, ...]]:
    """Each header before each protocol, each two before UDP, and more at random; the last is a plain one."""
    chance = random.Random(11)
    long = [(*chance.choices(sorted(BETWEEN), k=chance.randint(3, 5)), last) for last in LAST for _ in range(LONG)]
    return [*product(BETWEEN, LAST), *product(BETWEEN, BETWEEN, ("udp",)), *long, ("udp",)]


def elements(namespace: str, name: str) -> dict[str, int]:
    """What a set of the table has seen, by source."""
    told = json.loads(nft(namespace, f"-n -j list set ip6 seen {name}"))["nftables"][1]["set"]
    return dict(entry["concat"] for entry in told.get("elem", ()))


def test_the_kernel_judges_the_protocol_and_port_that_are_read(namespace: str) -> None:
    packets = {
        f"fd00::{number:x}": bytes(packet_of(chain, f"fd00::{number:x}", "::1"))
        for number, chain in enumerate(chains(), 1)
    }
    nft(namespace, *RULES.splitlines())
    with Links(namespace) as links, netns.inside(namespace):
        links.set_up("lo")
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as door:
            for data in packets.values():
                door.sendto(data, ("lo", ETH_IPV6, 0, 0, bytes(6)))
    *_, last = packets
    wait_until(lambda: last in elements(namespace, "ports"))
    uppers = {source: find_upper(data) for source, data in packets.items()}
    unsaid = EXTENSIONS | {AH}  # of a later fragment that begins within one of these the kernel knows no protocol
    judged = {
        source: upper.protocol for source, upper in uppers.items() if upper.is_here or upper.protocol not in unsaid
    }
    ported = {source for source, upper in uppers.items() if upper.is_here and upper.protocol in PORT_PROTOCOLS}
    assert (len(judged) > 0.8 * len(packets), len(ported) > 0.1 * len(packets)) == (True, True)
    assert elements(namespace, "judged") == judged
    assert {source: port for source, port in elements(namespace, "ports").items() if source in ported} == dict.fromkeys(
        ported, PORT
    )
