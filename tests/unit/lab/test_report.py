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


def test_matrix_is_a_truth_table_with_its_disagreements_explained() -> None:
    assert report.matrix_as_text(CELLS).splitlines() == [
        "expected/observed: A accept, - drop, ? unknown; ! marks a disagreement",
        "FROM             TO               tcp/22  icmp",
        "i-a 10.0.0.1     i-b 10.0.0.2     A/A     -/A!",
        "i-a 2001:db8::1  i-b 2001:db8::2  -/-     A/?!",
        "! i-a 10.0.0.1 -> i-b 10.0.0.2 icmp: expected drop at ingress by default, observed accept: it came through",
        (
            "! i-a 2001:db8::1 -> i-b 2001:db8::2 icmpv6: "
            "expected accept by the inner policy of sg-x, observed unknown: none"
        ),
        "4 probes: 2 accepted, 1 dropped, 2 disagree with the policy",
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
