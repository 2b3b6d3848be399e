"""Which rule or cause each counter stands for."""

from __future__ import annotations

from sgdataplane.enforce import Desired
from sgdataplane.nft.counters import Counted
from sgdataplane.observe.hits import FIXED, decision_of, decisions, of_causes, rows
from sgdataplane.observe.ledger import Sum
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.building import table_of

RULES = [
    make_rule("ingress tcp 80/80 from sg-a", "sgr-web"),
    make_rule("egress all to 192.0.2.0/24 drop 5", "sgr-odd id"),
]
STATE = make_state(
    [make_group("sg-a", RULES), make_group("sg-b", advanced=True)], [make_eni("eni-a", "10.0.0.1", "sg-a")]
)


def test_every_counter_of_a_table_stands_for_something_that_is_known() -> None:
    known = decisions(STATE, {"eni-a": "eth0"})
    table = table_of(Desired(STATE, {"eni-a": "eth0"}))
    found = of_causes({counter.name: Counted(0, 0) for counter in table.counters})
    assert found.keys() <= known.keys()
    assert {name.partition(".")[0] for name in {c.name for c in table.counters} - found.keys()} <= {"dropped"}
    rules = {d.security_group_rule_id: (d.priority, d.verdict.value) for d in known.values() if d.cause == "rule"}
    assert rules == {"sgr-web": (1, "accept"), "sgr-odd id": (5, "drop")}


def test_rules_have_a_row_at_once_other_causes_when_they_are_met() -> None:
    known = decisions(STATE, {"eni-a": "eth0"})
    fixed, other = sorted(FIXED)[:2]
    found = {row["counter"]: row for row in rows(known, {fixed: Sum(2, 9, "t1", "t1", "t2"), other: Sum(0, 0, "t1")})}
    assert (found[fixed]["packets"], found[fixed]["last_hit"]) == (2, "t2")
    assert other not in found
    assert found["rule.sg-a.sgr-web"]["since"] is None


def test_what_is_in_force_no_longer_has_a_row_if_it_was_met() -> None:
    found = list(rows({}, {"rule.sg-x.sgr-x": Sum(2, 9, "t1"), "rule.sg-x.sgr-y": Sum(0, 0, "t1")}))
    assert [(row["counter"], row["kind"], row["in_force"]) for row in found] == [("rule.sg-x.sgr-x", None, False)]


def test_a_row_says_again_what_it_was_made_of() -> None:
    known = decisions(STATE, {"eni-a": "eth0"})
    met = {name: Sum(1, 1, "t1") for name in known}
    told = {str(row["counter"]): decision_of(row) for row in rows(known, met)}
    assert told == known
    assert {row["kind"] for row in rows(known, met)} == {"rule", "inner_accept", "default", "fixed", "fence"}
    (strange,) = rows({}, {"rule.sg-x.sgr-x": Sum(2, 9, "t1")})
    assert decision_of(strange) is None
