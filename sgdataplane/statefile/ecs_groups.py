"""Security groups and their rules in the cloud's answers: read into sections, and written from native fields.

Owns their keys' places in an answer, in both directions. Is given an object's fields as the native format has them to
write them, where an absent field means its default. Must not know files or documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from sgdataplane.model.state import NicType
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile import ecs_answers as calls
from sgdataplane.statefile import ecs_names
from sgdataplane.statefile.ecs_answers import EcsAnswer, Item, by_group
from sgdataplane.statefile.ecs_lists import GROUP_REMOTES, add_port_lists, add_prefix_lists
from sgdataplane.statefile.ecs_translation import AnswerFields, Names, Translation, tags, translate, translate_values
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.native_objects import NativeGroup, NativeRule
from sgdataplane.statefile.problems import Problems

NOTHING: Mapping[str, str] = {}
ACCEPT, INTRANET = Verdict.ACCEPT.value, NicType.INTRANET.value


def add_groups(translation: Translation) -> None:
    """Add the groups with their rules.

    The list of groups has their types, managed flags and tags. The answer about each group has its inner policy and
    rules.
    """
    attributes = by_group(translation.answers.of(calls.SECURITY_GROUP))
    listed: set[str] = set()
    for item in translation.answers.objects(calls.SECURITY_GROUPS):
        group_id = item.text("SecurityGroupId")
        listed.add(group_id)
        if group_id in attributes:
            translation.sections.security_groups.append(group_fields(item, attributes[group_id], translation))
        else:
            where = item.where("SecurityGroupId")
            translation.refuse_missing(where, calls.SECURITY_GROUP, "SecurityGroupId", group_id)
    for group_id, answers in attributes.items():
        if group_id not in listed:
            where = answers[0].item.where("SecurityGroupId")
            translation.refuse_missing(where, calls.SECURITY_GROUPS, "SecurityGroupId", group_id)
    remotes = {rule.text_of(name) for rule in translation.rules() for name in GROUP_REMOTES} - {""}
    translation.sections.unknown_groups |= remotes - listed


def add_groups_alone(translation: Translation) -> None:
    """Add groups from the answers about single groups, where the list of groups is missing, and ENIs with it.

    Such an answer doesn't say a group's type, so a finding says which type was assumed.
    """
    attributes = by_group(translation.answers.of(calls.SECURITY_GROUP))
    for group_id, answers in attributes.items():
        translation.sections.security_groups.append(group_fields(answers[0].item, answers, translation))
        message = (
            "the answer doesn't say the group's type: it is taken for a basic one, which accepts egress by default"
        )
        about = subject(security_group_id=group_id)
        translation.answers.findings.append(Finding("AssumedBasic", Severity.WARNING, message, about))
    remotes = {rule.text_of(name) for rule in translation.rules() for name in GROUP_REMOTES} - {""}
    translation.sections.unknown_groups |= remotes - attributes.keys()
    add_prefix_lists(translation)
    add_port_lists(translation)


def group_fields(item: Item, answers: list[EcsAnswer], translation: Translation) -> Fields:
    """Return a group, from its item in the list and the answers about it alone."""
    values = translate_values(item, ecs_names.GROUP)
    values["vpc_id"] = translation.vpc_of(item)
    values["tags"] = tags(item)
    names: Names = {**ecs_names.GROUP, "vpc_id": "VpcId", "tags": "Tags"}
    for answer in answers:
        if answer.item.get("InnerAccessPolicy") is not None:
            values["inner_access_policy"] = answer.item.get("InnerAccessPolicy")
            names["inner_access_policy"] = answer.item.where("InnerAccessPolicy")
    permissions = (permission for answer in answers for permission in answer.item.items("Permissions", "Permission"))
    values["rules"] = tuple(rule_fields(permission, translation.problems) for permission in permissions)
    names["rules"] = answers[0].item.where("Permissions")
    return item.fields(values, names)


def rule_fields(item: Item, problems: Problems) -> Fields:
    """Return a permission under native names, which depend on its direction: Source is the remote on ingress only."""
    is_egress = item.text("Direction").lower() == Direction.EGRESS.value
    direction = Direction.EGRESS if is_egress else Direction.INGRESS
    for key in ecs_names.MISPLACED[direction]:
        if item.get(key) is not None:
            message, value = f"{key} means nothing in an {direction.value} rule", item.get(key)
            problems.add(item.where(key), "InvalidDocument.MisplacedKey", message, value=value, expected="empty")
    if item.get("Policy") is None:
        message = "the permission has no Policy"
        problems.add(item.where(), "MissingParameter.Policy", message, expected="Accept or Drop")
    return translate(item, ecs_names.RULE[direction])


def group_head(state: NativeGroup, vpc_id: str) -> AnswerFields:
    """Return what every answer says of a group."""
    return {
        "SecurityGroupId": state["security_group_id"],
        "SecurityGroupName": state.get("security_group_name", ""),
        "Description": state.get("description", ""),
        "VpcId": vpc_id,
    }


def group_item(state: NativeGroup, vpc_id: str) -> AnswerFields:
    """Return a group as an element of a list of groups."""
    rules = state.get("rules", [])
    names = ("source_security_group_id", "dest_security_group_id")
    return {
        **group_head(state, vpc_id),
        "SecurityGroupType": state.get("security_group_type", "normal"),
        "ServiceManaged": bool(state.get("service_managed")),
        "RuleCount": len(rules),
        "GroupToGroupRuleCount": sum(any(name in rule for name in names) for rule in rules),
    }


def permission(rule: NativeRule, given: Mapping[str, str] = NOTHING) -> AnswerFields:
    """Return a rule with every key that the cloud gives; those that say nothing are empty.

    `given` are blocks of the rule, by their fields, in the form in which somebody gave them.
    """
    names = ecs_names.RULE[Direction(rule["type"])]
    fields = {**cast(AnswerFields, rule), **given}
    item: AnswerFields = dict.fromkeys(ecs_names.PERMISSION, "")
    item |= {names[name]: value for name, value in fields.items() if name in names}
    item["Policy"] = rule.get("policy", ACCEPT).capitalize()
    item["Priority"] = rule.get("priority", 1)
    item["NicType"] = rule.get("nic_type", INTRANET)
    item["IpProtocol"] = rule["ip_protocol"].upper()
    return item
