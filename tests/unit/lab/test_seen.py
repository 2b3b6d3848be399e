"""A capture as evidence: who opened each session, at which ENI, and whether anybody answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet as Layers
from scapy.packet import Raw
from scapy.utils import wrpcap

from sgdataplane.lab.replay.capture import Capture
from sgdataplane.lab.replay.seen import CaptureEvidence
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Address
from sgdataplane.suggest.evidence import Passage, SeenFlow
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

A, B, FAR = "10.0.0.1", "10.0.0.2", "198.51.100.9"
STATE = make_state(
    [
        make_group("sg-a"),
        make_group("sg-b", [make_rule("ingress tcp 1/100 from 0.0.0.0/0", source_port_range="1/9999")]),
    ],
    [make_eni("eni-a", f"{A} 2001:db8::1 10.0.9.0/24", "sg-a"), make_eni("eni-b", B, "sg-b")],
)


def tcp(source: str, sport: int, target: str, dport: int, flags: str) -> Layers:
    return IP(src=source, dst=target) / TCP(sport=sport, dport=dport, flags=flags)


def read(
    tmp_path: Path,
    packets: Sequence[Layers],
    *,
    step: float = 0.1,
    maps: dict[Address, Eni] | None = None,
    passes: bool = True,
) -> tuple[list[SeenFlow], CaptureEvidence]:
    frames = [Ether() / packet if not packet.haslayer(Ether) else packet for packet in packets]
    for number, frame in enumerate(frames):
        frame.time = 1000 + number * step
    path = tmp_path / "x.pcap"
    wrpcap(str(path), frames)
    evidence = CaptureEvidence(STATE, maps or {}, lambda _: passes)
    with Capture(path) as capture:
        return list(evidence.read(capture)), evidence


def told(flow: SeenFlow) -> str:
    port = "" if flow.port is None else f"/{flow.port}"
    way = "from" if flow.direction.value == "ingress" else "to"
    return f"{flow.eni_id} {flow.direction.value} {flow.protocol}{port} {way} {flow.remotes[0]}"


OPENERS = [
    pytest.param([tcp(FAR, 40000, A, 22, "S")], "eni-a ingress 6/22 from 198.51.100.9/32", id="SYN"),
    pytest.param([tcp(A, 22, FAR, 40000, "SA")], "eni-a ingress 6/22 from 198.51.100.9/32", id="SYN+ACK: its receiver"),
    pytest.param([tcp(A, 40000, FAR, 22, "SA")], "eni-a ingress 6/40000 from 198.51.100.9/32", id="SYN+ACK, ports odd"),
    pytest.param([tcp(A, 22, FAR, 40000, "PA")], "eni-a ingress 6/22 from 198.51.100.9/32", id="later: the low port"),
    pytest.param([tcp(A, 40000, FAR, 22, "PA")], "eni-a egress 6/22 to 198.51.100.9/32", id="later, the other way"),
    pytest.param([IP(src=A, dst=FAR) / UDP(sport=5000, dport=53)], "eni-a egress 17/53 to 198.51.100.9/32", id="UDP"),
    pytest.param([IP(src=FAR, dst=A) / ICMP(type=8, id=7)], "eni-a ingress 1 from 198.51.100.9/32", id="ping"),
    pytest.param([IP(src=A, dst=FAR) / ICMP(type=0, id=7)], "eni-a ingress 1 from 198.51.100.9/32", id="its answer"),
    pytest.param(
        [IPv6(src="2001:db8::9", dst="2001:db8::1") / ICMPv6EchoRequest()],
        "eni-a ingress 58 from 2001:db8::9/128", id="ping6",
    ),
    pytest.param([IP(src=FAR, dst=A, proto=47) / Raw(bytes(8))], "eni-a ingress 47 from 198.51.100.9/32", id="GRE"),
    pytest.param([tcp(FAR, 40000, "10.0.9.7", 22, "S")], "eni-a ingress 6/22 from 198.51.100.9/32", id="delegated"),
]  # fmt: skip


@pytest.mark.parametrize(("packets", "expected"), OPENERS)
def test_who_opened_a_session(packets: list[Layers], expected: str, tmp_path: Path) -> None:
    flows, _ = read(tmp_path, packets)
    assert [told(flow) for flow in flows] == [expected]
    assert [flow.passage for flow in flows] == [Passage.UNKNOWN if expected_is_first(packets[0]) else Passage.PASSED]


def expected_is_first(packet: Layers) -> bool:
    """Whether the first packet is the opening one, so that nothing has been answered."""
    if packet.haslayer(TCP):
        return packet[TCP].flags in ("S", "PA") and packet[TCP].sport > packet[TCP].dport
    return not (packet.haslayer(ICMP) and packet[ICMP].type == 0)


@pytest.mark.parametrize(
    "packets",
    [
        pytest.param([tcp(A, 22, FAR, 40000, "RA")], id="a reset"),
        pytest.param([IP(src=A, dst=FAR) / ICMP(type=3) / IP(src=FAR, dst=A) / UDP(sport=1, dport=2)], id="ICMP error"),
        pytest.param([IP(src=A, dst=FAR) / ICMP(type=5)], id="a redirect"),
        pytest.param([IP(src=FAR, dst="198.51.100.8") / UDP()], id="of nobody"),
        pytest.param([IP(src=A, dst="224.0.0.251") / UDP(sport=5353, dport=5353)], id="multicast"),
        pytest.param([Ether() / Dot1Q(vlan=7) / IP(src=FAR, dst=A) / UDP()], id="a VLAN tag"),
    ],
)  # fmt: skip
def test_what_opens_no_session_is_left_out_and_counted(packets: list[Layers], tmp_path: Path) -> None:
    flows, evidence = read(tmp_path, packets)
    assert flows == []
    assert sum(evidence.left_out.values()) == 1
    assert read(tmp_path, [*packets, tcp(FAR, 40000, A, 22, "S")])[0] != [], "the same reader reads a SYN"


def test_a_session_between_two_enis_is_seen_at_both(tmp_path: Path) -> None:
    packets = [tcp(A, 40000, B, 22, "S"), tcp(B, 22, A, 40000, "SA"), tcp(A, 40000, B, 22, "A")]
    flows, _ = read(tmp_path, packets)
    assert [told(flow) for flow in flows] == ["eni-a egress 6/22 to 10.0.0.2/32", "eni-b ingress 6/22 from 10.0.0.1/32"]
    assert [(flow.answered, flow.passage, flow.first, round(flow.last or 0, 1)) for flow in flows] == [
        (1, Passage.PASSED, 1000.0, 1000.2)
    ] * 2
    refused, _ = read(tmp_path, packets, passes=False)
    assert [flow.eni_id for flow in refused] == ["eni-a"], "what the sender's policy refuses never comes there"


def test_a_reset_is_no_answer(tmp_path: Path) -> None:
    flows, _ = read(tmp_path, [tcp(FAR, 40000, A, 23, "S"), tcp(A, 23, FAR, 40000, "RA")])
    assert [(flow.answered, flow.passage) for flow in flows] == [(0, Passage.UNKNOWN)]


@pytest.mark.parametrize(
    ("packets", "step", "sessions"),
    [
        pytest.param([tcp(FAR, 40000, A, 22, "S")] * 3, 0.1, 1, id="a SYN sent again"),
        pytest.param(
            [tcp(FAR, 40000, A, 22, "S"), tcp(A, 22, FAR, 40000, "RA"), tcp(FAR, 40000, A, 22, "S")], 0.1, 2, id="reset"
        ),
        pytest.param([IP(src=FAR, dst=A) / UDP(sport=9, dport=53)] * 2, 20, 1, id="UDP that goes on"),
        pytest.param([IP(src=FAR, dst=A) / UDP(sport=9, dport=53)] * 2, 40, 2, id="UDP that was idle"),
        pytest.param([tcp(FAR, port, A, 22, "S") for port in (40000, 40001)], 0.1, 2, id="other ports"),
    ],
)
def test_how_many_sessions_there_are(packets: list[Layers], step: float, sessions: int, tmp_path: Path) -> None:
    assert len(read(tmp_path, [packet.copy() for packet in packets], step=step)[0]) == sessions


def test_a_source_port_matters_only_where_a_rule_asks_for_it(tmp_path: Path) -> None:
    flows, _ = read(tmp_path, [tcp(FAR, 4000, A, 22, "S"), tcp(FAR, 4000, B, 22, "S")])
    assert [(flow.eni_id, flow.source_port) for flow in flows] == [("eni-a", None), ("eni-b", 4000)]


def test_an_address_may_stand_for_an_eni(tmp_path: Path) -> None:
    maps = {Address.parse("172.16.0.7"): STATE.eni["eni-b"]}
    flows, _ = read(tmp_path, [tcp("172.16.0.7", 4000, A, 22, "S")], maps=maps)
    assert [told(flow) for flow in flows] == ["eni-b egress 6/22 to 10.0.0.1/32", "eni-a ingress 6/22 from 10.0.0.2/32"]


def test_a_fragmented_datagram_is_one_packet_of_its_session(tmp_path: Path) -> None:
    pieces = fragment(IP(src=FAR, dst=A, id=7) / UDP(sport=9, dport=53) / Raw(bytes(3000)), fragsize=1000)
    assert len(pieces) > 2
    flows, _ = read(tmp_path, pieces)
    assert [told(flow) for flow in flows] == ["eni-a ingress 17/53 from 198.51.100.9/32"]


def test_an_answer_of_ping6_is_one(tmp_path: Path) -> None:
    ends = [IPv6(src="2001:db8::9", dst="2001:db8::1"), IPv6(src="2001:db8::1", dst="2001:db8::9")]
    flows, _ = read(tmp_path, [ends[0] / ICMPv6EchoRequest(id=3), ends[1] / ICMPv6EchoReply(id=3)])
    assert [flow.passage for flow in flows] == [Passage.PASSED]
