"""DescribeSecurityGroups and DescribeSecurityGroupAttribute -> groups and their rules.

Owns the joining of the two answers about each group. Is given answers. Must not know what values mean.
"""

from __future__ import annotations

from sgdataplane.net.values import Direction
from sgdataplane.statefile import ecs_answers as ecs
from sgdataplane.statefile.ecs_answers import Answer, Item, by_group
from sgdataplane.statefile.ecs_names import GROUP_NAMES, MISPLACED, RULE_NAMES
from sgdataplane.statefile.ecs_translate import Translation, translated
from sgdataplane.statefile.fields import Fields, Place

GROUP_REMOTES = ("source_security_group_id", "dest_security_group_id")
TAG_KEYS = (("TagKey", "TagValue"), ("Key", "Value"))


def add_groups(translation: Translation) -> None:
    """Type, managed flag and tags are in the list of groups, inner policy and rules in the answer about each."""
    attributes = by_group(translation.answers.of(ecs.SECURITY_GROUP))
    listed: set[str] = set()
    for item in translation.answers.objects(ecs.SECURITY_GROUPS):
        group_id = item.text("SecurityGroupId")
        listed.add(group_id)
        if group_id in attributes:
            translation.sections.security_groups.append(group_fields(item, attributes[group_id], translation))
        else:
            where = item.where("SecurityGroupId")
            translation.refuse_missing(where, ecs.SECURITY_GROUP, "SecurityGroupId", group_id)
    for group_id, answers in attributes.items():
        if group_id not in listed:
            where = answers[0].item.where("SecurityGroupId")
            translation.refuse_missing(where, ecs.SECURITY_GROUPS, "SecurityGroupId", group_id)
    translation.sections.unknown_groups |= remotes(translation) - listed


def remotes(translation: Translation) -> set[str]:
    """Every group that a rule names."""
    rules = [rule for group in translation.sections.security_groups for rule in group.children("rules")]
    return {rule.said(name) for rule in rules for name in GROUP_REMOTES} - {""}


def group_fields(item: Item, answers: list[Answer], translation: Translation) -> Fields:
    values: dict[str, object] = translated(item, GROUP_NAMES)
    values["vpc_id"] = translation.vpc_of(item)
    values["tags"] = tags(item, translation)
    names: dict[str, Place] = {**GROUP_NAMES, "vpc_id": "VpcId", "tags": "Tags"}
    for answer in answers:
        if answer.item.get("InnerAccessPolicy") is not None:
            values["inner_access_policy"] = answer.item.get("InnerAccessPolicy")
            names["inner_access_policy"] = answer.item.where("InnerAccessPolicy")
    values["rules"] = tuple(rule for answer in answers for rule in rules(answer.item, translation))
    names["rules"] = answers[0].item.where("Permissions")
    return Fields(item.file, item.pointer, values, names)


def tags(item: Item, translation: Translation) -> dict[str, object]:
    found: dict[str, object] = {}
    for tag in item.items("Tags", "Tag", translation.problems):
        for key, value in TAG_KEYS:
            if key in tag.mapping:
                found[str(tag.mapping[key])] = tag.mapping.get(value, "")
    return found


def rules(item: Item, translation: Translation) -> list[Fields]:
    return [rule_fields(rule, translation) for rule in item.items("Permissions", "Permission", translation.problems)]


def rule_fields(item: Item, translation: Translation) -> Fields:
    """A permission under native names, which depend on its direction: Source is the remote on ingress only."""
    is_egress = item.text("Direction").lower() == Direction.EGRESS.value
    direction = Direction.EGRESS if is_egress else Direction.INGRESS
    for key in MISPLACED[direction]:
        if item.get(key) is not None:
            message = f"{key} means nothing in an {direction.value} rule"
            where, value = item.where(key), item.get(key)
            translation.problems.add(where, "InvalidDocument.MisplacedKey", message, value=value, expected="empty")
    if item.get("Policy") is None:
        message = "a permission without Policy"
        where = item.where()
        translation.problems.add(where, "MissingParameter.Policy", message, expected="Accept or Drop")
    names = RULE_NAMES[direction]
    return Fields(item.file, item.pointer, translated(item, names), names)
