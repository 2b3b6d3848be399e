"""A Terraform state (terraform.tfstate, version 4) -> Sections, under native names.

Owns the names of the alicloud provider's resources and attributes. Is given documents. Must not know what values mean.
A Terraform state holds what Terraform manages: VPCs and groups that it only refers to are known by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.document import Document
from sgdataplane.statefile.ecs import Vpcs
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.fields import Fields, Place
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Sections

VERSION = 4
# Native name -> the provider's names for it, the newest first.
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


def add_terraform(documents: Iterable[Document], sections: Sections, problems: Problems) -> list[Finding]:
    """Add every resource of a kind that a state is made of; the others mean nothing here."""
    findings: list[Finding] = []
    for document in documents:
        top = Item(document.file, "", document.mapping, problems)
        if top.get("version") != VERSION or "resources" not in top.mapping:
            where, expected = top.where("version"), f"a terraform.tfstate of version {VERSION}"
            message = "not a Terraform state"
            value = top.get("version")
            problems.add(where, "InvalidSource.NotTerraform", message, value=value or "", expected=expected)
            sections.is_complete = False
            continue
        findings += Resources(top, sections).add()
    return findings


class Resources:
    """One state's resources on their way into sections."""

    def __init__(self, top: Item, sections: Sections) -> None:
        self.sections = sections
        self.vpcs = Vpcs(sections)
        self.by_type: dict[str, list[Item]] = {}
        for resource in top.items("resources"):
            found = resource.items("instances")
            attributes = [instance.inner("attributes") for instance in found]
            self.by_type.setdefault(resource.text("type"), []).extend(attributes)
        with_vpc = self.of("alicloud_vswitch", "alicloud_security_group")
        self.vpc_of_id = {item.text("id"): item.text("vpc_id") for item in with_vpc}

    def of(self, *types: str) -> Iterator[Item]:
        return (item for kind in types for item in self.by_type.get(kind, ()))

    def add(self) -> list[Finding]:
        for item in self.of("alicloud_vpc"):
            self.add_vpc(item)
        findings = self.add_groups()
        for item in self.of("alicloud_ecs_prefix_list"):
            self.add_prefix_list(item)
        self.add_interfaces()
        self.sections.instances += [as_fields(item, INSTANCE) for item in self.of("alicloud_instance")]
        return findings

    def add_vpc(self, item: Item) -> None:
        blocks = [(key, item.get(key)) for key in ("cidr_block", "ipv6_cidr_block") if item.get(key) is not None]
        blocks += elements(item, "secondary_cidr_blocks")
        fields = as_fields(item, VPC)
        values = {**fields.values, "cidr_blocks": [value for _, value in blocks]}
        names: dict[str, Place] = {**fields.names, "cidr_blocks": tuple(path for path, _ in blocks)}
        self.vpcs.known.add(item.text("id"))
        self.sections.vpcs.append(item.fields(values, names))

    def add_groups(self) -> list[Finding]:
        """A rule is a resource of its own; one of a group that isn't in the state has nowhere to stand."""
        rules: dict[str, list[Fields]] = {}
        for item in self.of("alicloud_security_group_rule"):
            rules.setdefault(item.text("security_group_id"), []).append(as_fields(item, RULE))
        named = {rule.said("source_security_group_id") for found in rules.values() for rule in found} - {""}
        known: set[str] = set()
        for item in self.of("alicloud_security_group"):
            fields = as_fields(item, GROUP)
            vpc_id = self.vpcs.record(item.text("vpc_id"), item)
            values = {**fields.values, "vpc_id": vpc_id, "rules": tuple(rules.pop(item.text("id"), ()))}
            self.sections.security_groups.append(item.fields(values, fields.names))
            known.add(item.text("id"))
        self.sections.unknown_groups |= named - known
        return [ignored(group_id, len(found)) for group_id, found in rules.items()]

    def add_prefix_list(self, item: Item) -> None:
        fields = as_fields(item, PREFIX_LIST)
        found = [(path, value) for path, value in elements(item, "entry") if isinstance(value, dict)]
        entries = tuple(as_fields(item.at(path, value), ENTRY) for path, value in found)
        values, names = {**fields.values, "entries": entries}, {**fields.names, "entries": "entry"}
        self.sections.prefix_lists.append(item.fields(values, names))

    def add_interfaces(self) -> None:
        """Each instance's primary ENI, and the ENIs that are resources of their own, attached or not."""
        attached = {item.text("network_interface_id"): item.text("instance_id") for item in self.of(*ATTACHMENTS)}
        for item in self.of("alicloud_instance"):
            self.sections.network_interfaces.append(self.interface(item, PRIMARY, {"type": "primary"}))
        for item in self.of(*INTERFACES):
            more = {"type": "secondary", "instance_id": attached.get(item.text("id"), "")}
            self.sections.network_interfaces.append(self.interface(item, INTERFACE, more))

    def interface(self, item: Item, names: Mapping[str, tuple[str, ...]], more: Mapping[str, str]) -> Fields:
        fields = as_fields(item, names)
        values: dict[str, object] = {**fields.values, **{name: value for name, value in more.items() if value}}
        places: dict[str, Place] = dict(fields.names)
        addresses = [(key, item.get(key)) for key in PRIMARY_ADDRESS if item.get(key) is not None][:1]
        for key in MORE_ADDRESSES:
            known = [value for _, value in addresses]
            addresses += [(path, value) for path, value in elements(item, key) if value not in known]
        values["private_ip_addresses"] = [value for _, value in addresses]
        places["private_ip_addresses"] = tuple(path for path, _ in addresses)
        values["vpc_id"] = self.vpc_of(item, fields)
        return item.fields(values, places)

    def vpc_of(self, item: Item, fields: Fields) -> str:
        """The VPC that the resource names, or else that of its switch or of its first group."""
        groups = fields.values.get("security_group_ids")
        first = groups[0] if isinstance(groups, list) and groups else ""
        of_switch = self.vpc_of_id.get(item.text("vswitch_id"), "")
        return self.vpcs.record(item.text("vpc_id") or of_switch or self.vpc_of_id.get(str(first), ""), item)


def ignored(group_id: str, count: int) -> Finding:
    message = f"{count} rules of {group_id} are ignored: the group isn't in the Terraform state"
    return Finding("IgnoredRules", Severity.WARNING, message, subject(security_group_id=group_id))


def elements(item: Item, key: str) -> list[tuple[str, object]]:
    """(path, value) of each element of a list; nothing if it isn't one."""
    value = item.get(key)
    return [(f"{key}/{index}", element) for index, element in enumerate(value)] if isinstance(value, list) else []


def as_fields(item: Item, names: Mapping[str, tuple[str, ...]]) -> Fields:
    """The attributes that the resource has, under native names; the provider writes absent ones as null or empty."""
    values: dict[str, object] = {}
    places: dict[str, Place] = {}
    for name, keys in names.items():
        places[name] = keys[0]
        for key in reversed(keys):
            if item.get(key) is not None:
                values[name], places[name] = item.get(key), key
    return item.fields(values, places)
