"""SgdpReset, with which tests begin anew: with nothing, or with the objects of a state."""

from __future__ import annotations

import pytest

from sgdataplane.control.actions.scope import Habits
from sgdataplane.store.documents import ResourceKind
from tests.support.inputs.controlling import Client, eni, items, only

STATE = """
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}]
security_groups:
- security_group_id: sg-db
  vpc_id: vpc-a
  rules:
  - {security_group_rule_id: sgr-1, type: ingress, ip_protocol: tcp, port_range: 5432/5432, cidr_ip: 192.0.2.0/24}
instances: [{instance_id: i-db, instance_name: db}]
network_interfaces:
- {network_interface_id: eni-db, instance_id: i-db, vpc_id: vpc-a, private_ip_addresses: [10.0.0.11],
   security_group_ids: [sg-db]}
"""
UNKNOWN_VPC = "security_groups: [{security_group_id: sg-1, vpc_id: vpc-none}]"
HALF = """
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}]
security_groups: [{security_group_id: sg-1, vpc_id: vpc-a}]
network_interfaces:
- {network_interface_id: eni-1, vpc_id: vpc-a, member_only: true, private_ip_addresses: [10.0.0.9],
   security_group_ids: [sg-1]}
"""


@pytest.fixture
def client() -> Client:
    return Client(habits=Habits(can_reset=True))


def groups(client: Client) -> list[str]:
    found = items(client, "DescribeSecurityGroups", "SecurityGroups", "SecurityGroup")
    return [one["SecurityGroupId"] for one in found]


def test_a_reset_leaves_the_objects_of_the_state_that_it_is_given(client: Client) -> None:
    client.group(client.network()[0])
    for _ in range(2):  # the second one finds what the first one has put
        default = client("SgdpReset", State=STATE)["VpcId"]
        assert groups(client) == ["sg-db"]
        assert {one["VpcId"] for one in items(client, "DescribeVpcs", "Vpcs", "Vpc")} == {default, "vpc-a"}
        listing = ("DescribeSecurityGroupAttribute", "Permissions", "Permission")
        rule = only(client, *listing, SecurityGroupId="sg-db")
        assert (rule["SecurityGroupRuleId"], rule["SourceCidrIp"]) == ("sgr-1", "192.0.2.0/24")
        assert eni(client, "eni-db")["SecurityGroupIds"]["SecurityGroupId"] == ["sg-db"]
        client("ModifyInstanceAttribute", InstanceId="i-db", InstanceName="other")
    client("SgdpReset")
    assert groups(client) == []


@pytest.mark.parametrize("state", ["no: state", "[", UNKNOWN_VPC, HALF], ids=["no-state", "no-yaml", "unknown", "half"])
def test_a_state_that_is_none_is_refused_and_nothing_goes(client: Client, state: str) -> None:
    kept = client.group(client.network()[0])
    before = client.engine.revision
    assert client.refused("SgdpReset", State=state) == "InvalidParameter.State"
    assert (groups(client), client.engine.revision) == ([kept], before)


def test_only_an_api_for_development_is_reset() -> None:
    client = Client()
    assert client.refused("SgdpReset", State=STATE) == "InvalidAction.NotFound"
    assert client.engine.documents.of_kind[ResourceKind.GROUP] == {}
