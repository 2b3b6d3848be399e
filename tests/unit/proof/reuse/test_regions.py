"""Where two versions of chains do otherwise: each packet that they treat differently is in a box."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.contract.fields import Field, KeyType, Nfproto
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.nft.ir import (
    DROP,
    RETURN,
    Chain,
    Count,
    Counter,
    Map,
    MapPriority,
    Match,
    Range,
    Rule,
    Table,
    VerdictMap,
    goto,
    is_value,
    jump,
    rule,
)
from sgdataplane.proof.reuse.regions import ChainPairs, RegionBox, UntoldError, ahead, is_sorted
from sgdataplane.proof.spec.readings import Asked, FieldReading
from sgdataplane.proof.walk.program import Program
from sgdataplane.proof.walk.structure import Structure

PROTOCOL, PORT = 0, 1
AXES: dict[Asked, int] = {(Field.L4PROTO, None): PROTOCOL, (Field.TH_DPORT, None): PORT}
IPV4 = FieldReading({Field.NFPROTO: Nfproto.IPV4}, AXES)
EVERYWHERE: RegionBox = (None, None)
HOOKS = tuple(Chain(side.value, (rule(DROP),), hook) for side, hook in INSTANCE.hooks.items())
A, B = (Chain(f"{name}", (rule(Count(name)),)) for name in ("a", "b"))
COUNTERS = (Counter("a"), Counter("b"))


def port(first: int, last: int | None = None) -> Match:
    return Match(Field.TH_DPORT, (Range(first, first if last is None else last),))


def by_port(*entries: tuple[int, int, str]) -> VerdictMap:
    return VerdictMap(Field.TH_DPORT, tuple((Range(first, last), goto(chain)) for first, last, chain in entries))


def box(*ports: tuple[int, int], protocol: int | None = None) -> RegionBox:
    of_ports = tuple(Range(first, last) for first, last in ports) or None
    return ((Range.of(protocol),) if protocol is not None else None), of_ports


def table(*rules: Rule, maps: tuple[Map, ...] = (), chains: tuple[Chain, ...] = (A, B)) -> Table:
    every = (*HOOKS, Chain("entry", rules), *chains)
    return Table("t", tuple(sorted(every, key=lambda chain: chain.name)), maps, COUNTERS)


def found(one: Table, other: Table, leaves: tuple[str, ...] = ()) -> list[RegionBox]:
    structure = Structure.read(other, INSTANCE, Structure.read(one, INSTANCE))
    pairs = ChainPairs(structure, IPV4, leaves)
    pairs.compare("entry", "entry", EVERYWHERE)
    return pairs.boxes


def test_what_is_the_same_is_in_no_box() -> None:
    assert found(table(rule(goto("a"))), table(rule(goto("a")))) == []


def test_element_of_a_look_up_is_where_it_differs() -> None:
    one = table(rule(by_port((1, 9, "a"), (20, 29, "b"))), rule(goto("b")))
    other = table(rule(by_port((1, 9, "a"), (15, 17, "a"), (20, 29, "b"))), rule(goto("b")))
    assert found(one, other) == [box((15, 17))]
    assert found(other, one) == [box((15, 17))]


def test_element_that_leads_where_others_go_anyway_is_no_difference() -> None:
    one = table(rule(by_port((1, 9, "a"))), rule(goto("b")))
    other = table(rule(by_port((1, 9, "a"), (15, 17, "b"))), rule(goto("b")))
    assert found(one, other) == []


def test_but_not_if_packets_come_back_from_there() -> None:
    """They come to the next rule, and so to that chain once more."""
    one = table(rule(by_port((1, 9, "a"))), rule(jump("b")), rule(goto("a")))
    lookup = VerdictMap(Field.TH_DPORT, ((Range(1, 9), goto("a")), (Range(15, 17), jump("b"))))
    assert found(one, table(rule(lookup), rule(jump("b")), rule(goto("a")))) == [box((15, 17))]


def test_chain_of_another_name_is_compared_with_the_one_it_follows() -> None:
    """Unless it is a leaf, whose ranks are known by its name."""
    twin, other = replace(A, name="c"), Chain("c", (rule(port(7), Count("b")),))
    one = table(rule(port(1, 9), goto("a")))
    assert found(one, table(rule(port(1, 9), goto("c")), chains=(B, twin))) == []
    assert found(one, table(rule(port(1, 9), goto("c")), chains=(B, twin)), leaves=("a",)) == [box((1, 9))]
    assert found(one, table(rule(port(1, 9), goto("c")), chains=(B, other))) == [box((1, 9)), box((7, 7))]


def test_rule_that_differs_is_where_either_of_both_holds() -> None:
    assert found(table(rule(port(1, 9), DROP)), table(rule(port(5, 20), DROP))) == [box((1, 9)), box((5, 20))]
    protocol = is_value(Field.L4PROTO, 6)
    assert found(table(rule(protocol, DROP)), table(rule(protocol, RETURN))) == [box(protocol=6)]


def test_what_is_asked_after_an_effect_narrows_nothing() -> None:
    one = table(rule(port(1, 9), Count("a"), port(5), DROP))
    assert found(one, table(rule(port(1, 9), Count("b"), port(5), DROP))) == [box((1, 9))]


def test_rules_for_other_kinds_of_packets_say_nothing_and_those_behind_a_goto_neither() -> None:
    six, four = (is_value(Field.NFPROTO, family) for family in (Nfproto.IPV6, Nfproto.IPV4))
    assert found(table(rule(six, goto("a")), rule(goto("b"))), table(rule(six, goto("b")), rule(goto("b")))) == []
    assert found(table(rule(four, goto("a")), rule(goto("b"))), table(rule(four, goto("a")), rule(goto("a")))) == []
    assert found(table(rule(four, goto("a"))), table(rule(four, goto("b")))) == [EVERYWHERE]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(Match(Field.TH_DPORT, (Range.of(2),), mask=0x0F), id="some-bits"),
        pytest.param(Match(Field.TH_DPORT, (Range.of(2),), negate=True), id="another-port"),
    ],
)
def test_a_match_on_some_bits_or_on_any_other_port_narrows_nothing(asked: Match) -> None:
    """18 has these bits, and is another port than 2: such a packet goes elsewhere, too."""
    assert found(table(rule(asked, goto("a"))), table(rule(asked, goto("b")))) == [EVERYWHERE]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(port(2), ["b"], id="the-port"),
        pytest.param(Match(Field.TH_DPORT, (Range.of(2),), mask=0x0F), ["a", "b"], id="some-bits"),
        pytest.param(Match(Field.TH_DPORT, (Range.of(2),), negate=True), ["a", "b"], id="another-port"),
    ],
)
def test_packets_of_a_box_can_come_to_each_chain_unless_a_plain_match_says_no(
    asked: Match, expected: list[str]
) -> None:
    """The packets are to port 18, which has the bits of 2, and is another port."""
    program = Program(table(rule(asked, goto("a")), rule(goto("b"))), IPV4, {})
    program.add("entry")
    assert list(ahead(program.steps["entry"], box((18, 18)))) == expected


def test_chain_behind_a_named_map_that_has_changed() -> None:
    named = (Map("m", KeyType.NUMBER, ((5, goto("a")),)),)
    ask = rule(VerdictMap(Field.TH_DPORT, name="m"))
    changed = replace(A, rules=(rule(Count("b")),))
    assert found(table(ask, maps=named), table(ask, maps=named, chains=(changed, B))) == [EVERYWHERE]


def test_chain_that_takes_a_value_from_a_map_that_has_changed_differs_everywhere() -> None:
    """Each packet may get another value, although the chain's rules are the same."""
    ask = rule(MapPriority(Field.TH_DPORT, "m"), goto("a"))
    before, after = (Map("m", KeyType.NUMBER, ((5, value),)) for value in (1, 2))
    one, other = (replace(A, rules=(rule(port(7), Count(name)),)) for name in ("a", "b"))
    here = table(ask, maps=(before,), chains=(one, B))
    assert found(here, table(ask, maps=(before,), chains=(other, B))) == [box((7, 7))]
    assert found(here, table(ask, maps=(after,), chains=(other, B))) == [EVERYWHERE]


@pytest.mark.parametrize(("counter", "expected"), [("b", box((7, 7))), ("none", EVERYWHERE)])
def test_chain_with_a_counter_that_is_not_there_differs_everywhere(counter: str, expected: RegionBox) -> None:
    one, other = (replace(A, rules=(rule(port(7), Count(name)),)) for name in ("a", counter))
    here, there = (table(rule(goto("a")), chains=(chain, B)) for chain in (one, other))
    assert found(here, there) == [expected]


def test_chain_with_another_number_of_rules_differs_everywhere() -> None:
    assert found(table(rule(goto("a"))), table(rule(goto("a")), rule(DROP))) == [EVERYWHERE]


def test_ranges_out_of_order_and_too_many_differences_are_not_told() -> None:
    one = table(rule(by_port((1, 9, "a"))), rule(goto("b")))
    with pytest.raises(UntoldError):
        found(one, table(rule(by_port((5, 6, "b"), (1, 9, "a"))), rule(goto("b"))))
    many = [rule(port(number), DROP) for number in range(60)]
    with pytest.raises(UntoldError):
        found(table(*many), table(*(replace(r, statements=(*r.statements[:1], RETURN)) for r in many)))


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(1, 1)], True),
        ([(1, 3), (4, 9)], True),
        ([(1, 4), (4, 9)], False),
        ([(3, 1)], False),
        ([(4, 9), (1, 3)], False),
    ],
)
def test_sorted_ranges_have_nothing_in_common(ranges: list[tuple[int, int]], expected: bool) -> None:
    assert is_sorted([Range(*ends) for ends in ranges]) is expected
