"""Which resources a call finds: names, tags, resource groups, times, and what nothing here has."""

from __future__ import annotations

import pytest

from sgdataplane.store.interface import Json
from tests.support.controlling import Client, items


@pytest.fixture
def client() -> Client:
    return Client()


def instance(client: Client, switch: str, group: str, **more: Json) -> str:
    return client.text("CreateInstance", "InstanceId", VSwitchId=switch, SecurityGroupId=group, **more)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["a-web", "b-web", "c-db"]),
        ({"SecurityGroupName": "*web"}, ["a-web", "b-web"]),
        ({"SecurityGroupName": "a-[w]eb"}, []),
        ({"SecurityGroupType": "Enterprise"}, ["c-db"]),
        ({"Tag": [{"Key": "env", "Value": "prod"}]}, ["b-web"]),
        ({"Tag": [{"Key": "env"}]}, ["b-web"]),
        ({"SecurityGroupIds": '["sg-none"]'}, []),
        ({"VpcId": "vpc-none"}, []),
        ({"SecurityGroupName": "web"}, []),
        ({"SecurityGroupName": "web", "FuzzyQuery": True}, ["a-web", "b-web"]),
        ({"FuzzyQuery": True}, ["a-web", "b-web", "c-db"]),
        ({"ResourceGroupId": "rg-1"}, ["c-db"]),
        ({"NetworkType": "classic"}, []),
        ({"NetworkType": "VPC"}, ["a-web", "b-web", "c-db"]),
        ({"ServiceManaged": True}, []),
    ],
    ids=str,
)
def test_groups_are_filtered(client: Client, asked: dict[str, Json], found: list[str]) -> None:
    vpc, _ = client.network()
    client.group(vpc, SecurityGroupName="a-web")
    client.group(vpc, SecurityGroupName="b-web", Tag=[{"Key": "env", "Value": "prod"}])
    client.group(vpc, SecurityGroupName="c-db", SecurityGroupType="enterprise", ResourceGroupId="rg-1")
    groups = items(client, "DescribeSecurityGroups", "SecurityGroups", "SecurityGroup", **asked)
    assert sorted(group["SecurityGroupName"] for group in groups) == found


def test_tags_are_listed_by_key_and_value(client: Client) -> None:
    vpc, _ = client.network()
    for values in ({"env": "prod", "team": "a"}, {"env": "test"}, {"env": "dev"}):
        client.group(vpc, Tag=[{"Key": key, "Value": value} for key, value in values.items()])

    def listed(**asked: Json) -> list[str]:
        found = items(client, "ListTagResources", "TagResources", "TagResource", ResourceType="securitygroup", **asked)
        return sorted(f"{one['TagKey']}={one['TagValue']}" for one in found)

    assert listed() == ["env=dev", "env=prod", "env=test", "team=a"]
    assert listed(Tag=[{"Key": "team"}]) == ["team=a"]
    assert listed(Tag=[{"Key": "env", "Value": "test"}]) == ["env=test"]
    assert listed(TagFilter=[{"TagKey": "env", "TagValues": ["dev", "prod"]}]) == ["env=dev", "env=prod"]
    assert listed(TagFilter=[{"TagKey": "env"}]) == ["env=dev", "env=prod", "env=test"]
    assert listed(TagFilter=[{"TagKey": "none"}]) == []


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["i-1", "i-2"]),
        ({"ZoneId": "b"}, ["i-2"]),
        ({"InstanceType": "ecs.small"}, ["i-1"]),
        ({"ImageId": "none"}, []),
        ({"ResourceGroupId": "rg-1"}, ["i-2"]),
        ({"PublicIpAddresses": '["192.0.2.1"]'}, []),
        ({"Filter": [{"Key": "CreationStartTime", "Value": "2020-01-31T12:00Z"}]}, ["i-1", "i-2"]),
        ({"Filter": [{"Key": "CreationStartTime", "Value": "2200-01-31T12:00Z"}]}, []),
        ({"Filter": [{"Key": "CreationEndTime", "Value": "2020-01-31T12:00:00Z"}]}, []),
        ({"Filter": [{"Key": "CreationEndTime", "Value": "2200-01-31T12:00Z"}]}, ["i-1", "i-2"]),
        ({"Filter": [{"Key": "ExpiredEndTime", "Value": "2200-01-31T12:00Z"}]}, []),
    ],
    ids=str,
)
def test_instances_are_filtered(client: Client, asked: dict[str, Json], found: list[str]) -> None:
    vpc, switch = client.network()
    group = client.group(vpc)
    instance(client, switch, group, InstanceName="i-1", InstanceType="ecs.small", ZoneId="a")
    second = instance(client, switch, group, InstanceName="i-2", ZoneId="b")
    client("JoinResourceGroup", ResourceType="instance", ResourceId=second, ResourceGroupId="rg-1")
    there = items(client, "DescribeInstances", "Instances", "Instance", **asked)
    assert sorted(one["InstanceName"] for one in there) == found


@pytest.mark.parametrize(
    "asked", [{"Key": "Color", "Value": "2020-01-31T12:00Z"}, {"Key": "CreationEndTime", "Value": "yesterday"}], ids=str
)
def test_a_filter_that_means_nothing_is_refused(client: Client, asked: dict[str, Json]) -> None:
    vpc, switch = client.network()
    instance(client, switch, client.group(vpc))
    assert client.refused("DescribeInstances", Filter=[asked]) == "InvalidParameter.Filter"


def test_resources_are_found_by_their_resource_group(client: Client) -> None:
    vpc, switch = client.network()
    group = client.group(vpc)
    client("CreateNetworkInterface", VSwitchId=switch, SecurityGroupId=group, ResourceGroupId="rg-1")
    eni = client.text("CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupId=group)
    asked: dict[str, Json] = {"MaxEntries": 3, "AddressFamily": "IPv4", "PrefixListName": "a"}
    client("CreatePrefixList", **asked, ResourceGroupId="rg-1")
    client("CreatePrefixList", **asked)
    for action, outer, inner in (
        ("DescribeNetworkInterfaces", "NetworkInterfaceSets", "NetworkInterfaceSet"),
        ("DescribePrefixLists", "PrefixLists", "PrefixList"),
    ):
        assert len(items(client, action, outer, inner)) == 2
        (found,) = items(client, action, outer, inner, ResourceGroupId="rg-1")
        assert found["ResourceGroupId"] == "rg-1"
    client("JoinResourceGroup", ResourceType="eni", ResourceId=eni, ResourceGroupId="rg-2")
    (moved,) = items(
        client, "DescribeNetworkInterfaces", "NetworkInterfaceSets", "NetworkInterfaceSet", ResourceGroupId="rg-2"
    )
    assert moved["NetworkInterfaceId"] == eni
    named: dict[str, Json] = {"ResourceId": "x", "ResourceGroupId": "rg-1"}
    assert client.refused("JoinResourceGroup", ResourceType="eni", **named) == "InvalidEniId.NotFound"
    assert client.refused("JoinResourceGroup", ResourceType="disk", **named) == "InvalidResourceType.NotFound"


def test_what_no_network_is_is_not_found(client: Client) -> None:
    client.network()
    for action, outer, inner in (("DescribeVpcs", "Vpcs", "Vpc"), ("DescribeVSwitches", "VSwitches", "VSwitch")):
        assert len(items(client, action, outer, inner, IsDefault=False)) == 1
        assert items(client, action, outer, inner, IsDefault=True) == []
    assert items(client, "DescribeVSwitches", "VSwitches", "VSwitch", ZoneId="b") == []
    assert len(items(client, "DescribeVSwitches", "VSwitches", "VSwitch", ZoneId="a")) == 1
