"""A limit of which nine tenths are used is a finding, one of which less is used isn't."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.model.state import (
    CloudState,
    Eni,
    GroupRef,
    GroupType,
    PrefixList,
    SecurityGroup,
    SecurityGroupRule,
    Vpc,
)
from sgdataplane.net.values import ALL, Address, Direction, Family, Prefix
from sgdataplane.statefile import near_quotas

RULE = SecurityGroupRule("sgr-0", Direction.INGRESS, ALL, Prefix.parse("192.0.2.0/24"))
TO_GROUP = replace(RULE, remote=GroupRef("sg-b"))


def state_of(*, rules: int = 0, to_groups: int = 0, members: int = 1, groups: int = 1, lists: int = 0) -> CloudState:
    """sg-0 has the rules, half of its ENI's; and the members."""
    made = tuple(replace(RULE, security_group_rule_id=f"sgr-{n}") for n in range(rules - to_groups))
    made += tuple(replace(TO_GROUP, security_group_rule_id=f"to-{n}") for n in range(to_groups))
    all_groups = [SecurityGroup(f"sg-{n}", "vpc-a", rules=made if n == 0 else ()) for n in range(groups)]
    addresses = tuple(Address(32, 0x0A000000 + n) for n in range(members))
    eni = Eni("eni-a", "vpc-a", "", addresses, tuple(group.security_group_id for group in all_groups))
    prefix_lists = tuple(PrefixList(f"pl-{n:03}", Family.IPV4, 5) for n in range(lists))
    return CloudState((Vpc("vpc-a"),), prefix_lists, (), tuple(all_groups), (), (eni,))


@pytest.mark.parametrize(
    ("state", "profile", "found"),
    [
        (state_of(rules=179), "seed", []),
        (state_of(rules=180), "seed", ["info: 180 of 200 rules (profile seed)"]),
        (state_of(rules=200), "seed", ["warning: 200 of 200 rules (profile seed)"]),
        (state_of(rules=200), "2026", []),
        (state_of(rules=900), "2026", ["info: 900 of 1000 rules over all groups (profile 2026)"]),
        (state_of(rules=20, to_groups=18), "seed", ["info: 18 of 20 rules with a group as remote (profile seed)"]),
        (state_of(members=1800), "seed", ["info: 1800 of 2000 members (profile seed)"]),
        (state_of(members=1800), "2026", []),
        (state_of(groups=4), "seed", []),
        (state_of(groups=5), "seed", ["warning: 5 of 5 groups (profile seed)"]),
        (state_of(lists=90), "seed", ["info: 90 of 100 prefix lists (profile seed)"]),
        (state_of(rules=900, members=1800, groups=5, lists=90), "unlimited", []),
    ],
)
def test_what_is_nearly_used_up_is_said(state: CloudState, profile: str, found: list[str]) -> None:
    assert [f"{f.severity.value}: {f.message}" for f in near_quotas(state, profile)] == found


def test_an_advanced_group_may_have_more_members() -> None:
    state = state_of(members=1800)
    groups = tuple(replace(group, security_group_type=GroupType.ENTERPRISE) for group in state.security_groups)
    assert near_quotas(replace(state, security_groups=groups), "seed") == ()


def test_of_enis_with_the_same_groups_one_is_named() -> None:
    state = state_of(groups=5)
    enis = tuple(replace(state.network_interfaces[0], network_interface_id=f"eni-{n}") for n in range(3))
    (finding,) = near_quotas(replace(state, network_interfaces=enis), "seed")
    assert finding.subject == (("network_interface_id", "eni-0"),)
