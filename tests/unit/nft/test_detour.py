"""The table between two that differ in rules and elements: it does what the second does, with the first one's maps."""

from __future__ import annotations

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType, Nfproto
from sgdataplane.nft.detour import detour
from sgdataplane.nft.inflight import can_switch_at_once
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import ACCEPT, DROP, Chain, Key, Map, Match, Range, Rule, Table, Verdict, VerdictMap, goto, rule

OLD: tuple[tuple[Key, Verdict], ...] = tuple((key, goto("kin")) for key in range(1, 9))
NEW: tuple[tuple[Key, Verdict], ...] = ((1, goto("other")), *OLD[2:], (20, goto("kin")))  # 1 turned, 2 gone, 20 new
DIFFERENT: tuple[tuple[Key, Verdict], ...] = ((1, goto("other")), (20, goto("kin")), (2, goto("others")))
ASKING = rule(VerdictMap(Field.IP_SADDR, name="members"))


def table(members: tuple[tuple[Key, Verdict], ...], kin: Verdict, rest: tuple[Rule, ...]) -> Table:
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
    held, desired = table(OLD, ACCEPT, rest), table(NEW, DROP, rest)
    assert not can_switch_at_once(held, desired)
    between = detour(held, desired, ".7")
    assert can_switch_at_once(held, between)
    assert between.map["members"] is held.map["members"]
    assert between.map["members.7"].elements == asked
    first = rule(VerdictMap(Field.IP_SADDR, name="members.7"))
    assert between.chain["far"].rules == (first, *((ASKING,) if asked is not NEW else ()), *rest)
    assert verdicts(between) == verdicts(desired) != verdicts(held)


def test_whatever_the_held_map_says_later_changes_nothing() -> None:
    held, desired = table(OLD, ACCEPT, VERDICT), table(NEW, DROP, VERDICT)
    between = detour(held, desired, ".7")
    maps = tuple(desired.map["members"] if entry.name == "members" else entry for entry in between.maps)
    later = Table("t", between.chains, maps)
    assert verdicts(later) == verdicts(desired)


def test_what_is_held_besides_stays_for_now() -> None:
    held, desired = table((*OLD, (9, goto("gone"))), ACCEPT, VERDICT), table(NEW, DROP, VERDICT)
    held = Table("t", (*held.chains, Chain("gone", (rule(ACCEPT),))), held.maps)
    between = detour(held, desired, ".7")
    assert between.chain["gone"] is held.chain["gone"]
    assert [chain.name for chain in between.chains] == sorted(chain.name for chain in between.chains)


def test_verdict_that_not_every_asking_rule_has_stands_for_nothing() -> None:
    held, desired = table(OLD, ACCEPT, VERDICT), table(NEW, DROP, VERDICT)
    more = Chain("too", (ASKING, rule(goto("other"))))
    between = detour(held, Table("t", (*desired.chains, more), desired.maps), ".7")
    assert between.map["members.7"].elements == NEW
