"""Rows of history as evidence: what they leave open, and flows that were recorded without a port."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import pytest

from sgdataplane.model.options import DEFAULTS
from sgdataplane.net.values import TCP, Direction, Verdict
from sgdataplane.suggest.evidence import ANY, Passage
from sgdataplane.suggest.result import Preferences, Suggestion
from sgdataplane.suggest.rows import HistoryEvidence
from sgdataplane.suggest.solve import suggest
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state


class Fate(enum.Enum):
    ACCEPT, DROP, AUDITED = "accept", "drop", "audited"


@dataclass(frozen=True)
class Key:
    end: str
    fate: Fate = Fate.ACCEPT
    port: int = 80
    protocol: int = TCP
    eni_id: str = "eni-a"
    direction: Direction = Direction.INGRESS
    group_id: str = "sg-a"
    rule_id: str = "sgr-web"


@dataclass(frozen=True)
class Count:
    packets: int = 3
    first: int = 1000
    last: int = 2000


@dataclass(frozen=True)
class Row:
    key: Key
    count: Count = field(default_factory=Count)


WEB = make_rule("ingress tcp 1/100 from 0.0.0.0/0", "sgr-web")
STATE = make_state(
    [make_group("sg-a", [WEB], inner=Verdict.DROP), make_group("sg-b", inner=Verdict.DROP)],
    [make_eni("eni-a", "10.0.0.1", "sg-a"), make_eni("eni-b", "10.0.0.2 2001:db8::2", "sg-b")],
)


def suggested(*keys: Key, is_asked: bool = False) -> Suggestion:
    flows = HistoryEvidence(STATE).read(Row(key) for key in keys)
    return suggest(STATE, flows, Preferences(allow_audited=is_asked), DEFAULTS)


def ingress(found: Suggestion) -> list[tuple[str, str]]:
    rules = found.after.group["sg-a"].rules
    return [(str(r.remote), str(r.port_range)) for r in rules if r.direction is Direction.INGRESS]


def test_an_eni_an_address_and_a_block_are_ends() -> None:
    found = suggested(Key("eni-b"), Key("192.0.2.9"), Key("198.51.100.0/24", port=81))
    assert sorted(ingress(found)) == [
        ("192.0.2.9/32", "80/80"), ("198.51.100.0/24", "81/81"), ("GroupRef(security_group_id='sg-b')", "80/80"),
    ]  # fmt: skip
    assert found.refused == (), "the ENI's IPv6 address may not be the one"
    assert {one.observed.sessions for one in found.rules} == {3}
    assert {(one.observed.first, one.observed.last) for one in found.rules} == {(1000, 2000)}


def test_an_end_that_is_gone_is_counted() -> None:
    evidence = HistoryEvidence(STATE)
    assert list(evidence.read([Row(Key("eni-gone"))])) == []
    assert evidence.unplaced == 3


@pytest.mark.parametrize(
    ("fate", "passage"),
    [(Fate.ACCEPT, Passage.PASSED), (Fate.AUDITED, Passage.PASSED), (Fate.DROP, Passage.DROPPED)],
)
def test_what_became_of_it(fate: Fate, passage: Passage) -> None:
    (flow,) = HistoryEvidence(STATE).read([Row(Key("192.0.2.9", fate))])
    assert (flow.passage, flow.is_audited) == (passage, fate is Fate.AUDITED)


def test_audited_drops_become_rules_on_request_alone() -> None:
    audited = Key("192.0.2.9", Fate.AUDITED, port=200, group_id="", rule_id="")
    assert [one.is_allowed for one in suggested(audited).refused] == [False]
    found = suggested(audited, is_asked=True)
    assert ("192.0.2.9/32", "200/200") in ingress(found)
    assert [one.is_new for one in found.rules] == [True]


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(Key("192.0.2.9", port=ANY, rule_id="sgr-gone"), id="a rule that is gone"),
        pytest.param(Key("192.0.2.9", Fate.AUDITED, port=ANY, group_id="", rule_id=""), id="audited"),
    ],
)
def test_what_has_no_port_and_no_rule_cant_be_carried_and_is_told(key: Key) -> None:
    found = suggested(key, Key("192.0.2.8"), is_asked=True)
    assert ingress(found) == [("192.0.2.8/32", "80/80")]
    assert "3 sessions recorded without a port can't be carried" in found.notes[-1]


@pytest.mark.parametrize("direction", Direction)
def test_what_has_no_port_keeps_what_let_it_pass(direction: Direction) -> None:
    rule = "sgr-web" if direction is Direction.INGRESS else ""
    key = Key("192.0.2.9", port=ANY, direction=direction, group_id="sg-a" if rule else "", rule_id=rule)
    found = suggested(key)
    assert (WEB in found.after.group["sg-a"].rules) is (direction is Direction.INGRESS)
    assert (found.closing == ()) is (direction is Direction.EGRESS)
