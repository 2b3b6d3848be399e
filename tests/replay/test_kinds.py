"""Conversations of each kind, accepted and refused ones in one capture: what arrives is what the generator says by
hand, what the model expects, and what the report tells."""

from __future__ import annotations

import pytest

from tests.replay.conftest import Stage
from tests.replay.generator import KINDS, OPEN, scenes

pytestmark = pytest.mark.replay

SEED, SEEDS = 7, (70, 77)


@pytest.mark.parametrize("kind", KINDS)
def test_what_arrives_is_what_the_policy_says(stage: Stage, kind: str) -> None:
    talks = [KINDS[kind](scene) for scene in scenes(SEED * 1000 + list(KINDS).index(kind))]
    report = stage.replay(packet for talk in talks for packet in talk.packets)
    told = [(flow.name, flow.packets, flow.delivered, flow.problem) for flow in report.flows.values()]
    assert report.disagreements == 0, f"seed {SEED}: {told}"
    assert report.left_out == {}
    assert sum(flow.packets for flow in report.flows.values()) == sum(len(talk.packets) for talk in talks)
    assert sum(flow.delivered for flow in report.flows.values()) == sum(talk.arrive for talk in talks), told


def test_the_rule_that_lets_a_flow_in_is_named(stage: Stage) -> None:
    report = stage.replay(packet for scene in scenes(5) for packet in KINDS["tcp_session"](scene).packets)
    found = {
        (flow.key[4], flow.key[1].family_bits): (flow.decision.security_group_rule_id, flow.outcome.where)
        for flow in report.flows.values()
    }
    shut = (None, "ingress")
    assert found == {(OPEN, 32): ("sgr-t4", ""), (OPEN, 128): ("sgr-t6", ""), (9090, 32): shut, (9090, 128): shut}


def test_all_kinds_at_once_in_turns(stage: Stage) -> None:
    """Packets of many flows between each other, in an order that the seed draws."""
    for seed in SEEDS:
        sources = [scene for kind in range(len(KINDS)) for scene in scenes(seed * 2000 + kind)]
        talks = [kind(sources[4 * i + j]) for i, kind in enumerate(KINDS.values()) for j in range(4)]
        queues = [list(talk.packets) for talk in talks]
        order = [queue for queue in queues for _ in queue]
        sources[0].random.shuffle(order)
        report = stage.replay(queue.pop(0) for queue in order)
        told = [(flow.name, flow.problem) for flow in report.flows.values() if flow.problem]
        assert (report.disagreements, told) == (0, []), f"seed {seed}"
        assert sum(flow.delivered for flow in report.flows.values()) > 0
