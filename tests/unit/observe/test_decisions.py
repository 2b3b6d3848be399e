"""Packets that decide() tells apart are never mixed up, whichever is asked about first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.model.options import Options
from sgdataplane.model.semantics import decide
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ICMPV6, TCP, UDP, Address, Direction, Prefix
from sgdataplane.observe.decisions import Decider
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

OPTIONS = Options(metadata=(Prefix.parse("100.100.100.200"),))
STATE = make_state(
    [
        make_group(
            "sg-a",
            [
                "ingress tcp 22/22 from 192.0.2.0/24",
                "ingress tcp 80/80 from sg-b",
                "ingress tcp 443/443 from pl-office",
                make_rule("ingress tcp 8080/8080 from 0.0.0.0/0", narrowing="10.0.7.8/29"),
                make_rule("ingress udp 123/123 from 0.0.0.0/0", source_port_range="123/123"),
                make_rule("ingress tcp from 0.0.0.0/0", "sgr-list", port_list_id="prl-1"),
                "egress all to 0.0.0.0/0 drop",
                "egress all to ::/0 drop",
            ],
        ),
        make_group("sg-b"),
    ],
    [make_eni("eni-a", "10.0.0.1 10.0.7.0/28 2001:db8:a::1", "sg-a"), make_eni("eni-b", "10.0.0.2", "sg-b")],
    prefix_lists={"pl-office": "203.0.113.0/25"},
    port_lists={"prl-1": "9000/9009 9020/9029"},
)
IN = Packet("eni-a", Direction.INGRESS, Address.parse("198.51.100.7"), Address.parse("10.0.0.1"), TCP, 22, 40000)
OUT = replace(IN, direction=Direction.EGRESS)
OUT6 = replace(OUT, remote=Address.parse("2001:db8::7"), local=Address.parse("2001:db8:a::1"), protocol=ICMPV6)
ASKS = replace(OUT6, remote=Address.parse("fe80::1"), icmp_type=135, hop_limit=255)


def at(packet: Packet, **changes: object) -> Packet:
    """The packet with some fields changed; addresses as text."""
    parsed = {
        name: Address.parse(str(value)) if name in ("remote", "local") else value for name, value in changes.items()
    }
    return replace(packet, **parsed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(at(IN, remote="192.0.2.255"), at(IN, remote="192.0.3.0"), id="CIDR block"),
        pytest.param(at(IN, remote="10.0.0.2", port=80), at(IN, remote="10.0.0.3", port=80), id="member"),
        pytest.param(at(IN, remote="203.0.113.127", port=443), at(IN, remote="203.0.113.128", port=443), id="list"),
        pytest.param(at(IN, local="10.0.7.7", port=8080), at(IN, local="10.0.7.8", port=8080), id="narrowing"),
        pytest.param(at(IN, remote="192.0.2.1"), at(IN, remote="192.0.2.1", port=23), id="port"),
        pytest.param(at(IN, port=9009), at(IN, port=9010), id="port list"),
        pytest.param(
            at(IN, protocol=UDP, port=123, source_port=123),
            at(IN, protocol=UDP, port=123, source_port=124),
            id="source port",
        ),
        pytest.param(at(IN, remote="192.0.2.1"), at(IN, remote="192.0.2.1", protocol=UDP), id="protocol"),
        pytest.param(at(IN, remote="192.0.2.1"), at(OUT, remote="192.0.2.1"), id="direction"),
        pytest.param(at(IN, remote="192.0.2.1"), at(IN, remote="192.0.2.1", eni_id="eni-b"), id="ENI"),
        pytest.param(at(IN, local="10.0.7.15", port=8080), at(IN, local="10.0.7.16", port=8080), id="address of own"),
        pytest.param(at(OUT, remote="100.100.100.200"), at(OUT, remote="100.100.100.201"), id="metadata"),
        pytest.param(
            at(IN, protocol=UDP, remote="169.254.1.1", source_port=67, port=68),
            at(IN, protocol=UDP, remote="169.254.1.2", source_port=67, port=68),
            id="gateway",
        ),
        pytest.param(
            at(OUT, protocol=UDP, remote="255.255.255.255", source_port=68, port=67),
            at(OUT, protocol=UDP, remote="255.255.255.254", source_port=68, port=67),
            id="broadcast",
        ),
        pytest.param(
            at(OUT, protocol=UDP, remote="169.254.1.1", local="0.0.0.0", source_port=68, port=67),
            at(OUT, protocol=UDP, remote="169.254.1.1", local="0.0.0.1", source_port=68, port=67),
            id="no address yet",
        ),
        pytest.param(
            at(OUT6, protocol=UDP, remote="ff02::1:2", source_port=546, port=547),
            at(OUT6, protocol=UDP, remote="ff02::1:3", source_port=546, port=547),
            id="DHCPv6 servers",
        ),
        pytest.param(
            at(OUT6, local="::", remote="ff02::16", icmp_type=143, hop_limit=1),
            at(OUT6, local="::3", remote="ff02::16", icmp_type=143, hop_limit=1),
            id="unnumbered",
        ),
        pytest.param(at(ASKS, icmp_type=135), at(ASKS, icmp_type=128), id="ICMP type"),
        pytest.param(at(ASKS, hop_limit=255), at(ASKS, hop_limit=64), id="hop limit"),
        pytest.param(
            at(ASKS, remote="2001:db8:a:0:ffff:ffff:ffff:ffff"), at(ASKS, remote="2001:db8:a:1::"), id="neighbour"
        ),
        pytest.param(at(OUT, remote="192.0.2.1"), at(OUT, remote="192.0.2.1", is_syn=False), id="mid-stream"),
    ],
)
def test_what_decide_tells_apart_is_told_apart(one: Packet, other: Packet) -> None:
    wanted = [decide(STATE, packet, OPTIONS) for packet in (one, other)]
    assert wanted[0] != wanted[1]
    decider, reverse = Decider(STATE, OPTIONS), Decider(STATE, OPTIONS)
    assert [decider.decide(packet) for packet in (one, other, one)] == [*wanted, wanted[0]]
    assert [reverse.decide(packet) for packet in (other, one)] == wanted[::-1]


def test_what_no_rule_tells_apart_is_decided_once() -> None:
    decider = Decider(STATE, OPTIONS)
    for number in range(256):
        decider.decide(at(IN, remote=f"192.0.2.{number}", source_port=40000 + number))
    assert len(decider._known) == 1
