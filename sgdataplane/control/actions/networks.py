"""VPCs and their route tables: create, describe, change, delete; the default VPC.

Owns these actions. A VPC's blocks are part of a state; everything else about it is described as it was asked for. Every
VPC has a router and one route table, whose ids are made from its own. Must not know HTTP or the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TypeAlias

from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope, is_among, is_grouped, is_grouped_and_tagged, is_like
from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.net.values import Address, Family, Prefix
from sgdataplane.statefile import ecs_vpcs
from sgdataplane.statefile.ecs_names import CLASSIC_VPC
from sgdataplane.statefile.native_objects import NativeVpc
from sgdataplane.store.bodies import AnyDocument, TypedDocument, VpcAbout, VSwitchState
from sgdataplane.store.documents import ResourceKind, name_of
from sgdataplane.store.interface import Body, Json

DEFAULT_BLOCK = "172.16.0.0/12"  # the cloud's, where none is given
DEFAULT_NAME = "default"
DEFAULT_RESOURCE_GROUP = "rg-default"  # where networks are that name none, as the catalogue has it
# IPv6 blocks are of the range for documentation: nothing else has them, and no router takes them to the internet.
IPV6_POOL, IPV6_LENGTH = Prefix.parse("2001:db8::/32"), 56
MAX_USER_CIDRS = 3
VpcDocument: TypeAlias = TypedDocument[NativeVpc, VpcAbout]


def create_vpc(scope: Scope) -> Body:
    """Answer CreateVpc, with the cloud's own block if none is given."""
    return _make_body(scope, _make(scope, [_block(scope, "CidrBlock", DEFAULT_BLOCK)]))


def create_default_vpc(scope: Scope) -> Body:
    """Answer CreateDefaultVpc: make the VPC of everything that names none. There is one at most."""
    if find_default(scope):
        raise ApiError("OperationDenied.DefaultVpcExists", "There is a default VPC already.")
    return _make_body(scope, _make(scope, [DEFAULT_BLOCK], is_default=True))


def default_vpc(scope: Scope) -> str:
    """Return the default VPC's id. It is made when it is first needed, as on new accounts of the cloud."""
    return find_default(scope) or _make(scope, [DEFAULT_BLOCK], is_default=True)


def find_default(scope: Scope) -> str:
    """Return the default VPC's id; "" if there is none yet."""
    return next((vpc.id for vpc in scope.vpcs.all() if vpc.about.get("is_default")), "")


def _make(scope: Scope, blocks: list[str], *, is_default: bool = False) -> str:
    """Make a VPC, and return its id.

    What the call says of a VPC counts only if the call is about VPCs. Others make one because they need it.
    """
    vpc_id, is_asked = scope.new_id("vpc"), scope.call.action.endswith("Vpc")
    if is_asked and scope.has("Ipv6CidrBlock"):
        blocks = [*blocks, _block(scope, "Ipv6CidrBlock", "")]
    elif is_asked and scope.flag("EnableIpv6"):
        blocks = [*blocks, _free_ipv6_block(scope, vpc_id)]
    more: VpcAbout = {"name": DEFAULT_NAME if is_default else "", "created": scope.time, "is_default": is_default}
    if is_asked:
        user_cidrs = [text for text in scope.text("UserCidr").split(",") if text]
        if len(user_cidrs) > MAX_USER_CIDRS:
            raise ApiError("InvalidUserCidr.Malformed", f"UserCidr has at most {MAX_USER_CIDRS} blocks")
        more |= {
            "name": scope.text("VpcName", more["name"]),
            "description": scope.text("Description"),
            "resource_group_id": scope.text("ResourceGroupId", DEFAULT_RESOURCE_GROUP),
            "tags": scope.tags(),
            "user_cidrs": [*user_cidrs],
            "ipv6_isp": scope.text("Ipv6Isp", "BGP"),
            "has_dns_hostname": scope.flag("EnableDnsHostname"),
        }
    scope.vpcs.put(vpc_id, {"vpc_id": vpc_id, "cidr_blocks": [*blocks]}, more)
    return vpc_id


def _make_body(scope: Scope, vpc_id: str) -> Body:
    router, table = router_of(vpc_id), table_of(vpc_id)
    group = scope.vpcs.find(vpc_id).about.get("resource_group_id") or DEFAULT_RESOURCE_GROUP
    return {"VpcId": vpc_id, "VRouterId": router, "RouteTableId": table, "ResourceGroupId": group}


def answer_vpc_id(vpc_id: str) -> str:
    """Return a VPC's id as answers have it: "" for the classic network, which is none."""
    return "" if vpc_id == CLASSIC_VPC else str(vpc_id)


def router_of(vpc_id: str) -> str:
    """Return the id of a VPC's router."""
    return f"vrt-{vpc_id.removeprefix('vpc-')}"


def table_of(vpc_id: str) -> str:
    """Return the id of a VPC's route table."""
    return f"vtb-{vpc_id.removeprefix('vpc-')}"


def _blocks(vpc: VpcDocument) -> list[str]:
    return vpc.state.get("cidr_blocks", [])


def _block(scope: Scope, name: str, default: str) -> str:
    return str(parse_block(name, scope.text(name, default)))


def parse_block(name: str, text: str) -> Prefix:
    """Return the block that a parameter gives.

    Raises:
        ApiError: It is not a CIDR block without host bits.
    """
    try:
        return Prefix.parse(text, strict=True)
    except ValueError:
        raise ApiError(f"Invalid{name}.Malformed", f"{name} {text} is not a CIDR block without host bits") from None


def _free_ipv6_block(scope: Scope, vpc_id: str) -> str:
    """Return an IPv6 block that no other VPC has.

    The search starts at a place that follows from the id, so that VPCs of other stores seldom have the same block.
    """
    bits = IPV6_LENGTH - IPV6_POOL.length
    taken = {block for vpc in scope.vpcs.all() for block in _blocks(vpc)}
    start = int.from_bytes(hashlib.sha256(vpc_id.encode()).digest()[:4], "big")
    for step in range(1 << bits):
        number = (start + step) % (1 << bits)
        block = str(Prefix(128, IPV6_POOL.first | number << (128 - IPV6_LENGTH), IPV6_LENGTH))
        if block not in taken:
            return block
    raise ApiError("QuotaExceeded.Ipv6CidrBlock", "there is no free IPv6 block left")


def modify_vpc(scope: Scope) -> Body:
    """Answer ModifyVpcAttribute. The first block may be replaced by one that all VSwitches are in."""
    vpc_id = scope.require("VpcId")
    blocks = _blocks(scope.vpcs.find(vpc_id))
    if scope.has("CidrBlock"):
        first = _block(scope, "CidrBlock", "")
        blocks = [first, *(block for block in blocks[1:] if block != first)]
        _require_room(scope, vpc_id, blocks)
    if scope.has("EnableIPv6"):
        blocks = _with_ipv6(scope, vpc_id, blocks) if scope.flag("EnableIPv6") else _without_ipv6(scope, vpc_id, blocks)
    given: VpcAbout = {}
    if scope.gives("VpcName"):
        given["name"] = scope.text("VpcName")
    if scope.gives("Description"):
        given["description"] = scope.text("Description")
    if scope.has("EnableDnsHostname"):
        given["has_dns_hostname"] = scope.flag("EnableDnsHostname")
    scope.vpcs.change(vpc_id, {"cidr_blocks": [*blocks]}, given)
    return DONE


def _with_ipv6(scope: Scope, vpc_id: str, blocks: list[str]) -> list[str]:
    """Return these blocks with one of IPv6: the one that they have, or that the call gives, or a free one."""
    if any(":" in block for block in blocks):
        return blocks
    given = scope.text("Ipv6CidrBlock") if "VpcAttribute" in scope.call.action else ""
    return [*blocks, str(parse_block("Ipv6CidrBlock", given)) if given else _free_ipv6_block(scope, vpc_id)]


def _without_ipv6(scope: Scope, vpc_id: str, blocks: list[str]) -> list[str]:
    """Return these blocks without those of IPv6.

    Raises:
        ApiError: Something has addresses of them.
    """
    for path in scope.workspace.users(ResourceKind.VPC, vpc_id, ResourceKind.VSWITCH):
        if scope.vswitches.state(name_of(path)).get("ipv6_cidr_block"):
            raise ApiError("OperationFailed.Ipv6InUse", f"{name_of(path)} has an IPv6 block of {vpc_id}")
    for block in blocks:
        if ":" in block:
            require_unused(scope, vpc_id, Prefix.parse(block), "OperationFailed.Ipv6InUse")
    return [block for block in blocks if ":" not in block]


def require_unused(scope: Scope, vpc_id: str, block: Prefix, code: str) -> None:
    """Refuse to take away a block in which an ENI of the VPC has an address or a delegated prefix.

    Raises:
        ApiError: An ENI has one; the error has the code `code`.
    """
    owner = next(scope.workspace.documents.taken.others(vpc_id, block), None)
    if owner is not None:
        raise ApiError(code, f"{name_of(owner)} has addresses of {block}", FORBIDDEN)


def turn_on_ipv6(scope: Scope, vpc_id: str) -> None:
    """Give a VPC an IPv6 block, if it has none."""
    blocks = _blocks(scope.vpcs.find(vpc_id))
    scope.vpcs.change(vpc_id, {"cidr_blocks": [*_with_ipv6(scope, vpc_id, blocks)]})


def _require_room(scope: Scope, vpc_id: str, blocks: list[str]) -> None:
    """Refuse blocks of a VPC if a VSwitch would be outside.

    Raises:
        ApiError: One would be.
    """
    outer = [Prefix.parse(text) for text in blocks]
    for path in scope.workspace.users(ResourceKind.VPC, vpc_id, ResourceKind.VSWITCH):
        for inner in vswitch_blocks(scope.vswitches.state(name_of(path))):
            if not is_inside(inner, outer):
                words = f"{name_of(path)} with {inner} would be outside of {vpc_id}"
                raise ApiError("InvalidCidrBlock.Conflict", words)


def vswitch_blocks(state: VSwitchState) -> Iterator[Prefix]:
    """Return the IPv4 block of a VSwitch, and its IPv6 block if it has one."""
    return (Prefix.parse(block) for block in (state.get("cidr_block"), state.get("ipv6_cidr_block")) if block)


def is_inside(inner: Prefix, outer: list[Prefix]) -> bool:
    """Whether a block is within one of these."""
    return any(one.family is inner.family and one.first <= inner.first and inner.last <= one.last for one in outer)


def associate_block(scope: Scope) -> Body:
    """Answer AssociateVpcCidrBlock: give a VPC one more block."""
    vpc_id, block = _other_block(scope)
    blocks = _blocks(scope.vpcs.find(vpc_id))
    new = Prefix.parse(block)
    for other in map(Prefix.parse, blocks):
        if other.family is new.family and other.first <= new.last and new.first <= other.last:
            raise ApiError("OperationDenied.CidrConflict", f"{block} overlaps {other} of {vpc_id}")
    scope.vpcs.change(vpc_id, {"cidr_blocks": [*blocks, block]})
    return DONE


def unassociate_block(scope: Scope) -> Body:
    """Answer UnassociateVpcCidrBlock for a block that no VSwitch is in and no ENI has addresses of.

    The first block can't be taken away.
    """
    vpc_id, block = _other_block(scope)
    blocks = _blocks(scope.vpcs.find(vpc_id))
    if block not in blocks[1:]:
        raise ApiError("InvalidSecondaryCidrBlock.NotFound", f"{vpc_id} has no further block {block}", 404)
    left = [other for other in blocks if other != block]
    _require_room(scope, vpc_id, left)
    require_unused(scope, vpc_id, Prefix.parse(block), "InvalidCidrBlock.Conflict")
    scope.vpcs.change(vpc_id, {"cidr_blocks": [*left]})
    return DONE


def _other_block(scope: Scope) -> tuple[str, str]:
    vpc_id = scope.require("VpcId")
    name = "IPv6CidrBlock" if scope.has("IPv6CidrBlock") else "SecondaryCidrBlock"
    return vpc_id, str(parse_block(name, scope.require(name)))


def delete_vpc(scope: Scope) -> Body:
    """Answer DeleteVpc for a VPC that nothing is in."""
    vpc_id = scope.require("VpcId")
    scope.vpcs.find(vpc_id)
    scope.refuse_used(ResourceKind.VPC, vpc_id, "DependencyViolation")
    scope.vpcs.delete(vpc_id)
    return DONE


def describe_vpcs(scope: Scope) -> Body:
    """Answer DescribeVpcs."""
    ids = scope.texts("VpcId", ",")
    found = [
        vpc
        for vpc in scope.vpcs.among(ids)
        if is_among(vpc.id, ids)
        and vpc.id != CLASSIC_VPC
        and is_like(vpc.about.get("name", ""), scope.text("VpcName"))
        and scope.is_flagged("IsDefault", is_so=bool(vpc.about.get("is_default")))
        and is_grouped_and_tagged(scope, vpc)
    ]
    return scope.page(found, lambda vpc: vpc_item(scope, vpc), "Vpcs", "Vpc")


def describe_vpc(scope: Scope) -> Body:
    """Answer DescribeVpcAttribute."""
    return vpc_item(scope, scope.vpcs.find(scope.require("VpcId")))


def vpc_item(scope: Scope, vpc: VpcDocument) -> Body:
    """Return a VPC as DescribeVpcs has it."""
    vpc_id, blocks, more = vpc.id, _blocks(vpc), vpc.about
    switches = map(name_of, scope.workspace.users(ResourceKind.VPC, vpc_id, ResourceKind.VSWITCH))
    return {
        "VpcId": vpc_id,
        "VpcName": more.get("name", ""),
        "Description": more.get("description", ""),
        "CreationTime": more.get("created", ""),
        **ecs_vpcs.vpc_blocks(blocks, more.get("ipv6_isp") or "BGP"),
        "EnabledIpv6": any(":" in block for block in blocks),
        "UserCidrs": {"UserCidr": more.get("user_cidrs", [])},
        "RegionId": scope.region,
        "Status": "Available",
        "IsDefault": bool(more.get("is_default")),
        "VSwitchIds": {"VSwitchId": [*switches]},
        "VRouterId": router_of(vpc_id),
        "RouterTableIds": {"RouterTableIds": [table_of(vpc_id)]},
        "ResourceGroupId": more.get("resource_group_id") or DEFAULT_RESOURCE_GROUP,
        "DnsHostnameStatus": "ENABLED" if more.get("has_dns_hostname") else "DISABLED",
        "ClassicLinkEnabled": False,
        "NatGatewayIds": {"NatGatewayIds": []},
        "Tags": {"Tag": key_items(vpc)},
    }


def key_items(document: AnyDocument) -> list[dict[str, str]]:
    """Return tags as the VPC product spells them."""
    return [{"Key": key, "Value": value} for key, value in sorted(document.tags.items())]


# route tables


def describe_tables(scope: Scope) -> Body:
    """Answer DescribeRouteTableList with each VPC's own table."""
    found = [
        vpc
        for vpc in scope.vpcs.among(filter(None, [scope.text("VpcId")]))
        if vpc.id != CLASSIC_VPC
        and scope.text("VpcId") in ("", vpc.id)
        and scope.text("RouterId") in ("", router_of(vpc.id))
        and scope.text("RouteTableId") in ("", table_of(vpc.id))
        and scope.text("RouterType") in ("", "VRouter")
        and scope.text("RouteTableType") in ("", "System")
        and is_like(vpc.about.get("table_name", ""), scope.text("RouteTableName"))
        and is_grouped(scope, vpc)
        and not scope.objects("Tag")
    ]
    return scope.page(found, lambda vpc: table_item(scope, vpc), "RouterTableList", "RouterTableListType")


def table_item(scope: Scope, vpc: VpcDocument) -> Json:
    """Return the route table of a VPC as DescribeRouteTableList has it."""
    vpc_id, more = vpc.id, vpc.about
    switches = map(name_of, scope.workspace.users(ResourceKind.VPC, vpc_id, ResourceKind.VSWITCH))
    return {
        "RouteTableId": table_of(vpc_id),
        "RouteTableName": more.get("table_name", ""),
        "Description": more.get("table_description", ""),
        "RouteTableType": "System",
        "RouterId": router_of(vpc_id),
        "RouterType": "VRouter",
        "AssociateType": "VSwitch",
        "Status": "Available",
        "CreationTime": more.get("created", ""),
        "VpcId": vpc_id,
        "VSwitchIds": {"VSwitchId": [*switches]},
        "ResourceGroupId": more.get("resource_group_id") or DEFAULT_RESOURCE_GROUP,
        "Tags": {"Tag": []},
    }


def modify_table(scope: Scope) -> Body:
    """Answer ModifyRouteTableAttributes, which changes name and description."""
    table_id = scope.require("RouteTableId")
    vpcs = (vpc.id for vpc in scope.vpcs.all() if table_of(vpc.id) == table_id)
    vpc_id = next(vpcs, None)
    if vpc_id is None:
        raise ApiError("InvalidRouteTableId.NotFound", f"There is no route table {table_id}.", 404)
    given: VpcAbout = {}
    if scope.gives("RouteTableName"):
        given["table_name"] = scope.text("RouteTableName")
    if scope.gives("Description"):
        given["table_description"] = scope.text("Description")
    scope.vpcs.change(vpc_id, about=given)
    return DONE


def ipv6_subnet(vpc: VpcDocument, number: int) -> str:
    """Return the 64-bit block of a number within a VPC's IPv6 block.

    Raises:
        ApiError: The VPC has no IPv6 block, or no 64-bit block of that number.
    """
    blocks = [Prefix.parse(text) for text in _blocks(vpc)]
    block = next((one for one in blocks if one.family is Family.IPV6), None)
    if block is None:
        raise ApiError("InvalidVpc.Ipv6NotTurnOn", "The VPC has no IPv6 block: EnableIpv6 gives it one.")
    subnet = Prefix(128, block.first + (number << 64), 64) if block.length <= 64 else block
    if number < 0 or Address(128, subnet.first) not in block:
        most = (1 << max(0, 64 - block.length)) - 1
        raise ApiError("InvalidIpv6CidrBlock.Malformed", f"Ipv6CidrBlock is 0 to {most}")
    return str(subnet)
