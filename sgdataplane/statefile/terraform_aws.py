"""Terraform's resources of the aws provider -> Sections.

Owns the names of these resources and attributes, and what an unknown value of a plan means for them: a rule that
depends on one accepts nothing. Is given resources. Must not know how the model expresses what they mean (allowonly.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sgdataplane.model.pending import PendingEni
from sgdataplane.model.words import pluralize
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.allowed import BLOCK, EVERYWHERE, LIST, Allowed, Given, read_direction
from sgdataplane.statefile.allowonly import Groups, OtherGroup, report_unfiltered
from sgdataplane.statefile.aws import CLOUD, with_protocol
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.ecs_translation import Names, Values, Vpcs, put_elements
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.resources import Resource, make_id
from sgdataplane.statefile.sections import Sections

PREFIX = "aws_"
GROUPS = ("aws_security_group", "aws_default_security_group")
RULE = "aws_security_group_rule"
SINGLE_RULES = {
    "aws_vpc_security_group_ingress_rule": Direction.INGRESS,
    "aws_vpc_security_group_egress_rule": Direction.EGRESS,
}
RULES = (RULE, *SINGLE_RULES)
LISTS, LIST_ENTRY = "aws_ec2_managed_prefix_list", "aws_ec2_managed_prefix_list_entry"
INSTANCE, INTERFACE = "aws_instance", "aws_network_interface"
ATTACHMENT, GROUP_ATTACHMENT = "aws_network_interface_attachment", "aws_network_interface_sg_attachment"
DEFAULT_VPC = "default-vpc"  # the VPC of groups for which the configuration names none
# The attributes that have a rule's far ends, each with its kind of remote.
FAR_ENDS = (
    ("cidr_blocks", BLOCK[Family.IPV4]),
    ("cidr_ipv4", BLOCK[Family.IPV4]),
    ("ipv6_cidr_blocks", BLOCK[Family.IPV6]),
    ("cidr_ipv6", BLOCK[Family.IPV6]),
    ("security_groups", "group"),
    ("source_security_group_id", "group"),
    ("referenced_security_group_id", "group"),
    ("prefix_list_ids", LIST),
    ("prefix_list_id", LIST),
)
# The attributes of a rule that can change a verdict.
JUDGED = ("security_group_id", "type", "protocol", "ip_protocol", "from_port", "to_port", "self",
          *(name for name, _ in FAR_ENDS))  # fmt: skip
# The attribute that has the groups of an interface. (An instance's `security_groups` are names.)
GROUPS_OF = {INSTANCE: "vpc_security_group_ids", INTERFACE: "security_groups"}


def add_aws_resources(found: list[Resource], before: list[Resource], sections: Sections) -> list[Finding]:
    """Add every resource that a state is made of; `before` has those that exist before a plan."""
    found = [each for each in found if each.kind.startswith(PREFIX)]
    if not any(each.kind in (*GROUPS, *RULES, INSTANCE, INTERFACE) for each in found):
        return []
    sections.has_quotas = False
    return AwsResources(found, sections).add([each for each in before if each.kind in RULES])


class AwsResources:
    """The resources of one document on their way into sections."""

    def __init__(self, found: list[Resource], sections: Sections) -> None:
        self.found, self.sections = found, sections
        self.groups, self.vpcs = Groups(CLOUD, sections), Vpcs(sections)
        self.findings: list[Finding] = []

    def of(self, *kinds: str) -> Iterator[Resource]:
        """Return the resources of these kinds."""
        return (each for each in self.found if each.kind in kinds)

    def add(self, before: list[Resource]) -> list[Finding]:
        """Add all resources; `before` has the rules that exist before a plan."""
        for each in self.of("aws_vpc", "aws_default_vpc"):
            self.add_vpc(each)
        for each in self.of(*GROUPS):
            self.add_group(each)
        self.add_lists()
        self.forget(before)
        self.add_rules()
        self.leave_out_unknown_lists()
        self.add_interfaces()
        return [*self.findings, *self.groups.close()]

    def add_vpc(self, each: Resource) -> None:
        """Add a VPC with all its blocks."""
        item = each.item
        blocks = [(key, item.get(key)) for key in ("cidr_block", "ipv6_cidr_block") if item.get(key) is not None]
        more = self.of("aws_vpc_ipv4_cidr_block_association", "aws_vpc_ipv6_cidr_block_association")
        for other in more:
            if other.item.text("vpc_id") == item.text("id"):
                blocks += [("cidr_block", other.item.get(key)) for key in ("cidr_block", "ipv6_cidr_block")
                           if other.item.get(key) is not None]  # fmt: skip
        values, names = Values(vpc_id=item.get("id")), Names(vpc_id="id")
        put_elements(values, names, "cidr_blocks", blocks)
        self.vpcs.known.add(item.text("id"))
        self.sections.vpcs.append(item.fields(values, names))

    def add_group(self, each: Resource) -> None:
        """Add a group with the rules in its own attributes.

        A group whose VPC is unknown is alone in one of its own.
        """
        item = each.item
        vpc_id = item.text("vpc_id") or DEFAULT_VPC
        if each.unknown.get("vpc_id"):
            vpc_id = make_id(f"{each.address}.vpc_id")
            self.note(each, ["vpc_id"], "the group is alone in its VPC")
        values: Values = {"security_group_id": item.get("id"), "vpc_id": self.vpcs.record(vpc_id, item)}
        names: Names = {"security_group_id": "id", "vpc_id": "vpc_id"}
        for name, key in (("security_group_name", "name"), ("description", "description"), ("tags", "tags")):
            if item.get(key) is not None:
                values[name], names[name] = item.get(key), key
        unknown = [name for name in ("ingress", "egress") if each.unknown.get(name)]
        if unknown:
            self.note(each, unknown, "those of its rules are left out that depend on it")
        self.groups.add(OtherGroup(item, values, names, list(inline_rules(item))))

    def forget(self, before: Iterable[Resource]) -> None:
        """Take from each group's own attributes the rules that are resources of their own before the plan.

        The attributes still have them where the plan removes or changes these resources.
        """
        for each in before:
            group = self.groups.known.get(each.item.text("security_group_id"))
            if group is not None:
                gone = {rule.content for rule in rules_of(each)}
                group.rules = [rule for rule in group.rules if rule.content not in gone]

    def add_rules(self) -> None:
        """Add the rules that are resources of their own, in front of those in their groups' attributes.

        The attributes may repeat them. A rule that depends on an unknown value is left out, with a finding.
        """
        without_group: dict[str, list[Resource]] = {}
        for each in self.of(*RULES):
            unknown = [name for name in JUDGED if each.unknown.get(name)]
            if "security_group_id" in each.unknown and not unknown:
                unknown = ["security_group_id"]
            unknown += ["prefix_list_id"] if {rule.far for rule in rules_of(each)} & self.open_lists else []
            group = self.groups.known.get(each.item.text("security_group_id"))
            if unknown:
                self.note(each, unknown, "the rule is left out")
            elif group is None:
                without_group.setdefault(each.item.text("security_group_id"), []).append(each)
            else:
                group.rules[:0] = rules_of(each)
        self.findings += [report_ignored(group_id, found) for group_id, found in without_group.items()]

    def add_lists(self) -> None:
        """Add the prefix lists with their entries, and note which lists have unknown ones."""
        self.open_lists = {each.item.text("id") for each in self.of(LISTS) if each.unknown.get("entry")}
        more: dict[str, list[Item]] = {}
        for each in self.of(LIST_ENTRY):
            more.setdefault(each.item.text("prefix_list_id"), []).append(each.item)
            if each.unknown.get("cidr"):
                self.open_lists.add(each.item.text("prefix_list_id"))
        for each in self.of(LISTS):
            entries = [*each.item.items("entry"), *more.get(each.item.text("id"), ())]
            values, names = Values(), Names()
            for name, key in (("prefix_list_id", "id"), ("prefix_list_name", "name"), ("max_entries", "max_entries"),
                              ("address_family", "address_family")):  # fmt: skip
                if each.item.get(key) is not None:
                    values[name], names[name] = each.item.get(key), key
            distinct = {entry.text("cidr"): entry for entry in entries}
            values["entries"] = tuple(entry.fields({"cidr": cidr}, {}) for cidr, entry in distinct.items())
            self.sections.prefix_lists.append(each.item.fields(values, names))

    def leave_out_unknown_lists(self) -> None:
        """Leave out rules with lists that Terraform only refers to, such as Amazon's own.

        Nobody knows here which entries these have.
        """
        known = {fields.text_of("prefix_list_id") for fields in self.sections.prefix_lists}
        for group in self.groups.known.values():
            for rule in [rule for rule in group.rules if rule.kind == LIST and rule.far not in known]:
                group.rules.remove(rule)
                message = f"a rule is ignored, as its prefix list {rule.far} isn't in the Terraform state"
                about = subject(security_group_id=group.group_id, prefix_list_id=rule.far)
                self.findings.append(Finding("IgnoredRules", Severity.HIGH, message, about, repr(rule.content)))

    def add_interfaces(self) -> None:
        """Add the instances, their primary interfaces, and the interfaces that are resources of their own."""
        own = {each.item.text("id") for each in self.of(INTERFACE)}
        attached = {e.item.text("network_interface_id"): e.item.text("instance_id") for e in self.of(ATTACHMENT)}
        for each in self.of(INTERFACE):
            for attachment in each.item.items("attachment"):
                attached.setdefault(each.item.text("id"), attachment.text("instance"))
        instances = {each.item.text("id"): each for each in self.of(INSTANCE)}
        for each in instances.values():
            if each.item.text("primary_network_interface_id") not in own:
                self.add_interface(each, each.item.text("primary_network_interface_id"), each.item.text("id"))
            name = each.item.inner("tags").text("Name")
            values = {"instance_id": each.item.get("id"), "instance_name": name}
            self.sections.instances.append(each.item.fields(values, {"instance_id": "id"}))
        for each in self.of(INTERFACE):
            instance_id = attached.get(each.item.text("id"), "")
            self.add_interface(each, each.item.text("id"), instance_id if instance_id in instances else "")

    def add_interface(self, each: Resource, interface_id: str, instance_id: str) -> None:
        """Add an interface, or note in a finding why it is left out."""
        item = each.item
        groups = self.groups_of(each, interface_id)
        address = item.get("private_ip")
        if GROUPS_OF[each.kind] in each.unknown:
            self.note(each, [GROUPS_OF[each.kind]], "the interface is left out")
        elif not groups:
            self.findings.append(report_unfiltered(interface_id or each.address))
        elif not self.groups.known.keys() >= set(groups):
            missing = [group for group in groups if group not in self.groups.known]
            message = f"{' and '.join(missing)} isn't in the Terraform state, so {each.address} is left out"
            about = subject(address=each.address)
            self.findings.append(Finding("IgnoredRules", Severity.HIGH, message, about, each.address))
        elif address is None and "private_ip" in each.unknown:
            self.add_pending(each, groups)
        elif not self.groups.leaves_out(item, interface_id, groups, has_ipv4=address is not None):
            self.sections.network_interfaces.append(self.interface(each, interface_id, instance_id, groups))

    def groups_of(self, each: Resource, interface_id: str) -> list[str]:
        """Return the groups of an interface, by its own attributes and by attachments."""
        found = [value for _, value in values_of(each.item, GROUPS_OF[each.kind])]
        more = [
            other.item.text("security_group_id")
            for other in self.of(GROUP_ATTACHMENT)
            if other.item.text("network_interface_id") == interface_id
        ]
        return list(dict.fromkeys(str(value) for value in [*found, *more]))

    def add_pending(self, each: Resource, groups: list[str]) -> None:
        """Add an interface whose address only `terraform apply` will tell: it is judged as one that may have any."""
        self.note(each, ["private_ip"], "it is judged with any address", is_judged=True)
        vpc_id = str(self.groups.known[groups[0]].vpc_id)
        self.sections.pending.append(PendingEni(each.address, vpc_id, tuple(self.groups.of_interface(groups))))

    def interface(self, each: Resource, interface_id: str, instance_id: str, groups: list[str]) -> Fields:
        """Return an interface as the fields of an ENI."""
        item = each.item
        is_instance = each.kind == INSTANCE
        values: Values = {"network_interface_id": interface_id, "vpc_id": self.groups.known[groups[0]].vpc_id}
        names: Names = {"network_interface_id": "primary_network_interface_id" if is_instance else "id"}
        if item.get("mac_address") is not None:
            values["mac_address"] = item.get("mac_address")
        addresses = [("private_ip", item.get("private_ip"))]
        for key in ("private_ips", "secondary_private_ips"):
            addresses += [each for each in values_of(item, key) if each[1] not in [value for _, value in addresses]]
        put_elements(values, names, "private_ip_addresses", addresses)
        for key in ("ipv6_addresses", "ipv4_prefixes", "ipv6_prefixes"):
            put_elements(values, names, key, [*values_of(item, key)])
        values["security_group_ids"] = self.groups.of_interface(groups)
        if instance_id:
            values["instance_id"] = instance_id
            is_first = all(fields.text_of("instance_id") != instance_id for fields in self.sections.network_interfaces)
            values["type"] = "primary" if is_first else "secondary"
        if item.get("source_dest_check") is False:
            values["allowed_address_pairs"] = list(EVERYWHERE.values())
        return item.fields(values, names)

    def note(self, each: Resource, names: list[str], what: str, *, is_judged: bool = False) -> None:
        """Note in a finding that attributes are known only after apply, and what follows from it (`what`)."""
        verb = "is" if len(names) == 1 else "are"
        message = f"{' and '.join(names)} of {each.address} {verb} known only after apply, so {what}"
        about = subject(security_group_id=each.item.text("security_group_id"), address=each.address)
        code = "AddressKnownAfterApply" if is_judged else "KnownAfterApply"
        severity = Severity.WARNING if is_judged else Severity.HIGH
        self.findings.append(Finding(code, severity, message, about))


def report_ignored(group_id: str, found: list[Resource]) -> Finding:
    """Return the finding about rules of a group that isn't there."""
    verb = "is" if len(found) == 1 else "are"
    message = f"{pluralize(len(found), 'rule')} of {group_id} {verb} ignored, as the group isn't in the Terraform state"
    basis = repr(sorted(repr([rule.content for rule in rules_of(each)]) for each in found))
    return Finding("IgnoredRules", Severity.HIGH, message, subject(security_group_id=group_id), basis)


def inline_rules(group: Item) -> Iterator[Allowed]:
    """Yield the rules in a group's own attributes."""
    for direction in Direction:
        for item in group.items(direction.value):
            yield from far_ends(item, direction, group.text("id"), "")


def rules_of(each: Resource) -> list[Allowed]:
    """Return the rules that one resource makes: one for each far end."""
    direction, faults = read_direction(Given(each.item.where("type"), each.item.get("type")))
    if each.kind in SINGLE_RULES:
        direction, faults = SINGLE_RULES[each.kind], ()
    rule_id = make_id(each.item.text("security_group_rule_id") or each.item.text("id") or each.address)
    found = far_ends(each.item, direction, each.item.text("security_group_id"), rule_id)
    return [rule.add_faults(*faults) for rule in found]


def far_ends(item: Item, direction: Direction, group_id: str, rule_id: str) -> Iterator[Allowed]:
    """Yield one rule for each far end; a value that can't be read makes a rule with a fault."""
    found = [(kind, path, value) for name, kind in FAR_ENDS for path, value in values_of(item, name)]
    if item.get("self") not in (None, False):
        found.append(("group", "self", group_id))
    protocol = "protocol" if item.get("protocol") is not None else "ip_protocol"
    for kind, path, value in found:
        far = str(value).rpartition("/")[2] if kind == "group" else str(value)  # another account's: ACCOUNT/sg-1
        rule = Allowed(item, path, direction, "", kind, far, rule_id=rule_id, description=item.text("description"))
        given = Given(item.where(path), item.get("self") if path == "self" else value)
        if not isinstance(given.value, bool if path == "self" else str):
            expected = "true or false" if path == "self" else "text"
            rule = rule.add_faults(given.fault("InvalidDocument.WrongType", expected, expected))
        yield with_protocol(rule, item, protocol, ("from_port", "to_port"))


def values_of(item: Item, key: str) -> list[tuple[str, object]]:
    """Return the path and value of each element of a list, or of a single value."""
    value = item.get(key)
    if isinstance(value, list):
        return [(f"{key}/{index}", each) for index, each in enumerate(value) if each not in (None, "")]
    return [] if value is None else [(key, value)]
