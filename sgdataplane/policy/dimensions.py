"""List what a rule can ask for in a packet: one value for each dimension, in the order in which they are asked.

Owns each dimension's name, its numbers, where a rule and a packet have it, and its words. There is no other list of
them. It is given resolved rules and packets. It must not know where the kernel has each (contract/sites.py), nor what
sets of numbers are for.

`decide()` and the proof don't read this list; tests/property/test_dimensions.py holds it to them. docs/cookbook.md says
what else a new field of rules needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sgdataplane.model.semantics import destination_port_matches, remote_matches, source_port_matches
from sgdataplane.model.state import CloudState, GroupRef, PrefixListRef, SecurityGroup, SecurityGroupRule
from sgdataplane.net.packet import Packet
from sgdataplane.net.ranges import Interval, Ranges
from sgdataplane.net.values import Family, PortRange, Protocol, format_address
from sgdataplane.policy.resolve import Permission


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """Numbers from 0 on, and how a range of them is written."""

    last: Callable[[Family], int]
    """Returns the largest number in a family."""
    exact: Callable[[Interval, Family], str]
    """Writes a range for programs."""
    short: Callable[[Interval, Family], str]
    """Writes a range for people."""


def _ends(interval: Interval, _: Family) -> str:
    return f"{interval[0]}-{interval[1]}"


def _numbers(interval: Interval, _: Family) -> str:
    first, last = interval
    return str(first) if first == last else f"{first}-{last}"


def _addresses(interval: Interval, family: Family) -> str:
    return "-".join(format_address(family.bits, end) for end in interval)


def _block(interval: Interval, family: Family) -> str:
    """Return an address or a CIDR block, if the range is one; else its two ends."""
    first, size = interval[0], interval[1] - interval[0] + 1
    if size == 1:
        return format_address(family.bits, first)
    is_block = not size & (size - 1) and not first & (size - 1)
    length = family.bits + 1 - size.bit_length()
    return f"{format_address(family.bits, first)}/{length}" if is_block else _addresses(interval, family)


def _protocols(interval: Interval, family: Family) -> str:
    first, last = interval
    if first == last:
        return str(Protocol(first))
    return "all" if interval == (0, 255) else _ends(interval, family)


def _is_of_both(_: CloudState, __: SecurityGroupRule, ___: Family) -> bool:
    return True


ADDRESSES = Domain(lambda family: family.last, _addresses, _block)
PROTOCOLS = Domain(lambda _: 255, _protocols, _protocols)
PORTS = Domain(lambda _: 65535, _ends, _numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Dimension:
    """One thing that a rule can ask for."""

    name: str
    title: str
    """Its name for people."""
    key: str
    """The name of a range of it in JSON."""
    phrase: str
    """How a range of it is written after another one, in short."""
    clause: str
    """The same in full."""
    domain: Domain
    """Its numbers, and how they are written."""
    of_packet: Callable[[Packet], int | None]
    """Returns the packet's number; None if the packet has none."""
    matches: Callable[[CloudState, SecurityGroup, SecurityGroupRule, Packet], bool]
    """Returns whether a packet is as a rule wants it, as `decide()` asks that."""
    asked: Callable[[CloudState, SecurityGroupRule], str]
    """Returns what a rule wants, in words."""
    is_of: Callable[[CloudState, SecurityGroupRule, Family], bool] = field(kw_only=True, default=_is_of_both)
    """Returns whether what a rule wants exists in a family. (An empty list exists in both.)"""

    def whole(self, family: Family) -> Ranges:
        """Return all its numbers."""
        return ((0, self.domain.last(family)),)

    def describe_value(self, packet: Packet) -> str:
        """Return the packet's value, in words."""
        value = self.of_packet(packet)
        return "none" if value is None else self.domain.short((value, value), packet.family)


@dataclass(frozen=True, slots=True, eq=False)
class Condition(Dimension):
    """A dimension whose numbers are in the rule."""

    of_rule: Callable[[Permission, Family], Ranges | None]
    """Returns the numbers that the rule wants in a family: None for any, () for none."""

    def of_either(self, rule: Permission) -> Ranges | None:
        """Return the numbers that the rule is about in a family; those that aren't addresses are the same in both."""
        return self.of_rule(rule, Family.IPV4) or self.of_rule(rule, Family.IPV6)


def _of_protocol(rule: Permission, family: Family) -> Ranges | None:
    if rule.protocol.is_all:
        return None
    number = rule.protocol.number
    return ((number, number),) if rule.protocol.exists_in(family) else ()


def _of_narrowing(rule: Permission, family: Family) -> Ranges | None:
    if rule.narrowing is None:
        return None
    return ((rule.narrowing.first, rule.narrowing.last),) if rule.narrowing.family is family else ()


def _describe_ports(state: CloudState, rule: SecurityGroupRule) -> str:
    if not rule.port_list_id:
        return _range(rule.port_range)
    return f"{rule.port_list_id} ({_count(len(state.port_list[rule.port_list_id].entries), 'entry', 'entries')})"


def _range(ports: PortRange | None) -> str:
    return "any" if ports is None else _numbers((ports.first, ports.last), Family.IPV4)


def _describe_remote(state: CloudState, rule: SecurityGroupRule) -> str:
    """Return a remote in words. A prefix list or group is named with its size, as an empty one matches nothing."""
    match rule.remote:
        case GroupRef(group_id):
            members = [eni for eni in state.enis_of_group.get(group_id, ()) if eni.is_member]
            return f"{group_id} ({_count(len(members), 'ENI')})"
        case PrefixListRef(prefix_list_id):
            return f"{prefix_list_id} ({_count(len(state.prefix_list[prefix_list_id].entries), 'entry', 'entries')})"
        case prefix:
            return str(prefix)


def _is_remote_of(state: CloudState, rule: SecurityGroupRule, family: Family) -> bool:
    """Return whether a rule's remote can have addresses of a family."""
    match rule.remote:
        case GroupRef():
            return True
        case PrefixListRef(prefix_list_id):
            return state.prefix_list[prefix_list_id].address_family is family
        case prefix:
            return prefix.family is family


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"


PROTOCOL = Condition(
    "protocol", "protocol", "protocol", "{}", "{}", PROTOCOLS,
    of_rule=_of_protocol,
    of_packet=lambda packet: packet.protocol,
    matches=lambda _, __, rule, packet: rule.ip_protocol.matches(packet.protocol, packet.family),
    asked=lambda _, rule: str(rule.ip_protocol),
    is_of=lambda _, rule, family: rule.ip_protocol.exists_in(family),
)  # fmt: skip
LOCAL = Condition(
    "local", "local address", "local", "at {}", "at {}", ADDRESSES,
    of_rule=_of_narrowing,
    of_packet=lambda packet: packet.local.value,
    matches=lambda _, __, rule, packet: rule.narrowing is None or packet.local in rule.narrowing,
    asked=lambda _, rule: str(rule.narrowing),
    is_of=lambda _, rule, family: rule.narrowing is None or rule.narrowing.family is family,
)  # fmt: skip
SOURCE_PORT = Condition(
    "source_port", "source port", "source_ports", "from {}", "from source ports {}", PORTS,
    of_rule=lambda rule, _: rule.source_ports,
    of_packet=lambda packet: packet.source_port,
    matches=lambda _, __, rule, packet: source_port_matches(rule, packet),
    asked=lambda _, rule: _range(rule.source_port_range),
)  # fmt: skip
PORT = Condition(
    "port", "port", "ports", "{}", "{}", PORTS,
    of_rule=lambda rule, _: rule.ports,
    of_packet=lambda packet: packet.port,
    matches=lambda state, _, rule, packet: destination_port_matches(state, rule, packet),
    asked=_describe_ports,
)  # fmt: skip
# Its numbers are those of members and lists, so they need a state: analyse/order.py, compiler/sides.py.
REMOTE = Dimension(
    "remote", "remote", "remote", "{}", "{}", ADDRESSES,
    of_packet=lambda packet: packet.remote.value,
    matches=lambda state, group, rule, packet: remote_matches(state, group, rule, packet.remote),
    asked=_describe_remote,
    is_of=_is_remote_of,
)  # fmt: skip

# All but the remote. The protocol comes first, so a packet is asked for a port only if it is known to have one.
CONDITIONS = (PROTOCOL, LOCAL, SOURCE_PORT, PORT)
DIMENSIONS = (REMOTE, *CONDITIONS)
FURTHER = tuple(each for each in CONDITIONS if each not in (PROTOCOL, LOCAL, PORT))  # only few rules ask for these
Conditions = tuple[Ranges | None, ...]  # what one rule asks for in one family, in the order of CONDITIONS


def conditions(rule: Permission, family: Family) -> Conditions:
    """Return what a rule asks for besides its remote; one part is empty if the rule can't match in that family."""
    return tuple([each.of_rule(rule, family) for each in CONDITIONS])
