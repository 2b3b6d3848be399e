"""Quotas: how much of everything one account may have, as data.

Owns the profiles of semantics.md section 5 and the checks against them. Is given drafts. Must not know formats.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from sgdataplane.errors import Where
from sgdataplane.model.state import (
    Eni,
    GroupRef,
    GroupType,
    NicType,
    PortList,
    PrefixList,
    PrefixListRef,
    SecurityGroupRule,
)
from sgdataplane.statefile.index import Index
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Draft, Drafts, GroupDraft


@dataclass(frozen=True, slots=True)
class Quotas:
    """None is no limit. A member is a private address: primary, secondary, IPv6, or a delegated prefix as one."""

    groups_per_eni: int | None = None
    rules_per_group: int | None = None
    rules_per_eni: int | None = None
    group_remotes: int | None = None  # rules with a group remote, per basic group
    members_basic: int | None = None
    members_classic: int | None = None
    members_advanced: int | None = None
    prefix_lists: int | None = None
    entries_per_list: int | None = None

    def members(self, kind: GroupType, *, is_classic: bool) -> int | None:
        """Of one group."""
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


class Lists(Protocol):
    """Where the lists of a state are found by id."""

    @property
    def prefix_list(self) -> dict[str, PrefixList]: ...

    @property
    def port_list(self) -> dict[str, PortList]: ...


class QuotaCheck:
    """One profile's limits, and where to note that one is passed."""

    def __init__(self, profile: str, index: Index, problems: Problems) -> None:
        self.profile = profile
        self.limits = PROFILES[profile]
        self.index = index
        self.problems = problems

    def at_most(self, limit: int | None, actual: int, where: Where, code: str, what: str) -> None:
        if limit is not None and actual > limit:
            expected = f"at most {limit} (profile {self.profile})"
            self.problems.add(where, code, f"too many {what}", value=actual, expected=expected)

    def check_prefix_lists(self, drafts: Drafts) -> None:
        lists, most = drafts.prefix_lists, self.limits.prefix_lists
        if most is not None and len(lists) > most:
            where = lists[most].fields.where()
            self.at_most(most, len(lists), where, "LimitExceed.PrefixList", "prefix lists")
        for draft in lists:
            where, most = draft.fields.where("max_entries"), self.limits.entries_per_list
            what = "entries in a prefix list"
            self.at_most(most, draft.record.max_entries, where, "InvalidMaxEntries.Malformed", what)

    def check_group(self, group: GroupDraft, members: int, cost: int) -> None:
        where, limits = group.fields.where("rules"), self.limits
        self.at_most(limits.rules_per_group, cost, where, "AuthorizationLimitExceed", "rules in the group")
        if group.record.security_group_type is GroupType.NORMAL:
            remotes = sum(isinstance(rule.remote, GroupRef) for rule in group.record.rules)
            what = "rules with a group as remote"
            self.at_most(limits.group_remotes, remotes, where, "AuthorizedGroupRule.LimitExceed", what)
        is_advanced = group.record.security_group_type is GroupType.ENTERPRISE
        code = "InvalidOperation.EniCountExceeded" if is_advanced else "SecurityGroupInstanceLimitExceed"
        limit = limits.members(group.record.security_group_type, is_classic=self.index.is_classic(group.record.vpc_id))
        self.at_most(limit, members, group.fields.where(), code, "members in the group")

    def check_eni(self, draft: Draft[Eni], costs: dict[str, int]) -> None:
        groups, where = draft.record.security_group_ids, draft.fields.where("security_group_ids")
        code = "InstanceSecurityGroupLimitExceeded"
        self.at_most(self.limits.groups_per_eni, len(groups), where, code, "groups on the ENI")
        total = sum(costs.get(group_id, 0) for group_id in groups)
        what = "rules on the ENI, over all its groups"
        self.at_most(self.limits.rules_per_eni, total, where, "AclLimitExceed", what)


def check_quotas(drafts: Drafts, index: Index, profile: str, problems: Problems) -> None:
    """Note every limit of the profile that is passed."""
    check = QuotaCheck(profile, index, problems)
    check.check_prefix_lists(drafts)
    members = count_members(draft.record for draft in drafts.network_interfaces)
    costs = {group.record.security_group_id: group_cost(group.record.rules, index) for group in drafts.security_groups}
    for group in drafts.security_groups:
        group_id = group.record.security_group_id
        check.check_group(group, members.get(group_id, 0), costs[group_id])
    for draft in drafts.network_interfaces:
        check.check_eni(draft, costs)


def group_cost(rules: Iterable[SecurityGroupRule], index: Lists) -> int:
    return sum(rule_cost(rule, index) for rule in rules)


def rule_cost(rule: SecurityGroupRule, index: Lists) -> int:
    """A rule counts once for every entry that its lists may come to hold; on both lists, for every pair (CHOSEN)."""
    cost = 1
    if isinstance(rule.remote, PrefixListRef) and rule.remote.prefix_list_id in index.prefix_list:
        cost *= index.prefix_list[rule.remote.prefix_list_id].max_entries
    if rule.port_list_id in index.port_list:
        cost *= index.port_list[rule.port_list_id].max_entries
    return cost


def count_members(enis: Iterable[Eni]) -> dict[str, int]:
    """Private addresses per group; the address of an internet interface isn't private."""
    members: dict[str, int] = {}
    for eni in enis:
        if eni.nic_type is NicType.INTRANET:
            count = len(eni.addresses) + len(eni.delegated_prefixes)
            for group_id in eni.security_group_ids:
                members[group_id] = members.get(group_id, 0) + count
    return members
