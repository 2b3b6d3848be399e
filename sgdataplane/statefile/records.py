"""Fields -> records, each checked by itself.

Owns the reading of every kind but rules. Is given native names. Must not know formats, nor other records.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import count

from sgdataplane.model.ids import ID_EXPECTED, is_id
from sgdataplane.model.modes import UNTIL_EXPECTED, Mode, parse_until
from sgdataplane.model.state import (
    ConnectionTracking,
    Eni,
    EniType,
    GroupTrial,
    GroupType,
    Instance,
    NetworkType,
    NicType,
    PortList,
    PortListEntry,
    PrefixList,
    PrefixListEntry,
    SecurityGroup,
    SecurityGroupRule,
    Vpc,
)
from sgdataplane.net.values import Address, Family, PortRange, Prefix, Verdict
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile.fields import Fields, Reader, is_text
from sgdataplane.statefile.guesses import block_meant, ports_meant
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.rules import PORTS_EXPECTED, RuleReader, cidr_expected, family_parser, make_rule_id
from sgdataplane.statefile.sections import Draft, Drafts, GroupDraft, R, Sections

MAX_TAGS = 20
MAX_TAG_KEY = 128
# REF: the values that the cloud takes for an ENI's session timeouts, in seconds (semantics.md, section 4).
TIMEOUTS = {
    "tcp_established_timeout": (30, 60, 80, 100, 200, 300, 500, 700, 910),
    "tcp_closed_and_time_wait_timeout": tuple(range(3, 16)),
    "udp_timeout": (10, 20, 30, 60, 80, 100),
}
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
MAC_OUI = "00:16:3e"
NOT_UNICAST = tuple(
    Prefix.parse(block)
    for block in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255",
        "::/128", "::1/128", "fe80::/10", "ff00::/8",
    )
)  # fmt: skip


def read_drafts(sections: Sections, problems: Problems) -> Drafts:
    """Read all records; what is wrong in them goes to `problems`.

    A record with some wrong values may still come back, with stand-ins for these, so that it can be checked against the
    others.
    """
    drafts = Drafts(unknown_groups=frozenset(sections.unknown_groups))
    memory = sections.memory

    def odd() -> tuple[int, int]:
        return problems.count, len(drafts.findings)

    def read(kind: str, make: Callable[[Reader], R | None]) -> list[Draft[R]]:
        objects = sections.objects(kind, problems)
        found = [memory.record(fields, partial(_draft, make, fields, problems), odd) for fields in objects]
        return [draft for draft in found if draft is not None]

    drafts.vpcs = read("vpcs", read_vpc)
    drafts.prefix_lists = read("prefix_lists", read_prefix_list)
    drafts.port_lists = read("port_lists", read_port_list)
    for fields in sections.objects("security_groups", problems):
        group = memory.record(fields, partial(read_group, Reader(fields, problems), drafts.findings), odd)
        if group is not None:
            drafts.security_groups.append(group)
    drafts.instances = read("instances", read_instance)
    drafts.network_interfaces = read("network_interfaces", read_eni)
    return drafts


def _draft(kind: Callable[[Reader], R | None], fields: Fields, problems: Problems) -> Draft[R] | None:
    record = kind(Reader(fields, problems))
    return None if record is None else Draft(record, fields)


def read_vpc(reader: Reader) -> Vpc | None:
    """Read a VPC. Its blocks are a set, because the cloud's answer names the first IPv6 block twice."""
    vpc_id = reader.identifier("vpc_id", required=True)
    network_type = reader.choice("network_type", NetworkType.VPC, "InvalidNetworkType.ValueNotSupported")
    expected = "an IPv4 or IPv6 CIDR block without host bits"
    blocks = reader.parse_list("cidr_blocks", parse_strict, "InvalidCidrBlock.Malformed", expected)
    return Vpc(vpc_id, tuple(sorted(set(blocks))), network_type) if reader.is_clean else None


def parse_strict(text: str) -> Prefix:
    """Parse a CIDR block; ValueError if host bits are set."""
    return Prefix.parse(text, strict=True)


def read_prefix_list(reader: Reader) -> PrefixList | None:
    """Read a prefix list with its entries."""
    list_id = reader.identifier("prefix_list_id", required=True)
    family = read_family(reader)
    size, entries = read_entries(reader, "cidr", partial(read_prefix_entry, family=family))
    name, description = reader.text("prefix_list_name"), reader.text("description")
    return PrefixList(list_id, family, size, entries, name, description) if reader.is_clean else None


def read_family(reader: Reader) -> Family:
    """Read an address family; IPv4 stands in if it is absent or wrong."""
    if not reader.require("address_family", "IPv4 or IPv6"):
        return Family.IPV4
    return reader.choice("address_family", Family.IPV4, "InvalidAddressFamily.ValueNotSupported")


def read_prefix_entry(reader: Reader, family: Family) -> PrefixListEntry | None:
    """Read an entry of a prefix list.

    Host bits are an error here: the cloud's lists have none, so they are a typing mistake.
    """
    expected = f"an {cidr_expected(family)}, without host bits"
    reader.require("cidr", expected)
    parse = family_parser(family, strict=True)
    cidr = reader.parse_text("cidr", parse, "InvalidEntryCidr.Malformed", expected, block_meant(family))
    description = reader.text("description")
    return PrefixListEntry(cidr, description) if reader.is_clean and cidr is not None else None


def read_port_list(reader: Reader) -> PortList | None:
    """Read a port list with its entries."""
    list_id = reader.identifier("port_list_id", required=True)
    size, entries = read_entries(reader, "port_range", read_port_entry)
    name, description = reader.text("port_list_name"), reader.text("description")
    return PortList(list_id, size, entries, name, description) if reader.is_clean else None


def read_port_entry(reader: Reader) -> PortListEntry | None:
    """Read an entry of a port list."""
    reader.require("port_range", PORTS_EXPECTED)
    ports = reader.parse_text(
        "port_range", PortRange.parse, "InvalidEntryPortRange.Malformed", PORTS_EXPECTED, ports_meant
    )
    description = reader.text("description")
    return PortListEntry(ports, description) if reader.is_clean and ports is not None else None


def read_entries(reader: Reader, name: str, read: Callable[[Reader], R | None]) -> tuple[int, tuple[R, ...]]:
    """Read a list's size and its entries: at most that many, and none twice.

    `name` is the field that tells entries apart.
    """
    size = read_max_entries(reader)
    read_all = [read(Reader(child, reader.problems)) for child in reader.fields.children("entries")]
    entries = tuple(entry for entry in read_all if entry is not None)
    if reader.is_clean and len(entries) > size:
        message, expected = "the list has more entries than its max_entries", f"at most {size}"
        reader.refuse_at("entries", "LimitExceed.Entries", message, len(entries), expected)
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        said = str(getattr(entry, name))
        if said in seen and reader.is_clean:
            where, message = reader.fields.where("entries", index), "the list has this entry twice"
            reader.problems.add(where, "InvalidEntry.Duplicate", message, value=said, expected="each entry once")
        seen.add(said)
    return size, entries


def read_max_entries(reader: Reader) -> int:
    """Read a list's size."""
    expected = "a whole number from 1"
    if not reader.require("max_entries", expected):
        return 0
    value = reader.integer("max_entries", 0)
    if value < 1 and reader.is_clean:
        reader.refuse("max_entries", "InvalidMaxEntries.Malformed", "max_entries is out of range", expected)
    return value


def read_group(reader: Reader, findings: list[Finding]) -> GroupDraft | None:
    """Read a group with its rules; None if the group itself is wrong."""
    group_id = reader.identifier("security_group_id", required=True)
    vpc_id = reader.identifier("vpc_id", required=True)
    group_type = reader.choice("security_group_type", GroupType.NORMAL, "InvalidSecurityGroupType.ValueNotSupported")
    inner = read_inner_policy(reader, group_type)
    tags = read_tags(reader)
    name, description = reader.text("security_group_name"), reader.text("description")
    managed = reader.flag("service_managed")
    if not reader.is_clean:
        return None
    rules = read_rules(reader, group_id, findings)
    record = SecurityGroup(group_id, vpc_id, group_type, inner, _sort(rules), name, description, tags, managed)
    return GroupDraft(replace(record, trial=read_trial(reader, record, findings)), reader.fields, rules)


def _sort(rules: Iterable[Draft[SecurityGroupRule]]) -> tuple[SecurityGroupRule, ...]:
    return tuple(sorted((draft.record for draft in rules), key=lambda rule: rule.security_group_rule_id))


def read_trial(reader: Reader, group: SecurityGroup, findings: list[Finding]) -> GroupTrial | None:
    """Read what is on trial for a group; None if nothing is."""
    for fields in reader.fields.children("trial"):
        of_trial = Reader(fields, reader.problems)
        since, until = (read_time(of_trial, name) for name in ("since", "until"))
        inner = group.inner_access_policy
        if "inner_access_policy" in fields.values:
            inner = read_inner_policy(of_trial, group.security_group_type)
        rules = read_rules(of_trial, group.security_group_id, findings)
        return GroupTrial(since, until, inner, _sort(rules))
    return None


def read_time(reader: Reader, name: str) -> str:
    """Read a time that must be there; "" stands in if it is absent or wrong."""
    if not reader.require(name, UNTIL_EXPECTED):
        return ""
    return reader.parse_text(name, parse_until, "InvalidTime.Malformed", UNTIL_EXPECTED) or ""


def read_inner_policy(reader: Reader, group_type: GroupType) -> Verdict:
    """Read a group's inner policy.

    Basic groups default to Accept; advanced ones are always Drop (semantics.md, section 3).
    """
    default = Verdict.ACCEPT if group_type is GroupType.NORMAL else Verdict.DROP
    inner = reader.choice("inner_access_policy", default, "InvalidPolicy.Malformed")
    if group_type is GroupType.ENTERPRISE and inner is Verdict.ACCEPT:
        message = "an advanced group's inner access policy is always Drop"
        reader.refuse("inner_access_policy", "InvalidGroupParameter.OperationDenied", message, "Drop, or a basic group")
    return inner


def read_tags(reader: Reader) -> tuple[tuple[str, str], ...]:
    """Read a group's tags, sorted by key."""
    tags = reader.fields.values.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) and is_text(value) for value in tags.values()):
        reader.refuse_type("tags", "a mapping of text to text; put numbers in quotes")
        return ()
    if len(tags) > MAX_TAGS:
        reader.refuse("tags", "InvalidTagCount", "the group has too many tags", f"at most {MAX_TAGS}")
    if not all(0 < len(key) <= MAX_TAG_KEY and is_text(key) for key in tags):
        reader.refuse("tags", "InvalidTagKey.Malformed", "a tag's key is malformed", f"1 to {MAX_TAG_KEY} characters")
    return tuple(sorted(tags.items()))


def read_rules(reader: Reader, group_id: str, findings: list[Finding]) -> tuple[Draft[SecurityGroupRule], ...]:
    """Read every rule with an id: its own, or one that is made for it.

    If several rules without ids say the same, the first is kept, as the cloud does when a user adds a rule again.
    """
    found: dict[str, Draft[SecurityGroupRule]] = {}
    for fields in reader.fields.children("rules"):
        read = RuleReader(fields, group_id, reader.problems).read()
        if read is None:
            continue
        rule, odd = read
        is_made = not rule.security_group_rule_id
        if is_made:
            rule = replace(rule, security_group_rule_id=make_rule_id(group_id, rule))
        rule_id = rule.security_group_rule_id
        if rule_id not in found:
            found[rule_id] = Draft(rule, fields)
            findings.extend(odd)
        elif is_made:
            about = subject(security_group_id=group_id, security_group_rule_id=rule_id)
            message = "the group has this rule twice; it is kept once"
            findings.append(Finding("DuplicateRule", Severity.INFO, message, about))
        else:
            where, message = fields.where("security_group_rule_id"), "two rules of one group have the same id"
            expected = "an id of its own"
            reader.problems.add(where, "InvalidDocument.DuplicateId", message, value=rule_id, expected=expected)
    return tuple(found.values())


def read_instance(reader: Reader) -> Instance | None:
    """Read an instance."""
    instance_id = reader.identifier("instance_id", required=True)
    name = reader.text("instance_name")
    return Instance(instance_id, name) if reader.is_clean else None


def read_eni(reader: Reader) -> Eni | None:
    """Read an ENI with its sets sorted; its `mac_address` is "" if the input gives none."""
    eni_id = reader.identifier("network_interface_id", required=True)
    vpc_id = reader.identifier("vpc_id", required=True)
    instance_id = reader.identifier("instance_id")
    eni_type = reader.choice("type", EniType.PRIMARY, "InvalidType.ValueNotSupported")
    nic_type = reader.choice("nic_type", NicType.INTRANET, "InvalidNicType.ValueNotSupported")
    groups = read_group_ids(reader)
    if not reader.is_clean:
        return None
    mac = reader.parse_text("mac_address", parse_mac, "InvalidMacAddress.Malformed", "a unicast MAC, 00:16:3e:00:00:01")
    addresses = read_addresses(reader)
    ipv6 = reader.parse_list("ipv6_addresses", own_address(Family.IPV6), "InvalidIp.Address", "a unicast IPv6 address")
    prefixes = [read_delegated(reader, family) for family in Family]
    pairs = reader.parse_list("allowed_address_pairs", parse_strict, "InvalidAddressPair.Malformed", "a CIDR block")
    return Eni(
        eni_id, vpc_id, mac or "", addresses[:1] + tuple(sorted(addresses[1:])), groups, instance_id, eni_type,
        tuple(sorted(ipv6)), prefixes[0], prefixes[1], tuple(sorted(pairs)), nic_type, read_tracking(reader),
        reader.flag("member_only"), *read_mode(reader),
    )  # fmt: skip


def read_mode(reader: Reader) -> tuple[Mode, str]:
    """Read an ENI's mode and the end of its audit ("" if it has none).

    A time without mode audit means nothing, and is refused.
    """
    mode = reader.choice("mode", Mode.ENFORCE, "InvalidMode.ValueNotSupported")
    until = reader.parse_text("audit_until", parse_until, "InvalidAuditUntil.Malformed", UNTIL_EXPECTED)
    if until and mode is not Mode.AUDIT and reader.is_clean:
        message = "the ENI is in mode enforce, and is audited at no time"
        reader.refuse("audit_until", "InvalidAuditUntil.NotAudited", message, "mode: audit beside it")
    return mode, until or ""


def read_addresses(reader: Reader) -> tuple[Address, ...]:
    """Read an ENI's IPv4 addresses, the primary one first."""
    name, parse, expected = "private_ip_addresses", own_address(Family.IPV4), "a unicast IPv4 address"
    found = reader.parse_list(name, parse, "InvalidIp.Address", expected)
    if not found and reader.is_clean:
        message = "the ENI has no primary private IPv4 address"
        reader.refuse_at(name, "MissingParameter.PrivateIpAddresses", message, "", expected)
    return found


def own_address(family: Family) -> Callable[[str], Address]:
    """Return a parser of addresses that an ENI may have."""

    def parse(text: str) -> Address:
        address = Address.parse(text)
        if address.family is not family or not is_unicast(address):
            raise ValueError(f"{text!r} can't be an ENI's address")
        return address

    return parse


def is_unicast(address: Address) -> bool:
    """Return whether an ENI may have an address.

    It may not be unspecified, loopback, link-local, multicast or broadcast. The rest of class E may be used.
    """
    return not any(address in block for block in NOT_UNICAST)


def read_delegated(reader: Reader, family: Family) -> tuple[Prefix, ...]:
    """Read the blocks of a family that are delegated to an ENI."""
    name, parse = f"{family.value}_prefixes", family_parser(family, strict=True)
    expected = f"an {cidr_expected(family)}, without host bits"
    return tuple(sorted(reader.parse_list(name, parse, "InvalidPrefix.Malformed", expected, block_meant(family))))


def read_group_ids(reader: Reader) -> tuple[str, ...]:
    """Read an ENI's groups: at least one (SEED), and each once."""
    name = "security_group_ids"
    found = reader.parse_list(name, parse_id, "InvalidSecurityGroupId.Malformed", ID_EXPECTED)
    if not found and reader.is_clean:
        message = "the ENI belongs to no security group"
        reader.refuse_at(name, "MissingParameter.SecurityGroupIds", message, "", "a list of group ids")
    for index, group_id in enumerate(found):
        if group_id in found[:index]:
            code, message = "InvalidParameter.SecurityGroupIdRepeated", "the ENI names this group twice"
            reader.refuse(name, code, message, "each group once", index)
    return tuple(sorted(found))


def parse_id(text: str) -> str:
    """Return the text if it is an id; ValueError otherwise."""
    if not is_id(text):
        raise ValueError(f"{text!r} is not an id")
    return text


def read_tracking(reader: Reader) -> ConnectionTracking:
    """Read an ENI's session timeouts; the default for those that it doesn't have."""
    children = reader.fields.children("connection_tracking")
    if not children:
        return ConnectionTracking()
    inner = Reader(children[0], reader.problems)
    default = ConnectionTracking()
    values = {name: inner.integer(name, getattr(default, name)) for name in TIMEOUTS}
    for name, value in values.items():
        if value not in TIMEOUTS[name]:
            code = "InvalidParameter.EniConnectionTrackingConfiguration"
            expected = "one of " + " ".join(map(str, TIMEOUTS[name])) + " (seconds)"
            inner.refuse(name, code, f"{name} is not a value that the cloud takes", expected)
    return ConnectionTracking(**values)


def parse_mac(text: str) -> str:
    """Return a MAC in lower case with colons; ValueError for a group address or all zeros."""
    mac = text.strip().lower().replace("-", ":")
    if not MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise ValueError(f"{text!r} is not a unicast MAC address")
    return mac


def with_macs(enis: Iterable[Eni]) -> tuple[Eni, ...]:
    """Return every ENI with a MAC: its own, or one that is made for it and that no other ENI has.

    An ENI that is only a member of groups needs none.
    """
    enis = tuple(enis)
    taken = {eni.mac_address for eni in enis}
    made: list[Eni] = []
    for eni in enis:
        is_made = not (eni.mac_address or eni.member_only)
        mac = free_mac(eni.network_interface_id, taken) if is_made else eni.mac_address
        taken.add(mac)
        made.append(replace(eni, mac_address=mac) if is_made else eni)
    return tuple(made)


def free_mac(eni_id: str, taken: set[str]) -> str:
    """Return a MAC made from the ENI's id that isn't taken.

    The cloud's OUI has 2^24 addresses, so about 128 pairs of 65,536 ENIs have the same hash. Then the next one is
    tried.
    """
    for attempt in count():
        digest = hashlib.sha256(f"{eni_id}#{attempt}".encode()).hexdigest()
        mac = f"{MAC_OUI}:{digest[0:2]}:{digest[2:4]}:{digest[4:6]}"
        if mac not in taken:
            return mac
    raise AssertionError("unreachable")
