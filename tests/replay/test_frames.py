"""What is left out and why; which node stands for which address; other kinds of files, and files that end too early."""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.packet import Raw

from tests.replay.conftest import Stage
from tests.replay.generator import KINDS, OPEN, SERVER, left_out, scenes, write_pcap, write_pcapng

pytestmark = pytest.mark.replay


def test_what_is_no_business_of_a_policy_is_left_out_and_counted(stage: Stage) -> None:
    (scene, *_) = scenes(21)
    talk = KINDS["tcp_session"](scene)
    report = stage.replay((*left_out(scene), *talk.packets))
    told = {entry.reason.split(":")[0]: (entry.packets, entry.first) for entry in report.left_out.values()}
    assert told == {
        "ARP, no IP": (1, 1),
        "802.1Q tag": (1, 2),
        "both ends are outside": (1, 3),
        "link-local traffic": (1, 4),
    }
    assert [(flow.packets, flow.delivered) for flow in report.flows.values()] == [(8, 8)]


def test_an_address_stands_for_the_node_that_it_is_mapped_to(stage: Stage) -> None:
    """In the capture, the server has an address that the lab doesn't know, with matching checksums."""
    (scene, *_) = scenes(22)
    packets = [packet.copy() for packet in KINDS["tcp_session"](scene).packets]
    for packet in packets:
        packet.src, packet.dst = (a.replace(SERVER, "203.0.113.80") for a in (packet.src, packet.dst))
    report = stage.replay(packets, {"203.0.113.80": "server"})
    (flow,) = report.flows.values()
    assert (flow.ends[1], flow.packets, flow.delivered, flow.problem) == (f"203.0.113.80:{OPEN}", 8, 8, "")
    assert report.mapped == {"203.0.113.80": ("i-server", SERVER)}
    assert report.outside == 1


def test_an_icmp_error_quotes_the_mapped_address_too(stage: Stage) -> None:
    (scene, *_) = scenes(23)
    asked, error, _ = KINDS["icmp_error"](scene).packets
    packets = [IP(bytes(packet).replace(bytes([10, 77, 1, 10]), bytes([203, 0, 113, 80]))) for packet in (asked, error)]
    for packet in packets:
        del packet.chksum, packet[1].chksum
    report = stage.replay(packets, {"203.0.113.80": "server"})
    assert [(flow.packets, flow.delivered, flow.problem) for flow in report.flows.values()] == [(1, 1, "")] * 2


def test_an_address_of_the_vpc_that_nobody_has_is_left_out_until_it_is_mapped(stage: Stage) -> None:
    packet = IP(src="198.51.100.9", dst="10.77.9.9") / TCP(sport=1234, dport=OPEN, flags="S")
    (reason,) = stage.replay([packet]).left_out
    assert "10.77.9.9 is in vpc-r, and no instance has it: --map 10.77.9.9=NODE" in reason
    assert [flow.delivered for flow in stage.replay([packet], {"10.77.9.9": "i-server"}).flows.values()] == [1]


def test_packets_captured_in_part_are_filled_up_and_larger_ones_than_a_link_are_sent(stage: Stage) -> None:
    """The first octets of a session's packets, and a segment as a network card hands it over."""
    (scene, *_) = scenes(24)
    packets = list(KINDS["tcp_session"](scene).packets[:4])
    large = packets[3].copy()
    large[TCP].remove_payload()
    large = large / Raw(b"x" * 20_000)
    report = stage.replay_file(write_pcap(stage.folder / "heads.pcap", (*packets[:3], large), snaplen=60))
    (flow,) = report.flows.values()
    assert (report.filled, flow.packets, flow.delivered, flow.problem) == (1, 4, 4, "")


def test_files_of_other_kinds_tell_the_same(stage: Stage) -> None:
    """A pcapng file with bare IP packets, without frames."""
    found = []
    for seed, write in ((25, write_pcap), (26, write_pcapng), (27, write_bare)):
        packets = [packet for scene in scenes(seed) for packet in KINDS["tcp_session"](scene).packets]
        report = stage.replay_file(write(stage.folder / "capture", packets))
        found.append([(flow.key[4], flow.packets, flow.delivered) for flow in report.flows.values()])
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 4


def write_bare(path: Path, packets: list[IP]) -> Path:
    return write_pcap(path, packets, linktype=101)


def test_of_a_file_that_is_cut_off_what_is_whole_is_replayed(stage: Stage) -> None:
    (scene, *_) = scenes(28)
    path = write_pcap(stage.folder / "cut.pcap", KINDS["tcp_session"](scene).packets)
    path.write_bytes(path.read_bytes()[:-9])
    report = stage.replay_file(path)
    assert [(flow.packets, flow.delivered) for flow in report.flows.values()] == [(7, 7)]
    assert report.cut.startswith("the file is cut off within packet 8, which begins at octet ")
