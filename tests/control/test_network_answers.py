"""What clients read in answers about networks, and look up before: each found by a real client."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sgdataplane.control.calls.answers import ApiError
from sgdataplane.store.documents import ResourceKind
from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import HOST, Client, eni, items, only


@pytest.fixture
def client() -> Client:
    return Client()


# networks


@pytest.mark.parametrize("product", ["", "vpc:"])
def test_a_vpc_has_all_that_clients_read_and_empty_where_there_is_nothing(client: Client, product: str) -> None:
    vpc, switch = client.network()
    found = only(client, f"{product}DescribeVpcs", "Vpcs", "Vpc", VpcId=vpc)
    assert (found["SecondaryCidrBlocks"], found["UserCidrs"]) == ({"SecondaryCidrBlock": []}, {"UserCidr": []})
    assert (found["Status"], found["VSwitchIds"]) == ("Available", {"VSwitchId": [switch]})
    inner = only(client, f"{product}DescribeVSwitches", "VSwitches", "VSwitch", VSwitchId=switch)
    table = only(client, "vpc:DescribeRouteTableList", "RouterTableList", "RouterTableListType", VpcId=vpc)
    assert inner["RouteTable"]["RouteTableId"] == table["RouteTableId"] == found["RouterTableIds"]["RouterTableIds"][0]
    assert client("vpc:DescribeVpcAttribute", VpcId=vpc) == found
    assert client("vpc:DescribeVSwitchAttributes", VSwitchId=switch) == inner


def test_a_vpc_with_ipv6_gives_blocks_to_vswitches_and_addresses_to_interfaces(client: Client) -> None:
    vpc = client.text("vpc:CreateVpc", "VpcId", CidrBlock="10.0.0.0/16", EnableIpv6=True)
    other = client.text("vpc:CreateVpc", "VpcId", EnableIpv6=True)
    block, others = (str(client("vpc:DescribeVpcAttribute", VpcId=one)["Ipv6CidrBlock"]) for one in (vpc, other))
    assert block.endswith("/56")
    assert block != others
    where: dict[str, Json] = {"VpcId": vpc, "ZoneId": "a", "Ipv6CidrBlock": 22}
    switch = client.text("vpc:CreateVSwitch", "VSwitchId", CidrBlock="10.0.0.0/24", **where)
    subnet = str(client("vpc:DescribeVSwitchAttributes", VSwitchId=switch)["Ipv6CidrBlock"])
    assert subnet == block.replace("00::/56", "16::/64")
    assert client.refused("vpc:CreateVSwitch", CidrBlock="10.0.1.0/24", **where) == "InvalidIpv6CidrBlock.Conflict"
    where["Ipv6CidrBlock"] = 256
    assert client.refused("vpc:CreateVSwitch", CidrBlock="10.0.1.0/24", **where) == "InvalidIpv6CidrBlock.Malformed"
    asked: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc), "Ipv6AddressCount": 2}
    made = client.text("CreateNetworkInterface", "NetworkInterfaceId", **asked)
    addresses = [one["Ipv6Address"] for one in eni(client, made)["Ipv6Sets"]["Ipv6Set"]]
    assert len(addresses) == 2
    assert all(one.startswith(subnet.removesuffix("/64")) for one in addresses)


def test_ipv6_comes_to_networks_that_had_none(client: Client) -> None:
    vpc, switch = client.network()
    turn_on: dict[str, Json] = {"VSwitchId": switch, "EnableIPv6": True, "Ipv6CidrBlock": 1}
    assert client.refused("vpc:ModifyVSwitchAttribute", **turn_on) == "InvalidVpc.Ipv6NotTurnOn"
    client("vpc:ModifyVpcAttribute", VpcId=vpc, EnableIPv6=True)
    client("vpc:ModifyVSwitchAttribute", **turn_on)
    assert str(client("vpc:DescribeVSwitchAttributes", VSwitchId=switch)["Ipv6CidrBlock"]).endswith("01::/64")


def test_ipv6_goes_only_when_nothing_has_an_address_of_it(client: Client) -> None:
    vpc = client.text("vpc:CreateVpc", "VpcId", EnableIpv6=True)
    where: dict[str, Json] = {"VpcId": vpc, "ZoneId": "a", "CidrBlock": "172.16.0.0/24", "Ipv6CidrBlock": 0}
    switch = client.text("vpc:CreateVSwitch", "VSwitchId", **where)
    off: dict[str, Json] = {"VpcId": vpc, "EnableIPv6": False}
    assert client.refused("vpc:ModifyVpcAttribute", **off) == "OperationFailed.Ipv6InUse"
    client("vpc:ModifyVSwitchAttribute", VSwitchId=switch, EnableIPv6=False)
    client("vpc:ModifyVpcAttribute", **off)
    found = client("vpc:DescribeVpcAttribute", VpcId=vpc)
    assert (found["EnabledIpv6"], found["Ipv6CidrBlock"]) == (False, "")


def test_an_attachment_says_its_trunk_and_card_until_it_ends(client: Client) -> None:
    vpc, switch = client.network()
    where: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    owner, made = (client.text(f"Create{kind}", f"{kind}Id", **where) for kind in ("Instance", "NetworkInterface"))
    which: dict[str, Json] = {"InstanceId": owner, "NetworkInterfaceId": made}
    client("AttachNetworkInterface", **which, TrunkNetworkInstanceId="eni-trunk", NetworkCardIndex=1)
    attached = {"InstanceId": owner, "TrunkNetworkInterfaceId": "eni-trunk", "NetworkCardIndex": 1}
    assert eni(client, made)["Attachment"] == attached
    client("DetachNetworkInterface", **which)
    client("AttachNetworkInterface", **which)
    assert eni(client, made)["Attachment"] == {"InstanceId": owner}


def test_more_blocks_come_to_a_vpc_and_go(client: Client) -> None:
    vpc, _ = client.network()
    client("vpc:AssociateVpcCidrBlock", VpcId=vpc, SecondaryCidrBlock="192.168.0.0/16")
    found = client("vpc:DescribeVpcAttribute", VpcId=vpc)
    assert (found["CidrBlock"], found["SecondaryCidrBlocks"]) == (
        "10.0.0.0/16",
        {"SecondaryCidrBlock": ["192.168.0.0/16"]},
    )
    again = client.refused("vpc:AssociateVpcCidrBlock", VpcId=vpc, SecondaryCidrBlock="192.168.4.0/24")
    assert again == "OperationDenied.CidrConflict"
    client("vpc:CreateVSwitch", VpcId=vpc, CidrBlock="192.168.1.0/24", ZoneId="a")
    gone: dict[str, Json] = {"VpcId": vpc, "SecondaryCidrBlock": "192.168.0.0/16"}
    assert client.refused("vpc:UnassociateVpcCidrBlock", **gone) == "InvalidCidrBlock.Conflict"
    assert client.refused("vpc:ModifyVpcAttribute", VpcId=vpc, CidrBlock="10.1.0.0/16") == "InvalidCidrBlock.Conflict"


def test_a_vpc_s_tags_are_spelt_as_that_product_spells_them(client: Client) -> None:
    tags: list[Json] = [{"Key": "env", "Value": "test"}]
    vpc = client.text("vpc:CreateVpc", "VpcId", Tag=tags)
    assert client("vpc:DescribeVpcAttribute", VpcId=vpc)["Tags"] == {"Tag": tags}
    which: dict[str, Json] = {"ResourceType": "VPC", "ResourceId": [vpc]}
    client("vpc:TagResources", **which, Tag=[{"Key": "owner", "Value": "me"}])
    client("vpc:UnTagResources", **which, TagKey=["env"])
    left = only(client, "vpc:ListTagResources", "TagResources", "TagResource", **which)
    assert (left["TagKey"], left["TagValue"]) == ("owner", "me")
    assert client.refused("TagResources", **which, Tag=tags) == "InvalidResourceType.NotFound"


def test_a_reserved_block_is_for_delegated_prefixes_alone(client: Client) -> None:
    vpc, switch = client.network()
    made = client.text(
        "vpc:CreateVSwitchCidrReservation",
        "VSwitchCidrReservationId",
        VSwitchId=switch,
        VSwitchCidrReservationCidr="10.0.0.0/26",
    )
    where: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    plain = eni(client, client.text("CreateNetworkInterface", "NetworkInterfaceId", **where))
    assert plain["PrivateIpAddress"] == "10.0.0.64"
    delegated = eni(client, client.text("CreateNetworkInterface", "NetworkInterfaceId", **where, Ipv4PrefixCount=1))
    assert delegated["Ipv4PrefixSets"]["Ipv4PrefixSet"] == [{"Ipv4Prefix": "10.0.0.48/28"}]
    listed = cast("list[Any]", client("vpc:ListVSwitchCidrReservations", VSwitchId=switch)["VSwitchCidrReservations"])
    assert [one["VSwitchCidrReservationId"] for one in listed] == [made]
    gone: dict[str, Json] = {"VSwitchCidrReservationId": made}
    assert client.refused("vpc:DeleteVSwitchCidrReservation", **gone) == "DependencyViolation"
    which: dict[str, Json] = {"NetworkInterfaceId": delegated["NetworkInterfaceId"]}
    client("UnassignPrivateIpAddresses", **which, Ipv4Prefix=["10.0.0.48/28"])
    client("vpc:DeleteVSwitchCidrReservation", **gone)
    assert client("vpc:ListVSwitchCidrReservations", VSwitchId=switch)["VSwitchCidrReservations"] == []


def ipv6_network(client: Client) -> tuple[str, str, str]:
    """A VPC with IPv6, a VSwitch in it, and how the VSwitch's IPv6 addresses begin."""
    vpc = client.text("vpc:CreateVpc", "VpcId", CidrBlock="10.0.0.0/16", EnableIpv6=True)
    where: dict[str, Json] = {"VpcId": vpc, "ZoneId": "a", "Ipv6CidrBlock": 1}
    switch = client.text("vpc:CreateVSwitch", "VSwitchId", CidrBlock="10.0.0.0/24", **where)
    block = str(client("vpc:DescribeVSwitchAttributes", VSwitchId=switch)["Ipv6CidrBlock"])
    return vpc, switch, block.removesuffix("::/64")


def reserve(client: Client, switch: str, *blocks: str) -> None:
    for block in blocks:
        client("vpc:CreateVSwitchCidrReservation", VSwitchId=switch, VSwitchCidrReservationCidr=block)


def made(client: Client, vpc: str, switch: str, **asked: Json) -> dict[str, Any]:
    where: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc), **asked}
    return eni(client, client.text("CreateNetworkInterface", "NetworkInterfaceId", **where))


def test_blocks_that_nobody_can_walk_are_passed_at_once(client: Client) -> None:
    """2 ** 48 addresses of a delegated block, and 2 ** 63 of a reserved one."""
    vpc, switch, start = ipv6_network(client)
    made(client, vpc, switch, Ipv6Prefix=[f"{start}::/80"])
    first = made(client, vpc, switch, Ipv6AddressCount=1)
    assert first["Ipv6Sets"]["Ipv6Set"] == [{"Ipv6Address": f"{start}:1::"}]
    reserve(client, switch, f"{start}::/65")
    behind = made(client, vpc, switch, Ipv6AddressCount=2)
    sets = [one["Ipv6Address"] for one in behind["Ipv6Sets"]["Ipv6Set"]]
    assert sets == [f"{start}:8000::", f"{start}:8000::1"]


def test_prefixes_come_of_every_reserved_block_and_of_no_other(client: Client) -> None:
    vpc, switch = client.network()
    reserve(client, switch, "10.0.0.16/28", "10.0.0.64/28", "10.0.0.128/30")
    assert client.refused(
        "CreateNetworkInterface", VSwitchId=switch, SecurityGroupId=client.group(vpc), Ipv4PrefixCount=3
    ) == "InvalidVSwitchId.IpNotEnough"  # fmt: skip
    two = made(client, vpc, switch, Ipv4PrefixCount=2)["Ipv4PrefixSets"]["Ipv4PrefixSet"]
    assert {one["Ipv4Prefix"] for one in two} == {"10.0.0.16/28", "10.0.0.64/28"}
    vpc, switch, start = ipv6_network(client)
    reserve(client, switch, f"{start}:7::/80", f"{start}:9::/80")
    both = made(client, vpc, switch, Ipv6PrefixCount=2)["Ipv6PrefixSets"]["Ipv6PrefixSet"]
    assert {one["Ipv6Prefix"] for one in both} == {f"{start}:7::/80", f"{start}:9::/80"}


def test_the_ends_of_a_block_are_the_cloud_s(client: Client) -> None:
    vpc = client.text("CreateVpc", "VpcId", CidrBlock="10.0.0.0/16")
    switch = client.text("CreateVSwitch", "VSwitchId", VpcId=vpc, CidrBlock="10.0.0.8/29", ZoneId="a")
    found = [made(client, vpc, switch)["PrivateIpAddress"] for _ in range(4)]
    assert found == ["10.0.0.9", "10.0.0.10", "10.0.0.11", "10.0.0.12"]
    asked: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    assert client.refused("CreateNetworkInterface", **asked) == "InvalidVSwitchId.IpNotEnough"


@pytest.mark.parametrize("block", ["10.0.0.0/15", "10.0.0.0/8", "10.0.0.0/30", "10.0.0.0/32", "2001:db8::/64"])
def test_a_vswitch_s_block_has_the_cloud_s_size(client: Client, block: str) -> None:
    asked: dict[str, Json] = {"VpcId": client.text("CreateVpc", "VpcId", CidrBlock="10.0.0.0/8"), "ZoneId": "a"}
    assert client.refused("CreateVSwitch", **asked, CidrBlock=block) == "InvalidCidrBlock.Malformed"
    for good in ("10.0.0.0/16", "10.1.0.0/29"):  # control
        client("CreateVSwitch", **asked, CidrBlock=good)


def test_what_an_interface_does_not_have_is_not_taken_from_it(client: Client) -> None:
    vpc, switch, start = ipv6_network(client)
    found = made(client, vpc, switch, Ipv6Address=[f"{start}::99"])
    which: dict[str, Json] = {"NetworkInterfaceId": found["NetworkInterfaceId"]}
    for action, more in (
        ("UnassignIpv6Addresses", {"Ipv6Address": [f"{start}::99", f"{start}::98"]}),
        ("UnassignPrivateIpAddresses", {"PrivateIpAddress": ["10.0.0.77"]}),
    ):
        assert client.refused(action, **which, **cast("dict[str, Json]", more)) == "InvalidIp.IpUnassigned"
    client("UnassignIpv6Addresses", **which, Ipv6Address=[f"{start}::99"])  # control


@pytest.mark.parametrize("asked", [{"Ipv6AddressCount": 1}, {"Ipv6PrefixCount": 1}])
def test_an_ipv6_block_in_use_stays(client: Client, asked: dict[str, Json]) -> None:
    vpc, switch, _ = ipv6_network(client)
    block = client("vpc:DescribeVpcAttribute", VpcId=vpc)["Ipv6CidrBlock"]
    which: dict[str, Json] = {"NetworkInterfaceId": made(client, vpc, switch, **asked)["NetworkInterfaceId"]}
    away: dict[str, Json] = {"VpcId": vpc, "IPv6CidrBlock": block}
    off: dict[str, Json] = {"VSwitchId": switch, "EnableIPv6": False}
    other: dict[str, Json] = {"VSwitchId": switch, "EnableIPv6": True, "Ipv6CidrBlock": 2}
    assert client.refused("vpc:UnassociateVpcCidrBlock", **away) == "InvalidCidrBlock.Conflict"
    assert client.refused("vpc:ModifyVSwitchAttribute", **off) == "OperationFailed.Ipv6InUse"
    assert client.refused("vpc:ModifyVSwitchAttribute", **other) == "OperationFailed.Ipv6InUse"
    client("DeleteNetworkInterface", **which)
    assert client.refused("vpc:UnassociateVpcCidrBlock", **away) == "InvalidCidrBlock.Conflict", "the VSwitch has it"
    client("vpc:ModifyVSwitchAttribute", **off)
    client("vpc:UnassociateVpcCidrBlock", **away)


# what is looked up before


@pytest.mark.parametrize("region", ["cn-hangzhou", "ap-southeast-1", "cn-sgdataplane"])
def test_answers_are_of_the_region_that_was_asked_for(client: Client, region: str) -> None:
    zones = items(client, "DescribeZones", "Zones", "Zone", RegionId=region)
    assert zones
    assert all(one["ZoneId"].startswith(region) for one in zones)
    assert all("VSwitch" in one["AvailableResourceCreation"]["ResourceTypes"] for one in zones)
    assert client("DescribeSecurityGroups", RegionId=region)["RegionId"] == region
    available = items(
        client,
        "DescribeAvailableResource",
        "AvailableZones",
        "AvailableZone",
        RegionId=region,
        DestinationResource="InstanceType",
    )
    assert [one["ZoneId"] for one in available] == [one["ZoneId"] for one in zones]
    assert client.refused("DescribeZones", RegionId="mars-1") == "InvalidRegionId.NotFound"


def test_the_account_says_who_calls_and_where_it_is_served(client: Client) -> None:
    assert client("sts:GetCallerIdentity")["IdentityType"] == "RAMUser"
    groups = items(client, "resourcemanager:ListResourceGroups", "ResourceGroups", "ResourceGroup")
    assert len({one["Id"] for one in groups}) == len(groups) >= 2
    with pytest.raises(ApiError, match="NotAuthorized"):
        client("bssopenapi:QueryAvailableInstances")


def test_a_key_pair_is_made_once_and_its_private_key_told_once(client: Client) -> None:
    made = client("CreateKeyPair", KeyPairName="mine")
    assert "PRIVATE KEY" in str(made["PrivateKeyBody"])
    assert client.refused("CreateKeyPair", KeyPairName="mine") == "KeyPair.AlreadyExist"
    found = only(client, "DescribeKeyPairs", "KeyPairs", "KeyPair", KeyPairName="mi*")
    assert found["KeyPairFingerPrint"] == made["KeyPairFingerPrint"]
    assert "PRIVATE" not in repr([*client.engine.documents.of_kind[ResourceKind.KEY_PAIR].values()])
    client("DeleteKeyPairs", KeyPairNames='["mine"]')
    assert items(client, "DescribeKeyPairs", "KeyPairs", "KeyPair") == []


def test_a_permission_on_an_interface_is_told_again(client: Client) -> None:
    vpc, switch = client.network()
    where: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    made = client.text("CreateNetworkInterface", "NetworkInterfaceId", **where)
    asked: dict[str, Json] = {"AccountId": 12, "NetworkInterfaceId": made, "Permission": "InstanceAttach"}
    grant = cast("dict[str, Any]", client("CreateNetworkInterfacePermission", **asked))["NetworkInterfacePermission"]
    listing = ("DescribeNetworkInterfacePermissions", "NetworkInterfacePermissions", "NetworkInterfacePermission")
    assert items(client, *listing) == [grant]
    client("DeleteNetworkInterfacePermission", NetworkInterfacePermissionId=grant["NetworkInterfacePermissionId"])
    assert items(client, *listing) == []


@pytest.mark.parametrize("product", ["", "vpc:"])
def test_the_regions_are_those_that_zones_are_told_of(client: Client, product: str) -> None:
    regions = items(client, f"{product}DescribeRegions", "Regions", "Region")
    assert {"cn-hangzhou", "ap-southeast-1"} <= {one["RegionId"] for one in regions}
    for one in regions:
        assert items(client, f"{product}DescribeZones", "Zones", "Zone", RegionId=one["RegionId"])
        assert one["RegionEndpoint"] == HOST, "clients that choose a region go on there"


@pytest.mark.parametrize("code", ["ecs", "vpc", "resourcemanager", "sts"])
def test_the_location_service_leads_to_this_endpoint(client: Client, code: str) -> None:
    asked: dict[str, Json] = {"Id": "cn-hangzhou", "Type": "openAPI"}
    found = only(client, "location:DescribeEndpoints", "Endpoints", "Endpoint", ServiceCode=code, **asked)
    assert (found["Endpoint"], found["SerivceCode"], found["Type"]) == (HOST, code, "openAPI")
    assert items(client, "location:DescribeEndpoints", "Endpoints", "Endpoint", ServiceCode="rds", **asked) == []
    code = client.refused("location:DescribeEndpoints", ServiceCode=code, Id="mars-1")
    assert code == "InvalidRegionId.NotFound"


def test_networks_are_moved_to_another_resource_group(client: Client) -> None:
    vpc, switch = client.network()
    for kind, name in (("vpc", vpc), ("vswitch", switch)):
        client("vpc:MoveResourceGroup", ResourceType=kind, ResourceId=name, NewResourceGroupId="rg-1")
    found = client("vpc:DescribeVpcAttribute", VpcId=vpc), client("vpc:DescribeVSwitchAttributes", VSwitchId=switch)
    assert [one["ResourceGroupId"] for one in found] == ["rg-1", "rg-1"]
    assert only(client, "vpc:DescribeVpcs", "Vpcs", "Vpc", ResourceGroupId="rg-1")["VpcId"] == vpc
    asked: dict[str, Json] = {"ResourceType": "eip", "ResourceId": vpc, "NewResourceGroupId": "rg-1"}
    assert client.refused("vpc:MoveResourceGroup", **asked) == "InvalidResourceType.NotFound"


def test_a_zone_has_one_default_vswitch(client: Client) -> None:
    zones = ("cn-hangzhou-h", "cn-hangzhou-i")
    made = [client.text("vpc:CreateDefaultVSwitch", "VSwitchId", ZoneId=zone) for zone in zones]
    found = [client("vpc:DescribeVSwitchAttributes", VSwitchId=one) for one in made]
    assert [(one["IsDefault"], one["ZoneId"]) for one in found] == [(True, zone) for zone in zones]
    assert len({one["CidrBlock"] for one in found}) == 2
    assert client.refused("vpc:CreateDefaultVSwitch", ZoneId=zones[0]) == "OperationDenied.DefaultVSwitchExists"
    only(client, "DescribeVpcs", "Vpcs", "Vpc", IsDefault=True)


def test_a_reserved_block_is_called_otherwise(client: Client) -> None:
    _, switch = client.network()
    reserve(client, switch, "10.0.0.0/26")
    (before,) = cast("list[Any]", client("vpc:ListVSwitchCidrReservations")["VSwitchCidrReservations"])
    which: dict[str, Json] = {"VSwitchCidrReservationId": before["VSwitchCidrReservationId"]}
    said: dict[str, Json] = {"VSwitchCidrReservationName": "pods", "VSwitchCidrReservationDescription": "of the shop"}
    client("vpc:ModifyVSwitchCidrReservationAttribute", **which, **said)
    assert client("vpc:ListVSwitchCidrReservations")["VSwitchCidrReservations"] == [before | said]


def test_a_public_key_is_kept_as_it_was_brought(client: Client) -> None:
    made = client("ImportKeyPair", KeyPairName="mine", PublicKeyBody="ssh-ed25519 AAAA me")
    shown, hidden = (
        only(client, "DescribeKeyPairs", "KeyPairs", "KeyPair", IncludePublicKey=is_shown) for is_shown in (True, False)
    )
    assert (shown["PublicKey"], hidden["PublicKey"]) == ("ssh-ed25519 AAAA me", "")
    assert shown["KeyPairFingerPrint"] == made["KeyPairFingerPrint"]
    assert client.refused("ImportKeyPair", KeyPairName="mine", PublicKeyBody="other") == "KeyPair.AlreadyExist"


def test_a_type_with_several_network_cards_lists_them(client: Client) -> None:
    """Terraform's provider asks for a card only where it finds this list."""
    asked: dict[str, Json] = {"InstanceTypes": ["ecs.g7.large", "ecs.c8i.48xlarge"]}
    found = items(client, "DescribeInstanceTypes", "InstanceTypes", "InstanceType", **asked)
    cards = {one["InstanceTypeId"]: (one["NetworkCardQuantity"], one.get("NetworkCards")) for one in found}
    both = {"NetworkCardInfo": [{"NetworkCardIndex": 0}, {"NetworkCardIndex": 1}]}
    assert cards == {"ecs.g7.large": (1, None), "ecs.c8i.48xlarge": (2, both)}
