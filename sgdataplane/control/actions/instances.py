"""Instances: names with network interfaces. What the cloud's calls say of disks, images and money means nothing here.

Owns these actions but for answers about what is behind a name (machines.py). Must not know HTTP or the store.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from sgdataplane.control.actions.groups import default_group, replace_groups
from sgdataplane.control.actions.interfaces import make, read_attachment, read_group_ids
from sgdataplane.control.actions.machines import (
    ASKED_FILTERS,
    InstanceDocument,
    classic_addresses,
    disks_asked,
    instance_item,
    is_as_asked_for,
    is_classic,
    public_addresses,
    read_described,
)
from sgdataplane.control.actions.narrowing import USED, Narrowing
from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope, is_among, is_grouped_and_tagged, is_like
from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.model.state import NicType
from sgdataplane.statefile.native_objects import NativeEni, NativeInstance
from sgdataplane.store.bodies import InstanceAbout
from sgdataplane.store.documents import Fields
from sgdataplane.store.interface import Body

RUNNING, STOPPED = "Running", "Stopped"
MAX_AT_ONCE = 100
BY_ENIS = (
    "SecurityGroupId",
    "VpcId",
    "VSwitchId",
    "PrivateIpAddresses",
    "Ipv6Address",
)  # filters that its interfaces answer
NEVER = ("EipAddresses", "RdmaIpAddresses")  # of which no instance has one
MAY_BE_WRONG = ("Filter", "PublicIpAddresses", "InnerIpAddresses")  # they refuse calls once they meet an instance
DESCRIBED_BY = (
    *("InstanceIds", "InstanceName", "Status", "ZoneId", "InstanceType", "ImageId", "InstanceNetworkType"),
    *(*ASKED_FILTERS, "InstanceTypeFamily", *NEVER, *MAY_BE_WRONG, *BY_ENIS),
)  # the filters of DescribeInstances
FILTERS: Mapping[str, Callable[[datetime, datetime], bool]] = {
    "CreationStartTime": operator.ge,
    "CreationEndTime": operator.le,
    "ExpiredStartTime": lambda *_: False,
    "ExpiredEndTime": lambda *_: False,
}


def create(scope: Scope) -> Body:
    """Answer CreateInstance: make one instance, stopped as the cloud makes it. That changes nothing for packets."""
    return {"InstanceId": _make(scope, 0, STOPPED)}


def run(scope: Scope) -> Body:
    """Answer RunInstances: make Amount instances, or none if one of them can't be made."""
    amount = scope.number("Amount", 1)
    if not 1 <= amount <= MAX_AT_ONCE:
        raise ApiError("InvalidAmount.ValueNotSupported", f"Amount is 1 to {MAX_AT_ONCE}")
    ids = [_make(scope, number, RUNNING) for number in range(amount)]
    return {"InstanceIdSets": {"InstanceIdSet": ids}, "OrderId": ""}


def _make(scope: Scope, number: int, status: str) -> str:
    instance_id, name = scope.new_id("i"), scope.text("InstanceName")
    if name and number and scope.flag("UniqueSuffix"):
        name = f"{name}{number + 1:03d}"
    more: InstanceAbout = {
        "created": scope.time,
        "status": status,
        "host_name": scope.text("HostName", instance_id),
        "description": scope.text("Description"),
        "instance_type": scope.text("InstanceType"),
        "image_id": scope.text("ImageId"),
        "zone_id": scope.text("ZoneId"),
        "tags": scope.instance_tags(),
        "resource_group_id": scope.text("ResourceGroupId"),
        "asked": read_described(scope),
        "disks": disks_asked(scope),
    }
    state: NativeInstance = {"instance_id": instance_id, "instance_name": name or instance_id}
    scope.instances.put(instance_id, state, more)
    said = scope.call.parameters
    said = {
        key: said[key] for key in ("VSwitchId", "PrivateIpAddress", "Ipv6Address", "Ipv6AddressCount") if key in said
    }
    asked = scope.objects("NetworkInterface")
    groups = read_group_ids(scope.call.parameters)
    primary = next((one for one in asked if one.get("InstanceType") == "Primary"), None)
    first = {**said, **(primary or {})}
    groups = read_group_ids(first) or groups or _default_groups(scope, str(first.get("VSwitchId") or ""))
    eni_id = make(scope, first, groups, instance_id)
    if not more["zone_id"]:
        scope.instances.change(instance_id, about={"zone_id": scope.enis.find(eni_id).about["zone_id"]})
    for other in asked:
        if other is not primary:
            _add(scope, {"VSwitchId": said.get("VSwitchId"), **other}, groups, instance_id)
    return instance_id


def _default_groups(scope: Scope, switch_id: str) -> list[str]:
    """Return the default group of a VSwitch's VPC where the call asks for no group and may have that one.

    Otherwise the list is empty.
    """
    is_asked = scope.call.extensions.get("SgdpDefaultGroup", "").lower() == "true"
    if not switch_id or not (is_asked or scope.habits.has_default_group):
        return []
    return [default_group(scope, scope.vswitches.find(switch_id).state["vpc_id"])]


def _add(scope: Scope, other: Fields, groups: list[str], instance_id: str) -> None:
    """Add a secondary ENI to an instance: one that is there already, or a new one."""
    eni_id = other.get("NetworkInterfaceId")
    if not eni_id:
        make(scope, other, read_group_ids(other) or groups, instance_id)
        return
    if scope.enis.find(str(eni_id)).state.get("instance_id"):
        raise ApiError("InvalidOperation.InvalidEniState", f"{eni_id} is attached to an instance.", FORBIDDEN)
    given: NativeEni = {"instance_id": instance_id, "type": "secondary"}
    scope.enis.change(str(eni_id), given, read_attachment(other))


def delete(scope: Scope) -> Body:
    """Answer DeleteInstance and DeleteInstances. ENIs that aren't released with it stay, attached to nothing."""
    for instance_id in scope.texts("InstanceId"):
        scope.instances.find(instance_id)
        if scope.is_dry_run:
            continue
        for eni_id in scope.workspace.enis_of(instance_id):
            if scope.enis.find(eni_id).about.get("delete_on_release"):
                scope.enis.delete(eni_id)
            else:
                scope.enis.change(eni_id, {"instance_id": "", "type": "secondary"}, {"host": ""})
        scope.instances.delete(instance_id)
    return DONE


def start(scope: Scope) -> Body:
    """Answer StartInstance and StartInstances, which change nothing for packets."""
    return _set_status(scope, RUNNING)


def stop(scope: Scope) -> Body:
    """Answer StopInstance and StopInstances. A stopped instance keeps its interfaces and its policy."""
    return _set_status(scope, STOPPED)


def _set_status(scope: Scope, status: str) -> Body:
    for instance_id in scope.texts("InstanceId"):
        scope.instances.find(instance_id)
        if not scope.is_dry_run:
            scope.instances.change(instance_id, about={"status": status})
    return DONE


def modify(scope: Scope) -> Body:
    """Answer ModifyInstanceAttribute: its name, what else was asked for, and the groups of its primary ENI."""
    instance_id = scope.require("InstanceId")
    instance = scope.instances.find(instance_id)
    state: NativeInstance = {"instance_name": scope.text("InstanceName")} if scope.has("InstanceName") else {}
    more: InstanceAbout = {}
    if scope.has("Description"):
        more["description"] = scope.text("Description")
    if scope.has("HostName"):
        more["host_name"] = scope.text("HostName")
    more["asked"] = {**instance.about.get("asked", {}), **read_described(scope)}
    scope.instances.change(instance_id, state, more)
    groups = scope.texts("SecurityGroupIds")
    enis = scope.workspace.enis_of(instance_id)
    if groups and enis:
        replace_groups(scope, enis[0], groups)
    return DONE


def describe_all(scope: Scope) -> Body:
    """Answer DescribeInstances."""
    narrowing = Narrowing(scope, scope.instances)
    narrowing.by_ids_in("InstanceIds")
    narrowing.by_name(scope.text("InstanceName"))
    if not any(map(scope.has, MAY_BE_WRONG)):
        narrowing.by_tags_and_group()
        _select_by_enis(scope, narrowing)
    found = narrowing.choose(DESCRIBED_BY, lambda instance: _is_wanted(scope, instance))
    return scope.page(found, lambda instance: instance_item(scope, instance), "Instances", "Instance")


def _select_by_enis(scope: Scope, narrowing: Narrowing[NativeInstance, InstanceAbout]) -> None:
    """Leave the instances that have an ENI by which a call asks for them."""
    enis = Narrowing(scope, scope.enis)
    enis.by_uses({name: kind for name, kind in USED.items() if name in BY_ENIS})
    enis.by_addresses(("PrivateIpAddresses", "Ipv6Address"))
    if (found := enis.least()) is not None:
        states = filter(None, map(scope.enis.get, found))
        narrowing.leave({eni.state.get("instance_id", "") for eni in states})


def _is_wanted(scope: Scope, instance: InstanceDocument) -> bool:
    instance_id, more = instance.id, instance.about
    return (
        is_among(instance_id, scope.texts("InstanceIds"))
        and is_like(instance.state.get("instance_name", ""), scope.text("InstanceName"))
        and scope.text("Status") in ("", more.get("status", RUNNING))
        and scope.text("ZoneId") in ("", more.get("zone_id", ""))
        and scope.text("InstanceType") in ("", more.get("instance_type", ""))
        and scope.text("ImageId") in ("", more.get("image_id", ""))
        and is_as_asked_for(scope, instance)
        and not any(map(scope.has, NEVER))
        and _has_wanted_addresses(scope, instance)
        and scope.text("InstanceNetworkType") in ("", "classic" if is_classic(scope, instance_id) else "vpc")
        and all(_is_in_time(one, more["created"]) for one in scope.objects("Filter"))
        and is_grouped_and_tagged(scope, instance)
        and (not any(map(scope.has, BY_ENIS)) or _has_wanted_enis(scope, instance_id))
    )


def _has_wanted_addresses(scope: Scope, instance: InstanceDocument) -> bool:
    """Whether an instance shows one of the public addresses, and one of the inner ones, that a call asks for."""
    public, inner = scope.texts("PublicIpAddresses"), scope.texts("InnerIpAddresses")
    has_public = not public or not {*public}.isdisjoint(public_addresses(scope, instance))
    return has_public and (
        not inner or not {*inner}.isdisjoint(classic_addresses(scope, instance.id, NicType.INTRANET))
    )


def _is_in_time(asked: Fields, created: str) -> bool:
    """Whether an instance passes one Filter.N: when it was made, or when it ends, which none does.

    Raises:
        ApiError: There is no such filter, or its value is no time.
    """
    key, value = str(asked.get("Key", "")), str(asked.get("Value", ""))
    if key not in FILTERS:
        raise ApiError("InvalidParameter.Filter", f"Filter.N.Key is one of {', '.join(FILTERS)}")
    at = _moment(value)
    return FILTERS[key](_moment(created), at)


def _moment(text: str) -> datetime:
    """Return a time that is written as the cloud does, with seconds or without.

    Raises:
        ApiError: It is no time.
    """
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ"):
        with suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC)
    raise ApiError("InvalidParameter.Filter", f"{text} is not a time such as 2026-01-31T12:00Z")


def _has_wanted_enis(scope: Scope, instance_id: str) -> bool:
    enis = [scope.enis.find(eni_id) for eni_id in scope.workspace.enis_of(instance_id)]
    groups = {group for eni in enis for group in eni.state.get("security_group_ids", [])}
    addresses = {one for eni in enis for one in eni.state.get("private_ip_addresses", [])}
    addresses |= {one for eni in enis for one in eni.state.get("ipv6_addresses", [])}
    wanted = {*scope.texts("PrivateIpAddresses"), *scope.texts("Ipv6Address")}
    return (
        scope.text("SecurityGroupId") in ("", *groups)
        and scope.text("VpcId") in ("", *(eni.state["vpc_id"] for eni in enis))
        and scope.text("VSwitchId") in ("", *(eni.about.get("vswitch_id") for eni in enis))
        and (not wanted or bool(wanted & addresses))
    )
