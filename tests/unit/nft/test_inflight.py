"""Which changes one switch can make; the model behind it is tested in property/test_update_keeps_packets.py."""

from __future__ import annotations

import pytest

from sgdataplane.contract.fields import Field, Hook, KeyType
from sgdataplane.errors import InternalError
from sgdataplane.nft.inflight import can_switch_at_once, check_in_place, copied
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    Chain,
    Key,
    Map,
    Match,
    Range,
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
