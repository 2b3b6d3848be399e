"""The objects in OpenStack's answers, as its client prints them with `-f json` or its API answers.

Owns the names of their fields, and the recognition of answers and of the objects in them. Reports fields of the wrong
type. Must not know what the objects mean (openstack.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.allowed import Given
from sgdataplane.statefile.ecs_answers import Item

LISTS = ("security_groups", "security_group_rules", "ports", "address_groups")  # the lists in the API's answers
SHOWN = ("security_group_rules", "rules")  # the keys under which a group has its rules
# By native or own name, what the API and the client call a field.
NAMES = {
    "id": ("id", "ID"),
    "name": ("name", "Name"),
    "description": ("description", "Description"),
    "direction": ("direction", "Direction"),
    "family": ("ethertype", "ether_type", "Ethertype"),
    "protocol": ("protocol", "IP Protocol"),
    "block": ("remote_ip_prefix", "IP Range"),
    "far_group": ("remote_group_id", "Remote Security Group"),
    "far_list": ("remote_address_group_id", "Remote Address Group"),
    "group": ("security_group_id", "Security Group"),
    "mac": ("mac_address", "MAC Address"),
    "addresses": ("fixed_ips", "Fixed IP Addresses"),
    "groups": ("security_groups", "security_group_ids", "Security Groups"),
    "pairs": ("allowed_address_pairs", "Allowed Address Pairs"),
    "device": ("device_id", "Device ID"),
    "owner": ("device_owner", "Device Owner"),
    "entries": ("addresses", "Addresses"),
}
# The fields that must be text, and those that must be lists. A list may be text, as older clients print it.
TEXTS = ("id", "name", "description", "block", "far_group", "far_list", "group", "mac", "device", "owner")
TEXT_LISTS = ("addresses", "groups", "pairs")
# The columns of `openstack security group list`: rows with others are something else, such as servers.
GROUP_COLUMNS = frozenset(("ID", "Name", "Description", "Project", "Tags", "Shared"))
ADDRESS = re.compile(r"ip_address='([0-9A-Fa-f:./]+)'")  # an address in the text that older clients print


def is_openstack(mapping: Mapping[str, object]) -> bool:
    """Return whether a document is an answer of the API, an object that the client shows, or rows that it lists."""
    lists = [mapping[name] for name in LISTS if name in mapping]
    if lists and "id" not in mapping:
        return all(isinstance(found, list) and all(map(is_row, found)) for found in lists) and "version" not in mapping
    return is_shown(mapping) or (bool(mapping) and all(key.isdecimal() and is_row(mapping[key]) for key in mapping))


def is_row(value: object) -> bool:
    """Return whether a value is one object of a list."""
    return isinstance(value, dict) and ("ID" in value or "id" in value)


def is_shown(mapping: Mapping[str, object]) -> bool:
    """Return whether a document is one port, group or address group."""
    return "id" in mapping and (is_port(mapping) or is_address_group(mapping) or has_rules(mapping))


def is_port(mapping: Mapping[str, object]) -> bool:
    """Return whether an object is a port."""
    return any(name in mapping for name in NAMES["addresses"])


def is_rule(mapping: Mapping[str, object]) -> bool:
    """Return whether an object is a rule."""
    return any(name in mapping for name in NAMES["protocol"])


def is_address_group(mapping: Mapping[str, object]) -> bool:
    """Return whether an object is an address group."""
    return any(isinstance(mapping.get(name), list) for name in NAMES["entries"])


def has_rules(mapping: Mapping[str, object]) -> bool:
    """Return whether an object is a group with rules in it, even if these can't be read."""
    return any(name in mapping for name in SHOWN)


def is_group_row(mapping: Mapping[str, object]) -> bool:
    """Return whether an object is a row of the client's list of groups."""
    return "Description" in mapping and mapping.keys() <= GROUP_COLUMNS


class Objects:
    """The objects of all answers, by kind.

    Attributes:
        listed: the rules that are in no group.
        has_list: whether an answer is a list of rules, even an empty one.
        ignored: a finding for each file that has other objects.
    """

    def __init__(self) -> None:
        self.has_list = False
        self.groups: list[Item] = []
        self.listed: list[Item] = []
        self.ports: list[Item] = []
        self.address_groups: list[Item] = []
        self.ignored: dict[str, Finding] = {}

    def add(self, top: Item) -> None:
        """Add the objects of one answer."""
        kinds = {"security_groups": self.groups, "security_group_rules": self.listed, "ports": self.ports,
                 "address_groups": self.address_groups}  # fmt: skip
        lists = [name for name in LISTS if isinstance(top.get(name), list)]
        if lists and "id" not in top.mapping:
            for name in lists:
                kinds[name] += map(check_types, top.items(name))
            self.has_list |= "security_group_rules" in lists
            return
        for item in [top] if is_shown(top.mapping) else [top.inner(key) for key in top.mapping if key.isdecimal()]:
            self.add_row(check_types(item))

    def add_row(self, item: Item) -> None:
        """Add an object of which only its keys say what it is."""
        if is_port(item.mapping):
            self.ports.append(item)
        elif is_rule(item.mapping):
            self.listed.append(item)
            self.has_list = True
        elif is_address_group(item.mapping):
            self.address_groups.append(item)
        elif has_rules(item.mapping) or is_group_row(item.mapping):
            self.groups.append(item)
        else:
            message = f"{item.where()} is ignored: it answers no call that a state is made of"
            self.ignored.setdefault(
                item.file, Finding("IgnoredAnswer", Severity.INFO, message, subject(file=item.file))
            )


def check_types(item: Item) -> Item:
    """Return the object; note a problem for each field that has the wrong type."""
    for name in (*TEXTS, *TEXT_LISTS):
        key, value = get(item, name)
        is_list = name in TEXT_LISTS
        if value is not None and not isinstance(value, (str, list) if is_list else str):
            expected = "a list" if is_list else "text"
            message = f"this is not {expected}"
            item.problems.add(item.where(key), "InvalidDocument.WrongType", message, value=value, expected=expected)
    return item


def get(item: Item, name: str) -> tuple[str, object]:
    """Return the key and value of a field, under the first of its names that is there.

    If none is there, the value is None and the key is the first name.
    """
    for key in NAMES[name]:
        if item.get(key) is not None:
            return key, item.get(key)
    return NAMES[name][0], None


def text(item: Item, name: str) -> str:
    """Return a field's text; "" if it is absent."""
    value = get(item, name)[1]
    return "" if value is None or value == "None" else str(value)


def field_with_place(item: Item, name: str) -> Given:
    """Return a field's value with its place."""
    key, value = get(item, name)
    return Given(item.where(key), value)


def read_list(item: Item, name: str, inner: str = "") -> list[tuple[str, object]]:
    """Return the path and value of each element of a list, or of the text that older clients print in its place.

    Text that can't be read is one element. `inner` is the key of the value in elements that are mappings.
    """
    key, value = get(item, name)
    if isinstance(value, list):
        return item.elements(key, key=inner)
    if not isinstance(value, str):
        return []
    found = ADDRESS.findall(value) if inner else re.split(r"[,\s]+", value.strip())
    return [(key, each) for each in found or [value] if each]
