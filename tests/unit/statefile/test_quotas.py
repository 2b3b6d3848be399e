"""Quotas of each profile: the limit itself is accepted, one more is refused with its place, and from nine tenths of a
limit on its use is a finding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

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
from tests.unit.statefile.documents import refusals

TOP = "vpcs: [{vpc_id: v, cidr_blocks: [10.0.0.0/8]}, {vpc_id: old, network_type: classic}]\n"


def groups(count: int, more: str = "") -> str:
    entries = "".join(f"  - {{security_group_id: g{number}, vpc_id: v{more}}}\n" for number in range(count))
    return f"{TOP}security_groups:\n{entries}"


def ports(count: int, first: int = 1) -> str:
    rule = "      - {{type: ingress, ip_protocol: tcp, port_range: {0}/{0}, cidr_ip: 10.0.0.0/8}}\n"
    return "".join(rule.format(port) for port in range(first, first + count))


def eni(group_ids: str, addresses: str = "10.0.0.1", more: str = "vpc_id: v") -> str:
    own = f"network_interface_id: e, {more}, private_ip_addresses: [{addresses}]"
    return f"network_interfaces:\n  - {{{own}, security_group_ids: [{group_ids}]}}\n"


def addresses(count: int) -> str:
    return ", ".join(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(1, count + 1))


def groups_on_eni(count: int) -> str:
    return groups(count) + eni(", ".join(f"g{number}" for number in range(count)))


def rules_in_group(count: int) -> str:
    return f"{TOP}security_groups:\n  - security_group_id: g\n    vpc_id: v\n    rules:\n{ports(count)}"


def rules_on_eni(count: int) -> str:
    """Spread over five groups, so that none passes its own limit."""
    share = [count // 5 + (number < count % 5) for number in range(5)]
    body = "".join(
        f"  - security_group_id: g{number}\n    vpc_id: v\n    rules:\n{ports(size, 1 + 1000 * number)}"
        for number, size in enumerate(share)
    )
    return f"{TOP}security_groups:\n{body}" + eni("g0, g1, g2, g3, g4")


def group_remotes(count: int) -> str:
    rule = "      - {{type: ingress, ip_protocol: tcp, port_range: {0}/{0}, source_security_group_id: g0}}\n"
    rules = "".join(rule.format(port) for port in range(1, count + 1))
    return f"{groups(1)}  - security_group_id: g\n    vpc_id: v\n    rules:\n{rules}"


def members(count: int) -> str:
    """One ENI holds them all; the last is a delegated prefix, which counts as one."""
    more = "vpc_id: v, ipv4_prefixes: [10.200.0.0/28]"
    return groups(1) + eni("g0", addresses(count - 1), more)


def classic_members(count: int) -> str:
    return f"{TOP}security_groups:\n  - {{security_group_id: g0, vpc_id: old}}\n" + eni(
        "g0", addresses(count), "vpc_id: old"
    )


def advanced_members(count: int) -> str:
    return groups(1, ", security_group_type: enterprise") + eni("g0", addresses(count))


def prefix_lists(count: int) -> str:
    entry = "  - {{prefix_list_id: pl{0}, address_family: IPv4, max_entries: 1}}\n"
    return "prefix_lists:\n" + "".join(entry.format(number) for number in range(count))


def entries_in_list(count: int) -> str:
    return f"prefix_lists:\n  - {{prefix_list_id: pl, address_family: IPv4, max_entries: {count}}}\n"


def lists_in_rules(cost: int) -> str:
    """A rule costs as much as its list may come to hold; with two lists it costs the product."""
    rest = cost - 150
    lists = (
        "prefix_lists: [{prefix_list_id: pl, address_family: IPv4, max_entries: 15}]\n"
        "port_lists: [{port_list_id: prl, max_entries: 10}]\n"
    )
    rule = "      - {type: ingress, ip_protocol: tcp, port_list_id: prl, prefix_list_id: pl}\n"
    return f"{TOP}{lists}security_groups:\n  - security_group_id: g\n    vpc_id: v\n    rules:\n{rule}{ports(rest)}"


@dataclass(frozen=True)
class Row:
    """`make(most)` is accepted, `make(most + 1)` is refused at `pointer`. None: the profile has no such limit."""

    name: str
    profile: str
    make: object
    most: int | None
    code: str
    pointer: str
    what: str


ROWS = tuple(
    Row(f"{name}, {profile}", profile, make, most, code, pointer, what)
    for name, make, limits, code, pointer, what in (
        ("groups per ENI", groups_on_eni, (5, 10), "InstanceSecurityGroupLimitExceeded",
         "/network_interfaces/0/security_group_ids", "too many groups on the ENI"),
        ("rules per group", rules_in_group, (200, None), "AuthorizationLimitExceed", "/security_groups/0/rules",
         "too many rules in the group"),
        ("rules per group, lists among them", lists_in_rules, (200, None), "AuthorizationLimitExceed",
         "/security_groups/0/rules", "too many rules in the group"),
        ("rules per ENI", rules_on_eni, (1000, 1000), "AclLimitExceed", "/network_interfaces/0/security_group_ids",
         "too many rules on the ENI, over all its groups"),
        ("rules with a group as remote", group_remotes, (20, 20), "AuthorizedGroupRule.LimitExceed",
         "/security_groups/1/rules", "too many rules with a group as remote"),
        ("members of a basic group", members, (2000, 6000), "SecurityGroupInstanceLimitExceed", "/security_groups/0",
         "too many members in the group"),
        ("members of a classic group", classic_members, (1000, 1000), "SecurityGroupInstanceLimitExceed",
         "/security_groups/0", "too many members in the group"),
        ("members of an advanced group", advanced_members, (65536, 65536), "InvalidOperation.EniCountExceeded",
         "/security_groups/0", "too many members in the group"),
        ("prefix lists", prefix_lists, (100, 100), "LimitExceed.PrefixList", "/prefix_lists/100",
         "too many prefix lists"),
        ("entries of a prefix list", entries_in_list, (200, 200), "InvalidMaxEntries.Malformed",
         "/prefix_lists/0/max_entries", "too many entries in a prefix list"),
    )
    for profile, most in zip(("seed", "2026"), limits, strict=True)
)  # fmt: skip


# Both profiles have the same limit here, and a state that reaches it takes seconds to read.
LARGE = ("members of an advanced group, 2026",)
LIMITED = [pytest.param(row, marks=[pytest.mark.slow] if row.name in LARGE else []) for row in ROWS if row.most]


def text_of(row: Row, count: int) -> str:
    assert callable(row.make)
    return str(row.make(count))


@pytest.mark.parametrize("row", LIMITED, ids=lambda row: row.name)
def test_a_limit_may_be_reached_but_not_passed(row: Row, tmp_path: Path) -> None:
    assert row.most is not None
    assert codes(row, row.most, tmp_path) == []
    found = refusals(tmp_path, text_of(row, row.most + 1), profile=row.profile)
    problem = next(problem for problem in found if problem.code == row.code)
    assert (problem.where.pointer, problem.message) == (row.pointer, row.what)
    assert problem.where.line > 0
    assert (problem.value, problem.expected) == (str(row.most + 1), f"at most {row.most} (profile {row.profile})")


@pytest.mark.parametrize("row", [row for row in ROWS if not row.most], ids=lambda row: row.name)
def test_a_profile_without_a_limit_has_none(row: Row, tmp_path: Path) -> None:
    assert codes(row, 900, tmp_path) == []


def codes(row: Row, count: int, folder: Path) -> list[str]:
    return [problem.code for problem in refusals(folder, text_of(row, count), profile=row.profile)]


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.profile == "seed" and row.make is not advanced_members], ids=lambda row: row.name
)
def test_unlimited_switches_every_quota_off(row: Row, tmp_path: Path) -> None:
    assert row.most is not None
    assert refusals(tmp_path, text_of(row, row.most + 1), profile="unlimited") == ()


@pytest.mark.slow
def test_unlimited_switches_the_largest_quota_off(tmp_path: Path) -> None:
    assert refusals(tmp_path, advanced_members(65_537), profile="unlimited") == ()


def test_the_address_of_an_internet_interface_is_no_member(tmp_path: Path) -> None:
    text = classic_members(1000) + (
        "  - {network_interface_id: f, vpc_id: old, nic_type: internet, private_ip_addresses: [198.51.100.1],"
        " security_group_ids: [g0]}\n"
    )
    assert refusals(tmp_path, text) == ()


RULE = SecurityGroupRule("sgr-0", Direction.INGRESS, ALL, Prefix.parse("192.0.2.0/24"))
TO_GROUP = replace(RULE, remote=GroupRef("sg-b"))


def state_of(*, rules: int = 0, to_groups: int = 0, members: int = 1, groups: int = 1, lists: int = 0) -> CloudState:
    """A state with one ENI; sg-0 has the rules and the members."""
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
        (state_of(rules=180), "seed", ["info: 180 of 200 rules in the group (profile seed)"]),
        (state_of(rules=200), "seed", ["warning: 200 of 200 rules in the group (profile seed)"]),
        (state_of(rules=200), "2026", []),
        (state_of(rules=900), "2026", ["info: 900 of 1000 rules on the ENI, over all its groups (profile 2026)"]),
        (state_of(rules=20, to_groups=18), "seed", ["info: 18 of 20 rules with a group as remote (profile seed)"]),
        (state_of(members=1800), "seed", ["info: 1800 of 2000 members in the group (profile seed)"]),
        (state_of(members=1800), "2026", []),
        (state_of(groups=4), "seed", []),
        (state_of(groups=5), "seed", ["warning: 5 of 5 groups on the ENI (profile seed)"]),
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


def test_only_the_first_of_several_enis_with_the_same_groups_is_named() -> None:
    state = state_of(groups=5)
    enis = tuple(replace(state.network_interfaces[0], network_interface_id=f"eni-{n}") for n in range(3))
    (finding,) = near_quotas(replace(state, network_interfaces=enis), "seed")
    assert finding.subject == (("network_interface_id", "eni-0"),)
