"""Instances: a name with network interfaces. What the cloud's calls say of disks, images and money means nothing here.

Owns these actions. Must not know HTTP or the store.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import cast

from sgdataplane.control.actions import interfaces
from sgdataplane.control.actions.interfaces import asked_groups, make
from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import REGION, Scope, is_among, is_in_resource_group, is_like, tag_items
from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.store.documents import Fields, ResourceKind, about, state_in, texts
from sgdataplane.store.hosts import FIELD
from sgdataplane.store.interface import Body, Json

RUNNING, STOPPED = "Running", "Stopped"
MOST_AT_ONCE = 100
OWN = ("private_ip_addresses", "ipv6_addresses")
BY_ENIS = (
    "SecurityGroupId",
    "VpcId",
    "VSwitchId",
    "PrivateIpAddresses",
    "Ipv6Address",
)  # filters that its interfaces answer
BY_ITSELF = {"ZoneId": "zone_id", "InstanceType": "instance_type", "ImageId": "image_id"}
NEVER = ("PublicIpAddresses", "EipAddresses", "InnerIpAddresses", "RdmaIpAddresses")  # of which no instance has one
FILTERS: Mapping[str, Callable[[datetime, datetime], bool]] = {
    "CreationStartTime": operator.ge,
    "CreationEndTime": operator.le,
    "ExpiredStartTime": lambda *_: False,
    "ExpiredEndTime": lambda *_: False,
}


def create(scope: Scope) -> Body:
    """CreateInstance: one, stopped as the cloud makes it. That changes nothing for packets."""
    return {"InstanceId": _make(scope, 0, STOPPED)}


def run(scope: Scope) -> Body:
    """RunInstances: Amount of them. Nothing is made if one can't be."""
    amount = scope.number("Amount", 1)
    if not 1 <= amount <= MOST_AT_ONCE:
        raise ApiError("InvalidAmount.ValueNotSupported", f"Amount is 1 to {MOST_AT_ONCE}")
    ids = [_make(scope, number, RUNNING) for number in range(amount)]
    return {"InstanceIdSets": {"InstanceIdSet": cast(Json, ids)}, "OrderId": ""}


def _make(scope: Scope, number: int, status: str) -> str:
    instance_id, name = scope.new_id("i"), scope.text("InstanceName")
    if name and number and scope.flag("UniqueSuffix"):
        name = f"{name}{number + 1:03d}"
    more: Fields = {
        "created": scope.time,
        "status": status,
        "host_name": scope.text("HostName", instance_id),
        "description": scope.text("Description"),
        "instance_type": scope.text("InstanceType"),
        "image_id": scope.text("ImageId"),
        "zone_id": scope.text("ZoneId"),
        "tags": scope.instance_tags(),
        "resource_group_id": scope.text("ResourceGroupId"),
    }
    state: Fields = {"instance_id": instance_id, "instance_name": name or instance_id}
    scope.workspace.put(ResourceKind.INSTANCE, instance_id, state, more)
    said = dict(scope.call.parameters)
    said = {
        key: said[key] for key in ("VSwitchId", "PrivateIpAddress", "Ipv6Address", "Ipv6AddressCount") if key in said
    }
    asked = scope.objects("NetworkInterface")
    groups = asked_groups(scope.call.parameters)
    primary = next((one for one in asked if one.get("InstanceType") == "Primary"), None)
    first = {**said, **(primary or {})}
    make(scope, first, asked_groups(first) or groups, instance_id)
    for other in asked:
        if other is not primary:
            _add(scope, {"VSwitchId": said.get("VSwitchId"), **other}, groups, instance_id)
    return instance_id


def _add(scope: Scope, other: Fields, groups: list[str], instance_id: str) -> None:
    """A secondary ENI: one that is there already, or a new one."""
    eni_id = other.get("NetworkInterfaceId")
    if not eni_id:
        make(scope, other, asked_groups(other) or groups, instance_id)
        return
    if state_in(scope.find(ResourceKind.ENI, str(eni_id))).get("instance_id"):
        raise ApiError("InvalidOperation.InvalidEniState", f"{eni_id} is attached to an instance.", FORBIDDEN)
    scope.change(ResourceKind.ENI, str(eni_id), {"instance_id": instance_id, "type": "secondary"})


def delete(scope: Scope) -> Body:
    """DeleteInstance, DeleteInstances: with the ENIs that are released with it; others stay, attached to nothing."""
    for instance_id in scope.texts("InstanceId"):
        scope.find(ResourceKind.INSTANCE, instance_id)
        if scope.is_dry_run:
            continue
        for eni_id in scope.workspace.enis_of(instance_id):
            if about(scope.find(ResourceKind.ENI, eni_id)).get("delete_on_release"):
                scope.workspace.delete(ResourceKind.ENI, eni_id)
            else:
                scope.change(ResourceKind.ENI, eni_id, {"instance_id": "", "type": "secondary"}, **{FIELD: ""})
        scope.workspace.delete(ResourceKind.INSTANCE, instance_id)
    return DONE


def start(scope: Scope) -> Body:
    return _set_status(scope, RUNNING)


def stop(scope: Scope) -> Body:
    """A stopped instance keeps its interfaces and its policy."""
    return _set_status(scope, STOPPED)


def _set_status(scope: Scope, status: str) -> Body:
    for instance_id in scope.texts("InstanceId"):
        scope.find(ResourceKind.INSTANCE, instance_id)
        if not scope.is_dry_run:
            scope.change(ResourceKind.INSTANCE, instance_id, {}, status=status)
    return DONE


def modify(scope: Scope) -> Body:
    """ModifyInstanceAttribute: its name, and the groups of its primary ENI."""
    instance_id = scope.required("InstanceId")
    scope.find(ResourceKind.INSTANCE, instance_id)
    state: Fields = {"instance_name": scope.text("InstanceName")} if scope.has("InstanceName") else {}
    more = {
        name: cast(Json, scope.text(key))
        for name, key in (("description", "Description"), ("host_name", "HostName"))
        if scope.has(key)
    }
    scope.change(ResourceKind.INSTANCE, instance_id, state, **more)
    groups = scope.texts("SecurityGroupIds")
    enis = scope.workspace.enis_of(instance_id)
    if groups and enis:
        before = set(texts(state_in(scope.find(ResourceKind.ENI, enis[0])), "security_group_ids"))
        for group_id in before ^ set(groups):
            scope.find_writable(group_id)
        scope.change(ResourceKind.ENI, enis[0], {"security_group_ids": cast(Json, sorted(dict.fromkeys(groups)))})
    return DONE


def describe_all(scope: Scope) -> Body:
    """DescribeInstances."""
    found = [entry for entry in scope.workspace.all(ResourceKind.INSTANCE) if _is_wanted(scope, *entry)]
    return scope.page(found, lambda entry: instance_item(scope, *entry), "Instances", "Instance")


def _is_wanted(scope: Scope, instance_id: str, body: Body) -> bool:
    more = about(body)
    return (
        is_among(instance_id, scope.texts("InstanceIds"))
        and is_like(str(state_in(body).get("instance_name", "")), scope.text("InstanceName"))
        and scope.text("Status") in ("", more.get("status", RUNNING))
        and all(scope.text(key) in ("", more.get(name, "")) for key, name in BY_ITSELF.items())
        and not any(map(scope.has, NEVER))
        and all(_is_in_time(one, str(more["created"])) for one in scope.objects("Filter"))
        and is_in_resource_group(scope, body)
        and scope.is_tagged(body)
        and (not any(map(scope.has, BY_ENIS)) or _has_wanted_enis(scope, instance_id))
    )


def _is_in_time(asked: Fields, created: str) -> bool:
    """One Filter.N: of when an instance was made, and of when it ends, which none does."""
    key, value = str(asked.get("Key", "")), str(asked.get("Value", ""))
    if key not in FILTERS:
        raise ApiError("InvalidParameter.Filter", f"Filter.N.Key is one of {', '.join(FILTERS)}")
    at = _moment(value)
    return FILTERS[key](_moment(created), at)


def _moment(text: str) -> datetime:
    """A time as the cloud writes it, with seconds or without."""
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ"):
        with suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC)
    raise ApiError("InvalidParameter.Filter", f"{text} is no time such as 2026-01-31T12:00Z")


def _has_wanted_enis(scope: Scope, instance_id: str) -> bool:
    enis = [scope.find(ResourceKind.ENI, eni_id) for eni_id in scope.workspace.enis_of(instance_id)]
    groups = {group for eni in enis for group in texts(state_in(eni), "security_group_ids")}
    addresses = {one for eni in enis for name in OWN for one in texts(state_in(eni), name)}
    wanted = {*scope.texts("PrivateIpAddresses"), *scope.texts("Ipv6Address")}
    return (
        scope.text("SecurityGroupId") in ("", *groups)
        and scope.text("VpcId") in ("", *(state_in(eni)["vpc_id"] for eni in enis))
        and scope.text("VSwitchId") in ("", *(about(eni).get("vswitch_id") for eni in enis))
        and (not wanted or bool(wanted & addresses))
    )


def instance_item(scope: Scope, instance_id: str, body: Body) -> Json:
    state, more = state_in(body), about(body)
    enis = [(eni_id, scope.find(ResourceKind.ENI, eni_id)) for eni_id in scope.workspace.enis_of(instance_id)]
    primary = state_in(enis[0][1]) if enis else {}
    vswitch_id = about(enis[0][1]).get("vswitch_id", "") if enis else ""
    shown: list[Json] = [
        {
            "NetworkInterfaceId": eni_id,
            "MacAddress": state_in(eni).get("mac_address", ""),
            "PrimaryIpAddress": texts(state_in(eni), "private_ip_addresses")[0],
            "Type": str(state_in(eni)["type"]).capitalize(),
            "PrivateIpSets": cast(Fields, interfaces.eni_item(scope, eni_id, eni))["PrivateIpSets"],
        }
        for eni_id, eni in enis
    ]
    return {
        "InstanceId": instance_id,
        "InstanceName": state.get("instance_name", ""),
        "HostName": more.get("host_name", ""),
        "Description": more.get("description", ""),
        "Status": more.get("status", RUNNING),
        "InstanceType": more.get("instance_type", ""),
        "ImageId": more.get("image_id", ""),
        "CreationTime": more.get("created", ""),
        "RegionId": REGION,
        "ResourceGroupId": more.get("resource_group_id", ""),
        "ZoneId": more.get("zone_id", ""),
        "InstanceNetworkType": "vpc",
        "SecurityGroupIds": {"SecurityGroupId": primary.get("security_group_ids", [])},
        "VpcAttributes": {
            "VpcId": primary.get("vpc_id", ""),
            "VSwitchId": vswitch_id,
            "PrivateIpAddress": {"IpAddress": primary.get("private_ip_addresses", [])},
        },
        "PublicIpAddress": {"IpAddress": []},
        "InnerIpAddress": {"IpAddress": []},
        "NetworkInterfaces": {"NetworkInterface": shown},
        "Tags": {"Tag": tag_items(body)},
    }
