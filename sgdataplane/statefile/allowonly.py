"""Groups of clouds whose rules only accept -> Sections: basic groups that refuse everything that no rule accepts.

Owns how the model expresses such a group, and what becomes of a rule that it can't express exactly. Is given
permissions in words of no particular cloud. Must not know how a cloud writes them.

An accepting rule has priority 1, a widened one 2. The drop that marks a narrowed rule has 99, and the drop that stands
for the other cloud's default has 100. So a rule whose id says that it isn't exact decides only where no exact one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sgdataplane.errors import Problem
from sgdataplane.model import standins
from sgdataplane.model.words import pluralize
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.allowed import BLOCK, EVERYWHERE, PORTS, Allowed
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.fields import Fields, Place
from sgdataplane.statefile.resources import make_id
from sgdataplane.statefile.sections import Sections

ACCEPT, WIDENED, NARROWED, CLOSED = 1, 2, 99, 100  # priorities
GROUP = {Direction.INGRESS: "source_security_group_id", Direction.EGRESS: "dest_security_group_id"}
OWN_SIDE = {
    (Direction.INGRESS, Family.IPV4): "dest_cidr_ip",
    (Direction.INGRESS, Family.IPV6): "ipv6_dest_cidr_ip",
    (Direction.EGRESS, Family.IPV4): "source_cidr_ip",
    (Direction.EGRESS, Family.IPV6): "ipv6_source_cidr_ip",
}
NO_PORT = (1, 0)  # what is left of a rule for port 0 alone


@dataclass(slots=True)
class OtherGroup:
    """A group as the other cloud has it."""

    item: Item
    values: dict[str, object]
    """Its fields under native names, without rules."""
    places: dict[str, Place]
    """Where these fields stand."""
    rules: list[Allowed] = field(default_factory=list)
    """Its permissions."""

    @property
    def group_id(self) -> str:
        """The group's id."""
        return str(self.values["security_group_id"])

    @property
    def vpc_id(self) -> object:
        """The id of the group's VPC, as the input gives it."""
        return self.values["vpc_id"]


class Groups:
    """All groups of one input, on their way into sections. `cloud` is what its users call the cloud."""

    def __init__(self, cloud: str, sections: Sections) -> None:
        self.cloud, self.sections = cloud, sections
        self.known: dict[str, OtherGroup] = {}
        self.partial: dict[str, str] = {}  # by group, in words: which of its members aren't members here
        self.findings: list[Finding] = []
        self.zero: list[str] = []  # rules of which port 0 is left out

    def add(self, group: OtherGroup) -> None:
        """Add a group, unless one with its id is known already."""
        self.known.setdefault(group.group_id, group)

    def close(self) -> list[Finding]:
        """Hand all groups on to the sections, once all are known.

        The findings say what isn't as it is in the other cloud.
        """
        for group in self.known.values():
            self.sections.security_groups.append(self.close_group(group))
            if names_itself(group):
                self.sections.security_groups.append(own_members(group))
        named = {rule.far for group in self.known.values() for rule in group.rules if rule.kind == "group"}
        self.sections.unknown_groups |= named - self.known.keys()
        if self.zero:
            self.findings.append(report_port_zero(self.zero))
        if self.known:
            self.findings.append(Finding("OtherCloud", Severity.INFO, DIFFERS[self.cloud]))
        return self.findings

    def close_group(self, group: OtherGroup) -> Fields:
        """Return the group with its rules, and with drops for the egress that no rule accepts.

        Without these drops, the default of a basic group would accept it.
        """
        refuse_faults(group)
        readable = [rule for rule in group.rules if not rule.faults]
        rules = [fields for rule in give_ids(distinct(readable)) for fields in self.native_rules(group, rule)]
        rules += [as_drop(group, family) for family in Family]
        values = {**group.values, "security_group_type": "normal", "inner_access_policy": "Drop", "rules": tuple(rules)}
        return group.item.fields(values, group.places)

    def native_rules(self, group: OtherGroup, rule: Allowed) -> Iterator[Fields]:
        """Yield the native rules that express one permission."""
        rule = self.with_members(group, self.without_zero(rule))
        if rule.ports == NO_PORT:
            return
        if rule.gaps:
            yield from self.inexact(group, rule)
        else:
            yield as_rule(group, rule, {})

    def without_zero(self, rule: Allowed) -> Allowed:
        """Return the rule without port 0, which is in no range here."""
        if rule.protocol not in PORTS:
            return rule
        first, last = rule.ports or (0, 65535)
        if first == 0:
            self.zero.append(rule.rule_id)
        return replace(rule, ports=(max(first, 1), last))

    def with_members(self, group: OtherGroup, rule: Allowed) -> Allowed:
        """Return the rule with what the model can't express about the group that it names as remote.

        A group means members of its own VPC here, and some of its members may not be members here at all.
        """
        other = self.known.get(rule.far) if rule.kind == "group" else None
        if other is None:
            return rule
        if other.vpc_id != group.vpc_id:
            return replace(rule, lacks_far=f"the members of {rule.far}, which is in {other.vpc_id}")
        if rule.far in self.partial:
            return replace(rule, lacks_far=f"the members of {rule.far}{self.partial[rule.far]}", is_part=True)
        return rule

    def inexact(self, group: OtherGroup, rule: Allowed) -> Iterator[Fields]:
        """Yield the rules that stand for one that can't be expressed exactly, as the user has chosen."""
        choice = self.sections.inexact
        if choice not in CHOICES:
            option = "what `sgdp import` writes with --inexact" if choice == "import" else "--inexact"
            expected = (
                f"{option} widen, so that it accepts {describe_widened(rule)}; or --inexact narrow, to leave it out"
            )
            message = f"{rule.rule_id} of {group.group_id} can't be said exactly: {rule.gaps}"
            rule.item.problems.add(rule.where, "InvalidSource.NotExact", message, expected=expected)
            return
        mark = standins.WIDENED if choice == "widen" else standins.NARROWED
        if rule.is_part and not rule.lacks:
            yield as_rule(group, rule, {})
        about = subject(security_group_id=group.group_id, security_group_rule_id=mark_rule_id(rule.rule_id, mark))
        self.findings.append(report_inexact(rule, mark, about))
        more = {"policy": "accept" if choice == "widen" else "drop", "priority": PRIORITY[mark]}
        for number, wide in enumerate(widen(rule)):
            name = mark_rule_id(rule.rule_id, mark if not number else f"{mark}-ipv6")
            yield as_rule(group, replace(wide, rule_id=name), more)

    def leaves_out(self, item: Item, interface_id: str, group_ids: Iterable[str], *, has_ipv4: bool) -> bool:
        """Return whether an interface is left out: it has only IPv6 addresses, and the user accepts what isn't exact.

        If so, rules that name one of its groups aren't exact, either.
        """
        if has_ipv4 or self.sections.inexact not in CHOICES:
            return False  # without an IPv4 address it is refused when it is read
        self.partial |= dict.fromkeys(group_ids, f", of which {interface_id} is left out")
        about = subject(network_interface_id=interface_id)
        message = f"{interface_id} is left out: it has only IPv6 addresses"
        self.findings.append(Finding("Narrowed", Severity.HIGH, message, about, str((about, item.pointer))))
        return True

    def of_interface(self, group_ids: Sequence[str]) -> list[str]:
        """Return the groups of an interface, with those that stand for the members of groups that name themselves."""
        more = [own_id(g) for g in group_ids if g in self.known and names_itself(self.known[g])]
        return [*group_ids, *more]


CHOICES = ("widen", "narrow")
PRIORITY = {standins.WIDENED: WIDENED, standins.NARROWED: NARROWED}
DIFFERS = {
    "AWS": "AWS lets a session go on when the rule that let it in is gone, as `on_change = keep` does here, and never"
    " filters its own DNS, time and metadata servers, as `metadata` does here for the addresses that it lists",
    "OpenStack": "whether OpenStack lets a session go on when the rule that let it in is gone depends on its network"
    " driver; here, `on_change` decides that",
}


def report_inexact(rule: Allowed, mark: str, about: tuple[tuple[str, str], ...]) -> Finding:
    """Return the finding that says how a rule was widened or narrowed."""
    if mark == standins.WIDENED:
        message = f"the rule accepts more than in the other cloud: {describe_widened(rule)} instead of {rule.gaps}"
        return Finding("Widened", Severity.WARNING, message, about, repr((about, rule.content)))
    message = f"the rule is left out, as it can't be said exactly: {rule.gaps}"
    return Finding("Narrowed", Severity.HIGH, message, about, repr((about, rule.content)))


def report_unfiltered(interface_id: str) -> Finding:
    """Return the finding that an interface is left out because it is in no security group."""
    message = f"{interface_id} is left out: it is in no security group, so no rule is about its traffic"
    return Finding("Unfiltered", Severity.WARNING, message, subject(network_interface_id=interface_id))


def report_port_zero(rules: Sequence[str]) -> Finding:
    """Return the finding that port 0 is left out of these rules."""
    which = rules[0] if len(rules) == 1 else f"{rules[0]} and {pluralize(len(rules) - 1, 'more rule')}"
    return Finding("PortZero", Severity.INFO, f"port 0 is left out of {which}: no range of ports has it here")


def describe_widened(rule: Allowed) -> str:
    """Return in words what a widened rule accepts."""
    return " with ".join(
        ([f"all of {rule.protocol}"] if rule.lacks else []) + (["any address"] if rule.lacks_far else [])
    )


def widen(rule: Allowed) -> Iterator[Allowed]:
    """Yield the narrowest rules of the model that together accept all that this one does."""
    if rule.lacks:
        rule = replace(rule, ports=None, lacks="")
    if not rule.lacks_far:
        yield rule
        return
    for family in Family:
        if rule.family in (None, family):
            yield replace(rule, kind=BLOCK[family], far=EVERYWHERE[family], family=None, lacks_far="")


def refuse_faults(group: OtherGroup) -> None:
    """Note each value of the group's rules that can't be read, once.

    A permission with several far ends makes several rules, and all of them have its faults.
    """
    faults: dict[Problem, Item] = {fault: rule.item for rule in group.rules for fault in rule.faults}
    for fault, item in faults.items():
        item.problems.keep(fault)


def distinct(rules: Iterable[Allowed]) -> list[Allowed]:
    """Return each permission once: the first of those that are the same."""
    found: dict[tuple[object, ...], Allowed] = {}
    for rule in rules:
        found.setdefault(rule.content, rule)
    return list(found.values())


def give_ids(rules: Iterable[Allowed]) -> Iterator[Allowed]:
    """Yield the rules, each with an id of its own.

    It is the id of the other cloud, or one that is made from what the rule says.
    """
    taken: dict[str, int] = {}
    for rule in rules:
        name = rule.rule_id or content_id(rule)
        taken[name] = number = taken.get(name, 0) + 1
        yield replace(rule, rule_id=name if number == 1 else make_id(f"{name}-{number}"))


def content_id(rule: Allowed) -> str:
    """Return an id that says what the rule does, for clouds whose rules have none: `in-tcp-443-from-any-ipv4`."""
    ports = rule.ports or ()
    what = "-".join(map(str, (rule.protocol, *(ports[:1] if ports[:1] == ports[1:] else ports))))
    everywhere = {address: f"any-{family.value}" for family, address in EVERYWHERE.items()}
    far = everywhere.get(rule.far, rule.far).replace("/", "_").replace(":", "-")
    way = "in-{}-from-{}" if rule.direction is Direction.INGRESS else "out-{}-to-{}"
    return make_id(way.format(what, far))


def mark_rule_id(rule_id: str, mark: str) -> str:
    """Return the id of a rule that isn't exact; it says so wherever the rule decides."""
    return make_id(f"{rule_id}-{mark}")


def own_id(group_id: str) -> str:
    """Return the id of the group that stands for the members of a group that names itself.

    No group can name itself as remote here.
    """
    return make_id(group_id + standins.OWN_MEMBERS)


def names_itself(group: OtherGroup) -> bool:
    """Return whether a rule of the group names the group itself as remote."""
    return any(rule.kind == "group" and rule.far == group.group_id for rule in group.rules)


def own_members(group: OtherGroup) -> Fields:
    """Return the group that stands for the members of a group that names itself."""
    values = {
        "security_group_id": own_id(group.group_id),
        "vpc_id": group.vpc_id,
        "security_group_name": f"members of {group.group_id}",
        "inner_access_policy": "Drop",
        "rules": tuple(as_drop(group, family) for family in Family),
    }
    return group.item.fields(values, group.places)


def as_drop(group: OtherGroup, family: Family) -> Fields:
    """Return a rule that drops the egress of a family that no other rule accepts."""
    values = {
        "security_group_rule_id": standins.CLOSING[family], "type": "egress", "policy": "drop",
        "priority": CLOSED, "ip_protocol": "all", BLOCK[family]: EVERYWHERE[family],
    }  # fmt: skip
    return group.item.fields(values, {})


def as_rule(group: OtherGroup, rule: Allowed, more: Mapping[str, object]) -> Fields:
    """Return the native rule that accepts what the permission says; `more` has the fields that differ."""
    name, far = rule.kind, rule.far
    if rule.kind == "group":
        name, far = GROUP[rule.direction], own_id(far) if far == group.group_id else far
    values: dict[str, object] = {
        "security_group_rule_id": rule.rule_id, "type": rule.direction.value, "policy": "accept", "priority": ACCEPT,
        "ip_protocol": rule.protocol, name: far, **more,
    }  # fmt: skip
    if rule.protocol in PORTS:
        values["port_range"] = "{}/{}".format(*(rule.ports or (1, 65535)))
    if rule.family is not None:
        values[OWN_SIDE[rule.direction, rule.family]] = EVERYWHERE[rule.family]
    if rule.description:
        values["description"] = rule.description
    return Fields(rule.item.file, rule.item.pointer, values, {name: rule.path} if rule.path else {})
