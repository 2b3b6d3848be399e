"""CloudState -> the native format (state.md, A), as YAML that a person likes to read.

Owns which fields are written: those that differ from their defaults. Is given a checked state; the same state gives the
same bytes, and reading them gives an equal state. Must not know the cloud's format.
"""

from __future__ import annotations

from collections.abc import Mapping

from sgdataplane.model.state import (
    CloudState,
    ConnectionTracking,
    Eni,
    GroupRef,
    NetworkType,
    NicType,
    PortList,
    PrefixList,
    SecurityGroup,
    SecurityGroupRule,
    Vpc,
)
from sgdataplane.net.values import Family, Verdict
from sgdataplane.statefile.native import UNKNOWN_GROUPS, VERSION
from sgdataplane.statefile.rules import made_rule_id, written
from sgdataplane.statefile.yamlout import Plain, block_lines, flow

FAMILY_NAMES = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}
# Sections whose objects fit on one line.
ONE_LINE = ("vpcs", "instances")


def dump_native(state: CloudState) -> str:
    """One YAML document, ending in a newline."""
    lines = [f"version: {VERSION}"]
    unknown = unknown_groups(state)
    if unknown:
        lines.append(f"{UNKNOWN_GROUPS}: {flow(unknown)}")
    for section, objects in sections(state).items():
        if objects:
            lines.append(f"{section}:")
        for fields in objects:
            lines += [f"  - {flow(fields)}"] if section in ONE_LINE else block_lines(fields, "  ")
    return "\n".join(lines) + "\n"


def unknown_groups(state: CloudState) -> list[str]:
    """Groups that are named as remotes, and of which nothing else is known."""
    named = {
        rule.remote.security_group_id
        for group in state.security_groups
        for rule in group.rules
        if isinstance(rule.remote, GroupRef)
    }
    return sorted(named - state.group.keys())


def sections(state: CloudState) -> dict[str, list[dict[str, Plain]]]:
    """The state as plain values under native names."""
    return {
        "vpcs": [vpc_fields(vpc) for vpc in state.vpcs],
        "prefix_lists": [prefix_list_fields(entry) for entry in state.prefix_lists],
        "port_lists": [port_list_fields(entry) for entry in state.port_lists],
        "security_groups": [group_fields(group) for group in state.security_groups],
        "instances": [
            given({"instance_id": entry.instance_id, "instance_name": entry.instance_name}) for entry in state.instances
        ],
        "network_interfaces": [eni_fields(eni) for eni in state.network_interfaces],
    }


def given(fields: Mapping[str, Plain]) -> dict[str, Plain]:
    """Without what is empty: absent means the same."""
    return {name: value for name, value in fields.items() if value not in ("", [], {}, None)}


def vpc_fields(vpc: Vpc) -> dict[str, Plain]:
    classic = vpc.network_type.value if vpc.network_type is NetworkType.CLASSIC else ""
    return given(
        {"vpc_id": vpc.vpc_id, "cidr_blocks": [str(block) for block in vpc.cidr_blocks], "network_type": classic}
    )


def prefix_list_fields(entry: PrefixList) -> dict[str, Plain]:
    return given(
        {
            "prefix_list_id": entry.prefix_list_id,
            "prefix_list_name": entry.prefix_list_name,
            "description": entry.description,
            "address_family": FAMILY_NAMES[entry.address_family],
            "max_entries": entry.max_entries,
            "entries": [given({"cidr": str(item.cidr), "description": item.description}) for item in entry.entries],
        }
    )


def port_list_fields(entry: PortList) -> dict[str, Plain]:
    entries: list[Plain] = [
        given({"port_range": str(item.port_range), "description": item.description}) for item in entry.entries
    ]
    return given(
        {
            "port_list_id": entry.port_list_id,
            "port_list_name": entry.port_list_name,
            "description": entry.description,
            "max_entries": entry.max_entries,
            "entries": entries,
        }
    )


def group_fields(group: SecurityGroup) -> dict[str, Plain]:
    return given(
        {
            "security_group_id": group.security_group_id,
            "security_group_name": group.security_group_name,
            "description": group.description,
            "security_group_type": group.security_group_type.value,
            "vpc_id": group.vpc_id,
            "inner_access_policy": group.inner_access_policy.value.capitalize(),
            "service_managed": group.service_managed or None,
            "tags": dict(group.tags),
            "rules": [rule_fields(group.security_group_id, rule) for rule in group.rules],
        }
    )


def rule_fields(group_id: str, rule: SecurityGroupRule) -> dict[str, Plain]:
    """An id that would be made again from the same words is left out."""
    is_made = rule.security_group_rule_id == made_rule_id(group_id, rule)
    fields: dict[str, Plain] = {
        "type": rule.direction.value,
        **dict(written(rule)),
        "policy": "" if rule.policy is Verdict.ACCEPT else rule.policy.value,
        "priority": rule.priority if rule.priority != 1 else None,
        "nic_type": "" if rule.nic_type is NicType.INTRANET else rule.nic_type.value,
        "description": rule.description,
        "security_group_rule_id": "" if is_made else rule.security_group_rule_id,
    }
    return given(fields)


def eni_fields(eni: Eni) -> dict[str, Plain]:
    return given(
        {
            "network_interface_id": eni.network_interface_id,
            "instance_id": eni.instance_id,
            "type": eni.type.value,
            "vpc_id": eni.vpc_id,
            "nic_type": "" if eni.nic_type is NicType.INTRANET else eni.nic_type.value,
            "mac_address": eni.mac_address,
            "private_ip_addresses": [str(address) for address in eni.private_ip_addresses],
            "ipv6_addresses": [str(address) for address in eni.ipv6_addresses],
            "ipv4_prefixes": [str(prefix) for prefix in eni.ipv4_prefixes],
            "ipv6_prefixes": [str(prefix) for prefix in eni.ipv6_prefixes],
            "security_group_ids": list(eni.security_group_ids),
            "allowed_address_pairs": [str(prefix) for prefix in eni.allowed_address_pairs],
            "connection_tracking": tracking_fields(eni.connection_tracking),
        }
    )


def tracking_fields(tracking: ConnectionTracking) -> dict[str, Plain]:
    default = ConnectionTracking()
    names = ("tcp_established_timeout", "tcp_closed_and_time_wait_timeout", "udp_timeout")
    return {name: getattr(tracking, name) for name in names if getattr(tracking, name) != getattr(default, name)}
