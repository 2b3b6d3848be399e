"""Addresses, prefixes, port ranges and protocols as small frozen values in normal form.

Owns their parsing and printing. Is given text. Must not know rules, clouds or nftables.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

# The names of interfaces that may carry an ENI, in rules, files and logs. The kernel accepts nearly any bytes.
IFNAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")  # IFNAMSIZ is 16 with the final zero


class Family(enum.Enum):
    """An address family. What differs between the two is data here, so no code is written twice."""

    __hash__ = object.__hash__  # members are compared by identity; Enum's own is ten times slower

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @property
    def bits(self) -> int:
        """The length of an address in bits."""
        return 32 if self is Family.IPV4 else 128

    @property
    def last(self) -> int:
        """The highest address, as an integer."""
        return (1 << self.bits) - 1


class Direction(enum.Enum):
    """Towards the ENI (ingress) or from it (egress), whatever hook sees the packet."""

    __hash__ = object.__hash__  # members are compared by identity; Enum's own is ten times slower

    INGRESS = "ingress"
    EGRESS = "egress"

    @property
    def other(self) -> Direction:
        """The opposite direction."""
        return Direction.EGRESS if self is Direction.INGRESS else Direction.INGRESS


class Verdict(enum.Enum):
    """What happens to a packet."""

    __hash__ = object.__hash__  # members are compared by identity; Enum's own is ten times slower

    ACCEPT = "accept"
    DROP = "drop"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """One IP address as an integer."""

    family_bits: int
    """The length of the family's addresses: 32 or 128."""
    value: int

    @property
    def family(self) -> Family:
        """The family that an address of this length belongs to."""
        return Family.IPV4 if self.family_bits == 32 else Family.IPV6

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse dotted or colon text.

        Raises:
            ValueError: the text is neither, or has a scope (fe80::1%eth0).
        """
        if "%" in text:
            raise ValueError(f"{text!r} carries a scope")
        ip = ipaddress.ip_address(text)
        return cls(ip.max_prefixlen, int(ip))

    def __str__(self) -> str:
        return format_address(self.family_bits, self.value)


@lru_cache(maxsize=65536)
def format_address(bits: int, value: int) -> str:
    """Return the text of an address given as an integer (RFC 5952 for IPv6)."""
    return str(ipaddress.IPv4Address(value) if bits == 32 else ipaddress.IPv6Address(value))


def link_local(mac: str) -> Address:
    """Return the link-local address that an interface makes from its MAC (RFC 4291, appendix A)."""
    octets = bytes(int(part, 16) for part in mac.split(":"))
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return Address(128, int.from_bytes(b"\xfe\x80" + bytes(6) + host))


@dataclass(frozen=True, slots=True, order=True)
class Prefix:
    """A CIDR block with its host bits masked; a single address is a prefix of full length."""

    family_bits: int
    """The length of the family's addresses: 32 or 128."""
    first: int
    """The lowest address of the block, as an integer."""
    length: int
    """The number of leading bits that all its addresses have in common."""

    @classmethod
    def parse(cls, text: str, *, strict: bool = False) -> Prefix:
        """Parse `address[/length]`, and mask host bits that are set.

        Raises:
            ValueError: the text is malformed, or host bits are set and `strict` forbids that.
        """
        address, slash, length = text.partition("/")
        base = Address.parse(address)
        size = base.family_bits
        if slash:
            if not re.fullmatch(r"[0-9]{1,3}", length) or int(length) > size:
                raise ValueError(f"{text!r} has no valid prefix length (0..{size})")
            size = int(length)
        host = (1 << (base.family_bits - size)) - 1
        if strict and base.value & host:
            raise ValueError(f"{text!r} has host bits set")
        return cls(base.family_bits, base.value & ~host, size)

    @classmethod
    def of(cls, address: Address) -> Prefix:
        """Return the prefix of full length that holds only this address."""
        return cls(address.family_bits, address.value, address.family_bits)

    @property
    def family(self) -> Family:
        """The family of its addresses."""
        return Family.IPV4 if self.family_bits == 32 else Family.IPV6

    @property
    def last(self) -> int:
        """The highest address of the block, as an integer."""
        return self.first | ((1 << (self.family_bits - self.length)) - 1)

    def __contains__(self, address: object) -> bool:
        return (
            isinstance(address, Address)
            and address.family_bits == self.family_bits
            and self.first <= address.value <= self.last
        )

    def __str__(self) -> str:
        return f"{format_address(self.family_bits, self.first)}/{self.length}"


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Ports `first..last`, both ends included, 1..65535 (semantics.md, section 2: port 0 is never in one)."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> PortRange:
        """Parse `from/to`.

        Raises:
            ValueError: the text isn't of that form, or not within 1 <= from <= to <= 65535.
        """
        match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
        if not match:
            raise ValueError(f"{text!r} is not of the form from/to")
        first, last = int(match[1]), int(match[2])
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"{text!r} is not within 1 <= from <= to <= 65535")
        return cls(first, last)

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __str__(self) -> str:
        return f"{self.first}/{self.last}"


ICMP, TCP, UDP, GRE, AH, ICMPV6 = 1, 6, 17, 47, 51, 58
PORT_PROTOCOLS = (TCP, UDP)
ECHO_REQUEST = {Family.IPV4: 8, Family.IPV6: 128}  # the ICMP type of a ping
_NAMES = {"icmp": ICMP, "tcp": TCP, "udp": UDP, "gre": GRE, "icmpv6": ICMPV6}
_NUMBERS = {number: name for name, number in _NAMES.items()}


@dataclass(frozen=True, slots=True, order=True)
class Protocol:
    """An IANA protocol number, or `all` (number -1). A number and its name mean the same protocol."""

    number: int

    @classmethod
    def parse(cls, text: str) -> Protocol:
        """Parse a name (in any case) or a number 0..255.

        Raises:
            ValueError: the text is neither.
        """
        name = text.strip().lower()
        if name == "all":
            return ALL
        if name in _NAMES:
            return cls(_NAMES[name])
        if re.fullmatch(r"[0-9]{1,3}", name) and int(name) <= 255:
            return cls(int(name))
        raise ValueError(f"{text!r} is not tcp, udp, icmp, icmpv6, gre, all or a number 0..255")

    @property
    def is_all(self) -> bool:
        """Whether it stands for every protocol."""
        return self.number < 0

    @property
    def has_ports(self) -> bool:
        """Whether rules can have ports for it: TCP and UDP do."""
        return self.number in PORT_PROTOCOLS

    def matches(self, number: int, family: Family) -> bool:
        """Return whether a packet of that number and family is of this protocol (`icmp` is IPv4 only, ...)."""
        return self.is_all or (self.number == number and self.exists_in(family))

    def exists_in(self, family: Family) -> bool:
        """Return whether the protocol exists in a family: ICMP only in IPv4, ICMPv6 only in IPv6."""
        if self.number == ICMP:
            return family is Family.IPV4
        if self.number == ICMPV6:
            return family is Family.IPV6
        return True

    def __str__(self) -> str:
        return "all" if self.is_all else _NUMBERS.get(self.number, str(self.number))


ALL = Protocol(-1)
