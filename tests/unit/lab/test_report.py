from __future__ import annotations

from sgdataplane.lab import report
from sgdataplane.lab.expect import Expectation, ProbeResult
from sgdataplane.lab.probe import Observation, Probe, ProbeEnd, Service
from sgdataplane.model.decision import Decision
from sgdataplane.net.values import Address, Direction, Verdict

A = ProbeEnd("i-a", "eth0", Address.parse("10.0.0.1"), "eni-a")
B = ProbeEnd("i-b", "eth0", Address.parse("10.0.0.2"), "eni-b")
B6 = ProbeEnd("i-b", "eth0", Address.parse("2001:db8::2"), "eni-b")
A6 = ProbeEnd("i-a", "eth0", Address.parse("2001:db8::1"), "eni-a")
ACCEPT = Expectation(Decision(Direction.INGRESS, Verdict.ACCEPT, "inner_accept", "sg-x"))
DROP = Expectation(Decision(Direction.INGRESS, Verdict.DROP, "default"), "ingress")
CELLS = (
    ProbeResult(Probe(A, B, Service(6, 22)), ACCEPT, Observation("accept")),
    ProbeResult(Probe(A, B, Service(1)), DROP, Observation("accept", "", ("it came through",))),
    ProbeResult(Probe(A6, B6, Service(6, 22)), DROP, Observation("drop", "ingress")),
    ProbeResult(Probe(A6, B6, Service(58)), ACCEPT, Observation("unknown", "", ("none",))),
)


def test_matrix_says_what_passes_and_explains_disagreements() -> None:
    assert report.matrix_as_text(CELLS).splitlines() == [
        "what passes, of tcp/22, icmp",
        "FROM             TO               PASSES      DISAGREES",
        "i-a 10.0.0.1     i-b 10.0.0.2     everything  icmp",
        "i-a 2001:db8::1  i-b 2001:db8::2  nothing     icmp",
        "! i-a 10.0.0.1 -> i-b 10.0.0.2 icmp: expected drop at ingress by default, observed accept: it came through",
        (
            "! i-a 2001:db8::1 -> i-b 2001:db8::2 icmpv6: "
            "expected accept by the inner policy of sg-x, observed unknown: none"
        ),
        "4 probes: 2 accepted, 1 dropped, 2 disagree with the policy",
    ]


def test_ends_that_fare_alike_share_a_line() -> None:
    far = ProbeEnd("ext-9", "eth0", Address.parse("9.9.9.9"))
    cells = [
        *(ProbeResult(Probe(far, end, Service(6, 22)), DROP, Observation("drop", "ingress")) for end in (A, B, B6)),
        ProbeResult(Probe(A, B, Service(6, 22)), ACCEPT, Observation("accept")),
        ProbeResult(Probe(A, far, Service(6, 22)), ACCEPT, Observation("accept")),
        ProbeResult(Probe(B, far, Service(6, 22)), ACCEPT, Observation("accept")),
        ProbeResult(Probe(A6, B6, Service(6, 22)), DROP, Observation("accept")),
    ]
    assert report.matrix_as_text(cells).splitlines()[1:6] == [
        "FROM             TO                   PASSES      DISAGREES",
        "ext-9            i-a, i-b             nothing",
        "i-a 10.0.0.1     i-b 10.0.0.2, ext-9  everything",
        "i-b              ext-9                everything",
        "i-a 2001:db8::1  i-b 2001:db8::2      everything  tcp/22",
    ]


def test_matrix_json_counts_disagreements() -> None:
    document = report.matrix_as_json(CELLS, 1.23456)
    assert (document["disagreements"], document["seconds"]) == (2, 1.235)


def test_probe_says_when_it_disagrees() -> None:
    assert "these disagree" not in report.probe_as_text(CELLS[0])
    assert report.probe_as_text(CELLS[1]).splitlines() == [
        "i-a 10.0.0.1 -> i-b 10.0.0.2 icmp",
        "  expected: drop at ingress by default",
        "  observed: accept (it came through)",
        "  these disagree",
    ]
