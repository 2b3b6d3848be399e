"""What clients read in answers, and stumble over if it is missing or said otherwise: each found by a real client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from sgdataplane.control.actions.scope import Habits
from sgdataplane.statefile.load import load_native
from sgdataplane.store.documents import ResourceKind, about, native, path_of
from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import Client, eni, instance, items, only

NARROW = {"IpProtocol": "tcp", "PortRange": "22/22"}


@pytest.fixture
def client() -> Client:
    return Client()


def rules(client: Client, group: str, **more: Json) -> list[dict[str, Any]]:
    action = "DescribeSecurityGroupAttribute"
    return items(client, action, "Permissions", "Permission", SecurityGroupId=group, **more)


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
    assert opened(client, group["SecurityGroupId"]) == {"22/22", "3389/3389", "-1/-1"}


def opened(client: Client, group: str) -> set[str]:
    """The ports that a default group opens to everybody, behind all other rules."""
    found = rules(client, group)
    said = {(one["SourceCidrIp"], one["Policy"], one["Direction"], one["Priority"]) for one in found}
    assert said == {("0.0.0.0/0", "Accept", "ingress", "100")}
    assert {one["PortRange"] for one in found if one["IpProtocol"] != "TCP"} == {"-1/-1"}
    return {one["PortRange"] for one in found}


def test_the_default_group_opens_the_web_if_that_is_asked_for(client: Client) -> None:
    vpc, switch = client.network()
    web = {"SgdpDefaultGroup": "true", "SgdpDefaultGroupWeb": "true"}
    client.asked("RunInstances", web, VSwitchId=switch)
    group = only(client, "DescribeSecurityGroups", "SecurityGroups", "SecurityGroup", VpcId=vpc)
    assert opened(client, group["SecurityGroupId"]) == {"22/22", "3389/3389", "80/80", "443/443", "-1/-1"}


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
    names = [*found]  # in the order in which a client takes them
    assert names.index("EipAddress") < names.index("PublicIpAddress")
    assert found["StartTime"] == found["CreationTime"] < found["ExpiredTime"]
    asked: dict[str, Json] = {"InstanceChargeType": "PrePaid", "InternetMaxBandwidthOut": 5, "KeyPairName": "mine"}
    kind = {"InstanceType": "ecs.g7.large", "ImageId": "debian_12_6_x64_20G_alibase_20240711.vhd"}
    found = instance(client, client.text("CreateInstance", "InstanceId", **where, **asked, **kind))
    assert {name: found[name] for name in asked} == asked
    assert (found["Cpu"], found["Memory"], found["OSName"]) == (2, 8192, "Debian  12.6 64 bit")


def test_bandwidth_to_the_internet_comes_with_an_address_that_leads_nowhere(client: Client) -> None:
    vpc, switch = client.network()
    where: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    plain, public = (
        instance(client, client.text("CreateInstance", "InstanceId", **where, InternetMaxBandwidthOut=most))
        for most in (0, 5)
    )
    assert plain["PublicIpAddress"]["IpAddress"] == []
    (address,) = public["PublicIpAddress"]["IpAddress"]
    assert address.startswith("203.0.113.")


def test_an_instance_moves_to_another_vswitch_of_its_vpc(client: Client) -> None:
    vpc, switch = client.network()
    made = client.text("CreateInstance", "InstanceId", VSwitchId=switch, SecurityGroupId=client.group(vpc))
    other = client.text("CreateVSwitch", "VSwitchId", VpcId=vpc, CidrBlock="10.0.5.0/24", ZoneId="b")
    which: dict[str, Json] = {"InstanceId": made, "VSwitchId": other}
    client("ModifyInstanceVpcAttribute", **which)
    assert instance(client, made)["VpcAttributes"]["VSwitchId"] == other
    assert instance(client, made)["VpcAttributes"]["PrivateIpAddress"] == {"IpAddress": ["10.0.5.1"]}
    client("ModifyInstanceVpcAttribute", **which, PrivateIpAddress="10.0.5.9")
    assert instance(client, made)["VpcAttributes"]["PrivateIpAddress"] == {"IpAddress": ["10.0.5.9"]}
    _, elsewhere = client.network("10.9.0.0/16")
    code = client.refused("ModifyInstanceVpcAttribute", InstanceId=made, VSwitchId=elsewhere)
    assert code == "InvalidOperation.VpcMismatch"


@pytest.mark.parametrize(("kept", "told"), [("abc", 0), ("40", 40), (40, 40)])
def test_a_size_that_an_older_version_kept_unread_breaks_no_description(client: Client, kept: Json, told: int) -> None:
    vpc, switch = client.network()
    made = client.text("CreateInstance", "InstanceId", VSwitchId=switch, SecurityGroupId=client.group(vpc))
    body = client.engine.documents.get(path_of(ResourceKind.INSTANCE, made))
    assert body is not None
    about(body)["disks"] = [{"Type": "system", "Size": kept}]
    assert only(client, "DescribeDisks", "Disks", "Disk")["Size"] == told


@pytest.mark.parametrize("name", ["SystemDisk", "DataDisk"])
@pytest.mark.parametrize("size", ["abc", "-1", "0", "1.5", "1e3", "٣", "65537", "9" * 20, -1, 0])
def test_a_disk_s_size_that_is_none_is_refused(client: Client, name: str, size: Json) -> None:
    vpc, switch = client.network()
    where: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    for given, code in ((size, f"Invalid{name}Size.ValueNotSupported"), ("40", ""), (65_536, ""), ("", "")):
        disk: dict[str, Json] = {"Size": given}
        asked: dict[str, Json] = {**where, name: disk if name == "SystemDisk" else [disk]}
        if code:
            assert client.refused("RunInstances", **asked) == code
        else:
            client("RunInstances", **asked)
    sizes = [one["Size"] for one in items(client, "DescribeDisks", "Disks", "Disk", PageSize=100)]
    assert sizes.count(65_536) == 1
    assert {type(one) for one in sizes} == {int}


def test_a_move_keeps_secondary_addresses_or_is_refused(client: Client) -> None:
    vpc, switch = client.network()
    made = client.text("CreateInstance", "InstanceId", VSwitchId=switch, SecurityGroupId=client.group(vpc))
    (attached,) = instance(client, made)["NetworkInterfaces"]["NetworkInterface"]
    which: dict[str, Json] = {"NetworkInterfaceId": attached["NetworkInterfaceId"]}
    client("AssignPrivateIpAddresses", **which, PrivateIpAddress=["10.0.0.77", "10.0.0.78"])
    client("ModifyInstanceVpcAttribute", InstanceId=made, VSwitchId=switch, PrivateIpAddress="10.0.0.78")
    sets = eni(client, attached["NetworkInterfaceId"])["PrivateIpSets"]["PrivateIpSet"]
    assert [(one["PrivateIpAddress"], one["Primary"]) for one in sets] == [("10.0.0.78", True), ("10.0.0.77", False)]
    other = client.text("CreateVSwitch", "VSwitchId", VpcId=vpc, CidrBlock="10.0.5.0/24", ZoneId="b")
    away: dict[str, Json] = {"InstanceId": made, "VSwitchId": other}
    assert client.refused("ModifyInstanceVpcAttribute", **away) == "InvalidOperation.MultiIpAddress"
    client("UnassignPrivateIpAddresses", **which, PrivateIpAddress=["10.0.0.77"])
    client("ModifyInstanceVpcAttribute", **away)  # control
    assert eni(client, attached["NetworkInterfaceId"])["PrivateIpAddress"] == "10.0.5.1"


REPLACING: dict[str, Callable[[str, str, str, list[Json]], dict[str, Json]]] = {
    "ModifyInstanceAttribute": lambda made, _, __, groups: {"InstanceId": made, "SecurityGroupIds": groups},
    "ModifyInstanceVpcAttribute": lambda made, _, switch, groups: {
        "InstanceId": made, "VSwitchId": switch, "SecurityGroupId": groups,
    },
    "ModifyNetworkInterfaceAttribute": lambda _, eni_id, __, groups: {
        "NetworkInterfaceId": eni_id, "SecurityGroupId": groups,
    },
}  # fmt: skip


@pytest.mark.parametrize("action", REPLACING)
def test_a_managed_group_neither_comes_nor_goes_when_groups_are_replaced(client: Client, action: str) -> None:
    vpc, switch = client.network()
    service = Client(client.engine, key="LTAI-service")
    managed, plain, other = service.group(vpc, ServiceManaged=True), client.group(vpc), client.group(vpc)
    made = client.text("CreateInstance", "InstanceId", VSwitchId=switch, SecurityGroupId=plain)
    (attached,) = instance(client, made)["NetworkInterfaces"]["NetworkInterface"]
    eni_id = attached["NetworkInterfaceId"]

    def asked(*groups: Json) -> dict[str, Json]:
        return REPLACING[action](made, eni_id, switch, [*groups])

    def groups() -> list[str]:
        return cast("list[str]", eni(client, eni_id)["SecurityGroupIds"]["SecurityGroupId"])

    assert client.refused(action, **asked(plain, managed)) == "InvalidOperation.ResourceManagedByCloudProduct"
    service(action, **asked(plain, managed))
    assert client.refused(action, **asked(plain)) == "InvalidOperation.ResourceManagedByCloudProduct"
    assert client.refused(action, **asked("sg-none", managed)) == "InvalidSecurityGroupId.NotFound"
    assert groups() == [plain, managed]
    client(action, **asked(managed, other, other))  # control: the others may go
    assert groups() == [managed, other]


def test_interfaces_that_are_made_with_an_instance_go_with_it_unless_they_are_to_stay(client: Client) -> None:
    vpc, switch = client.network()
    more: list[Json] = [{"NetworkInterfaceName": "goes"}, {"NetworkInterfaceName": "stays", "DeleteOnRelease": False}]
    where: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    answer = client("RunInstances", **where, NetworkInterface=more)
    client("DeleteInstances", InstanceId=cast("dict[str, Any]", answer)["InstanceIdSets"]["InstanceIdSet"])
    left = items(client, "DescribeNetworkInterfaces", "NetworkInterfaceSets", "NetworkInterfaceSet")
    assert [one["NetworkInterfaceName"] for one in left] == ["stays"]


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


@pytest.mark.parametrize(
    ("action", "asked"),
    [
        ("ModifyInstanceSpec", {"InstanceType": "ecs.g7.xlarge", "InternetMaxBandwidthOut": 7}),
        ("ModifyInstanceNetworkSpec", {"InternetMaxBandwidthOut": 7}),
        ("ModifyInstanceAutoReleaseTime", {"AutoReleaseTime": "2030-01-01T00:00:00Z"}),
        ("ModifyInstanceChargeType", {"InstanceChargeType": "PrePaid"}),
    ],
)
def test_what_is_changed_of_an_instance_is_told_from_then_on(
    client: Client, action: str, asked: dict[str, Json]
) -> None:
    vpc, switch = client.network()
    made = client.text("CreateInstance", "InstanceId", VSwitchId=switch, SecurityGroupId=client.group(vpc))
    which: dict[str, Json] = (
        {"InstanceIds": f'["{made}"]'} if action == "ModifyInstanceChargeType" else {"InstanceId": made}
    )
    client(action, **which, **asked)
    found = instance(client, made)
    assert {name: found[name] for name in asked} == asked
    client("ModifyInstanceAttribute", InstanceId=made, Description="other")
    assert {name: instance(client, made)[name] for name in asked} == asked
