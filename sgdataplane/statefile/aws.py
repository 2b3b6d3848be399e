"""Amazon's answers, as `aws ec2 describe-...` prints them -> Sections.

Owns Amazon's names, and what its security groups mean. Is given documents. Must not know how the model expresses it
(allowonly.py). The answers are described at https://docs.aws.amazon.com/AWSEC2/latest/APIReference/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from sgdataplane.model.ids import is_id
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.allowed import (
    BLOCK,
    EVERYWHERE,
    LIST,
    PORTS,
    Allowed,
    Given,
    as_number,
    is_protocol,
    with_icmp,
    with_ports,
)
from sgdataplane.statefile.allowonly import Groups, OtherGroup, report_unfiltered
from sgdataplane.statefile.document import Document
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.ecs_translation import Names, Values, Vpcs, put_elements
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Sections

CLOUD = "AWS"
# The answers, by the key of their list and a key that its elements have here and not in other clouds' answers.
LISTS = {
    "SecurityGroups": "GroupId",
    "NetworkInterfaces": "NetworkInterfaceId",
    "PrefixLists": "PrefixListId",
    "Reservations": "Instances",
    "Vpcs": "VpcId",
    "Entries": "Cidr",
}
# Answers that are often in the same folder, and that no rule depends on.
OTHERS = frozenset((
    "AccountAttributes", "Addresses", "AvailabilityZones", "DhcpOptions", "InternetGateways", "NatGateways",
    "NetworkAcls", "RouteTables", "SecurityGroupRules", "Subnets", "TransitGateways", "VpcEndpoints",
    "VpcPeeringConnections", "VpnGateways",
))  # fmt: skip
PERMISSIONS = {"IpPermissions": Direction.INGRESS, "IpPermissionsEgress": Direction.EGRESS}
# Where a permission's far ends are: list, key in its elements, native name of a remote.
FAR_ENDS = (
    ("IpRanges", "CidrIp", BLOCK[Family.IPV4]),
    ("Ipv6Ranges", "CidrIpv6", BLOCK[Family.IPV6]),
    ("UserIdGroupPairs", "GroupId", "group"),
    ("PrefixListIds", "PrefixListId", LIST),
)
# An interface's lists: list, key in its elements.
ADDRESSES = {
    "private_ip_addresses": ("PrivateIpAddresses", "PrivateIpAddress"),
    "ipv6_addresses": ("Ipv6Addresses", "Ipv6Address"),
    "ipv4_prefixes": ("Ipv4Prefixes", "Ipv4Prefix"),
    "ipv6_prefixes": ("Ipv6Prefixes", "Ipv6Prefix"),
}
INTERFACE = {"network_interface_id": "NetworkInterfaceId", "mac_address": "MacAddress", "vpc_id": "VpcId"}
PREFIX_LIST = {
    "prefix_list_id": "PrefixListId",
    "prefix_list_name": "PrefixListName",
    "address_family": "AddressFamily",
    "max_entries": "MaxEntries",
}
ICMP = {"icmp": "icmp", "1": "icmp", "icmpv6": "icmpv6", "58": "icmpv6"}
NEEDS_TYPE = ("icmp", "1")  # without a type, icmpv6 means all types; icmp always has one


def is_aws(mapping: Mapping[str, object]) -> bool:
    """Return whether a document is an answer of Amazon's.

    Alibaba Cloud's answers have the same names, but wrap each list in a mapping.
    """
    found = [(mapping[name], key) for name, key in LISTS.items() if name in mapping]
    if "RequestId" in mapping or not all(is_list_of(value, key) for value, key in found):
        return False
    return bool(found) or any(isinstance(mapping[name], list) for name in OTHERS.intersection(mapping))


def is_list_of(value: object, key: str) -> bool:
    """Return whether a value is a list of mappings that all have this key."""
    return isinstance(value, list) and all(isinstance(each, dict) and key in each for each in value)


def add_aws(documents: list[Document], sections: Sections, problems: Problems) -> list[Finding]:
    """Add all objects of the answers to `sections`."""
    answers = AwsAnswers(documents, problems)
    groups, vpcs = Groups(CLOUD, sections), Vpcs(sections)
    sections.has_quotas = False
    for item in answers.of("Vpcs"):
        add_vpc(item, vpcs)
    for item in answers.of("SecurityGroups"):
        groups.add(group_of(item, vpcs))
    add_prefix_lists(answers, sections)
    answers.refuse_missing(groups)
    return [*answers.report_ignored(), *add_interfaces(answers, groups, vpcs), *groups.close()]


class AwsAnswers:
    """The answers of one input.

    The name of an answer's file, without its suffix, may say what the answer itself doesn't.
    """

    def __init__(self, documents: Iterable[Document], problems: Problems) -> None:
        self.problems = problems
        self.all = [(document.source.name.stem, Item(document.file, "", document.mapping, problems))
                    for document in documents]  # fmt: skip
        for _, item in self.all:
            if item.text("NextToken"):
                message = "the answer has more pages"
                expected = "every page, as the command prints them without --max-items"
                problems.add(item.where("NextToken"), "InvalidSource.IncompletePages", message, expected=expected)

    def of(self, key: str) -> Iterator[Item]:
        """Return the objects of a list, from all answers that have it."""
        return (found for _, item in self.all for found in item.items(key))

    def report_ignored(self) -> Iterator[Finding]:
        """Yield a finding for each answer that no state is made of."""
        for _, item in self.all:
            if not any(name in item.mapping for name in LISTS):
                message = f"{item.where()} is ignored: it answers no call that a state is made of"
                yield Finding("IgnoredAnswer", Severity.INFO, message, subject(file=item.file))

    def entries(self) -> Iterator[tuple[str, Item]]:
        """Return each answer that has entries of a prefix list, with its file's name without suffix."""
        return ((stem, item) for stem, item in self.all if "Entries" in item.mapping)

    def refuse_missing(self, groups: Groups) -> None:
        """Note which calls' answers are missing: that about groups, and those about lists that rules name."""
        known = {fields.text_of("prefix_list_id") for fields in groups.sections.prefix_lists}
        if not groups.known:
            self.note_missing(self.all[0][1], "", "aws ec2 describe-security-groups")
        for group in groups.known.values():
            for rule in group.rules:
                if rule.kind == LIST and rule.far not in known:
                    known.add(rule.far)
                    call = f"aws ec2 get-managed-prefix-list-entries --prefix-list-id {rule.far} > {rule.far}.json"
                    self.note_missing(rule.item, rule.path, call, rule.far)
        groups.sections.is_complete = groups.sections.is_complete and not self.problems.count

    def note_missing(self, item: Item, path: str, call: str, value: str = "") -> None:
        """Note that an answer is missing, and name the call that gives it."""
        message, expected = "an answer is missing", f"the answer of: {call}"
        self.problems.add(item.where(path), "InvalidSource.MissingAnswer", message, value=value, expected=expected)


def add_vpc(item: Item, vpcs: Vpcs) -> None:
    """Add a VPC from describe-vpcs, which is optional; it may have several blocks of each family."""
    blocks = item.elements("CidrBlockAssociationSet", key="CidrBlock")
    if not blocks and item.get("CidrBlock") is not None:
        blocks = [("CidrBlock", item.get("CidrBlock"))]
    blocks += item.elements("Ipv6CidrBlockAssociationSet", key="Ipv6CidrBlock")
    values, names = Values(vpc_id=item.get("VpcId")), Names(vpc_id="VpcId")
    put_elements(values, names, "cidr_blocks", blocks)
    if item.text("VpcId") not in vpcs.known:
        vpcs.known.add(item.text("VpcId"))
        vpcs.sections.vpcs.append(item.fields(values, names))


def group_of(item: Item, vpcs: Vpcs) -> OtherGroup:
    """Return a group with its permissions."""
    values: Values = {"security_group_id": item.get("GroupId"), "vpc_id": vpcs.record(item.text("VpcId"), item)}
    names: Names = {"security_group_id": "GroupId", "vpc_id": "VpcId"}
    for name, key in (("security_group_name", "GroupName"), ("description", "Description")):
        if item.get(key) is not None:
            values[name], names[name] = item.get(key), key
    values["tags"] = tags(item)
    names["tags"] = "Tags"
    for name in PERMISSIONS:
        if item.get(name) is None:
            message, expected = f"{name} is missing", "the whole answer of: aws ec2 describe-security-groups"
            item.problems.add(item.where(), "InvalidSource.MissingAnswer", message, expected=expected)
    return OtherGroup(item, values, names, list(permissions(item)))


def tags(item: Item) -> Values:
    """Return the tags of an object, as text by text."""
    return {tag.text("Key"): tag.get("Value") or "" for tag in item.items("Tags") if tag.text("Key")}


def permissions(group: Item) -> Iterator[Allowed]:
    """Yield the permissions of a group.

    Amazon's permission accepts one protocol and range of ports from several far ends. Each of these makes a permission
    of its own.
    """
    for name, direction in PERMISSIONS.items():
        for item in group.items(name):
            for outer, key, kind in FAR_ENDS:
                for far in item.items(outer):
                    rule = Allowed(far, key, direction, "", kind, far.text(key), description=far.text("Description"))
                    yield with_protocol(rule, item, "IpProtocol", ("FromPort", "ToPort"))


def with_protocol(rule: Allowed, item: Item, protocol: str, ports: tuple[str, str]) -> Allowed:
    """Return the rule with its protocol and ports, which are in `item` under these keys.

    -1 is any protocol. ICMP has its type and code where TCP and UDP have ports; other protocols have neither.
    """
    given = Given(item.where(protocol), item.get(protocol))
    name = str(given.value).lower()
    if name in ("-1", "all"):
        return replace(rule, protocol="all")
    if not is_protocol(given.value):
        expected = "tcp, udp, icmp, icmpv6, -1 for all, or a number 0..255"
        return rule.add_faults(given.fault("InvalidIpProtocol.ValueNotSupported", "a protocol", expected))
    first, last = (Given(item.where(key), item.get(key)) for key in ports)
    if name in ICMP:
        rule = replace(rule, protocol=ICMP[name])
        if name in NEEDS_TYPE and first.value is None:
            return rule.add_faults(first.fault("InvalidParam.IcmpType", "an ICMP type", "a number, or -1 for any"))
        return with_icmp(rule, first, last)
    rule = replace(rule, protocol=name)
    return with_ports(rule, first, last) if name in PORTS else rule


def add_prefix_lists(answers: AwsAnswers, sections: Sections) -> None:
    """Add the prefix lists.

    A list's size and family are in one answer. Its entries are in another answer, which doesn't say whose they are, so
    its file is named for the list. `describe-prefix-lists` has the list and its entries, but no family.
    """
    described = {item.text("PrefixListId"): item for item in answers.of("PrefixLists")}
    with_entries = [item for item in described.values() if "Cidrs" in item.mapping]
    entries = {item.text("PrefixListId"): item.elements("Cidrs") for item in with_entries}
    holders = dict(described)
    for stem, item in answers.entries():
        list_id = item.text("PrefixListId") or stem
        if not is_id(list_id):
            continue
        entries[list_id], holders[list_id] = item.elements("Entries", key="Cidr"), item
    for list_id, found in entries.items():
        sections.prefix_lists.append(prefix_list(list_id, found, holders[list_id], described.get(list_id)))


def prefix_list(list_id: str, found: list[tuple[str, object]], item: Item, described: Item | None) -> Fields:
    """Return a prefix list with these blocks; `described` is the answer that has its size and family, or None."""
    is_ipv6 = any(":" in str(cidr) for _, cidr in found)
    values: Values = {"address_family": "IPv6" if is_ipv6 else "IPv4", "max_entries": max(1, len(found))}
    names: Names = {"prefix_list_id": "PrefixListId"}
    for name, key in PREFIX_LIST.items():
        if described is not None and described.get(key) is not None:
            values[name], names[name] = described.get(key), described.where(key)
    values["prefix_list_id"] = list_id
    values["entries"] = tuple(item.fields({"cidr": cidr}, {"cidr": path}) for path, cidr in found)
    return item.fields(values, names)


def add_interfaces(answers: AwsAnswers, groups: Groups, vpcs: Vpcs) -> list[Finding]:
    """Add the interfaces and the instances that have one; the findings say which interfaces are left out.

    They are in the answer of describe-network-interfaces, or else in that of describe-instances.
    """
    names = {item.text("InstanceId"): tags(item).get("Name", "")
             for found in answers.of("Reservations") for item in found.items("Instances")}  # fmt: skip
    listed = {item.text("NetworkInterfaceId"): (item, owner(item)) for item in answers.of("NetworkInterfaces")}
    for reservation in answers.of("Reservations"):
        for instance in reservation.items("Instances"):
            for item in instance.items("NetworkInterfaces"):
                listed.setdefault(item.text("NetworkInterfaceId"), (item, instance.text("InstanceId")))
    first = primary_of_each(listed.values())
    findings: list[Finding] = []
    for item, instance_id in listed.values():
        interface_id = item.text("NetworkInterfaceId")
        found = [str(value) for _, value in item.elements("Groups", key="GroupId")]
        if not found:
            findings.append(report_unfiltered(interface_id))
            continue
        if groups.leaves_out(item, interface_id, found, has_ipv4=bool(item.find_list("PrivateIpAddresses")[1])):
            continue
        is_primary = first.get(instance_id, item) is item
        groups.sections.network_interfaces.append(interface(item, instance_id, groups, vpcs, is_primary=is_primary))
    known = {fields.text_of("instance_id") for fields in groups.sections.network_interfaces} - {""}
    for instance_id in sorted(known):
        item = next(item for item, owned_by in listed.values() if owned_by == instance_id)
        values = {"instance_id": instance_id, "instance_name": names.get(instance_id, "")}
        groups.sections.instances.append(item.fields(values, {}))
    return findings


def owner(item: Item) -> str:
    """Return the instance that an interface is attached to; "" if it is another service's."""
    return item.inner("Attachment").text("InstanceId")


def primary_of_each(found: Iterable[tuple[Item, str]]) -> dict[str, Item]:
    """Return the first interface of each instance: the one with the lowest index."""
    ordered = sorted(found, key=lambda each: index_of(each[0]))
    return {instance_id: item for item, instance_id in reversed(ordered) if item.find_list("Groups")[1]}


def index_of(item: Item) -> tuple[int, int]:
    """Return the numbers of an interface's card and device, by which an instance's interfaces are ordered."""
    attachment = item.inner("Attachment")
    card, device = (as_number(attachment.get(key)) or 0 for key in ("NetworkCardIndex", "DeviceIndex"))
    return card, device


def interface(item: Item, instance_id: str, groups: Groups, vpcs: Vpcs, *, is_primary: bool) -> Fields:
    """Return an interface as the fields of an ENI.

    Where Amazon doesn't check source and destination, an interface may use any address.
    """
    values: Values = {name: item.get(key) for name, key in INTERFACE.items() if item.get(key) is not None}
    names: Names = dict(INTERFACE)
    vpcs.record(item.text("VpcId"), item)
    for name, keys in ADDRESSES.items():
        elements = item.elements(keys[0], key=keys[1])
        if elements:
            put_elements(values, names, name, elements)
    found = [value for _, value in item.elements("Groups", key="GroupId")]
    values["security_group_ids"] = groups.of_interface([str(value) for value in found])
    values["type"] = "primary" if is_primary else "secondary"
    names["security_group_ids"] = "Groups"
    if instance_id:
        values["instance_id"], names["instance_id"] = instance_id, "Attachment/InstanceId"
    if item.get("SourceDestCheck") is False:
        values["allowed_address_pairs"] = list(EVERYWHERE.values())
        names["allowed_address_pairs"] = "SourceDestCheck"
    return item.fields(values, names)
