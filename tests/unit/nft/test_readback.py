"""Which rules are the same, and what counts as a difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    Chain,
    Count,
    Counter,
    Log,
    Map,
    MapPriority,
    Match,
    Range,
    Rule,
    SetMark,
    SetPriority,
    Table,
    Timeout,
    VerdictMap,
    goto,
    rule,
)
from sgdataplane.nft.readback import differences, same

TCP, V4 = Match(Field.L4PROTO, (Range.of(6),)), Match(Field.NFPROTO, (Range.of(2),))
FLAGS = Match(Field.TCP_FLAGS, (Range.of(2),), mask=0x17)
FROM = Match(Field.IP_SADDR, (Range(1, 4),))
PARTS = Match(Field.IP_SADDR, (Range(1, 2), Range(3, 4)))
MARK = SetMark(0xFFFF, 0x10000)
GROUP_SET = MapPriority(Field.IP_SADDR, "kin")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        pytest.param(rule(FLAGS, DROP), rule(TCP, FLAGS, DROP), True, id="what_a_field_takes_is_said_or_not"),
        pytest.param(rule(V4, TCP, DROP), rule(TCP, V4, DROP), True, id="conditions_have_no_order"),
        pytest.param(rule(FROM, DROP), rule(PARTS, DROP), True, id="neighbouring_ranges_are_one"),
        pytest.param(rule(FROM, DROP), rule(V4, DROP), False, id="another_condition"),
        pytest.param(rule(FROM, DROP), rule(replace(FROM, negate=True), DROP), False, id="the_opposite"),
        pytest.param(rule(TCP, MARK, DROP), rule(MARK, TCP, DROP), False, id="an_act_before_a_condition"),
        pytest.param(rule(Count("a"), MARK), rule(MARK, Count("a")), False, id="acts_have_an_order"),
        pytest.param(rule(TCP, DROP), rule(TCP, ACCEPT), False, id="another_verdict"),
        pytest.param(rule(GROUP_SET), rule(V4, GROUP_SET), True, id="what_a_look_up_takes_is_said_or_not"),
        pytest.param(rule(GROUP_SET), rule(replace(GROUP_SET, name="members")), False, id="another_map"),
        pytest.param(rule(SetPriority(0)), rule(SetPriority(1)), False, id="another_priority"),
        pytest.param(
            rule(VerdictMap(Field.TH_DPORT, ((Range(1, 2), DROP), (Range.of(3), DROP)))),
            rule(VerdictMap(Field.TH_DPORT, ((Range(1, 3), DROP),))),
            True,
            id="neighbouring_entries_are_one",
        ),
        pytest.param(
            rule(VerdictMap(Field.TH_DPORT, ((Range(1, 2), DROP), (Range.of(3), ACCEPT)))),
            rule(VerdictMap(Field.TH_DPORT, ((Range(1, 3), DROP),))),
            False,
            id="entries_with_other_verdicts",
        ),
    ],
)
def test_rules_that_do_the_same(one: Rule, other: Rule, is_same: bool) -> None:
    assert (same(one) == same(other)) is is_same


BASE = Chain("ingress", (rule(TCP, DROP),), Hook("prerouting", -150))
MEMBERS = Map("members", KeyType.IPV4, ((1, goto("leaf")),))
ADOPTING = Map("adopting", KeyType.IFNAME, (), lifetime=1)
STAMP = Map("applied", KeyType.MARK, ((0, 1), (5, 77)), holds=KeyType.MARK)
TABLE = Table("t", (BASE,), (ADOPTING, STAMP, MEMBERS), (Counter("c"),), (Timeout("x", "tcp", "ip", ()),))


@pytest.mark.parametrize(
    ("held", "lines"),
    [
        pytest.param(TABLE, [], id="nothing"),
        pytest.param(replace(TABLE, chains=()), ["chain ingress is missing"], id="chain_missing"),
        pytest.param(replace(TABLE, chains=(BASE, Chain("x", ()))), ["chain x is not ours"], id="chain_more"),
        pytest.param(
            replace(TABLE, chains=(replace(BASE, hook=Hook("prerouting", 0)),)),
            ["chain ingress stands at another hook"],
            id="other_hook",
        ),
        pytest.param(replace(TABLE, chains=(replace(BASE, rules=()),)), ["chain ingress has other rules"], id="rules"),
        pytest.param(
            replace(TABLE, maps=(ADOPTING, STAMP, replace(MEMBERS, elements=()))),
            ["map members has other elements"],
            id="elements",
        ),
        pytest.param(
            replace(TABLE, maps=(ADOPTING, STAMP, replace(MEMBERS, key_type=KeyType.IPV6))),
            ["map members is of another kind"],
            id="kind",
        ),
        pytest.param(
            replace(TABLE, maps=(ADOPTING, replace(STAMP, holds=KeyType.CLASSID), MEMBERS)),
            ["map applied is of another kind"],
            id="what_it_holds",
        ),
        pytest.param(
            replace(TABLE, maps=(replace(ADOPTING, elements=(("eth0", ACCEPT),)), STAMP, MEMBERS)),
            [],
            id="what_goes_by_itself",
        ),
        pytest.param(
            replace(TABLE, maps=(ADOPTING, replace(STAMP, elements=((0, 1), (5, 78))), MEMBERS)), [], id="generation"
        ),
        pytest.param(
            replace(TABLE, maps=(ADOPTING, replace(STAMP, elements=((0, 2),)), MEMBERS)),
            ["map applied has other elements"],
            id="epoch",
        ),
        pytest.param(replace(TABLE, counters=()), ["counter c is missing"], id="counter"),
        pytest.param(replace(TABLE, timeouts=()), ["timeout x is missing"], id="timeout"),
    ],
)
def test_differences_are_told_one_a_line(held: Table, lines: list[str]) -> None:
    assert list(differences(TABLE, held)) == lines


def test_a_table_without_any_log_is_one_of_a_kernel_that_has_none() -> None:
    logged = (rule(TCP, Count("c"), Log("c", 7, 100)), rule(DROP))
    silent = (rule(TCP, Count("c")), rule(DROP))
    wanted = replace(TABLE, chains=(replace(BASE, rules=logged), Chain("x", logged)))
    none = replace(TABLE, chains=(replace(BASE, rules=silent), Chain("x", silent)))
    some = replace(TABLE, chains=(replace(BASE, rules=silent), Chain("x", logged)))
    assert list(differences(wanted, none)) == []
    assert list(differences(wanted, some)) == ["chain ingress has other rules"]
    assert list(differences(none, wanted)) == ["chain ingress has other rules", "chain x has other rules"]
