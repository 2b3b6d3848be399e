"""VSwitches, and the blocks that are reserved in them.

Owns these actions. A VSwitch gives ENIs their addresses and means nothing to a policy. Must not know HTTP or the store.
"""

from __future__ import annotations

from typing import TypeAlias

from sgdataplane.control.actions.narrowing import Narrowing
from sgdataplane.control.actions.networks import (
    DEFAULT_RESOURCE_GROUP,
    default_vpc,
    ipv6_subnet,
    is_inside,
    key_items,
    parse_block,
    require_unused,
    table_of,
    turn_on_ipv6,
    vswitch_blocks,
)
from sgdataplane.control.actions.regions import first_zone
from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope, is_among, is_grouped_and_tagged, is_like
from sgdataplane.control.calls.answers import NOT_FOUND, ApiError
from sgdataplane.net.values import Family, Prefix
from sgdataplane.store.bodies import Reservation, TypedDocument, VSwitchAbout, VSwitchState
from sgdataplane.store.documents import ResourceKind, name_of
from sgdataplane.store.interface import Body, Json

VSwitchDocument: TypeAlias = TypedDocument[VSwitchState, VSwitchAbout]
LENGTHS = range(16, 30)  # of a VSwitch's block
DEFAULT_LENGTH = 20  # of that of a default VSwitch
KEPT = 4  # addresses of a block that no ENI gets
MAX_RESERVATIONS = 10  # of a VSwitch
FILTERS = (
    *("VSwitchId", "VpcId", "RouteTableId", "ZoneId", "VSwitchName", "IsDefault", "EnableIpv6"),
)  # of DescribeVSwitches


def create_vswitch(scope: Scope) -> Body:
    """Answer CreateVSwitch: make one with a block within its VPC's."""
    vpc_id = scope.require("VpcId")
    scope.require("CidrBlock")
    block = parse_block("CidrBlock", scope.text("CidrBlock"))
    if block.family is not Family.IPV4 or block.length not in LENGTHS:
        words = f"a VSwitch has an IPv4 block of /{LENGTHS[0]} to /{LENGTHS[-1]}, and not {block}"
        raise ApiError("InvalidCidrBlock.Malformed", words)
    return {"VSwitchId": _make(scope, vpc_id, block, is_default=False)}


def create_default_vswitch(scope: Scope) -> Body:
    """Answer CreateDefaultVSwitch: make one in the default VPC, at most one in a zone."""
    vpc_id, zone = default_vpc(scope), scope.text("ZoneId", first_zone(scope.region))
    if scope.has("Ipv6CidrBlock"):
        turn_on_ipv6(scope, vpc_id)
    taken = []
    for switch_id in _switches(scope, vpc_id):
        switch = scope.vswitches.find(switch_id)
        if switch.about.get("is_default") and switch.about.get("zone_id") == zone:
            raise ApiError("OperationDenied.DefaultVSwitchExists", f"{switch_id} is the default VSwitch of {zone}.")
        taken.append(Prefix.parse(switch.state["cidr_block"]))
    outer = Prefix.parse(scope.vpcs.state(vpc_id)["cidr_blocks"][0])
    size = 1 << (32 - DEFAULT_LENGTH)
    for first in range(outer.first, outer.last, size):
        block = Prefix(32, first, DEFAULT_LENGTH)
        if not any(other.first <= block.last and block.first <= other.last for other in taken):
            return {"VSwitchId": _make(scope, vpc_id, block, is_default=True)}
    raise ApiError("QuotaExceeded.VSwitch", f"{vpc_id} has no free block for a VSwitch")


def _make(scope: Scope, vpc_id: str, block: Prefix, *, is_default: bool) -> str:
    vpc, switch_id = scope.vpcs.find(vpc_id), scope.new_id("vsw")
    if not is_inside(block, [Prefix.parse(text) for text in vpc.state.get("cidr_blocks", [])]):
        raise ApiError("InvalidCidrBlock.Malformed", f"{block} is outside the blocks of {vpc_id}")
    for other_id in _switches(scope, vpc_id):
        other = Prefix.parse(scope.vswitches.state(other_id)["cidr_block"])
        if other.first <= block.last and block.first <= other.last:
            raise ApiError("InvalidCidrBlock.Conflict", f"{block} overlaps {other} of {other_id}")
    ipv6 = _ipv6_block(scope, vpc_id) if scope.has("Ipv6CidrBlock") else ""
    more: VSwitchAbout = {
        "name": scope.text("VSwitchName"),
        "description": scope.text("Description"),
        "created": scope.time,
        "zone_id": scope.text("ZoneId", first_zone(scope.region)),
        "tags": scope.tags(),
        "is_default": is_default,
    }
    state: VSwitchState = {"vpc_id": vpc_id, "cidr_block": str(block), "ipv6_cidr_block": ipv6}
    scope.vswitches.put(switch_id, state, more)
    return switch_id


def _ipv6_block(scope: Scope, vpc_id: str, own: str = "") -> str:
    """Return the IPv6 block that a call asks for by its number. `own` is the VSwitch that asks.

    Raises:
        ApiError: The VPC has no such block, or another VSwitch has it.
    """
    block = ipv6_subnet(scope.vpcs.find(vpc_id), scope.number("Ipv6CidrBlock", 0))
    for other_id in _switches(scope, vpc_id):
        taken = scope.vswitches.state(other_id).get("ipv6_cidr_block")
        if taken == block and other_id != own:
            raise ApiError("InvalidIpv6CidrBlock.Conflict", f"{block} is the block of {other_id}")
    return block


def _switches(scope: Scope, vpc_id: str) -> list[str]:
    return [name_of(path) for path in scope.workspace.users(ResourceKind.VPC, vpc_id, ResourceKind.VSWITCH)]


def modify_vswitch(scope: Scope) -> Body:
    """Answer ModifyVSwitchAttribute: name, description, and whether it has an IPv6 block."""
    switch_id = scope.require("VSwitchId")
    switch = scope.vswitches.find(switch_id)
    given: VSwitchAbout = {}
    if scope.gives("VSwitchName"):
        given["name"] = scope.text("VSwitchName")
    if scope.gives("Description"):
        given["description"] = scope.text("Description")
    state: VSwitchState = {}
    if scope.has("EnableIPv6"):
        vpc_id = switch.state["vpc_id"]
        if switch.about.get("is_default"):
            turn_on_ipv6(scope, vpc_id)
        state["ipv6_cidr_block"] = _ipv6_block(scope, vpc_id, switch_id) if scope.flag("EnableIPv6") else ""
        former = switch.state.get("ipv6_cidr_block")
        if former and former != state["ipv6_cidr_block"]:
            require_unused(scope, vpc_id, Prefix.parse(former), "OperationFailed.Ipv6InUse")
    scope.vswitches.change(switch_id, state, given)
    return DONE


def delete_vswitch(scope: Scope) -> Body:
    """Answer DeleteVSwitch for a VSwitch that no ENI is in."""
    switch_id = scope.require("VSwitchId")
    scope.vswitches.find(switch_id)
    scope.refuse_used(ResourceKind.VSWITCH, switch_id, "DependencyViolation")
    scope.vswitches.delete(switch_id)
    return DONE


def describe_vswitches(scope: Scope) -> Body:
    """Answer DescribeVSwitches."""
    ids, vpc_id = scope.texts("VSwitchId", ","), scope.text("VpcId")

    def is_wanted(switch: VSwitchDocument) -> bool:
        return (
            is_among(switch.id, ids)
            and vpc_id in ("", switch.state["vpc_id"])
            and scope.text("RouteTableId") in ("", table_of(switch.state["vpc_id"]))
            and scope.text("ZoneId") in ("", switch.about.get("zone_id", ""))
            and is_like(switch.about.get("name", ""), scope.text("VSwitchName"))
            and scope.is_flagged("IsDefault", is_so=bool(switch.about.get("is_default")))
            and scope.is_flagged("EnableIpv6", is_so="ipv6_cidr_block" in switch.state)
            and is_grouped_and_tagged(scope, switch)
        )

    narrowing = Narrowing(scope, scope.vswitches)
    narrowing.by_ids(ids)
    narrowing.by_name(scope.text("VSwitchName"))
    narrowing.by_uses({"VpcId": ResourceKind.VPC})
    narrowing.by_tags_and_group()
    found = narrowing.choose(FILTERS, is_wanted)
    return scope.page(found, lambda switch: vswitch_item(scope, switch), "VSwitches", "VSwitch")


def describe_vswitch(scope: Scope) -> Body:
    """Answer DescribeVSwitchAttributes."""
    return vswitch_item(scope, scope.vswitches.find(scope.require("VSwitchId")))


def vswitch_item(scope: Scope, switch: VSwitchDocument) -> Body:
    """Return a VSwitch as DescribeVSwitches has it."""
    state, more = switch.state, switch.about
    block, vpc_id = Prefix.parse(state["cidr_block"]), state["vpc_id"]
    used = len(scope.workspace.users(ResourceKind.VSWITCH, switch.id, ResourceKind.ENI))
    return {
        "VSwitchId": switch.id,
        "VSwitchName": more.get("name", ""),
        "Description": more.get("description", ""),
        "CreationTime": more.get("created", ""),
        "CidrBlock": str(block),
        "Ipv6CidrBlock": state.get("ipv6_cidr_block", ""),
        "EnabledIpv6": "ipv6_cidr_block" in state,
        "VpcId": vpc_id,
        "ZoneId": more.get("zone_id", ""),
        "RegionId": scope.region,
        "Status": "Available",
        "IsDefault": bool(more.get("is_default")),
        "ResourceGroupId": more.get("resource_group_id") or DEFAULT_RESOURCE_GROUP,
        "RouteTable": {"RouteTableId": table_of(vpc_id), "RouteTableType": "System"},
        "AvailableIpAddressCount": max(0, block.last - block.first + 1 - KEPT - used),
        "Tags": {"Tag": key_items(switch)},
    }


# reserved blocks


def _list_reserved(switch: VSwitchDocument) -> dict[str, Reservation]:
    """Return the blocks of a VSwitch that are kept for delegated prefixes, by their ids."""
    return switch.about.get("reservations", {})


def create_reservation(scope: Scope) -> Body:
    """Answer CreateVSwitchCidrReservation: from now on no single address is chosen from a block of the VSwitch."""
    switch_id = scope.require("VSwitchId")
    switch = scope.vswitches.find(switch_id)
    name = "VSwitchCidrReservationCidr"
    block = parse_block(name, scope.require(name))
    if not is_inside(block, [*vswitch_blocks(switch.state)]):
        raise ApiError(f"Invalid{name}.Malformed", f"{block} is outside of {switch_id}")
    known = _list_reserved(switch)
    if len(known) >= MAX_RESERVATIONS:
        raise ApiError("QuotaExceeded.VSwitchCidrReservation", f"{switch_id} has {MAX_RESERVATIONS} reserved blocks")
    for other in (Prefix.parse(one["block"]) for one in known.values()):
        if other.family is block.family and other.first <= block.last and block.first <= other.last:
            raise ApiError("OperationDenied.CidrConflict", f"{block} overlaps the reserved block {other}")
    one: Reservation = {
        "block": str(block),
        "type": scope.text("VSwitchCidrReservationType", "Prefix"),
        "name": scope.text("VSwitchCidrReservationName"),
        "description": scope.text("VSwitchCidrReservationDescription"),
        "created": scope.time,
    }
    reservation_id = scope.new_id("vcr")
    _write(scope, switch_id, {**known, reservation_id: one})
    return {"VSwitchCidrReservationId": reservation_id}


def modify_reservation(scope: Scope) -> Body:
    """Answer ModifyVSwitchCidrReservationAttribute, which changes name and description."""
    reservation_id, switch_id, known = _find_reservation(scope)
    given: Reservation = {}
    if scope.gives("VSwitchCidrReservationName"):
        given["name"] = scope.text("VSwitchCidrReservationName")
    if scope.gives("VSwitchCidrReservationDescription"):
        given["description"] = scope.text("VSwitchCidrReservationDescription")
    _write(scope, switch_id, {**known, reservation_id: {**known[reservation_id], **given}})
    return DONE


def delete_reservation(scope: Scope) -> Body:
    """Answer DeleteVSwitchCidrReservation for a block from which no ENI has anything."""
    reservation_id, switch_id, known = _find_reservation(scope)
    vpc_id = scope.vswitches.state(switch_id)["vpc_id"]
    require_unused(scope, vpc_id, Prefix.parse(known[reservation_id]["block"]), "DependencyViolation")
    _write(scope, switch_id, {name: one for name, one in known.items() if name != reservation_id})
    return DONE


def list_reservations(scope: Scope) -> Body:
    """Answer ListVSwitchCidrReservations."""
    ids = scope.texts("VSwitchCidrReservationIds")
    found = [
        (switch, name, one)
        for switch in scope.vswitches.all()
        for name, one in sorted(_list_reserved(switch).items())
        if is_among(name, ids)
        and scope.text("VSwitchId") in ("", switch.id)
        and scope.text("VpcId") in ("", switch.state["vpc_id"])
        and is_among(one["name"], scope.texts("VSwitchCidrReservationName"))
        and scope.text("VSwitchCidrReservationType") in ("", one["type"])
        and scope.text("IpVersion").upper() in ("", _version(one))
    ]
    return scope.page(found, lambda entry: reservation_item(*entry), "VSwitchCidrReservations", "")


def _version(one: Reservation) -> str:
    return "IPV6" if ":" in one["block"] else "IPV4"


def reservation_item(switch: VSwitchDocument, name: str, one: Reservation) -> Json:
    """Return a reserved block as ListVSwitchCidrReservations has it."""
    return {
        "VSwitchCidrReservationId": name,
        "VSwitchCidrReservationCidr": one["block"],
        "VSwitchCidrReservationName": one["name"],
        "VSwitchCidrReservationDescription": one["description"],
        "Type": one["type"],
        "IpVersion": _version(one),
        "CreationTime": one["created"],
        "Status": "Assigned",
        "VSwitchId": switch.id,
        "VpcId": switch.state["vpc_id"],
    }


def _find_reservation(scope: Scope) -> tuple[str, str, dict[str, Reservation]]:
    """Return the id of the reservation that a call names, its VSwitch, and all reserved blocks of that VSwitch.

    Raises:
        ApiError: There is no such reservation.
    """
    name = scope.require("VSwitchCidrReservationId")
    for switch in scope.vswitches.all():
        if name in _list_reserved(switch):
            return name, switch.id, _list_reserved(switch)
    raise ApiError("ResourceNotFound.VSwitchCidrReservation", f"There is no reserved block {name}.", NOT_FOUND)


def _write(scope: Scope, switch_id: str, blocks: dict[str, Reservation]) -> None:
    scope.vswitches.change(switch_id, about={"reservations": blocks})
