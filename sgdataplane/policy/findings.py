"""What is odd about a state but not wrong; a finding never makes anything accept more.

Owns Finding and the checks that look at one rule at a time. Is given a checked state. Must not know files, hosts or
nftables.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sgdataplane.model.semantics import has_inner_accept
from sgdataplane.model.state import (
    CloudState,
    Eni,
    GroupRef,
    GroupType,
    NicType,
    PrefixListRef,
    SecurityGroup,
    SecurityGroupRule,
)
from sgdataplane.net.values import TCP, Direction, Family, PortRange, Prefix, Verdict


class Severity(enum.Enum):
    """`info` is worth knowing, `warning` is probably a mistake, `high` probably an open door."""

    INFO = "info"
    WARNING = "warning"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` names the objects concerned: sorted (field, id) pairs such as ("security_group_id", "sg-web")."""

    code: str
    severity: Severity
    message: str
    subject: tuple[tuple[str, str], ...] = ()


def subject(**ids: str) -> tuple[tuple[str, str], ...]:
    """The subject of a finding; empty ids are left out."""
    return tuple(sorted((name, value) for name, value in ids.items() if value))


# TCP ports that nobody means to open to everyone: remote control and data stores.
SENSITIVE = {
    22: "SSH", 23: "Telnet", 445: "SMB", 1433: "SQL Server", 1521: "Oracle", 2375: "Docker", 3306: "MySQL",
    3389: "RDP", 5432: "PostgreSQL", 5900: "VNC", 6379: "Redis", 9200: "Elasticsearch", 11211: "memcached",
    27017: "MongoDB",
}  # fmt: skip


def review(state: CloudState) -> tuple[Finding, ...]:
    """Everything odd about the state, by group and rule. The cost is linear but for drops of many members."""
    found: list[Finding] = []
    void_drops = VoidDrops(state)
    remotes = [rule.remote for group in state.security_groups for rule in group.rules]
    named = {remote.security_group_id for remote in remotes if isinstance(remote, GroupRef)}
    for group in state.security_groups:
        if not state.enis_of_group[group.security_group_id] and group.security_group_id not in named:
            about = subject(security_group_id=group.security_group_id)
            found.append(Finding("UnusedGroup", Severity.INFO, "no ENI is in the group and no rule names it", about))
        for rule in group.rules:
            found += matches_nothing(state, group, rule)
            found += wide_open(group, rule, state)
        found += void_drops.of_group(group)
    return tuple(found)


def make(code: str, severity: Severity, message: str, group: SecurityGroup, rule: SecurityGroupRule) -> Finding:
    ids = {"security_group_id": group.security_group_id, "security_group_rule_id": rule.security_group_rule_id}
    return Finding(code, severity, message, subject(**ids))


def matches_nothing(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule) -> Iterator[Finding]:
    """At most one finding: the remote is empty, or the rule contradicts itself."""
    reason = empty_remote(state, group, rule)
    if reason:
        yield make("RemoteMatchesNothing", Severity.WARNING, f"the rule matches nothing: {reason}", group, rule)
        return
    reason = contradiction(state, rule)
    if reason:
        yield make("RuleNeverMatches", Severity.WARNING, f"the rule can never match: {reason}", group, rule)


def empty_remote(state: CloudState, group: SecurityGroup, rule: SecurityGroupRule) -> str:
    """Why the remote has no address; "" if it has."""
    if isinstance(rule.remote, PrefixListRef):
        prefix_list = state.prefix_list[rule.remote.prefix_list_id]
        return "" if prefix_list.entries else f"{prefix_list.prefix_list_id} has no entries"
    if not isinstance(rule.remote, GroupRef):
        return ""
    remote_id = rule.remote.security_group_id
    other = state.group.get(remote_id)
    if other is None:
        return f"nothing is known of {remote_id}"
    if other.vpc_id != group.vpc_id:
        return f"{remote_id} is of another VPC, {other.vpc_id}"
    has_members = any(eni.nic_type is NicType.INTRANET for eni in state.enis_of_group[remote_id])
    return "" if has_members else f"{remote_id} has no members"


def contradiction(state: CloudState, rule: SecurityGroupRule) -> str:
    """Why no packet can match; "" if one can."""
    if rule.port_list_id and not state.port_list[rule.port_list_id].entries:
        return f"{rule.port_list_id} has no entries"
    families = remote_families(state, rule)
    if not any(rule.ip_protocol.exists_in(family) for family in families):
        return f"{rule.ip_protocol} doesn't exist in the remote's family"
    if rule.narrowing is None:
        return ""
    if rule.narrowing.family not in families:
        return f"{rule.narrowing} is not of the remote's family"
    return "" if rule.ip_protocol.exists_in(rule.narrowing.family) else f"{rule.ip_protocol} with {rule.narrowing}"


def remote_families(state: CloudState, rule: SecurityGroupRule) -> tuple[Family, ...]:
    if isinstance(rule.remote, PrefixListRef):
        return (state.prefix_list[rule.remote.prefix_list_id].address_family,)
    return (rule.remote.family,) if isinstance(rule.remote, Prefix) else tuple(Family)


def is_everyone(rule: SecurityGroupRule) -> bool:
    return isinstance(rule.remote, Prefix) and rule.remote.length == 0


def wide_open(group: SecurityGroup, rule: SecurityGroupRule, state: CloudState) -> Iterator[Finding]:
    """Accepts that let everyone in to what shouldn't be open, or an advanced group out to everywhere."""
    if not is_everyone(rule) or rule.policy is Verdict.DROP or rule.narrowing is not None:
        return
    if rule.direction is Direction.EGRESS:
        if rule.ip_protocol.is_all and group.security_group_type is GroupType.ENTERPRISE:
            yield make("WideOpenEgress", Severity.INFO, "the group may send anything to everywhere", group, rule)
        return
    exposed = exposed_ports(group, rule, state)
    if exposed and rule.ip_protocol.is_all:
        message = f"everything from {rule.remote} is accepted, on every protocol and port"
        yield make("WideOpenIngress", Severity.HIGH, message, group, rule)
    elif exposed:
        names = ", ".join(f"{SENSITIVE[port]} ({port})" for port in exposed)
        yield make("WideOpenIngress", Severity.HIGH, f"open to {rule.remote}: {names}", group, rule)


def exposed_ports(group: SecurityGroup, rule: SecurityGroupRule, state: CloudState) -> list[int]:
    """The sensitive ports that the rule opens and that no drop for everyone in its group hides."""
    drops = [other for other in group.rules if hides(other, rule)]
    return [
        port
        for port in SENSITIVE
        if is_open(rule, port, state) and not any(is_open(drop, port, state) for drop in drops)
    ]


def hides(drop: SecurityGroupRule, rule: SecurityGroupRule) -> bool:
    """Whether `drop` is stronger and for the same everyone, whatever their source port or the ENI's address."""
    return (
        drop.policy is Verdict.DROP
        and drop.direction is rule.direction
        and drop.remote == rule.remote
        and drop.nic_type is rule.nic_type
        and drop.priority <= rule.priority
        and drop.source_port_range is None
        and drop.narrowing is None
    )


def is_open(rule: SecurityGroupRule, port: int, state: CloudState) -> bool:
    """Whether the rule speaks of that TCP port."""
    if rule.ip_protocol.number != TCP:
        return rule.ip_protocol.is_all
    return any(port in ports for ports in port_ranges(rule, state))


def port_ranges(rule: SecurityGroupRule, state: CloudState) -> Iterable[PortRange]:
    if rule.port_list_id:
        return [entry.port_range for entry in state.port_list[rule.port_list_id].entries]
    return [rule.port_range] if rule.port_range is not None else []


class VoidDrops:
    """Finds drops that inner accept makes void: it outranks every rule (semantics.md section 3).

    The members of each group that accepts within itself are kept sorted, so that a prefix is looked up by bisection.
    """

    def __init__(self, state: CloudState) -> None:
        self.state = state
        self.accepting = {g.security_group_id for g in state.security_groups if has_inner_accept(g)}
        self.members: dict[str, list[tuple[int, int, int, str]]] = {}

    def of_group(self, group: SecurityGroup) -> Iterator[Finding]:
        drops = [rule for rule in group.rules if rule.policy is Verdict.DROP and rule.nic_type is NicType.INTRANET]
        if not drops:
            return
        shared = self.shared_groups(group)
        for rule in drops:
            for accepting_id, own in shared.items():
                if self.reaches(rule, accepting_id, own):
                    severity = Severity.INFO if is_everyone(rule) else Severity.WARNING
                    message = f"the drop has no effect between members of {accepting_id}, whose inner policy is Accept"
                    yield make("VoidDrop", severity, message, group, rule)
                    break

    def shared_groups(self, group: SecurityGroup) -> dict[str, set[str]]:
        """Groups that accept within themselves and have ENIs of this group -> the ids of these ENIs."""
        shared: dict[str, set[str]] = {}
        for eni in intranet(self.state, group.security_group_id):
            for group_id in eni.security_group_ids:
                if group_id in self.accepting:
                    shared.setdefault(group_id, set()).add(eni.network_interface_id)
        return dict(sorted(shared.items()))

    def reaches(self, rule: SecurityGroupRule, accepting_id: str, own: set[str]) -> bool:
        """Whether the rule's remote has a member of the accepting group other than the ENI that drops."""
        if isinstance(rule.remote, GroupRef):
            enis = self.state.enis_of_group.get(rule.remote.security_group_id, ())
            accepting = {eni.network_interface_id for eni in intranet(self.state, accepting_id)}
            both = accepting & {eni.network_interface_id for eni in enis}
            return bool(both) and len(both | own) > 1
        if isinstance(rule.remote, PrefixListRef):
            entries = self.state.prefix_list[rule.remote.prefix_list_id].entries
            return any(self.has_other(entry.cidr, accepting_id, own) for entry in entries)
        return self.has_other(rule.remote, accepting_id, own)

    def has_other(self, prefix: Prefix, group_id: str, own: set[str]) -> bool:
        members = self.sorted_members(group_id)
        index = bisect_left(members, (prefix.family_bits, prefix.first, 0, ""))
        for bits, first, last, eni_id in members[max(0, index - 1) :]:
            if (bits, first) > (prefix.family_bits, prefix.last):
                return False
            if (bits, last) >= (prefix.family_bits, prefix.first) and len(own | {eni_id}) > 1:
                return True
        return False

    def sorted_members(self, group_id: str) -> list[tuple[int, int, int, str]]:
        """(family bits, first, last, ENI id) of the group's members, disjoint: what an ENI's own delegated prefix
        covers is left out."""
        if group_id not in self.members:
            found = [interval for eni in intranet(self.state, group_id) for interval in intervals(eni)]
            found.sort(key=lambda interval: (interval[0], interval[1], -interval[2]))
            disjoint: list[tuple[int, int, int, str]] = []
            for interval in found:
                if not disjoint or interval[:2] > (disjoint[-1][0], disjoint[-1][2]):
                    disjoint.append(interval)
            self.members[group_id] = disjoint
        return self.members[group_id]


def intranet(state: CloudState, group_id: str) -> Iterator[Eni]:
    """The group's ENIs on the internal network; the internet interface of a classic instance is no member."""
    return (eni for eni in state.enis_of_group[group_id] if eni.nic_type is NicType.INTRANET)


def intervals(eni: Eni) -> Iterator[tuple[int, int, int, str]]:
    for address in eni.addresses:
        yield address.family_bits, address.value, address.value, eni.network_interface_id
    for prefix in eni.delegated_prefixes:
        yield prefix.family_bits, prefix.first, prefix.last, eni.network_interface_id
