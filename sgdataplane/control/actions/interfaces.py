"""Network interfaces: create, describe, attach, detach, change, delete; their addresses.

Owns these actions; how an address is chosen is in addresses.py. Must not know HTTP or the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from sgdataplane.control.actions.addresses import Chooser
from sgdataplane.control.actions.groups import replace_groups
from sgdataplane.control.actions.networks import answer_vpc_id
from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope, is_among, is_in_resource_group, is_like, tag_items
from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.control.calls.products import ACCOUNT
from sgdataplane.model.modes import MODE_TAG, UNTIL_TAG, Mode, mode_of_tags
from sgdataplane.statefile import ecs_items, ecs_names
from sgdataplane.statefile.native_objects import NativeEni
from sgdataplane.statefile.records import free_mac
from sgdataplane.store.documents import ADDRESSES, Fields, ResourceKind, about, state_in, texts
from sgdataplane.store.hosts import FIELD, find_tagged_host
from sgdataplane.store.interface import Body, Json

TRACKING = {key: name for name, key in ecs_names.TRACKING_NAMES.items()}
MODE_TAGS, MODE_KEYS = frozenset({MODE_TAG, UNTIL_TAG}), ("mode", "audit_until")
QUEUES = {"queues": "QueueNumber", "queue_pairs": "QueuePairNumber", "network_card": "NetworkCardIndex"}
ATTACHED = {"network_card": "NetworkCardIndex", "trunk": "TrunkNetworkInstanceId"}
TOLD_ATTACHED = {"network_card": "NetworkCardIndex", "trunk": "TrunkNetworkInterfaceId"}
TYPES = ("Primary", "Secondary", "Trunk", "Member")
TRAFFIC_MODES = ("Standard", "HighPerformance")


def create(scope: Scope) -> Body:
    """Answer CreateNetworkInterface: make a secondary ENI that is attached to nothing."""
    scope.refuse_host_tag()
    groups = read_group_ids(scope.call.parameters)
    eni_id = make(scope, scope.call.parameters, groups, "")
    return cast(Body, eni_item(scope, eni_id, scope.find(ResourceKind.ENI, eni_id)))


def read_group_ids(asked: Fields | object) -> list[str]:
    """Return the groups that SecurityGroupId and SecurityGroupIds name, each once."""
    fields = cast(Fields, asked)
    one, many = fields.get("SecurityGroupId"), fields.get("SecurityGroupIds")
    found = [*cast("list[str]", many if isinstance(many, list) else []), *([str(one)] if one else [])]
    return list(dict.fromkeys(found))


def make(scope: Scope, asked: Fields | object, groups: list[str], instance_id: str) -> str:
    """Make an ENI in a VSwitch, and return its id.

    It is the primary one if it is made with an instance that has none.

    Raises:
        ApiError: The VSwitch or a group is missing or isn't there, or there is no free address.
    """
    said = cast(Fields, asked)
    switch_id = str(said.get("VSwitchId") or "")
    if not switch_id:
        raise ApiError("MissingParameter.VSwitchId", "The parameter VSwitchId is required.")
    switch = scope.find(ResourceKind.VSWITCH, switch_id)
    if not groups:
        raise ApiError("MissingParameter.SecurityGroupId", "The parameter SecurityGroupId is required.")
    for group_id in groups:
        scope.find_writable(group_id)
    vpc_id, eni_id = str(state_in(switch)["vpc_id"]), scope.new_id("eni")
    is_primary = bool(instance_id) and not scope.workspace.enis_of(instance_id)
    chooser = Chooser(scope, vpc_id, switch_id)
    addresses = _addresses(said, chooser)
    state: Fields = {
        "network_interface_id": eni_id,
        "instance_id": instance_id,
        "type": "primary" if is_primary else "secondary",
        "vpc_id": vpc_id,
        "mac_address": free_mac(eni_id, set()),
        "private_ip_addresses": addresses,
        "ipv6_addresses": said.get("Ipv6Address") or chooser.choose_ipv6(_count(said, "Ipv6AddressCount")),
        **{
            name: said.get(key) or _prefixes(chooser, name, _count(said, count))
            for name, key, count in (
                ("ipv4_prefixes", "Ipv4Prefix", "Ipv4PrefixCount"),
                ("ipv6_prefixes", "Ipv6Prefix", "Ipv6PrefixCount"),
            )
        },
        "security_group_ids": [*groups],
        "connection_tracking": tracking(said),
        **mode_of(scope.tags()),
    }
    more: Fields = {
        "name": str(said.get("NetworkInterfaceName") or ""),
        "description": str(said.get("Description") or ""),
        "vswitch_id": switch_id,
        "zone_id": about(switch).get("zone_id", ""),
        "created": scope.time,
        "tags": scope.tags(),
        "resource_group_id": str(said.get("ResourceGroupId") or ""),
        "delete_on_release": is_primary or said.get("DeleteOnRelease", bool(instance_id)) is True,
        "source_dest_check": said.get("SourceDestCheck") is True,
        **hardware(said),
    }
    scope.workspace.put(ResourceKind.ENI, eni_id, state, more)
    return eni_id


def _addresses(said: Fields, chooser: Chooser) -> list[str]:
    """Return private addresses, the primary one first.

    A list of addresses is of secondary ones. The primary is chosen beside them, unless the call names it.
    """
    listed = said.get("PrivateIpAddress")
    first = said.get("PrimaryIpAddress") or (listed if isinstance(listed, str) else "")
    others = list(dict.fromkeys(str(one) for one in listed)) if isinstance(listed, list) else []
    primary = [str(first)] if first else chooser.choose(1, besides=others)
    addresses = [*primary, *(one for one in others if one not in primary)]
    return addresses + chooser.choose(_count(said, "SecondaryPrivateIpAddressCount"), besides=addresses)


def hardware(said: Fields) -> Fields:
    """Return what a call asks for that only hardware has. It is stored and described, and means nothing.

    Raises:
        ApiError: The call asks for a type or a traffic mode that the cloud doesn't have.
    """
    kind, mode = str(said.get("InstanceType") or ""), str(said.get("NetworkInterfaceTrafficMode") or "")
    if kind and kind not in TYPES:
        raise ApiError("InvalidParameter.InstanceType", f"InstanceType is one of {', '.join(TYPES)}")
    if mode and mode not in TRAFFIC_MODES:
        raise ApiError("InvalidParameter.NetworkInterfaceTrafficMode", f"it is one of {', '.join(TRAFFIC_MODES)}")
    found: Fields = {"kind": kind if kind == "Trunk" else "", "traffic_mode": mode}
    found |= {name: said[key] for name, key in QUEUES.items() if said.get(key) is not None}
    return {name: value for name, value in found.items() if value != ""}


def _count(said: Fields, name: str) -> int:
    value = said.get(name) or 0
    if not isinstance(value, int) or not 0 <= value <= 100:
        raise ApiError(f"InvalidParameter.{name}", f"{name} has to be 0 to 100")
    return value


def tracking(said: Fields) -> Json:
    """Return the idle timeouts that a call gives, in the native format."""
    given = said.get(ecs_names.TRACKING)
    if not isinstance(given, dict):
        return {}
    return {TRACKING[key]: value for key, value in given.items() if key in TRACKING and value is not None}


def mode_of(tags: Mapping[str, str]) -> Fields:
    """Return the mode that an ENI's tags give it, in the native format."""
    mode, until = mode_of_tags(tags)
    found = {"mode": mode.value, "audit_until": until} if mode is Mode.AUDIT else {}
    return {key: value for key, value in found.items() if value}


def attach(scope: Scope) -> Body:
    """Answer AttachNetworkInterface: a secondary ENI becomes the instance's. SgdpHost names the host.

    If SgdpHost or the instance's tag names one, no earlier claim counts: the host that an ENI leaves claims it as soon
    as it is detached.
    """
    eni_id, instance_id = scope.required("NetworkInterfaceId"), scope.required("InstanceId")
    state = state_in(scope.find(ResourceKind.ENI, eni_id))
    instance = scope.find(ResourceKind.INSTANCE, instance_id)
    if state.get("instance_id"):
        raise ApiError(
            "InvalidOperation.InvalidEniState", f"{eni_id} is attached to {state['instance_id']}.", FORBIDDEN
        )
    is_first = not scope.workspace.enis_of(instance_id)
    given: Fields = {"instance_id": instance_id, "type": "primary" if is_first else "secondary"}
    is_named = bool(scope.host or find_tagged_host(instance))
    asked = scope.call.parameters
    told = {name: asked[key] for name, key in ATTACHED.items() if scope.has(key)}
    scope.change(ResourceKind.ENI, eni_id, given, **({FIELD: scope.host} if is_named else {}), **told)
    return DONE


def detach(scope: Scope) -> Body:
    """Answer DetachNetworkInterface for an ENI that isn't primary. It is bound to no host any more."""
    eni_id, instance_id = scope.required("NetworkInterfaceId"), scope.required("InstanceId")
    state = state_in(scope.find(ResourceKind.ENI, eni_id))
    scope.find(ResourceKind.INSTANCE, instance_id)
    if state.get("instance_id") != instance_id:
        raise ApiError("InvalidOperation.InvalidEniState", f"{eni_id} isn't attached to {instance_id}.", FORBIDDEN)
    if state["type"] == "primary":
        raise ApiError("InvalidOperation.InvalidEniType", f"{eni_id} is the primary one of {instance_id}.", FORBIDDEN)
    told = {name: value for name, value in about(scope.find(ResourceKind.ENI, eni_id)).items() if name not in ATTACHED}
    scope.workspace.put(ResourceKind.ENI, eni_id, {**state, "instance_id": ""}, {**told, FIELD: ""})
    return DONE


def move(scope: Scope) -> Body:
    """Answer ModifyInstanceVpcAttribute: the primary ENI gets another VSwitch of its VPC, or another primary address.

    Its other addresses stay. As they are of its VSwitch, it can't leave that with them.
    """
    instance_id, switch_id = scope.required("InstanceId"), scope.required("VSwitchId")
    scope.find(ResourceKind.INSTANCE, instance_id)
    switch = scope.find(ResourceKind.VSWITCH, switch_id)
    eni_id = next(iter(scope.workspace.enis_of(instance_id)), "")
    body = scope.find(ResourceKind.ENI, eni_id)
    state = state_in(body)
    vpc_id, others = str(state["vpc_id"]), texts(state, "private_ip_addresses")[1:]
    if state_in(switch)["vpc_id"] != vpc_id:
        raise ApiError(
            "InvalidOperation.VpcMismatch", f"{switch_id} isn't in {vpc_id}, where {instance_id} is.", FORBIDDEN
        )
    left = others + [one for name in ADDRESSES[1:] for one in texts(state, name)]
    if switch_id != about(body).get("vswitch_id") and left:
        words = f"{eni_id} has addresses of its VSwitch beside the primary one: {', '.join(left[:5])}"
        raise ApiError("InvalidOperation.MultiIpAddress", words, FORBIDDEN)
    address = scope.text("PrivateIpAddress") or Chooser(scope, vpc_id, switch_id).choose(1)[0]
    given: Fields = {"private_ip_addresses": [address, *(one for one in others if one != address)]}
    zone = about(switch).get("zone_id", "")
    scope.change(ResourceKind.ENI, eni_id, given, vswitch_id=switch_id, zone_id=zone)
    if groups := scope.texts("SecurityGroupId"):
        replace_groups(scope, eni_id, groups)
    return DONE


def delete(scope: Scope) -> Body:
    """Answer DeleteNetworkInterface for an ENI that isn't attached. One that isn't there is no error."""
    eni_id = scope.required("NetworkInterfaceId")
    body = scope.workspace.get(ResourceKind.ENI, eni_id)
    if body is None:
        return DONE  # the cloud takes it as done
    if state_in(body).get("instance_id"):
        raise ApiError("InvalidOperation.InvalidEniState", f"{eni_id} is attached to an instance.", FORBIDDEN)
    scope.workspace.delete(ResourceKind.ENI, eni_id)
    return DONE


def modify(scope: Scope) -> Body:
    """Answer ModifyNetworkInterfaceAttribute: name, groups (all of them anew), timeouts.

    SgdpHost moves the ENI to a host.
    """
    eni_id = scope.required("NetworkInterfaceId")
    body = scope.find(ResourceKind.ENI, eni_id)
    given: Fields = {}
    if groups := scope.texts("SecurityGroupId"):
        replace_groups(scope, eni_id, groups)
    if scope.has(ecs_names.TRACKING):
        old = cast(Fields, state_in(body).get("connection_tracking", {}))
        given["connection_tracking"] = {**old, **cast(Fields, tracking(dict(scope.call.parameters)))}
    more = {
        name: scope.text(key)
        for name, key in (("name", "NetworkInterfaceName"), ("description", "Description"))
        if key in scope.call.parameters
    }
    flags: Fields = {
        name: scope.flag(key)
        for name, key in (("delete_on_release", "DeleteOnRelease"), ("source_dest_check", "SourceDestCheck"))
        if scope.has(key)
    }
    moved = {FIELD: scope.host} if scope.host else {}
    flags |= hardware(dict(scope.call.parameters))
    scope.change(ResourceKind.ENI, eni_id, given, **more, **flags, **moved)
    return DONE


def assign(scope: Scope) -> Body:
    """Answer AssignPrivateIpAddresses and AssignIpv6Addresses with given addresses, or with so many free ones."""
    eni_id = scope.required("NetworkInterfaceId")
    body = scope.find(ResourceKind.ENI, eni_id)
    state = state_in(body)
    chooser = Chooser(scope, str(state["vpc_id"]), str(about(body).get("vswitch_id", "")))
    said = dict(scope.call.parameters)
    added = {
        "private_ip_addresses": scope.texts("PrivateIpAddress")
        or chooser.choose(_count(said, "SecondaryPrivateIpAddressCount")),
        "ipv6_addresses": scope.texts("Ipv6Address") or chooser.choose_ipv6(_count(said, "Ipv6AddressCount")),
        "ipv4_prefixes": scope.texts("Ipv4Prefix")
        or _prefixes(chooser, "ipv4_prefixes", _count(said, "Ipv4PrefixCount")),
        "ipv6_prefixes": scope.texts("Ipv6Prefix")
        or _prefixes(chooser, "ipv6_prefixes", _count(said, "Ipv6PrefixCount")),
    }
    scope.change(ResourceKind.ENI, eni_id, {name: [*texts(state, name), *new] for name, new in added.items()})
    private: Json = {
        "NetworkInterfaceId": eni_id,
        "PrivateIpSet": {"PrivateIpAddress": added["private_ip_addresses"]},
        "Ipv4PrefixSet": {"Ipv4Prefixes": added["ipv4_prefixes"]},
    }
    return {
        "NetworkInterfaceId": eni_id,
        "AssignedPrivateIpAddressesSet": private,
        "Ipv6Sets": {"Ipv6Address": added["ipv6_addresses"]},
        "Ipv6PrefixSets": {"Ipv6Prefix": added["ipv6_prefixes"]},
    }


def _prefixes(chooser: Chooser, name: str, count: int) -> list[str]:
    return chooser.choose_prefix(name, count) if count else []


def unassign(scope: Scope) -> Body:
    """Answer UnassignPrivateIpAddresses and UnassignIpv6Addresses. The primary address stays."""
    eni_id = scope.required("NetworkInterfaceId")
    state = state_in(scope.find(ResourceKind.ENI, eni_id))
    gone = {
        *scope.texts("PrivateIpAddress"),
        *scope.texts("Ipv6Address"),
        *scope.texts("Ipv4Prefix"),
        *scope.texts("Ipv6Prefix"),
    }
    primary = texts(state, "private_ip_addresses")[0]
    if primary in gone:
        raise ApiError("InvalidIp.IpUnassigned", f"{primary} is the primary address of {eni_id}.", FORBIDDEN)
    if absent := sorted(gone - {one for name in ADDRESSES for one in texts(state, name)}):
        raise ApiError("InvalidIp.IpUnassigned", f"{eni_id} has no {', '.join(absent)}.", FORBIDDEN)
    left = {name: [one for one in texts(state, name) if one not in gone] for name in ADDRESSES}
    scope.change(ResourceKind.ENI, eni_id, cast(Fields, left))
    return DONE


def describe_all(scope: Scope) -> Body:
    """Answer DescribeNetworkInterfaces."""
    addresses = {*scope.texts("PrivateIpAddress"), *scope.texts("Ipv6Address")}
    found = [entry for entry in scope.workspace.all(ResourceKind.ENI) if _is_wanted(scope, *entry, addresses=addresses)]
    return scope.page(found, lambda entry: eni_item(scope, *entry), "NetworkInterfaceSets", "NetworkInterfaceSet")


def _is_wanted(scope: Scope, eni_id: str, body: Body, *, addresses: set[str]) -> bool:
    state, more = state_in(body), about(body)
    status = "inuse" if state.get("instance_id") else "available"
    own = {*texts(state, "private_ip_addresses"), *texts(state, "ipv6_addresses")}
    return (
        is_among(eni_id, scope.texts("NetworkInterfaceId"))
        and is_like(str(more.get("name", "")), scope.text("NetworkInterfaceName"))
        and scope.text("InstanceId") in ("", state.get("instance_id", ""))
        and scope.text("VpcId") in ("", state["vpc_id"])
        and scope.text("VSwitchId") in ("", more.get("vswitch_id", ""))
        and scope.text("Type") in ("", _kind(body))
        and scope.text("Status").lower() in ("", status)
        and scope.text("SecurityGroupId") in ("", *texts(state, "security_group_ids"))
        and scope.text("PrimaryIpAddress") in ("", texts(state, "private_ip_addresses")[0])
        and (not addresses or bool(addresses & own))
        and scope.is_flagged("ServiceManaged", is_so=False)
        and is_in_resource_group(scope, body)
        and scope.is_tagged(body)
    )


def describe(scope: Scope) -> Body:
    """Answer DescribeNetworkInterfaceAttribute."""
    eni_id = scope.required("NetworkInterfaceId")
    return cast(Body, eni_item(scope, eni_id, scope.find(ResourceKind.ENI, eni_id)))


def _kind(body: Body) -> str:
    """Return "Primary", "Secondary", or what was asked for in place of "Secondary"."""
    kind = str(state_in(body)["type"]).capitalize()
    return str(about(body).get("kind") or kind) if kind == "Secondary" else kind


def eni_item(scope: Scope, eni_id: str, body: Body) -> Json:
    """Return an ENI as DescribeNetworkInterfaces has it."""
    del scope
    state, more = state_in(body), about(body)
    times = cast(Fields, state.get("connection_tracking", {}))
    shown = ecs_items.eni_item(
        cast(NativeEni, {**state, "network_interface_id": eni_id}), answer_vpc_id(str(state["vpc_id"]))
    )
    told = {key: more[name] for name, key in TOLD_ATTACHED.items() if state.get("instance_id") and name in more}
    item: Fields = {
        **shown,
        "Type": _kind(body),
        "Attachment": {**cast(Fields, shown["Attachment"]), **told},
        "NetworkInterfaceName": more.get("name", ""),
        "Description": more.get("description", ""),
        "VSwitchId": more.get("vswitch_id", ""),
        "ZoneId": more.get("zone_id", ""),
        "CreationTime": more.get("created", ""),
        "DeleteOnRelease": bool(more.get("delete_on_release")),
        "SourceDestCheck": bool(more.get("source_dest_check")),
        "NetworkInterfaceTrafficMode": more.get("traffic_mode", TRAFFIC_MODES[0]),
        "QueueNumber": more.get("queues", 1),
        **({"QueuePairNumber": more["queue_pairs"]} if "queue_pairs" in more else {}),
        "ServiceManaged": False,
        "ServiceID": 0,
        "AssociatedPublicIp": {},
        "ResourceGroupId": more.get("resource_group_id", ""),
        "OwnerId": ACCOUNT,
        "Tags": {"Tag": tag_items(body)},
        ecs_names.TRACKING: {
            key: times.get(name, default)
            for (name, key), default in zip(ecs_names.TRACKING_NAMES.items(), (910, 3, 30), strict=True)
        },
    }
    return item


def interface_in_instance(eni_id: str, body: Body) -> Json:
    """Return an ENI as DescribeInstances has it."""
    state = state_in(body)
    addresses = texts(state, "private_ip_addresses")
    ipv6: list[Json] = [{"Ipv6Address": one} for one in texts(state, "ipv6_addresses")]
    return {
        "NetworkInterfaceId": eni_id,
        "MacAddress": state.get("mac_address", ""),
        "PrimaryIpAddress": addresses[0],
        "Type": _kind(body),
        "PrivateIpSets": {"PrivateIpSet": ecs_items.private_ips(addresses)},
        "Ipv6Sets": {"Ipv6Set": ipv6},
    }
