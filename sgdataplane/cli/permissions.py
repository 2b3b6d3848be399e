"""The `policy` stage of `sgdp compile`, as rows of text.

Owns how a resolved permission reads. Is given a HostPolicy. Must not know state files or nftables.
"""

from __future__ import annotations

from collections.abc import Iterator

from sgdataplane.model.decision import RULE
from sgdataplane.model.state import GroupRef, PrefixListRef
from sgdataplane.net.ranges import Ranges
from sgdataplane.net.values import Direction
from sgdataplane.policy.dimensions import FURTHER
from sgdataplane.policy.resolve import HostPolicy, Permission

Row = tuple[str, str, str, str, str, str, str, str]


def permission_rows(policy: HostPolicy) -> Iterator[Row]:
    """One row a permission: ENI, direction, priority, verdict, protocol, ports, remote, rule."""
    for eni in policy.enis:
        for direction in Direction:
            for permission in policy.profiles[eni.profile].permissions(direction):
                yield (eni.eni_id, direction.value, *_cells(policy, permission))


def _cells(policy: HostPolicy, permission: Permission) -> tuple[str, str, str, str, str, str]:
    decision = permission.decision
    return (
        str(decision.priority) if decision.cause == RULE else "",
        decision.verdict.value,
        str(permission.protocol),
        _ports(permission),
        _remote(policy, permission),
        f"{decision.security_group_id} {decision.security_group_rule_id}" if decision.cause == RULE else decision.cause,
    )


def _ports(permission: Permission) -> str:
    """With what few rules ask for besides."""
    asked = ((each, each.of_either(permission)) for each in FURTHER)
    further = (each.phrase.format(_ranges(ranges)) for each, ranges in asked if ranges is not None)
    return " ".join((_ranges(permission.ports), *further))


def _ranges(ranges: Ranges | None) -> str:
    if ranges is None:
        return "any"
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges) or "none"


def _remote(policy: HostPolicy, permission: Permission) -> str:
    remote = permission.remote
    narrowing = "" if permission.narrowing is None else f" at {permission.narrowing}"
    match remote:
        case None:
            return f"any{narrowing}"
        case GroupRef(group_id):
            return f"{group_id} ({_count(policy, permission)}){narrowing}"
        case PrefixListRef(prefix_list_id):
            return f"{prefix_list_id} ({_count(policy, permission)}){narrowing}"
        case _:
            return f"{remote}{narrowing}"


def _count(policy: HostPolicy, permission: Permission) -> str:
    if permission.remote is None:
        return ""
    found = policy.remotes[permission.remote].values()
    addresses = sum(len(one.singles) for one in found)
    prefixes = sum(len(one.ranges) for one in found)
    parts = [f"{addresses} addresses"] if addresses else []
    parts += [f"{prefixes} prefixes"] if prefixes else []
    return ", ".join(parts) or "nobody"
