"""The parts of the cloud's answers that a state decides, from native fields: what `dump_ecs` and the API both write.

Owns their shape, once. Is given an object's fields as the native format has them, where an absent field means its
default. The caller adds what only an account knows (names of VPCs, times, tags of ENIs). Must not know files or
documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, cast

from sgdataplane.model.state import NicType
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.statefile import ecs_names
from sgdataplane.statefile.dump_native import Plain
from sgdataplane.statefile.native_objects import (
    NativeEni,
    NativeGroup,
    NativeInstance,
    NativePortList,
    NativePrefixList,
    NativeRule,
)

Item: TypeAlias = dict[str, Plain]
NOTHING: Mapping[str, str] = {}
ACCEPT, INTRANET = Verdict.ACCEPT.value, NicType.INTRANET.value


def tag_items(tags: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return tags under the cloud's keys."""
    return [{"TagKey": key, "TagValue": value} for key, value in tags]


def vpc_blocks(blocks: Sequence[str], isp: str = "") -> Item:
    """Return a VPC's blocks under the cloud's keys: the first of each family apart from the others.

    `isp` is the kind of its IPv6 blocks; "" if it isn't known.
    """
    ipv4, ipv6 = ([block for block in blocks if (":" in block) is is_ipv6] for is_ipv6 in (False, True))
    kind = {"Ipv6Isp": isp} if isp else {}
    return {
        "CidrBlock": next(iter(ipv4), ""),
        "SecondaryCidrBlocks": {"SecondaryCidrBlock": ipv4[1:]},
        "Ipv6CidrBlock": next(iter(ipv6), ""),
        "Ipv6CidrBlocks": {"Ipv6CidrBlock": [{"Ipv6CidrBlock": block, **kind} for block in ipv6]},
    }


def eni_item(state: NativeEni, vpc_id: str, attached: Mapping[str, Plain] = NOTHING) -> Item:
    """Return an ENI under the cloud's keys; `vpc_id` is what the cloud shows, "" in the classic network.

    `attached` is what else is known of its attachment to an instance.
    """
    instance_id, addresses = state.get("instance_id", ""), state.get("private_ip_addresses", [])
    item: Item = {
        "NetworkInterfaceId": state["network_interface_id"],
        "Type": str(state.get("type", "primary")).capitalize(),
        "Status": "InUse" if instance_id else "Available",
        "InstanceId": instance_id,
        "VpcId": vpc_id,
        "MacAddress": state.get("mac_address", ""),
        "PrivateIpAddress": addresses[0],
        "Attachment": {"InstanceId": instance_id, **attached} if instance_id else {},
    }
    for name, (outer, inner, key) in ecs_names.ENI_LISTS.items():
        item[outer] = {inner: [{key: value} if key else value for value in _texts(state, name)]}
    item["PrivateIpSets"] = {"PrivateIpSet": private_ips(addresses)}
    return item


def private_ips(addresses: Sequence[str]) -> list[Item]:
    """Return an ENI's private addresses under the cloud's keys; the first is the primary one."""
    return [{"PrivateIpAddress": one, "Primary": not at, "AssociatedPublicIp": {}} for at, one in enumerate(addresses)]


def instance_item(
    state: NativeInstance, *, is_classic: bool, public: Sequence[str] = (), inner: Sequence[str] = ()
) -> Item:
    """Return an instance's name and kind of network under the cloud's keys.

    `public` and `inner` are the addresses that it shows by itself; in a VPC, its ENIs show theirs.
    """
    return {
        "InstanceId": state["instance_id"],
        "InstanceName": state.get("instance_name", ""),
        "InstanceNetworkType": "classic" if is_classic else "vpc",
        "PublicIpAddress": {"IpAddress": [*public]},
        "InnerIpAddress": {"IpAddress": [*inner]},
    }


def group_head(state: NativeGroup, vpc_id: str) -> Item:
    """Return what every answer says of a group."""
    return {
        "SecurityGroupId": state["security_group_id"],
        "SecurityGroupName": state.get("security_group_name", ""),
        "Description": state.get("description", ""),
        "VpcId": vpc_id,
    }


def group_item(state: NativeGroup, vpc_id: str) -> Item:
    """Return a group as an element of a list of groups."""
    rules = state.get("rules", [])
    names = ("source_security_group_id", "dest_security_group_id")
    return {
        **group_head(state, vpc_id),
        "SecurityGroupType": state.get("security_group_type", "normal"),
        "ServiceManaged": bool(state.get("service_managed")),
        "RuleCount": len(rules),
        "GroupToGroupRuleCount": sum(any(name in rule for name in names) for rule in rules),
    }


def permission(rule: NativeRule, given: Mapping[str, str] = NOTHING) -> Item:
    """Return a rule with every key that the cloud gives; those that say nothing are empty.

    `given` are blocks of the rule, by their fields, in the form in which somebody gave them.
    """
    names = ecs_names.RULE[Direction(rule["type"])]
    fields = {**cast(Item, rule), **given}
    item: Item = dict.fromkeys(ecs_names.PERMISSION, "")
    item |= {names[name]: value for name, value in fields.items() if name in names}
    item["Policy"] = rule.get("policy", ACCEPT).capitalize()
    item["Priority"] = rule.get("priority", 1)
    item["NicType"] = rule.get("nic_type", INTRANET)
    item["IpProtocol"] = rule["ip_protocol"].upper()
    return item


def list_head(state: NativePrefixList | NativePortList, names: Mapping[str, str]) -> Item:
    """Return a prefix list or a port list without its entries, under these names of the cloud."""
    return _renamed(state, names)


def list_entries(state: NativePrefixList | NativePortList, names: Mapping[str, str]) -> list[Item]:
    """Return the entries of a list under these names of the cloud."""
    return [_renamed(entry, names) for entry in state.get("entries", [])]


def _renamed(fields: Mapping[str, object], names: Mapping[str, str]) -> Item:
    found = cast(Item, fields)
    return {key: found.get(name, "") for name, key in names.items()}


def _texts(fields: Mapping[str, object], name: str) -> list[str]:
    return cast("list[str]", fields.get(name, []))
