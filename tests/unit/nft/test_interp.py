"""The interpreter does what the kernel does, statement by statement, and never guesses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.errors import InternalError
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    MEMBER,
    Chain,
    Count,
    Counter,
    InSet,
    Key,
    Map,
    MapCount,
    MapPriority,
    Match,
    Range,
    Rule,
    SetMark,
    SetPriority,
    Statement,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
    goto,
    jump,
    rule,
)

TCP80: dict[Field, Key] = {
    Field.L4PROTO: 6,
    Field.TH_DPORT: 80,
    Field.IP_SADDR: 5,
    Field.IIFNAME: "eth0",
    Field.CT_MARK: 0,
}


def make_table(*rules: Rule, maps: tuple[Map, ...] = (), **chains: tuple[Rule, ...]) -> Table:
    base = Chain("in", rules, Hook("prerouting", 0))
    others = tuple(Chain(name, body) for name, body in chains.items())
    return Table("t", (base, *others), maps, (Counter("c"),))


def verdict(table: Table, packet: dict[Field, Key] = TCP80) -> str:
    return run(table, "in", packet).verdict.value


def ports(*ranges: tuple[int, int], negate: bool = False, mask: int | None = None) -> Match:
    return Match(Field.TH_DPORT, tuple(Range(*pair) for pair in ranges), negate, mask)


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        pytest.param(ports((80, 80)), True, id="equal"),
        pytest.param(ports((1, 79), (81, 90)), False, id="between_ranges"),
        pytest.param(ports((1, 79), (81, 90), negate=True), True, id="negated"),
        pytest.param(ports((16, 16), mask=0xF0), False, id="masked_unequal"),
        pytest.param(ports((80, 80), mask=0xF0), True, id="masked_equal"),
        pytest.param(Match(Field.IP6_SADDR, (Range(0, 9),)), False, id="absent_field"),
        pytest.param(Match(Field.IP6_SADDR, (Range(0, 9),), negate=True), False, id="absent_field_negated"),
    ],
)
def test_match(match: Match, holds: bool) -> None:
    assert verdict(make_table(rule(match, ACCEPT), rule(DROP))) == ("accept" if holds else "drop")


SET = Map("s", KeyType.IPV4_IFNAME, (((5, "eth0"), MEMBER), ((6, "eth1"), MEMBER)), holds=KeyType.NOTHING)
MARKS = Map("s", KeyType.MARK_IFNAME, (((0x10, "eth0"), MEMBER),), holds=KeyType.NOTHING)


@pytest.mark.parametrize(
    ("entry", "asked", "holds"),
    [
        (SET, InSet(Field.IP_SADDR, Field.IIFNAME, "s"), True),
        (SET, InSet(Field.IP_SADDR, Field.IIFNAME, "s", negate=True), False),
        (replace(SET, elements=SET.elements[1:]), InSet(Field.IP_SADDR, Field.IIFNAME, "s"), False),
        (replace(SET, elements=()), InSet(Field.IP_SADDR, Field.IIFNAME, "s", negate=True), True),
        (SET, InSet(Field.IP_DADDR, Field.IIFNAME, "s", negate=True), False),
        (SET, InSet(Field.IP_SADDR, Field.OIFNAME, "s", negate=True), False),
        (MARKS, InSet(Field.CT_MARK, Field.IIFNAME, "s", mask=0xF0), True),
        (MARKS, InSet(Field.CT_MARK, Field.IIFNAME, "s", mask=0x0F), False),
    ],
)
def test_pairs_in_a_set(entry: Map, asked: InSet, holds: bool) -> None:
    """A packet that lacks one of both never goes on."""
    table = make_table(rule(asked, ACCEPT), rule(DROP), maps=(entry,))
    assert verdict(table, {**TCP80, Field.CT_MARK: 0x1234_0015}) == ("accept" if holds else "drop")


def test_a_map_is_no_set() -> None:
    entry = Map("s", KeyType.IPV4, ((5, ACCEPT),))
    with pytest.raises(InternalError, match="not a set"):
        run(make_table(rule(InSet(Field.IP_SADDR, Field.IIFNAME, "s"), ACCEPT), maps=(entry,)), "in", TCP80)


def test_goto_does_not_come_back_and_jump_does() -> None:
    assert verdict(make_table(rule(goto("x")), rule(ACCEPT), x=())) == "drop"
    assert verdict(make_table(rule(jump("x")), rule(ACCEPT), x=())) == "accept"


def test_end_of_a_goto_inside_a_jump_comes_back_to_the_jump() -> None:
    assert verdict(make_table(rule(jump("x")), rule(ACCEPT), x=(rule(goto("y")), rule(DROP)), y=())) == "accept"


def test_return_ends_the_chain() -> None:
    table = make_table(rule(jump("x")), rule(ACCEPT), x=(rule(Verdict(VerdictKind.RETURN)), rule(DROP)))
    assert verdict(table) == "accept"


@pytest.mark.parametrize(("port", "expected"), [(79, "drop"), (80, "accept"), (89, "accept"), (90, "drop")])
def test_unnamed_map(port: int, expected: str) -> None:
    entries = ((Range(1, 2), DROP), (Range(80, 89), ACCEPT))
    table = make_table(rule(VerdictMap(Field.TH_DPORT, entries)), rule(DROP))
    assert verdict(table, {**TCP80, Field.TH_DPORT: port}) == expected


@pytest.mark.parametrize(("ifname", "expected"), [("eth0", "accept"), ("eth1", "drop")])
def test_named_map(ifname: str, expected: str) -> None:
    table = make_table(
        rule(VerdictMap(Field.IIFNAME, name="m")), rule(DROP), maps=(Map("m", KeyType.IFNAME, (("eth0", ACCEPT),)),)
    )
    assert verdict(table, {**TCP80, Field.IIFNAME: ifname}) == expected


def test_counters_and_mark_tell_the_way() -> None:
    outcome = run(make_table(rule(Count("c"), SetMark(0xFF, 0x100), ACCEPT)), "in", {**TCP80, Field.CT_MARK: 0xAB12})
    assert (outcome.counters, outcome.mark) == (["c"], 0x112)


def test_mark_of_a_packet_without_conntrack_entry_stays() -> None:
    packet: dict[Field, Key] = {field: value for field, value in TCP80.items() if field is not Field.CT_MARK}
    assert run(make_table(rule(SetMark(0, 7), ACCEPT)), "in", packet).mark == 0


GROUP_SET = Map("kin", KeyType.IPV4, ((80, 7), (81, 0)), holds=KeyType.CLASSID)
RANKS = Map("ranks", KeyType.CLASSID, ((7, 3),), holds=KeyType.CLASSID)
WINNERS = Map("winners", KeyType.CLASSID, ((3, ACCEPT), (5, DROP)))


@pytest.mark.parametrize(
    ("source", "before", "after", "expected"),
    [
        pytest.param(80, 0, 3, "accept", id="both_maps_know_it"),
        pytest.param(81, 9, 0, "drop", id="the_second_one_does_not"),
        pytest.param(82, 7, 3, "accept", id="the_first_one_does_not"),
        pytest.param(82, 5, 5, "drop", id="neither_does"),
    ],
)
def test_priority_is_what_maps_hold_or_stays(source: int, before: int, after: int, expected: str) -> None:
    rules = [rule(MapPriority(Field.IP_SADDR, "kin"), Count("c"))]
    rules += [rule(MapPriority(Field.PACKET_PRIORITY, "ranks"))]
    rules += [rule(VerdictMap(Field.PACKET_PRIORITY, name="winners"))]
    packet = {**TCP80, Field.IP_SADDR: source, Field.PACKET_PRIORITY: before}
    outcome = run(make_table(*rules, rule(DROP), maps=(GROUP_SET, RANKS, WINNERS)), "in", packet)
    assert (outcome.priority, outcome.verdict.value, outcome.lookups) == (after, expected, 3)
    assert outcome.counters == (["c"] if source < 82 else [])


@pytest.mark.parametrize(("source", "counters", "verdict"), [(80, ["c"], "drop"), (81, [], "accept")])
def test_packet_is_counted_by_what_a_map_holds_or_its_rule_ends(source: int, counters: list[str], verdict: str) -> None:
    counting = Map("counting", KeyType.IPV4, ((80, Count("c")),), holds=KeyType.COUNTER)
    rules = rule(MapCount(Field.IP_SADDR, "counting"), DROP), rule(ACCEPT)
    outcome = run(make_table(*rules, maps=(counting,)), "in", {**TCP80, Field.IP_SADDR: source})
    assert (outcome.counters, outcome.verdict.value, outcome.lookups) == (counters, verdict, 1)


def test_priority_is_none_at_first_and_what_was_set_at_the_end() -> None:
    is_none = rule(Match(Field.PACKET_PRIORITY, (Range.of(0),)), SetPriority(7), ACCEPT)
    assert run(make_table(is_none), "in", TCP80).priority == 7


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(goto("nowhere"), id="no_chain"),
        pytest.param(Count("nowhere"), id="no_counter"),
        pytest.param(VerdictMap(Field.IIFNAME, name="nowhere"), id="no_map"),
        pytest.param(MapPriority(Field.IIFNAME, "nowhere"), id="no_data_map"),
        pytest.param(MapCount(Field.IIFNAME, "nowhere"), id="no_map_of_counters"),
    ],
)
def test_what_the_kernel_would_refuse_is_an_error(statement: Statement) -> None:
    with pytest.raises(InternalError, match="nowhere"):
        run(make_table(rule(statement)), "in", TCP80)


def test_port_of_a_protocol_without_ports_is_an_error() -> None:
    with pytest.raises(InternalError, match="TH_DPORT"):
        run(make_table(rule(ports((80, 80)), ACCEPT)), "in", {**TCP80, Field.L4PROTO: 47})


def test_loop_is_an_error() -> None:
    with pytest.raises(InternalError, match="deeper"):
        run(make_table(rule(jump("x")), x=(rule(jump("x")),)), "in", TCP80)
