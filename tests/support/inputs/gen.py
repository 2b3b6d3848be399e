"""Hypothesis strategies for whole states, every feature included, over a universe small enough that rules meet packets.

Owns generated states and the packets that probe them. Builds records directly: what loaders accept is tested elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

from hypothesis import strategies as st

from sgdataplane.model.always import ADVERTISE, DISCOVERY_TYPES, SOLICIT
from sgdataplane.model.modes import Mode
from sgdataplane.model.options import Options
from sgdataplane.model.semantics import is_basic
from sgdataplane.model.state import (
    CloudState,
    Eni,
    EniType,
    GroupRef,
    GroupType,
    Instance,
    NetworkType,
    NicType,
    PortList,
    PortListEntry,
    PrefixList,
    PrefixListEntry,
    PrefixListRef,
    Remote,
    SecurityGroup,
    SecurityGroupRule,
    Vpc,
)
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Address,
    Direction,
    Family,
    PortRange,
    Prefix,
    Protocol,
    Verdict,
)

VPC_ID = "vpc-gen"
BASE = {Family.IPV4: Address.parse("10.9.0.0").value, Family.IPV6: Address.parse("2001:db8:9::").value}
PORTS = (1, 2, 22, 53, 79, 80, 81, 443, 8000, 8080, 32768, 65534, 65535)
PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "gre", "all", "0", "2", "6", "17", "50", "132", "255")


def addresses(family: Family) -> st.SearchStrategy[Address]:
    """Thirty-two neighbours in the VPC."""
    return st.integers(1, 32).map(lambda n: Address(family.bits, BASE[family] + n))


@st.composite
def prefixes(draw: st.DrawFn, families: tuple[Family, ...] = tuple(Family)) -> Prefix:
    """From one address to everything, mostly around the members."""
    family = draw(st.sampled_from(families))
    address = draw(addresses(family))
    length = draw(st.sampled_from((0, 8, family.bits - 5, *range(family.bits - 4, family.bits + 1))))
    return Prefix.parse(f"{address}/{length}")


@st.composite
def port_ranges(draw: st.DrawFn) -> PortRange:
    first, last = sorted((draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))))
    return PortRange(first, last)


@st.composite
def prefix_lists(draw: st.DrawFn, index: int) -> PrefixList:
    family = draw(st.sampled_from(Family))
    entries = draw(st.lists(prefixes((family,)), max_size=4, unique=True))
    return PrefixList(f"pl-{index}", family, 10, tuple(PrefixListEntry(cidr) for cidr in entries))


@st.composite
def port_lists(draw: st.DrawFn, index: int) -> PortList:
    ranges = draw(st.lists(port_ranges(), max_size=3, unique=True))
    return PortList(f"prl-{index}", 10, tuple(PortListEntry(item) for item in ranges))


@st.composite
def rules(draw: st.DrawFn, rule_id: str, remotes: list[Remote], lists: list[PortList]) -> SecurityGroupRule:
    """Any rule that validation would let through."""
    remote = draw(st.one_of(prefixes(), st.sampled_from(remotes)) if remotes else prefixes())
    protocol = Protocol.parse(draw(st.sampled_from(PROTOCOLS)))
    ports = source = None
    port_list = ""
    if protocol.has_ports:
        source = draw(st.none() | port_ranges())
        if len(lists) > 0 and draw(st.booleans()):
            port_list = draw(st.sampled_from(lists)).port_list_id
        else:
            ports = draw(port_ranges())
    families = (remote.family,) if isinstance(remote, Prefix) else tuple(Family)
    return SecurityGroupRule(
        rule_id,
        draw(st.sampled_from(Direction)),
        protocol,
        remote,
        ports,
        draw(st.sampled_from(Verdict)),
        draw(st.sampled_from((1, 1, 2, 50, 100))),
        source,
        port_list,
        draw(st.none() | st.none() | prefixes(families)),
        draw(st.sampled_from(NicType)),
    )


@st.composite
def states(draw: st.DrawFn) -> CloudState:
    """Up to four groups of one VPC or classic network, and up to six ENIs in them."""
    is_classic = draw(st.integers(0, 9)) == 0
    prefix = tuple(draw(prefix_lists(i)) for i in range(draw(st.integers(0, 2))))
    ports = tuple(draw(port_lists(i)) for i in range(draw(st.integers(0, 2))))
    kinds = [GroupType.NORMAL, GroupType.NORMAL] if is_classic else [GroupType.NORMAL, GroupType.ENTERPRISE]
    types = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))
    groups = tuple(draw(security_groups(i, types, prefix, ports)) for i in range(len(types)))
    enis = draw(network_interfaces(groups, is_classic))
    network = NetworkType.CLASSIC if is_classic else NetworkType.VPC
    instances = tuple(Instance(instance) for instance in sorted({eni.instance_id for eni in enis}))
    return CloudState((Vpc(VPC_ID, (), network),), prefix, ports, groups, instances, enis)


@st.composite
def security_groups(
    draw: st.DrawFn,
    index: int,
    types: list[GroupType],
    prefix: tuple[PrefixList, ...],
    ports: tuple[PortList, ...],
) -> SecurityGroup:
    """One group; basic ones may name other basic ones, and one that nobody knows."""
    remotes: list[Remote] = [PrefixListRef(entry.prefix_list_id) for entry in prefix]
    if types[index] is GroupType.NORMAL:
        others = [i for i, kind in enumerate(types) if kind is GroupType.NORMAL and i != index]
        remotes += [*(GroupRef(f"sg-{i}") for i in others), GroupRef("sg-unknown")]
    inner = draw(st.sampled_from(Verdict)) if types[index] is GroupType.NORMAL else Verdict.DROP
    count = draw(st.integers(0, 8))
    made = tuple(draw(rules(f"sgr-{index}-{n}", remotes, list(ports))) for n in range(count))
    return SecurityGroup(f"sg-{index}", VPC_ID, types[index], inner, made)


@st.composite
def network_interfaces(draw: st.DrawFn, groups: tuple[SecurityGroup, ...], is_classic: bool) -> tuple[Eni, ...]:
    """ENIs with addresses of their own, each in groups of one type; an instance has one or two."""
    count = draw(st.integers(1, 6))
    own = {family: draw(st.permutations(range(1, 25))) for family in Family}
    made = []
    for index in range(count):
        kind = draw(st.sampled_from(sorted({g.security_group_type for g in groups}, key=lambda t: t.value)))
        choices = [g.security_group_id for g in groups if g.security_group_type is kind]
        chosen = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=3, unique=True))
        many = draw(st.integers(1, 2))
        take = {
            family: tuple(Address(family.bits, BASE[family] + n) for n in numbers[index * 2 :][:many])
            for family, numbers in own.items()
        }
        delegated = Prefix(32, BASE[Family.IPV4] + 48 + index * 4, 30)
        made.append(
            Eni(
                f"eni-{index}",
                VPC_ID,
                f"00:16:3e:00:00:{index:02x}",
                take[Family.IPV4],
                tuple(sorted(chosen)),
                f"i-{index // 2}",
                EniType.SECONDARY if index % 2 else EniType.PRIMARY,
                take[Family.IPV6] if draw(st.booleans()) else (),
                (delegated,) if draw(st.integers(0, 3)) == 0 else (),
                (),
                (draw(prefixes()),) if draw(st.integers(0, 5)) == 0 else (),
                draw(st.sampled_from(NicType)) if is_classic else NicType.INTRANET,
                mode=Mode.AUDIT if draw(st.integers(0, 3)) == 3 else Mode.ENFORCE,
            )
        )
    return tuple(made)


def options() -> st.SearchStrategy[Options]:
    return st.builds(
        Options,
        inner_accept_egress=st.sampled_from(("first", "custom_first")),
        midstream_egress=st.sampled_from(("drop", "judge")),
        strict_syn=st.booleans(),
        metadata=st.sampled_from(((), (Prefix.parse("100.100.100.200"),), (Prefix.parse("10.9.0.7"),))),
    )


def packets(state: CloudState, chance: random.Random, count: int) -> Iterator[Packet]:
    """Packets at every ENI: half at the edges of one of its rules, half at the edges of anything that is mentioned."""
    interesting = {family: sorted(_edges(state, family)) for family in Family}
    for _ in range(count):
        eni = chance.choice(state.network_interfaces)
        rules_ = [rule for group in eni.security_group_ids for rule in state.group[group].rules]
        if rules_ and chance.random() < 0.5:
            yield _aimed(state, eni, chance.choice(rules_), chance)
        else:
            yield _anywhere(eni, interesting, chance)


def _anywhere(eni: Eni, interesting: dict[Family, list[int]], chance: random.Random) -> Packet:
    edges = sorted({0, 1, 65535, *(edge for port in PORTS for edge in (port - 1, port, min(port + 1, 65535)))})
    family = chance.choice(tuple(Family))
    own = [address for address in eni.addresses if address.family is family]
    local = chance.choice(own) if own and chance.random() < 0.8 else _pick(chance, interesting, family)
    protocol = chance.choice((TCP, TCP, UDP, UDP, ICMP, ICMPV6, 47, 0, 2, 3, 50, 132, 254, 255))
    source, port = chance.choice(edges), chance.choice(edges)
    if protocol == UDP and chance.random() < 0.1:
        source, port = chance.choice(((68, 67), (67, 68), (546, 547), (547, 546)))
    return _packet(eni, chance, (_pick(chance, interesting, family), local), protocol, (source, port))


def _aimed(state: CloudState, eni: Eni, rule: SecurityGroupRule, chance: random.Random) -> Packet:
    """At or just beside the edges of one rule, in the rule's direction."""
    family = chance.choice(tuple(Family))
    if isinstance(rule.remote, Prefix):
        family = rule.remote.family
    remote = chance.choice(sorted(_edges_of(_remote_prefixes(state, rule, family), family)) or [BASE[family]])
    own = [a.value for a in eni.addresses if a.family is family] or [BASE[family]]
    if rule.narrowing is not None and rule.narrowing.family is family:
        own += [value for value in own if Address(family.bits, value) in rule.narrowing] * 4
    protocol = rule.ip_protocol.number if not rule.ip_protocol.is_all else chance.choice((TCP, UDP, 47, 255))
    ranges = [rule.port_range] if rule.port_range else []
    if rule.port_list_id:
        ranges = [entry.port_range for entry in state.port_list[rule.port_list_id].entries]
    packet = _packet(
        eni,
        chance,
        (Address(family.bits, remote), Address(family.bits, chance.choice(own))),
        protocol,
        (_port_at([rule.source_port_range] if rule.source_port_range else [], chance), _port_at(ranges, chance)),
    )
    return replace(packet, direction=rule.direction)


def _packet(
    eni: Eni, chance: random.Random, ends: tuple[Address, Address], protocol: int, ports: tuple[int, int]
) -> Packet:
    has_ports, is_icmp = protocol in (TCP, UDP), protocol in (ICMP, ICMPV6)
    echo = 8 if protocol == ICMP else 128
    return Packet(
        eni.network_interface_id,
        chance.choice(tuple(Direction)),
        *ends,
        protocol,
        ports[1] if has_ports else None,
        ports[0] if has_ports else None,
        chance.choice((0, echo, echo, echo, 129, 130, 133, 134, 135, 136, 137, 143)) if is_icmp else None,
        chance.choice((1, 64, 255, 255)),
        protocol != TCP or chance.random() < 0.8,
    )


def discovery(state: CloudState, chance: random.Random) -> Packet:
    """What an ENI sends of it: to the edges of its subnets, its gateway, its own and its neighbours' addresses, and to
    others far and near; from its own address, its link's, another one or none."""
    eni = chance.choice(state.network_interfaces)
    own = [prefix.first for prefix in eni.own_prefixes if prefix.family is Family.IPV6]
    around = [value >> 64 << 64 for value in own]
    edges = [edge for first in around for edge in (first - 1, first, first + (1 << 64) - 1, first + (1 << 64))]
    known = [text.value for text in map(Address.parse, ("fe80::1", "fe80::77", "ff02::1", "fec0::1", "2001:db8:f::1"))]
    remote = chance.choice([*known, *edges, *own, *(value ^ 1 for value in own)])
    local = chance.choice([*own, *own, *(prefix.first for prefix in eni.link_prefixes), 0, known[1], known[-1]])
    kind = chance.choice((*DISCOVERY_TYPES, *4 * (SOLICIT, ADVERTISE)))
    hops = chance.choice((255, 255, 255, 1, 64))
    ends = Address(128, remote), Address(128, local)
    return Packet(eni.network_interface_id, Direction.EGRESS, *ends, ICMPV6, icmp_type=kind, hop_limit=hops)


def _port_at(ranges: list[PortRange], chance: random.Random) -> int:
    """At or just outside an edge of one of the ranges."""
    if not ranges:
        return chance.choice((0, 1, 40000, 65535))
    chosen = chance.choice(ranges)
    return chance.choice((chosen.first - 1, chosen.first, chosen.last, min(chosen.last + 1, 65535)))


def _remote_prefixes(state: CloudState, rule: SecurityGroupRule, family: Family) -> list[Prefix]:
    found: list[Prefix] = []
    match rule.remote:
        case Prefix():
            found = [rule.remote]
        case PrefixListRef(prefix_list_id):
            found = [entry.cidr for entry in state.prefix_list[prefix_list_id].entries]
        case GroupRef(group_id):
            found = [prefix for eni in state.enis_of_group.get(group_id, ()) for prefix in eni.private_prefixes]
    return [prefix for prefix in found if prefix.family is family]


def _pick(chance: random.Random, interesting: dict[Family, list[int]], family: Family) -> Address:
    return Address(family.bits, chance.choice(interesting[family]))


def _edges(state: CloudState, family: Family) -> set[int]:
    """Both ends of every prefix, what lies just outside, every member, and the special addresses."""
    found = {p for eni in state.network_interfaces for p in eni.own_prefixes}
    found |= {entry.cidr for plist in state.prefix_lists for entry in plist.entries}
    rules_ = [rule for group in state.security_groups for rule in group.rules]
    found |= {rule.remote for rule in rules_ if isinstance(rule.remote, Prefix)}
    found |= {rule.narrowing for rule in rules_ if rule.narrowing is not None}
    special = ("169.254.1.1", "255.255.255.255", "100.100.100.200", "8.8.8.8", "fe80::1", "ff02::1:2", "fe80::9", "::")
    points = {a.value for a in map(Address.parse, special) if a.family is family}
    return points | _edges_of([prefix for prefix in found if prefix.family is family], family)


def _edges_of(prefixes_: Iterable[Prefix], family: Family) -> set[int]:
    """The first and last address of each, and their neighbours outside."""
    ends = [(p.first, p.last) for p in prefixes_]
    return (
        {max(first - 1, 0) for first, _ in ends}
        | {min(last + 1, family.last) for _, last in ends}
        | {end for pair in ends for end in pair}
    )


def describe(state: CloudState) -> str:
    """What `is_basic` says of each ENI, for `hypothesis.event`."""
    kinds = {is_basic(state, eni) for eni in state.network_interfaces}
    return "basic and advanced" if len(kinds) == 2 else ("basic" if True in kinds else "advanced")
