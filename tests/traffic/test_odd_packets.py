"""The policy also judges what no ordinary socket sends: odd flags, fragments, extension headers, foreign addresses.

Every row with a drop stands beside a row in which the same packet is accepted, or is one that semantics.md never lets
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, fragment6
from scapy.packet import Packet, Raw

from sgdataplane.lab.ends import find_ends, probe_end
from sgdataplane.lab.manage import Lab
from sgdataplane.net.values import Family
from tests.support.probes.crafted import Crafted, observe_crafted
from tests.support.scenes import labs
from tests.support.scenes.labs import enforce_policy

pytestmark = pytest.mark.traffic

# The server takes TCP 80, UDP 53 and ICMP from anywhere, and `all` from 203.0.113.9.
STATE = """
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16, "2001:db8:a::/48"]}]
security_groups:
  - security_group_id: sg-server
    vpc_id: vpc-a
    security_group_type: normal
    inner_access_policy: Drop
    rules:
      - {type: ingress, ip_protocol: tcp, port_range: 80/80, cidr_ip: 0.0.0.0/0}
      - {type: ingress, ip_protocol: udp, port_range: 53/53, cidr_ip: 0.0.0.0/0}
      - {type: ingress, ip_protocol: icmp, port_range: -1/-1, cidr_ip: 0.0.0.0/0}
      - {type: ingress, ip_protocol: all, port_range: -1/-1, cidr_ip: 203.0.113.9/32}
      - {type: ingress, ip_protocol: tcp, port_range: 80/80, ipv6_cidr_ip: "::/0"}
      - {type: ingress, ip_protocol: udp, port_range: 53/53, ipv6_cidr_ip: "::/0"}
instances: [{instance_id: i-server}, {instance_id: i-client}]
network_interfaces:
  - {network_interface_id: eni-server, instance_id: i-server, type: primary, vpc_id: vpc-a,
     security_group_ids: [sg-server], private_ip_addresses: [10.0.0.1], ipv6_addresses: ["2001:db8:a::1"]}
  - {network_interface_id: eni-client, instance_id: i-client, type: primary, vpc_id: vpc-a,
     security_group_ids: [sg-server], private_ip_addresses: [10.0.0.2], ipv6_addresses: ["2001:db8:a::2"]}
"""
TCP_NUMBER, UDP_NUMBER, ICMP_NUMBER = 6, 17, 1
V4 = {"src": "198.51.100.7", "dst": "10.0.0.1"}
V6 = {"src": "2001:db8:ffff::7", "dst": "2001:db8:a::1"}
FROM_CLIENT = {"src": "10.0.0.2", "dst": "10.0.0.1"}
BIG = Raw(b"." * 3000)
Build = Callable[[bytes], tuple[Packet, ...]]


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str], placement: str) -> Iterator[Lab]:
    hosts = (("198.51.100.7", "2001:db8:ffff::7"), ("203.0.113.9",))
    with labs.running(make_lab_name(), labs.state_of(STATE), enforce_policy, hosts, placement=placement) as running:
        yield running


def one(*layers: Packet) -> Build:
    """A packet of these layers, with the token behind them."""

    def build(token: bytes) -> tuple[Packet, ...]:
        packet = layers[0]
        for layer in layers[1:]:
            packet = packet / layer
        return (packet / Raw(token),)

    return build


def in_fragments(header: Packet) -> Build:
    return lambda token: tuple(fragment(header / Raw(token) / BIG, fragsize=1200))


def in_fragments6(transport: Packet) -> Build:
    return lambda token: tuple(fragment6(IPv6(**V6) / IPv6ExtHdrFragment(id=7) / transport / Raw(token) / BIG, 1280))


def tcp(flags: str, source_port: int, port: int = 80) -> TCP:
    """Each row has its own source port, and so no session of another row."""
    return TCP(sport=source_port, dport=port, flags=flags, seq=1000, ack=2000)


def udp(source_port: int, port: int = 53) -> UDP:
    return UDP(sport=source_port, dport=port)


ROWS = [
    # TCP of no known session: ingress judges it by the rules, egress drops it (semantics.md, section 4)
    pytest.param(TCP_NUMBER, one(IP(**V4), tcp("S", 20001)), "accept", id="SYN that carries data"),
    pytest.param(TCP_NUMBER, one(IP(**V4), tcp("A", 20002)), "accept", id="bare ACK to an open port"),
    pytest.param(TCP_NUMBER, one(IP(**V4), tcp("PA", 20003)), "accept", id="data to an open port"),
    pytest.param(TCP_NUMBER, one(IP(**V4), tcp("A", 20004, 81)), "ingress", id="bare ACK to a closed port"),
    pytest.param(TCP_NUMBER, one(IP(**FROM_CLIENT), tcp("A", 20005)), "egress", id="bare ACK from an instance"),
    pytest.param(TCP_NUMBER, one(IP(**FROM_CLIENT), tcp("S", 20006)), "accept", id="SYN from an instance"),
    # flags that conntrack calls invalid
    pytest.param(TCP_NUMBER, one(IP(**V4), tcp("", 20010)), "ingress", id="no flags"),
    pytest.param(TCP_NUMBER, one(IP(**V4), tcp("FPU", 20011)), "ingress", id="FIN, PSH and URG"),
    pytest.param(TCP_NUMBER, one(IP(**V4), tcp("SF", 20012)), "ingress", id="SYN and FIN"),
    pytest.param(TCP_NUMBER, one(IP(**V4), tcp("SR", 20013)), "ingress", id="SYN and RST"),
    pytest.param(TCP_NUMBER, one(IP(**FROM_CLIENT), tcp("SF", 20014)), "egress", id="SYN and FIN from an instance"),
    # fragments are judged as the packet they are parts of
    pytest.param(UDP_NUMBER, in_fragments(IP(**V4, id=1) / udp(20020)), "accept", id="fragments to an open port"),
    pytest.param(UDP_NUMBER, in_fragments(IP(**V4, id=2) / udp(20021, 54)), "ingress", id="fragments to a closed port"),
    pytest.param(UDP_NUMBER, in_fragments6(udp(20022)), "accept", id="IPv6 fragments to an open port"),
    pytest.param(UDP_NUMBER, in_fragments6(udp(20023, 54)), "ingress", id="IPv6 fragments to a closed port"),
    # headers in between don't hide the ports
    pytest.param(UDP_NUMBER, one(IPv6(**V6), IPv6ExtHdrDestOpt(), udp(20030)), "accept", id="extension header, open"),
    pytest.param(UDP_NUMBER, one(IPv6(**V6), IPv6ExtHdrDestOpt(), udp(20031, 54)), "ingress",
                 id="extension header, closed"),
    pytest.param(TCP_NUMBER, one(IP(**V4, options=[IPOption_NOP()] * 4), tcp("S", 20032)), "accept",
                 id="IP options, open port"),
    pytest.param(TCP_NUMBER, one(IP(**V4, options=[IPOption_NOP()] * 4), tcp("S", 20033, 81)), "ingress",
                 id="IP options, closed port"),
    # port 0 is in no rule of TCP or UDP, and in `all`
    pytest.param(UDP_NUMBER, one(IP(**V4), udp(20040, 0)), "ingress", id="UDP port 0"),
    pytest.param(UDP_NUMBER, one(IP(src="203.0.113.9", dst="10.0.0.1"), udp(20041, 0)), "accept",
                 id="UDP port 0 from where all may come"),
    # a sender's own addresses only
    pytest.param(UDP_NUMBER, one(IP(src="10.0.0.3", dst="10.0.0.1"), udp(20050)), "egress", id="somebody's address"),
    pytest.param(UDP_NUMBER, one(IP(src="203.0.113.9", dst="10.0.0.1"), udp(20051)), "egress",
                 id="an address that may do anything"),
    pytest.param(UDP_NUMBER, one(IPv6(src="2001:db8:a::3", dst="2001:db8:a::1"), udp(20052)), "egress",
                 id="somebody's IPv6 address"),
    pytest.param(UDP_NUMBER, one(IP(**FROM_CLIENT), udp(20053)), "accept", id="its own address"),
    # a rule on icmp is on all its types; a wrong checksum is invalid
    pytest.param(ICMP_NUMBER, one(IP(**V4), ICMP(type=8, id=60)), "accept", id="echo request"),
    pytest.param(ICMP_NUMBER, one(IP(**V4), ICMP(type=8, id=61, chksum=1)), "ingress", id="wrong checksum"),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "build", "outcome"), ROWS)
def test_odd_packet(lab: Lab, protocol: int, build: Build, outcome: str) -> None:
    first = build(b"")[0]
    sender = "i-client" if outcome == "egress" or first.src == FROM_CLIENT["src"] else f"ext-{SOURCES[first.src]}"
    (source,) = [probe_end(end) for end in find_ends(lab, sender) if end.address.family is family_of(first)]
    (target,) = map(probe_end, find_ends(lab, first.dst))
    observed = observe_crafted(lab, Crafted(source, target, protocol, build))
    assert (observed.where or observed.verdict) == outcome, observed


def family_of(packet: Packet) -> Family:
    return Family.IPV6 if isinstance(packet, IPv6) else Family.IPV4


SOURCES = {"198.51.100.7": "198.51.100.7", "2001:db8:ffff::7": "198.51.100.7", "203.0.113.9": "203.0.113.9"}
