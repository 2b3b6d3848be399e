"""The keys of the native format: what each one means, which values it takes, and what holds without it.

They are those of state-format.md, section A.

Owns this table. The reader (native.py), the writer (dump_native.py), the JSON Schema (schema.py) and the advice for an
unknown key are made from it. A value's shape is written as JSON Schema, and is never narrower than what its reader
takes; the reader alone checks what depends on other values. Must not know how values are read.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, TypeAlias

from sgdataplane.model.ids import ID
from sgdataplane.model.modes import Mode
from sgdataplane.model.state import ConnectionTracking, EniType, GroupType, NetworkType, NicType
from sgdataplane.net.values import TCP, UDP, Direction, Verdict
from sgdataplane.statefile.records import MAX_TAG_KEY, MAX_TAGS, TIMEOUTS

Shape: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of an object."""

    means: str
    """What it means, in a sentence for people."""
    shape: Shape
    """Which values it takes, as JSON Schema."""
    also: tuple[str, ...] = ()
    """Words that people write when they mean this key."""
    is_required: bool = False
    """Whether an object must have it."""
    default: object = field(default=None, kw_only=True)
    """The value that holds without it; None if there is none."""


Keys: TypeAlias = Mapping[str, Key]


def nearest(word: str, known: Keys) -> str:
    """Return the key that an unknown word most likely means, by its meaning or its spelling; "" if none is near."""
    meant = {also: name for name, key in known.items() for also in key.also} | {name: name for name in known}
    near = get_close_matches(word.lower(), meant, n=1)
    return meant[near[0]] if near else ""


# shapes

TEXT: Shape = {"type": "string"}
FLAG: Shape = {"type": "boolean"}
AN_ID: Shape = {"type": "string", "pattern": f"^{ID.pattern}$"}
IPV4 = r"([0-9]{1,3}\.){3}[0-9]{1,3}"
IPV6 = r"[0-9A-Fa-f.]*:[0-9A-Fa-f:.]+"
LENGTH = "(/[0-9]{1,3})?"
IPV4_BLOCK: Shape = {"type": "string", "pattern": f"^{IPV4}{LENGTH}$"}
IPV6_BLOCK: Shape = {"type": "string", "pattern": f"^{IPV6}{LENGTH}$"}
BLOCK: Shape = {"type": "string", "pattern": f"^({IPV4}|{IPV6}){LENGTH}$"}
A_MAC: Shape = {"type": "string", "pattern": r"^\s*[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}\s*$"}
A_TIME: Shape = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"}
PORTS: Shape = {"type": "string", "pattern": "^([0-9]{1,5}/[0-9]{1,5}|-1/-1)$"}


def whole(least: int, most: int | None = None) -> Shape:
    """Return the shape of a whole number within these bounds."""
    return {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})


def words_of(names: Sequence[str], space: str = "") -> dict[str, Any]:
    """Return the shape of a choice among words, as an editor offers them.

    It also takes them in capitals, as the reader does.
    """
    capitals = "|".join("".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in name) for name in names)
    return {"anyOf": [{"enum": list(names)}, {"type": "string", "pattern": f"^{space}({capitals}){space}$"}]}


def one_of(kind: type[enum.Enum]) -> Shape:
    """Return the shape of a choice among an enum's values."""
    return words_of([str(member.value) for member in kind])


def list_of(element: Shape, **more: object) -> Shape:
    """Return the shape of a list of such elements; `more` restricts it further."""
    return {"type": "array", "items": element, **more}


def objects(name: str) -> Shape:
    """Return the shape of a list of objects that are defined under this name."""
    return list_of({"$ref": f"#/$defs/{name}"})


def protocol_of(names: Sequence[str], *numbers: Shape) -> Shape:
    """Return the shape of protocols by name or number; the reader takes blanks around them."""
    return {"anyOf": [*words_of(names, r"\s*")["anyOf"], *numbers]}


A_PROTOCOL = protocol_of(
    ("tcp", "udp", "icmp", "icmpv6", "gre", "all"),
    whole(0, 255),
    {"type": "string", "pattern": r"^\s*[0-9]{1,3}\s*$"},
)
HAS_PORTS = protocol_of(("tcp", "udp"), {"enum": [TCP, UDP]})


# Keys that several kinds of objects have.

DESCRIPTION = Key("Free text.", TEXT, ("comment", "note", "remark"))
NIC_TYPE = Key(
    "In the classic network only: which of an instance's two interfaces is meant.",
    one_of(NicType),
    default=NicType.INTRANET.value,
)
MAX_ENTRIES = Key(
    "How many entries the list may have. Each rule that uses the list counts as this many rules in quotas.",
    whole(1),
    ("size", "max", "limit"),
    is_required=True,
)


def an_id(of: str, *also: str, is_required: bool = True) -> Key:
    """Return the key of an id."""
    return Key(f"The id of {of}.", AN_ID, also, is_required)


# The keys of each section's objects, in the order in which they are written.

VPC: Keys = {
    "vpc_id": an_id("the VPC", "id"),
    "cidr_blocks": Key(
        "The VPC's IPv4 and IPv6 blocks, without host bits. Addresses of its ENIs must be within them.",
        list_of(BLOCK),
        ("cidr", "cidrs", "cidr_block", "ipv6_cidr_block", "subnets", "blocks"),
    ),
    "network_type": Key(
        "`classic` for the classic network, which has no blocks.",
        one_of(NetworkType),
        ("type", "kind"),
        default=NetworkType.VPC.value,
    ),
}
PREFIX_LIST: Keys = {
    "prefix_list_id": an_id("the prefix list", "id"),
    "prefix_list_name": Key("A name for people.", TEXT, ("name",)),
    "description": DESCRIPTION,
    "address_family": Key(
        "The family of all its blocks.",
        words_of(["IPv4", "IPv6"]),
        ("family", "ip_version", "version"),
        is_required=True,
    ),
    "max_entries": MAX_ENTRIES,
    "entries": Key("The blocks.", objects("prefix_list_entry"), ("cidrs", "cidr_blocks", "blocks", "prefixes")),
}
PREFIX_LIST_ENTRY: Keys = {
    "cidr": Key(
        "A block of the list's family, without host bits.", BLOCK, ("cidr_ip", "cidr_block", "prefix", "ip"), True
    ),
    "description": DESCRIPTION,
}
PORT_LIST: Keys = {
    "port_list_id": an_id("the port list", "id"),
    "port_list_name": Key("A name for people.", TEXT, ("name",)),
    "description": DESCRIPTION,
    "max_entries": MAX_ENTRIES,
    "entries": Key("The ranges of ports.", objects("port_list_entry"), ("ports", "port_ranges")),
}
PORT_LIST_ENTRY: Keys = {
    "port_range": Key("The first and the last port: 80/80, 8000/8100.", PORTS, ("port", "ports", "range"), True),
    "description": DESCRIPTION,
}
SECURITY_GROUP: Keys = {
    "security_group_id": an_id("the group", "id", "group_id"),
    "security_group_name": Key("A name for people.", TEXT, ("name", "group_name")),
    "description": DESCRIPTION,
    "security_group_type": Key(
        "`normal` is a basic group, `enterprise` an advanced one.",
        one_of(GroupType),
        ("type", "group_type", "kind"),
        default=GroupType.NORMAL.value,
    ),
    "vpc_id": an_id("the group's VPC", "vpc"),
    "inner_access_policy": Key(
        "Whether members of a basic group reach each other without a rule. An advanced group's is always Drop.",
        words_of(["Accept", "Drop"]),
        ("inner_access", "intra_group_policy"),
        default="Accept",
    ),
    "service_managed": Key("Whether a cloud service owns the group.", FLAG, ("managed",), default=False),
    "tags": Key(
        "Text by text. Put numbers in quotes.",
        {
            "type": "object",
            "maxProperties": MAX_TAGS,
            "propertyNames": {"minLength": 1, "maxLength": MAX_TAG_KEY},
            "additionalProperties": TEXT,
        },
        ("labels",),
    ),
    "rules": Key(
        "The group's rules, in any order: priority and verdict decide.",
        objects("rule"),
        ("permissions", "ingress", "egress", "security_group_rules"),
    ),
    "trial": Key(
        "What the group would have instead, on trial: packets are counted whose verdict that would change.",
        {"$ref": "#/$defs/trial"},
        ("proposed", "staged"),
    ),
}
TRIAL: Keys = {
    "since": Key(
        "When the trial began, which tells it from the one before. A time in UTC, as 2026-12-24T00:00:00Z.",
        A_TIME,
        ("begin", "start"),
        is_required=True,
    ),
    "until": Key("When the trial ends. A time in UTC.", A_TIME, ("end",), is_required=True),
    "inner_access_policy": Key(
        "As of the group. Without it, the group's own.", words_of(["Accept", "Drop"]), ("inner_access",)
    ),
    "rules": Key("All rules that the group would have.", objects("rule"), ("permissions", "ingress", "egress")),
}
RULE: Keys = {
    "security_group_rule_id": an_id(
        "the rule, unique in its group. Without it, one is made from what the rule says", "id", is_required=False
    ),
    "type": Key(
        "The direction, seen from the ENI.",
        one_of(Direction),
        ("direction", "way", "flow"),
        is_required=True,
    ),
    "policy": Key(
        "The verdict on what the rule matches.",
        one_of(Verdict),
        ("action", "verdict", "effect", "target"),
        default=Verdict.ACCEPT.value,
    ),
    "priority": Key(
        "1 is the strongest, 100 the weakest. Of equal priorities, drop wins.",
        {"type": "integer", "anyOf": [whole(1, 100), {"const": 110}]},
        ("weight", "order", "precedence"),
        default=1,
    ),
    "ip_protocol": Key(
        "tcp, udp, icmp, icmpv6, gre, all, or a protocol number.",
        A_PROTOCOL,
        ("protocol", "proto", "ip_proto"),
        is_required=True,
    ),
    "port_range": Key(
        "The first and the last destination port: 22/22, 8000/8100. tcp and udp need it, or a port_list_id; other"
        " protocols have none, or -1/-1.",
        PORTS,
        ("port", "ports", "dest_port_range", "destination_port", "from_port", "to_port"),
    ),
    "source_port_range": Key("The first and the last source port.", PORTS, ("source_port", "sport")),
    "port_list_id": an_id("a port list, in place of port_range", "port_list", is_required=False),
    "cidr_ip": Key(
        "The remote: an IPv4 block or address.",
        IPV4_BLOCK,
        ("cidr", "remote", "ip", "cidr_block", "source", "destination", "from", "to", "remote_ip_prefix"),
    ),
    "ipv6_cidr_ip": Key("The remote: an IPv6 block or address.", IPV6_BLOCK, ("ipv6_cidr", "ipv6_cidr_block")),
    "source_security_group_id": an_id(
        "the group that is the remote; in an egress rule, the same as dest_security_group_id",
        *("group", "source_group", "security_group", "security_group_id", "remote_group", "source_group_id"),
        is_required=False,
    ),
    "dest_security_group_id": an_id(
        "the group that is the remote of an egress rule", "dest_group", "dest_group_id", is_required=False
    ),
    "prefix_list_id": an_id("the prefix list that is the remote", "prefix_list", is_required=False),
    "dest_cidr_ip": Key("Of an ingress rule: only these IPv4 addresses of the ENI.", IPV4_BLOCK, ("dest_cidr",)),
    "source_cidr_ip": Key("Of an egress rule: only these IPv4 addresses of the ENI.", IPV4_BLOCK, ("source_cidr",)),
    "ipv6_dest_cidr_ip": Key("Of an ingress rule: only these IPv6 addresses of the ENI.", IPV6_BLOCK),
    "ipv6_source_cidr_ip": Key("Of an egress rule: only these IPv6 addresses of the ENI.", IPV6_BLOCK),
    "nic_type": NIC_TYPE,
    "description": DESCRIPTION,
}
INSTANCE: Keys = {
    "instance_id": an_id("the instance", "id"),
    "instance_name": Key("A name for people, which commands take, too.", TEXT, ("name", "hostname")),
}
NETWORK_INTERFACE: Keys = {
    "network_interface_id": an_id("the ENI", "id", "eni", "eni_id"),
    "instance_id": an_id("its instance", "instance", is_required=False),
    "type": Key(
        "An instance has one primary ENI.", one_of(EniType), ("eni_type", "kind"), default=EniType.PRIMARY.value
    ),
    "vpc_id": an_id("its VPC", "vpc"),
    "nic_type": NIC_TYPE,
    "mac_address": Key(
        "A unicast MAC. Without it, one is made from the id.", A_MAC, ("mac", "hwaddr", "lladdr", "ether")
    ),
    "private_ip_addresses": Key(
        "Its IPv4 addresses; the first is the primary one.",
        list_of({"type": "string", "pattern": f"^{IPV4}$"}, minItems=1),
        ("ip", "ips", "address", "addresses", "private_ip", "ipv4_addresses", "private_ip_address"),
        is_required=True,
    ),
    "ipv6_addresses": Key(
        "Its IPv6 addresses.",
        list_of({"type": "string", "pattern": f"^{IPV6}$"}),
        ("ipv6", "ip6", "ipv6_address"),
    ),
    "ipv4_prefixes": Key("Delegated IPv4 blocks, which count as its own addresses.", list_of(IPV4_BLOCK)),
    "ipv6_prefixes": Key("Delegated IPv6 blocks, likewise.", list_of(IPV6_BLOCK)),
    "security_group_ids": Key(
        "Its groups.",
        list_of(AN_ID, minItems=1, uniqueItems=True),
        ("groups", "security_groups", "security_group_id", "group_ids", "security_group"),
        is_required=True,
    ),
    "allowed_address_pairs": Key(
        "Further addresses or blocks that it may send from and receive for.", list_of(BLOCK), ("address_pairs",)
    ),
    "connection_tracking": Key(
        "Idle timeouts of its sessions.", {"$ref": "#/$defs/connection_tracking"}, ("timeouts", "conntrack")
    ),
    "member_only": Key(
        "Whether only this much is known of it, as it is on another host: a member of these groups and perhaps of more."
        " Such an ENI has no policy here. If it is attached here, nothing passes.",
        FLAG,
        ("far", "elsewhere", "remote"),
        default=False,
    ),
    "mode": Key(
        "`audit`: what its rules refuse passes, is counted and logged. All else is dropped as ever.",
        one_of(Mode),
        ("enforcement", "audit", "dry_run"),
        default=Mode.ENFORCE.value,
    ),
    "audit_until": Key(
        "In mode audit: from that time on the ENI is enforced. A time in UTC, as 2026-12-24T00:00:00Z.",
        A_TIME,
        ("until",),
    ),
}
CONNECTION_TRACKING: Keys = {
    each.name: Key(
        "Seconds without a packet after which a session ends.",
        {"enum": list(TIMEOUTS[each.name])},
        (each.name.removesuffix("_timeout"),),
        default=each.default,
    )
    for each in fields(ConnectionTracking)
}
KEYS: Mapping[str, Keys] = {
    "vpcs": VPC,
    "prefix_lists": PREFIX_LIST,
    "port_lists": PORT_LIST,
    "security_groups": SECURITY_GROUP,
    "instances": INSTANCE,
    "network_interfaces": NETWORK_INTERFACE,
}
# The keys of objects inside objects, by the section or key that the outer ones are under, and by their own key.
INNER_KEYS: Mapping[tuple[str, str], Keys] = {
    ("prefix_lists", "entries"): PREFIX_LIST_ENTRY,
    ("port_lists", "entries"): PORT_LIST_ENTRY,
    ("security_groups", "rules"): RULE,
    ("security_groups", "trial"): TRIAL,
    ("trial", "rules"): RULE,
    ("network_interfaces", "connection_tracking"): CONNECTION_TRACKING,
}
# The keys of all objects, by the names under which `objects` refers to them.
OBJECTS: Mapping[str, Keys] = {
    **{section.removesuffix("s"): keys for section, keys in KEYS.items()},
    "prefix_list_entry": PREFIX_LIST_ENTRY,
    "port_list_entry": PORT_LIST_ENTRY,
    "rule": RULE,
    "trial": TRIAL,
    "connection_tracking": CONNECTION_TRACKING,
}
REMOTES = ("cidr_ip", "ipv6_cidr_ip", "source_security_group_id", "dest_security_group_id", "prefix_list_id")
VERSION = 1
# Groups of other accounts. Only their ids are known, because rules name them as remotes; they match nothing.
UNKNOWN_GROUPS = "unknown_security_group_ids"
TOP_KEYS: Keys = {
    "version": Key("The version of this format.", {"const": VERSION}, default=VERSION),
    "vpcs": Key("VPCs and their blocks.", objects("vpc"), ("vpc", "networks")),
    "prefix_lists": Key("Named lists of blocks, which rules use as remotes.", objects("prefix_list"), ("prefixlists",)),
    "port_lists": Key("Named lists of ports, which rules use.", objects("port_list"), ("port_range_lists",)),
    "security_groups": Key("Groups with their rules.", objects("security_group"), ("groups", "sgs", "rules")),
    "instances": Key("Instances.", objects("instance"), ("machines", "servers", "hosts", "vms", "containers")),
    "network_interfaces": Key("ENIs.", objects("network_interface"), ("enis", "interfaces", "nics", "eni")),
    UNKNOWN_GROUPS: Key(
        "Groups of other accounts, which rules name as remotes. They match nothing.", list_of(TEXT), ("unknown_groups",)
    ),
}
