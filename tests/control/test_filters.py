"""Which resources a call finds: names, tags, resource groups, times, and what nothing here has."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.actions.importing import import_state
from sgdataplane.statefile.dump_ecs import answers
from sgdataplane.statefile.load import load_text
from sgdataplane.store.audit import local_call
from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import Client, counted_ids, items
from tests.support.run.memorystore import MemoryStore


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


def test_instances_are_found_by_the_public_address_that_they_show(client: Client) -> None:
    vpc, switch = client.network()
    asked: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    public = client.text("CreateInstance", "InstanceId", **asked, InternetMaxBandwidthOut=5)
    client("CreateInstance", **asked)

    def found(**wanted: Json) -> list[dict[str, Any]]:
        return items(client, "DescribeInstances", "Instances", "Instance", **wanted)

    (address,) = next(one for one in found() if one["InstanceId"] == public)["PublicIpAddress"]["IpAddress"]
    for given in (f'["{address}"]', f'["192.0.2.1", "{address}"]'):
        assert [one["InstanceId"] for one in found(PublicIpAddresses=given)] == [public]
    assert found(PublicIpAddresses='["192.0.2.1"]') == []
    assert found(InnerIpAddresses=f'["{address}"]') == []


CLASSIC = """
vpcs: [{vpc_id: classic, network_type: classic}]
security_groups: [{security_group_id: sg-1, vpc_id: classic}]
instances: [{instance_id: i-1, instance_name: old}]
network_interfaces:
- {network_interface_id: i-1-intranet, instance_id: i-1, type: primary, vpc_id: classic, nic_type: intranet,
   private_ip_addresses: [10.0.0.9], security_group_ids: [sg-1]}
- {network_interface_id: i-1-internet, instance_id: i-1, type: secondary, vpc_id: classic, nic_type: internet,
   private_ip_addresses: [198.51.100.9], security_group_ids: [sg-1]}
"""


def test_an_instance_outside_of_a_vpc_shows_what_the_cloud_shows_of_it() -> None:
    store, state = MemoryStore(), load_text(CLASSIC, file="state.yaml").state
    import_state(store, state, "seed", local_call("Import"))
    client = Client(Engine(store, "seed", counted_ids()))
    vpc, switch = client.network()
    client("CreateInstance", VSwitchId=switch, SecurityGroupId=client.group(vpc))

    def found(**wanted: Json) -> list[dict[str, Any]]:
        return items(client, "DescribeInstances", "Instances", "Instance", **wanted)

    (shown,) = found(InstanceNetworkType="classic")
    assert (shown["InstanceId"], shown["InstanceNetworkType"]) == ("i-1", "classic")
    assert shown["InnerIpAddress"] == {"IpAddress": ["10.0.0.9"]}
    assert shown["PublicIpAddress"] == {"IpAddress": ["198.51.100.9"]}
    assert (shown["VpcAttributes"]["VpcId"], shown["VpcAttributes"]["PrivateIpAddress"]) == ("", {"IpAddress": []})
    assert [one["InstanceNetworkType"] for one in found(InstanceNetworkType="vpc")] == ["vpc"]
    assert [one["InstanceId"] for one in found(InnerIpAddresses='["10.0.0.9"]')] == ["i-1"]
    assert [one["InstanceId"] for one in found(PublicIpAddresses='["198.51.100.9"]')] == ["i-1"]
    written = dict(answers(state))
    for action, outer, inner in (
        ("DescribeInstances", "Instances", "Instance"),
        ("DescribeNetworkInterfaces", "NetworkInterfaceSets", "NetworkInterfaceSet"),
    ):
        page = cast("dict[str, Any]", written[action])
        here = {one[f"{inner.removesuffix('Set')}Id"]: one for one in items(client, action, outer, inner)}
        for one in page[outer][inner]:
            told = here[one[f"{inner.removesuffix('Set')}Id"]]
            same = {"InstanceNetworkType", "InstanceName", "VpcId", "Attachment", "PrivateIpSets"} & one.keys()
            assert {name: told[name] for name in same} == {name: one[name] for name in same}


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
