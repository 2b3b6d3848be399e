"""Random parts of rules, from a seed: addresses, CIDR blocks, ports, whole rules.

Owns the distributions. Must not know what a policy made of them is good for.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sgdataplane.model.state import Remote, SecurityGroupRule
from sgdataplane.net.values import Address, Direction, Family, PortRange, Prefix, Protocol, Verdict

Item = TypeVar("Item")
LOCAL = {Family.IPV4: Address.parse("10.0.0.10"), Family.IPV6: Address.parse("2001:db8:a::10")}
TCP, UDP = Protocol.parse("tcp"), Protocol.parse("udp")
COMMON_PORTS = (22, 80, 443, 3306, 3389, 5432, 6379, 8080, 8443, 9092, 9100, 27017)
LAST_PORT = 65_535
LAST_PRIORITY = 100


def local_address(family: Family, number: int) -> Address:
    """The address of that number in the VPC."""
    return Address(family.bits, LOCAL[family].value + number)


def with_ids(rules: Iterable[SecurityGroupRule]) -> list[SecurityGroupRule]:
    """Numbered in this order, as the rules of one group."""
    return [replace(rule, security_group_rule_id=f"sgr-{number:05}") for number, rule in enumerate(rules)]


@dataclass(frozen=True, slots=True)
class Chooser:
    """One stream of random choices; rules are of one family."""

    chance: random.Random
    family: Family

    @classmethod
    def of(cls, name: str, seed: int, family: Family | None = None) -> Chooser:
        """Even seeds choose IPv4 and odd ones IPv6, unless the family is given."""
        chosen = family or tuple(Family)[seed % 2]
        return cls(random.Random(f"{name} {seed} {chosen.value}"), chosen)

    def one(self, items: Sequence[Item]) -> Item:
        return self.chance.choice(items)

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        return self.chance.sample(items, count)

    def between(self, first: int, last: int) -> int:
        return self.chance.randint(first, last)

    def priority(self) -> int:
        return self.between(1, LAST_PRIORITY)

    def verdict(self) -> Verdict:
        return self.one(tuple(Verdict))

    def direction(self) -> Direction:
        """Ingress three times of four."""
        return Direction.EGRESS if self.chance.random() < 0.25 else Direction.INGRESS

    def address(self, family: Family | None = None) -> Address:
        """Somewhere outside the VPC."""
        family = family or self.family
        if family is Family.IPV4:
            return Address(32, self.between(11 << 24, (224 << 24) - 1))
        return Address(128, (0x20010DB9 << 96) + self.chance.getrandbits(96))

    def around(self, address: Address, length: int) -> Prefix:
        """The block of that length that holds the address."""
        host = (1 << (address.family_bits - length)) - 1
        return Prefix(address.family_bits, address.value & ~host, length)

    def ports(self) -> tuple[int, int]:
        """Any range, wide or narrow."""
        first = self.between(1, LAST_PORT)
        return first, min(LAST_PORT, first + self.one((0, 1, 10, 1000, self.between(0, LAST_PORT))))

    def rule(
        self, remote: Remote, priority: int, verdict: Verdict, ports: tuple[int, int] | None = None
    ) -> SecurityGroupRule:
        """TCP or UDP, at these ports or at a random range."""
        protocol = UDP if self.chance.random() < 0.25 else TCP
        return SecurityGroupRule(
            "", self.direction(), protocol, remote, PortRange(*(ports or self.ports())), verdict, priority
        )

    def five_tuple(self, remote: Remote, priority: int, verdict: Verdict) -> SecurityGroupRule:
        """With source ports in two thirds of the rules, and in two thirds a block of the ENI's own side."""
        source = PortRange(*self.ports()) if self.chance.random() < 0.67 else None
        own = self.around(local_address(self.family, self.between(0, 7)), self.family.bits - self.between(0, 4))
        narrowing = own if self.chance.random() < 0.67 else None
        return replace(self.rule(remote, priority, verdict), source_port_range=source, narrowing=narrowing)

    def typical_cidr(self, family: Family) -> Prefix:
        """Single addresses, offices, partners' networks, subnets of the VPC; never everything."""
        is_inside = self.chance.random() < 0.2
        address = local_address(family, self.between(0, 4000)) if is_inside else self.address(family)
        lengths = (32, 32, 32, 28, 24, 24, 16, 8) if family is Family.IPV4 else (128, 128, 128, 64, 64, 56, 48, 32)
        return self.around(address, self.one(lengths))

    def typical_rule(self, remote: Remote) -> SecurityGroupRule:
        """One port, seldom a range; priority 1, seldom another; accept, seldom drop."""
        port = self.one(COMMON_PORTS)
        last = port + self.one((0, 0, 0, 0, 0, 0, 1, 10, 100))
        priority = self.one((1, 1, 1, 1, 1, 10, 50, 100))
        verdict = Verdict.DROP if self.chance.random() < 0.1 else Verdict.ACCEPT
        return self.rule(remote, priority, verdict, (port, last))
