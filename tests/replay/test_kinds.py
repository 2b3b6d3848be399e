"""Conversations of each kind, accepted and refused, in one capture: what arrives is what the generator says by hand,
what the model expects, and what the report says."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sgdataplane.lab.replay.flows import ReplayedFlow, Report
from tests.replay.conftest import Stage
from tests.replay.generator import KINDS, OPEN, Talk, scenes

pytestmark = pytest.mark.replay

SEED = 7


@dataclass(frozen=True)
class Told:
    """One replay of all kinds, one after the other."""

    report: Report
    talks: dict[str, list[Talk]]

    def flows_of(self, kind: str) -> list[ReplayedFlow]:
        """The flow of a conversation, found by the places of its packets in the capture."""
        before = 0
        for name, talks in self.talks.items():
            after = before + sum(len(talk.packets) for talk in talks)
            if name == kind:
                return [flow for flow in self.report.flows.values() if before < flow.first <= after]
            before = after
        raise KeyError(kind)


@pytest.fixture(scope="module")
def told(stage: Stage) -> Told:
    talks = {
        name: [kind(scene) for scene in scenes(SEED * 1000 + number)]
        for number, (name, kind) in enumerate(KINDS.items())
    }
    return Told(stage.replay(packet for group in talks.values() for talk in group for packet in talk.packets), talks)


@pytest.mark.parametrize("kind", KINDS)
def test_what_arrives_is_what_the_policy_says(told: Told, kind: str) -> None:
    flows, talks = told.flows_of(kind), told.talks[kind]
    words = [(flow.name, flow.packets, flow.delivered, flow.problem) for flow in flows]
    assert not any(flow.problem for flow in flows), f"seed {SEED}: {words}"
    assert sum(flow.packets for flow in flows) == sum(len(talk.packets) for talk in talks), words
    assert sum(flow.delivered for flow in flows) == sum(talk.arrive for talk in talks), f"seed {SEED}: {words}"


def test_nothing_else_is_told(told: Told) -> None:
    assert (told.report.disagreements, told.report.left_out, told.report.strangers) == (0, {}, 0)
    assert told.report.read == told.report.sent == sum(flow.packets for flow in told.report.flows.values())


def test_the_rule_that_lets_a_flow_in_is_named(told: Told) -> None:
    found = {
        (flow.key[4], flow.key[1].family_bits): (flow.decision.security_group_rule_id, flow.expectation.where)
        for flow in told.flows_of("tcp_session")
    }
    shut = ("", "ingress")
    assert found == {(OPEN, 32): ("sgr-t4", ""), (OPEN, 128): ("sgr-t6", ""), (9090, 32): shut, (9090, 128): shut}


@pytest.mark.parametrize("seed", [70, 77])
def test_all_kinds_at_once_in_turns(stage: Stage, seed: int) -> None:
    """Packets of many flows, interleaved in an order that the seed draws."""
    queues = [
        list(kind(scene).packets)
        for number, kind in enumerate(KINDS.values())
        for scene in scenes(seed * 2000 + number)
    ]
    order = [queue for queue in queues for _ in queue]
    scenes(seed)[0].random.shuffle(order)
    report = stage.replay(queue.pop(0) for queue in order)
    words = [(flow.name, flow.problem) for flow in report.flows.values() if flow.problem]
    assert (report.disagreements, words) == (0, []), f"seed {seed}"
    assert sum(flow.delivered for flow in report.flows.values()) > 0
