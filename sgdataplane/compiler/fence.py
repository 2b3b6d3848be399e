"""compile_fence(): the table at the netdev hook of each ENI's interface, which every frame of the ENI passes.

Owns what an ENI may send besides what the policy judges, and how much an uplink may. Is given the ENIs. Must not know
rules.

Instance placement, on the way out: a frame sent through a packet socket meets neither the policy's hooks nor conntrack,
but it meets this hook. What the policy approved carries the secret mark and, unlike such a frame, was routed.
Host placement, on the way in: IP is judged by the policy later, whoever sent it. But conntrack sees it before that,
and one conntrack has the sessions of all ENIs here; so whose packet it is, is asked already at this hook. So it is at
an uplink: nobody out there is an ENI that is here.

    egress-<ifname>   base chain, names the secret: other-mac; IP that is approved and routed passes
    ingress-<ifname>  base chain, host placement: other-mac
    fence-drop.<cause>  counts, logs, drops
    fence-<ifname>    instance placement: own ARP and DHCP client pass; arp-claim, tagged, unapproved, other
                      host placement: own ARP and IP pass; fragments, discovery, discovery-limit, arp-claim, tagged,
                      spoofed, other
                    an uplink: fragments, discovery-limit, spoofed; the rest passes
    fragments-<ifname>  host placement: drops what is too much, and lets the rest go on
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from sgdataplane.compiler.skeleton import applied, content_chain, merged
from sgdataplane.compiler.verdicts import logged
from sgdataplane.contract import names
from sgdataplane.contract.counters import FENCE_CAUSES, fence_counter, fenced_counter
from sgdataplane.contract.fields import DESTINATION, SOURCE, Field, Hook
from sgdataplane.contract.sites import FENCE_PRIORITY
from sgdataplane.contract.tables import NETDEV, TABLE
from sgdataplane.model import always
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.state import Eni
from sgdataplane.net.values import UDP, Family, Prefix
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    Chain,
    Count,
    Counter,
    Exceeds,
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
from sgdataplane.nft.text import render_table

PLACEHOLDER = 0x5EC2E700  # in printed rulesets, which are the same for the same state; a namespace's own is random
EPOCH = 1  # a fence has none, but every stamp does
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD  # IEEE 802 EtherTypes
TYPES = {IPV4: Family.IPV4, IPV6: Family.IPV6}
TAGGED = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)  # 802.1Q, 802.1ad, and what stood for it before
NO_REALM = 0xFFFFFFFF  # no route has it; the kernel's realms are 16 bits twice, and 0 where none is set
FRAGMENTED = 0x3FFF  # more fragments, or an offset
ETHERNET, MAC_BYTES, IPV4_BYTES = 1, 6, 4
REQUEST, REPLY = 1, 2
SOLICITATION = 135  # RFC 4861, 4.3
# How much an ENI may have of what all of its router share (docs/design/router.md says why so much). A router knows the
# MAC of an address; each address of a block that asks is a new neighbour to it.
QUESTIONS, QUESTIONS_OF_BLOCKS = Exceeds(500, burst=1000), Exceeds(5, burst=20)
FRAGMENTS, FRAGMENT_BYTES = Exceeds(4000, burst=2000), Exceeds(6_000_000, burst=3_000_000, is_bytes=True)
QUESTIONS_ELSEWHERE = Exceeds(1000, burst=1000)  # of each family; each asker may be a new neighbour
ENIS_OF_UPLINK = 4  # as many as that may send as many fragments as an uplink may carry
FRAGMENTS_ELSEWHERE = tuple(limit.times(ENIS_OF_UPLINK) for limit in (FRAGMENTS, FRAGMENT_BYTES))
PACKET_BYTES, BYTES_OF_BYTE = 1024, 2  # of the kernel's memory, at most: for a packet, and for each byte of it
MOST_PARTS, MOST_UPLINKS = 4096, 16  # that are remembered
UNNUMBERED = Prefix.parse("0.0.0.0")


@dataclass(frozen=True, slots=True)
class FencePart:
    """What stands for one interface, but for the secret. `base`: the chain at its hook. `digest`: of all of it."""

    base: Chain
    chains: tuple[Chain, ...]
    digest: str

    @classmethod
    def of(cls, base: Chain, *chains: Chain) -> FencePart:
        return cls(base, chains, _digest(base, *chains))


def _digest(*chains: Chain) -> str:
    return names.digest(render_table(Table(TABLE, chains, family=NETDEV)), 32)


def compile_fence(
    enis: Mapping[str, Eni],
    options: Options,
    secret: int,
    placement: Placement = Placement.INSTANCE,
    uplinks: Collection[str] = (),
) -> Table:
    """The fence of these interfaces (name -> ENI that it carries), and of uplinks by name. `secret` is the mark of
    approved packets: not 0 in instance placement, and 0 in host placement, which needs none and alone has uplinks.

    The stamp's digest is of everything but the secret.
    """
    private = tuple(prefix for eni in enis.values() for prefix in eni.private_prefixes)
    parts = [_part(ifname, eni, options, placement) for ifname, eni in enis.items()]
    parts += [_uplink(ifname, private) for ifname in uplinks]
    bases = [_marked(part.base, secret) if secret else part.base for part in parts]
    drops = tuple(map(_drop_chain, FENCE_CAUSES))
    chains = [*bases, *(chain for part in parts for chain in part.chains), *drops]
    counters = map(Counter, sorted([*map(fence_counter, FENCE_CAUSES), *map(fenced_counter, (*enis, *uplinks))]))
    digest = names.digest("\n".join([_digest(*drops), *sorted(part.digest for part in parts)]), 32)
    return Table(
        TABLE,
        tuple(sorted(chains, key=lambda chain: chain.name)),
        (applied(EPOCH, digest, secret),),
        tuple(counters),
        family=NETDEV,
    )


@lru_cache(maxsize=MOST_PARTS)
def _part(ifname: str, eni: Eni, options: Options, placement: Placement) -> FencePart:
    other_mac = _drop(ifname, "other-mac", Match(Field.ETHER_SADDR, (Range.of(_mac(eni)),), negate=True))
    if placement is Placement.HOST:
        fragments = _fragments(ifname, FRAGMENTS, FRAGMENT_BYTES)
        passing = (*_limits(ifname, eni, fragments), *_from_instance(ifname, eni, options))
        content = _content(ifname, passing, "spoofed", eni)
        return FencePart.of(_base("ingress", ifname, (other_mac,), content), fragments, content)
    content = _content(ifname, [_dhcp(_own(eni, Family.IPV4), options)], "unapproved", eni)
    return FencePart.of(_base("egress", ifname, (other_mac, *_approved(PLACEHOLDER)), content), content)


@lru_cache(maxsize=MOST_UPLINKS)
def _uplink(ifname: str, private: tuple[Prefix, ...]) -> FencePart:
    """Nothing may speak as an ENI that is here (ingress filtering, RFC 2827): the policy says so, too, but of whole
    datagrams only. What asks for the router's MAC may be many, and so may fragments, but not all that there can be."""
    fragments = _fragments(ifname, *FRAGMENTS_ELSEWHERE)
    kinds = {kind: is_value(Field.PROTOCOL, kind) for kind in (IPV4, ARP, IPV6)}
    questions = (
        (kinds[ARP], is_value(Field.ARP_OPERATION, REQUEST)),
        (kinds[IPV6], is_value(Field.ICMPV6_TYPE, SOLICITATION)),
    )
    rules = (
        *_spoofed(ifname, private, kinds),
        *_parts(fragments, {kind: (found,) for kind, found in kinds.items()}),
        *(_drop(ifname, "discovery-limit", *question, QUESTIONS_ELSEWHERE) for question in questions),
        rule(ACCEPT),
    )
    content = content_chain(names.identifier("fence", ifname), rules)
    return FencePart.of(_base("ingress", ifname, (), content), fragments, content)


def _spoofed(ifname: str, private: Iterable[Prefix], kinds: Mapping[int, Match]) -> Iterator[Rule]:
    for kind, family in TYPES.items():
        own = [prefix for prefix in private if prefix.family is family]
        if own:
            yield _drop(ifname, "spoofed", kinds[kind], Match(SOURCE[family], merged(own)))


def _marked(base: Chain, secret: int) -> Chain:
    """The base chain of an ENI, with this mark in place of the one that stands for it."""
    if secret == PLACEHOLDER:
        return base
    known = dict(zip(_approved(PLACEHOLDER), _approved(secret), strict=True))
    return replace(base, rules=tuple(known.get(each, each) for each in base.rules))


def _approved(secret: int) -> Iterator[Rule]:
    """No set without a name, since this chain changes in place (skeleton.py). The type is asked, since a route can put
    labels in front of what the policy has seen (`encap mpls`)."""
    approved = is_value(Field.PACKET_MARK, secret), Match(Field.ROUTE_REALM, (Range.of(NO_REALM),), negate=True)
    return (rule(is_value(Field.ETHER_TYPE, kind), *approved, ACCEPT) for kind in (IPV4, IPV6))


def _fragments(ifname: str, *limits: Exceeds) -> Chain:
    """Incomplete datagrams take memory that all of a router share, in which a few thousand fragments fit: before any
    policy, and for as long as they may be late."""
    rules = tuple(_drop(ifname, "fragments", limit) for limit in limits)
    return content_chain(names.identifier("fragments", ifname), rules)


def held_fragments(seconds: int, enis: int, uplinks: int) -> int:
    """Bytes of memory that fragments of so many interfaces take at most, if they are kept so long."""
    packets, size = (limit.per_second * seconds + limit.burst for limit in (FRAGMENTS, FRAGMENT_BYTES))
    return (packets * PACKET_BYTES + size * BYTES_OF_BYTE) * (enis + uplinks * ENIS_OF_UPLINK)


def _parts(fragments: Chain, kinds: Mapping[int, tuple[Statement, ...]]) -> Iterator[Rule]:
    """The way to their limits, for what has these EtherTypes."""
    is_part = Match(Field.IP_FRAGMENT, (Range.of(0),), negate=True, mask=FRAGMENTED)
    yield rule(*kinds[IPV4], is_part, jump(fragments.name))
    yield rule(*kinds[IPV6], is_value(Field.IP6_FRAGMENT, 1), jump(fragments.name))


def _limits(ifname: str, eni: Eni, fragments: Chain) -> Iterator[Rule]:
    """Of both families together, but for what asks."""
    yield from _parts(fragments, {kind: _of_type(kind) for kind in TYPES})
    is_discovery = is_value(Field.ICMPV6_TYPE, *always.DISCOVERY_TYPES)
    asking = (
        (_of_type(ARP), Field.ARP_SENDER_IP, Family.IPV4),
        ((*_of_type(IPV6), is_discovery), Field.IP6_SADDR, Family.IPV6),
    )
    for conditions, asker, family in asking:
        blocks = _blocks(_own(eni, family))
        if blocks:
            yield _drop(ifname, "discovery-limit", *conditions, Match(asker, merged(blocks)), QUESTIONS_OF_BLOCKS)
        yield _drop(ifname, "discovery-limit", *conditions, QUESTIONS)


def _from_instance(ifname: str, eni: Eni, options: Options) -> Iterator[Rule]:
    """Discovery that goes beyond the link comes no further than here (`always.is_far_discovery`). A packet passes from
    an own address, or from one that speaks as its link: the policy says what that may be."""
    is_discovery = is_value(Field.ICMPV6_TYPE, *always.DISCOVERY_TYPES)
    on_link = always.on_link(eni.own_prefixes, options, Placement.HOST)
    is_far = Match(DESTINATION[Family.IPV6], merged(on_link), negate=True)
    yield _drop(ifname, "discovery", *_of_type(IPV6), is_discovery, is_far)
    for kind, family in TYPES.items():
        for sources in _sources(eni, family):
            yield rule(*_of_type(kind), Match(SOURCE[family], merged(sources)), ACCEPT)


def _sources(eni: Eni, family: Family) -> Iterator[tuple[Prefix, ...]]:
    """In the order in which they are asked for: a set that has no ranges costs less, and one address least."""
    own = _own(eni, family)
    singles = tuple(prefix for prefix in own if prefix.first == prefix.last)
    blocks = _blocks(own)
    as_its_link = always.discovery_sources(eni) if family is Family.IPV6 else (UNNUMBERED,)
    return filter(None, (singles, blocks, as_its_link))


def _base(hook: str, ifname: str, first: Iterable[Rule], content: Chain) -> Chain:
    rules = (
        *first,
        rule(goto(content.name)),
        rule(Count(fence_counter("other")), DROP),  # were that chain empty
    )
    return Chain(names.identifier(hook, ifname), rules, Hook(hook, FENCE_PRIORITY, ifname))


def _content(ifname: str, passing: Iterable[Rule], cause: str, eni: Eni) -> Chain:
    """`passing`: what passes of IP, `cause` why the rest of it doesn't."""
    rules = (
        *passing,
        *_arp(ifname, eni),
        _drop(ifname, "arp-claim", is_value(Field.ETHER_TYPE, ARP)),
        _drop(ifname, "tagged", is_value(Field.ETHER_TYPE, *TAGGED)),
        _drop(ifname, cause, is_value(Field.ETHER_TYPE, *TYPES)),
        _drop(ifname, "other"),
    )
    return content_chain(names.identifier("fence", ifname), rules)


def _blocks(own: Iterable[Prefix]) -> tuple[Prefix, ...]:
    return tuple(prefix for prefix in own if prefix.first != prefix.last)


def _own(eni: Eni, family: Family) -> tuple[Prefix, ...]:
    return tuple(prefix for prefix in eni.own_prefixes if prefix.family is family)


def _dhcp(own: Iterable[Prefix], options: Options) -> Rule:
    """A DHCP client has no address yet, so it uses a packet socket (RFC 2131, and `always.is_dhcp`). In a fragment one
    would read anything as ports."""
    client, server, everyone = always.DHCP[Family.IPV4]
    servers = {everyone.value, *(gateway.value for gateway in options.gateways if gateway.family is Family.IPV4)}
    return rule(
        *_of_type(IPV4),
        Match(SOURCE[Family.IPV4], merged((*own, always.DHCP_UNNUMBERED[Family.IPV4]))),
        is_value(DESTINATION[Family.IPV4], *servers),
        Match(Field.IP_FRAGMENT, (Range.of(0),), mask=FRAGMENTED),
        *_ports(client, server),
        ACCEPT,
    )


def _ports(source: int, destination: int) -> tuple[Statement, ...]:
    """Of UDP."""
    return is_value(Field.L4PROTO, UDP), is_value(Field.TH_SPORT, source), is_value(Field.TH_DPORT, destination)


def _arp(ifname: str, eni: Eni) -> Iterator[Rule]:
    """Who has, and I have: what the sender says of itself has to be true. From 0.0.0.0 it is a probe, and who is about
    to take the address that it asks for gives it up (RFC 5227, 2.1.1): so that has to be an own one."""
    own = _own(eni, Family.IPV4)
    is_probe = Match(Field.ARP_SENDER_IP, merged((UNNUMBERED,)))
    is_of_another = (Match(Field.ARP_TARGET_IP, merged(own), negate=True),) if own else ()
    yield _drop(ifname, "arp-claim", *_of_type(ARP), is_probe, *is_of_another)
    yield rule(
        *_of_type(ARP),
        is_value(Field.ARP_HTYPE, ETHERNET),
        is_value(Field.ARP_PTYPE, IPV4),
        is_value(Field.ARP_HLEN, MAC_BYTES),
        is_value(Field.ARP_PLEN, IPV4_BYTES),
        is_value(Field.ARP_OPERATION, REQUEST, REPLY),
        is_value(Field.ARP_SENDER_MAC, _mac(eni)),
        Match(Field.ARP_SENDER_IP, merged((*own, UNNUMBERED))),
        ACCEPT,
    )


def _of_type(kind: int) -> tuple[Statement, Statement]:
    """What the frame says of itself, and what the kernel, which believes whoever sends a frame, reads it as."""
    return is_value(Field.ETHER_TYPE, kind), is_value(Field.PROTOCOL, kind)


def _mac(eni: Eni) -> int:
    return int(eni.mac_address.replace(":", ""), 16)


def _drop(ifname: str, cause: str, *conditions: Statement) -> Rule:
    return rule(*conditions, Count(fenced_counter(ifname)), goto(_drop_name(cause)))


def _drop_chain(cause: str) -> Chain:
    counter = fence_counter(cause)
    return Chain(_drop_name(cause), (rule(Count(counter), logged(counter)), rule(DROP)))


def _drop_name(cause: str) -> str:
    return names.identifier("fence-drop", cause)
