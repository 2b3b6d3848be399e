"""Rules that match nothing, and why; groups that nothing uses.

Owns the reasons in words. Is given a state: whether a rule matches nothing follows from the addresses and numbers that
it requires.
"""

from __future__ import annotations

from collections.abc import Iterator

from sgdataplane.analyse.order import FarAddresses, shape_of
from sgdataplane.analyse.regions import ranges_of
from sgdataplane.model.always import SHARED
from sgdataplane.model.semantics import is_on_interface
from sgdataplane.model.state import CloudState, GroupRef, PrefixListRef, SecurityGroup, SecurityGroupRule
from sgdataplane.net.ranges import meet
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.findings import Finding, Severity, about, subject
from sgdataplane.policy.resolve import resolve_rule


def find_unused_groups(state: CloudState) -> Iterator[Finding]:
    """Yield a finding for each group that has no ENI and that no rule names."""
    remotes = (rule.remote for group in state.security_groups for rule in group.rules)
    named = {remote.security_group_id for remote in remotes if isinstance(remote, GroupRef)}
    for group in state.security_groups:
        group_id = group.security_group_id
        if not state.enis_of_group[group_id] and group_id not in named:
            message = "no ENI is in the group and no rule names it"
            yield Finding("UnusedGroup", Severity.INFO, message, subject(security_group_id=group_id))


class Unmatched:
    """Finds the rules that match no packet of any ENI."""

    def __init__(self, state: CloudState, far: FarAddresses) -> None:
        self._state, self._far = state, far

    def of_group(self, group: SecurityGroup) -> Iterator[Finding]:
        """Yield at most one finding for each rule of a group."""
        for rule in group.rules:
            if isinstance(rule.remote, GroupRef) and rule.remote.security_group_id in self._state.unknown_groups:
                message = f"the state doesn't have {rule.remote.security_group_id}, so the rule matches nobody here"
                yield Finding("UnknownRemote", Severity.WARNING, message, about(group, rule))
                continue
            reason = self._empty_remote(group, rule)
            if reason:
                message = f"the rule matches nothing: {reason}"
                yield Finding("RemoteMatchesNothing", Severity.WARNING, message, about(group, rule))
                continue
            reason = self._contradiction(group, rule) or self._nobody_here(group, rule)
            if reason:
                message = f"the rule can never match: {reason}"
                yield Finding("RuleNeverMatches", Severity.WARNING, message, about(group, rule))

    def _empty_remote(self, group: SecurityGroup, rule: SecurityGroupRule) -> str:
        """Return why the remote has no address; "" if it has."""
        remote = rule.remote
        if isinstance(remote, GroupRef):
            other = self._state.group[remote.security_group_id]
            if other.vpc_id != group.vpc_id:
                return f"{remote.security_group_id} is in another VPC, {other.vpc_id}"
        if any(self._far.of(remote, family) for family in Family):
            return ""
        if isinstance(remote, PrefixListRef):
            return f"{remote.prefix_list_id} has no entries"
        return f"{remote.security_group_id} has no members" if isinstance(remote, GroupRef) else ""

    def _contradiction(self, group: SecurityGroup, rule: SecurityGroupRule) -> str:
        """Return why no packet can match, whatever the ENI; "" if one can."""
        permission = resolve_rule(self._state, group, rule)
        families = [family for family in Family if self._far.of(rule.remote, family)]
        if any(all(shape_of(permission, family)) for family in families):
            return ""
        if rule.port_list_id and not permission.ports:
            return f"{rule.port_list_id} has no entries"
        if not any(rule.ip_protocol.exists_in(family) for family in families):
            return f"{rule.ip_protocol} doesn't exist in the remote's family"
        if rule.narrowing is not None and rule.narrowing.family not in families:
            return f"{rule.narrowing} is not of the remote's family"
        return f"{rule.ip_protocol} doesn't exist in the family of {rule.narrowing}"

    def _nobody_here(self, group: SecurityGroup, rule: SecurityGroupRule) -> str:
        """Return why no packet can match at any of the group's ENIs; "" if one can.

        An ENI of a group that has none yet might have any address.
        """
        if rule.narrowing is None:
            return ""
        family = rule.narrowing.family
        block = ((rule.narrowing.first, rule.narrowing.last),)
        enis = [e for e in self._state.enis_of_group[group.security_group_id] if is_on_interface(self._state, e, rule)]
        is_shared = rule.direction is Direction.INGRESS and meet(block, ranges_of(SHARED[family], family))
        if not enis or is_shared or any(meet(block, ranges_of(eni.own_prefixes, family)) for eni in enis):
            return ""
        return f"no ENI of the group has an address in {rule.narrowing}"
