"""Every cause has words for people, and no other cause has."""

from __future__ import annotations

import pytest

from sgdataplane.contract import counters
from sgdataplane.model.decision import FENCE, Decision
from sgdataplane.model.semantics import CLAUSES
from sgdataplane.model.words import CAUSES, DETAILS, because, cite_decision, name, sentence
from sgdataplane.net.values import Direction, Verdict
from tests.support.inputs.builders import make_packet

INGRESS, EGRESS = Direction
ACCEPT, DROP = Verdict
ELSEWHERE = {"no-eni", "incomplete", "unprotected"}  # diff; replay; lab


def test_each_cause_has_words_and_no_other() -> None:
    of_fence = {FENCE + cause for cause in counters.FENCE_CAUSES}
    assert CAUSES.keys() == {clause.cause for clause in CLAUSES} | {*counters.CAUSES} | of_fence | ELSEWHERE


def test_details_are_of_clauses() -> None:
    assert {cause for cause, _ in DETAILS} <= {clause.cause for clause in CLAUSES}


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (
            Decision(INGRESS, DROP, "rule", "sg-a", "sgr-1", 7),
            (
                "sgr-1 of sg-a",
                "sgr-1 of sg-a (priority 7)",
                "rule sgr-1 of sg-a",
                "rule sgr-1 of sg-a (priority 7) decides",
            ),
        ),
        (
            Decision(INGRESS, ACCEPT, "rule", "sg-a", "sgr-1"),
            ("sgr-1 of sg-a", "sgr-1 of sg-a", "rule sgr-1 of sg-a", "rule sgr-1 of sg-a decides"),
        ),
        (
            Decision(INGRESS, ACCEPT, "inner_accept", "sg-a"),
            (*["the inner policy of sg-a"] * 2, *["both are members of sg-a, whose inner policy is Accept"] * 2),
        ),
        (
            Decision(EGRESS, DROP, "default"),
            ("default", "default", "the default", "the default decides, as no rule matches"),
        ),
        (
            Decision(EGRESS, DROP, "spoofed"),
            ("spoofed", "spoofed", "its source address is spoofed", "its source address is spoofed: dropped"),
        ),
        (Decision(EGRESS, ACCEPT, "always"), ("always", "always", "always passes", "always passes")),
        (
            Decision(EGRESS, DROP, "fence.tagged"),
            ("fence.tagged", "fence.tagged", "the frame has a VLAN tag", "the frame has a VLAN tag: dropped"),
        ),
    ],
    ids=lambda value: value.cause if isinstance(value, Decision) else "",
)
def test_words(decision: Decision, words: tuple[str, ...]) -> None:
    assert (name(decision), cite_decision(decision), because(decision), sentence(decision)) == words


def test_a_packet_says_more() -> None:
    packet = make_packet("egress tcp/80 8.8.8.8", local="10.9.9.9")
    spoofed = Decision(EGRESS, DROP, "spoofed")
    assert because(spoofed, packet) == f"{because(spoofed)}: 10.9.9.9 is none of eni-a's own addresses"
