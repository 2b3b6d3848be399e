"""What is read from AWS or OpenStack decides as these clouds do: an independent judge of the raw answers agrees with
decide(). Where something can't be said exactly, widened states accept at least as much, narrowed ones at most as much,
and the rule that decides says so by its id."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.model.decision import Decision
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import Address, Direction, Verdict
from sgdataplane.statefile import Loaded
from sgdataplane.statefile.load import LoadOptions, load_sources
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.source import SourceText
from tests.support.models import otherclouds
from tests.support.models.otherclouds import Asked, Json
from tests.support.run.amounts import few_or_many

STATES, FEW, PACKETS = 60, 20, 100
SEED = 30370
CLOUDS = {
    "aws": (otherclouds.aws_answers, otherclouds.aws_accepts),
    "openstack": (otherclouds.openstack_answers, otherclouds.openstack_accepts),
}


def read(answers: Json, inexact: str) -> Loaded:
    return load_sources(
        (SourceText("x.json", json.dumps(answers)),), LoadOptions("seed", inexact), Problems(), Memory()
    )


def read_exactly(answers: Json) -> tuple[CloudState | None, set[str]]:
    """The state, or why it is refused."""
    try:
        return read(answers, "refuse").state, set()
    except StateFileError as error:
        return None, {problem.code for problem in error.problems}


def packets(state: CloudState, chance: random.Random) -> list[Asked]:
    enis = [(e.network_interface_id, [str(a) for a in e.addresses]) for e in state.network_interfaces]
    return [otherclouds.asked_of(*chance.choice(enis), chance) for _ in range(PACKETS)]


def decision_of(state: CloudState, asked: Asked) -> Decision:
    has_ports, is_icmp = asked.protocol in (6, 17), asked.protocol in (1, 58)
    packet = Packet(
        asked.interface, Direction.INGRESS if asked.is_ingress else Direction.EGRESS, Address.parse(asked.far),
        Address.parse(asked.own), asked.protocol, asked.port if has_ports else None, 40000 if has_ports else None,
        asked.kind if is_icmp else None,
    )  # fmt: skip
    return decide(state, packet)


@few_or_many("states", FEW, STATES)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_an_exact_import_decides_as_the_cloud_does(cloud: str, states: int) -> None:
    make, accepts = CLOUDS[cloud]
    chance, seen = random.Random(SEED), Counter[object]()
    for number in range(10 * states):
        answers = make(chance)
        state, refusals = read_exactly(answers)
        assert refusals <= {"InvalidSource.NotExact"}, (SEED, number)
        if state is None:
            seen["refused"] += 1
            continue
        for asked in packets(state, chance):
            expected, found = accepts(answers, asked), decision_of(state, asked)
            assert (found.verdict is Verdict.ACCEPT) is expected, (SEED, number, asked, found)
            seen[expected] += 1
        if seen[True] + seen[False] > states * PACKETS:
            break
    print(SEED, seen)
    assert min(seen[True], seen[False], seen["refused"]) > 40


@few_or_many("states", FEW, STATES)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_is_not_exact_errs_to_the_side_that_was_chosen_and_says_so(cloud: str, states: int) -> None:
    make, accepts = CLOUDS[cloud]
    chance, seen = random.Random(SEED + 1), Counter[str]()
    for number in range(states):
        answers = make(chance, is_odd=True)
        wide, narrow = read(answers, "widen").state, read(answers, "narrow").state
        for asked in packets(wide, chance):
            expected = accepts(answers, asked)
            for state, mark, errs in ((wide, "-widened", Verdict.ACCEPT), (narrow, "-narrowed", Verdict.DROP)):
                found = decision_of(state, asked)
                is_accepted = found.verdict is Verdict.ACCEPT
                assert is_accepted >= expected if state is wide else is_accepted <= expected, (number, asked, found)
                if mark in found.security_group_rule_id:
                    assert found.verdict is errs
                    seen[f"{mark} {expected}"] += 1
                else:
                    assert (found.verdict is Verdict.ACCEPT) is expected, (SEED + 1, number, asked, found)
    print(SEED + 1, seen)
    assert len(seen) == 4
    assert min(seen.values()) > 20


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_rule_is_inexact_for_several_reasons_at_once(cloud: str) -> None:
    """The states of the test above have such rules."""
    chance, found = random.Random(SEED + 1), 0
    for _ in range(STATES):
        messages = [finding.message for finding in read(CLOUDS[cloud][0](chance, is_odd=True), "widen").findings]
        found += sum("all of icmp" in message and "with any address" in message for message in messages)
    assert found > 20


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_judges_see_a_rule_that_is_changed(cloud: str) -> None:
    """The comparison can fail: with rules of the wrong priority it does."""
    make, accepts = CLOUDS[cloud]
    chance = random.Random(SEED + 2)
    broken: Callable[[CloudState], CloudState] = lambda state: replace(  # noqa: E731
        state,
        security_groups=tuple(
            replace(g, rules=tuple(replace(r, priority=1) for r in g.rules)) for g in state.security_groups
        ),
    )
    wrong = 0
    for _ in range(FEW):
        answers = make(chance)
        state = broken(read(answers, "widen").state)
        wrong += sum(
            (decision_of(state, a).verdict is Verdict.ACCEPT) < accepts(answers, a) for a in packets(state, chance)
        )
    assert wrong > 0
