"""One permission of another cloud, in the words of no cloud, and how its protocol and ports are read.

Owns Allowed, and what a number is that a rule gives: a port, or an ICMP type or code. A value that can't be read is a
fault of the rule, and never stands for "all". Must not know how a cloud names these values, nor how the model says
what they mean (allowonly.py).
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
    """A value as an answer gives it, and where; None if it isn't there."""

    where: Where
    value: object

    def fault(self, code: str, what: str, expected: str) -> Problem:
        """That it can't be read. `what` it should be."""
        message = f"this is not {what}" if self.value is not None else f"{what} is missing"
        return Problem(self.where, code, message, "" if self.value is None else show(self.value), expected)


@dataclass(frozen=True, slots=True)
class Allowed:
    """One permission: accept `protocol` in a direction, from or to `far`.

    kind       what `far` is: "group", or the native name of a block or prefix list
    ports      first and last, both included; None for all
    family     the only family that it is about, if `far` is a group
    lacks      what it asks of protocol and ports and the model can't say; "" if it says all
    lacks_far  the same of who the far end is
    is_part    what the model can say of the far end is a part of it, and is said whatever the user has chosen
    faults     what of it can't be read
    """

    item: Item
    path: str
    direction: Direction
    protocol: str
    kind: str
    far: str
    ports: tuple[int, int] | None = None
    rule_id: str = ""
    description: str = ""
    family: Family | None = None
    lacks: str = ""
    lacks_far: str = ""
    is_part: bool = False
    faults: tuple[Problem, ...] = ()

    @property
    def content(self) -> tuple[object, ...]:
        """All that it means, by which two of them are the same."""
        return (self.direction, self.protocol, self.kind, self.far, self.ports, self.family, self.lacks, self.lacks_far,
                self.faults)  # fmt: skip

    @property
    def gaps(self) -> str:
        """All that the model can't say of it."""
        return " and ".join(filter(None, (self.lacks, self.lacks_far)))

    @property
    def where(self) -> Where:
        return self.item.where(self.path)

    def refused(self, *faults: Problem) -> Allowed:
        """The same, with more that can't be read."""
        return replace(self, faults=(*self.faults, *faults))


def with_ports(rule: Allowed, first: Given, last: Given) -> Allowed:
    """The rule with its range of ports, of which each end must be there."""
    code, expected = "InvalidParam.PortRange", f"a number from 0 to {MAX_PORT}"
    numbers = as_number(first.value), as_number(last.value)
    faults = [
        given.fault(code, "a port", expected)
        for given, number in zip((first, last), numbers, strict=True)
        if number is None or not 0 <= number <= MAX_PORT
    ]
    if faults:
        return rule.refused(*faults)
    start, end = int(numbers[0] or 0), int(numbers[1] or 0)
    if start > end:
        return rule.refused(last.fault(code, "the last port of a range", f"a number from {start} to {MAX_PORT}"))
    return replace(rule, ports=(start, end))


def with_icmp(rule: Allowed, kind: Given, code: Given) -> Allowed:
    """The rule with what it asks of ICMP's type and code, which the model doesn't have. -1 and None are any."""
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
        return rule.refused(*faults)
    return rule if numbers[0] == -1 else replace(rule, lacks=icmp_text(rule.protocol, numbers[0], numbers[1]))


def icmp_number(value: object) -> int | None:
    """A type or code, -1 for any; None if it can't be read."""
    number = -1 if value is None else as_number(value)
    return number if number is not None and -1 <= number <= MAX_ICMP else None


def icmp_text(protocol: str, kind: int | None, code: int | None) -> str:
    return f"{protocol} of type {kind}" + ("" if code in (None, -1) else f", code {code}")


def as_number(value: object) -> int | None:
    """A whole number, which may be written as text; None if it is something else."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,6}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_protocol(value: object) -> bool:
    """Whether it is a protocol's name or number."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return False
    try:
        Protocol.parse(str(value))
    except ValueError:
        return False
    return True


def read_direction(given: Given) -> tuple[Direction, tuple[Problem, ...]]:
    """The direction of a rule, and what is wrong with it."""
    found = DIRECTIONS.get(given.value.lower()) if isinstance(given.value, str) else None
    if found is not None:
        return found, ()
    fault = given.fault("InvalidDirection.ValueNotSupported", "a direction", " or ".join(DIRECTIONS))
    return Direction.INGRESS, (fault,)
