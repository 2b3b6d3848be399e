"""Quotas: how much of everything one account may have. More is refused, and nearly as much is a finding.

Owns the profiles of semantics.md section 5, and what counts how. Is given drafts or a checked state. Must not know
formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from sgdataplane.errors import Where
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
from sgdataplane.statefile.sections import Draft, Drafts, GroupDraft, Index


@dataclass(frozen=True, slots=True)
class Quotas:
    """The limits of one profile; None is no limit. A member is a private address: primary, secondary or IPv6; a
    delegated prefix counts as one."""

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
        """How many members one group may have."""
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
NEAR = 0.9  # the part of a limit from which its use is reported


class Lists(Protocol):
    """Where the lists of a state are found by id."""

    @property
    def prefix_list(self) -> dict[str, PrefixList]: ...

    @property
    def port_list(self) -> dict[str, PortList]: ...


class QuotaCheck:
    """One profile's limits, and where to note that one is passed."""

    def __init__(self, profile: str, index: Index) -> None:
        self.profile = profile
        self.limits = PROFILES[profile]
        self.index = index

    def at_most(self, limit: int | None, actual: int, where: Where, code: str, what: str) -> None:
        if limit is not None and actual > limit:
            self.index.refuse(
                where, code, f"too many {what}", str(actual), f"at most {limit} (profile {self.profile})"
            )  # fmt: skip

    def check_prefix_lists(self, lists: list[Draft[PrefixList]]) -> None:
        most = self.limits.prefix_lists
        if most is not None and len(lists) > most:
            self.at_most(most, len(lists), lists[most].fields.where(), "LimitExceed.PrefixList", "prefix lists")
        most, code, what = self.limits.entries_per_list, "InvalidMaxEntries.Malformed", "entries in a prefix list"
        for draft in lists:
            self.at_most(most, draft.record.max_entries, draft.fields.where("max_entries"), code, what)

    def check_group(self, group: GroupDraft, members: int, cost: int) -> None:
        where, limits, record = group.fields.where("rules"), self.limits, group.record
        self.at_most(limits.rules_per_group, cost, where, "AuthorizationLimitExceed", "rules in the group")
        is_advanced = record.security_group_type is GroupType.ENTERPRISE
        if not is_advanced:
            remotes, what = count_group_remotes(record), "rules with a group as remote"
            self.at_most(limits.group_remotes, remotes, where, "AuthorizedGroupRule.LimitExceed", what)
        code = "InvalidOperation.EniCountExceeded" if is_advanced else "SecurityGroupInstanceLimitExceed"
        limit = limits.members(record.security_group_type, is_classic=self.index.is_classic(record.vpc_id))
        self.at_most(limit, members, group.fields.where(), code, "members in the group")

    def check_eni(self, draft: Draft[Eni], costs: dict[str, int]) -> None:
        groups, where = draft.record.security_group_ids, draft.fields.where("security_group_ids")
        code = "InstanceSecurityGroupLimitExceeded"
        self.at_most(self.limits.groups_per_eni, len(groups), where, code, "groups on the ENI")
        total = sum(costs.get(group_id, 0) for group_id in groups)
        what = "rules on the ENI, over all its groups"
        self.at_most(self.limits.rules_per_eni, total, where, "AclLimitExceed", what)


def check_quotas(drafts: Drafts, index: Index, profile: str) -> None:
    """Note every limit of the profile that is passed."""
    check = QuotaCheck(profile, index)
    check.check_prefix_lists(drafts.prefix_lists)
    members = count_members(draft.record for draft in drafts.network_interfaces)
    costs = {group.record.security_group_id: group_cost(group.record, index) for group in drafts.security_groups}
    for group in drafts.security_groups:
        group_id = group.record.security_group_id
        check.check_group(group, members.get(group_id, 0), costs[group_id])
    for draft in drafts.network_interfaces:
        check.check_eni(draft, costs)


def near_quotas(state: CloudState, profile: str) -> tuple[Finding, ...]:
    """A finding for each limit of the profile of which at least nine tenths are used. Of several ENIs with the same
    groups, the first is named."""
    near = _Near(state, profile)
    first: dict[tuple[str, ...], Eni] = {}
    for eni in state.network_interfaces:
        first.setdefault(eni.security_group_ids, eni)
    return (*near.of_lists(), *near.of_groups(), *(f for eni in first.values() for f in near.of_eni(eni)))


class _Near:
    def __init__(self, state: CloudState, profile: str) -> None:
        self._state, self._profile, self._limits = state, profile, PROFILES[profile]
        self._costs = {group.security_group_id: group_cost(group, state) for group in state.security_groups}

    def of_lists(self) -> Iterator[Finding]:
        """A list's size is fixed when it is made, so only the number of lists can grow."""
        yield from self._near(self._limits.prefix_lists, len(self._state.prefix_lists), "prefix lists")

    def of_groups(self) -> Iterator[Finding]:
        members = count_members(self._state.network_interfaces)
        for group in self._state.security_groups:
            for limit, actual, what in self._group_rows(group, members.get(group.security_group_id, 0)):
                yield from self._near(limit, actual, what, security_group_id=group.security_group_id)

    def _group_rows(self, group: SecurityGroup, members: int) -> Iterator[tuple[int | None, int, str]]:
        limits, kind = self._limits, group.security_group_type
        yield limits.rules_per_group, self._costs[group.security_group_id], "rules"
        if kind is GroupType.NORMAL:
            yield limits.group_remotes, count_group_remotes(group), "rules with a group as remote"
        is_classic = self._state.vpc[group.vpc_id].network_type is NetworkType.CLASSIC
        yield limits.members(kind, is_classic=is_classic), members, "members"

    def of_eni(self, eni: Eni) -> Iterator[Finding]:
        groups, limits = eni.security_group_ids, self._limits
        total = sum(self._costs[group_id] for group_id in groups)
        rows = ((limits.groups_per_eni, len(groups), "groups"), (limits.rules_per_eni, total, "rules over all groups"))
        for limit, actual, what in rows:
            yield from self._near(limit, actual, what, network_interface_id=eni.network_interface_id)

    def _near(self, limit: int | None, actual: int, what: str, **about: str) -> Iterator[Finding]:
        if limit is not None and actual >= NEAR * limit:
            severity = Severity.WARNING if actual == limit else Severity.INFO
            message = f"{actual} of {limit} {what} (profile {self._profile})"
            yield Finding("NearQuota", severity, message, subject(**about))


def group_cost(group: SecurityGroup, lists: Lists) -> int:
    """How many rules a group's rules count as."""
    return sum(rule_cost(rule, lists) for rule in group.rules)


def rule_cost(rule: SecurityGroupRule, lists: Lists) -> int:
    """A rule counts once for every entry that its list may come to hold; with both lists, for every pair (CHOSEN)."""
    cost = 1
    if isinstance(rule.remote, PrefixListRef) and rule.remote.prefix_list_id in lists.prefix_list:
        cost *= lists.prefix_list[rule.remote.prefix_list_id].max_entries
    if rule.port_list_id in lists.port_list:
        cost *= lists.port_list[rule.port_list_id].max_entries
    return cost


def count_group_remotes(group: SecurityGroup) -> int:
    return sum(isinstance(rule.remote, GroupRef) for rule in group.rules)


def count_members(enis: Iterable[Eni]) -> dict[str, int]:
    """Private addresses per group. The address of an internet interface isn't private."""
    members: dict[str, int] = {}
    for eni in enis:
        if eni.nic_type is NicType.INTRANET:
            count = len(eni.addresses) + len(eni.delegated_prefixes)
            for group_id in eni.security_group_ids:
                members[group_id] = members.get(group_id, 0) + count
    return members
