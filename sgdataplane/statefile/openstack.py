"""OpenStack's security groups and ports -> Sections, as its client prints them with `-f json` or its API answers.

Owns what OpenStack's security groups mean. Is given documents. Must not know how answers name things
(openstack_objects.py), nor how the model expresses it (allowonly.py). The API is described at
https://docs.openstack.org/api-ref/network/v2/.
"""

from __future__ import annotations

import re
from dataclasses import replace

from sgdataplane.net.values import Family
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.allowed import (
    BLOCK,
    EVERYWHERE,
    LIST,
    PORTS,
    Allowed,
    Given,
    is_protocol,
    read_direction,
    with_icmp,
    with_ports,
)
from sgdataplane.statefile.allowonly import Groups, OtherGroup, report_unfiltered
from sgdataplane.statefile.document import Document
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.ecs_translation import Names, Values, put_elements
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.openstack_objects import SHOWN, Objects, check_types, field_with_place, get, read_list, text
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.resources import make_id
from sgdataplane.statefile.sections import Sections

CLOUD, VPC = "OpenStack", "openstack"  # all networks of a project count as one VPC: a group may be on ports of them all
PORT_RANGE = "Port Range"  # the field in which the client has ports
PORT_KEYS = ("port_range_min", "port_range_max")  # the fields in which the API has them
LONG = "openstack security group rule list --long -f json"  # if no group is given, it says the group of each rule
FAMILIES = {"ipv4": Family.IPV4, "ipv6": Family.IPV6}
# https://docs.openstack.org/api-ref/network/v2/#security-group-rules-security-group-rules; others are the same here.
PROTOCOLS = {
    "ah": "51", "dccp": "33", "egp": "8", "esp": "50", "igmp": "2", "ipip": "4", "ipv6-encap": "41", "ipv6-frag": "44",
    "ipv6-icmp": "icmpv6", "ipv6-nonxt": "59", "ipv6-opts": "60", "ipv6-route": "43", "ospf": "89", "pgm": "113",
    "rsvp": "46", "sctp": "132", "udplite": "136", "vrrp": "112", "1": "icmp", "58": "icmpv6",
    "": "all", "any": "all", "none": "all", "0": "all",
}  # fmt: skip
ICMP = ("icmp", "icmpv6")
# The client's words for ports, and for an ICMP type with its code.
PRINTED = re.compile(r"([0-9]+):([0-9]+)|type=([0-9]+)(?::code=([0-9]+))?")


def add_openstack(documents: list[Document], sections: Sections, problems: Problems) -> list[Finding]:
    """Add all objects of the answers to `sections`."""
    top = [Item(document.file, "", document.mapping, problems) for document in documents]
    found = Objects()
    for each in top:
        found.add(each)
    groups = Groups(CLOUD, sections)
    groups.partial |= with_pairs(found.ports)
    sections.vpcs.append(top[0].fields({"vpc_id": VPC}, {}))
    sections.has_quotas = False
    add_groups(found, groups)
    if not groups.known and sections.is_complete:
        refuse_missing(top[0], "", LONG, sections)
    add_address_groups(found.address_groups, groups)
    return [*found.ignored.values(), *add_ports(found.ports, groups), *groups.close()]


def add_groups(found: Objects, groups: Groups) -> None:
    """Add the groups, and those of which only rules are there.

    Only a group with a list of rules in it, or a list of all rules, says what a group accepts. In a list of the rules
    of one group, the client doesn't say which group that is.
    """
    lacking: dict[str, Item] = {}
    for item in found.groups:
        groups.add(group_of(item, text(item, "id")))
        if item.get("stateful") not in (None, True):
            groups.findings.append(report_stateless(text(item, "id")))
        name = next((name for name in SHOWN if isinstance(item.get(name), list)), "")
        for rule in map(check_types, item.items(name) if name else ()):
            add_rule(rule, text(rule, "group") or text(item, "id"), groups)
        if not name and not found.has_list:
            lacking.setdefault(item.file, item)
    for rule in found.listed:
        if text(rule, "group"):
            add_rule(rule, text(rule, "group"), groups)
        else:
            lacking.setdefault(rule.file, rule)
    for item in lacking.values():
        refuse_missing(item, next((name for name in SHOWN if name in item.mapping), ""), LONG, groups.sections)


def report_stateless(group_id: str) -> Finding:
    """Return the finding that a group is stateless there, but not here."""
    message = f"{group_id} is stateless: here, answers to what its rules accept pass, whatever other rules say"
    return Finding("Stateless", Severity.WARNING, message, subject(security_group_id=group_id))


def add_rule(item: Item, group_id: str, groups: Groups) -> None:
    """Add a rule to its group, which is made if only the rule is known."""
    if group_id not in groups.known:
        groups.add(group_of(item, group_id, is_rule=True))
    groups.known[group_id].rules.append(rule_of(item))


def group_of(item: Item, group_id: str, *, is_rule: bool = False) -> OtherGroup:
    """Return a group; with `is_rule`, `item` is one of its rules, and nothing else is known of it."""
    values: Values = {"security_group_id": group_id, "vpc_id": VPC}
    if not is_rule:
        values |= {"security_group_name": text(item, "name"), "description": text(item, "description")}
    return OtherGroup(item, values, {"security_group_id": get(item, "group" if is_rule else "id")[0]})


def rule_of(item: Item) -> Allowed:
    """Return a rule as a permission, with the faults of values that can't be read."""
    family, direction = field_with_place(item, "family"), field_with_place(item, "direction")
    known = FAMILIES.get(str(family.value).lower())
    way, faults = read_direction(direction)
    if known is None:
        expected = " or ".join(FAMILIES)
        faults = (*faults, family.fault("InvalidEthertype.ValueNotSupported", "an ethertype", expected))
    if direction.value is None:
        faults = (replace(faults[0], code="InvalidSource.MissingAnswer", expected=f"the answer of: {LONG}"),)
    kind, far, path = far_end(item, known or Family.IPV4)
    rule = Allowed(item, path, way, "", kind, far, rule_id=text(item, "id"), description=text(item, "description"),
                   family=known if kind == "group" else None, faults=faults)  # fmt: skip
    return with_protocol(rule, known or Family.IPV4)


def far_end(item: Item, family: Family) -> tuple[str, str, str]:
    """Return a rule's far end: its kind, what it is, and the key that gives it.

    The client prints a block beside a group, so a group comes first.
    """
    if text(item, "far_group"):
        return "group", text(item, "far_group"), get(item, "far_group")[0]
    if text(item, "far_list"):
        return LIST, make_id(f"{text(item, 'far_list')}.{family.value}"), get(item, "far_list")[0]
    return BLOCK[family], text(item, "block") or EVERYWHERE[family], get(item, "block")[0]


def with_protocol(rule: Allowed, family: Family) -> Allowed:
    """Return the rule with its protocol and ports, or with what it lacks.

    It lacks an ICMP type and code, or the ports of protocols whose ports the model doesn't know.
    """
    protocol = field_with_place(rule.item, "protocol")
    name = PROTOCOLS.get(text(rule.item, "protocol").lower(), text(rule.item, "protocol").lower())
    if name != "all" and not is_protocol(name if isinstance(protocol.value, str) else protocol.value):
        expected = "a name such as tcp, a number 0..255, or null for all"
        return rule.add_faults(protocol.fault("InvalidIpProtocol.ValueNotSupported", "a protocol", expected))
    rule = replace(rule, protocol="icmpv6" if name == "icmp" and family is Family.IPV6 else name)
    printed = Given(rule.item.where(PORT_RANGE), rule.item.get(PORT_RANGE))
    if printed.value is None:
        first, last = (Given(rule.item.where(key), rule.item.get(key)) for key in PORT_KEYS)
        return rule if first.value is None and last.value is None else with_numbers(rule, first, last)
    found = PRINTED.fullmatch(printed.value) if isinstance(printed.value, str) else None
    if found is None:
        return rule.add_faults(
            printed.fault("InvalidParam.PortRange", "a range of ports", "22:80, type=8 or type=8:code=0")
        )
    numbers = found.group(1, 2) if found[1] is not None else found.group(3, 4)
    return with_numbers(rule, *(Given(printed.where, number) for number in numbers))


def with_numbers(rule: Allowed, first: Given, last: Given) -> Allowed:
    """Return the rule with two numbers: its ports, or an ICMP type and code."""
    if rule.protocol in ICMP:
        return with_icmp(rule, first, last)
    ranged = with_ports(rule, first, last)
    if rule.protocol in PORTS or ranged.ports is None:
        return ranged
    return replace(rule, lacks="ports {}-{} of protocol {}".format(*ranged.ports, rule.protocol))


def add_address_groups(found: list[Item], groups: Groups) -> None:
    """Add a prefix list of each family for each address group that a rule names: it may have addresses of both."""
    known = {text(item, "id"): item for item in found}
    named = {rule.far: rule for group in groups.known.values() for rule in group.rules if rule.kind == LIST}
    for list_id, rule in named.items():
        group_id = text(rule.item, "far_list")
        if group_id not in known:
            call = f"openstack address group show {group_id} -f json"
            refuse_missing(rule.item, rule.path, call, groups.sections)
            continue
        item = known[group_id]
        is_ipv6 = list_id == make_id(f"{group_id}.ipv6")
        blocks = [
            (path, str(cidr)) for path, cidr in item.elements(get(item, "entries")[0]) if (":" in str(cidr)) is is_ipv6
        ]
        values: Values = {
            "prefix_list_id": list_id,
            "address_family": "IPv6" if is_ipv6 else "IPv4",
            "max_entries": max(1, len(blocks)),
            "entries": tuple(item.fields({"cidr": cidr}, {"cidr": path}) for path, cidr in blocks),
        }
        groups.sections.prefix_lists.append(item.fields(values, {"entries": get(item, "entries")[0]}))


def refuse_missing(item: Item, path: str, call: str, sections: Sections) -> None:
    """Name the command whose answer is missing."""
    message, expected = "an answer is missing", f"the answer of: {call}"
    item.problems.add(item.where(path), "InvalidSource.MissingAnswer", message, expected=expected)
    sections.is_complete = False


def with_pairs(ports: list[Item]) -> dict[str, str]:
    """Return for each group that has ports with allowed address pairs why its members are only a part, in words.

    Such ports may send from other addresses, too, which aren't members here.
    """
    return {
        str(group): f" with their allowed address pairs ({text(item, 'id')} has some)"
        for item in ports
        if pairs_of(item)
        for _, group in groups_of(item)
    }


def add_ports(ports: list[Item], groups: Groups) -> list[Finding]:
    """Add the ports with their servers; the findings say which ports are left out."""
    findings: list[Finding] = []
    instances: dict[str, Item] = {}
    for item in ports:
        port_id = text(item, "id")
        group_ids = [str(value) for _, value in groups_of(item)]
        if not group_ids:
            findings.append(report_unfiltered(port_id))
            continue
        if groups.leaves_out(
            item, port_id, group_ids, has_ipv4=any(":" not in str(each) for _, each in addresses_of(item))
        ):
            continue
        instance_id = server_of(item)
        is_primary = instance_id not in instances
        groups.sections.network_interfaces.append(port(item, instance_id, groups, is_primary=is_primary))
        if instance_id not in instances:
            instances[instance_id] = item
            values = {"instance_id": instance_id, "instance_name": text(item, "name")}
            groups.sections.instances.append(item.fields(values, {}))
    return findings


def port(item: Item, instance_id: str, groups: Groups, *, is_primary: bool) -> Fields:
    """Return a port as the fields of an ENI."""
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
    values["instance_id"], names["instance_id"] = instance_id, get(item, "device")[0]
    return item.fields(values, names)


def server_of(item: Item) -> str:
    """Return the server that a port belongs to; its own id if no server is known.

    A list of ports doesn't say it, and some ports have none. Each of these counts as a server of its own, so that users
    can name it.
    """
    return (text(item, "device") if text(item, "owner").startswith("compute:") else "") or text(item, "id")


def addresses_of(item: Item) -> list[tuple[str, object]]:
    """Return the path and value of each address of a port."""
    return read_list(item, "addresses", "ip_address")


def pairs_of(item: Item) -> list[tuple[str, object]]:
    """Return the path and value of each allowed address pair of a port."""
    return read_list(item, "pairs", "ip_address")


def groups_of(item: Item) -> list[tuple[str, object]]:
    """Return the path and value of each group of a port."""
    return read_list(item, "groups")
