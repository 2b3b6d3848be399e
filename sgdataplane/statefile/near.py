"""Quotas that are nearly used up, as findings.

Owns how near that is. Is given a checked state. Must not know formats; what counts how is statefile/quotas.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from sgdataplane.model.state import CloudState, Eni, GroupRef, GroupType, NetworkType, SecurityGroup
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.quotas import PROFILES, count_members, group_cost

NEAR = 0.9  # of a limit


def near_quotas(state: CloudState, profile: str) -> tuple[Finding, ...]:
    """A finding for each limit of the profile of which at least nine tenths are used. Of ENIs with the same groups, one
    is named."""
    near = _Near(state, profile)
    first: dict[tuple[str, ...], Eni] = {}
    for eni in state.network_interfaces:
        first.setdefault(eni.security_group_ids, eni)
    return (*near.of_lists(), *near.of_groups(), *(f for eni in first.values() for f in near.of_eni(eni)))


class _Near:
    def __init__(self, state: CloudState, profile: str) -> None:
        self._state, self._profile, self._limits = state, profile, PROFILES[profile]
        self._costs = {g.security_group_id: group_cost(g.rules, state) for g in state.security_groups}

    def of_lists(self) -> Iterator[Finding]:
        """A list's size is fixed when it is made, so only their number can grow."""
        yield from self._near(self._limits.prefix_lists, len(self._state.prefix_lists), "prefix lists")

    def of_groups(self) -> Iterator[Finding]:
        members = count_members(self._state.network_interfaces)
        for group in self._state.security_groups:
            yield from self._of_group(group, members.get(group.security_group_id, 0))

    def _of_group(self, group: SecurityGroup, members: int) -> Iterator[Finding]:
        limits, kind, group_id = self._limits, group.security_group_type, group.security_group_id
        is_classic = self._state.vpc[group.vpc_id].network_type is NetworkType.CLASSIC
        rows = [(limits.rules_per_group, self._costs[group_id], "rules")]
        if kind is GroupType.NORMAL:
            remotes = sum(isinstance(rule.remote, GroupRef) for rule in group.rules)
            rows.append((limits.group_remotes, remotes, "rules with a group as remote"))
        rows.append((limits.members(kind, is_classic=is_classic), members, "members"))
        for limit, actual, what in rows:
            yield from self._near(limit, actual, what, security_group_id=group_id)

    def of_eni(self, eni: Eni) -> Iterator[Finding]:
        groups, limits = eni.security_group_ids, self._limits
        total = sum(self._costs[group_id] for group_id in groups)
        rows = ((limits.groups_per_eni, len(groups), "groups"), (limits.rules_per_eni, total, "rules over all groups"))
        for limit, actual, what in rows:
            yield from self._near(limit, actual, what, network_interface_id=eni.network_interface_id)

    def _near(self, limit: int | None, actual: int, what: str, **about: str) -> Iterator[Finding]:
        if limit is not None and actual >= NEAR * limit:
            message = f"{actual} of {limit} {what} (profile {self._profile})"
            yield Finding(
                "NearQuota", Severity.WARNING if actual == limit else Severity.INFO, message, subject(**about)
            )
