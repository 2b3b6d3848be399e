"""Terraform's resources -> Sections, under native names.

Owns the names of the alicloud provider's resources and attributes. Is given documents. Must not know what values mean.
Terraform knows only what it manages, so VPCs and groups that it merely refers to are known by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sgdataplane.model.pending import PendingEni
from sgdataplane.model.words import pluralize
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.document import Document
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.ecs_enis import add_mode
from sgdataplane.statefile.ecs_translation import Names, Values, Vpcs, put_elements
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.resources import Resource, is_plan, resources
from sgdataplane.statefile.sections import Sections
from sgdataplane.statefile.terraform_aws import PREFIX, add_aws_resources
from sgdataplane.statefile.unknowns import Unknowns
from sgdataplane.visible import json_text

# By native name, the provider's names, the newest first.
VPC = {"vpc_id": ("id",)}
GROUP = {
    "security_group_id": ("id",),
    "security_group_name": ("security_group_name", "name"),
    "description": ("description",),
    "security_group_type": ("security_group_type",),
    "inner_access_policy": ("inner_access_policy",),
    "tags": ("tags",),
}
RULE_TEXTS = (
    "security_group_rule_id", "type", "policy", "priority", "ip_protocol", "port_range", "source_port_range",
    "port_range_list_id", "cidr_ip", "ipv6_cidr_ip", "source_security_group_id", "prefix_list_id", "nic_type",
    "description",
)  # fmt: skip
RULE = {("port_list_id" if name == "port_range_list_id" else name): (name,) for name in RULE_TEXTS}
PREFIX_LIST = {
    "prefix_list_id": ("id",),
    "prefix_list_name": ("prefix_list_name",),
    "address_family": ("address_family",),
    "max_entries": ("max_entries",),
    "description": ("description",),
}
ENTRY = {"cidr": ("cidr",), "description": ("description",)}
INSTANCE = {"instance_id": ("id",), "instance_name": ("instance_name",)}
# An instance's own attributes are those of its primary ENI.
PRIMARY = {
    "network_interface_id": ("network_interface_id",),
    "instance_id": ("id",),
    "security_group_ids": ("security_groups",),
    "ipv6_addresses": ("ipv6_addresses",),
}
INTERFACE = {
    "network_interface_id": ("id",),
    "mac_address": ("mac", "mac_address"),
    "security_group_ids": ("security_group_ids", "security_groups"),
    "ipv6_addresses": ("ipv6_addresses",),
    "ipv4_prefixes": ("ipv4_prefixes",),
    "ipv6_prefixes": ("ipv6_prefixes",),
}
PRIMARY_ADDRESS = ("primary_ip_address", "private_ip")
MORE_ADDRESSES = ("private_ip_addresses", "private_ips", "secondary_private_ips")
INTERFACES = ("alicloud_ecs_network_interface", "alicloud_network_interface")
ATTACHMENTS = ("alicloud_ecs_network_interface_attachment", "alicloud_network_interface_attachment")


def add_terraform(
    documents: Iterable[Document], sections: Sections, problems: Problems, *, prior: bool = False
) -> list[Finding]:
    """Add every resource of a kind that a state is made of; all others mean nothing here.

    With `prior`, add those that exist before a plan, not those that it makes.
    """
    findings: list[Finding] = []
    for document in documents:
        top = Item(document.file, "", document.mapping, problems)
        found = resources(top, prior=prior)
        if found is None:
            where, value = top.where("version"), top.get("version") or ""
            message = "not a readable Terraform state or plan"
            expected = "a terraform.tfstate of version 4, or what `terraform show -json` prints"
            problems.add(where, "InvalidSource.NotTerraform", message, value=value, expected=expected)
            sections.is_complete = False
            continue
        sections.addresses |= {(each.item.file, each.item.pointer): each.address for each in found}
        before = [] if prior else resources(top, prior=True) if is_plan(document.mapping) else []
        findings += add_aws_resources(found, before or [], sections)
        unknowns = Unknowns(each for each in found if not each.kind.startswith(PREFIX))
        found_resources = Resources(unknowns.settle(), sections)
        findings += [*found_resources.add(), *found_resources.add_pending(unknowns.pending), *unknowns.findings]
    return findings


class Resources:
    """The resources of one document on their way into sections."""

    def __init__(self, found: Iterable[tuple[str, Item]], sections: Sections) -> None:
        self.sections = sections
        self.vpcs = Vpcs(sections)
        self.findings: list[Finding] = []
        self.by_kind: dict[str, list[Item]] = {}
        for kind, item in found:
            self.by_kind.setdefault(kind, []).append(item)
        with_vpc = self.of("alicloud_vswitch", "alicloud_security_group")
        self.vpc_of_id = {item.text("id"): item.text("vpc_id") for item in with_vpc}

    def of(self, *kinds: str) -> Iterator[Item]:
        """Return the resources of these kinds."""
        return (item for kind in kinds for item in self.by_kind.get(kind, ()))

    def add(self) -> list[Finding]:
        """Add all resources; the findings say what was ignored or made up."""
        for item in self.of("alicloud_vpc"):
            self.add_vpc(item)
        findings = self.add_groups()
        for item in self.of("alicloud_ecs_prefix_list"):
            self.add_prefix_list(item)
        findings += self.add_interfaces()
        self.sections.instances += [as_fields(item, INSTANCE) for item in self.of("alicloud_instance")]
        return findings + self.findings

    def add_vpc(self, item: Item) -> None:
        """Add a VPC with its blocks."""
        blocks = [(key, item.get(key)) for key in ("cidr_block", "ipv6_cidr_block") if item.get(key) is not None]
        values, places = attributes(item, VPC)
        put_elements(values, places, "cidr_blocks", blocks + item.elements("secondary_cidr_blocks"))
        self.vpcs.known.add(item.text("id"))
        self.sections.vpcs.append(item.fields(values, places))

    def add_groups(self) -> list[Finding]:
        """Add the groups with their rules, which are resources of their own.

        Rules of a group that isn't in the state are ignored, with a finding.
        """
        rules: dict[str, list[Fields]] = {}
        for item in self.of("alicloud_security_group_rule"):
            rules.setdefault(item.text("security_group_id"), []).append(as_fields(item, RULE))
        named = {rule.text_of("source_security_group_id") for found in rules.values() for rule in found} - {""}
        known: set[str] = set()
        for item in self.of("alicloud_security_group"):
            values, places = attributes(item, GROUP)
            values["vpc_id"] = self.vpcs.record(item.text("vpc_id"), item)
            values["rules"] = tuple(rules.pop(item.text("id"), ()))
            self.sections.security_groups.append(item.fields(values, places))
            known.add(item.text("id"))
        self.sections.unknown_groups |= named - known
        return [report_ignored(group_id, found) for group_id, found in rules.items()]

    def add_prefix_list(self, item: Item) -> None:
        """Add a prefix list with its entries."""
        values, places = attributes(item, PREFIX_LIST)
        found = [(path, value) for path, value in item.elements("entry") if isinstance(value, dict)]
        values["entries"] = tuple(as_fields(item.at(path, value), ENTRY) for path, value in found)
        places["entries"] = "entry"
        self.sections.prefix_lists.append(item.fields(values, places))

    def add_interfaces(self) -> list[Finding]:
        """Add each instance's primary ENI, and the ENIs that are resources of their own, attached or not.

        Terraform doesn't know the MAC of a primary ENI.
        """
        attached = {item.text("network_interface_id"): item.text("instance_id") for item in self.of(*ATTACHMENTS)}
        found = [self.interface(item, PRIMARY, {"type": "primary"}) for item in self.of("alicloud_instance")]
        for item in self.of(*INTERFACES):
            more = {"type": "secondary", "instance_id": attached.get(item.text("id"), "")}
            found.append(self.interface(item, INTERFACE, more))
        self.sections.network_interfaces += found
        without = [fields for fields in found if not fields.values.get("mac_address")]
        return [report_made_up_macs(without)] if without else []

    def add_pending(self, pending: Iterable[Resource]) -> list[Finding]:
        """Add the interfaces without an address.

        An interface in a group that the document doesn't have can't be judged, so a finding says that it is left out.
        """
        known = {item.text("id") for item in self.of("alicloud_security_group")}
        found: list[Finding] = []
        for each in pending:
            names = PRIMARY if each.kind == "alicloud_instance" else INTERFACE
            values, _ = attributes(each.item, names)
            given = values.get("security_group_ids")
            groups = tuple(dict.fromkeys(g for g in given if isinstance(g, str))) if isinstance(given, list) else ()
            if groups and known.issuperset(groups):
                self.sections.pending.append(PendingEni(each.address, self.vpc_of(each.item, given), groups))
            else:
                found.append(report_unplaced(each.address, [group for group in groups if group not in known]))
        return found

    def interface(self, item: Item, names: Mapping[str, tuple[str, ...]], more: Mapping[str, str]) -> Fields:
        """Return the fields of an ENI; `more` has those that other resources say."""
        values, places = attributes(item, names)
        values |= {name: value for name, value in more.items() if value}
        addresses = [(key, item.get(key)) for key in PRIMARY_ADDRESS if item.get(key) is not None][:1]
        for key in MORE_ADDRESSES:
            known = [value for _, value in addresses]
            addresses += [(path, value) for path, value in item.elements(key) if value not in known]
        put_elements(values, places, "private_ip_addresses", addresses)
        values["vpc_id"] = self.vpc_of(item, values.get("security_group_ids"))
        if names is INTERFACE and isinstance(tags := item.get("tags"), dict):
            add_mode(tags, values, self.findings)
        return item.fields(values, places)

    def vpc_of(self, item: Item, groups: object) -> str:
        """Return the VPC that the resource names, or else that of its switch or of its first group."""
        first = groups[0] if isinstance(groups, list) and groups else ""
        of_switch = self.vpc_of_id.get(item.text("vswitch_id"), "")
        return self.vpcs.record(item.text("vpc_id") or of_switch or self.vpc_of_id.get(str(first), ""), item)


def report_ignored(group_id: str, found: list[Fields]) -> Finding:
    """Return the finding about rules of a group that isn't there.

    It is severe if one of them may accept ingress, because that may be an open door.
    """
    verb = "is" if len(found) == 1 else "are"
    message = f"{pluralize(len(found), 'rule')} of {group_id} {verb} ignored, as the group isn't in the Terraform state"
    may_open = any(rule.text_of("type") != "egress" and rule.text_of("policy") != "drop" for rule in found)
    severity = Severity.HIGH if may_open else Severity.WARNING
    basis = json_text(sorted(json_text({name: str(value) for name, value in rule.values.items()}) for rule in found))
    return Finding("IgnoredRules", severity, message, subject(security_group_id=group_id), basis)


def report_unplaced(address: str, groups: list[str]) -> Finding:
    """Return the finding about an interface without an address whose groups the document doesn't have or name."""
    why = f"{' and '.join(groups)} isn't in the plan" if groups else "its groups aren't in the plan"
    message = f"{address} has no address yet, and {why}, so the interface is left out"
    return Finding("KnownAfterApply", Severity.HIGH, message, subject(address=address))


def report_made_up_macs(found: list[Fields]) -> Finding:
    """Return the finding about ENIs without a MAC."""
    first = found[0].text_of("network_interface_id")
    which = f"{first} and {pluralize(len(found) - 1, 'more ENI')}" if len(found) > 1 else first
    noun = "the MACs" if len(found) > 1 else "the MAC"
    message = f"{noun} of {which} {'are' if len(found) > 1 else 'is'} made up, as Terraform doesn't say"
    return Finding("MadeUpMac", Severity.INFO, message, subject(network_interface_id=first))


def attributes(item: Item, names: Mapping[str, tuple[str, ...]]) -> tuple[Values, Names]:
    """Return the attributes that the resource has, and their places, under native names.

    The provider writes absent ones as null or empty.
    """
    values, places = Values(), Names()
    for name, keys in names.items():
        places[name] = keys[0]
        for key in reversed(keys):
            if item.get(key) is not None:
                values[name], places[name] = item.get(key), key
    return values, places


def as_fields(item: Item, names: Mapping[str, tuple[str, ...]]) -> Fields:
    """Return a resource as an object under native names."""
    return item.fields(*attributes(item, names))
