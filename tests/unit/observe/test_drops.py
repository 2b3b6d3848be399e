"""Which counters count drops, compared with the compiled tables themselves; and sums that only grow."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sgdataplane.compiler.compile import compile_policy
from sgdataplane.compiler.fence import compile_fence
from sgdataplane.contract.priority import CODES
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.net.values import Direction
from sgdataplane.net.values import Verdict as Fate
from sgdataplane.nft.ir import ACCEPT, DROP, Count, Rule, SetPriority, Table, Verdict, VerdictMap, rule
from sgdataplane.observe.drops import FIXED, REASONS, OfEni, Reason, Tally, of_enis, of_rules
from sgdataplane.policy.resolve import resolve
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state

RULES = [
    make_rule("ingress tcp 80/80 from 0.0.0.0/0", "sgr-in"),
    make_rule("ingress tcp 81/81 from 0.0.0.0/0 drop", "sgr-not-in"),
    make_rule("egress udp 1/99 to 2001:db8::/32 drop", "sgr-not-out"),
    make_rule("egress all to 0.0.0.0/0 drop 100", "sgr.odd id"),
]
STATE = make_state(
    [make_group("sg-a", RULES), make_group("sg-b", [make_rule("ingress all from 0.0.0.0/0 drop", "sgr-of-others")])],
    [make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-a"), make_eni("eni-b", "10.0.0.2", "sg-b")],
)
POLICY = compile_policy(resolve(STATE, {"eni-a": "eth0"}, DEFAULTS), DEFAULTS, 1)
FENCES = [
    compile_fence({"eth0": STATE.eni["eni-a"]}, DEFAULTS, 1, placement)
    for placement in (Placement.INSTANCE, Placement.HOST)
]


PASSING = {CODES[side, Fate.ACCEPT] for side in Direction}


def drops_all(table: Table, rules: Sequence[Rule]) -> bool:
    """Whether nothing passes that reaches these rules, or that is accepted where it returns."""
    if any(isinstance(s, SetPriority) and s.value in PASSING for rule in rules for s in rule.statements):
        return False
    verdicts = [s for rule in rules for s in rule.statements if isinstance(s, Verdict) and s != DROP]
    elements = [v for rule in rules for s in rule.statements if isinstance(s, VerdictMap) for v in reached(table, s)]
    return all(v != ACCEPT and drops_all(table, table.chain[v.chain].rules) for v in (*verdicts, *elements))


def reached(table: Table, asked: VerdictMap) -> list[Verdict]:
    return [v for _, v in asked.entries] or [v for _, v in table.map[asked.name].elements if isinstance(v, Verdict)]


def counted(table: Table) -> dict[str, set[bool]]:
    """For each counter, whether the packets that it counts are dropped."""
    found: dict[str, set[bool]] = {}
    for chain in table.chains:
        for number, entry in enumerate(chain.rules):
            for at, statement in enumerate(entry.statements):
                if isinstance(statement, Count):
                    rest = [rule(*entry.statements[at + 1 :])]
                    is_end = isinstance(entry.statements[-1], Verdict)
                    is_dropped = drops_all(table, rest if is_end else [*rest, *chain.rules[number + 1 :]])
                    found.setdefault(statement.counter, set()).add(is_dropped)
    return found


@pytest.mark.parametrize("table", [POLICY, *FENCES], ids=["policy", "fence", "fence-of-a-router"])
def test_what_is_told_as_drops_is_dropped_and_nothing_else_is(table: Table) -> None:
    found = counted(table)
    assert len(found) >= 5
    told = FIXED.keys() | of_rules(STATE, ["eni-a"]).keys() | of_enis({"eni-a": "eth0"}).keys()
    assert {name: outcomes for name, outcomes in found.items() if outcomes != {name in told}} == {}


def test_every_counter_of_a_table_that_no_rule_made_is_known() -> None:
    made = {name for table in (POLICY, *FENCES) for name in table.counter if not name.startswith(("rule.", "inner."))}
    passing = {f"{hook}.{cause}" for hook in ("ingress", "egress") for cause in ("always", "icmp-error")}
    assert made - FIXED.keys() - of_enis({"eni-a": "eth0"}).keys() <= passing | {"default.egress.accept"}


def test_rules_of_groups_that_are_not_its_own_are_not_counted() -> None:
    assert sorted(reason.direction for reason in of_rules(STATE, ["eni-a"]).values()) == ["egress", "egress", "ingress"]
    assert len(of_rules(STATE, ["eni-a", "eni-b", "eni-of-nobody"])) == 4


INGRESS, EGRESS = Reason("ingress", "rule"), Reason("egress", "rule")
SPOOFED = Reason("egress", "spoofed")


def test_sums_only_grow() -> None:
    tally = Tally()
    assert set(tally.packets) == set(REASONS)
    rows: list[tuple[dict[str, int], dict[str, Reason], int, int]] = [
        ({"egress.spoofed": 5, "r1": 100}, {"r1": INGRESS}, 5, 0),  # r1 may have accepted so far
        ({"egress.spoofed": 7, "r1": 101, "r2": 50}, {"r1": INGRESS, "r2": INGRESS}, 7, 1),
        ({"egress.spoofed": 7, "r1": 101, "r2": 52}, {"r1": INGRESS, "r2": INGRESS}, 7, 3),
        ({"egress.spoofed": 7, "r2": 54}, {"r2": INGRESS}, 7, 5),  # r1 is gone
        ({"egress.spoofed": 2, "r2": 1}, {"r2": INGRESS}, 9, 6),  # somebody deleted the table
        ({}, {"r2": INGRESS}, 9, 6),
        ({"egress.spoofed": 1, "r1": 9, "r2": 1}, {"r1": INGRESS, "r2": INGRESS}, 10, 7),  # r1 is there again
    ]
    for counters, rules, spoofed, refused in rows:
        tally.note(counters, rules)
        assert (tally.packets[SPOOFED], tally.packets[INGRESS], tally.packets[EGRESS]) == (spoofed, refused, 0)


def test_what_is_dropped_of_an_eni_adds_up_over_policy_and_fence_as_long_as_it_is_there() -> None:
    tally, in_, out = Tally(), OfEni("eni-a", "ingress"), OfEni("eni-a", "egress")
    counters = {"dropped.ingress.eth0": 3, "dropped.egress.eth0": 4, "fence-dropped.eth0": 5, "dropped.ingress.eth1": 9}
    tally.note(counters, {}, of_enis({"eni-a": "eth0"}))
    assert tally.of_enis == {in_: 3, out: 9}  # also what was counted before anybody asked
    tally.note(counters | {"fence-dropped.eth0": 6}, {}, of_enis({"eni-a": "eth0"}))
    tally.note({"fence-dropped.eth0": 1}, {}, of_enis({"eni-a": "eth0"}))  # somebody deleted the tables
    assert tally.of_enis == {in_: 3, out: 11}
    tally.note({}, {}, of_enis({"b": "eth1"}))
    assert tally.of_enis == dict.fromkeys((OfEni("b", "ingress"), OfEni("b", "egress")), 0)
