"""What each action of the API does: a pure function of documents and a call.

Owns the list of actions, except those that ask hosts or wait (`service/dispatch.py`).

May import `access`, `calls` and `store`. Begin with engine.py, which calls an action and commits what it made;
scope.py is what an action is given, validation.py says whether the result is a state. importing.py makes documents of
a whole state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sgdataplane.control.actions import (
    grants,
    groups,
    instances,
    interfaces,
    keypairs,
    lists,
    machines,
    networks,
    regions,
    resets,
    rules,
    tags,
    vswitches,
)
from sgdataplane.control.actions.scope import Scope
from sgdataplane.net.values import Direction
from sgdataplane.store.interface import Body


@dataclass(frozen=True, slots=True)
class Action:
    """An action of the API."""

    run: Callable[[Scope], Body]  # changes the scope's workspace, and returns the answer
    writes: bool  # whether it may change anything


INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS
WRITES: dict[str, Callable[[Scope], Body]] = {
    "AddTags": tags.tag,
    "AssignIpv6Addresses": interfaces.assign,
    "AssignPrivateIpAddresses": interfaces.assign,
    "AttachNetworkInterface": interfaces.attach,
    "AuthorizeSecurityGroup": partial(rules.authorize, INGRESS),
    "AuthorizeSecurityGroupEgress": partial(rules.authorize, EGRESS),
    "CreateInstance": instances.create,
    "CreateKeyPair": keypairs.create,
    "CreateNetworkInterface": interfaces.create,
    "CreateNetworkInterfacePermission": grants.create,
    "CreateSecurityGroup": groups.create,
    "CreateVSwitch": vswitches.create_vswitch,
    "CreateVpc": networks.create_vpc,
    "DeleteInstance": instances.delete,
    "DeleteInstances": instances.delete,
    "DeleteKeyPairs": keypairs.delete,
    "DeleteNetworkInterface": interfaces.delete,
    "DeleteNetworkInterfacePermission": grants.delete,
    "DeleteSecurityGroup": groups.delete,
    "DeleteVSwitch": vswitches.delete_vswitch,
    "DeleteVpc": networks.delete_vpc,
    "DetachNetworkInterface": interfaces.detach,
    "ImportKeyPair": keypairs.import_key,
    "JoinResourceGroup": tags.join_resource_group,
    "JoinSecurityGroup": groups.join,
    "LeaveSecurityGroup": groups.leave,
    "ModifyInstanceAttribute": instances.modify,
    "ModifyInstanceAutoReleaseTime": machines.modify,
    "ModifyInstanceAutoRenewAttribute": machines.modify,
    "ModifyInstanceChargeType": machines.modify,
    "ModifyInstanceMaintenanceAttributes": machines.modify,
    "ModifyInstanceMetadataOptions": machines.modify,
    "ModifyInstanceNetworkSpec": machines.modify,
    "ModifyInstanceSpec": machines.modify,
    "ModifyInstanceVpcAttribute": interfaces.move,
    "ModifyNetworkInterfaceAttribute": interfaces.modify,
    "ModifySecurityGroupAttribute": groups.modify,
    "ModifySecurityGroupEgressRule": partial(rules.modify, EGRESS),
    "ModifySecurityGroupPolicy": groups.modify_policy,
    "ModifySecurityGroupRule": partial(rules.modify, INGRESS),
    "RemoveTags": tags.untag,
    "RevokeSecurityGroup": partial(rules.revoke, INGRESS),
    "RevokeSecurityGroupEgress": partial(rules.revoke, EGRESS),
    "RunInstances": instances.run,
    "SgdpCloneSecurityGroup": groups.clone,
    "SgdpReset": resets.reset,
    "StartInstance": instances.start,
    "StartInstances": instances.start,
    "StopInstance": instances.stop,
    "StopInstances": instances.stop,
    "TagResources": tags.tag,
    "UnassignIpv6Addresses": interfaces.unassign,
    "UnassignPrivateIpAddresses": interfaces.unassign,
    "UntagResources": tags.untag,
}
READS: dict[str, Callable[[Scope], Body]] = {
    "DescribeAccountAttributes": machines.account_attributes,
    "DescribeAvailableResource": regions.describe_available,
    "DescribeDisks": machines.describe_disks,
    "DescribeImageSupportInstanceTypes": regions.describe_image_types,
    "DescribeImages": regions.describe_images,
    "DescribeInstanceAttachmentAttributes": machines.describe_attachments,
    "DescribeInstanceAttribute": machines.describe_attribute,
    "DescribeInstanceAutoRenewAttribute": machines.describe_renewal,
    "DescribeInstanceMaintenanceAttributes": machines.describe_maintenance,
    "DescribeInstanceRamRole": machines.describe_roles,
    "DescribeInstanceStatus": machines.describe_status,
    "DescribeInstanceTypeFamilies": regions.describe_families,
    "DescribeInstanceTypes": regions.describe_types,
    "DescribeInstances": instances.describe_all,
    "DescribeKeyPairs": keypairs.describe_all,
    "DescribeNetworkInterfaceAttribute": interfaces.describe,
    "DescribeNetworkInterfacePermissions": grants.describe_all,
    "DescribeNetworkInterfaces": interfaces.describe_all,
    "DescribeRegions": regions.describe_regions,
    "DescribeResourceByTags": tags.describe_resources,
    "DescribeSecurityGroupAttribute": groups.describe,
    "DescribeSecurityGroupReferences": groups.describe_references,
    "DescribeSecurityGroups": groups.describe_all,
    "DescribeTags": tags.describe,
    "DescribeUserData": machines.describe_user_data,
    "DescribeVSwitches": vswitches.describe_vswitches,
    "DescribeVpcs": networks.describe_vpcs,
    "DescribeZones": regions.describe_zones,
    "ListTagResources": tags.list_resources,
}
# Of other products, as RAM names them (products.py).
OTHER_WRITES: dict[str, Callable[[Scope], Body]] = {
    "vpc:AssociateVpcCidrBlock": networks.associate_block,
    "vpc:CreateDefaultVSwitch": vswitches.create_default_vswitch,
    "vpc:CreateDefaultVpc": networks.create_default_vpc,
    "vpc:CreateVSwitch": vswitches.create_vswitch,
    "vpc:CreateVSwitchCidrReservation": vswitches.create_reservation,
    "vpc:CreateVpc": networks.create_vpc,
    "vpc:DeleteVSwitch": vswitches.delete_vswitch,
    "vpc:DeleteVSwitchCidrReservation": vswitches.delete_reservation,
    "vpc:DeleteVpc": networks.delete_vpc,
    "vpc:ModifyRouteTableAttributes": networks.modify_table,
    "vpc:ModifyVSwitchAttribute": vswitches.modify_vswitch,
    "vpc:ModifyVSwitchCidrReservationAttribute": vswitches.modify_reservation,
    "vpc:ModifyVpcAttribute": networks.modify_vpc,
    "vpc:MoveResourceGroup": tags.join_resource_group,
    "vpc:TagResources": tags.tag,
    "vpc:UnTagResources": tags.untag,
    "vpc:UnassociateVpcCidrBlock": networks.unassociate_block,
}
OTHER_READS: dict[str, Callable[[Scope], Body]] = {
    "bssopenapi:QueryAvailableInstances": regions.refuse_billing,
    "location:DescribeEndpoints": regions.describe_endpoints,
    "resourcemanager:ListResourceGroups": regions.list_resource_groups,
    "sts:GetCallerIdentity": regions.caller,
    "vpc:DescribeRegions": regions.describe_regions,
    "vpc:DescribeRouteTableList": networks.describe_tables,
    "vpc:DescribeVSwitchAttributes": vswitches.describe_vswitch,
    "vpc:DescribeVSwitches": vswitches.describe_vswitches,
    "vpc:DescribeVpcAttribute": networks.describe_vpc,
    "vpc:DescribeVpcs": networks.describe_vpcs,
    "vpc:DescribeZones": regions.describe_zones,
    "vpc:ListTagResources": tags.list_resources,
    "vpc:ListVSwitchCidrReservations": vswitches.list_reservations,
}
ACTIONS: dict[str, Action] = {
    **{name: Action(run, writes=True) for name, run in (WRITES | OTHER_WRITES).items()},
    **{name: Action(run, writes=False) for name, run in (READS | OTHER_READS).items()},
    **{name: Action(run, writes=writes) for name, (run, writes) in lists.actions().items()},
}
