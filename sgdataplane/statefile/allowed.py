"""One permission of another cloud, in words of no particular cloud, and how its protocol and ports are read.

Owns Allowed, and how to tell what a number in a rule is: a port, or an ICMP type or code. A value that can't be read is
a fault of the rule, and never stands for "all". Must not know how a cloud names these values, nor how the model
expresses them (allowonly.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sgdataplane.errors import Problem, Where
from sgdataplane.net.values import Direction, Family, Protocol
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.problems import show

EVERYWHERE = {Family.IPV4: "0.0.0.0/0", Family.IPV6: "::/0"}
BLOCK = {Family.IPV4: "cidr_ip", Family.IPV6: "ipv6_cidr_ip"}
LIST = "prefix_list_id"
PORTS = ("tcp", "6", "udp", "17")  # the protocols whose ports the model knows
MAX_PORT, MAX_ICMP = 65535, 255
DIRECTIONS = {each.value: each for each in Direction}


@dataclass(frozen=True, slots=True)
class Given:
    """A value as an answer gives it, and where it stands."""

    where: Where
    value: object
    """None if it isn't there."""

    def fault(self, code: str, what: str, expected: str) -> Problem:
        """Return the problem that the value can't be read; `what` says what it should be."""
        message = f"this is not {what}" if self.value is not None else f"{what} is missing"
        return Problem(self.where, code, message, "" if self.value is None else show(self.value), expected)


@dataclass(frozen=True, slots=True)
class Allowed:
    """One permission of another cloud: accept a protocol in a direction, from or to a far end."""

    item: Item
    """The mapping of the answer that has it."""
    path: str
    """Where the far end stands in the item."""
    direction: Direction
    protocol: str
    """A name or a number, as the native format has it; "all" for every protocol."""
    kind: str
    """What `far` is: "group", or the native name of a block or a prefix list."""
    far: str
    """The id of a group or prefix list, or a CIDR block."""
    ports: tuple[int, int] | None = None
    """The first and the last port, both included; None for all."""
    rule_id: str = ""
    """The other cloud's id of the rule; "" if it has none."""
    description: str = ""
    family: Family | None = None
    """The only family that it is about, if `far` is a group; None for both."""
    lacks: str = ""
    """What it requires of protocol and ports and the model can't express; "" if there is nothing."""
    lacks_far: str = ""
    """What it requires of the far end and the model can't express; "" if there is nothing."""
    is_part: bool = False
    """The model can express a part of the far end.

    That part becomes a rule, whatever the user has chosen for the rest.
    """
    faults: tuple[Problem, ...] = ()
    """Its values that can't be read."""

    @property
    def content(self) -> tuple[object, ...]:
        """All that it means; two permissions are the same if this is equal."""
        return (self.direction, self.protocol, self.kind, self.far, self.ports, self.family, self.lacks, self.lacks_far,
                self.faults)  # fmt: skip

    @property
    def gaps(self) -> str:
        """Everything in it that the model can't express, in words."""
        return " and ".join(filter(None, (self.lacks, self.lacks_far)))

    @property
    def where(self) -> Where:
        """The place of the far end in the input."""
        return self.item.where(self.path)

    def add_faults(self, *faults: Problem) -> Allowed:
        """Return the permission with more faults."""
        return replace(self, faults=(*self.faults, *faults))


def with_ports(rule: Allowed, first: Given, last: Given) -> Allowed:
    """Return the rule with its range of ports; a missing end of the range is a fault."""
    code, expected = "InvalidParam.PortRange", f"a number from 0 to {MAX_PORT}"
    numbers = as_number(first.value), as_number(last.value)
    faults = [
        given.fault(code, "a port", expected)
        for given, number in zip((first, last), numbers, strict=True)
        if number is None or not 0 <= number <= MAX_PORT
    ]
    if faults:
        return rule.add_faults(*faults)
    start, end = int(numbers[0] or 0), int(numbers[1] or 0)
    if start > end:
        return rule.add_faults(last.fault(code, "the last port of a range", f"a number from {start} to {MAX_PORT}"))
    return replace(rule, ports=(start, end))


def with_icmp(rule: Allowed, kind: Given, code: Given) -> Allowed:
    """Return the rule with what it requires of ICMP's type and code, which the model can't express.

    -1 and None mean any.
    """
    numbers = icmp_number(kind.value), icmp_number(code.value)
    expected = f"a number from 0 to {MAX_ICMP}, or -1 for any"
    faults = [
        given.fault("InvalidParam.IcmpType", f"an ICMP {name}", expected)
        for given, number, name in zip((kind, code), numbers, ("type", "code"), strict=True)
        if number is None
    ]
    if numbers[0] == -1 and numbers[1] not in (-1, None):
        faults.append(code.fault("InvalidParam.IcmpType", "the code of any ICMP type", "a type, or -1 for any code"))
    if faults:
        return rule.add_faults(*faults)
    return rule if numbers[0] == -1 else replace(rule, lacks=icmp_text(rule.protocol, numbers[0], numbers[1]))


def icmp_number(value: object) -> int | None:
    """Return an ICMP type or code, -1 for any; None if it can't be read."""
    number = -1 if value is None else as_number(value)
    return number if number is not None and -1 <= number <= MAX_ICMP else None


def icmp_text(protocol: str, kind: int | None, code: int | None) -> str:
    """Return in words what a rule requires of ICMP; a code of None or -1 is left out."""
    return f"{protocol} of type {kind}" + ("" if code in (None, -1) else f", code {code}")


def as_number(value: object) -> int | None:
    """Return a whole number, which may be written as text; None if it is something else."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,6}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_protocol(value: object) -> bool:
    """Return whether a value is a protocol's name or number."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return False
    try:
        Protocol.parse(str(value))
    except ValueError:
        return False
    return True


def read_direction(given: Given) -> tuple[Direction, tuple[Problem, ...]]:
    """Return the direction of a rule, and what is wrong with it.

    If it can't be read, ingress stands in for it.
    """
    found = DIRECTIONS.get(given.value.lower()) if isinstance(given.value, str) else None
    if found is not None:
        return found, ()
    fault = given.fault("InvalidDirection.ValueNotSupported", "a direction", " or ".join(DIRECTIONS))
    return Direction.INGRESS, (fault,)
