"""Which changes one commit can make so that no packet is judged by half of them, and the intermediate tables where it
can't."""

from __future__ import annotations

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType, Nfproto
from sgdataplane.errors import InternalError
from sgdataplane.nft.detour import copy_table, detour
from sgdataplane.nft.inflight import can_switch_at_once, check_in_place, edit
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    MEMBER,
    Chain,
    InSet,
    Key,
    Map,
    MapPriority,
    Match,
    Range,
    Rule,
    SetMark,
    SetPriority,
    Table,
    Verdict,
    VerdictMap,
    goto,
    rule,
)

MARKS = Map("applied", KeyType.MARK, ((0, 1),), holds=KeyType.MARK)


def table(
    enis: tuple[tuple[Key, Verdict], ...] = (("eth0", goto("eni")),),
    members: tuple[tuple[Key, Verdict], ...] = ((1, goto("kin")),),
    end: Verdict = DROP,
    mark: int = 1,
) -> Table:
    """Interfaces, then members, then a chain that may change; the accept chain marks."""
    base = Chain("ingress", (rule(VerdictMap(Field.IIFNAME, name="enis")), rule(DROP)), Hook("prerouting", 0))
    chains = (
        Chain("accept", (rule(SetMark(0, mark), ACCEPT),)),
        Chain("eni", (rule(VerdictMap(Field.IP_SADDR, name="members")), rule(DROP))),
        base,
        Chain("kin", (rule(goto("accept") if end is ACCEPT else end),)),
    )
    maps = (MARKS, Map("enis", KeyType.IFNAME, enis), Map("members", KeyType.IPV4, members))
    return Table("t", chains, maps)


MEMBERS: tuple[tuple[Key, Verdict], ...] = ((1, goto("kin")), (2, goto("kin")))
ENIS: tuple[tuple[Key, Verdict], ...] = (("eth0", goto("eni")), ("eth1", goto("eni")))


@pytest.mark.parametrize(
    ("desired", "expected"),
    [
        pytest.param(table(), True, id="nothing"),
        pytest.param(table(end=ACCEPT), True, id="rules-only"),
        pytest.param(table(members=MEMBERS), True, id="one-map-only"),
        pytest.param(table(enis=ENIS), True, id="the-first-map-only"),
        pytest.param(table(members=MEMBERS, mark=2), True, id="a-map-and-the-epoch"),
        pytest.param(table(members=MEMBERS, end=ACCEPT), False, id="a-map-and-rules"),
        pytest.param(table(members=MEMBERS, enis=ENIS), False, id="two-maps-in-a-row"),
    ],
)
def test_rules_or_one_map_change_in_one_switch(desired: Table, expected: bool) -> None:
    assert can_switch_at_once(table(), desired, may_miss=False) is expected
    assert can_switch_at_once(desired, table(), may_miss=False) is expected


def passing(*pairs: tuple[int, str], end: Verdict = DROP) -> Table:
    """Sessions pass by a set of marks at interfaces."""
    rules = rule(InSet(Field.CT_MARK, Field.IIFNAME, "sessions", mask=0xFFFF), ACCEPT), rule(end)
    made = Map("sessions", KeyType.MARK_IFNAME, tuple((pair, MEMBER) for pair in pairs), holds=KeyType.NOTHING)
    return Table("t", (Chain("ingress", rules, Hook("prerouting", 0)),), (MARKS, made))


@pytest.mark.parametrize(
    "desired",
    [
        pytest.param(passing((0x1001, "eth0"), (0x1002, "eth2")), id="the-epoch"),
        pytest.param(passing((0x1001, "eth0"), (0x1002, "eth1"), (0x1003, "eth2")), id="the-epoch-and-slots"),
        pytest.param(passing((0x1001, "eth0"), (0x1002, "eth1"), end=ACCEPT), id="and-rules"),
    ],
)
def test_marks_of_accepted_sessions_move_together_with_rules(desired: Table) -> None:
    """Each holds its epoch, so that a packet in the old rules passes only as the new ones let it."""
    before = passing((0x0801, "eth0"), (0x0802, "eth2"))
    assert can_switch_at_once(before, desired, may_miss=False)
    assert can_switch_at_once(desired, before, may_miss=False)
    assert edit(before, desired, "sessions").is_moving


PORTS = (Range(1, 2), Range.of(9))


@pytest.mark.parametrize(
    ("statements", "is_refused"),
    [
        pytest.param((VerdictMap(Field.TH_DPORT, ((PORTS[0], DROP),)),), True, id="map-without-name"),
        pytest.param((Match(Field.TH_DPORT, PORTS), DROP), True, id="set-without-name"),
        pytest.param((Match(Field.TH_DPORT, PORTS[:1]), DROP), False, id="one-range"),
        pytest.param((VerdictMap(Field.IP_SADDR, name="members"),), False, id="named-map"),
        pytest.param((Match(Field.CT_STATE, (Range.of(2), Range.of(8))), DROP), False, id="states-are-bits"),
    ],
)
def test_chain_with_a_nameless_set_never_changes_in_place(statements: tuple[Match, ...], is_refused: bool) -> None:
    chain = Chain("c", (rule(*statements),))
    if is_refused:
        with pytest.raises(InternalError, match="chain c "):
            check_in_place([chain])
    else:
        check_in_place([chain])


def test_copy_shares_only_base_chains_and_the_stamp() -> None:
    before, copy = table(), copy_table(table(), ".9")
    assert set(before.chain) & set(copy.chain) == {"ingress"}
    assert set(before.map) & set(copy.map) == {"applied"}
    assert copy.chain["ingress"].rules[0] == rule(VerdictMap(Field.IIFNAME, name="enis.9"))
    assert copy.elements_of("enis.9") == {"eth0": goto("eni.9")}
    assert copy.chain["eni.9"].rules[0] == rule(VerdictMap(Field.IP_SADDR, name="members.9"))
    assert copy.elements_of("members.9") == {1: goto("kin.9")}
    assert copy.chain["accept.9"].rules == before.chain["accept"].rules


OLD: tuple[tuple[Key, Verdict], ...] = tuple((key, goto("kin")) for key in range(1, 9))
NEW: tuple[tuple[Key, Verdict], ...] = ((1, goto("other")), *OLD[2:], (20, goto("kin")))  # 1 turned, 2 gone, 20 new
DIFFERENT: tuple[tuple[Key, Verdict], ...] = ((1, goto("other")), (20, goto("kin")), (2, goto("others")))
ASKING = rule(VerdictMap(Field.IP_SADDR, name="members"))


def asking_table(members: tuple[tuple[Key, Verdict], ...], group_set: Verdict, rest: tuple[Rule, ...]) -> Table:
    chains = (
        Chain("far", (ASKING, *rest)),
        Chain("ingress", (rule(VerdictMap(Field.IIFNAME, name="enis")), rule(DROP)), Hook("prerouting", 0)),
        Chain("kin", (rule(group_set),)),
        Chain("other", (rule(DROP),)),
        Chain("others", (rule(ACCEPT),)),
    )
    maps = (Map("enis", KeyType.IFNAME, (("eth0", goto("far")),)), Map("members", KeyType.IPV4, members))
    return Table("t", chains, maps)


def verdicts(some: Table) -> list[object]:
    return [
        run(some, "ingress", {Field.IIFNAME: "eth0", Field.NFPROTO: Nfproto.IPV4, Field.IP_SADDR: key}).verdict
        for key in range(25)
    ]


VERDICT = (rule(goto("others")),)
FAMILY = (rule(Match(Field.NFPROTO, (Range.of(Nfproto.IPV4),)), goto("others")), rule(DROP))
OTHER_FAMILY = (rule(Match(Field.NFPROTO, (Range.of(Nfproto.IPV6),)), goto("others")), rule(DROP))
COUNTED = (rule(VerdictMap(Field.IP_SADDR, name="enis"), goto("others")), rule(goto("others")))


@pytest.mark.parametrize(
    ("rest", "asked"),
    [
        pytest.param(VERDICT, DIFFERENT, id="only-what-differs"),
        pytest.param(FAMILY, DIFFERENT, id="a-condition-that-holds-for-all-that-have-the-field"),
        pytest.param(OTHER_FAMILY, NEW, id="another-condition"),
        pytest.param(COUNTED, NEW, id="all-of-it"),
    ],
)
def test_map_is_asked_under_another_name(rest: tuple[Rule, ...], asked: tuple[tuple[Key, Verdict], ...]) -> None:
    held, desired = asking_table(OLD, ACCEPT, rest), asking_table(NEW, DROP, rest)
    assert not can_switch_at_once(held, desired, may_miss=False)
    between = detour(held, desired, ".7")
    assert can_switch_at_once(held, between, may_miss=False)
    assert between.map["members"] is held.map["members"]
    assert between.map["members.7"].elements == asked
    first = rule(VerdictMap(Field.IP_SADDR, name="members.7"))
    assert between.chain["far"].rules == (first, *((ASKING,) if asked is not NEW else ()), *rest)
    assert verdicts(between) == verdicts(desired) != verdicts(held)


def test_whatever_the_held_map_says_later_changes_nothing() -> None:
    held, desired = asking_table(OLD, ACCEPT, VERDICT), asking_table(NEW, DROP, VERDICT)
    between = detour(held, desired, ".7")
    maps = tuple(desired.map["members"] if entry.name == "members" else entry for entry in between.maps)
    later = Table("t", between.chains, maps)
    assert verdicts(later) == verdicts(desired)


def test_what_is_held_besides_stays_for_now() -> None:
    held, desired = asking_table((*OLD, (9, goto("gone"))), ACCEPT, VERDICT), asking_table(NEW, DROP, VERDICT)
    held = Table("t", (*held.chains, Chain("gone", (rule(ACCEPT),))), held.maps)
    between = detour(held, desired, ".7")
    assert between.chain["gone"] is held.chain["gone"]
    assert [chain.name for chain in between.chains] == sorted(chain.name for chain in between.chains)


def test_verdict_that_not_every_asking_rule_has_stands_for_nothing() -> None:
    held, desired = asking_table(OLD, ACCEPT, VERDICT), asking_table(NEW, DROP, VERDICT)
    more = Chain("too", (ASKING, rule(goto("other"))))
    between = detour(held, Table("t", (*desired.chains, more), desired.maps), ".7")
    assert between.map["members.7"].elements == NEW


def group_set_table(
    members: dict[Key, int],
    ranks: dict[Key, int],
    winners: dict[Key, Verdict],
    rest: Verdict = DROP,
    six: dict[Key, int] | None = None,
) -> Table:
    """An address has a number, by which it has a rank, by which a leaf; `rest` is for those that have none."""
    root = (
        rule(SetPriority(0)),
        rule(MapPriority(Field.IP_SADDR, "members")),
        rule(MapPriority(Field.IP6_SADDR, "members6")),
        rule(MapPriority(Field.PACKET_PRIORITY, "ranks")),
        rule(VerdictMap(Field.PACKET_PRIORITY, name="winners")),
        rule(goto("rest")),
    )
    chains = (
        Chain("ingress", root, Hook("prerouting", 0)),
        Chain("leaf", (rule(ACCEPT),)),
        Chain("rest", (rule(rest),)),
    )
    maps = (
        MARKS,
        Map("members", KeyType.IPV4, tuple(members.items()), holds=KeyType.CLASSID),
        Map("members6", KeyType.IPV6, tuple((six or {1: K6}).items()), holds=KeyType.CLASSID),
        Map("ranks", KeyType.CLASSID, tuple(ranks.items()), holds=KeyType.CLASSID),
        Map("winners", KeyType.CLASSID, tuple(winners.items())),
    )
    return Table("t", chains, maps)


K1, K2, K6, R1, R2 = 0x80000001, 0x80000002, 0x80000006, 1, 2
LEAF = goto("leaf")
GROUP_SETS = group_set_table({1: K1}, {K1: R1}, {R1: LEAF})
NONE: tuple[object, ...] = ()


@pytest.mark.parametrize(
    ("desired", "expected"),
    [
        pytest.param(group_set_table({1: K1, 2: K1}, {K1: R1}, {R1: LEAF}), True, id="a-member-joins"),
        pytest.param(group_set_table({1: K1, 2: K2}, {K1: R1, K2: R1}, {R1: LEAF}), True, id="with-a-new-number"),
        pytest.param(group_set_table({2: K2}, {K2: R2}, {R2: LEAF}), True, id="all-numbers-are-others"),
        pytest.param(group_set_table({2: K1}, {K1: R1}, {R1: LEAF}, six={2: K1}), True, id="members-of-both-families"),
        pytest.param(group_set_table({1: K1}, {K1: R1}, {R1: LEAF, R2: LEAF}, ACCEPT), True, id="a-new-rank-and-rules"),
        pytest.param(group_set_table({1: K1}, {K1: R1}, {R1: DROP}), True, id="another-winner"),
        pytest.param(group_set_table({1: K1}, {K1: R2}, {R1: LEAF}), True, id="another-rank"),
        pytest.param(group_set_table({1: K1, 2: K1}, {K1: R1}, {R1: LEAF}, ACCEPT), False, id="a-member-and-rules"),
        pytest.param(group_set_table({2: K1}, {K1: R1}, {R1: DROP}), False, id="a-member-and-another-winner"),
        pytest.param(group_set_table({1: K1}, {K1: R2}, {R2: LEAF}), True, id="another-rank-that-is-new"),
        pytest.param(group_set_table({2: K1}, {}, {R1: LEAF}), False, id="a-member-and-a-number-without-rank"),
        pytest.param(group_set_table({1: K1}, {K1: R1}, {R1: DROP}, ACCEPT), False, id="another-winner-and-rules"),
    ],
)
def test_what_changes_in_one_switch_where_priorities_are_carried(desired: Table, expected: bool) -> None:
    assert can_switch_at_once(GROUP_SETS, desired, may_miss=False) is expected
    assert can_switch_at_once(desired, GROUP_SETS, may_miss=False) is expected


def parts(held: Table, desired: Table, name: str) -> tuple[object, ...]:
    found = edit(held, desired, name)
    return tuple(part.elements for part in (found.early, found.gone, found.come, found.late))


def test_elements_by_priority_come_before_any_packet_has_it_and_go_when_none_can() -> None:
    desired = group_set_table({1: K1, 2: K2}, {K1: R1, K2: R2}, {R1: LEAF, R2: DROP})
    assert parts(GROUP_SETS, desired, "winners") == (((R2, DROP),), NONE, NONE, NONE)
    assert parts(desired, GROUP_SETS, "winners") == (NONE, NONE, NONE, ((R2, DROP),))
    assert parts(GROUP_SETS, desired, "ranks") == (((K2, R2),), NONE, NONE, NONE)
    assert parts(GROUP_SETS, desired, "members") == (NONE, NONE, ((2, K2),), NONE)
    assert parts(desired, GROUP_SETS, "members") == (NONE, ((2, K2),), NONE, NONE)


def test_elements_that_some_packet_may_ask_for_change_with_the_switch() -> None:
    known = group_set_table({1: K1, 3: K2}, {K1: R1}, {R1: LEAF})
    desired = group_set_table({1: K1, 3: K2}, {K1: R1, K2: R1}, {R1: DROP})
    assert parts(known, desired, "ranks") == (NONE, NONE, ((K2, R1),), NONE)
    assert parts(desired, known, "ranks") == (NONE, ((K2, R1),), NONE, NONE)
    assert parts(known, desired, "winners") == (NONE, ((R1, LEAF),), ((R1, DROP),), NONE)


def test_a_priority_that_a_rule_writes_is_one_that_packets_have() -> None:
    writing = (Chain("writes", (rule(SetPriority(K2)),)),)
    held, desired = GROUP_SETS, group_set_table({1: K1, 2: K2}, {K1: R1, K2: R1}, {R1: LEAF})
    held, desired = (Table("t", (*table.chains, *writing), table.maps) for table in (held, desired))
    assert parts(held, desired, "ranks") == (NONE, NONE, ((K2, R1),), NONE)


def test_members_under_another_name_are_asked_last_and_hold_only_what_differs() -> None:
    held = group_set_table({1: K1, 2: K2, 3: K1}, {K1: R1, K2: R2}, {R1: LEAF, R2: LEAF})
    desired = group_set_table({1: K1, 3: K2, 4: K1}, {K1: R1, K2: R2}, {R1: LEAF, R2: LEAF}, ACCEPT)
    between = detour(held, desired, ".7")
    assert can_switch_at_once(held, between, may_miss=False)
    assert between.elements_of("members.7") == {2: 0, 3: K2, 4: K1}
    assert between.map["members"] is held.map["members"]
    asked = [rule(MapPriority(Field.IP_SADDR, name)) for name in ("members", "members.7")]
    wanted = desired.chain["ingress"].rules
    assert between.chain["ingress"].rules == (wanted[0], *asked, *wanted[2:])


def test_members_that_are_asked_without_a_certain_priority_are_made_twice() -> None:
    held = group_set_table({1: K1, 2: K2}, {K1: R1, K2: R2}, {R1: LEAF})
    desired = group_set_table({1: K1}, {K1: R1, K2: R2}, {R1: LEAF}, ACCEPT)
    desired = Table("t", (Chain("ingress", desired.chain["ingress"].rules[1:]), *desired.chains[1:]), desired.maps)
    between = detour(held, desired, ".7")
    assert between.elements_of("members.7") == {1: K1}
    assert between.chain["ingress"].ways.maps == ("members.7", "members6", "ranks", "winners")


def test_maps_by_priority_hold_the_elements_of_both_tables_on_the_way() -> None:
    held = group_set_table({1: K1}, {K1: R1}, {R1: LEAF})
    desired = group_set_table({1: K2}, {K2: R2}, {R2: LEAF}, ACCEPT)
    between = detour(held, desired, ".7")
    assert between.elements_of("ranks") == {K1: R1, K2: R2}
    assert between.elements_of("winners") == {R1: LEAF, R2: LEAF}


def test_a_copy_asks_copied_maps_for_priorities() -> None:
    copy = copy_table(GROUP_SETS, ".9")
    assert copy.chain["ingress"].ways.maps == ("members.9", "members6.9", "ranks.9", "winners.9")
    assert copy.elements_of("ranks.9") == {K1: R1}
