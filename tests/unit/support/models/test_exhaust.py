"""Differences that were planted are found, each as the one packet that it is; what only looks different is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from sgdataplane.contract.fields import CtDirection, CtState, Field, Hook, KeyType, Nfproto
from sgdataplane.nft import interp
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    MEMBER,
    RETURN,
    Chain,
    Count,
    Counter,
    InSet,
    Key,
    Log,
    Map,
    MapCount,
    MapPriority,
    Match,
    Range,
    Rule,
    SetMark,
    SetPacketMark,
    SetPriority,
    SetTimeout,
    Table,
    VerdictMap,
    goto,
    is_value,
    jump,
    rule,
)
from tests.support.models.exhaust import Circle, Comparison, difference, done_with

HOOKS = {"ingress": "prerouting", "egress": "postrouting"}
LOW, HIGH = 0x0000FFFF, 0xFFFF0000
MAPS = (
    Map("adopting", KeyType.IFNAME, (), lifetime=1000),
    Map("counts", KeyType.IFNAME, (("eth0", Count("x")),), holds=KeyType.COUNTER),
    Map("members", KeyType.IPV4, ((1, 5), (2, 9)), holds=KeyType.CLASSID),
    Map("own", KeyType.IPV4_IFNAME, (((1, "eth0"), MEMBER), ((2, "eth1"), MEMBER)), holds=KeyType.NOTHING),
    Map("slots", KeyType.MARK_IFNAME, (((1, "eth0"), MEMBER), ((2, "eth1"), MEMBER)), holds=KeyType.NOTHING),
)
IPV4, TCP = is_value(Field.NFPROTO, Nfproto.IPV4), is_value(Field.L4PROTO, 6)
OWN = InSet(Field.IP_DADDR, Field.IIFNAME, "own")
SLOT = InSet(Field.CT_MARK, Field.IIFNAME, "slots", mask=0x3F)
ENI = is_value(Field.IIFNAME, "eth0")
TO_A, IN_A = jump("a"), goto("a")
Chains = Mapping[str, tuple[Rule, ...]]


def table(hook: tuple[Rule, ...], chains: Chains, maps: tuple[Map, ...] = MAPS) -> Table:
    """With the same rules at both hooks."""
    made = [Chain(name, hook, Hook(kernel, 0)) for name, kernel in HOOKS.items()]
    made += [Chain(name, rules) for name, rules in chains.items()]
    return Table("t", tuple(made), maps, (Counter("x"), Counter("y")))


def tables(one: tuple[Rule, ...], other: tuple[Rule, ...]) -> tuple[Table, Table]:
    """Whose chain `a` differs. Packets return from it to be accepted or dropped, by their priority."""
    hook = (rule(TO_A), rule(is_value(Field.PACKET_PRIORITY, 7), DROP), rule(ACCEPT))
    return table(hook, {"a": one}), table(hook, {"a": other})


def accepts(*tests: Match | InSet) -> tuple[Rule, ...]:
    return (rule(*tests, ACCEPT), rule(DROP))


def ports(first: int, last: int) -> Match:
    return Match(Field.TH_DPORT, (Range(first, last),))


def source(*ranges: Range, negate: bool = False) -> Match:
    return Match(Field.IP_SADDR, ranges, negate=negate)


# Both chains, and the fields that every packet has with which they do something else.
PLANTED: Mapping[str, tuple[tuple[Rule, ...], tuple[Rule, ...], Mapping[Field, Key]]] = {
    "one port of one address": (
        accepts(source(Range.of(7)), TCP, ports(80, 90)),
        accepts(source(Range.of(7)), TCP, ports(80, 89)),
        {Field.IP_SADDR: 7, Field.L4PROTO: 6, Field.TH_DPORT: 90, Field.NFPROTO: 2},
    ),
    "the last address": (
        accepts(Match(Field.IP6_DADDR, (Range(9, (1 << 128) - 1),))),
        accepts(Match(Field.IP6_DADDR, (Range(9, (1 << 128) - 2),))),
        {Field.IP6_DADDR: (1 << 128) - 1},
    ),
    "one mark": (
        accepts(Match(Field.CT_MARK, (Range.of(0x1C1),), mask=LOW)),
        accepts(Match(Field.CT_MARK, (Range.of(0x1C1),), mask=LOW), source(Range.of(3), negate=True)),
        {Field.IP_SADDR: 3},
    ),
    "one element of a set": (
        accepts(OWN),
        accepts(OWN, Match(Field.IP_DADDR, (Range.of(2),), negate=True)),
        {Field.IIFNAME: "eth1", Field.IP_DADDR: 2},
    ),
    "a negated set": (
        (rule(InSet(Field.CT_MARK, Field.IIFNAME, "slots", mask=0x3F, negate=True), DROP), rule(ACCEPT)),
        (rule(InSet(Field.CT_MARK, Field.IIFNAME, "slots", mask=0x3F, negate=True), ENI, DROP), rule(ACCEPT)),
        {},
    ),
    "the order of counters": ((rule(Count("x"), Count("y")),), (rule(Count("y"), Count("x")),), {}),
    "a counter of what is dropped": ((rule(Count("x"), DROP),), (rule(DROP),), {}),
    "a counter from a map": (
        (rule(MapCount(Field.OIFNAME, "counts")), rule(DROP)),
        (rule(DROP),),
        {Field.OIFNAME: "eth0"},
    ),
    "a timeout": ((rule(SetTimeout("quick"), DROP),), (rule(DROP),), {}),
    "a priority that is left": ((rule(SetPriority(0), ACCEPT),), (rule(ACCEPT),), {}),
    "a priority that is found": ((rule(SetPriority(7)),), (rule(SetPriority(6)),), {}),
    "a priority that a map has": (
        (rule(SetPriority(7)), rule(MapPriority(Field.IP_SADDR, "members"))),
        (rule(SetPriority(7)), rule(source(Range.of(1)), MapPriority(Field.IP_SADDR, "members"))),
        {Field.IP_SADDR: 2},
    ),
    "a session's mark": ((rule(SetMark(HIGH, 1), ACCEPT),), (rule(ACCEPT),), {}),
    "the other half": ((rule(SetMark(HIGH, 1), DROP),), (rule(SetMark(LOW, 1 << 16), DROP),), {}),
    "a mark that was written": (
        (rule(SetMark(HIGH, 5)), *accepts(Match(Field.CT_MARK, (Range.of(5),), mask=LOW))),
        (rule(SetMark(HIGH, 5)), *accepts(Match(Field.CT_MARK, (Range.of(6),), mask=LOW))),
        {},
    ),
    "a packet's mark": ((rule(SetPacketMark(1), ACCEPT),), (rule(ACCEPT),), {}),
    "an error that has no port": (accepts(ports(1, 9)), accepts(TCP, ports(1, 9)), {}),
    "packets without the field": (
        (rule(Match(Field.ICMP_TYPE, (Range.of(8),), negate=True), DROP),),
        (rule(is_value(Field.ICMP_TYPE, 8), RETURN), rule(DROP)),
        {},
    ),
    "what only the kernel knows": (
        (rule(VerdictMap(Field.OIFNAME, name="adopting")), rule(DROP)),
        (rule(is_value(Field.OIFNAME, "eth1"), VerdictMap(Field.OIFNAME, name="adopting")), rule(DROP)),
        {Field.OIFNAME: "eth0"},
    ),
    "a translated port": (
        accepts(is_value(Field.CT_PROTOCOL, 6), is_value(Field.CT_ORIGINAL_DPORT, 80)),
        accepts(is_value(Field.CT_PROTOCOL, 6), TCP, is_value(Field.TH_DPORT, 80)),
        {},
    ),
    "a log in the midst": ((rule(Log("x", 1, 1), DROP),), (rule(DROP),), {}),
    "goto in place of jump": ((rule(jump("b")), rule(DROP)), (rule(goto("b")), rule(DROP)), {}),
}

# Chains that do the same.
ALIKE: Mapping[str, tuple[tuple[Rule, ...], tuple[Rule, ...]]] = {
    "a range in two": (
        accepts(source(Range(3, 9))),
        (rule(source(Range(3, 5)), ACCEPT), rule(source(Range(6, 9)), ACCEPT), rule(DROP)),
    ),
    "rules that don't overlap, swapped": (
        (rule(source(Range.of(1)), Count("x")), rule(source(Range.of(2)), Count("y"))),
        (rule(source(Range.of(2)), Count("y")), rule(source(Range.of(1)), Count("x"))),
    ),
    "a rule that no packet comes to": ((rule(IPV4, DROP),), (rule(IPV4, DROP), rule(source(Range.of(1)), ACCEPT))),
    "a map in place of rules": (
        (rule(source(Range.of(1)), ACCEPT), rule(source(Range.of(4)), DROP)),
        (rule(VerdictMap(Field.IP_SADDR, ((Range.of(1), ACCEPT), (Range.of(4), DROP)))),),
    ),
    "the mark that was there": (
        (rule(Match(Field.CT_MARK, (Range.of(0x1C1),), mask=LOW), SetMark(HIGH, 0x1C1), ACCEPT),),
        (rule(Match(Field.CT_MARK, (Range.of(0x1C1),), mask=LOW), ACCEPT),),
    ),
    "a mark without a session": (
        (rule(is_value(Field.CT_STATE, CtState.UNTRACKED), SetMark(HIGH, 1)),),
        (),
    ),
    "a priority of what is dropped": ((rule(SetPriority(3), DROP),), (rule(DROP),)),
    "a priority written twice": ((rule(SetPriority(3), SetPriority(7)),), (rule(SetPriority(7)),)),
    "a set, compared one by one": (
        accepts(OWN),
        (
            rule(ENI, is_value(Field.IP_DADDR, 1), ACCEPT),
            rule(is_value(Field.IIFNAME, "eth1"), is_value(Field.IP_DADDR, 2), ACCEPT),
            rule(DROP),
        ),
    ),
    "slots, compared one by one": (
        accepts(SLOT),
        (
            rule(ENI, Match(Field.CT_MARK, (Range.of(1),), mask=0x3F), ACCEPT),
            rule(is_value(Field.IIFNAME, "eth1"), Match(Field.CT_MARK, (Range.of(2),), mask=0x3F), ACCEPT),
            rule(DROP),
        ),
    ),
    "both directions": (
        accepts(is_value(Field.CT_DIRECTION, *CtDirection)),
        accepts(is_value(Field.CT_STATE, 2, 4, 8)),
    ),
    "a log": ((rule(Count("x"), Log("x", 1, 1)), rule(DROP)), (rule(Count("x")), rule(DROP))),
    "goto at the end": ((rule(goto("b")),), (rule(jump("b")),)),
}


def with_b(made: Table) -> Table:
    """And a chain that counts and returns."""
    return replace(made, chains=(*made.chains, Chain("b", (rule(Count("y")),))))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_difference_is_found(name: str) -> None:
    one, other, fields = PLANTED[name]
    right, wrong = map(with_b, tables(one, other))
    for first, second in ((right, wrong), (wrong, right)):
        found = difference(first, second)
        assert found is not None
        assert fields.items() <= found.fields.items()
        assert done_with(right, found) != done_with(wrong, found)


@pytest.mark.parametrize("name", ALIKE)
def test_what_only_looks_different_is_no_difference(name: str) -> None:
    assert difference(*map(with_b, tables(*ALIKE[name]))) is None


def test_a_difference_at_one_hook_is_found_there() -> None:
    right = table((rule(DROP),), {})
    wrong = replace(right, chains=(right.chains[0], replace(right.chains[1], rules=(rule(ENI, ACCEPT),))))
    found = difference(right, wrong)
    assert found is not None
    assert (found.chain, found.fields[Field.IIFNAME]) == ("egress", "eth0")


def test_a_changed_element_is_found_by_its_key() -> None:
    right = table((rule(MapPriority(Field.IP_SADDR, "members"), ACCEPT), rule(DROP)), {})
    changed = replace(right.map["members"], elements=((1, 5), (2, 8)))
    wrong = replace(right, maps=tuple(changed if entry.name == "members" else entry for entry in right.maps))
    found = difference(right, wrong)
    assert found is not None
    assert found.fields[Field.IP_SADDR] == 2


def test_the_seventeenth_jump_is_refused() -> None:
    """As the interpreter refuses it."""
    nested = {f"n{n}": (rule(jump(f"n{n + 1}")),) for n in range(17)}
    sixteen, seventeen = (table((rule(jump(f"n{first}")),), {**nested, "n17": ()}) for first in (2, 1))
    found = difference(sixteen, seventeen)
    assert found is not None
    assert done_with(seventeen, found) == ("InternalError",)
    assert difference(sixteen, table((rule(DROP),), {})) is None


def test_a_table_with_a_circle_is_none() -> None:
    right, wrong = tables((rule(goto("b")),), (rule(goto("a")),))
    with pytest.raises(Circle):
        difference(with_b(right), with_b(wrong))


def test_what_was_compared_before_changes_nothing() -> None:
    """Chains are known by what they are, not by their names."""
    right, wrong = map(with_b, tables(*PLANTED["one port of one address"][:2]))
    again = Comparison(right)
    assert again.difference(wrong) is not None
    assert again.difference(with_b(right)) is None
    assert again.difference(wrong) is not None


def test_diagrams_that_disagree_with_the_interpreter_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = Comparison(with_b(table(accepts(source(Range.of(7))), {})))
    compared.checked(compared.table, compared.meaning, {})
    monkeypatch.setattr(interp._Walk, "_holds", lambda *_: True)
    with pytest.raises(AssertionError, match="by the interpreter"):
        compared.checked(compared.table, compared.meaning, {})
