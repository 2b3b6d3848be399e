"""What each action is about, held against the cloud's own catalogue of RAM actions ("RAM authorization" in the
developer reference of ECS), of which this has a copy of what concerns us."""

from __future__ import annotations

import pytest

from sgdataplane.control.access.permissions import BUILT_IN, AccessPolicy, read_policy
from sgdataplane.control.access.targets import SERVICES, SUBJECTS, CallTarget, names_of, resources_of
from sgdataplane.control.actions import ACTIONS
from sgdataplane.control.calls.parameters import tables
from sgdataplane.control.calls.products import service_of
from sgdataplane.store.call import Call
from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import Client

# The catalogue's kind of resource -> the actions that it lists with it. Where it lists several kinds, the first is that
# of which the action is; the others are named by parameters. "" is "All Resources".
CATALOGUE = {
    "securitygroup": """CreateSecurityGroup DeleteSecurityGroup DescribeSecurityGroupAttribute DescribeSecurityGroups
        DescribeSecurityGroupReferences JoinSecurityGroup LeaveSecurityGroup ModifySecurityGroupAttribute
        ModifySecurityGroupPolicy RevokeSecurityGroup RevokeSecurityGroupEgress""",
    "eni": """AssignIpv6Addresses AssignPrivateIpAddresses AttachNetworkInterface CreateNetworkInterface
        DeleteNetworkInterface DescribeNetworkInterfaceAttribute DescribeNetworkInterfaces DetachNetworkInterface
        ModifyNetworkInterfaceAttribute UnassignIpv6Addresses UnassignPrivateIpAddresses""",
    "instance": """DeleteInstance DeleteInstances DescribeInstanceAttachmentAttributes DescribeInstanceAttribute
        DescribeInstanceAutoRenewAttribute DescribeInstanceRamRole DescribeInstances DescribeUserData
        ModifyInstanceAttribute ModifyInstanceAutoReleaseTime ModifyInstanceAutoRenewAttribute ModifyInstanceChargeType
        ModifyInstanceMaintenanceAttributes ModifyInstanceMetadataOptions ModifyInstanceNetworkSpec ModifyInstanceSpec
        ModifyInstanceVpcAttribute StartInstance StartInstances StopInstance StopInstances""",
    "prefixlist": """DeletePrefixList DescribePrefixListAssociations DescribePrefixListAttributes DescribePrefixLists
        ModifyPrefixList""",
    "portrangelist": """CreatePortRangeList DeletePortRangeList DescribePortRangeListAssociations
        DescribePortRangeListEntries DescribePortRangeLists ModifyPortRangeList""",
    "keypair": "CreateKeyPair DeleteKeyPairs DescribeKeyPairs ImportKeyPair",
    "disk": "DescribeDisks",
    "image": "DescribeImages DescribeImageSupportInstanceTypes",
    "": "DescribeAccountAttributes JoinResourceGroup ListTagResources TagResources UntagResources",
}
# All resources in the catalogue; here, narrower: about what they name.
NARROWER = {
    "instance": "CreateInstance RunInstances DescribeInstanceMaintenanceAttributes DescribeInstanceStatus",
    "securitygroup": """AuthorizeSecurityGroup AuthorizeSecurityGroupEgress ModifySecurityGroupEgressRule
        ModifySecurityGroupRule""",
    "prefixlist": "CreatePrefixList",
}
# The catalogue doesn't have them: older ones, those that need no rights, and grants for an ENI.
UNLISTED = {
    "": """AddTags RemoveTags DescribeTags DescribeResourceByTags DescribeRegions DescribeZones
        DescribeAvailableResource DescribeInstanceTypes DescribeInstanceTypeFamilies""",
    "eni": "CreateNetworkInterfacePermission DeleteNetworkInterfacePermission DescribeNetworkInterfacePermissions",
}
KINDS = {
    action: kind
    for table in (CATALOGUE, NARROWER, UNLISTED)
    for kind, names in table.items()
    for action in names.split()
}
ECS = [action for action in ACTIONS if service_of(action) == "ecs" and not action.startswith("Sgdp")]


def call(action: str, **parameters: Json) -> Call:
    return Call(action, parameters, "request", "LTAI", "192.0.2.1", 0.0)


def policy(effect: str, action: str, resource: str = "*") -> AccessPolicy:
    every = '{"Effect": "Allow", "Action": "*", "Resource": "*"}, ' if effect == "Deny" else ""
    one = f'{{"Effect": "{effect}", "Action": "{action}", "Resource": "{resource}"}}'
    return read_policy(f'{{"Version": "1", "Statement": [{every}{one}]}}')


def taken_over() -> set[str]:
    """Actions of ECS that the VPC product has, too, but for those that every product has."""
    of_vpc = {action.partition(":")[2] for action in tables() if service_of(action) == "vpc"}
    return {action for action in ECS if action in of_vpc and "V" in action}


@pytest.mark.parametrize("action", ECS)
def test_an_action_of_ecs_is_about_what_the_catalogue_says(action: str) -> None:
    if action in taken_over():
        assert action not in KINDS
        assert {one.service for one in resources_of(call(action))} == {"vpc"}
        return
    kind = KINDS[action]
    assert resources_of(call(action)) == (CallTarget("ecs", kind or "*", "*"),)


def test_the_copy_of_the_catalogue_names_no_action_twice_and_none_that_is_not_there() -> None:
    names = [name for table in (CATALOGUE, NARROWER, UNLISTED) for text in table.values() for name in text.split()]
    assert sorted(names) == sorted({*names})
    assert {*names} == {*ECS} - taken_over()


def test_only_actions_that_the_vpc_product_has_taken_over_have_two_names() -> None:
    twice = {action for action in tables() if len(names_of(action)) > 1}
    assert twice == {action for action in tables() if f"vpc:{action}" in tables() and "V" in action}
    assert taken_over() <= twice
    assert names_of("ModifyInstanceVpcAttribute") == ("ecs:modifyinstancevpcattribute",)


@pytest.mark.parametrize("action", [action for action in tables() if ":" in action])
def test_an_action_of_another_product_is_of_that_product_alone(action: str) -> None:
    assert names_of(action) == (action.lower(),)
    assert {one.service for one in resources_of(call(action))} == {service_of(action)}
    assert not policy("Allow", "ecs:*").permits(call(action))
    assert policy("Allow", action).permits(call(action))


def test_vpc_rights_move_no_instance() -> None:
    moving = call("ModifyInstanceVpcAttribute", InstanceId="i-1", VSwitchId="vsw-1")
    assert not policy("Allow", "vpc:*").permits(moving)
    assert not policy("Allow", "*", "acs:vpc:*:*:*").permits(moving)
    assert not policy("Deny", "*", "acs:ecs:*:*:instance/i-1").permits(moving)
    assert not policy("Deny", "*", "acs:vpc:*:*:vswitch/vsw-1").permits(moving)
    assert policy("Deny", "*", "acs:ecs:*:*:instance/i-2").permits(moving)


def test_user_data_is_the_instance_s() -> None:
    reading = call("DescribeUserData", InstanceId="i-1")
    assert resources_of(reading) == (CallTarget("ecs", "instance", "i-1"),)
    assert not policy("Deny", "*", "acs:ecs:*:*:instance/i-1").permits(reading)
    assert policy("Deny", "*", "acs:ecs:*:*:instance/i-2").permits(reading)
    assert policy("Allow", "ecs:DescribeUserData", "acs:ecs:*:*:instance/i-1").permits(reading)
    assert BUILT_IN["read-only"].permits(reading)


@pytest.mark.parametrize("kind", ["keypair", "unknown"])
def test_what_is_tagged_is_of_the_service_whose_action_it_is(kind: str) -> None:
    tagging = call("TagResources", ResourceType=kind, ResourceId=["x"], Tag=[{"Key": "a", "Value": "b"}])
    assert resources_of(tagging) == (CallTarget("ecs", kind, "x"),)
    assert not policy("Deny", "*", "acs:ecs:*:*:*").permits(tagging)
    assert policy("Allow", "*", "acs:ecs:*:*:*").permits(tagging)
    assert not policy("Allow", "*", "acs:vpc:*:*:*").permits(tagging)


def test_a_key_pair_is_a_resource() -> None:
    deleting = call("DeleteKeyPairs", KeyPairNames='["mine", "yours"]')
    assert not policy("Deny", "*", "acs:ecs:*:*:keypair/yours").permits(deleting)
    assert not policy("Allow", "*", "acs:ecs:*:*:keypair/mine").permits(deleting)
    assert policy("Allow", "*", "acs:ecs:*:*:keypair/*").permits(deleting)
    assert Client().refused("CreateKeyPair", KeyPairName="a,b") == "InvalidKeyPairName.Malformed"


@pytest.mark.parametrize("ids", ["i-1,i-2", '["i-1,i-2"]', ["i-1,i-2"], '["i-1", "i-2"]'])
def test_ids_between_commas_are_each_named(ids: Json) -> None:
    changing = call("ModifyInstanceSpec", InstanceIds=ids, InstanceType="t")
    assert not policy("Deny", "*", "acs:ecs:*:*:instance/i-2").permits(changing)
    assert not policy("Allow", "*", "acs:ecs:*:*:instance/i-1*").permits(changing)
    assert policy("Allow", "*", "acs:ecs:*:*:instance/i-*").permits(changing)


def test_every_kind_of_an_action_has_a_service() -> None:
    assert {*SUBJECTS.values()} - {""} <= SERVICES.keys()
