"""What each action does to documents, and what it refuses: by the engine, over a store in memory."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sgdataplane.control.actions import ACTIONS
from sgdataplane.control.actions.scope import Habits
from sgdataplane.store.documents import ResourceKind
from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import Client, items


@pytest.fixture
def client() -> Client:
    return Client()


def rules(client: Client, group: str, **more: Json) -> list[dict[str, Any]]:
    action = "DescribeSecurityGroupAttribute"
    return items(client, action, "Permissions", "Permission", SecurityGroupId=group, **more)


def instance(client: Client, switch: str, group: str, **more: Json) -> str:
    return client.text("CreateInstance", "InstanceId", VSwitchId=switch, SecurityGroupId=group, **more)


def primary(client: Client, instance_id: str) -> dict[str, Any]:
    action = "DescribeNetworkInterfaces"
    (eni,) = items(
        client, action, "NetworkInterfaceSets", "NetworkInterfaceSet", InstanceId=instance_id, Type="Primary"
    )
    return eni


# groups


def test_a_group_of_the_api_has_no_rules_and_one_of_the_console_has_some(client: Client) -> None:
    vpc, _ = client.network()
    assert rules(client, client.group(vpc)) == []
    call = {"VpcId": vpc, "SecurityGroupType": "enterprise"}
    console = client.asked("CreateSecurityGroup", {"SgdpConsole": "true"}, **call)["SecurityGroupId"]
    found = {(rule["Direction"], rule["IpProtocol"], rule["PortRange"]) for rule in rules(client, str(console))}
    ports = {("ingress", "TCP", f"{port}/{port}") for port in (22, 80, 443, 3389)}
    assert found == ports | {("ingress", "ICMP", "-1/-1"), ("egress", "ALL", "-1/-1")}


def test_a_group_without_a_vpc_is_of_the_classic_network_where_that_is_the_habit() -> None:
    client = Client(habits=Habits(is_classic=True))
    group = client.text("CreateSecurityGroup", "SecurityGroupId")
    asked = {"IpProtocol": "tcp", "PortRange": "22/22", "SourceCidrIp": "192.0.2.0/24"}
    client("AuthorizeSecurityGroup", SecurityGroupId=group, **asked)
    assert [rule["NicType"] for rule in rules(client, group)] == ["internet"]
    (described,) = items(client, "DescribeSecurityGroups", "SecurityGroups", "SecurityGroup", SecurityGroupId=group)
    assert described["VpcId"] == ""
    assert items(client, "DescribeVpcs", "Vpcs", "Vpc") == []


@pytest.mark.parametrize("style", ["tokens", "pages"])
def test_pages_of_both_styles_hold_everything_once(client: Client, style: str) -> None:
    vpc, _ = client.network()
    wanted = sorted(client.group(vpc) for _ in range(7))
    found: list[str] = []
    asked: dict[str, Json] = {"MaxResults": 3} if style == "tokens" else {"PageSize": 3, "PageNumber": 1}
    while True:
        answer = cast("dict[str, Any]", client("DescribeSecurityGroups", **asked))
        assert answer["TotalCount"] == 7
        page = answer["SecurityGroups"]["SecurityGroup"]
        found += [group["SecurityGroupId"] for group in page]
        if style == "pages":
            asked["PageNumber"] = int(str(asked["PageNumber"])) + 1
        asked["NextToken"] = answer["NextToken"]
        if not (answer["NextToken"] if style == "tokens" else page):
            break
        if style == "pages":
            del asked["NextToken"]
    assert sorted(found) == wanted


def test_a_group_goes_only_when_nobody_needs_it(client: Client) -> None:
    vpc, switch = client.network()
    web, db = client.group(vpc), client.group(vpc)
    asked = {"IpProtocol": "tcp", "PortRange": "22/22", "SourceGroupId": web}
    client("AuthorizeSecurityGroup", SecurityGroupId=db, **asked)
    assert client.refused("DeleteSecurityGroup", SecurityGroupId=web) == "DependencyViolation"
    references = items(
        client, "DescribeSecurityGroupReferences", "SecurityGroupReferences", "SecurityGroupReference",
        SecurityGroupId=[web],
    )  # fmt: skip
    assert [
        one["ReferencingSecurityGroups"]["ReferencingSecurityGroup"][0]["SecurityGroupId"] for one in references
    ] == [db]
    instance(client, switch, db)
    assert client.refused("DeleteSecurityGroup", SecurityGroupId=db) == "DependencyViolation"
    client("RevokeSecurityGroup", SecurityGroupId=db, **asked)
    client("DeleteSecurityGroup", SecurityGroupId=web)
    assert client.refused("DescribeSecurityGroupAttribute", SecurityGroupId=web) == "InvalidSecurityGroupId.NotFound"


def test_a_managed_group_is_its_service_s_alone(client: Client) -> None:
    vpc, switch = client.network()
    group = client.group(vpc, ServiceManaged=True)
    asked = {"IpProtocol": "tcp", "PortRange": "22/22", "SourceCidrIp": "192.0.2.0/24"}
    client("AuthorizeSecurityGroup", SecurityGroupId=group, **asked)
    other = Client(client.engine, key="LTAI-other")
    managed = "InvalidOperation.ResourceManagedByCloudProduct"
    assert other.refused("AuthorizeSecurityGroup", SecurityGroupId=group, **asked) == managed
    assert other.refused("DeleteSecurityGroup", SecurityGroupId=group) == managed
    assert other.refused("CreateInstance", VSwitchId=switch, SecurityGroupId=group) == managed
    mine = other.group(vpc)
    naming = {"IpProtocol": "tcp", "PortRange": "22/22", "SourceGroupId": group}
    assert other.refused("AuthorizeSecurityGroup", SecurityGroupId=mine, **naming) == managed


def test_a_clone_has_the_rules_and_an_identity_of_its_own(client: Client) -> None:
    vpc, _ = client.network()
    other, _ = client.network("10.9.0.0/16")
    group = client.group(vpc, SecurityGroupName="web")
    asked = {"IpProtocol": "tcp", "PortRange": "443/443", "SourceCidrIp": "0.0.0.0/0"}
    client("AuthorizeSecurityGroup", SecurityGroupId=group, **asked)
    copy = client.text("SgdpCloneSecurityGroup", "SecurityGroupId", SecurityGroupId=group, VpcId=other)
    (mine,), (its,) = rules(client, group), rules(client, copy)
    assert mine["SecurityGroupRuleId"] != its["SecurityGroupRuleId"]
    assert (its["PortRange"], its["SourceCidrIp"]) == ("443/443", "0.0.0.0/0")
    client("RevokeSecurityGroup", SecurityGroupId=copy, **asked)
    assert (len(rules(client, group)), rules(client, copy)) == (1, [])


# rules


def test_a_rule_that_is_there_is_authorized_again_without_a_second_one(client: Client) -> None:
    vpc, _ = client.network()
    group = client.group(vpc)
    for policy, priority in (("accept", "1"), ("Accept", ""), ("", "1")):
        asked: dict[str, Json] = {"IpProtocol": "TCP", "PortRange": "80/80", "SourceCidrIp": "10.0.0.7/8"}
        client("AuthorizeSecurityGroup", SecurityGroupId=group, Policy=policy, Priority=priority, **asked)
    (rule,) = rules(client, group)
    assert (rule["SourceCidrIp"], rule["Policy"], rule["Priority"]) == ("10.0.0.7/8", "Accept", "1")


def test_rules_go_by_id_or_by_what_they_say(client: Client) -> None:
    vpc, _ = client.network()
    group = client.group(vpc)
    asked: list[Json] = [
        {"IpProtocol": "tcp", "PortRange": f"{port}/{port}", "SourceCidrIp": "0.0.0.0/0"} for port in (1, 2, 3)
    ]
    client("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=asked)
    third, second, first = rules(client, group)  # the newest comes first
    client("RevokeSecurityGroup", SecurityGroupId=group, SecurityGroupRuleId=[first["SecurityGroupRuleId"]])
    client("RevokeSecurityGroup", SecurityGroupId=group, Permissions=[asked[1]])
    client("RevokeSecurityGroup", SecurityGroupId=group, Permissions=[asked[1]])  # it's gone, and that's no error
    assert rules(client, group) == [third]
    code = client.refused(
        "RevokeSecurityGroup", SecurityGroupId=group, SecurityGroupRuleId=[second["SecurityGroupRuleId"]]
    )
    assert code == "InvalidSecurityGroupRuleId.NotFound"
    code = client.refused(
        "RevokeSecurityGroupEgress", SecurityGroupId=group, SecurityGroupRuleId=[third["SecurityGroupRuleId"]]
    )
    assert code == "InvalidSecurityGroupRuleId.NotFound"


def test_a_modified_rule_keeps_its_id_and_what_is_not_said(client: Client) -> None:
    vpc, _ = client.network()
    group, other = client.group(vpc), client.group(vpc)
    asked = {"IpProtocol": "tcp", "PortRange": "80/80", "SourceCidrIp": "0.0.0.0/0", "Description": "web"}
    client("AuthorizeSecurityGroup", SecurityGroupId=group, **asked)
    (before,) = rules(client, group)
    rule_id = before["SecurityGroupRuleId"]
    client(
        "ModifySecurityGroupRule", SecurityGroupId=group, SecurityGroupRuleId=rule_id, SourceGroupId=other, Priority="7"
    )
    (after,) = rules(client, group)
    assert after == before | {"SourceGroupId": other, "SourceCidrIp": "", "Priority": "7"}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"IpProtocol": ""}, "MissingParameter.IpProtocol"),
        ({"PortRange": ""}, "InvalidPortRange.Malformed"),
        ({"SourceCidrIp": ""}, "MissingParameter.Source"),
        ({"SourceCidrIp": "10.0.0.0/40"}, "InvalidSourceCidrIp.Malformed"),
        ({"SourceCidrIp": "::/0", "Priority": "0"}, "InvalidSourceCidrIp.Malformed"),
        ({"IpProtocol": "sctp?"}, "InvalidIpProtocol.ValueNotSupported"),
        ({"Priority": "101"}, "InvalidPriority.ValueNotSupported"),
        ({"Priority": "high"}, "InvalidPriority.ValueNotSupported"),
        ({"SourceCidrIp": "", "SourceGroupId": "sg-none"}, "InvalidSourceGroupId.NotFound"),
        ({"SourceCidrIp": "", "SourcePrefixListId": "pl-none"}, "InvalidPrefixListId.NotFound"),
    ],
    ids=str,
)
def test_a_bad_rule_is_refused_whole_with_the_cloud_s_code(client: Client, asked: dict[str, Json], code: str) -> None:
    """`asked`: what it says in place of what would be right. A good rule beside it isn't added either."""
    vpc, _ = client.network()
    group = client.group(vpc)
    good: dict[str, Json] = {"IpProtocol": "tcp", "PortRange": "80/80", "SourceCidrIp": "0.0.0.0/0"}
    revision = client.engine.revision
    assert client.refused("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[good, good | asked]) == code
    assert (rules(client, group), client.engine.revision) == ([], revision)


# interfaces and instances


def test_addresses_are_chosen_from_the_vswitch_and_never_twice(client: Client) -> None:
    vpc, switch = client.network()
    group = client.group(vpc)
    answer = client("RunInstances", VSwitchId=switch, SecurityGroupId=group, Amount=20)
    ids = cast("dict[str, Any]", answer)["InstanceIdSets"]["InstanceIdSet"]
    found = [primary(client, one)["PrivateIpAddress"] for one in ids]
    assert sorted(found) == sorted(f"10.0.0.{number}" for number in range(1, 21))
    taken = {"VSwitchId": switch, "SecurityGroupId": group, "PrimaryIpAddress": "10.0.0.7"}
    assert client.refused("CreateNetworkInterface", **taken) == "InvalidIp.IpAssigned"
    outside = taken | {"PrimaryIpAddress": "192.0.2.7"}
    assert client.refused("CreateNetworkInterface", **outside) == "InvalidIp.OutOfVpc"
    client("DeleteInstance", InstanceId=[ids[6]])
    client("CreateNetworkInterface", **taken)


def test_addresses_of_one_call_are_all_different(client: Client) -> None:
    """A hundred at once, also beside one that is no address, which is refused."""
    vpc, switch = client.network()
    group = client.group(vpc)
    client("RunInstances", VSwitchId=switch, SecurityGroupId=group, Amount=100)
    asked: dict[str, Json] = {"VSwitchId": switch, "PageSize": 100}
    found = items(client, "DescribeNetworkInterfaces", "NetworkInterfaceSets", "NetworkInterfaceSet", **asked)
    assert sorted(int(eni["PrivateIpAddress"].rpartition(".")[2]) for eni in found) == list(range(1, 101))
    enis: list[Json] = [{"InstanceType": "Primary", "PrimaryIpAddress": "nonsense"}, {"InstanceType": "Secondary"}]
    code = client.refused("RunInstances", VSwitchId=switch, SecurityGroupId=group, NetworkInterface=enis)
    assert code.startswith("InvalidIp")


def test_a_secondary_interface_is_made_attached_detached_and_deleted(client: Client) -> None:
    vpc, switch = client.network()
    group, other = client.group(vpc), client.group(vpc)
    owner = instance(client, switch, group)
    made = client("CreateNetworkInterface", VSwitchId=switch, SecurityGroupIds=[other], Ipv4PrefixCount=1)
    eni = str(made["NetworkInterfaceId"])
    assert (made["Status"], made["Type"]) == ("Available", "Secondary")
    client("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId=owner)
    again = client.refused("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId=owner)
    assert again == "InvalidOperation.InvalidEniState"
    assert client.refused("DeleteNetworkInterface", NetworkInterfaceId=eni) == "InvalidOperation.InvalidEniState"
    first = str(primary(client, owner)["NetworkInterfaceId"])
    code = client.refused("DetachNetworkInterface", NetworkInterfaceId=first, InstanceId=owner)
    assert code == "InvalidOperation.InvalidEniType"
    client("DetachNetworkInterface", NetworkInterfaceId=eni, InstanceId=owner)
    client("DeleteNetworkInterface", NetworkInterfaceId=eni)
    client("DeleteNetworkInterface", NetworkInterfaceId=eni)  # the cloud takes it as done


def test_an_instance_takes_its_primary_interface_with_it_and_leaves_others(client: Client) -> None:
    vpc, switch = client.network()
    group = client.group(vpc)
    owner = instance(client, switch, group)
    eni = client.text("CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupId=group)
    client("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId=owner)
    client("DeleteInstance", InstanceId=[owner])
    (left,) = items(client, "DescribeNetworkInterfaces", "NetworkInterfaceSets", "NetworkInterfaceSet")
    assert (left["NetworkInterfaceId"], left["Status"]) == (eni, "Available")


def test_members_join_and_leave_but_are_always_in_one_group(client: Client) -> None:
    vpc, switch = client.network()
    web, db = client.group(vpc), client.group(vpc)
    owner = instance(client, switch, web)
    assert client.refused("LeaveSecurityGroup", InstanceId=owner, SecurityGroupId=web) == "InstanceLastSecurityGroup"
    client("JoinSecurityGroup", InstanceId=owner, SecurityGroupId=db)
    again = client.refused("JoinSecurityGroup", InstanceId=owner, SecurityGroupId=db)
    assert again == "InvalidInstanceId.AlreadyExists"
    client("LeaveSecurityGroup", InstanceId=owner, SecurityGroupId=web)
    assert primary(client, owner)["SecurityGroupIds"]["SecurityGroupId"] == [db]
    both = {"InstanceId": owner, "NetworkInterfaceId": primary(client, owner)["NetworkInterfaceId"]}
    assert client.refused("JoinSecurityGroup", SecurityGroupId=web, **both) == "InvalidOperation.InvalidParameter"
    advanced = client.group(vpc, SecurityGroupType="enterprise")
    mixed = client.refused("JoinSecurityGroup", InstanceId=owner, SecurityGroupId=advanced)
    assert mixed == "InvalidOperation.MultiGroupType"


def test_groups_of_an_interface_are_set_anew(client: Client) -> None:
    vpc, switch = client.network()
    web, db = client.group(vpc), client.group(vpc)
    eni = str(primary(client, instance(client, switch, web))["NetworkInterfaceId"])
    client("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=eni, SecurityGroupId=[db])
    times: dict[str, Json] = {"TcpEstablishedTimeout": 300}
    client("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=eni, ConnectionTrackingConfiguration=times)
    found = cast("dict[str, Any]", client("DescribeNetworkInterfaceAttribute", NetworkInterfaceId=eni))
    assert found["SecurityGroupIds"]["SecurityGroupId"] == [db]
    assert found["ConnectionTrackingConfiguration"]["TcpEstablishedTimeout"] == 300
    wrong: dict[str, Json] = {"TcpEstablishedTimeout": 301}
    code = client.refused(
        "ModifyNetworkInterfaceAttribute", NetworkInterfaceId=eni, ConnectionTrackingConfiguration=wrong
    )
    assert code == "InvalidParameter.EniConnectionTrackingConfiguration"


# lists, networks, tags


def test_a_prefix_list_is_used_changed_and_goes_only_unused(client: Client) -> None:
    vpc, _ = client.network()
    group = client.group(vpc)
    made = client.text(
        "CreatePrefixList", "PrefixListId", PrefixListName="office", AddressFamily="IPv4", MaxEntries=2,
        Entry=[{"Cidr": "192.0.2.0/24", "Description": "head"}],
    )  # fmt: skip
    asked = {"IpProtocol": "tcp", "PortRange": "22/22", "SourcePrefixListId": made}
    client("AuthorizeSecurityGroup", SecurityGroupId=group, **asked)
    assert client.refused("DeletePrefixList", PrefixListId=made) == "DependencyViolation.PrefixList"
    client("ModifyPrefixList", PrefixListId=made, AddEntry=[{"Cidr": "198.51.100.0/24"}])
    too_many = client.refused("ModifyPrefixList", PrefixListId=made, AddEntry=[{"Cidr": "203.0.113.0/24"}])
    assert too_many == "LimitExceed.Entries"
    client("ModifyPrefixList", PrefixListId=made, RemoveEntry=[{"Cidr": "192.0.2.0/24"}])
    found = items(client, "DescribePrefixListAttributes", "Entries", "Entry", PrefixListId=made)
    assert [entry["Cidr"] for entry in found] == ["198.51.100.0/24"]
    client("RevokeSecurityGroup", SecurityGroupId=group, **asked)
    client("DeletePrefixList", PrefixListId=made)


def test_a_network_goes_only_empty(client: Client) -> None:
    vpc, switch = client.network()
    owner = instance(client, switch, client.group(vpc))
    assert client.refused("DeleteVSwitch", VSwitchId=switch) == "DependencyViolation"
    assert client.refused("DeleteVpc", VpcId=vpc) == "DependencyViolation"
    outside = {"VpcId": vpc, "CidrBlock": "192.168.0.0/24", "ZoneId": "a"}
    assert client.refused("CreateVSwitch", **outside) == "InvalidCidrBlock.Malformed"
    overlapping = outside | {"CidrBlock": "10.0.0.128/25"}
    assert client.refused("CreateVSwitch", **overlapping) == "InvalidCidrBlock.Conflict"
    client("DeleteInstance", InstanceId=[owner])
    client("DeleteVSwitch", VSwitchId=switch)


def test_tags_are_put_found_and_removed(client: Client) -> None:
    vpc, switch = client.network()
    group = client.group(vpc)
    owner = instance(client, switch, group)
    for kind, one in (("securitygroup", group), ("instance", owner)):
        client("TagResources", ResourceType=kind, ResourceId=[one], Tag=[{"Key": "env", "Value": "prod"}])
    found = items(client, "DescribeResourceByTags", "Resources", "Resource", Tag=[{"Key": "env", "Value": "prod"}])
    assert {(one["ResourceType"], one["ResourceId"]) for one in found} == {
        ("securitygroup", group),
        ("instance", owner),
    }
    client("UntagResources", ResourceType="instance", ResourceId=[owner], All=True)
    listed: dict[str, Json] = {"ResourceType": "instance", "ResourceId": [owner]}
    assert items(client, "ListTagResources", "TagResources", "TagResource", **listed) == []


# tokens, dry runs, and what isn't there


def test_a_token_makes_a_call_happen_once(client: Client) -> None:
    vpc, _ = client.network()
    asked: dict[str, Json] = {"VpcId": vpc, "SecurityGroupName": "web", "ClientToken": "t-1"}
    first, again = (client.ask("CreateSecurityGroup", **asked) for _ in range(2))
    assert first == again
    assert (
        client.refused("CreateSecurityGroup", **(asked | {"SecurityGroupName": "db"})) == "IdempotentParameterMismatch"
    )
    other = Client(client.engine, key="LTAI-other")
    assert other.ask("CreateSecurityGroup", **asked) != first, "tokens of two keys are two"


def test_a_dry_run_says_that_it_would_have_passed(client: Client) -> None:
    vpc, switch = client.network()
    group, revision = client.group(vpc), client.engine.revision + 1
    asked: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": group, "DryRun": True}
    assert client.refused("RunInstances", **asked) == "DryRunOperation"
    assert (
        client.refused("RunInstances", **(asked | {"SecurityGroupId": "sg-none"})) == "InvalidSecurityGroupId.NotFound"
    )
    documents = client.engine.documents
    assert (dict(documents.of_kind[ResourceKind.INSTANCE]), documents.revision) == ({}, revision - 1)


def test_what_is_not_there_is_said_so(client: Client) -> None:
    assert client.refused("ReplaceSystemDisk") == "InvalidAction.NotFound"
    assert client.refused("DeleteInstance", InstanceId=["i-none"]) == "InvalidInstanceId.NotFound"
    missing = [name for name, action in ACTIONS.items() if action.writes and name.startswith("Delete")]
    assert len(missing) > 6
