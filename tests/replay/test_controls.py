"""A replay notices packets that don't do what the policy says. Here, namespaces obey another policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.lab.manage import Enforcer, EnforceRequest, enforce_policy
from sgdataplane.lab.replay import wire
from sgdataplane.lab.replay.stage import build_lab
from sgdataplane.model.state import CloudState, SecurityGroup
from tests.replay.conftest import Stage
from tests.replay.generator import KINDS, OPEN, SHUT, STATE, scenes
from tests.support.scenes.labs import assert_gone, choices_at, no_policy, state_of

pytestmark = pytest.mark.replay


def without_rules(request: EnforceRequest) -> None:
    """Enforces the same ENIs with groups that have no rules."""
    state: CloudState = request.wanted.state
    groups: tuple[SecurityGroup, ...] = tuple(replace(group, rules=()) for group in state.security_groups)
    wanted = replace(request.wanted, state=replace(state, security_groups=groups))
    enforce_policy(replace(request, wanted=wanted))


@pytest.mark.parametrize(
    ("enforce", "wrong_port", "words"),
    [
        (no_policy, SHUT, "delivered, and should be dropped at ingress"),
        (without_rules, OPEN, "not delivered, and should be"),
    ],
)
def test_packets_that_do_other_than_the_policy_says_are_told(  # noqa: PLR0917  # fixtures are arguments
    lab_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    placement: str,
    enforce: Enforcer,
    wrong_port: int,
    words: str,
) -> None:
    monkeypatch.setattr(wire, "WAIT_S", 0.3)
    packets = [KINDS["tcp_session"](scene).packets[0] for scene in scenes(3)]
    with build_lab(lab_name, state_of(STATE), choices_at(placement), enforce) as (lab, everybody):
        report = Stage(lab, everybody, tmp_path).replay(packets)
    assert_gone(lab_name)
    problems = {flow.key: flow.problem for flow in report.flows.values()}
    assert {key[4] for key, problem in problems.items() if problem} == {wrong_port}
    assert all(words in problem for problem in problems.values() if problem), problems
    assert report.disagreements == 2  # the same port in both families
