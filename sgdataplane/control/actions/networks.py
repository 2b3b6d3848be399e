"""VPCs and VSwitches, regions and zones.

Owns these actions. A VSwitch gives ENIs their addresses and means nothing to a policy. Must not know HTTP or the store.
"""

from __future__ import annotations

from typing import cast

from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import REGION, Scope, is_among
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.net.values import Prefix
from sgdataplane.statefile.ecs_names import CLASSIC_VPC
from sgdataplane.store.documents import Fields, ResourceKind, about, name_of, state_in, texts
from sgdataplane.store.interface import Body, Json

ZONE = f"{REGION}-a"


def create_vpc(scope: Scope) -> Body:
    """CreateVpc; the cloud's own block if none is given."""
    vpc_id = scope.new_id("vpc")
    blocks = [_block(scope, "CidrBlock", "172.16.0.0/12")]
    if scope.has("Ipv6CidrBlock"):
        blocks.append(_block(scope, "Ipv6CidrBlock", ""))
    more: Fields = {"name": scope.text("VpcName"), "description": scope.text("Description"), "created": scope.time}
    scope.workspace.put(ResourceKind.VPC, vpc_id, {"vpc_id": vpc_id, "cidr_blocks": [*blocks]}, more)
    return {"VpcId": vpc_id, "VRouterId": "", "RouteTableId": "", "ResourceGroupId": ""}


def _block(scope: Scope, name: str, default: str) -> str:
    text = scope.text(name, default)
    try:
        return str(Prefix.parse(text, strict=True))
    except ValueError:
        raise ApiError(f"Invalid{name}.Malformed", f"{name} {text} is no CIDR block without host bits") from None


def delete_vpc(scope: Scope) -> Body:
    vpc_id = scope.required("VpcId")
    scope.find(ResourceKind.VPC, vpc_id)
    scope.refuse_used(ResourceKind.VPC, vpc_id, "DependencyViolation")
    scope.workspace.delete(ResourceKind.VPC, vpc_id)
    return DONE


def describe_vpcs(scope: Scope) -> Body:
    ids = scope.texts("VpcId", ",")
    found = [
        entry
        for entry in scope.workspace.all(ResourceKind.VPC)
        if is_among(entry[0], ids) and entry[0] != CLASSIC_VPC and scope.is_flagged("IsDefault", is_so=False)
    ]

    def shape(entry: tuple[str, Body]) -> Json:
        blocks = texts(state_in(entry[1]), "cidr_blocks")
        switches: list[Json] = [*map(name_of, scope.workspace.users(ResourceKind.VPC, entry[0], ResourceKind.VSWITCH))]
        return {
            "VpcId": entry[0],
            "VpcName": about(entry[1]).get("name", ""),
            "Description": about(entry[1]).get("description", ""),
            "CreationTime": about(entry[1]).get("created", ""),
            "CidrBlock": next((block for block in blocks if ":" not in block), ""),
            "Ipv6CidrBlock": next((block for block in blocks if ":" in block), ""),
            "RegionId": REGION,
            "Status": "Available",
            "IsDefault": False,
            "VSwitchIds": {"VSwitchId": switches},
        }

    return scope.page(found, shape, "Vpcs", "Vpc")


def create_vswitch(scope: Scope) -> Body:
    """CreateVSwitch: a block within its VPC's."""
    vpc_id, switch_id = scope.required("VpcId"), scope.new_id("vsw")
    vpc = scope.find(ResourceKind.VPC, vpc_id)
    scope.required("CidrBlock")
    block = Prefix.parse(_block(scope, "CidrBlock", ""))
    outer = [Prefix.parse(text) for text in texts(state_in(vpc), "cidr_blocks")]
    if not any(one.family is block.family and one.first <= block.first and block.last <= one.last for one in outer):
        raise ApiError("InvalidCidrBlock.Malformed", f"{block} is outside the blocks of {vpc_id}")
    for path in scope.workspace.users(ResourceKind.VPC, vpc_id, ResourceKind.VSWITCH):
        other = Prefix.parse(str(scope.workspace.state(ResourceKind.VSWITCH, name_of(path))["cidr_block"]))
        if other.first <= block.last and block.first <= other.last:
            raise ApiError("InvalidCidrBlock.Conflict", f"{block} overlaps {other} of {name_of(path)}")
    more: Fields = {
        "name": scope.text("VSwitchName"),
        "description": scope.text("Description"),
        "created": scope.time,
        "zone_id": scope.text("ZoneId", ZONE),
        "next": 1,
    }
    scope.workspace.put(ResourceKind.VSWITCH, switch_id, {"vpc_id": vpc_id, "cidr_block": str(block)}, more)
    return {"VSwitchId": switch_id}


def delete_vswitch(scope: Scope) -> Body:
    switch_id = scope.required("VSwitchId")
    scope.find(ResourceKind.VSWITCH, switch_id)
    scope.refuse_used(ResourceKind.VSWITCH, switch_id, "DependencyViolation")
    scope.workspace.delete(ResourceKind.VSWITCH, switch_id)
    return DONE


def describe_vswitches(scope: Scope) -> Body:
    ids, vpc_id = scope.texts("VSwitchId"), scope.text("VpcId")
    found = [
        entry
        for entry in scope.workspace.all(ResourceKind.VSWITCH)
        if is_among(entry[0], ids)
        and vpc_id in ("", state_in(entry[1])["vpc_id"])
        and scope.text("ZoneId") in ("", about(entry[1]).get("zone_id", ZONE))
        and scope.is_flagged("IsDefault", is_so=False)
    ]

    def shape(entry: tuple[str, Body]) -> Json:
        block = Prefix.parse(str(state_in(entry[1])["cidr_block"]))
        used = len(scope.workspace.users(ResourceKind.VSWITCH, entry[0], ResourceKind.ENI))
        return {
            "VSwitchId": entry[0],
            "VSwitchName": about(entry[1]).get("name", ""),
            "Description": about(entry[1]).get("description", ""),
            "CreationTime": about(entry[1]).get("created", ""),
            "CidrBlock": str(block),
            "VpcId": state_in(entry[1])["vpc_id"],
            "ZoneId": about(entry[1]).get("zone_id", ZONE),
            "Status": "Available",
            "IsDefault": False,
            "AvailableIpAddressCount": max(0, block.last - block.first - 3 - used),
        }

    return scope.page(found, shape, "VSwitches", "VSwitch")


def describe_regions(scope: Scope) -> Body:
    del scope
    one: Json = {"RegionId": REGION, "LocalName": "sgdataplane", "RegionEndpoint": ""}
    return {"Regions": {"Region": [one]}}


def describe_zones(scope: Scope) -> Body:
    zones = {str(about(body).get("zone_id", ZONE)) for _, body in scope.workspace.all(ResourceKind.VSWITCH)} | {ZONE}
    found: list[Json] = [{"ZoneId": zone, "LocalName": zone} for zone in sorted(zones)]
    return {"Zones": {"Zone": cast(Json, found)}}
