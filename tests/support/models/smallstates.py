"""States so small that every kind of packet can be tried at them: what rules make of traffic, by trying all of it.

Owns the generator (of a seed), and the packets: one for each piece that the state's rules can tell from others.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

from sgdataplane.model.state import (
    CloudState,
    Eni,
    GroupRef,
    GroupType,
    NetworkType,
    NicType,
    PrefixList,
    PrefixListEntry,
    PrefixListRef,
    Remote,
    SecurityGroup,
    SecurityGroupRule,
    Vpc,
)
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import GRE, ICMP, TCP, UDP, Address, Direction, Family, PortRange, Prefix, Protocol, Verdict

FAR = {
    Family.IPV4: ("0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "8.8.8.0/24", "10.9.0.0/29", "10.9.0.2/32"),
    Family.IPV6: ("::/0", "2000::/3", "2000::/4", "3000::/4", "2001:db8:9::/125", "2001:db8:9::2/128"),
}
BASE = {Family.IPV4: Address.parse("10.9.0.0").value, Family.IPV6: Address.parse("2001:db8:9::").value}
PORTS = (PortRange(22, 22), PortRange(1, 65535), PortRange(22, 3306), PortRange(80, 80))
EVERYWHERE = (Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0"))


def small_state(seed: int) -> CloudState:
    """One VPC or classic network, up to three groups with up to six rules, up to three ENIs."""
    chance = random.Random(seed)  # reproducible on purpose
    is_classic = chance.random() < 0.1
    kinds = [
        chance.choice(list(GroupType)) if not is_classic else GroupType.NORMAL for _ in range(chance.randint(1, 3))
    ]
    halves = tuple(PrefixListEntry(Prefix.parse(text)) for text in ("0.0.0.0/1", "128.0.0.0/1"))
    lists = (PrefixList("pl-halves", Family.IPV4, 5, halves), PrefixList("pl-none", Family.IPV4, 5))
    groups = tuple(_group(number, kinds, chance) for number in range(len(kinds)))
    enis = tuple(_eni(number, groups, chance, is_classic=is_classic) for number in range(chance.randint(0, 3)))
    network = NetworkType.CLASSIC if is_classic else NetworkType.VPC
    return CloudState((Vpc("vpc-a", (), network),), lists, (), groups, (), enis)


def _group(number: int, kinds: list[GroupType], chance: random.Random) -> SecurityGroup:
    kind = kinds[number]
    others = [f"sg-{i}" for i, other in enumerate(kinds) if i != number and other is kind is GroupType.NORMAL]
    inner = chance.choice(list(Verdict)) if kind is GroupType.NORMAL else Verdict.DROP
    rules = tuple(_rule(f"sgr-{number}-{i}", others, chance) for i in range(chance.randint(0, 6)))
    return SecurityGroup(f"sg-{number}", "vpc-a", kind, inner, rules)


def _rule(rule_id: str, groups: list[str], chance: random.Random) -> SecurityGroupRule:
    family = chance.choice((Family.IPV4, Family.IPV4, Family.IPV6))
    remote: Remote = Prefix.parse(chance.choice(FAR[family]))
    if chance.random() < 0.3:
        others: list[Remote] = [PrefixListRef("pl-halves"), PrefixListRef("pl-none"), *map(GroupRef, groups)]
        remote = chance.choice(others)
    protocol = Protocol.parse(chance.choice(("tcp", "tcp", "tcp", "all", "all", "icmp", "udp")))
    narrowing = None
    if chance.random() < 0.2:
        narrowing = Prefix(family.bits, BASE[family] + chance.choice((0, 2, 4)), family.bits - chance.choice((0, 1)))
    return SecurityGroupRule(
        rule_id, chance.choice((Direction.INGRESS, Direction.INGRESS, Direction.EGRESS)), protocol, remote,
        chance.choice(PORTS) if protocol.has_ports else None, chance.choice(list(Verdict)), chance.choice((1, 1, 2, 3)),
        PortRange(1000, 2000) if protocol.has_ports and chance.random() < 0.15 else None, "", narrowing,
        chance.choice(list(NicType)) if chance.random() < 0.1 else NicType.INTRANET,
    )  # fmt: skip


def _eni(number: int, groups: tuple[SecurityGroup, ...], chance: random.Random, *, is_classic: bool) -> Eni:
    kind = chance.choice(groups).security_group_type
    ids = [group.security_group_id for group in groups if group.security_group_type is kind]
    chosen = tuple(sorted(chance.sample(ids, chance.randint(1, len(ids)))))
    ipv4, ipv6 = (Address(family.bits, BASE[family] + 1 + number) for family in Family)
    return Eni(
        f"eni-{number}", "vpc-a", f"00:16:3e:00:00:{number:02x}", (ipv4,), chosen,
        ipv6_addresses=(ipv6,) if chance.random() < 0.5 else (),
        nic_type=chance.choice(list(NicType)) if is_classic else NicType.INTRANET,
    )  # fmt: skip


def with_lone_enis(state: CloudState) -> CloudState:
    """An ENI for each group that has none (in the classic network one of each nic type), which has all addresses."""
    enis = list(state.network_interfaces)
    for group in state.security_groups:
        if not state.enis_of_group[group.security_group_id]:
            is_classic = state.vpc[group.vpc_id].network_type is NetworkType.CLASSIC
            for nic in NicType if is_classic else (NicType.INTRANET,):
                eni_id = f"lone-{group.security_group_id}-{nic.value}"
                alone = Eni(eni_id, group.vpc_id, "", (), (group.security_group_id,), nic_type=nic)
                enis.append(replace(alone, allowed_address_pairs=EVERYWHERE))
    return replace(state, network_interfaces=tuple(sorted(enis, key=lambda eni: eni.network_interface_id)))


def every_packet(state: CloudState, eni: Eni, direction: Direction, more: Iterable[int] = ()) -> Iterator[Packet]:
    """One for each piece of traffic that rules tell from others. `more`: ports that are tried, too."""
    rules = [rule for group_id in eni.security_group_ids for rule in state.group[group_id].rules]
    rules = [rule for rule in rules if rule.direction is direction]
    ports = sorted(
        {0, *more, *(edge for r in rules if r.port_range for edge in (r.port_range.first, r.port_range.last + 1))}
    )
    sources = (500, 1500) if any(rule.source_port_range for rule in rules) else (500,)
    shapes = [(number, port, source) for number in (TCP, UDP) for port in ports if port < 65536 for source in sources]
    for family in Family:
        if any(is_of(state, rule, family) for rule in rules):
            kinds = [*shapes, (GRE, None, None), *([(ICMP, None, None)] if family is Family.IPV4 else [])]
            for far, local in product(far_points(state, family), local_points(eni, rules, family)):
                for number, port, source in kinds:
                    yield Packet(eni.network_interface_id, direction, far, local, number, port, source)


def is_of(state: CloudState, rule: SecurityGroupRule, family: Family) -> bool:
    match rule.remote:
        case Prefix():
            return rule.remote.family is family
        case PrefixListRef(list_id):
            return state.prefix_list[list_id].address_family is family
        case _:
            return True


def far_points(state: CloudState, family: Family) -> list[Address]:
    """An address of each piece that rules' remotes and ENIs cut the family into."""
    prefixes = {Prefix.parse(text) for text in FAR[family]}
    prefixes |= {p for eni in state.network_interfaces for p in eni.private_prefixes if p.family is family}
    return points(prefixes, family)


def local_points(eni: Eni, rules: Iterable[SecurityGroupRule], family: Family) -> list[Address]:
    """Of the ENI's own and others."""
    prefixes = {rule.narrowing for rule in rules if rule.narrowing is not None} | set(eni.private_prefixes)
    return points((prefix for prefix in prefixes if prefix.family is family), family)


def points(prefixes: Iterable[Prefix], family: Family) -> list[Address]:
    edges = {0, *(edge for prefix in prefixes for edge in (prefix.first, prefix.last + 1))}
    return [Address(family.bits, edge) for edge in sorted(edges) if edge <= family.last]
