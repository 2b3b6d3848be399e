"""What clients read in answers, and stumble over if it is missing or said otherwise: each found by a real client."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sgdataplane.control.actions.scope import Habits
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.statefile.load import load_native
from sgdataplane.store.documents import ResourceKind, native
from sgdataplane.store.interface import Json
from tests.support.controlling import Client, items

NARROW = {"IpProtocol": "tcp", "PortRange": "22/22"}


@pytest.fixture
def client() -> Client:
    return Client()


def rules(client: Client, group: str, **more: Json) -> list[dict[str, Any]]:
    action = "DescribeSecurityGroupAttribute"
    return items(client, action, "Permissions", "Permission", SecurityGroupId=group, **more)


def only(client: Client, action: str, outer: str, inner: str, **asked: Json) -> dict[str, Any]:
    (found,) = items(client, action, outer, inner, **asked)
    return found


def eni(client: Client, eni_id: str) -> dict[str, Any]:
    outer, inner = "NetworkInterfaceSets", "NetworkInterfaceSet"
    return only(client, "DescribeNetworkInterfaces", outer, inner, NetworkInterfaceId=[eni_id])


def instance(client: Client, instance_id: str) -> dict[str, Any]:
    return only(client, "DescribeInstances", "Instances", "Instance", InstanceIds=f'["{instance_id}"]')


def enforced(client: Client) -> list[str]:
    """The blocks of all rules, as a host gets them."""
    documents = client.engine.documents
    kinds = (ResourceKind.VPC, ResourceKind.GROUP)
    state = load_native(native((kind, body) for kind in kinds for body in documents.of_kind[kind].values())).state
    return [str(rule.remote) for group in state.security_groups for rule in group.rules]


# groups and rules


@pytest.mark.parametrize("nic", ["<nil>", "internet", "intranet", ""])
def test_in_a_vpc_the_kind_of_network_interface_filters_nothing(client: Client, nic: str) -> None:
    group = client.group(client.network()[0])
    client("AuthorizeSecurityGroup", SecurityGroupId=group, SourceCidrIp="192.0.2.0/24", **NARROW)
    assert len(rules(client, group, NicType=nic)) == 1


def test_in_the_classic_network_it_filters() -> None:
    client = Client(habits=Habits(is_classic=True))
    group = client.text("CreateSecurityGroup", "SecurityGroupId")
    client("AuthorizeSecurityGroup", SecurityGroupId=group, SourceCidrIp="192.0.2.0/24", **NARROW)
    assert [len(rules(client, group, NicType=nic)) for nic in ("internet", "intranet")] == [1, 0]


@pytest.mark.parametrize(
    ("name", "given", "shown", "network"),
    [
        ("SourceCidrIp", "10.159.6.18/12", "10.159.6.18/12", "10.144.0.0/12"),
        ("SourceCidrIp", "192.0.2.7", "192.0.2.7", "192.0.2.7/32"),
        ("SourceCidrIp", "192.0.2.0/24", "192.0.2.0/24", "192.0.2.0/24"),
        (
            "Ipv6SourceCidrIp",
            "2001:0db8:3c4d:0015:0000:0000:1a2f:1a2b/0",
            "2001:db8:3c4d:15::1a2f:1a2b/0",
            "::/0",
        ),
        ("Ipv6SourceCidrIp", "2001:db8:0:0::1", "2001:db8::1", "2001:db8::1/128"),
    ],
)
def test_a_rule_keeps_its_block_as_it_was_given_and_is_enforced_as_the_network(
    client: Client, name: str, given: str, shown: str, network: str
) -> None:
    group = client.group(client.network()[0])
    client("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[{**NARROW, name: given}])
    (rule,) = rules(client, group)
    assert (rule[name], enforced(client)) == (shown, [network])
    client("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[{**NARROW, name: network}])
    assert rules(client, group) == [rule], "it differs in host bits alone, so it is the same rule"
    client("RevokeSecurityGroup", SecurityGroupId=group, Permissions=[{**NARROW, name: network}])
    assert rules(client, group) == []


def test_a_block_stays_as_it_was_given_when_the_rest_of_its_rule_changes(client: Client) -> None:
    vpc, _ = client.network()
    group = client.group(vpc)
    client("AuthorizeSecurityGroup", SecurityGroupId=group, SourceCidrIp="10.1.2.3/8", **NARROW)
    rule_id = rules(client, group)[0]["SecurityGroupRuleId"]
    which = {"SecurityGroupId": group, "SecurityGroupRuleId": rule_id}
    for _ in range(2):  # some clients send the same change twice
        client("ModifySecurityGroupRule", Priority="7", Description="seven", **which)
        (rule,) = rules(client, group)
        assert (rule["SourceCidrIp"], rule["Priority"], rule["Description"]) == ("10.1.2.3/8", "7", "seven")
    copy = client.text("SgdpCloneSecurityGroup", "SecurityGroupId", SecurityGroupId=group)
    assert rules(client, copy)[0]["SourceCidrIp"] == "10.1.2.3/8"
    client("ModifySecurityGroupRule", SourceCidrIp="10.0.0.0/8", **which)
    assert rules(client, group)[0]["SourceCidrIp"] == "10.0.0.0/8"
    client("ModifySecurityGroupRule", SourceGroupId=copy, **which)
    (rule,) = rules(client, group)
    assert (rule["SourceCidrIp"], rule["SourceGroupId"]) == ("", copy)


def test_a_group_without_a_vpc_is_of_the_default_vpc_which_is_made_once(client: Client) -> None:
    first, second = (client.text("CreateSecurityGroup", "SecurityGroupId") for _ in range(2))
    (vpc,) = items(client, "DescribeVpcs", "Vpcs", "Vpc", IsDefault=True)
    outer, inner = "SecurityGroups", "SecurityGroup"
    found = items(client, "DescribeSecurityGroups", outer, inner, SecurityGroupIds=f'["{first}","{second}"]')
    assert {one["VpcId"] for one in found} == {vpc["VpcId"]}
    assert client.refused("vpc:CreateDefaultVpc") == "OperationDenied.DefaultVpcExists"


def test_an_instance_without_a_group_gets_the_default_one_only_where_that_is_asked_for(client: Client) -> None:
    vpc, switch = client.network()
    assert client.refused("RunInstances", VSwitchId=switch) == "MissingParameter.SecurityGroupId"
    for _ in range(2):
        client.asked("RunInstances", {"SgdpDefaultGroup": "true"}, VSwitchId=switch)
    group = only(client, "DescribeSecurityGroups", "SecurityGroups", "SecurityGroup", VpcId=vpc)
    assert (group["SecurityGroupType"], group["EcsCount"]) == ("normal", 2)
    said = {(rule["IpProtocol"], rule["PortRange"]) for rule in rules(client, group["SecurityGroupId"])}
    assert said == {("TCP", "22/22"), ("TCP", "3389/3389"), ("ICMP", "-1/-1")}
    assert {rule["Priority"] for rule in rules(client, group["SecurityGroupId"])} == {"100"}


def test_where_it_is_the_habit_an_instance_without_a_group_needs_no_asking() -> None:
    client = Client(habits=Habits(has_default_group=True))
    _, switch = client.network()
    made = client.text("CreateInstance", "InstanceId", VSwitchId=switch)
    assert len(instance(client, made)["SecurityGroupIds"]["SecurityGroupId"]) == 1


# network interfaces and instances


@pytest.mark.parametrize("turn", [1, -1])
def test_groups_stay_in_the_order_of_the_request(client: Client, turn: int) -> None:
    vpc, switch = client.network()
    groups = [client.group(vpc) for _ in range(3)][::turn]
    made = client.text(
        "CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupIds=cast(Json, groups)
    )
    assert eni(client, made)["SecurityGroupIds"]["SecurityGroupId"] == groups
    owner = client.text("CreateInstance", "InstanceId", VSwitchId=switch, SecurityGroupIds=cast(Json, groups))
    assert instance(client, owner)["SecurityGroupIds"]["SecurityGroupId"] == groups
    client("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=made, SecurityGroupId=cast(Json, groups[::-1]))
    assert eni(client, made)["SecurityGroupIds"]["SecurityGroupId"] == groups[::-1]


def test_listed_addresses_are_secondary_beside_a_primary_that_is_chosen(client: Client) -> None:
    vpc, switch = client.network()
    listed: list[Json] = ["10.0.0.2", "10.0.0.1"]
    made = client.text(
        "CreateNetworkInterface",
        "NetworkInterfaceId",
        VSwitchId=switch,
        SecurityGroupId=client.group(vpc),
        PrivateIpAddress=listed,
    )
    found = eni(client, made)["PrivateIpSets"]["PrivateIpSet"]
    assert [one["PrivateIpAddress"] for one in found if not one["Primary"]] == listed
    assert [one["PrivateIpAddress"] for one in found if one["Primary"]] == [eni(client, made)["PrivateIpAddress"]]
    assert eni(client, made)["PrivateIpAddress"] not in listed


def test_an_interface_says_what_only_hardware_has_as_it_was_asked_for(client: Client) -> None:
    vpc, switch = client.network()
    where = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    asked: dict[str, Json] = {
        "InstanceType": "Trunk",
        "QueueNumber": 4,
        "NetworkInterfaceTrafficMode": "HighPerformance",
    }
    made = client.text("CreateNetworkInterface", "NetworkInterfaceId", **where, **asked)
    found = eni(client, made)
    assert (found["Type"], found["QueueNumber"], found["NetworkInterfaceTrafficMode"]) == (*asked.values(),)
    plain = eni(client, client.text("CreateNetworkInterface", "NetworkInterfaceId", **where))
    assert (plain["Type"], plain["QueueNumber"], plain["NetworkInterfaceTrafficMode"]) == ("Secondary", 1, "Standard")
    code = client.refused("CreateNetworkInterface", **where, NetworkInterfaceTrafficMode="Fast")
    assert code == "InvalidParameter.NetworkInterfaceTrafficMode"


def test_an_instance_says_what_was_asked_for_or_the_cloud_s_defaults(client: Client) -> None:
    vpc, switch = client.network()
    where: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    found = instance(client, client.text("CreateInstance", "InstanceId", **where))
    defaults = {
        "InstanceChargeType": "PostPaid",
        "InternetChargeType": "PayByTraffic",
        "InternetMaxBandwidthOut": 0,
        "SpotStrategy": "NoSpot",
        "ZoneId": "a",
    }
    assert {name: found[name] for name in defaults} == defaults
    assert found["EipAddress"]["AllocationId"] == ""
    assert found["StartTime"] == found["CreationTime"] < found["ExpiredTime"]
    asked: dict[str, Json] = {"InstanceChargeType": "PrePaid", "InternetMaxBandwidthOut": 5, "KeyPairName": "mine"}
    kind = {"InstanceType": "ecs.g7.large", "ImageId": "debian_12_6_x64_20G_alibase_20240711.vhd"}
    found = instance(client, client.text("CreateInstance", "InstanceId", **where, **asked, **kind))
    assert {name: found[name] for name in asked} == asked
    assert (found["Cpu"], found["Memory"], found["OSName"]) == (2, 8192, "Debian  12.6 64 bit")


def test_disks_and_user_data_are_told_as_they_were_asked_for(client: Client) -> None:
    vpc, switch = client.network()
    asked: dict[str, Json] = {
        "SystemDisk": {"Category": "cloud_ssd", "Size": "60", "DiskName": "root"},
        "DataDisk": [{"Size": 20, "Category": "cloud_essd"}],
        "UserData": "aGVsbG8=",
    }
    where: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    made = client.text("CreateInstance", "InstanceId", **where, **asked)
    disks = items(client, "DescribeDisks", "Disks", "Disk", InstanceId=made)
    assert [(one["Type"], one["Category"], one["Size"], one["DiskName"]) for one in disks] == [
        ("system", "cloud_ssd", 60, "root"),
        ("data", "cloud_essd", 20, ""),
    ]
    again = items(client, "DescribeDisks", "Disks", "Disk", DiskIds=f'["{disks[1]["DiskId"]}"]')
    assert again == disks[1:]
    assert client("DescribeUserData", InstanceId=made)["UserData"] == "aGVsbG8="
    assert client.refused("CreateInstance", **where, UserData="?") == "InvalidUserData.Malformed"


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
