"""One rule of a group: Fields -> SecurityGroupRule, with every check that needs the rule alone; and back.

Owns the grammar of rules (semantics.md, section 2), their native names, and the ids of rules that have none. Is given
native names. Must not know formats, nor other records: `validate` checks references.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sgdataplane.model.state import GroupRef, NicType, PrefixListRef, Remote, SecurityGroupRule
from sgdataplane.net.values import ALL, Direction, Family, PortRange, Prefix, Protocol, Verdict
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.fields import Fields, Reader
from sgdataplane.statefile.guesses import block_meant, ports_meant
from sgdataplane.statefile.problems import Problems

NO_PORTS = "-1/-1"
PORTS_EXPECTED = "from/to with 1 <= from <= to <= 65535"
# Default groups made before 27 May 2020 have it in a rule (semantics.md, section 6); no other rule can.
LEGACY_PRIORITY = 110
EVERYONE_IPV4 = Prefix.parse("0.0.0.0/0")


@dataclass(frozen=True, slots=True)
class CidrField:
    """A field that holds a CIDR block of one family."""

    name: str
    family: Family
    code: str
    """The cloud's code for a malformed block."""


# The fields for the ENI's own side, by direction. Those of the other direction are a mistake.
NARROWING = {
    Direction.INGRESS: (
        CidrField("dest_cidr_ip", Family.IPV4, "InvalidDestCidrIp.Malformed"),
        CidrField("ipv6_dest_cidr_ip", Family.IPV6, "InvalidParam.Ipv6DestCidrIp"),
    ),
    Direction.EGRESS: (
        CidrField("source_cidr_ip", Family.IPV4, "InvalidSourceCidrIp.Malformed"),
        CidrField("ipv6_source_cidr_ip", Family.IPV6, "InvalidParam.Ipv6SourceCidrIp"),
    ),
}
# The field for the same block of the other family.
OTHER_FAMILY = {name: f"ipv6_{name}" for name in ("cidr_ip", "dest_cidr_ip", "source_cidr_ip")}
OTHER_FAMILY |= {other: name for name, other in OTHER_FAMILY.items()}
CIDR_NAMES = {Family.IPV4: "cidr_ip", Family.IPV6: "ipv6_cidr_ip"}
GROUP_NAMES = {Direction.INGRESS: "source_security_group_id", Direction.EGRESS: "dest_security_group_id"}
REMOTE_SIDE = {Direction.INGRESS: "Source", Direction.EGRESS: "Dest"}
OWN_SIDE = {Direction.INGRESS: "Dest", Direction.EGRESS: "Source"}


class RuleReader(Reader):
    """Reads one rule of a group.

    Attributes:
        notes: findings as (code, severity, message); they are made once the rule's id is known.
    """

    def __init__(self, fields: Fields, group_id: str, problems: Problems) -> None:
        super().__init__(fields, problems)
        self.group_id = group_id
        self.notes: list[tuple[str, Severity, str]] = []

    def read(self) -> tuple[SecurityGroupRule, tuple[Finding, ...]] | None:
        """Return the rule and what was odd about it; None if too little is known to check it against other records."""
        given_id = self.identifier("security_group_rule_id")
        if not self.require("type", "ingress or egress"):
            return None
        direction = self.choice("type", Direction.INGRESS, "InvalidDirection.ValueNotSupported")
        policy = self.choice("policy", Verdict.ACCEPT, "InvalidPolicy.Malformed")
        protocol = self.protocol()
        port_range, source_port_range, port_list_id = self.ports(protocol) if protocol else (None, None, "")
        remote = self.remote(direction)
        narrowing = self.narrowing(direction, remote)
        priority = self.priority(direction, policy, remote)
        nic_type = self.choice("nic_type", NicType.INTRANET, "InvalidNicType.ValueNotSupported")
        description = self.text("description")
        if remote is None:
            return None
        rule = SecurityGroupRule(
            given_id, direction, protocol or ALL, remote, port_range, policy, priority, source_port_range, port_list_id,
            narrowing, nic_type, description,
        )  # fmt: skip
        return rule, tuple(self.finding(rule, *note) for note in self.notes)

    def finding(self, rule: SecurityGroupRule, code: str, severity: Severity, message: str) -> Finding:
        """Return a finding about the rule, under its own id or the one that is made for it."""
        rule_id = rule.security_group_rule_id or make_rule_id(self.group_id, rule)
        about = subject(security_group_id=self.group_id, security_group_rule_id=rule_id)
        return Finding(code, severity, message, about)

    def note(self, code: str, severity: Severity, message: str) -> None:
        """Note something odd, which becomes a finding."""
        self.notes.append((code, severity, message))

    def protocol(self) -> Protocol | None:
        """Read the protocol, which may be a number; None if it is absent or wrong."""
        expected = "tcp, udp, icmp, icmpv6, gre, all or a number 0..255"
        if not self.require("ip_protocol", expected):
            return None
        value = self.fields.values["ip_protocol"]
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        try:
            if not isinstance(text, str):
                raise ValueError
            return Protocol.parse(text)
        except ValueError:
            code = "InvalidIpProtocol.ValueNotSupported"
            self.refuse("ip_protocol", code, "ip_protocol is not a known protocol", expected)
            return None

    def ports(self, protocol: Protocol) -> tuple[PortRange | None, PortRange | None, str]:
        """Read destination ports, source ports and port list."""
        port_list_id = self.identifier("port_list_id")
        source = self.port_range("source_port_range", "InvalidSourcePortRange.Malformed", protocol)
        if not port_list_id:
            if protocol.has_ports and not (self.has("port_list_id") or self.has("port_range")):
                message = f"a {protocol} rule needs port_range or port_list_id"
                self.refuse_at("", "InvalidPortRange.Malformed", message, "", PORTS_EXPECTED)
            return self.port_range("port_range", "InvalidParam.PortRange", protocol), source, ""
        if not protocol.has_ports:
            code = "InvalidParam.ProtocolNotSupportPortRangeList"
            self.refuse("port_list_id", code, f"{protocol} has no ports, so it can't use a port list", "tcp or udp")
        if self.has("port_range"):
            message = "a rule can't have both port_range and port_list_id"
            self.refuse("port_range", "InvalidParam.PortRange", message, "one of them")
        return None, source, port_list_id

    def port_range(self, name: str, code: str, protocol: Protocol) -> PortRange | None:
        """Read a range of ports: TCP and UDP have ports, and only they (semantics.md, section 2)."""
        if protocol.has_ports:
            return self.parse_text(name, PortRange.parse, code, PORTS_EXPECTED, ports_meant)
        if self.has(name) and self.text(name, NO_PORTS) != NO_PORTS:
            self.refuse(name, code, f"{protocol} has no ports", NO_PORTS)
        return None

    def priority(self, direction: Direction, policy: Verdict, remote: Remote | None) -> int:
        """Read the priority; 1 if it is absent or wrong.

        Only the rule of a default group may have LEGACY_PRIORITY.
        """
        value = self.integer("priority", 1)
        if 1 <= value <= 100:
            return value
        is_default_rule = (direction, policy, remote) == (Direction.INGRESS, Verdict.ACCEPT, EVERYONE_IPV4)
        if value == LEGACY_PRIORITY and is_default_rule:
            return value
        message = "priority is out of range"
        self.refuse("priority", "InvalidPriority.ValueNotSupported", message, "1..100, 1 is the strongest")
        return 1

    def remote(self, direction: Direction) -> Remote | None:
        """Return the strongest of the remotes given (CIDR, then group, then prefix list); note the others."""
        side = REMOTE_SIDE[direction]
        both = [name for name in ("cidr_ip", "ipv6_cidr_ip") if self.has(name)]
        if len(both) == 2:
            message = "a rule can't have both cidr_ip and ipv6_cidr_ip"
            self.refuse("ipv6_cidr_ip", f"InvalidParam.{side}Ip", message, "one of them; two rules for both")
        before = self.problems.count
        found = list(self.remotes(direction))
        for name, _ in found[1:]:
            if name not in both:
                self.note("IgnoredRemote", Severity.HIGH, f"{name} is ignored, as {found[0][0]} wins over it")
        if found:
            return found[0][1]
        if self.problems.count == before:
            expected = "one of cidr_ip, ipv6_cidr_ip, a group or prefix_list_id"
            self.refuse_at("", f"MissingParameter.{side}", "the rule has no remote", "", expected)
        return None

    def remotes(self, direction: Direction) -> Iterator[tuple[str, Remote]]:
        """Yield every remote that the rule gives, strongest first."""
        side = REMOTE_SIDE[direction]
        fields = (
            CidrField("cidr_ip", Family.IPV4, f"Invalid{side}CidrIp.Malformed"),
            CidrField("ipv6_cidr_ip", Family.IPV6, f"InvalidParam.Ipv6{side}CidrIp"),
        )
        for cidr in fields:
            prefix = self.cidr(cidr)
            if prefix is not None:
                yield cidr.name, prefix
        group = self.group(direction)
        if group is not None:
            yield group
        prefix_list = self.identifier("prefix_list_id")
        if prefix_list:
            yield "prefix_list_id", PrefixListRef(prefix_list)

    def group(self, direction: Direction) -> tuple[str, GroupRef] | None:
        """Read the group that is the remote.

        On egress, `source_security_group_id` names the remote, too: Terraform's provider writes it so.
        """
        source = self.identifier("source_security_group_id")
        dest = self.identifier("dest_security_group_id")
        if direction is Direction.INGRESS and self.has("dest_security_group_id"):
            self.refuse_misplaced("dest_security_group_id", direction, "source_security_group_id")
        elif source and dest and source != dest:
            message = "source_security_group_id and dest_security_group_id name different groups"
            self.refuse("source_security_group_id", "InvalidParameter.Conflict", message, "one of them")
        elif dest:
            return "dest_security_group_id", GroupRef(dest)
        return ("source_security_group_id", GroupRef(source)) if source else None

    def refuse_misplaced(self, name: str, direction: Direction, instead: str) -> None:
        """Refuse a field that means nothing in this direction."""
        message = f"{name} means nothing in an {direction.value} rule"
        self.refuse(name, "InvalidDocument.MisplacedKey", message, instead)

    def cidr(self, field: CidrField) -> Prefix | None:
        """Read a block with its host bits masked; note that if there were any."""
        expected, guess = cidr_expected(field.family), block_meant(field.family, OTHER_FAMILY[field.name])
        prefix = self.parse_text(field.name, family_parser(field.family), field.code, expected, guess)
        if prefix is None:
            return None
        text = self.text(field.name)
        if has_host_bits(text):
            self.note("MaskedHostBits", Severity.WARNING, f"{field.name} {text} has host bits; it is read as {prefix}")
        return prefix

    def narrowing(self, direction: Direction, remote: Remote | None) -> Prefix | None:
        """Read the block of the ENI's own side, which is of the remote's family if the remote has one."""
        for field, own in zip(NARROWING[direction.other], NARROWING[direction], strict=True):
            if self.has(field.name):
                instead = f"{CIDR_NAMES[field.family]} for the other end, or {own.name} for the ENI's own addresses"
                self.refuse_misplaced(field.name, direction, instead)
        given = [field for field in NARROWING[direction] if self.has(field.name)]
        if len(given) == 2:
            code = f"InvalidParam.{OWN_SIDE[direction]}Ip"
            message = f"a rule can't have both {given[0].name} and {given[1].name}"
            self.refuse(given[1].name, code, message, "one of them; two rules for both")
        prefix = self.cidr(given[0]) if given else None
        if prefix is not None and isinstance(remote, Prefix) and remote.family is not prefix.family:
            message = f"{given[0].name} and the remote are of different families"
            expected = f"an {cidr_expected(remote.family)}"
            self.refuse(given[0].name, "InvalidParameter.Conflict", message, expected)
        return prefix


def family_parser(family: Family, *, strict: bool = False) -> Callable[[str], Prefix]:
    """Return a parser of CIDR blocks of one family."""

    def parse(text: str) -> Prefix:
        prefix = Prefix.parse(text, strict=strict)
        if prefix.family is not family:
            raise ValueError(f"{text!r} is not of family {family.value}")
        return prefix

    return parse


def cidr_expected(family: Family) -> str:
    """Return what errors say that a block of the family should be."""
    return "IPv4 CIDR block such as 192.0.2.0/24" if family is Family.IPV4 else "IPv6 CIDR block such as 2001:db8::/32"


def has_host_bits(text: str) -> bool:
    """Return whether a well-formed CIDR block has bits set outside its mask."""
    try:
        Prefix.parse(text, strict=True)
    except ValueError:
        return True
    return False


def make_rule_id(group_id: str, rule: SecurityGroupRule) -> str:
    """Return a stable id, made from the group and all that the rule says except its description."""
    said = (
        group_id, rule.direction.value, rule.policy.value, rule.priority, rule.ip_protocol, rule.port_range,
        rule.source_port_range, rule.port_list_id, remote_text(rule.remote), rule.narrowing, rule.nic_type.value,
    )  # fmt: skip
    digest = hashlib.sha256("|".join(str(part) for part in said).encode()).hexdigest()
    return f"sgr-{digest[:16]}"


def write_requirements(rule: SecurityGroupRule) -> Iterator[tuple[str, str]]:
    """Yield the native name and text of what a rule requires; the text is "" where it requires nothing."""
    yield "ip_protocol", str(rule.ip_protocol)
    yield "port_range", "" if rule.port_list_id else str(rule.port_range or NO_PORTS)
    yield "port_list_id", rule.port_list_id
    yield "source_port_range", str(rule.source_port_range or "")
    yield remote_name(rule), remote_text(rule.remote)
    for field in NARROWING[rule.direction]:
        if rule.narrowing is not None and rule.narrowing.family is field.family:
            yield field.name, str(rule.narrowing)


def remote_name(rule: SecurityGroupRule) -> str:
    """Return the native name of the field that has the rule's remote."""
    match rule.remote:
        case GroupRef():
            return GROUP_NAMES[rule.direction]
        case PrefixListRef():
            return "prefix_list_id"
        case prefix:
            return CIDR_NAMES[prefix.family]


def remote_text(remote: Remote) -> str:
    """Return the remote as the native format writes it."""
    if isinstance(remote, GroupRef):
        return remote.security_group_id
    return remote.prefix_list_id if isinstance(remote, PrefixListRef) else str(remote)
