"""What each action of the API does: a pure function of documents and a call.

Owns the list of actions. `docs/reference/api-actions.md` is generated from it.

May import `access`, `calls` and `store`. Begin with engine.py, which calls an action and commits what it made;
scope.py is what an action is given, validation.py says whether the result is a state. importing.py makes documents of
a whole state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sgdataplane.control.actions import groups, instances, interfaces, lists, networks, rules, tags
from sgdataplane.control.actions.scope import Scope
from sgdataplane.net.values import Direction
from sgdataplane.store.interface import Body


@dataclass(frozen=True, slots=True)
class Action:
    """`run` changes the scope's workspace, and returns the answer. `writes`: whether it may change anything."""

    run: Callable[[Scope], Body]
    writes: bool


INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS
WRITES: dict[str, Callable[[Scope], Body]] = {
    "AddTags": tags.tag,
    "AssignIpv6Addresses": interfaces.assign,
    "AssignPrivateIpAddresses": interfaces.assign,
    "AttachNetworkInterface": interfaces.attach,
    "AuthorizeSecurityGroup": partial(rules.authorize, INGRESS),
    "AuthorizeSecurityGroupEgress": partial(rules.authorize, EGRESS),
    "CreateInstance": instances.create,
    "CreateNetworkInterface": interfaces.create,
    "CreateSecurityGroup": groups.create,
    "CreateVSwitch": networks.create_vswitch,
    "CreateVpc": networks.create_vpc,
    "DeleteInstance": instances.delete,
    "DeleteInstances": instances.delete,
    "DeleteNetworkInterface": interfaces.delete,
    "DeleteSecurityGroup": groups.delete,
    "DeleteVSwitch": networks.delete_vswitch,
    "DeleteVpc": networks.delete_vpc,
    "DetachNetworkInterface": interfaces.detach,
    "JoinResourceGroup": tags.join_resource_group,
    "JoinSecurityGroup": groups.join,
    "LeaveSecurityGroup": groups.leave,
    "ModifyInstanceAttribute": instances.modify,
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
    "DescribeInstances": instances.describe_all,
    "DescribeNetworkInterfaceAttribute": interfaces.describe,
    "DescribeNetworkInterfaces": interfaces.describe_all,
    "DescribeRegions": networks.describe_regions,
    "DescribeResourceByTags": tags.describe_resources,
    "DescribeSecurityGroupAttribute": groups.describe,
    "DescribeSecurityGroupReferences": groups.describe_references,
    "DescribeSecurityGroups": groups.describe_all,
    "DescribeTags": tags.describe,
    "DescribeVSwitches": networks.describe_vswitches,
    "DescribeVpcs": networks.describe_vpcs,
    "DescribeZones": networks.describe_zones,
    "ListTagResources": tags.list_resources,
}
ACTIONS: dict[str, Action] = {
    **{name: Action(run, writes=True) for name, run in WRITES.items()},
    **{name: Action(run, writes=False) for name, run in READS.items()},
    **{name: Action(run, writes=writes) for name, (run, writes) in lists.actions().items()},
}
