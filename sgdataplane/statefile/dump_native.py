"""CloudState -> the native format (state-format.md, section A), as YAML that a person likes to read.

Owns which fields are written (those that differ from their defaults), and the layout. Is given a checked state; the
same state gives the same bytes, and reading them gives an equal state. Must not know the cloud's format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from enum import Enum
from typing import TypeAlias, cast

from sgdataplane.model.state import CloudState, SecurityGroup, SecurityGroupRule
from sgdataplane.net.values import Address, Family, PortRange, Prefix, Verdict
from sgdataplane.statefile.keys import KEYS, UNKNOWN_GROUPS, VERSION
from sgdataplane.statefile.native_objects import NativeRule
from sgdataplane.statefile.rules import make_rule_id, write_requirements
from sgdataplane.visible import visible

Plain: TypeAlias = "str | int | bool | Sequence[Plain] | Mapping[str, Plain] | None"

FAMILY_NAMES = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}
# The sections whose objects fit on one line.
ONE_LINE = ("vpcs", "instances")
# The fields that are written even if they have their default.
ALWAYS = ("type", "security_group_type", "inner_access_policy")
DEFAULTS: dict[type[object], dict[str, object]] = {}  # by kind of record, once it was needed
# Words, IPv4 addresses and blocks, and ports. No YAML reader takes them for anything else, not even in version 1.1.
SAFE = re.compile(r"[A-Za-z][A-Za-z0-9_./ -]*(?<! )|[0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]+)?|-?[0-9]+/-?[0-9]+")
AMBIGUOUS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}
INDENT = "  "


def dump_native(state: CloudState) -> str:
    """Return the state as one YAML document, which ends in a newline."""
    lines = [f"version: {VERSION}"]
    unknown = sorted(state.unknown_groups)
    if unknown:
        lines.append(f"{UNKNOWN_GROUPS}: {flow(unknown)}")
    for section, objects in sections(state).items():
        if objects:
            lines.append(f"{section}:")
        for values in objects:
            lines += [f"  - {flow(values)}"] if section in ONE_LINE else block_lines(values, "  ")
    return "\n".join(lines) + "\n"


def sections(state: CloudState) -> dict[str, list[dict[str, Plain]]]:
    """Return the state as plain values under native names."""
    return {
        section: [
            group_fields(record) if isinstance(record, SecurityGroup) else plain_fields(record, names)
            for record in getattr(state, section)
        ]
        for section, names in KEYS.items()
    }


def plain_fields(record: object, names: Iterable[str]) -> dict[str, Plain]:
    """Return a record's fields that differ from their defaults; an absent field means its default."""
    found: dict[str, Plain] = {}
    default = defaults(type(record))
    for name in names:
        value = getattr(record, name)
        if name in ALWAYS or (value is not default[name] and value != default[name] and value != ""):
            found[name] = as_plain(value)
    return found


def defaults(kind: type[object]) -> dict[str, object]:
    """Return the default of every field of a kind of record; MISSING for those that must be given."""
    if kind not in DEFAULTS:
        found = fields(kind)  # type: ignore[arg-type]
        DEFAULTS[kind] = {
            each.name: each.default if each.default_factory is MISSING else each.default_factory() for each in found
        }
    return DEFAULTS[kind]


def as_plain(value: object) -> Plain:
    """Return a record's value as YAML and JSON have it."""
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, (Address, Prefix, PortRange)):
        return str(value)
    if isinstance(value, tuple):
        return [as_plain(element) for element in value]
    if isinstance(value, Enum):
        return FAMILY_NAMES[value] if isinstance(value, Family) else str(value.value)
    return plain_fields(value, defaults(type(value)))


def group_fields(group: SecurityGroup) -> dict[str, Plain]:
    """Return a group's fields in the order of KEYS: rules come last."""
    values = plain_fields(group, (name for name in KEYS["security_groups"] if name not in ("tags", "rules", "trial")))
    values["inner_access_policy"] = group.inner_access_policy.value.capitalize()
    if group.tags:
        values["tags"] = dict(group.tags)
    if group.rules:
        values["rules"] = _rules_of(group)
    if group.trial is not None:
        values["trial"] = trial_fields(group)
    return values


def _rules_of(group: SecurityGroup) -> list[Plain]:
    return [rule_fields(group.security_group_id, rule) for rule in group.rules]


def trial_fields(group: SecurityGroup) -> dict[str, Plain]:
    """Return what is on trial for a group."""
    assert group.trial is not None
    return {
        "since": group.trial.since,
        "until": group.trial.until,
        "inner_access_policy": group.trial.inner_access_policy.value.capitalize(),
        "rules": _rules_of(group.proposed),
    }


def rule_fields(group_id: str, rule: SecurityGroupRule) -> dict[str, Plain]:
    """Return a rule's fields; an id that would be made again from the same rule is left out."""
    is_made = rule.security_group_rule_id == make_rule_id(group_id, rule)
    return _rule_fields(rule, "" if is_made else rule.security_group_rule_id)


def rule_with_id(rule: SecurityGroupRule) -> NativeRule:
    """Return a rule's fields with its id, whatever that is."""
    return cast(NativeRule, _rule_fields(rule, rule.security_group_rule_id))


def _rule_fields(rule: SecurityGroupRule, rule_id: str) -> dict[str, Plain]:
    values: dict[str, Plain] = {
        "type": rule.direction.value,
        **dict(write_requirements(rule)),
        "policy": "" if rule.policy is Verdict.ACCEPT else rule.policy.value,
        **plain_fields(rule, ("priority", "nic_type", "description")),
        "security_group_rule_id": rule_id,
    }
    return {name: value for name, value in values.items() if value != ""}


def scalar(value: str | int | bool | None) -> str:
    """Return a number or boolean as it is, and text without quotes where that is safe, else in double quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    if SAFE.fullmatch(value) and value.lower() not in AMBIGUOUS:
        return value
    return quote(value)


def quote(text: str) -> str:
    """Return the text in double quotes; escapes are the same in YAML as they are for people (visible.py)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{visible(escaped)}"'


def flow(value: Plain) -> str:
    """Return the value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def block_lines(fields: Mapping[str, Plain], indent: str) -> list[str]:
    """Return the lines of a mapping as an item of a list, one field a line.

    A list of mappings in it has one mapping a line.
    """
    lines: list[str] = []
    for name, value in fields.items():
        lead = indent + (INDENT if lines else "- ")
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(f"{lead}{name}:")
            lines += [f"{indent}{INDENT * 2}- {flow(item)}" for item in value]
        else:
            lines.append(f"{lead}{name}: {flow(value)}")
    return lines
