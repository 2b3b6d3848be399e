"""What clients read in answers about networks, and look up before: each found by a real client."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sgdataplane.control.calls.answers import ApiError
from sgdataplane.store.documents import ResourceKind
from sgdataplane.store.interface import Json
from tests.support.controlling import Client, eni, items, only


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
    assert delegated["Ipv4PrefixSets"]["Ipv4PrefixSet"] == [{"Ipv4Prefix": "10.0.0.32/28"}]
    listed = cast("list[Any]", client("vpc:ListVSwitchCidrReservations", VSwitchId=switch)["VSwitchCidrReservations"])
    assert [one["VSwitchCidrReservationId"] for one in listed] == [made]
    client("vpc:DeleteVSwitchCidrReservation", VSwitchCidrReservationId=made)
    assert client("vpc:ListVSwitchCidrReservations", VSwitchId=switch)["VSwitchCidrReservations"] == []


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
