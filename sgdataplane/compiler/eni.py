"""Compile the chains of one ENI at one hook: what always and what never passes, timeouts, and then its profile.

Owns the order of these checks. It is given the ENI's own addresses, the rules for its timeouts, and the roots of its
profile. It must not know rules of users, or the epoch.

    eni chain    far-discovery         egress: discovery or MLD to an address that can't be on the ENI's link; if that
                                       is the same for all ENIs: jump egress-far
                 neighbour-claim       egress: an advertisement of an address that isn't the ENI's, or a probe for one
                                       from ::
                 spoofed               egress: a link-local source that isn't the ENI's, such as the gateway's
                 jump <hook>-link      all but TCP: discovery, MLD and DHCP without an address of the ENI
                 spoofed               egress: a source that isn't the ENI's own; ingress: one of its private addresses
                 foreign               ingress: a destination that isn't the ENI's own
                 jump <hook>-checks    discovery and DHCP from the ENI's own address; DHCP offers; packets without a
                                       session
                 jump ends-egress      egress: related packets
                 timeouts, mid-stream TCP, metadata
                 number of the profile of the side whose rules judge the packet's session: becomes its priority, with
                                       which it returns to the base chain
    ends-egress  icmp-error-refused    an ICMP error about a session whose packets in the error's direction don't come
                                       from the ENI. Other errors about sessions that the ENI accepts pass here
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

from sgdataplane.compiler.skeleton import (
    NO_ERROR,
    SaidRule,
    accept,
    content_chain,
    drop,
    make_shared_rule,
    merge_prefixes,
    parts,
    text_chain,
    text_rule,
)
from sgdataplane.contract import names
from sgdataplane.contract.counters import name_fixed_counter
from sgdataplane.contract.fields import (
    DESTINATION,
    NFPROTO,
    SOURCE,
    TCP_ACK,
    TCP_FIN,
    TCP_RST,
    TCP_SYN,
    CtDirection,
    CtState,
    Field,
)
from sgdataplane.contract.priority import ACCEPTED, CODES, OTHERS_END
from sgdataplane.contract.sites import SITES, Site
from sgdataplane.contract.tables import MIDSTREAM, drop_name
from sgdataplane.model import always
from sgdataplane.model.options import Options, Placement
from sgdataplane.net.values import ICMPV6, TCP, UDP, Direction, Family, Prefix
from sgdataplane.net.values import Verdict as Fate
from sgdataplane.nft.ir import (
    RETURN,
    Chain,
    Count,
    Match,
    Range,
    Rule,
    SetPriority,
    Statement,
    goto,
    is_value,
    jump,
    prefix_range,
    rule,
)
from sgdataplane.nft.text import rule_text
from sgdataplane.policy.dimensions import LOCAL


@dataclass(frozen=True, slots=True)
class EniInterface:
    """What is particular to one ENI's interface."""

    ifname: str
    private: tuple[Prefix, ...]
    """The ENI's addresses and delegated prefixes."""
    own: tuple[Prefix, ...]
    """These and the allowed pairs: all addresses that it may send from."""
    link_sources: tuple[Prefix, ...]
    """Its link-local addresses."""
    on_link: tuple[Prefix, ...]
    """The destinations that can be on its link."""
    numbers: dict[Direction, int] = field(hash=False)
    """The numbers of the sides of its profile."""
    timeouts: dict[Direction, tuple[Rule, ...]] = field(hash=False)
    """The rules at each hook that set timeouts."""


@dataclass(frozen=True, slots=True)
class SharedChains:
    """The chains at one hook that are the same for all ENIs."""

    link: Chain
    """The chain for discovery, MLD and DHCP without an address of the ENI."""
    checks: Chain
    """The chain for packets that no rule of a user may be asked about."""
    foreign: tuple[Chain, ...]
    """At ingress, the chain for packets whose destination isn't the ENI's own."""
    far: tuple[Chain, ...]
    """At egress, the chain for discovery by ENIs whose link has no subnet, as in host placement."""


@lru_cache(maxsize=16)
def make_shared_chains(placement: Placement, hook: Direction, options: Options) -> SharedChains:
    """Return the chains at a hook that need no address of the ENI.

    They are the same objects in all tables of a placement.
    """
    at = SITES[placement], hook
    if hook is Direction.INGRESS:
        link = [_accept_discovery(*at, shape, shape.sources) for shape in always.DISCOVERY[hook]]
        link += [_dhcp(*at, family, options, None) for family in Family]
        checks = []
    else:
        link = [_accept_discovery(*at, shape, always.UNNUMBERED) for shape in always.DISCOVERY[hook]]
        link += [_dhcp(*at, family, options, always.DHCP_UNNUMBERED[family]) for family in Family]
        checks = [_accept_discovery(*at, shape, None) for shape in always.DISCOVERY[hook] if shape.sources is None]
        checks += [_dhcp(*at, family, options, None) for family in Family]
    return SharedChains(
        content_chain(f"{hook.value}-link", tuple(link)),
        content_chain(f"{hook.value}-checks", (*checks, *_make_refusals(hook))),
        (_foreign(hook),) if hook is Direction.INGRESS else (),
        (content_chain("egress-far", (_far_discovery(_list_routed_prefixes(options)),)),)
        if hook is Direction.EGRESS
        else (),
    )


def _list_routed_prefixes(options: Options) -> tuple[Prefix, ...]:
    """Return what can be on a link without subnets."""
    return always.on_link((), options, Placement.HOST)


@lru_cache(maxsize=4)
def make_errors_chain(placement: Placement, hook: Direction) -> Chain:
    """Return the chain that accepts ICMP errors about a session that the packet's ENI accepts now.

    Other `related` packets, which a conntrack helper of others expects, return to be judged like any opening packet.
    """
    unset = rule(SetPriority(0))  # the priority said that the session is accepted
    errors = (_icmp(always.ICMP_ERRORS), _icmpv6(always.ICMPV6_ERRORS))
    passing = (accept(SITES[placement], hook, "icmp-error", one) for one in errors)
    return content_chain(f"errors-{hook.value}", (unset, *passing))


def _foreign(hook: Direction) -> Chain:
    """Return the chain that lets multicast and broadcast go on, and drops the rest.

    Few packets come here, so most are spared a search among ranges.
    """
    shared = (Match(DESTINATION[family], merge_prefixes(always.SHARED[family])) for family in Family)
    return content_chain(f"{hook.value}-foreign", (*(rule(match, RETURN) for match in shared), drop(hook, "foreign")))


def _make_refusals(hook: Direction) -> Iterator[Rule]:
    """Yield the rules for packets that no rule of a user may be asked about.

    An ICMP error is judged like its session, whose entry it carries. Other ICMP that is `related`, such as a redirect,
    says nothing about a session.
    """
    yield drop(hook, "malformed-discovery", _icmpv6(always.DISCOVERY_TYPES))
    if hook is Direction.EGRESS:
        yield from (_dhcp_server(family) for family in Family)
    yield rule(is_value(Field.CT_STATE, CtState.ESTABLISHED, CtState.NEW), RETURN)
    yield drop(hook, "invalid", is_value(Field.CT_STATE, CtState.INVALID))
    yield drop(hook, "untracked", is_value(Field.CT_STATE, CtState.UNTRACKED))
    is_related = is_value(Field.CT_STATE, CtState.RELATED)
    yield rule(is_related, _icmp(always.ICMP_ERRORS), RETURN)
    yield rule(is_related, _icmpv6(always.ICMPV6_ERRORS), RETURN)
    yield rule(is_related, *NO_ERROR, RETURN)
    yield drop(hook, "icmp-error-refused", is_related)


def _accept_discovery(
    site: Site, hook: Direction, shape: always.DiscoveryShape, sources: tuple[Prefix, ...] | None
) -> Rule:
    """Return a rule that accepts IPv6 neighbour discovery and MLD from these sources (None: any).

    The shape is one of `always.is_discovery`.
    """
    source = [] if sources is None else [Match(Field.IP6_SADDR, merge_prefixes(sources))]
    return accept(site, hook, "always", _icmpv6(shape.types), is_value(Field.IP6_HOPLIMIT, shape.hop_limit), *source)


def _icmp(types: Iterable[int]) -> Match:
    return Match(Field.ICMP_TYPE, tuple(Range.of(number) for number in sorted(types)))


def _icmpv6(types: Iterable[int]) -> Match:
    return Match(Field.ICMPV6_TYPE, tuple(Range.of(number) for number in sorted(types)))


def _dhcp(site: Site, hook: Direction, family: Family, options: Options, source: Prefix | None) -> Rule:
    """Return a rule that accepts DHCP between the ENI and its gateway (`always.is_dhcp`).

    At egress, `source` is the only source; None stands for any.
    """
    client, server, everyone = always.DHCP[family]
    servers = [address.value for address in options.gateways if address.family is family]
    is_egress = hook is Direction.EGRESS
    far = sorted([*servers, everyone.value] if is_egress else servers)
    return accept(
        site,
        hook,
        "always",
        *([] if source is None else [Match(SOURCE[family], (prefix_range(source),))]),
        Match((DESTINATION if is_egress else SOURCE)[family], tuple(Range.of(value) for value in far)),
        is_value(Field.L4PROTO, UDP),
        is_value(Field.TH_SPORT, client if is_egress else server),
        is_value(Field.TH_DPORT, server if is_egress else client),
    )


def _dhcp_server(family: Family) -> Rule:
    """Return a rule that drops a DHCP offer which answers no request (`always.is_dhcp_server`)."""
    client, server, _ = always.DHCP[family]
    return drop(
        Direction.EGRESS,
        "dhcp-server",
        is_value(Field.NFPROTO, NFPROTO[family]),
        is_value(Field.CT_DIRECTION, CtDirection.ORIGINAL),
        is_value(Field.L4PROTO, UDP),
        is_value(Field.TH_SPORT, server),
        is_value(Field.TH_DPORT, client),
    )


def eni_chain(
    site: Site, hook: Direction, interface: EniInterface, options: Options, ends: Chain | None = None
) -> Chain:
    """Return the chain for opening packets of the ENI, and for packets whose session has to be judged again.

    At egress, `ends` is the chain that checks what ICMP errors are about.
    """
    shared = make_shared_chains(site.placement, hook, options)
    rules = [
        *(_check_discovery(interface, shared, options) if hook is Direction.EGRESS else ()),
        make_shared_rule(Match(Field.L4PROTO, (Range.of(TCP),), negate=True), jump(shared.link.name)),
        *(_sender(hook, interface.own) if hook is Direction.EGRESS else _receiver(hook, interface, shared.foreign[0])),
        make_shared_rule(jump(shared.checks.name)),
        *([make_shared_rule(is_value(Field.CT_STATE, CtState.RELATED), jump(ends.name))] if ends else []),
        *((entry, rule_text(entry)) for entry in interface.timeouts[hook]),
        *_midstream(hook, options),
        *(_metadata(site, hook, prefix) for prefix in options.metadata),
        make_shared_rule(
            is_value(Field.CT_DIRECTION, CtDirection.REPLY), SetPriority(interface.numbers[hook.other]), RETURN
        ),
        make_shared_rule(SetPriority(interface.numbers[hook])),
    ]
    return text_chain(names.identifier(f"eni-{hook.value}", interface.ifname), rules)


def _check_discovery(interface: EniInterface, shared: SharedChains, options: Options) -> Iterator[SaidRule]:
    """Yield the rules that check neighbour discovery, and the link-local sources that it is sent from."""
    own = [prefix for prefix in (*interface.own, *interface.link_sources) if prefix.family is Family.IPV6]
    yield _on_link(interface, shared, options)
    yield from _claims(own)
    yield _drop_others_link_local(own)


def _on_link(interface: EniInterface, shared: SharedChains, options: Options) -> SaidRule:
    """Return the rule that drops discovery which would leave the ENI's link."""
    if interface.on_link == _list_routed_prefixes(options):
        return make_shared_rule(is_value(Field.L4PROTO, ICMPV6), jump(shared.far[0].name))
    far = _far_discovery(interface.on_link)
    return far, rule_text(far)


def _far_discovery(on_link: tuple[Prefix, ...]) -> Rule:
    """Return a rule that drops discovery that routers would forward, past all rules (`always.is_far_discovery`)."""
    is_far = _match_none_of(Field.IP6_DADDR, merge_prefixes(on_link))
    return drop(Direction.EGRESS, "far-discovery", _icmpv6(always.DISCOVERY_TYPES), *is_far)


def _claims(own: Collection[Prefix]) -> Iterator[SaidRule]:
    """Yield the rules that drop claims of others' addresses. `own` are the IPv6 addresses of the ENI and its link.

    Neighbours believe advertisements, and what solicitations say about their senders. A host that receives a probe for
    the address which it is about to take gives that address up (RFC 4862, 5.4.3). So all of these may only be about the
    ENI's own addresses, as for ARP.
    """
    is_other = _match_none_of(Field.ND_TARGET, merge_prefixes(own))
    yield _make_drop_rule(Direction.EGRESS, "neighbour-claim", _icmpv6((always.ADVERTISE,)), *is_other)
    is_probe = Match(Field.IP6_SADDR, merge_prefixes((always.UNSPECIFIED,)))
    yield _make_drop_rule(Direction.EGRESS, "neighbour-claim", _icmpv6((always.SOLICIT,)), is_probe, *is_other)


def _drop_others_link_local(own: Collection[Prefix]) -> SaidRule:
    """Return the rule that drops packets from a link-local IPv6 address that isn't the ENI's own (`is_spoofed`).

    It stands before all that accepts: otherwise neighbour discovery from such an address would pass.
    """
    links = always.LINK_LOCAL
    is_of_a_link = Match(Field.IP6_SADDR, merge_prefixes((links,)))
    of_a_link = merge_prefixes(prefix for prefix in own if prefix.first <= links.last and links.first <= prefix.last)
    return _make_drop_rule(Direction.EGRESS, "spoofed", is_of_a_link, *_match_none_of(Field.IP6_SADDR, of_a_link))


def _match_none_of(asked: Field, ranges: tuple[Range, ...]) -> tuple[Match, ...]:
    """Return matches that hold if a field lies in none of the ranges."""
    return tuple(Match(asked, part, negate=True) for part in parts(ranges))


def ends_chain(site: Site, interface: EniInterface) -> Chain:
    """Return the chain that drops ICMP errors which this ENI sends about sessions without an end here.

    Errors about sessions that the ENI accepts pass, as their priority says. All other packets return.

    A session has its end here if its packets in the error's direction come from the ENI. So the packet that the error
    quotes was sent to the ENI, and no other workload has seen it. One rule drops: an old kernel walks each way there.
    """
    rules = [make_shared_rule(*NO_ERROR, RETURN)]
    for way, family in product(CtDirection, Family):
        side = Direction.EGRESS if way is CtDirection.ORIGINAL else Direction.INGRESS
        is_another = _match_none_of(site.field(LOCAL, side, family), _of_family(interface.own, family))
        if is_another:
            rules.append(text_rule(is_value(Field.CT_DIRECTION, way), *is_another, SetPriority(OTHERS_END)))
    refused = goto(drop_name(Direction.EGRESS, "icmp-error-refused"))
    passing = goto(make_errors_chain(site.placement, Direction.EGRESS).name)
    rules.append(make_shared_rule(is_value(Field.PACKET_PRIORITY, OTHERS_END), refused))
    rules.append(make_shared_rule(is_value(Field.PACKET_PRIORITY, ACCEPTED), passing))
    return text_chain(names.identifier(f"ends-{Direction.EGRESS.value}", interface.ifname), rules)


def _sender(hook: Direction, sources: tuple[Prefix, ...]) -> Iterator[SaidRule]:
    """Yield rules that check the source, as `semantics.is_spoofed` does."""
    return (
        _make_drop_rule(hook, "spoofed", *_match_other_addresses(SOURCE[family], sources, family)) for family in Family
    )


def _receiver(hook: Direction, interface: EniInterface, foreign: Chain) -> Iterator[SaidRule]:
    """Yield rules that check both addresses, as `semantics.is_spoofed` and `is_foreign` do."""
    for family in Family:
        private = _of_family(interface.private, family)
        yield from (_make_drop_rule(hook, "spoofed", Match(SOURCE[family], part)) for part in parts(private))
        yield text_rule(*_match_other_addresses(DESTINATION[family], interface.own, family), jump(foreign.name))


def _make_drop_rule(hook: Direction, cause: str, *conditions: Statement) -> SaidRule:
    return text_rule(*conditions, goto(drop_name(hook, cause)))


def _match_other_addresses(asked: Field, prefixes: Iterable[Prefix], family: Family) -> tuple[Match, ...]:
    """Return matches that hold for packets of this family whose address lies in none of the prefixes."""
    return _match_none_of(asked, _of_family(prefixes, family)) or (is_value(Field.NFPROTO, NFPROTO[family]),)


def _of_family(prefixes: Iterable[Prefix], family: Family) -> tuple[Range, ...]:
    return merge_prefixes(prefix for prefix in prefixes if prefix.family is family)


def _midstream(hook: Direction, options: Options) -> Iterator[SaidRule]:
    """Yield a rule for TCP that opens no session and belongs to none (semantics.md, section 4)."""
    is_judged = options.midstream_egress == "judge" if hook is Direction.EGRESS else True
    if options.strict_syn or not is_judged:
        flags = TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK
        not_syn = Match(Field.TCP_FLAGS, (Range.of(TCP_SYN),), negate=True, mask=flags)
        opens_nothing = (is_value(Field.CT_STATE, CtState.NEW, CtState.RELATED), is_value(Field.L4PROTO, TCP), not_syn)
        is_egress = hook is Direction.EGRESS
        yield make_shared_rule(*opens_nothing, jump(MIDSTREAM) if is_egress else goto(drop_name(hook, "midstream")))


def _metadata(site: Site, hook: Direction, prefix: Prefix) -> SaidRule:
    """Return a rule that accepts all packets of sessions that the ENI opens to the metadata address.

    That address is always reachable.
    """
    ct_direction = CtDirection.REPLY if hook is Direction.INGRESS else CtDirection.ORIGINAL
    return make_shared_rule(
        Match(site.far(Direction.EGRESS, prefix.family), (prefix_range(prefix),)),
        is_value(Field.CT_DIRECTION, ct_direction),
        Count(name_fixed_counter(hook, "always")),
        SetPriority(CODES[Direction.EGRESS, Fate.ACCEPT]),
        RETURN,
    )
