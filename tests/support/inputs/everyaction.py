"""Each action of ECS and of other products once, in an order in which there is what it needs, and that leaves nothing.

Owns what is asked. Must not know who asks, or how.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Ask: TypeAlias = Callable[..., Mapping[str, Any]]
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHbUw9kqXyqM0Sgy7lLtKp0zTgIm4oHlk8nJq8mP4w1C test"
TYPE, IMAGE = "ecs.g7.large", "debian_12_6_x64_20G_alibase_20240711.vhd"
TAG = {"Key": "team", "Value": "a"}


def ask_everything(ask: Ask) -> None:
    """Ask for each action of ECS."""
    look_up(ask)
    vpc = str(ask("CreateVpc", CidrBlock="10.0.0.0/16")["VpcId"])
    switch = str(ask("CreateVSwitch", VpcId=vpc, CidrBlock="10.0.1.0/24", ZoneId="cn-hangzhou-h")["VSwitchId"])
    ask("DescribeVpcs", VpcId=vpc)
    ask("DescribeVSwitches", VpcId=vpc)
    group, other = (str(ask("CreateSecurityGroup", VpcId=vpc)["SecurityGroupId"]) for _ in range(2))
    change_group(ask, group, other)
    use_lists(ask)
    instance = run_instance(ask, switch, group)
    use_interfaces(ask, switch, group, instance)
    join(ask, instance, other)
    label(ask, instance)
    change_instance(ask, instance, switch, other)
    end_instances(ask, switch, group, instance)
    for one in (group, other):
        ask("DeleteSecurityGroup", SecurityGroupId=one)
    ask("DeleteVSwitch", VSwitchId=switch)
    ask("DeleteVpc", VpcId=vpc)


def look_up(ask: Ask) -> None:
    """Look up what clients look up before they ask for anything; and keys, which need nothing else."""
    for action in ("DescribeRegions", "DescribeZones", "DescribeInstanceTypeFamilies", "DescribeImages"):
        ask(action)
    ask("DescribeInstanceTypes", InstanceTypes=[TYPE])
    ask("DescribeImageSupportInstanceTypes", ImageId=IMAGE)
    ask("DescribeAvailableResource", DestinationResource="InstanceType")
    ask("DescribeAccountAttributes", AttributeName=["max-security-groups"])
    ask("CreateKeyPair", KeyPairName="made")
    ask("ImportKeyPair", KeyPairName="brought", PublicKeyBody=PUBLIC_KEY)
    ask("DescribeKeyPairs", KeyPairName="made")
    ask("DeleteKeyPairs", KeyPairNames=json.dumps(["made", "brought"]))


def change_group(ask: Ask, group: str, other: str) -> None:
    """Change a group and its rules. `other` is a remote of one."""
    ask("DescribeSecurityGroups", SecurityGroupId=group)
    ask("ModifySecurityGroupAttribute", SecurityGroupId=group, SecurityGroupName="web", Description="of the shop")
    ask("ModifySecurityGroupPolicy", SecurityGroupId=group, InnerAccessPolicy="Drop")
    web = {"IpProtocol": "TCP", "PortRange": "443/443", "SourceGroupId": other, "Priority": "1"}
    ask("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[web])
    dns = {"IpProtocol": "UDP", "PortRange": "53/53", "DestCidrIp": "192.0.2.0/24", "Priority": "1"}
    ask("AuthorizeSecurityGroupEgress", SecurityGroupId=group, Permissions=[dns])
    ask("DescribeSecurityGroupReferences", SecurityGroupId=[other])
    found = ask("DescribeSecurityGroupAttribute", SecurityGroupId=group).get("Permissions", {}).get("Permission", [])
    rules = {str(rule["Direction"]): str(rule["SecurityGroupRuleId"]) for rule in found}
    for direction, action in (("ingress", "ModifySecurityGroupRule"), ("egress", "ModifySecurityGroupEgressRule")):
        ask(action, SecurityGroupId=group, SecurityGroupRuleId=rules.get(direction, ""), Description="changed")
    for direction, action in (("ingress", "RevokeSecurityGroup"), ("egress", "RevokeSecurityGroupEgress")):
        ask(action, SecurityGroupId=group, SecurityGroupRuleId=[rules.get(direction, "")])


def use_lists(ask: Ask) -> None:
    """Make, change and delete a prefix list and a port list."""
    entry = {"Cidr": "192.0.2.0/24", "Description": "office"}
    made = ask("CreatePrefixList", PrefixListName="office", AddressFamily="IPv4", MaxEntries=5, Entry=[entry])
    prefixes = str(made["PrefixListId"])
    ask("ModifyPrefixList", PrefixListId=prefixes, AddEntry=[{"Cidr": "198.51.100.0/24"}])
    ask("DescribePrefixLists", PrefixListId=[prefixes])
    ask("DescribePrefixListAttributes", PrefixListId=prefixes)
    ask("DescribePrefixListAssociations", PrefixListId=prefixes)
    ask("DeletePrefixList", PrefixListId=prefixes)
    made = ask("CreatePortRangeList", PortRangeListName="web", MaxEntries=5, Entry=[{"PortRange": "80/80"}])
    ports = str(made["PortRangeListId"])
    ask("ModifyPortRangeList", PortRangeListId=ports, AddEntry=[{"PortRange": "443/443"}])
    ask("DescribePortRangeLists", PortRangeListId=[ports])
    ask("DescribePortRangeListEntries", PortRangeListId=ports)
    ask("DescribePortRangeListAssociations", PortRangeListId=ports)
    ask("DeletePortRangeList", PortRangeListId=ports)


def run_instance(ask: Ask, switch: str, group: str) -> str:
    """Run an instance, and read all that is known of it. Return its id."""
    of = {"VSwitchId": switch, "SecurityGroupId": group, "ImageId": IMAGE, "InstanceType": TYPE}
    made = ask("RunInstances", **of, InstanceName="web1", Amount=1, UserData="dGVzdA==")
    (instance,) = (str(one) for one in made["InstanceIdSets"]["InstanceIdSet"])
    ids = json.dumps([instance])
    ask("DescribeInstances", InstanceIds=ids)
    ask("DescribeInstanceStatus", InstanceId=[instance])
    for action in ("DescribeInstanceAttribute", "DescribeUserData"):
        ask(action, InstanceId=instance)
    ask("DescribeDisks", InstanceId=instance)
    ask("DescribeInstanceRamRole", InstanceIds=ids)
    ask("DescribeInstanceMaintenanceAttributes", InstanceId=[instance])
    ask("DescribeInstanceAutoRenewAttribute", InstanceId=instance)
    ask("DescribeInstanceAttachmentAttributes", InstanceIds=ids)
    return instance


def use_interfaces(ask: Ask, switch: str, group: str, instance: str) -> None:
    """Make an ENI, change it, attach it, and delete it."""
    made = ask("CreateNetworkInterface", VSwitchId=switch, SecurityGroupId=group)
    eni = str(made["NetworkInterfaceId"])
    ask("ModifyNetworkInterfaceAttribute", NetworkInterfaceId=eni, NetworkInterfaceName="second")
    found = ask("AssignPrivateIpAddresses", NetworkInterfaceId=eni, SecondaryPrivateIpAddressCount=1)
    added = found.get("AssignedPrivateIpAddressesSet", {}).get("PrivateIpSet", {}).get("PrivateIpAddress", [])
    ask("UnassignPrivateIpAddresses", NetworkInterfaceId=eni, PrivateIpAddress=added)
    ask("AssignIpv6Addresses", NetworkInterfaceId=eni, Ipv6Address=["2001:db8::7"])
    ask("UnassignIpv6Addresses", NetworkInterfaceId=eni, Ipv6Address=["2001:db8::7"])
    ask("DescribeNetworkInterfaceAttribute", NetworkInterfaceId=eni)
    made = ask("CreateNetworkInterfacePermission", NetworkInterfaceId=eni, AccountId=1, Permission="InstanceAttach")
    permission = str(made.get("NetworkInterfacePermission", {}).get("NetworkInterfacePermissionId", ""))
    ask("DescribeNetworkInterfacePermissions", NetworkInterfaceId=eni)
    ask("DeleteNetworkInterfacePermission", NetworkInterfacePermissionId=permission)
    ask("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId=instance)
    ask("DescribeNetworkInterfaces", InstanceId=instance)
    ask("DetachNetworkInterface", NetworkInterfaceId=eni, InstanceId=instance)
    ask("DeleteNetworkInterface", NetworkInterfaceId=eni)


def join(ask: Ask, instance: str, group: str) -> None:
    """Join a group, and leave it."""
    ask("JoinSecurityGroup", InstanceId=instance, SecurityGroupId=group)
    ask("LeaveSecurityGroup", InstanceId=instance, SecurityGroupId=group)


def label(ask: Ask, instance: str) -> None:
    """Tag an instance, both ways that there are, and put it into a resource group."""
    of = {"ResourceType": "instance", "ResourceId": instance}
    ask("AddTags", **of, Tag=[TAG])
    ask("DescribeTags", **of)
    ask("DescribeResourceByTags", ResourceType="instance", Tag=[TAG])
    ask("RemoveTags", **of, Tag=[TAG])
    several = {"ResourceType": "instance", "ResourceId": [instance]}
    ask("TagResources", **several, Tag=[TAG])
    ask("ListTagResources", **several)
    ask("UntagResources", **several, TagKey=["team"])
    ask("JoinResourceGroup", **of, ResourceGroupId="rg-1")


def change_instance(ask: Ask, instance: str, switch: str, group: str) -> None:
    """Change what an instance has; some of it only while it is stopped."""
    ask("ModifyInstanceAttribute", InstanceId=instance, InstanceName="web2")
    ask("ModifyInstanceAutoReleaseTime", InstanceId=instance, AutoReleaseTime="2099-01-01T00:00:00Z")
    ask("ModifyInstanceMaintenanceAttributes", InstanceId=[instance], ActionOnMaintenance="AutoRecover")
    ask("ModifyInstanceMetadataOptions", InstanceId=instance, HttpEndpoint="enabled", HttpTokens="required")
    ask("ModifyInstanceNetworkSpec", InstanceId=instance, InternetMaxBandwidthOut=5)
    ask("StopInstance", InstanceId=instance)
    ask("ModifyInstanceSpec", InstanceId=instance, InstanceType="ecs.g7.xlarge")
    moved = {"VSwitchId": switch, "SecurityGroupId": [group], "PrivateIpAddress": "10.0.1.77"}
    ask("ModifyInstanceVpcAttribute", InstanceId=instance, **moved)
    ask("StartInstance", InstanceId=instance)
    ask("StopInstances", InstanceId=[instance])
    ask("StartInstances", InstanceId=[instance])
    ask("ModifyInstanceChargeType", InstanceIds=json.dumps([instance]), InstanceChargeType="PrePaid", Period=1)
    ask("ModifyInstanceAutoRenewAttribute", InstanceId=instance, AutoRenew=True, Duration=1)


def end_instances(ask: Ask, switch: str, group: str, instance: str) -> None:
    """Make one more the older way, and delete all."""
    made = ask("CreateInstance", VSwitchId=switch, SecurityGroupId=group, ImageId=IMAGE, InstanceType=TYPE)
    ask("DeleteInstance", InstanceId=str(made["InstanceId"]), Force=True)
    ask("DeleteInstances", InstanceId=[instance], Force=True)


def ask_products(ask: Ask) -> None:
    """Ask for each action of other products, and at the end for one that is always refused."""
    for action in ("vpc:DescribeRegions", "vpc:DescribeZones", "sts:GetCallerIdentity"):
        ask(action)
    ask("resourcemanager:ListResourceGroups")
    ask("location:DescribeEndpoints", Id="cn-hangzhou", ServiceCode="ecs", Type="openAPI")
    vpc = str(ask("vpc:CreateVpc", CidrBlock="10.0.0.0/16", VpcName="shop")["VpcId"])
    ask("vpc:ModifyVpcAttribute", VpcId=vpc, Description="of the shop")
    ask("vpc:DescribeVpcs", VpcId=vpc)
    table = str(ask("vpc:DescribeVpcAttribute", VpcId=vpc).get("RouterTableIds", {}).get("RouterTableIds", [""])[0])
    ask("vpc:DescribeRouteTableList", VpcId=vpc)
    ask("vpc:ModifyRouteTableAttributes", RouteTableId=table, RouteTableName="shop")
    for action in ("vpc:AssociateVpcCidrBlock", "vpc:UnassociateVpcCidrBlock"):
        ask(action, VpcId=vpc, SecondaryCidrBlock="192.168.0.0/16")
    use_vswitch(ask, vpc)
    several = {"ResourceType": "VPC", "ResourceId": [vpc]}
    ask("vpc:TagResources", **several, Tag=[TAG])
    ask("vpc:ListTagResources", **several)
    ask("vpc:UnTagResources", **several, TagKey=["team"])
    ask("vpc:MoveResourceGroup", ResourceType="vpc", ResourceId=vpc, NewResourceGroupId="rg-1")
    ask("vpc:DeleteVpc", VpcId=vpc)
    default = str(ask("vpc:CreateDefaultVpc").get("VpcId", ""))
    ask(
        "vpc:DeleteVSwitch", VSwitchId=str(ask("vpc:CreateDefaultVSwitch", ZoneId="cn-hangzhou-h").get("VSwitchId", ""))
    )
    ask("vpc:DeleteVpc", VpcId=default)
    ask("bssopenapi:QueryAvailableInstances")


def use_vswitch(ask: Ask, vpc: str) -> None:
    """Make a VSwitch, reserve a block in it, change both, and delete them."""
    made = ask("vpc:CreateVSwitch", VpcId=vpc, CidrBlock="10.0.1.0/24", ZoneId="cn-hangzhou-h")
    switch = str(made["VSwitchId"])
    ask("vpc:ModifyVSwitchAttribute", VSwitchId=switch, VSwitchName="shop")
    ask("vpc:DescribeVSwitches", VpcId=vpc)
    ask("vpc:DescribeVSwitchAttributes", VSwitchId=switch)
    made = ask("vpc:CreateVSwitchCidrReservation", VSwitchId=switch, VSwitchCidrReservationCidr="10.0.1.64/26")
    which = {"VSwitchCidrReservationId": str(made.get("VSwitchCidrReservationId", ""))}
    ask("vpc:ModifyVSwitchCidrReservationAttribute", **which, VSwitchCidrReservationName="pods")
    ask("vpc:ListVSwitchCidrReservations", VSwitchId=switch)
    ask("vpc:DeleteVSwitchCidrReservation", **which)
    ask("vpc:DeleteVSwitch", VSwitchId=switch)
