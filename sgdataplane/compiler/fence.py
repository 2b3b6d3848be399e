"""Compile the fence: the table at the netdev hook of each ENI's interface, which every frame of the ENI passes.

Owns what an ENI may send besides packets that the policy judges, and how much may come by an uplink. It is given the
ENIs. It must not know rules of users.

Instance placement, on the way out: a frame sent through a packet socket meets neither the policy's hooks nor conntrack,
but it meets this hook. Packets that the policy approved carry the secret mark and, unlike such frames, were routed.
Host placement, on the way in: the policy judges IP packets later, whoever sent them. But conntrack sees them earlier,
and it has the sessions of all ENIs on this host; so this hook checks whose packet it is. The same holds at an uplink:
nobody out there is an ENI on this host. On the way out, only what the router's stack sends leaves: a device that
somebody has put over an interface of the router, from another namespace, sends past the policy.

A word such as other-mac is the cause by which a frame is dropped.

    egress-<ifname>   base chain, names the secret: drops by other-mac; accepts IP that is approved and routed
    ingress-<ifname>  base chain, host placement: drops by other-mac; accepts what is usual
    egress-<ifname>   base chain, host placement, names the secret: accepts what carries the mark; drops by unapproved
    fence-drop.<cause>  counts, logs, counts for the interface, drops
    fence-<ifname>    instance placement: accepts own ARP and what a DHCP client sends
                      host placement: drops by fragments, discovery-limit; accepts own ARP and IP
                      an uplink: drops by fragments, discovery-limit, spoofed; accepts the rest
    fragments-<ifname>  host placement: drops fragments beyond the limit; the others go on
    fence-arp         the same for all ENIs: drops by arp-claim what is no request or reply for IPv4
    fence-dhcp        accepts what a DHCP client sends
    fence-far         drops by discovery what neighbour discovery sends beyond the link
    fence-rest        drops what is left, by arp-claim, tagged, spoofed or unapproved, other

An ENI's own chains have no anonymous sets, unless it has many addresses: to name a new one, the kernel walks all sets
that there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from sgdataplane.compiler.fragments import (
    FRAGMENT_BYTES,
    FRAGMENTED,
    FRAGMENTS,
    FRAGMENTS_ELSEWHERE,
    IPV4,
    IPV6,
    drop_name,
    fragments_chain,
    parts_rules,
)
from sgdataplane.compiler.skeleton import (
    SaidRule,
    content_chain,
    make_shared_rule,
    make_stamp_map,
    merge_prefixes,
    parts,
    text_chain,
    text_rule,
)
from sgdataplane.compiler.verdicts import log_counted
from sgdataplane.contract import names
from sgdataplane.contract.counters import FENCE_CAUSES, fence_counter, name_fenced_counter
from sgdataplane.contract.fields import DESTINATION, SOURCE, Field, Hook, KeyType
from sgdataplane.contract.sites import FENCE_PRIORITY
from sgdataplane.contract.stamp import Stamp
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.model import always
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.state import Eni
from sgdataplane.net.values import ICMPV6, UDP, Family, Prefix
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    RETURN,
    Chain,
    Count,
    Counter,
    Exceeds,
    Map,
    MapCount,
    Match,
    Range,
    Rule,
    Statement,
    Table,
    goto,
    is_value,
    jump,
    rule,
)
from sgdataplane.nft.text import render_table, rule_text

PLACEHOLDER = 0x5EC2E700  # stands for the secret in cached parts and printed rulesets, so that neither depends on it
EPOCH = 1  # a fence has no epoch, but every stamp holds one
ARP = 0x0806  # IEEE 802's EtherType
TYPES = {IPV4: Family.IPV4, IPV6: Family.IPV6}
TAGGED = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)  # 802.1Q, 802.1ad, and what stood for it before
NO_REALM = 0xFFFFFFFF  # no route has this realm: realms are twice 16 bits, and 0 where none is set
ETHERNET, MAC_BYTES, IPV4_BYTES = 1, 6, 4
REQUEST, REPLY = 1, 2
SOLICITATION = 135  # RFC 4861, 4.3
# How much each ENI may use of what all ENIs of a router share (docs/design/router.md says why). The router has
# permanent entries for the addresses of ENIs, but each address of a delegated block that sends a request makes one.
QUESTIONS, QUESTIONS_OF_BLOCKS = Exceeds(500, burst=1000), Exceeds(5, burst=20)
QUESTIONS_ELSEWHERE = Exceeds(1000, burst=1000)  # at an uplink, for each family; each sender may be a new neighbour
MAX_PARTS, MAX_UPLINKS = 4096, 16  # results that are remembered, at most
WHOLE: Mapping[Family, tuple[Match, ...]] = {  # these hold for packets that are neither fragments nor any ICMPv6
    Family.IPV4: (Match(Field.IP_FRAGMENT, (Range.of(0),), mask=FRAGMENTED),),
    Family.IPV6: (is_value(Field.IP6_FRAGMENT, 0), Match(Field.L4PROTO, (Range.of(ICMPV6),), negate=True)),
}
UNNUMBERED = Prefix.parse("0.0.0.0")
DROPS = "fence-drops"
# DISCOVERY_TYPES, which are two ranges (130 to 137, and 143), by two comparisons in place of an anonymous set.
IS_DISCOVERY = (Match(Field.ICMPV6_TYPE, (Range(130, 143),)), Match(Field.ICMPV6_TYPE, (Range(138, 142),), negate=True))
IS_MARKED = is_value(Field.PACKET_MARK, PLACEHOLDER)


@dataclass(frozen=True, slots=True)
class FencePart:
    """The chains for one interface, with a placeholder for the secret."""

    bases: tuple[Chain, ...]
    """The chains at hooks. They lead to all the others."""
    chains: tuple[Chain, ...]
    """All other chains, which are named by their content."""
    digest: str
    """A hash of all chains."""

    @classmethod
    def of(cls, bases: tuple[Chain, ...], *chains: Chain) -> FencePart:
        """Make a part and compute its digest from the base chains."""
        return cls(bases, chains, _digest(*bases))


def _digest(*chains: Chain) -> str:
    return names.digest(render_table(Table(TABLE, chains, family=NETDEV)), 32)


def compile_fence(
    enis: Mapping[str, Eni],
    options: Options,
    secret: int,
    placement: Placement = Placement.INSTANCE,
    uplinks: Collection[str] = (),
) -> Table:
    """Return the fence of these interfaces.

    `enis` has the ENI at each interface. Only host placement has `uplinks`. `secret` is the mark of approved packets.
    The stamp's digest is of everything but the secret.
    """
    private = tuple(prefix for eni in enis.values() for prefix in eni.private_prefixes)
    found = [_part(ifname, eni, options, placement) for ifname, eni in enis.items()]
    found += [_uplink(ifname, private) for ifname in uplinks]
    bases = [_mark_chain(base, secret) for part in found for base in part.bases]
    common = (*_common(options, placement), *_drop_chains(placement))
    chains = [*bases, *(chain for part in found for chain in part.chains), *common]
    counters = map(Counter, sorted([*map(fence_counter, FENCE_CAUSES), *map(name_fenced_counter, (*enis, *uplinks))]))
    digest = names.digest("\n".join([_digest(*common), *sorted(part.digest for part in found)]), 32)
    return Table(
        TABLE,
        tuple(sorted(chains, key=lambda chain: chain.name)),
        (make_stamp_map(Stamp(EPOCH, digest, secret=secret)), _map_drop_counters((*enis, *uplinks))),
        tuple(counters),
        family=NETDEV,
    )


class CommonChains(NamedTuple):
    """The chains that are the same for all ENIs."""

    arp: Chain
    """Drops ARP of another form."""
    special: Chain
    """In an instance, accepts what DHCP clients send; in a router, drops discovery that would leave the link."""
    rest: Chain
    """Drops everything."""


@lru_cache(maxsize=16)
def _common(options: Options, placement: Placement) -> CommonChains:
    special = content_chain("fence-far", (_far(options),))
    if not placement.is_outside:
        special = content_chain("fence-dhcp", (_dhcp(options),))
    rest = tuple(_rest("spoofed" if placement.is_outside else "unapproved"))
    return CommonChains(content_chain("fence-arp", tuple(_other_arp())), special, content_chain("fence-rest", rest))


@lru_cache(maxsize=MAX_PARTS)
def _part(ifname: str, eni: Eni, options: Options, placement: Placement) -> FencePart:
    """Compile the fence of one ENI's interface."""
    common = _common(options, placement)
    other_mac = _drop("other-mac", Match(Field.LINK_SADDR, (Range.of(_mac(eni)),), negate=True))
    if placement.is_outside:
        fragments = fragments_chain(ifname, FRAGMENTS, FRAGMENT_BYTES)
        content = _content(ifname, (*_limits(eni, fragments), *_from_instance(eni, common.special)), eni, common)
        arriving = _base("ingress", ifname, (other_mac, *_usual(eni)), content)
        return FencePart.of((arriving, _exit(ifname)), fragments, content)
    content = _content(ifname, _lead_to_dhcp(eni, common.special), eni, common)
    return FencePart.of((_base("egress", ifname, (other_mac, *_pass_approved()), content),), content)


@lru_cache(maxsize=MAX_UPLINKS)
def _uplink(ifname: str, private: tuple[Prefix, ...]) -> FencePart:
    """Compile the fence of an uplink.

    Frames that come by an uplink may not claim to be from an ENI on this host (ingress filtering, RFC 2827). The policy
    checks that too, but only for whole datagrams. Requests for the router's MAC and fragments are limited.
    """
    fragments = fragments_chain(ifname, *FRAGMENTS_ELSEWHERE)
    kinds = {kind: is_value(Field.PROTOCOL, kind) for kind in (IPV4, ARP, IPV6)}
    questions = (
        (kinds[ARP], is_value(Field.ARP_OPERATION, REQUEST)),
        (kinds[IPV6], is_value(Field.ICMPV6_TYPE, SOLICITATION)),
    )
    rules = (
        *_drop_spoofed(private, kinds),
        *(rule(kinds[kind], *WHOLE[family], ACCEPT) for kind, family in TYPES.items()),
        *parts_rules(fragments, {kind: (found,) for kind, found in kinds.items()}),
        *(_drop("discovery-limit", *question, QUESTIONS_ELSEWHERE) for question in questions),
        rule(ACCEPT),
    )
    content = content_chain(names.identifier("fence", ifname), rules)
    return FencePart.of((_base("ingress", ifname, (), content), _exit(ifname)), fragments, content)


def _exit(ifname: str) -> Chain:
    """Return the base chain at the way out of a router's interface.

    Frames may leave a router if its own stack has sent them: policy (verdicts.py) and the ARP table (arp.py) mark what
    it sends. Nothing else is asked, as every packet pays for it. A tag or label comes from a device that the user has
    put on top.
    """
    rules = (rule(IS_MARKED, ACCEPT), _drop("unapproved"))
    return Chain(names.identifier("egress", ifname), rules, Hook("egress", FENCE_PRIORITY, ifname))


def _drop_spoofed(private: Iterable[Prefix], kinds: Mapping[int, Match]) -> Iterator[Rule]:
    """Yield rules that drop packets whose source is an ENI's on this host."""
    for kind, family in TYPES.items():
        own = [prefix for prefix in private if prefix.family is family]
        if own:
            yield _drop("spoofed", kinds[kind], Match(SOURCE[family], merge_prefixes(own)))


def _mark_chain(base: Chain, secret: int) -> Chain:
    """Return the base chain of an ENI with this mark in place of the placeholder."""
    known: dict[Statement, Statement] = {IS_MARKED: is_value(Field.PACKET_MARK, secret)}
    rules = (rule(*(known.get(statement, statement) for statement in each.statements)) for each in base.rules)
    return replace(base, rules=tuple(rules))


def _pass_approved() -> Iterator[Rule]:
    """Yield the rules for approved packets. Nearly all packets pass here, so they ask for as little as possible.

    They have no set without a name, since this chain changes in place (skeleton.py). They ask for the type, since a
    device on top of this one may have given the packet a tag, and a route labels (`encap mpls`), which the policy
    hasn't seen.
    """
    is_routed = Match(Field.ROUTE_REALM, (Range.of(NO_REALM),), negate=True)
    return (rule(IS_MARKED, is_routed, is_value(Field.LINK_TYPE, kind), ACCEPT) for kind in TYPES)


def _limits(eni: Eni, fragments: Chain) -> Iterator[SaidRule]:
    """Yield the rules that apply the ENI's limits.

    Fragments of both families share one limit; requests have one for each family.
    """
    yield from ((entry, rule_text(entry)) for entry in parts_rules(fragments, {kind: _of_type(kind) for kind in TYPES}))
    asking = (
        (_of_type(ARP), Field.ARP_SENDER_IP, Family.IPV4),
        ((*_of_type(IPV6), *IS_DISCOVERY), Field.IP6_SADDR, Family.IPV6),
    )
    for conditions, asker, family in asking:
        blocks = _blocks(_own(eni, family))
        if blocks:
            of_block = Match(asker, merge_prefixes(blocks))
            yield text_rule(*conditions, of_block, QUESTIONS_OF_BLOCKS, goto(drop_name("discovery-limit")))
        yield make_shared_rule(*conditions, QUESTIONS, goto(drop_name("discovery-limit")))


def _far(options: Options) -> Rule:
    """Return a rule that drops discovery which would leave the link (`always.is_far_discovery`).

    It is the same link for all ENIs of a router.
    """
    on_link = always.on_link((), options, Placement.HOST)
    is_far = Match(DESTINATION[Family.IPV6], merge_prefixes(on_link), negate=True)
    return _drop("discovery", *_of_type(IPV6), is_value(Field.ICMPV6_TYPE, *always.DISCOVERY_TYPES), is_far)


def _from_instance(eni: Eni, far: Chain) -> Iterator[SaidRule]:
    """Yield rules that accept packets whose source is an own address or a link-local one.

    The policy judges them later.
    """
    yield make_shared_rule(*_of_type(IPV6), is_value(Field.L4PROTO, ICMPV6), jump(far.name))
    for kind, family in TYPES.items():
        for sources in _sources(eni, family):
            for part in parts(merge_prefixes(sources)):
                yield text_rule(*_of_type(kind), Match(SOURCE[family], part), ACCEPT)


def _sources(eni: Eni, family: Family) -> Iterator[tuple[Prefix, ...]]:
    """Yield the sources that may send, in the order in which rules ask for them.

    Single addresses come first, as they cost least.
    """
    own = _own(eni, family)
    singles = tuple(prefix for prefix in own if prefix.first == prefix.last)
    blocks = _blocks(own)
    as_its_link = always.discovery_sources(eni) if family is Family.IPV6 else (UNNUMBERED,)
    return filter(None, (singles, blocks, as_its_link))


def _usual(eni: Eni) -> Iterator[Rule]:
    """Yield rules for nearly all packets: from the ENI's first address, whole, and no discovery.

    They would pass anyway, but behind all that the fence asks of others.
    """
    for kind, family in TYPES.items():
        for single in [prefix for prefix in _own(eni, family) if prefix.first == prefix.last][:1]:
            is_own = is_value(SOURCE[family], single.first)
            yield rule(is_value(Field.LINK_TYPE, kind), is_value(Field.PROTOCOL, kind), is_own, *WHOLE[family], ACCEPT)


def _base(hook: str, ifname: str, first: Iterable[Rule], content: Chain) -> Chain:
    return Chain(names.identifier(hook, ifname), (*first, rule(goto(content.name))), Hook(hook, FENCE_PRIORITY, ifname))


def _content(ifname: str, passing: Iterable[SaidRule], eni: Eni, common: CommonChains) -> Chain:
    """Return the chain of one interface. `passing` are the rules that let IP packets pass."""
    rules = (*passing, *_arp(eni, common.arp), make_shared_rule(goto(common.rest.name)))
    return text_chain(names.identifier("fence", ifname), rules)


def _rest(cause: str) -> Iterator[Rule]:
    """Yield rules that drop what nothing lets pass. `cause` says why IP packets are dropped."""
    yield _drop("arp-claim", is_value(Field.ETHER_TYPE, ARP))
    yield _drop("tagged", is_value(Field.ETHER_TYPE, *TAGGED))
    yield _drop(cause, is_value(Field.ETHER_TYPE, *TYPES))
    yield _drop("other")


def _blocks(own: Iterable[Prefix]) -> tuple[Prefix, ...]:
    return tuple(prefix for prefix in own if prefix.first != prefix.last)


def _own(eni: Eni, family: Family) -> tuple[Prefix, ...]:
    return tuple(prefix for prefix in eni.own_prefixes if prefix.family is family)


def _lead_to_dhcp(eni: Eni, dhcp: Chain) -> Iterator[SaidRule]:
    """Yield rules that lead packets with a source that DHCP clients use to the chain for DHCP."""
    sources = merge_prefixes((*_own(eni, Family.IPV4), always.DHCP_UNNUMBERED[Family.IPV4]))
    return (text_rule(*_of_type(IPV4), Match(SOURCE[Family.IPV4], part), jump(dhcp.name)) for part in parts(sources))


def _dhcp(options: Options) -> Rule:
    """Return a rule that lets a DHCP client's packets pass.

    It has no address yet, so it uses a packet socket (RFC 2131, `always.is_dhcp`). Fragments don't pass, since other
    bytes may stand in place of their ports.
    """
    client, server, everyone = always.DHCP[Family.IPV4]
    servers = {everyone.value, *(gateway.value for gateway in options.gateways if gateway.family is Family.IPV4)}
    return rule(
        *_of_type(IPV4),
        is_value(DESTINATION[Family.IPV4], *servers),
        Match(Field.IP_FRAGMENT, (Range.of(0),), mask=FRAGMENTED),
        *_ports(client, server),
        ACCEPT,
    )


def _ports(source: int, destination: int) -> tuple[Statement, ...]:
    """Return matches for UDP with these ports."""
    return is_value(Field.L4PROTO, UDP), is_value(Field.TH_SPORT, source), is_value(Field.TH_DPORT, destination)


def _arp(eni: Eni, other: Chain) -> Iterator[SaidRule]:
    """Yield rules that let ARP requests and replies pass if what the sender says about itself is true.

    A request from 0.0.0.0 is a probe: a host that is about to take the address which the probe asks for gives it up
    (RFC 5227, 2.1.1), so that must be an own address.
    """
    yield make_shared_rule(*_of_type(ARP), jump(other.name))
    yield text_rule(
        *_of_type(ARP), Match(Field.ARP_SENDER_MAC, (Range.of(_mac(eni)),), negate=True), goto(drop_name("arp-claim"))
    )
    is_probe = Match(Field.ARP_SENDER_IP, merge_prefixes((UNNUMBERED,)))
    for own in parts(merge_prefixes(_own(eni, Family.IPV4))):
        yield text_rule(*_of_type(ARP), Match(Field.ARP_SENDER_IP, own), ACCEPT)
        yield text_rule(*_of_type(ARP), is_probe, Match(Field.ARP_TARGET_IP, own), ACCEPT)


def _other_arp() -> Iterator[Rule]:
    """Yield rules that drop all ARP but requests and replies about IPv4 on Ethernet."""
    yield rule(
        *_of_type(ARP),
        is_value(Field.ARP_HTYPE, ETHERNET),
        is_value(Field.ARP_PTYPE, IPV4),
        is_value(Field.ARP_HLEN, MAC_BYTES),
        is_value(Field.ARP_PLEN, IPV4_BYTES),
        is_value(Field.ARP_OPERATION, REQUEST, REPLY),
        RETURN,
    )
    yield _drop("arp-claim")


def _of_type(kind: int) -> tuple[Statement, Statement]:
    """Return matches for one EtherType, of the frame itself and as the kernel sees it.

    The kernel believes the sender of a frame, so the two can differ.
    """
    return is_value(Field.ETHER_TYPE, kind), is_value(Field.PROTOCOL, kind)


def _mac(eni: Eni) -> int:
    return int(eni.mac_address.replace(":", ""), 16)


def _drop(cause: str, *conditions: Statement) -> Rule:
    return rule(*conditions, goto(drop_name(cause)))


@lru_cache(maxsize=len(Placement))
def _drop_chains(placement: Placement) -> tuple[Chain, ...]:
    """Return the chains that count, log and drop frames, one for each cause.

    In host placement frames come in by the interface, but for those that nobody approved. In instance placement they
    leave by it.
    """
    arriving = {cause for cause in FENCE_CAUSES if placement.is_outside and cause != "unapproved"}
    asked = {cause: Field.IIFNAME if cause in arriving else Field.OIFNAME for cause in FENCE_CAUSES}
    return tuple(_drop_chain(cause, MapCount(found, DROPS)) for cause, found in asked.items())


def _drop_chain(cause: str, by_interface: MapCount) -> Chain:
    counter = fence_counter(cause)
    return Chain(drop_name(cause), (rule(Count(counter), log_counted(counter)), rule(by_interface), rule(DROP)))


def _map_drop_counters(ifnames: Iterable[str]) -> Map:
    """Return the map from an interface to the counter of all frames that are dropped there."""
    counters = tuple((ifname, Count(name_fenced_counter(ifname))) for ifname in sorted(ifnames))
    return Map(DROPS, KeyType.IFNAME, counters, holds=KeyType.COUNTER)
