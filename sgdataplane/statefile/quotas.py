"""Quotas: how much of everything one account may have. More is refused, and nearly as much is a finding.

Owns the profiles of semantics.md, section 5, and how each use is counted. Is given drafts or a checked state. Must not
know formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from sgdataplane.model.state import (
    CloudState,
    Eni,
    GroupRef,
    GroupType,
    NetworkType,
    NicType,
    PortList,
    PrefixList,
    PrefixListRef,
    SecurityGroup,
    SecurityGroupRule,
)
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.sections import Drafts, Index


@dataclass(frozen=True, slots=True)
class Quotas:
    """The limits of one profile; None is no limit.

    A member is a private address: primary, secondary or IPv6. A delegated prefix counts as one.
    """

    groups_per_eni: int | None = None
    rules_per_group: int | None = None
    rules_per_eni: int | None = None  # over all groups of an ENI
    group_remotes: int | None = None  # rules with a group as remote, in a basic group
    members_basic: int | None = None  # in a basic group
    members_classic: int | None = None  # in a group of the classic network
    members_advanced: int | None = None  # in an advanced group
    prefix_lists: int | None = None  # prefix lists of the account
    entries_per_list: int | None = None

    def members(self, kind: GroupType, *, is_classic: bool) -> int | None:
        """Return how many members one group of that type may have; None is no limit."""
        if kind is GroupType.ENTERPRISE:
            return self.members_advanced
        return self.members_classic if is_classic else self.members_basic


SEED = Quotas(
    groups_per_eni=5,
    rules_per_group=200,
    rules_per_eni=1000,
    group_remotes=20,
    members_basic=2000,
    members_classic=1000,
    members_advanced=65536,
    prefix_lists=100,
    entries_per_list=200,
)
PROFILES = {
    "seed": SEED,
    "2026": replace(SEED, groups_per_eni=10, rules_per_group=None, members_basic=6000),
    "unlimited": Quotas(),
}
NEAR = 0.9  # a use of this part of a limit or more is reported


class Lists(Protocol):
    """Where the lists of a state are found by id."""

    @property
    def prefix_list(self) -> dict[str, PrefixList]:
        """The prefix lists by id."""

    @property
    def port_list(self) -> dict[str, PortList]:
        """The port lists by id."""


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a limit is used."""

    limit: int | None
    """None is no limit."""
    actual: int
    what: str
    """What is counted, in the plural."""
    code: str
    """The cloud's own code for passing the limit."""
    field: str = ""
    """The field that says so in the input; "" for the whole object."""


def uses_of_group(group: SecurityGroup, limits: Quotas, cost: int, members: int, *, is_classic: bool) -> Iterator[Use]:
    """Yield what a group uses: rules, rules with a group as remote, and members.

    `cost` is how many rules its rules count as.
    """
    yield Use(limits.rules_per_group, cost, "rules in the group", "AuthorizationLimitExceed", "rules")
    kind, member_code = group.security_group_type, "InvalidOperation.EniCountExceeded"
    if kind is GroupType.NORMAL:
        remotes, code = (
            sum(isinstance(rule.remote, GroupRef) for rule in group.rules),
            "AuthorizedGroupRule.LimitExceed",
        )
        yield Use(limits.group_remotes, remotes, "rules with a group as remote", code, "rules")
        member_code = "SecurityGroupInstanceLimitExceed"
    yield Use(limits.members(kind, is_classic=is_classic), members, "members in the group", member_code)


def uses_of_eni(eni: Eni, limits: Quotas, costs: Mapping[str, int]) -> Iterator[Use]:
    """Yield what an ENI uses: groups, and rules over all of them."""
    groups, field = eni.security_group_ids, "security_group_ids"
    yield Use(limits.groups_per_eni, len(groups), "groups on the ENI", "InstanceSecurityGroupLimitExceeded", field)
    total = sum(costs.get(group_id, 0) for group_id in groups)
    yield Use(limits.rules_per_eni, total, "rules on the ENI, over all its groups", "AclLimitExceed", field)


def uses_of_lists(count: int, limits: Quotas) -> Iterator[Use]:
    """Yield what an account uses of prefix lists."""
    yield Use(limits.prefix_lists, count, "prefix lists", "LimitExceed.PrefixList")


def check_quotas(drafts: Drafts, index: Index, profile: str) -> None:
    """Note every limit of the profile that is passed."""
    limits, lists = PROFILES[profile], drafts.prefix_lists

    def check(uses: Iterable[Use], fields: Fields) -> None:
        refuse(excessive(uses), fields)

    def refuse(uses: Iterable[Use], fields: Fields) -> None:
        for use in uses:
            expected = f"at most {use.limit} (profile {profile})"
            index.refuse(fields.where(use.field), use.code, f"too many {use.what}", str(use.actual), expected)

    if limits.prefix_lists is not None and len(lists) > limits.prefix_lists:
        check(uses_of_lists(len(lists), limits), lists[limits.prefix_lists].fields)
    what, code = "entries in a prefix list", "InvalidMaxEntries.Malformed"
    for entry in lists:
        check([Use(limits.entries_per_list, entry.record.max_entries, what, code, "max_entries")], entry.fields)
    members = count_members(draft.record for draft in drafts.network_interfaces)
    costs = group_costs((draft.record for draft in drafts.security_groups), index)
    for group in drafts.security_groups:
        group_id, is_classic = group.record.security_group_id, index.is_classic(group.record.vpc_id)
        counts = costs[group_id], members.get(group_id, 0)
        check(uses_of_group(group.record, limits, *counts, is_classic=is_classic), group.fields)
    of_groups: dict[tuple[str, ...], tuple[Use, ...]] = {}
    for draft in drafts.network_interfaces:
        groups = draft.record.security_group_ids
        if groups not in of_groups:
            of_groups[groups] = excessive(uses_of_eni(draft.record, limits, costs))
        refuse(of_groups[groups], draft.fields)


def excessive(uses: Iterable[Use]) -> tuple[Use, ...]:
    """Return the uses that pass their limit."""
    return tuple(use for use in uses if use.limit is not None and use.actual > use.limit)


def near_quotas(state: CloudState, profile: str) -> tuple[Finding, ...]:
    """Return a finding for each limit of the profile of which at least nine tenths are used.

    If several ENIs have the same groups, the first one is named. A list's size is fixed when it is made, so only the
    number of lists counts.
    """
    limits, found = PROFILES[profile], list[Finding]()

    def look(uses: Iterable[Use], **about: str) -> None:
        for use in uses:
            if use.limit is not None and use.actual >= NEAR * use.limit:
                severity = Severity.WARNING if use.actual == use.limit else Severity.INFO
                message = f"{use.actual} of {use.limit} {use.what} (profile {profile})"
                found.append(Finding("NearQuota", severity, message, subject(**about)))

    look(uses_of_lists(len(state.prefix_lists), limits))
    members, costs = count_members(state.network_interfaces), group_costs(state.security_groups, state)
    for group in state.security_groups:
        group_id, is_classic = group.security_group_id, state.vpc[group.vpc_id].network_type is NetworkType.CLASSIC
        counts = costs[group_id], members.get(group_id, 0)
        look(uses_of_group(group, limits, *counts, is_classic=is_classic), security_group_id=group_id)
    first: dict[tuple[str, ...], Eni] = {}
    for eni in state.network_interfaces:
        first.setdefault(eni.security_group_ids, eni)
    for eni in first.values():
        look(uses_of_eni(eni, limits, costs), network_interface_id=eni.network_interface_id)
    return tuple(found)


def group_costs(groups: Iterable[SecurityGroup], lists: Lists) -> dict[str, int]:
    """Return how many rules each group's rules count as."""
    return {group.security_group_id: sum(rule_cost(rule, lists) for rule in group.rules) for group in groups}


def rule_cost(rule: SecurityGroupRule, lists: Lists) -> int:
    """Return how many rules a rule counts as: one for every entry that its list may come to hold.

    With both lists, it counts once for every pair (CHOSEN).
    """
    cost = 1
    if isinstance(rule.remote, PrefixListRef) and rule.remote.prefix_list_id in lists.prefix_list:
        cost *= lists.prefix_list[rule.remote.prefix_list_id].max_entries
    if rule.port_list_id in lists.port_list:
        cost *= lists.port_list[rule.port_list_id].max_entries
    return cost


def count_members(enis: Iterable[Eni]) -> dict[str, int]:
    """Count the private addresses in each group; the address of an internet interface isn't private."""
    members: dict[str, int] = {}
    for eni in enis:
        if eni.nic_type is NicType.INTRANET:
            count = len(eni.addresses) + len(eni.delegated_prefixes)
            for group_id in eni.security_group_ids:
                members[group_id] = members.get(group_id, 0) + count
    return members
