"""Which changes one commit can make so that no packet is judged by half of them, and the intermediate tables where it
can't."""

from __future__ import annotations

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType, Nfproto
from sgdataplane.errors import InternalError
from sgdataplane.nft.inflight import can_switch_at_once, check_in_place, copied, detour
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    Chain,
    Key,
    Map,
    Match,
    Range,
    Rule,
    SetMark,
    Table,
    Verdict,
    VerdictMap,
    goto,
    rule,
)

MARKS = Map("applied", KeyType.MARK, ((0, 1),), holds_marks=True)


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
    assert can_switch_at_once(table(), desired) is expected
    assert can_switch_at_once(desired, table()) is expected


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
    before, copy = table(), copied(table(), ".9")
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


def asking_table(members: tuple[tuple[Key, Verdict], ...], kin: Verdict, rest: tuple[Rule, ...]) -> Table:
    chains = (
        Chain("far", (ASKING, *rest)),
        Chain("ingress", (rule(VerdictMap(Field.IIFNAME, name="enis")), rule(DROP)), Hook("prerouting", 0)),
        Chain("kin", (rule(kin),)),
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
    assert not can_switch_at_once(held, desired)
    between = detour(held, desired, ".7")
    assert can_switch_at_once(held, between)
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
