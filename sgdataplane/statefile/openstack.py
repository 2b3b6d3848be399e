"""OpenStack's security groups and ports -> Sections, as its client prints them with `-f json` or its API answers.

Owns OpenStack's names, and what its security groups mean. Is given documents. Must not know how the model says it
(allowonly.py). The API is described at https://docs.openstack.org/api-ref/network/v2/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.findings import Finding
from sgdataplane.statefile.allowonly import BLOCK, EVERYWHERE, LIST, PORTS, Allowed, Groups, OtherGroup, unfiltered
from sgdataplane.statefile.aws import as_number, icmp_text
from sgdataplane.statefile.document import Document
from sgdataplane.statefile.ecs import Names, Values, put_elements
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.resources import made_id
from sgdataplane.statefile.sections import Sections

CLOUD, VPC = "OpenStack", "openstack"  # all networks of a project count as one VPC: a group may be on ports of them all
LISTS = ("security_groups", "security_group_rules", "ports", "address_groups")  # of the API
SHOWN = ("security_group_rules", "rules")  # where a group has its rules
# Native or own name -> what the API and the client call it.
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
FAMILIES = {"ipv4": Family.IPV4, "ipv6": Family.IPV6}
# https://docs.openstack.org/api-ref/network/v2/#security-group-rules-security-group-rules; the others are as here.
PROTOCOLS = {
    "ah": "51", "dccp": "33", "egp": "8", "esp": "50", "igmp": "2", "ipip": "4", "ipv6-encap": "41", "ipv6-frag": "44",
    "ipv6-icmp": "icmpv6", "ipv6-nonxt": "59", "ipv6-opts": "60", "ipv6-route": "43", "ospf": "89", "pgm": "113",
    "rsvp": "46", "sctp": "132", "udplite": "136", "vrrp": "112", "1": "icmp", "58": "icmpv6",
    "": "all", "any": "all", "none": "all", "0": "all",
}  # fmt: skip
ICMP = ("icmp", "icmpv6")
ADDRESS = re.compile(r"ip_address='([0-9A-Fa-f:.]+)'")  # in the text that older clients print


def is_openstack(mapping: Mapping[str, object]) -> bool:
    """Whether it is an answer of the API, one object that the client shows, or rows that it lists."""
    lists = [mapping[name] for name in LISTS if name in mapping]
    if lists:
        return all(isinstance(found, list) and all(map(is_row, found)) for found in lists) and "version" not in mapping
    return is_shown(mapping) or (bool(mapping) and all(key.isdecimal() and is_row(mapping[key]) for key in mapping))


def is_row(value: object) -> bool:
    return isinstance(value, dict) and ("ID" in value or "id" in value)


def is_shown(mapping: Mapping[str, object]) -> bool:
    """Whether it is one port, group or address group."""
    return "id" in mapping and any(name in mapping for name in (*SHOWN, *NAMES["addresses"], *NAMES["entries"]))


def is_port(mapping: Mapping[str, object]) -> bool:
    return any(name in mapping for name in NAMES["addresses"])


def is_rule(mapping: Mapping[str, object]) -> bool:
    return any(name in mapping for name in NAMES["protocol"])


def add_openstack(documents: list[Document], sections: Sections, problems: Problems) -> list[Finding]:
    """Add all objects to `sections`."""
    top = [Item(document.file, "", document.mapping, problems) for document in documents]
    objects = [item for each in top for item in objects_in(each)]
    groups = Groups(CLOUD, sections)
    sections.vpcs.append(top[0].fields({"vpc_id": VPC}, {}))
    sections.has_quotas = False
    ports = [item for item in objects if is_port(item.mapping)]
    add_groups(objects, groups, with_pairs(ports))
    if not groups.known:
        refuse_missing(top[0], "", "openstack security group rule list -f json", sections)
    add_address_groups(objects, groups)
    return [*add_ports(ports, groups), *groups.close()]


def objects_in(top: Item) -> Iterator[Item]:
    """The objects of one answer, and the rules inside its groups."""
    found = [item for name in LISTS if isinstance(top.get(name), list) for item in top.items(name)]
    if not found:
        found = [top] if is_shown(top.mapping) else [top.inner(key) for key in top.mapping if key.isdecimal()]
    for item in found:
        yield item
        for name in SHOWN:
            if isinstance(item.get(name), list):
                yield from item.items(name)


def get(item: Item, name: str) -> tuple[str, object]:
    """(key, value) of a field under the first of its names that is there; (the first name, None) if none is."""
    for key in NAMES[name]:
        if item.get(key) is not None:
            return key, item.get(key)
    return NAMES[name][0], None


def text(item: Item, name: str) -> str:
    value = get(item, name)[1]
    return "" if value is None or value == "None" else str(value)


def add_groups(objects: list[Item], groups: Groups, with_pairs: Mapping[str, str]) -> None:
    """Groups, and those of which only rules are there. `with_pairs`: the ports whose pairs a group has as members."""
    rules = [item for item in objects if is_rule(item.mapping)]
    for item in objects:
        if not is_port(item.mapping) and not is_rule(item.mapping) and get(item, "entries")[1] is None:
            groups.add(group_of(item, text(item, "id")))
    for item in rules:
        group_id = text(item, "group")
        if group_id not in groups.known:
            groups.add(group_of(item, group_id))
        groups.known[group_id].rules.append(rule_of(item, with_pairs))


def group_of(item: Item, group_id: str) -> OtherGroup:
    values: Values = {"security_group_id": group_id, "vpc_id": VPC}
    if not is_rule(item.mapping):
        values |= {"security_group_name": text(item, "name"), "description": text(item, "description")}
    return OtherGroup(item, values, {"security_group_id": get(item, "id")[0]})


def rule_of(item: Item, with_pairs: Mapping[str, str]) -> Allowed:
    family = FAMILIES.get(text(item, "family").lower(), Family.IPV4)
    direction = Direction.EGRESS if text(item, "direction").lower() == "egress" else Direction.INGRESS
    if not text(item, "direction"):
        expected = "the answer of: openstack security group rule list --long -f json"
        message = "the rule doesn't say its direction"
        item.problems.add(item.where(), "InvalidSource.MissingAnswer", message, expected=expected)
    kind, far, path = far_end(item, family)
    rule = Allowed(item, path, direction, protocol_of(item, family), kind, far, rule_id=text(item, "id"),
                   description=text(item, "description"), family=family if kind == "group" else None)  # fmt: skip
    rule = with_ports(rule)
    if kind == "group" and far in with_pairs and not rule.lacks:
        lacks = f"the members of {far} with their allowed address pairs ({with_pairs[far]} has some)"
        return replace(rule, lacks=lacks, is_far=True, is_part=True)
    return rule


def far_end(item: Item, family: Family) -> tuple[str, str, str]:
    """(kind, far, key). The client prints a block beside a group, too."""
    if text(item, "far_group"):
        return "group", text(item, "far_group"), get(item, "far_group")[0]
    if text(item, "far_list"):
        return LIST, made_id(f"{text(item, 'far_list')}.{family.value}"), get(item, "far_list")[0]
    return BLOCK[family], text(item, "block") or EVERYWHERE[family], get(item, "block")[0]


def protocol_of(item: Item, family: Family) -> str:
    name = text(item, "protocol").lower()
    name = PROTOCOLS.get(name, name)
    return "icmpv6" if name == "icmp" and family is Family.IPV6 else name


def with_ports(rule: Allowed) -> Allowed:
    """The rule with its ports, or with what it lacks: an ICMP type and code, or the ports of other protocols."""
    first, last = ports_of(rule.item)
    if first is None:
        return rule
    if rule.protocol in ICMP:
        return replace(rule, lacks=icmp_text(rule.protocol, first, last))
    if rule.protocol in PORTS:
        return replace(rule, ports=(first, first if last is None else last))
    return replace(rule, lacks=f"ports {first}-{last} of protocol {rule.protocol}")


def ports_of(item: Item) -> tuple[int | None, int | None]:
    """(first, last) or (type, code), from the API's two fields or the client's one: `22:22`, `type=8:code=0`."""
    printed = item.text("Port Range")
    if not printed:
        return as_number(item.get("port_range_min")), as_number(item.get("port_range_max"))
    first, _, last = printed.replace("type=", "").replace("code=", "").partition(":")
    return as_number(first), as_number(last)


def add_address_groups(objects: list[Item], groups: Groups) -> None:
    """Each address group that a rule names is a prefix list for each family, as it may have addresses of both."""
    known = {text(item, "id"): item for item in objects if get(item, "entries")[1] is not None}
    named = {rule.far: rule for group in groups.known.values() for rule in group.rules if rule.kind == LIST}
    for list_id, rule in named.items():
        group_id = text(rule.item, "far_list")
        if group_id not in known:
            call = f"openstack address group show {group_id} -f json"
            refuse_missing(rule.item, rule.path, call, groups.sections)
            continue
        item = known[group_id]
        is_ipv6 = list_id == made_id(f"{group_id}.ipv6")
        found = [
            (path, str(cidr)) for path, cidr in item.elements(get(item, "entries")[0]) if (":" in str(cidr)) is is_ipv6
        ]
        values: Values = {
            "prefix_list_id": list_id,
            "address_family": "IPv6" if is_ipv6 else "IPv4",
            "max_entries": max(1, len(found)),
            "entries": tuple(item.fields({"cidr": cidr}, {"cidr": path}) for path, cidr in found),
        }
        groups.sections.prefix_lists.append(item.fields(values, {"entries": get(item, "entries")[0]}))


def refuse_missing(item: Item, path: str, call: str, sections: Sections) -> None:
    """Name the command whose answer is missing."""
    message, expected = "an answer is missing", f"the answer of: {call}"
    item.problems.add(item.where(path), "InvalidSource.MissingAnswer", message, expected=expected)
    sections.is_complete = False


def with_pairs(ports: list[Item]) -> dict[str, str]:
    """Group -> a port of it that has allowed address pairs, from which members of the group may send there, too."""
    return {str(group): text(item, "id") for item in ports if pairs_of(item) for _, group in groups_of(item)}


def add_ports(ports: list[Item], groups: Groups) -> list[Finding]:
    findings: list[Finding] = []
    instances: dict[str, Item] = {}
    for item in ports:
        port_id = text(item, "id")
        if not groups_of(item):
            findings.append(unfiltered(port_id))
            continue
        if groups.leaves_out(item, port_id, has_ipv4=any(":" not in str(each) for _, each in addresses_of(item))):
            continue
        instance_id = text(item, "device") if text(item, "owner").startswith("compute:") else ""
        is_primary = instance_id not in instances
        groups.sections.network_interfaces.append(port(item, instance_id, groups, is_primary=is_primary))
        if instance_id and instance_id not in instances:
            instances[instance_id] = item
            values = {"instance_id": instance_id, "instance_name": text(item, "name")}
            groups.sections.instances.append(item.fields(values, {}))
    return findings


def port(item: Item, instance_id: str, groups: Groups, *, is_primary: bool) -> Fields:
    values: Values = {"network_interface_id": text(item, "id"), "vpc_id": VPC}
    names: Names = {"network_interface_id": get(item, "id")[0], "mac_address": get(item, "mac")[0]}
    if text(item, "mac"):
        values["mac_address"] = text(item, "mac")
    for name, is_ipv6 in (("private_ip_addresses", False), ("ipv6_addresses", True)):
        put_elements(values, names, name, [(p, a) for p, a in addresses_of(item) if (":" in str(a)) is is_ipv6])
    values["security_group_ids"] = groups.of_interface([str(value) for _, value in groups_of(item)])
    names["security_group_ids"] = get(item, "groups")[0]
    put_elements(values, names, "allowed_address_pairs", pairs_of(item))
    values["type"] = "primary" if is_primary else "secondary"
    if instance_id:
        values["instance_id"], names["instance_id"] = instance_id, get(item, "device")[0]
    return item.fields(values, names)


def addresses_of(item: Item) -> list[tuple[str, object]]:
    """(path, address) of a port's addresses: a list of mappings, or text of an older client."""
    key, value = get(item, "addresses")
    if isinstance(value, str):
        return [(key, address) for address in ADDRESS.findall(value)]
    return item.elements(key, key="ip_address")


def groups_of(item: Item) -> list[tuple[str, object]]:
    key, value = get(item, "groups")
    if isinstance(value, str):
        return [(key, group) for group in re.split(r"[,\s]+", value.strip()) if group]
    return item.elements(key)


def pairs_of(item: Item) -> list[tuple[str, object]]:
    key, value = get(item, "pairs")
    return item.elements(key, key="ip_address") if isinstance(value, list) else []
