"""The rules of groups: the cloud's parameters in the native format and back; authorize, revoke, modify.

Owns the actions on rules. `statefile` decides what is right in a rule. Must not know HTTP, or how stores work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.actions.validation import refusal
from sgdataplane.control.calls.answers import NOT_FOUND, ApiError
from sgdataplane.net.values import Address, Direction
from sgdataplane.statefile import ecs_groups, ecs_names
from sgdataplane.statefile.dump_native import rule_with_id
from sgdataplane.statefile.fields import Fields as Read
from sgdataplane.statefile.native_objects import NativeGroup, NativeRule
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.rules import NO_PORTS, RuleReader
from sgdataplane.store.bodies import GroupAbout, TypedDocument
from sgdataplane.store.documents import Fields
from sgdataplane.store.interface import Body, Json

GroupDocument: TypeAlias = TypedDocument[NativeGroup, GroupAbout]
Note = TypeVar("Note")
DONE: Body = {}
NO_TEXTS: Mapping[str, str] = {}
MAX_AT_ONCE = 100
BLOCKS = tuple(dict.fromkeys(name for of in ecs_names.RULE.values() for name in of if name.endswith("cidr_ip")))
REMOTES = {  # a rule has the strongest remote that it is given; the cloud ignores the others
    direction: tuple(ecs_names.RULE[direction][name] for name in ("cidr_ip", "ipv6_cidr_ip", group, "prefix_list_id"))
    for direction, group in (
        (Direction.INGRESS, "source_security_group_id"),
        (Direction.EGRESS, "dest_security_group_id"),
    )
}


def authorize(direction: Direction, scope: Scope) -> Body:
    """Answer AuthorizeSecurityGroup or AuthorizeSecurityGroupEgress.

    A call gives one rule by plain parameters, or up to 100 by Permissions. A rule that is there already is left as it
    is, and is no error.
    """
    group_id = scope.require("SecurityGroupId")
    group = scope.find_writable(group_id)
    rules = rules_of(group)
    known = {rule_key(rule) for rule in rules}
    added: list[NativeRule] = []
    times, texts = rule_notes(group)
    for asked in read_rules(direction, scope):
        rule = canonical(asked, direction)
        if rule_key(rule) not in known:
            known.add(rule_key(rule))
            rule_id = scope.new_id("sgr")
            added.append({**rule, "security_group_rule_id": rule_id})
            times, texts = {**times, rule_id: scope.time}, with_texts(texts, rule_id, asked, rule)
    if added and not scope.is_dry_run:
        scope.groups.change(group_id, {"rules": [*rules, *added]}, {"rule_times": times, "rule_texts": texts})
    return DONE


def revoke(direction: Direction, scope: Scope) -> Body:
    """Answer RevokeSecurityGroup or RevokeSecurityGroupEgress, by ids or by what the rules say.

    As by the cloud, it is no error if there is no such rule, unless it is named by id.
    """
    group_id = scope.require("SecurityGroupId")
    group = scope.find_writable(group_id)
    rules, ids = rules_of(group), scope.texts("SecurityGroupRuleId")
    if ids:
        gone = {one: rule_by_id(rules, one, direction)["security_group_rule_id"] for one in ids}
        kept = [rule for rule in rules if rule.get("security_group_rule_id") not in gone.values()]
    else:
        asked = {rule_key(canonical(rule, direction)) for rule in read_rules(direction, scope)}
        kept = [rule for rule in rules if rule_key(rule) not in asked]
    if len(kept) != len(rules):
        times, texts = rule_notes(group)
        notes: GroupAbout = {"rule_times": only_of(kept, times), "rule_texts": only_of(kept, texts)}
        scope.groups.change(group_id, {"rules": kept}, notes)
    return DONE


def modify(direction: Direction, scope: Scope) -> Body:
    """Answer ModifySecurityGroupRule or ModifySecurityGroupEgressRule. What isn't given stays.

    Without an id, the rule is found by all that it says, and its description changes.
    """
    group_id = scope.require("SecurityGroupId")
    group = scope.find_writable(group_id)
    rules, asked = rules_of(group), scope.call.parameters
    _, texts = rule_notes(group)
    if scope.has("SecurityGroupRuleId"):
        old = rule_by_id(rules, scope.text("SecurityGroupRuleId"), direction)
        rule_id = old["security_group_rule_id"]
        wished = merge_rule({**old, **texts.get(rule_id, {})}, asked, direction)
        new = canonical(wished, direction)
        texts = with_texts(texts, rule_id, wished, new)
    else:
        wanted = canonical(native_rule(asked, direction), direction)
        found = [rule for rule in rules if rule_key(rule) == rule_key(wanted)]
        if not found:
            raise ApiError("InvalidSecurityGroupRule.RuleNotExist", "The specified rule doesn't exist.", NOT_FOUND)
        old = found[0]
        new = {**old, "description": scope.text("Description")}
    new["security_group_rule_id"] = old["security_group_rule_id"]
    others = [rule for rule in rules if rule is not old]
    if rule_key(new) in {rule_key(rule) for rule in others}:
        raise ApiError("InvalidSecurityGroupRule.RuleConflict", "The group has another rule that says the same.")
    changed = [new if rule is old else rule for rule in rules]
    scope.groups.change(group_id, {"rules": changed}, {"rule_texts": texts})
    return DONE


def read_rules(direction: Direction, scope: Scope) -> list[Fields]:
    """Return the rules that a call gives, in the native format.

    Raises:
        ApiError: There are too many, or one can't be read.
    """
    permissions = scope.objects("Permissions")
    if len(permissions) > MAX_AT_ONCE:
        raise ApiError("InvalidParameter.Permissions", f"{MAX_AT_ONCE} permissions fit into one call")
    rules = [native_rule(one, direction) for one in permissions or [dict(scope.call.parameters)]]
    group = scope.groups.find(scope.require("SecurityGroupId"))
    if group.state["vpc_id"] == ecs_names.CLASSIC_VPC:
        # There, an address is an internet one unless the call says otherwise.
        for rule in rules:
            is_address = bool(rule.keys() & {"cidr_ip", "ipv6_cidr_ip"})
            rule.setdefault("nic_type", "internet" if is_address else "intranet")
    return rules


def native_rule(asked: Mapping[str, Json], direction: Direction) -> Fields:
    """Return one permission in the native format.

    Raises:
        ApiError: A number can't be read.
    """
    rule: Fields = {"type": direction.value}
    for name, key in ecs_names.RULE[direction].items():
        value = asked.get(key)
        if value not in (None, "") and name not in ("type", "security_group_rule_id"):
            rule[name] = number(key, value) if name == "priority" else value
    if "ip_protocol" in rule:
        rule["ip_protocol"] = str(rule["ip_protocol"]).lower()
    if "port_list_id" in rule and rule.get("port_range") == NO_PORTS:
        del rule["port_range"]
    return rule


def number(name: str, value: Json) -> Json:
    """Return a parameter as a whole number.

    Raises:
        ApiError: It is none.
    """
    try:
        return int(str(value))
    except ValueError:
        code = f"Invalid{name}.ValueNotSupported"
        raise ApiError(code, f"{name} has to be a whole number, 1 to 100; 1 is the strongest") from None


def merge_rule(old: Mapping[str, object], asked: Mapping[str, Json], direction: Direction) -> Mapping[str, object]:
    """Return a rule with what is asked for. A new remote or new ports replace the old ones, of whatever sort."""
    given = native_rule(asked, direction)
    kept = dict(old)
    remotes = [name for name, key in ecs_names.RULE[direction].items() if key in REMOTES[direction]]
    for names in (remotes, ("port_range", "port_list_id")):
        if any(name in given for name in names):
            kept = {name: value for name, value in kept.items() if name not in names}
    return {**kept, **given}


def canonical(rule: Mapping[str, object], direction: Direction) -> NativeRule:
    """Return a rule as it is kept, without its id.

    Raises:
        ApiError: The rule says something wrong; the code is the cloud's.
    """
    problems = Problems()
    values = {name: value for name, value in rule.items() if name != "security_group_rule_id"}
    read = RuleReader(Read("", "", {**values, "type": direction.value}), "", problems).read()
    if problems.count or read is None:
        raise refusal(problems.kept)
    return rule_with_id(read[0])


def rule_key(rule: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """Return what a rule says, to compare it: all but its id and description, and without defaults."""
    left_out = ("security_group_rule_id", "description")
    return tuple(sorted((name, str(value)) for name, value in rule.items() if name not in left_out))


def rule_by_id(rules: Iterable[NativeRule], rule_id: str, direction: Direction) -> NativeRule:
    """Return the rule of this id and direction.

    Raises:
        ApiError: There is none.
    """
    for rule in rules:
        if rule.get("security_group_rule_id") == rule_id and rule["type"] == direction.value:
            return rule
    raise ApiError("InvalidSecurityGroupRuleId.NotFound", f"The group has no such rule: {rule_id}", NOT_FOUND)


def rules_of(group: GroupDocument) -> list[NativeRule]:
    """Return the rules of a group."""
    return group.state.get("rules", [])


def propose_rules(scope: Scope, rules: list[NativeRule]) -> list[NativeRule]:
    """Return a group's rules; the rules that a call gives for a direction replace the group's own."""
    kept = list(rules)
    for direction, name in ((Direction.INGRESS, "Permissions"), (Direction.EGRESS, "EgressPermissions")):
        asked = scope.objects(name)
        if not asked:
            continue
        kept = [rule for rule in kept if rule["type"] != direction.value]
        kept += [canonical(native_rule(one, direction), direction) for one in asked]
    return kept


def without_trial(state: NativeGroup) -> NativeGroup:
    """Return a group's state with nothing on trial."""
    found = state.copy()
    found.pop("trial", None)
    return found


def rule_notes(group: GroupDocument) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return a group's notes on rules, by their ids: when each was made, and how its blocks were given.

    A rule keeps its blocks as they were given (10.159.6.18/12), because clients look for them in this form. The rule
    itself has the network, which is what is enforced (10.144.0.0/12).
    """
    return group.about.get("rule_times", {}), group.about.get("rule_texts", {})


def only_of(kept: Iterable[NativeRule], notes: Mapping[str, Note]) -> dict[str, Note]:
    """Return the notes on these rules alone."""
    ids = {rule.get("security_group_rule_id") for rule in kept}
    return {rule_id: note for rule_id, note in notes.items() if rule_id in ids}


def with_texts(
    texts: Mapping[str, dict[str, str]], rule_id: str, asked: Mapping[str, object], rule: Mapping[str, object]
) -> dict[str, dict[str, str]]:
    """Return the notes with that on one rule. Only what the rule itself doesn't say is kept."""
    given = {name: as_given(str(asked[name])) for name in BLOCKS if name in asked and name in rule}
    differing = {name: text for name, text in given.items() if text != rule[name]}
    others = {other: note for other, note in texts.items() if other != rule_id}
    return {**others, rule_id: differing} if differing else others


def as_given(block: str) -> str:
    """Return a block as the cloud shows it: as it was given, but an IPv6 address in its shortest form."""
    address, slash, length = block.partition("/")
    return f"{Address.parse(address)}{slash}{length}" if ":" in address else block


def permission(scope: Scope, rule: NativeRule, group: GroupDocument) -> Json:
    """Return a rule as DescribeSecurityGroupAttribute has it. All texts are there, and empty if they say nothing."""
    times, texts = rule_notes(group)
    rule_id = rule.get("security_group_rule_id", "")
    found = ecs_groups.permission(rule, texts.get(rule_id, NO_TEXTS))
    found["Priority"] = str(found["Priority"])
    found["CreateTime"] = times.get(rule_id, "")
    for key, name_of in NAMES.items():
        other_id = str(found[f"{key}Id"])
        found[f"{key}Name"] = name_of(scope, other_id) if other_id else ""
    return found


def _group_name(scope: Scope, group_id: str) -> str:
    group = scope.groups.get(group_id)
    return group.state.get("security_group_name", "") if group else ""


def _prefix_list_name(scope: Scope, list_id: str) -> str:
    found = scope.prefix_lists.get(list_id)
    return found.state.get("prefix_list_name", "") if found else ""


def _port_list_name(scope: Scope, list_id: str) -> str:
    found = scope.port_lists.get(list_id)
    return found.state.get("port_list_name", "") if found else ""


# The objects that a rule names, by the cloud's keys without their ends, and the function that returns the name of one.
NAMES: Mapping[str, Callable[[Scope, str], str]] = {
    "SourceGroup": _group_name,
    "DestGroup": _group_name,
    "SourcePrefixList": _prefix_list_name,
    "DestPrefixList": _prefix_list_name,
    "PortRangeList": _port_list_name,
}
