"""Security groups: create, describe, change, delete, clone; who is in them.

Owns these actions. Rules are in rules.py. Must not know HTTP or the store.
"""

from __future__ import annotations

from collections.abc import Sequence

from sgdataplane.control.actions.narrowing import Narrowing
from sgdataplane.control.actions.networks import answer_vpc_id, default_vpc
from sgdataplane.control.actions.rules import DONE, GroupDocument, permission, rule_notes, rules_of, without_trial
from sgdataplane.control.actions.scope import Scope, is_among, is_grouped_and_tagged, is_like
from sgdataplane.control.calls.answers import FORBIDDEN, ApiError
from sgdataplane.net.values import Direction
from sgdataplane.statefile import ecs_groups, ecs_translation
from sgdataplane.statefile.ecs_names import CLASSIC_VPC
from sgdataplane.statefile.native_objects import NativeGroup, NativeRule, NativeVpc
from sgdataplane.store.bodies import GroupAbout
from sgdataplane.store.documents import ResourceKind, kind_of, name_of
from sgdataplane.store.interface import Body, Json

EVERYONE = "0.0.0.0/0"
FILTERS = (
    *("SecurityGroupIds", "SecurityGroupId", "SecurityGroupName", "VpcId"),
    *("SecurityGroupType", "NetworkType", "ServiceManaged"),
)  # of DescribeSecurityGroups


def create(scope: Scope) -> Body:
    """Answer CreateSecurityGroup.

    The group has no rules, as by the cloud's API, or those of the cloud's console (semantics.md, section 6). Without a
    VPC it is a group of the default VPC, or of the classic network where that is the account's habit.
    """
    vpc_id = scope.text("VpcId")
    if vpc_id:
        scope.vpcs.find(vpc_id)
    else:
        vpc_id = _classic(scope) if scope.habits.is_classic else default_vpc(scope)
    kind = scope.text("SecurityGroupType", "normal").lower()
    group_id, managed = scope.new_id("sg"), scope.flag("ServiceManaged")
    state: NativeGroup = {
        "security_group_id": group_id,
        "security_group_name": scope.text("SecurityGroupName"),
        "description": scope.text("Description"),
        "security_group_type": kind,
        "vpc_id": vpc_id,
        "inner_access_policy": "Accept" if kind == "normal" else "Drop",
        "service_managed": managed,
        "tags": scope.tags(),
        "rules": console_rules(scope, kind) if scope.is_console else [],
    }
    more: GroupAbout = {"created": scope.time, "resource_group_id": scope.text("ResourceGroupId")}
    if managed:
        more["service_key"] = scope.call.key
    scope.groups.put(group_id, state, more)
    return {"SecurityGroupId": group_id}


def default_group(scope: Scope, vpc_id: str) -> str:
    """Return the default group of a VPC (semantics.md, section 6), which is made when the first instance needs it."""
    for path in scope.workspace.users(ResourceKind.VPC, vpc_id, ResourceKind.GROUP):
        if scope.groups.find(name_of(path)).about.get("is_default"):
            return name_of(path)
    group_id = scope.new_id("sg")
    state: NativeGroup = {
        "security_group_id": group_id,
        "security_group_name": group_id,
        "description": "System created security group.",
        "security_group_type": "normal",
        "vpc_id": vpc_id,
        "inner_access_policy": "Accept",
        "rules": _default_rules(scope),
    }
    scope.groups.put(group_id, state, {"created": scope.time, "is_default": True})
    return group_id


def _default_rules(scope: Scope) -> list[NativeRule]:
    """Return rules for SSH, RDP and ICMP from everywhere, behind all other rules.

    With SgdpDefaultGroupWeb, there are also rules for HTTP and HTTPS.
    """
    is_web = scope.call.extensions.get("SgdpDefaultGroupWeb", "").lower() == "true"
    ports = (22, 3389, *((80, 443) if is_web else ()))
    return _open_rules(scope, [*(("tcp", f"{port}/{port}") for port in ports), ("icmp", "-1/-1")], priority=100)


def _classic(scope: Scope) -> str:
    if scope.vpcs.get(CLASSIC_VPC) is None:
        state: NativeVpc = {"vpc_id": CLASSIC_VPC, "network_type": "classic"}
        scope.vpcs.put(CLASSIC_VPC, state, {"name": CLASSIC_VPC, "created": scope.time})
    return CLASSIC_VPC


def console_rules(scope: Scope, kind: str) -> list[NativeRule]:
    """Return the rules that the cloud's console adds to a new group."""
    said = [("tcp", f"{port}/{port}") for port in (80, 443, 22, 3389)] + [("icmp", "-1/-1")]
    rules = _open_rules(scope, said)
    if kind == "enterprise":
        egress: NativeRule = {"type": "egress", "ip_protocol": "all", "port_range": "-1/-1", "cidr_ip": EVERYONE}
        rules.append({**egress, "security_group_rule_id": scope.new_id("sgr")})
    return rules


def _open_rules(scope: Scope, said: Sequence[tuple[str, str]], priority: int = 1) -> list[NativeRule]:
    """Return rules that accept these protocols and ports from everywhere."""
    weak: NativeRule = {} if priority == 1 else {"priority": priority}
    return [
        {
            "type": "ingress",
            "ip_protocol": protocol,
            "port_range": ports,
            "cidr_ip": EVERYONE,
            **weak,
            "security_group_rule_id": scope.new_id("sgr"),
        }
        for protocol, ports in said
    ]


def delete(scope: Scope) -> Body:
    """Answer DeleteSecurityGroup. No ENI may be in the group, and no rule may name it."""
    group_id = scope.require("SecurityGroupId")
    scope.find_writable(group_id)
    users = scope.workspace.users(ResourceKind.GROUP, group_id)
    if any(kind_of(path) is ResourceKind.GROUP for path in users):
        naming = ", ".join(name_of(path) for path in users if kind_of(path) is ResourceKind.GROUP)
        raise ApiError("DependencyViolation", f"Rules of {naming} name {group_id}.", FORBIDDEN)
    scope.refuse_used(ResourceKind.GROUP, group_id)
    scope.groups.delete(group_id)
    return DONE


def modify(scope: Scope) -> Body:
    """Answer ModifySecurityGroupAttribute, which changes name and description."""
    group_id = scope.require("SecurityGroupId")
    scope.find_writable(group_id)
    given: NativeGroup = {}
    if scope.gives("SecurityGroupName"):
        given["security_group_name"] = scope.text("SecurityGroupName")
    if scope.gives("Description"):
        given["description"] = scope.text("Description")
    scope.groups.change(group_id, given)
    return DONE


def modify_policy(scope: Scope) -> Body:
    """Answer ModifySecurityGroupPolicy, which sets whether members reach each other."""
    group_id, policy = scope.require("SecurityGroupId"), scope.require("InnerAccessPolicy")
    scope.find_writable(group_id)
    scope.groups.change(group_id, {"inner_access_policy": policy.capitalize()})
    return DONE


def clone(scope: Scope) -> Body:
    """Answer SgdpCloneSecurityGroup: make a group with the rules of another one, in its VPC or in that of VpcId."""
    original = scope.groups.find(scope.require("SecurityGroupId"))
    group_id = scope.new_id("sg")
    vpc_id = scope.text("VpcId") or original.state["vpc_id"]
    scope.vpcs.find(vpc_id)
    new_ids = {rule["security_group_rule_id"]: scope.new_id("sgr") for rule in rules_of(original)}
    rules: list[NativeRule] = [
        {**rule, "security_group_rule_id": new_ids[rule["security_group_rule_id"]]} for rule in rules_of(original)
    ]
    _, texts = rule_notes(original)
    state: NativeGroup = {
        **without_trial(original.state),
        "security_group_id": group_id,
        "security_group_name": scope.text("SecurityGroupName") or original.state.get("security_group_name", ""),
        "vpc_id": vpc_id,
        "description": scope.text("Description") or original.state.get("description", ""),
        "service_managed": False,
        "rules": rules,
    }
    more: GroupAbout = {
        "created": scope.time,
        "cloned_from": scope.text("SecurityGroupId"),
        "rule_texts": {new_ids[rule_id]: text for rule_id, text in texts.items() if rule_id in new_ids},
    }
    scope.groups.put(group_id, state, more)
    return {"SecurityGroupId": group_id}


def describe_all(scope: Scope) -> Body:
    """Answer DescribeSecurityGroups."""
    ids = scope.texts("SecurityGroupIds") or ([scope.text("SecurityGroupId")] if scope.has("SecurityGroupId") else [])
    name, vpc_id, kind = _name_asked(scope), scope.text("VpcId"), scope.text("SecurityGroupType").lower()

    def is_wanted(group: GroupDocument) -> bool:
        return (
            is_among(group.id, ids)
            and is_like(group.state.get("security_group_name", ""), name)
            and is_like(_vpc_name(group), vpc_id)
            and kind in ("", group.state["security_group_type"])
            and scope.text("NetworkType").lower() in ("", "vpc" if _vpc_name(group) else "classic")
            and scope.is_flagged("ServiceManaged", is_so=bool(group.state.get("service_managed")))
            and is_grouped_and_tagged(scope, group)
        )

    narrowing = Narrowing(scope, scope.groups)
    narrowing.by_ids(ids)
    narrowing.by_name(name)
    narrowing.by_uses({"VpcId": ResourceKind.VPC})
    narrowing.by_tags_and_group()
    found = narrowing.choose(FILTERS, is_wanted)

    def shape(group: GroupDocument) -> Json:
        return group_item(scope, group)

    return {"RegionId": scope.region, **scope.page(found, shape, "SecurityGroups", "SecurityGroup")}


def _name_asked(scope: Scope) -> str:
    """Return the pattern of names that a call asks for. With FuzzyQuery, it may match anywhere in a name."""
    name = scope.text("SecurityGroupName")
    return f"*{name}*" if name and scope.flag("FuzzyQuery") else name


def _vpc_name(group: GroupDocument) -> str:
    return answer_vpc_id(group.state["vpc_id"])


def group_item(scope: Scope, group: GroupDocument) -> Json:
    """Return a group as DescribeSecurityGroups has it."""
    members, enis = scope.workspace.members(group.id), scope.enis
    instances = {enis.state(eni).get("instance_id") for eni in members} - {None}
    return {
        **ecs_groups.group_item({**group.state, "security_group_id": group.id}, _vpc_name(group)),
        "CreationTime": group.about.get("created", ""),
        "ServiceID": 1 if group.state.get("service_managed") else 0,
        "ResourceGroupId": group.about.get("resource_group_id", ""),
        "EcsCount": len(instances),
        "AvailableInstanceAmount": max(0, 2000 - len(members)),
        "Tags": {"Tag": ecs_translation.tag_items(sorted(group.tags.items()))},
    }


def describe(scope: Scope) -> Body:
    """Answer DescribeSecurityGroupAttribute with a group and its rules, newest first as the cloud has them."""
    group = scope.groups.find(scope.require("SecurityGroupId"))
    direction = scope.text("Direction", "all").lower()
    if direction not in ("all", *(one.value for one in Direction)):
        raise ApiError("InvalidDirection.ValueNotSupported", "Direction is ingress, egress or all.")
    rules = [
        rule
        for rule in reversed(rules_of(group))
        if direction in ("all", rule["type"]) and _is_of_nic(rule, group, scope.text("NicType").lower())
    ]
    start, size, token = scope.next_page(len(rules))
    return {
        "RegionId": scope.region,
        **ecs_groups.group_head({**group.state, "security_group_id": group.id}, _vpc_name(group)),
        "InnerAccessPolicy": group.state["inner_access_policy"],
        "Permissions": {"Permission": [permission(scope, rule, group) for rule in rules[start : start + size]]},
        "NextToken": token,
    }


def _is_of_nic(rule: NativeRule, group: GroupDocument, asked: str) -> bool:
    """Whether a rule is for the kind of network interface that a call asks for.

    In a VPC there is one kind, and the filter says nothing: clients send whatever they have, such as `internet` or
    `<nil>`.
    """
    return bool(_vpc_name(group)) or asked in ("", rule.get("nic_type", "intranet"))


def describe_references(scope: Scope) -> Body:
    """Answer DescribeSecurityGroupReferences with the groups whose rules name these groups."""
    found: list[Json] = []
    for group_id in scope.texts("SecurityGroupId"):
        scope.groups.find(group_id)
        naming = scope.workspace.users(ResourceKind.GROUP, group_id, ResourceKind.GROUP)
        if naming:
            others: list[Json] = [{"AliUid": "", "SecurityGroupId": name_of(path)} for path in naming]
            found.append(
                {"SecurityGroupId": group_id, "ReferencingSecurityGroups": {"ReferencingSecurityGroup": others}}
            )
    return {"SecurityGroupReferences": {"SecurityGroupReference": found}}


def join(scope: Scope) -> Body:
    """Answer JoinSecurityGroup for an ENI, or for an instance's primary one."""
    group_id, eni_id = scope.require("SecurityGroupId"), _eni(scope)
    scope.find_writable(group_id)
    groups = scope.enis.find(eni_id).state.get("security_group_ids", [])
    if group_id in groups:
        raise ApiError("InvalidInstanceId.AlreadyExists", f"{eni_id} is in {group_id} already.")
    scope.enis.change(eni_id, {"security_group_ids": [*groups, group_id]})
    return DONE


def leave(scope: Scope) -> Body:
    """Answer LeaveSecurityGroup. An ENI is always in one group at least."""
    group_id, eni_id = scope.require("SecurityGroupId"), _eni(scope)
    scope.find_writable(group_id)
    groups = scope.enis.find(eni_id).state.get("security_group_ids", [])
    if group_id not in groups:
        raise ApiError("InvalidSecurityGroupAssociation.NotFound", f"{eni_id} isn't in {group_id}.", 404)
    if len(groups) == 1:
        raise ApiError("InstanceLastSecurityGroup", f"{eni_id} would be in no group any more.", FORBIDDEN)
    scope.enis.change(eni_id, {"security_group_ids": [group for group in groups if group != group_id]})
    return DONE


def replace_groups(scope: Scope, eni_id: str, groups: Sequence[str]) -> None:
    """Put an ENI into these groups and no others.

    Raises:
        ApiError: A group isn't there, or one that comes or goes is managed by a service.
    """
    before = scope.enis.find(eni_id).state.get("security_group_ids", [])
    for group_id in sorted({*before} ^ {*groups}):
        scope.find_writable(group_id)
    scope.enis.change(eni_id, {"security_group_ids": [*dict.fromkeys(groups)]})


def _eni(scope: Scope) -> str:
    """Return the ENI that a call names, or the primary one of the instance that it names.

    Raises:
        ApiError: The call names both, neither, or one that isn't there.
    """
    eni_id, instance_id = scope.text("NetworkInterfaceId"), scope.text("InstanceId")
    if bool(eni_id) is bool(instance_id):
        raise ApiError("InvalidOperation.InvalidParameter", "Give either InstanceId or NetworkInterfaceId.")
    if eni_id:
        scope.enis.find(eni_id)
        return eni_id
    scope.instances.find(instance_id)
    enis = scope.workspace.enis_of(instance_id)
    if not enis:
        raise ApiError("IncorrectInstanceStatus", f"{instance_id} has no network interface.", FORBIDDEN)
    return enis[0]
