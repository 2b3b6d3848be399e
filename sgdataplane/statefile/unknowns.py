"""What the unknown values of a Terraform plan mean for a policy.

What depends on an unknown value accepts nothing, and isn't judged. An interface of which only the address is unknown is
judged as one that may have any.

Owns the choice for each kind of resource, and the findings about it. Is given resources, and gives attributes that are
all known. Must not know where resources come from, or what becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.resources import Resource, make_id

RULE, GROUP, PREFIX_LIST = "alicloud_security_group_rule", "alicloud_security_group", "alicloud_ecs_prefix_list"
# The attributes of a rule that can change a verdict.
JUDGED = (
    "security_group_id", "type", "policy", "priority", "ip_protocol", "port_range", "source_port_range",
    "port_range_list_id", "cidr_ip", "ipv6_cidr_ip", "source_security_group_id", "prefix_list_id",
)  # fmt: skip
REMOTES = ("cidr_ip", "ipv6_cidr_ip", "source_security_group_id", "prefix_list_id")
EVERYWHERE = ({"cidr_ip": "0.0.0.0/0"}, {"ipv6_cidr_ip": "::/0"})
# The names of an interface's first address, and the attributes that must be known besides.
ADDRESS = ("primary_ip_address", "private_ip")
BELONGING = ("security_groups", "security_group_ids", "vpc_id", "vswitch_id")


class Unknowns:
    """Goes through the resources of one document.

    Attributes:
        findings: what it has found on the way.
        pending: the interfaces of which only the address is unknown.
        open_lists: the ids of prefix lists with unknown entries.
    """

    def __init__(self, resources: Iterable[Resource]) -> None:
        self.resources = list(resources)
        self.findings: list[Finding] = []
        self.pending: list[Resource] = []
        lists = (each for each in self.resources if each.kind == PREFIX_LIST and "entry" in each.unknown)
        self.open_lists = {each.item.text("id") for each in lists}

    def settle(self) -> Iterator[tuple[str, Item]]:
        """Yield the kind and the attributes of every resource, or of what stands in for it."""
        for each in self.resources:
            if each.kind == RULE:
                yield from ((each.kind, item) for item in self.rule(each))
            elif each.kind == GROUP:
                yield each.kind, self.group(each)
            elif not self.is_pending(each):
                yield each.kind, each.item

    def rule(self, each: Resource) -> Iterator[Item]:
        """Yield the rule, or what stands in for it if something about it is unknown.

        Nothing stands in for a rule that accepts, or whose group is unknown. For a rule that drops, rules stand in that
        drop all that it may drop.
        """
        unknown = [name for name in JUDGED if name in each.unknown]
        if each.item.text("prefix_list_id") in self.open_lists:
            unknown.append("prefix_list_id")
        if not unknown:
            yield each.item
        elif each.item.text("policy") == "accept" or "security_group_id" in unknown:
            self.note("KnownAfterApply", Severity.HIGH, each, unknown, "the rule is left out")
        else:
            self.note("KnownAfterApply", Severity.HIGH, each, unknown, "the rule drops all that it may drop")
            is_anywhere = not set(REMOTES).isdisjoint(unknown)
            yield from (_widen(each.item, unknown, remote) for remote in (EVERYWHERE if is_anywhere else ({},)))

    def group(self, each: Resource) -> Item:
        """Return the group; if its VPC or inner policy is unknown, it is alone in a VPC or its inner policy is Drop."""
        values: dict[str, object] = {}
        if "inner_access_policy" in each.unknown:
            values["inner_access_policy"] = "Drop"
            self.note(
                "KnownAfterApply", Severity.HIGH, each, ["inner_access_policy"], "its members don't reach each other"
            )
        if "vpc_id" in each.unknown:
            values["vpc_id"] = make_id(f"{each.address}.vpc_id")
            self.note("KnownAfterApply", Severity.HIGH, each, ["vpc_id"], "the group is alone in its VPC")
        return _with(each.item, values)

    def is_pending(self, each: Resource) -> bool:
        """Return whether it is an interface, or an instance with one, that has no address or groups yet.

        Lists that the configuration doesn't mention are empty.
        """
        unknown = [name for name in BELONGING if each.unknown.get(name)]
        address = []
        if not any(each.item.get(name) for name in ADDRESS):
            address = [name for name in ADDRESS if name in each.unknown][:1]
        if unknown:
            self.note("KnownAfterApply", Severity.HIGH, each, unknown + address, "the interface is left out")
        elif address:
            self.pending.append(each)
            what = "it is judged with any address"
            self.note("AddressKnownAfterApply", Severity.WARNING, each, address, what)
        return bool(unknown or address)

    def note(self, code: str, severity: Severity, each: Resource, names: list[str], what: str) -> None:
        """Note in a finding that attributes are known only after apply, and what follows from it (`what`)."""
        verb = "is" if len(names) == 1 else "are"
        message = f"{' and '.join(names)} of {each.address} {verb} known only after apply, so {what}"
        about = subject(security_group_id=each.item.text("security_group_id"), address=each.address)
        self.findings.append(Finding(code, severity, message, about))


def _widen(item: Item, unknown: Iterable[str], remote: dict[str, str]) -> Item:
    """Return the rule with everything in place of what is unknown.

    Protocol and ports go together. `remote` stands in for an unknown remote.
    """
    values: dict[str, object] = {"policy": "drop"}
    if not {"ip_protocol", "port_range", "source_port_range", "port_range_list_id"}.isdisjoint(unknown):
        values |= {"ip_protocol": "all", "port_range": "-1/-1", "source_port_range": None, "port_range_list_id": None}
    if remote:
        values |= {**dict.fromkeys(REMOTES), **remote}
    if "priority" in unknown:
        values["priority"] = 1
    return _with(item, values)


def _with(item: Item, values: dict[str, object]) -> Item:
    return Item(item.file, item.pointer, {**item.mapping, **values}, item.problems)
