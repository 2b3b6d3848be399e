"""Network interfaces: create, describe, attach, detach, change, delete; their addresses.

Owns these actions; how an address is chosen is in addresses.py. Must not know HTTP or the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from sgdataplane.control.actions.addresses import Chooser
from sgdataplane.control.actions.groups import replace_groups
from sgdataplane.control.actions.narrowing import USED, Narrowing
from sgdataplane.control.actions.networks import answer_vpc_id
from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope, is_among, is_grouped_and_tagged, is_like
from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.control.calls.products import ACCOUNT
from sgdataplane.model.modes import MODE_TAG, UNTIL_TAG, Mode, mode_of_tags
from sgdataplane.statefile import ecs_enis, ecs_names, ecs_translation
from sgdataplane.statefile.native_objects import NativeEni
from sgdataplane.statefile.records import free_mac
from sgdataplane.store.bodies import EniAbout, TypedDocument
from sgdataplane.store.documents import ADDRESSES, texts
from sgdataplane.store.hosts import TAG
from sgdataplane.store.interface import Body, Json

TRACKING = {key: name for name, key in ecs_names.TRACKING_NAMES.items()}
MODE_TAGS = frozenset({MODE_TAG, UNTIL_TAG})
EniDocument: TypeAlias = TypedDocument[NativeEni, EniAbout]
TYPES = ("Primary", "Secondary", "Trunk", "Member")
ADDRESS_FILTERS = ("PrimaryIpAddress", "PrivateIpAddress", "Ipv6Address")
TRAFFIC_MODES = ("Standard", "HighPerformance")
FILTERS = ("NetworkInterfaceId", "NetworkInterfaceName", *USED, *ADDRESS_FILTERS, "Type", "Status", "ServiceManaged")


def create(scope: Scope) -> Body:
    """Answer CreateNetworkInterface: make a secondary ENI that is attached to nothing."""
    scope.refuse_host_tag()
    groups = read_group_ids(scope.call.parameters)
    eni_id = make(scope, scope.call.parameters, groups, "")
    return eni_item(scope.enis.find(eni_id))


def read_group_ids(asked: Mapping[str, Json]) -> list[str]:
    """Return the groups that SecurityGroupId and SecurityGroupIds name, each once."""
    one, many = asked.get("SecurityGroupId"), asked.get("SecurityGroupIds")
    found = [*(many if isinstance(many, list) else []), *([str(one)] if one else [])]
    return list(dict.fromkeys(found))


def make(scope: Scope, asked: Mapping[str, Json], groups: list[str], instance_id: str) -> str:
    """Make an ENI in a VSwitch, and return its id.

    It is the primary one if it is made with an instance that has none.

    Raises:
        ApiError: The VSwitch or a group is missing or isn't there, or there is no free address.
    """
    switch_id = str(asked.get("VSwitchId") or "")
    if not switch_id:
        raise ApiError("MissingParameter.VSwitchId", "The parameter VSwitchId is required.")
    switch = scope.vswitches.find(switch_id)
    if not groups:
        raise ApiError("MissingParameter.SecurityGroupId", "The parameter SecurityGroupId is required.")
    for group_id in groups:
        scope.find_writable(group_id)
    vpc_id, eni_id = switch.state["vpc_id"], scope.new_id("eni")
    is_primary = bool(instance_id) and not scope.workspace.enis_of(instance_id)
    chooser = Chooser(scope, vpc_id, switch_id)
    addresses = _addresses(asked, chooser)
    state: NativeEni = {
        "network_interface_id": eni_id,
        "instance_id": instance_id,
        "type": "primary" if is_primary else "secondary",
        "vpc_id": vpc_id,
        "mac_address": free_mac(eni_id, set()),
        "private_ip_addresses": addresses,
        "ipv6_addresses": _read_list(asked, "Ipv6Address") or chooser.choose_ipv6(_count(asked, "Ipv6AddressCount")),
        "ipv4_prefixes": _read_list(asked, "Ipv4Prefix") or _choose_ipv4_prefixes(chooser, asked),
        "ipv6_prefixes": _read_list(asked, "Ipv6Prefix") or _choose_ipv6_prefixes(chooser, asked),
        "security_group_ids": [*groups],
        "connection_tracking": tracking(asked),
        **mode_of(scope.tags()),
    }
    more: EniAbout = {
        "name": str(asked.get("NetworkInterfaceName") or ""),
        "description": str(asked.get("Description") or ""),
        "vswitch_id": switch_id,
        "zone_id": switch.about.get("zone_id", ""),
        "created": scope.time,
        "tags": scope.tags(),
        "resource_group_id": str(asked.get("ResourceGroupId") or ""),
        "delete_on_release": is_primary or asked.get("DeleteOnRelease", bool(instance_id)) is True,
        "source_dest_check": asked.get("SourceDestCheck") is True,
        **hardware(asked),
    }
    scope.enis.put(eni_id, state, more)
    return eni_id


def _addresses(asked: Mapping[str, Json], chooser: Chooser) -> list[str]:
    """Return private addresses, the primary one first.

    A list of addresses is of secondary ones. The primary is chosen beside them, unless the call names it.
    """
    listed = asked.get("PrivateIpAddress")
    first = asked.get("PrimaryIpAddress") or (listed if isinstance(listed, str) else "")
    others = list(dict.fromkeys(str(one) for one in listed)) if isinstance(listed, list) else []
    primary = [str(first)] if first else chooser.choose(1, besides=others)
    addresses = [*primary, *(one for one in others if one not in primary)]
    return addresses + chooser.choose(_count(asked, "SecondaryPrivateIpAddressCount"), besides=addresses)


def _read_list(asked: Mapping[str, Json], name: str) -> list[str]:
    """Return a parameter that is a list of texts."""
    value = asked.get(name)
    return [str(one) for one in value] if isinstance(value, list) else [str(value)] if value else []


def hardware(asked: Mapping[str, Json]) -> EniAbout:
    """Return what a call asks for that only hardware has. It is stored and described, and means nothing.

    Raises:
        ApiError: The call asks for a type or a traffic mode that the cloud doesn't have.
    """
    kind, mode = str(asked.get("InstanceType") or ""), str(asked.get("NetworkInterfaceTrafficMode") or "")
    if kind and kind not in TYPES:
        raise ApiError("InvalidParameter.InstanceType", f"InstanceType is one of {', '.join(TYPES)}")
    if mode and mode not in TRAFFIC_MODES:
        raise ApiError("InvalidParameter.NetworkInterfaceTrafficMode", f"it is one of {', '.join(TRAFFIC_MODES)}")
    found: EniAbout = {}
    if kind == "Trunk":
        found["kind"] = kind
    if mode:
        found["traffic_mode"] = mode
    if isinstance(queues := asked.get("QueueNumber"), int):
        found["queues"] = queues
    if isinstance(pairs := asked.get("QueuePairNumber"), int):
        found["queue_pairs"] = pairs
    if isinstance(card := asked.get("NetworkCardIndex"), int):
        found["network_card"] = card
    return found


def read_attachment(asked: Mapping[str, Json]) -> EniAbout:
    """Return what a call asks for beside the instance as it attaches an ENI. It is described, and means nothing."""
    found: EniAbout = {}
    if isinstance(card := asked.get("NetworkCardIndex"), int):
        found["network_card"] = card
    if isinstance(trunk := asked.get("TrunkNetworkInstanceId"), str):
        found["trunk"] = trunk
    return found


def _count(asked: Mapping[str, Json], name: str) -> int:
    value = asked.get(name) or 0
    if not isinstance(value, int) or not 0 <= value <= 100:
        raise ApiError(f"InvalidParameter.{name}", f"{name} has to be 0 to 100")
    return value


def tracking(asked: Mapping[str, Json]) -> dict[str, int]:
    """Return the idle timeouts that a call gives, in the native format."""
    given = asked.get(ecs_names.TRACKING)
    if not isinstance(given, dict):
        return {}
    return {TRACKING[key]: value for key, value in given.items() if key in TRACKING and value is not None}


def mode_of(tags: Mapping[str, str]) -> NativeEni:
    """Return the mode that an ENI's tags give it, in the native format."""
    mode, until = mode_of_tags(tags)
    if mode is not Mode.AUDIT:
        return {}
    return {"mode": mode.value, "audit_until": until} if until else {"mode": mode.value}


def attach(scope: Scope) -> Body:
    """Answer AttachNetworkInterface: a secondary ENI becomes the instance's. SgdpHost names the host.

    If SgdpHost or the instance's tag names one, no earlier claim counts: the host that an ENI leaves claims it as soon
    as it is detached.
    """
    eni_id, instance_id = scope.require("NetworkInterfaceId"), scope.require("InstanceId")
    state = scope.enis.find(eni_id).state
    instance = scope.instances.find(instance_id)
    if state.get("instance_id"):
        raise ApiError(
            "InvalidOperation.InvalidEniState", f"{eni_id} is attached to {state['instance_id']}.", FORBIDDEN
        )
    is_first = not scope.workspace.enis_of(instance_id)
    more: EniAbout = {"host": scope.host} if scope.host or instance.tags.get(TAG) else {}
    asked = {key: value for key, value in scope.call.parameters.items() if value != ""}
    kind = "primary" if is_first else "secondary"
    scope.enis.change(eni_id, {"instance_id": instance_id, "type": kind}, {**more, **read_attachment(asked)})
    return DONE


def detach(scope: Scope) -> Body:
    """Answer DetachNetworkInterface for an ENI that isn't primary. It is bound to no host any more."""
    eni_id, instance_id = scope.require("NetworkInterfaceId"), scope.require("InstanceId")
    eni = scope.enis.find(eni_id)
    state = eni.state
    scope.instances.find(instance_id)
    if state.get("instance_id") != instance_id:
        raise ApiError("InvalidOperation.InvalidEniState", f"{eni_id} isn't attached to {instance_id}.", FORBIDDEN)
    if state["type"] == "primary":
        raise ApiError("InvalidOperation.InvalidEniType", f"{eni_id} is the primary one of {instance_id}.", FORBIDDEN)
    more: EniAbout = {**eni.about, "host": ""}
    more.pop("network_card", None)
    more.pop("trunk", None)
    scope.enis.put(eni_id, {**state, "instance_id": ""}, more)
    return DONE


def move(scope: Scope) -> Body:
    """Answer ModifyInstanceVpcAttribute: the primary ENI gets another VSwitch of its VPC, or another primary address.

    Its other addresses stay. As they are of its VSwitch, it can't leave that with them.
    """
    instance_id, switch_id = scope.require("InstanceId"), scope.require("VSwitchId")
    scope.instances.find(instance_id)
    switch = scope.vswitches.find(switch_id)
    eni_id = next(iter(scope.workspace.enis_of(instance_id)), "")
    eni = scope.enis.find(eni_id)
    vpc_id, others = eni.state["vpc_id"], eni.state.get("private_ip_addresses", [])[1:]
    if switch.state["vpc_id"] != vpc_id:
        raise ApiError(
            "InvalidOperation.VpcMismatch", f"{switch_id} isn't in {vpc_id}, where {instance_id} is.", FORBIDDEN
        )
    left = others + [one for name in ADDRESSES[1:] for one in texts(eni.state, name)]
    if switch_id != eni.about.get("vswitch_id") and left:
        words = f"{eni_id} has addresses of its VSwitch beside the primary one: {', '.join(left[:5])}"
        raise ApiError("InvalidOperation.MultiIpAddress", words, FORBIDDEN)
    address = scope.text("PrivateIpAddress") or Chooser(scope, vpc_id, switch_id).choose(1)[0]
    addresses = [address, *(one for one in others if one != address)]
    place: EniAbout = {"vswitch_id": switch_id, "zone_id": switch.about.get("zone_id", "")}
    scope.enis.change(eni_id, {"private_ip_addresses": addresses}, place)
    if groups := scope.texts("SecurityGroupId"):
        replace_groups(scope, eni_id, groups)
    return DONE


def delete(scope: Scope) -> Body:
    """Answer DeleteNetworkInterface for an ENI that isn't attached. One that isn't there is no error."""
    eni_id = scope.require("NetworkInterfaceId")
    eni = scope.enis.get(eni_id)
    if eni is None:
        return DONE  # the cloud takes it as done
    if eni.state.get("instance_id"):
        raise ApiError("InvalidOperation.InvalidEniState", f"{eni_id} is attached to an instance.", FORBIDDEN)
    scope.enis.delete(eni_id)
    return DONE


def modify(scope: Scope) -> Body:
    """Answer ModifyNetworkInterfaceAttribute: name, groups (all of them anew), timeouts.

    SgdpHost moves the ENI to a host.
    """
    eni_id, asked = scope.require("NetworkInterfaceId"), scope.call.parameters
    eni = scope.enis.find(eni_id)
    given: NativeEni = {}
    if groups := scope.texts("SecurityGroupId"):
        replace_groups(scope, eni_id, groups)
    if scope.has(ecs_names.TRACKING):
        given["connection_tracking"] = {**eni.state.get("connection_tracking", {}), **tracking(asked)}
    more: EniAbout = {}
    if scope.gives("NetworkInterfaceName"):
        more["name"] = scope.text("NetworkInterfaceName")
    if scope.gives("Description"):
        more["description"] = scope.text("Description")
    if scope.has("DeleteOnRelease"):
        more["delete_on_release"] = scope.flag("DeleteOnRelease")
    if scope.has("SourceDestCheck"):
        more["source_dest_check"] = scope.flag("SourceDestCheck")
    more |= hardware(asked)
    if scope.host:
        more["host"] = scope.host
    scope.enis.change(eni_id, given, more)
    return DONE


def assign(scope: Scope) -> Body:
    """Answer AssignPrivateIpAddresses and AssignIpv6Addresses with given addresses, or with so many free ones."""
    eni_id, asked = scope.require("NetworkInterfaceId"), scope.call.parameters
    eni = scope.enis.find(eni_id)
    chooser = Chooser(scope, eni.state["vpc_id"], eni.about.get("vswitch_id", ""))
    added: NativeEni = {
        "private_ip_addresses": scope.texts("PrivateIpAddress")
        or chooser.choose(_count(asked, "SecondaryPrivateIpAddressCount")),
        "ipv6_addresses": scope.texts("Ipv6Address") or chooser.choose_ipv6(_count(asked, "Ipv6AddressCount")),
        "ipv4_prefixes": scope.texts("Ipv4Prefix") or _choose_ipv4_prefixes(chooser, asked),
        "ipv6_prefixes": scope.texts("Ipv6Prefix") or _choose_ipv6_prefixes(chooser, asked),
    }
    scope.enis.change(eni_id, _with_addresses(eni.state, added))
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


def _choose_ipv4_prefixes(chooser: Chooser, asked: Mapping[str, Json]) -> list[str]:
    count = _count(asked, "Ipv4PrefixCount")
    return chooser.choose_prefix("ipv4_prefixes", count) if count else []


def _choose_ipv6_prefixes(chooser: Chooser, asked: Mapping[str, Json]) -> list[str]:
    count = _count(asked, "Ipv6PrefixCount")
    return chooser.choose_prefix("ipv6_prefixes", count) if count else []


def _with_addresses(state: NativeEni, added: NativeEni) -> NativeEni:
    """Return an ENI's addresses and prefixes, with those that are added behind them."""
    return {
        "private_ip_addresses": [*state.get("private_ip_addresses", []), *added["private_ip_addresses"]],
        "ipv6_addresses": [*state.get("ipv6_addresses", []), *added["ipv6_addresses"]],
        "ipv4_prefixes": [*state.get("ipv4_prefixes", []), *added["ipv4_prefixes"]],
        "ipv6_prefixes": [*state.get("ipv6_prefixes", []), *added["ipv6_prefixes"]],
    }


def unassign(scope: Scope) -> Body:
    """Answer UnassignPrivateIpAddresses and UnassignIpv6Addresses. The primary address stays."""
    eni_id = scope.require("NetworkInterfaceId")
    state = scope.enis.find(eni_id).state
    gone = {
        *scope.texts("PrivateIpAddress"),
        *scope.texts("Ipv6Address"),
        *scope.texts("Ipv4Prefix"),
        *scope.texts("Ipv6Prefix"),
    }
    primary = state["private_ip_addresses"][0]
    if primary in gone:
        raise ApiError("InvalidIp.IpUnassigned", f"{primary} is the primary address of {eni_id}.", FORBIDDEN)
    if absent := sorted(gone - {one for name in ADDRESSES for one in texts(state, name)}):
        raise ApiError("InvalidIp.IpUnassigned", f"{eni_id} has no {', '.join(absent)}.", FORBIDDEN)
    left: NativeEni = {
        "private_ip_addresses": [one for one in state.get("private_ip_addresses", []) if one not in gone],
        "ipv6_addresses": [one for one in state.get("ipv6_addresses", []) if one not in gone],
        "ipv4_prefixes": [one for one in state.get("ipv4_prefixes", []) if one not in gone],
        "ipv6_prefixes": [one for one in state.get("ipv6_prefixes", []) if one not in gone],
    }
    scope.enis.change(eni_id, left)
    return DONE


def describe_all(scope: Scope) -> Body:
    """Answer DescribeNetworkInterfaces."""
    addresses = {*scope.texts("PrivateIpAddress"), *scope.texts("Ipv6Address")}
    narrowing = Narrowing(scope, scope.enis)
    narrowing.by_ids_in("NetworkInterfaceId")
    narrowing.by_name(scope.text("NetworkInterfaceName"))
    narrowing.by_uses()
    narrowing.by_addresses(ADDRESS_FILTERS[:1], ADDRESS_FILTERS[1:])
    narrowing.by_tags_and_group()
    found = narrowing.choose(FILTERS, lambda eni: _is_wanted(scope, eni, addresses))
    return scope.page(found, eni_item, "NetworkInterfaceSets", "NetworkInterfaceSet")


def _is_wanted(scope: Scope, eni: EniDocument, addresses: set[str]) -> bool:
    state, more = eni.state, eni.about
    status = "inuse" if state.get("instance_id") else "available"
    own = {*state.get("private_ip_addresses", []), *state.get("ipv6_addresses", [])}
    return (
        is_among(eni.id, scope.texts("NetworkInterfaceId"))
        and is_like(more.get("name", ""), scope.text("NetworkInterfaceName"))
        and scope.text("InstanceId") in ("", state.get("instance_id", ""))
        and scope.text("VpcId") in ("", state["vpc_id"])
        and scope.text("VSwitchId") in ("", more.get("vswitch_id", ""))
        and scope.text("Type") in ("", _kind(eni))
        and scope.text("Status").lower() in ("", status)
        and scope.text("SecurityGroupId") in ("", *state.get("security_group_ids", []))
        and scope.text("PrimaryIpAddress") in ("", state["private_ip_addresses"][0])
        and (not addresses or bool(addresses & own))
        and scope.is_flagged("ServiceManaged", is_so=False)
        and is_grouped_and_tagged(scope, eni)
    )


def describe(scope: Scope) -> Body:
    """Answer DescribeNetworkInterfaceAttribute."""
    return eni_item(scope.enis.find(scope.require("NetworkInterfaceId")))


def _kind(eni: EniDocument) -> str:
    """Return "Primary", "Secondary", or what was asked for in place of "Secondary"."""
    kind = str(eni.state["type"]).capitalize()
    return str(eni.about.get("kind") or kind) if kind == "Secondary" else kind


def eni_item(eni: EniDocument) -> Body:
    """Return an ENI as DescribeNetworkInterfaces has it."""
    state, more = eni.state, eni.about
    return {
        **ecs_enis.eni_item(
            {**state, "network_interface_id": eni.id}, answer_vpc_id(state["vpc_id"]), _attachment_item(more)
        ),
        "Type": _kind(eni),
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
        "Tags": {"Tag": ecs_translation.tag_items(sorted(eni.tags.items()))},
        ecs_names.TRACKING: ecs_enis.tracking_item(state),
    }


def _attachment_item(more: EniAbout) -> dict[str, str | int]:
    """Return what a call asked for as it attached an ENI, under the cloud's keys."""
    found: dict[str, str | int] = {}
    if "network_card" in more:
        found["NetworkCardIndex"] = more["network_card"]
    if "trunk" in more:
        found["TrunkNetworkInterfaceId"] = more["trunk"]
    return found


def interface_in_instance(eni: EniDocument) -> Json:
    """Return an ENI as DescribeInstances has it."""
    state = eni.state
    addresses = state["private_ip_addresses"]
    ipv6 = [{"Ipv6Address": one} for one in state.get("ipv6_addresses", [])]
    return {
        "NetworkInterfaceId": eni.id,
        "MacAddress": state.get("mac_address", ""),
        "PrimaryIpAddress": addresses[0],
        "Type": _kind(eni),
        "PrivateIpSets": {"PrivateIpSet": ecs_enis.private_ips(addresses)},
        "Ipv6Sets": {"Ipv6Set": ipv6},
    }
