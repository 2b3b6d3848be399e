"""The count of look-ups, on tables small enough to count by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.contract.fields import CtState, Field, Hook, KeyType, Nfproto
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    Map,
    MapPriority,
    Match,
    Range,
    Rule,
    Table,
    VerdictMap,
    goto,
    jump,
    rule,
)
from tests.support.models.lookups import most_lookups

MEMBERS = Map("members", KeyType.IPV4, ((1, goto("port")), (2, goto("proto"))))
TO_MEMBERS = rule(VerdictMap(Field.IP_SADDR, name="members"))
BY_PORT = VerdictMap(Field.TH_DPORT, ((Range(1, 9), ACCEPT),))
BY_PROTOCOL = VerdictMap(Field.L4PROTO, ((Range(1, 1), ACCEPT), (Range(6, 17), goto("port"))))
TYPES = Match(Field.ICMPV6_TYPE, (Range.of(133), Range.of(135)))


def table(*rules: Rule, **chains: tuple[Rule, ...]) -> Table:
    made = [Chain("base", rules, Hook("prerouting", 0)), *(Chain(name, held) for name, held in chains.items())]
    return Table("t", tuple(made), (MEMBERS,))


def counted(made: Table, *, with_sets: bool = True) -> int:
    return most_lookups(made, with_sets=with_sets).lookups


def is_in(asked: Field, *values: int) -> Match:
    return Match(asked, tuple(Range.of(value) for value in values))


def test_gotos_add_up_along_the_longest_path() -> None:
    made = table(TO_MEMBERS, rule(DROP), port=(rule(BY_PORT), rule(DROP)), proto=(rule(BY_PROTOCOL), rule(DROP)))
    path = most_lookups(made, with_sets=True)
    assert path.lookups == 3
    assert path.steps == (("base", 1), ("proto", 1), ("port", 1))


def test_a_jump_comes_back_and_a_return_does_too() -> None:
    proto = (rule(BY_PROTOCOL), rule(DROP))
    side, onward = (TO_MEMBERS, rule(RETURN)), (rule(jump("side")), rule(goto("proto")))
    assert counted(table(*onward, side=side, port=(rule(DROP),), proto=proto)) == 2
    assert counted(table(*onward, side=side, port=(), proto=proto)) == 3  # out of port, back to behind the jump
    behind = table(rule(jump("side")), rule(goto("proto")), side=(rule(DROP),), port=(rule(BY_PORT),), proto=proto)
    assert counted(behind) == 0


@pytest.mark.parametrize(("with_sets", "expected"), [(True, 2), (False, 0)])
def test_sets_without_a_name_count_if_they_are_asked_for(with_sets: bool, expected: int) -> None:
    made = table(rule(TYPES, DROP), rule(is_in(Field.IP6_HOPLIMIT, 1, 255), ACCEPT))
    assert counted(made, with_sets=with_sets) == expected


def test_a_single_value_and_a_comparison_of_bits_are_no_look_ups() -> None:
    made = table(rule(is_in(Field.L4PROTO, 6), is_in(Field.CT_STATE, CtState.NEW, CtState.RELATED), ACCEPT))
    assert counted(made) == 0


def test_what_a_packet_can_not_be_is_no_path() -> None:
    of_ipv4 = (rule(VerdictMap(Field.IP_SADDR, name="members")), rule(DROP))
    of_ipv6 = (rule(VerdictMap(Field.IP6_SADDR, ((Range(1, 2), ACCEPT),))), rule(DROP))
    both = (rule(jump("four")), rule(jump("six")))
    ends = {"port": (rule(DROP),), "proto": (rule(DROP),)}
    assert counted(table(*both, four=of_ipv4[:1], six=of_ipv6, **ends)) == 1
    branch = (rule(is_in(Field.NFPROTO, Nfproto.IPV4), goto("four")), rule(goto("six")))
    assert counted(table(*branch, four=of_ipv4, six=of_ipv6, **ends)) == 1


def test_what_a_match_has_told_is_known_in_later_rules_and_chains() -> None:
    icmp_only = rule(is_in(Field.L4PROTO, 58), goto("types"))
    assert counted(table(icmp_only, types=(rule(TYPES, DROP),), port=(), proto=())) == 1
    udp_only = rule(is_in(Field.L4PROTO, 17), goto("types"))
    assert counted(table(udp_only, rule(DROP), types=(rule(TYPES, DROP),), port=(), proto=())) == 0


def test_a_negated_match_holds_for_the_others() -> None:
    others = Match(Field.L4PROTO, (Range.of(6), Range.of(17)), negate=True)
    assert counted(table(rule(others, goto("ports")), ports=(rule(BY_PORT),), port=(), proto=())) == 1
    assert counted(table(rule(others, ACCEPT), rule(goto("ports")), ports=(rule(BY_PORT),), port=(), proto=())) == 2


def test_a_map_is_looked_up_once_by_whatever_it_has_no_entry_for() -> None:
    made = table(rule(BY_PROTOCOL), TO_MEMBERS, rule(DROP), port=(rule(DROP),), proto=(rule(DROP),))
    assert counted(made) == 2


def test_two_maps_of_interfaces_agree_on_who_the_packet_came_by() -> None:
    first = Map("first", KeyType.IFNAME, (("eth0", DROP), ("eth1", goto("port"))))
    second = Map("second", KeyType.IFNAME, (("eth0", goto("proto")),))
    onward = (VerdictMap(Field.IIFNAME, name="first"), VerdictMap(Field.IIFNAME, name="second"))
    made = table(*map(rule, onward), port=(rule(DROP),), proto=(rule(BY_PORT),))
    assert counted(replace(made, maps=(*made.maps, first, second))) == 2


def test_a_map_that_only_the_kernel_knows_may_hold_what_it_can_hold_and_counts_like_a_set() -> None:
    window = Map("window", KeyType.IFNAME, (), lifetime=1000)
    side = (rule(VerdictMap(Field.IIFNAME, name="window")), rule(DROP))
    made = table(rule(is_in(Field.L4PROTO, 6), jump("side")), rule(BY_PROTOCOL), side=side, port=(), proto=())
    named = replace(made, maps=(*made.maps, window, Map("enis", KeyType.IFNAME, (("eth0", DROP),))))
    assert counted(named) == 2
    assert counted(named, with_sets=False) == 1


def test_a_map_of_priorities_is_a_look_up_and_the_rule_goes_on_or_not() -> None:
    group_sets = (rule(MapPriority(Field.IP_SADDR, "kins"), goto("port")), rule(MapPriority(Field.IP6_SADDR, "kins6")))
    ranks = (rule(MapPriority(Field.PACKET_PRIORITY, "ranks")), TO_MEMBERS, rule(DROP))
    assert counted(table(*group_sets, *ranks, port=(rule(DROP),), proto=())) == 3  # group sets, ranks, members
    assert counted(table(*group_sets, *ranks, port=(rule(BY_PORT), rule(TYPES)), proto=())) == 4
    assert counted(table(*group_sets, *ranks[:1], port=(rule(DROP),), proto=())) == 2  # of IPv4 or of IPv6


def test_the_worst_of_all_base_chains_counts() -> None:
    one = Chain("a", (rule(DROP),), Hook("prerouting", 0))
    other = Chain("b", (TO_MEMBERS,), Hook("postrouting", 0))
    ends = (Chain("port", (rule(BY_PORT),)), Chain("proto", ()))
    assert counted(Table("t", (one, other, *ends), (MEMBERS,))) == 2
