"""The fixed part of a table, as data: base chains, session handling, what always or never passes, dispatch.

Owns hooks, priorities, the layout of the conntrack mark and the epoch. Is given interface names and profile roots.
Must not know rules of users, or what the kernel holds now.

    hook         priority   sees                                              far address
    prerouting      -150    ingress: after conntrack (-200), before DNAT      source
    postrouting      150    egress: after SNAT (100), what is on the wire     destination

The conntrack mark keeps two epochs: the high half that of the ingress side's accept, the low half that of the egress
side's. Both halves, because one conntrack entry can answer to two policies (a packet that an instance forwards from
one ENI to another). A half that equals the present epoch is the whole fast path; any other is judged again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sgdataplane.compiler.content import content_chain
from sgdataplane.model import always
from sgdataplane.model.options import Options
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.net.values import ICMP, ICMPV6, TCP, UDP, Direction, Family, Prefix
from sgdataplane.nft import names
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    TCP_ACK,
    TCP_FIN,
    TCP_RST,
    TCP_SYN,
    Chain,
    Count,
    Counter,
    CtDirection,
    CtState,
    Field,
    Hook,
    KeyType,
    Map,
    Match,
    Nfproto,
    Range,
    Rule,
    SetMark,
    SetTimeout,
    Timeout,
    VerdictMap,
    goto,
    jump,
    rule,
)

TABLE = "sgdataplane"
LAST_EPOCH = 0xFFFF
INGRESS_HALF, EGRESS_HALF = 0xFFFF0000, 0x0000FFFF
HALF = {Direction.INGRESS: INGRESS_HALF, Direction.EGRESS: EGRESS_HALF}
HOOKS = {Direction.INGRESS: Hook("prerouting", -150), Direction.EGRESS: Hook("postrouting", 150)}
INTERFACE = {Direction.INGRESS: Field.IIFNAME, Direction.EGRESS: Field.OIFNAME}
LOOPBACK = "lo"
APPLIED = "applied"  # the map that says what was applied: 0 -> epoch, 1..4 -> digest of the table


@dataclass(frozen=True, slots=True)
class Link:
    """One ENI's interface, what it may send from, the roots of its profile by hook, and its own idle timeouts."""

    ifname: str
    own: tuple[Prefix, ...]
    roots: dict[Direction, str]
    timeouts: tuple[Timeout, ...] = ()


def is_value(asked: Field, *values: int | str) -> Match:
    return Match(asked, tuple(Range.of(value) for value in sorted(values)))


def epoch_mark(direction: Direction, epoch: int) -> int:
    """The epoch placed in that direction's half of the mark."""
    return epoch << 16 if direction is Direction.INGRESS else epoch


def side_of(hook: Direction, ct_direction: CtDirection) -> Direction:
    """Whose policy speaks for a packet: an opening packet answers to its hook's direction, a reply to the other."""
    return hook if ct_direction is CtDirection.ORIGINAL else hook.other


def base_chain(hook: Direction, epoch: int) -> Chain:
    """The fast path, dispatch by interface, and an explicit drop for interfaces that no policy knows."""
    rules = [_fast_path(hook, ct_direction, epoch) for ct_direction in CtDirection]
    rules += [
        rule(is_value(INTERFACE[hook], LOOPBACK), ACCEPT),
        rule(VerdictMap(INTERFACE[hook], name=dispatch_name(hook))),
        _drop(hook, "unknown-interface"),
    ]
    return Chain(hook.value, tuple(rules), HOOKS[hook])


def _fast_path(hook: Direction, ct_direction: CtDirection, epoch: int) -> Rule:
    side = side_of(hook, ct_direction)
    mark = Match(Field.CT_MARK, (Range.of(epoch_mark(side, epoch)),), mask=HALF[side])
    return rule(is_value(Field.CT_DIRECTION, ct_direction), mark, ACCEPT)


def epoch_chains(hook: Direction, epoch: int) -> tuple[Chain, ...]:
    """The chains that name the epoch, all of which move together."""
    return (base_chain(hook, epoch), *end_chains(hook, epoch))


def end_chains(direction: Direction, epoch: int) -> tuple[Chain, Chain]:
    """Where a direction's leaves end: accepted sessions carry the epoch, refused ones lose it, so that an ICMP error
    of a revoked session is no longer `related` to anything accepted."""
    others = ~HALF[direction] & 0xFFFFFFFF
    accept = rule(SetMark(others, epoch_mark(direction, epoch)), ACCEPT)
    refuse = rule(SetMark(others, 0), DROP)
    return Chain(f"{direction.value}-accept", (accept,)), Chain(f"{direction.value}-refuse", (refuse,))


def preamble(hook: Direction, options: Options) -> Chain:
    """What passes or drops before any rule is asked; returns to the ENI's chain when nothing here decides."""
    rules = _discovery(hook)  # first: conntrack leaves most of it untracked, and calls a redirect invalid
    rules.append(rule(is_value(Field.CT_STATE, CtState.INVALID), *_drop(hook, "invalid").statements))
    rules += _icmp_errors(hook)
    rules += [_dhcp(hook, family, options) for family in Family]
    rules.append(rule(is_value(Field.CT_STATE, CtState.UNTRACKED), *_drop(hook, "untracked").statements))
    return content_chain(f"{hook.value}-preamble", tuple(rules))


def _icmp_errors(hook: Direction) -> list[Rule]:
    """ICMP errors pass with a session that some epoch accepted, and drop with any other.

    Never let one go on to the rules: it carries its session's conntrack entry, so a rule that accepts ICMP would mark
    that session, a revoked one too, as accepted.
    """
    error = (is_value(Field.CT_STATE, CtState.RELATED), is_value(Field.L4PROTO, ICMP, ICMPV6))
    rules = []
    for ct_direction in CtDirection:
        was_accepted = Match(Field.CT_MARK, (Range.of(0),), negate=True, mask=HALF[side_of(hook, ct_direction)])
        accept = _accept(hook, "icmp-error").statements
        rules.append(rule(*error, is_value(Field.CT_DIRECTION, ct_direction), was_accepted, *accept))
    return [*rules, rule(*error, *_drop(hook, "icmp-error-refused").statements)]


def _discovery(hook: Direction) -> list[Rule]:
    """IPv6 neighbour discovery and MLD, without which nothing of IPv6 works."""
    types = always.ND_TYPES[hook]
    anywhere = [t for t in types if t not in always.LINK_SCOPE_ONLY] + list(always.MLD_TYPES)
    link_scope = [t for t in types if t in always.LINK_SCOPE_ONLY]
    accept = _accept(hook, "always").statements
    rules = [rule(_icmpv6(anywhere), *accept)]
    if link_scope:
        source = Match(Field.IP6_SADDR, (_range(always.LINK_LOCAL),))
        rules.append(rule(source, _icmpv6(link_scope), *accept))
    return rules


def _icmpv6(types: Iterable[int]) -> Match:
    return Match(Field.ICMPV6_TYPE, tuple(Range.of(number) for number in sorted(types)))


def _dhcp(hook: Direction, family: Family, options: Options) -> Rule:
    """DHCP between the ENI and its gateway; the same shape as `always.is_dhcp`."""
    client, server, everyone = always.DHCP[family]
    servers = [address.value for address in options.gateways if address.family is family]
    far, source, destination = (
        (FAR_SOURCE[family], server, client) if hook is Direction.INGRESS else (FAR_DESTINATION[family], client, server)
    )
    if hook is Direction.EGRESS:
        servers.append(everyone.value)
    return rule(
        Match(far, tuple(Range.of(value) for value in sorted(servers))),
        is_value(Field.L4PROTO, UDP),
        is_value(Field.TH_SPORT, source),
        is_value(Field.TH_DPORT, destination),
        *_accept(hook, "always").statements,
    )


FAR_SOURCE = {Family.IPV4: Field.IP_SADDR, Family.IPV6: Field.IP6_SADDR}
FAR_DESTINATION = {Family.IPV4: Field.IP_DADDR, Family.IPV6: Field.IP6_DADDR}
NFPROTO = {Family.IPV4: Nfproto.IPV4, Family.IPV6: Nfproto.IPV6}


def eni_chain(hook: Direction, link: Link, preamble: Chain, options: Options) -> Chain:
    """One ENI at one hook: preamble, its timeouts, what it may never do, then its profile."""
    rules = [rule(jump(preamble.name)), *(_timeout(entry) for entry in link.timeouts)]
    if hook is Direction.EGRESS:
        rules += [_not_own(link.own, family) for family in Family]
    rules += _midstream(hook, options)
    rules += [_metadata(hook, prefix) for prefix in options.metadata]
    rules.append(rule(goto(link.roots[hook])))
    return content_chain(names.identifier(f"eni-{hook.value}", link.ifname), tuple(rules))


def timeouts(tracking: ConnectionTracking) -> tuple[Timeout, ...]:
    """The timeouts of an ENI that has its own; the others' are the namespace's. Their names say all there is to say,
    since the kernel can't change one that is in use."""
    if tracking == ConnectionTracking():
        return ()
    established, closed, udp = (
        tracking.tcp_established_timeout,
        tracking.tcp_closed_and_time_wait_timeout,
        tracking.udp_timeout,
    )
    of_tcp = (("established", established), ("close", closed), ("time_wait", closed))
    of_udp = (("unreplied", udp), ("replied", udp))
    return tuple(
        entry
        for family in _L3PROTO
        for entry in (
            Timeout(f"tcp-{_L3PROTO[family]}-{established}-{closed}", "tcp", _L3PROTO[family], of_tcp),
            Timeout(f"udp-{_L3PROTO[family]}-{udp}", "udp", _L3PROTO[family], of_udp),
        )
    )


_L3PROTO = {Family.IPV4: "ip", Family.IPV6: "ip6"}
_L4PROTO = {"tcp": TCP, "udp": UDP}


def _timeout(timeout: Timeout) -> Rule:
    """The kernel heeds it at a session's first packet only, and doesn't compare protocols itself."""
    family = next(family for family, name in _L3PROTO.items() if name == timeout.family)
    return rule(
        is_value(Field.NFPROTO, NFPROTO[family]),
        is_value(Field.L4PROTO, _L4PROTO[timeout.protocol]),
        SetTimeout(timeout.name),
    )


def _not_own(own: Sequence[Prefix], family: Family) -> Rule:
    """Drop what the ENI sends from an address that isn't its own."""
    ranges = _merged(prefix for prefix in own if prefix.family is family)
    drop = _drop(Direction.EGRESS, "spoofed").statements
    if not ranges:
        return rule(is_value(Field.NFPROTO, NFPROTO[family]), *drop)
    return rule(Match(FAR_SOURCE[family], ranges, negate=True), *drop)


def _merged(prefixes: Iterable[Prefix]) -> tuple[Range, ...]:
    """Prefixes nest or are disjoint; those inside another one go."""
    merged: list[Range] = []
    for prefix in sorted(prefixes, key=lambda p: (p.first, p.length)):
        if not merged or prefix.first > int(merged[-1].last):
            merged.append(_range(prefix))
    return tuple(merged)


def _midstream(hook: Direction, options: Options) -> list[Rule]:
    """TCP that opens nothing and belongs to no known session (semantics.md section 4)."""
    is_judged = options.midstream_egress == "judge" if hook is Direction.EGRESS else True
    if is_judged and not options.strict_syn:
        return []
    flags = TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK
    not_syn = Match(Field.TCP_FLAGS, (Range.of(TCP_SYN),), negate=True, mask=flags)
    state = is_value(Field.CT_STATE, CtState.NEW, CtState.RELATED)
    return [rule(state, is_value(Field.L4PROTO, TCP), not_syn, *_drop(hook, "midstream").statements)]


def _metadata(hook: Direction, prefix: Prefix) -> Rule:
    """The metadata address is always reachable outbound; the answer is told by its being a reply."""
    far = FAR_SOURCE if hook is Direction.INGRESS else FAR_DESTINATION
    ct_direction = CtDirection.REPLY if hook is Direction.INGRESS else CtDirection.ORIGINAL
    count = Count(fixed_counter(hook, "always"))
    is_session = is_value(Field.CT_DIRECTION, ct_direction)
    return rule(
        Match(far[prefix.family], (_range(prefix),)), is_session, count, goto(f"{Direction.EGRESS.value}-accept")
    )


def dispatch(hook: Direction, chains: Mapping[str, Chain]) -> Map:
    """Interface name -> the chain of the ENI it carries."""
    elements = tuple((ifname, goto(chain.name)) for ifname, chain in sorted(chains.items()))
    return Map(dispatch_name(hook), KeyType.IFNAME, elements)


def applied(epoch: int, digest: str) -> Map:
    """What was applied, for whoever asks the kernel: the epoch, and 128 bits of the digest in four marks."""
    words = [int(digest[start : start + 8], 16) for start in range(0, 32, 8)]
    elements = ((0, epoch), *((index, word) for index, word in enumerate(words, start=1)))
    return Map(APPLIED, KeyType.MARK, elements, holds_marks=True)


def fixed_counters() -> tuple[Counter, ...]:
    """The counters of what this file accepts or drops."""
    both = ("always", "icmp-error", "icmp-error-refused", "invalid", "midstream", "unknown-interface", "untracked")
    causes = {Direction.INGRESS: both, Direction.EGRESS: (*both, "spoofed")}
    return tuple(Counter(fixed_counter(hook, cause)) for hook in Direction for cause in causes[hook])


def fixed_counter(hook: Direction, cause: str) -> str:
    return names.identifier(hook.value, cause)


def dispatch_name(hook: Direction) -> str:
    return f"{hook.value}-enis"


def _accept(hook: Direction, cause: str) -> Rule:
    return rule(Count(fixed_counter(hook, cause)), ACCEPT)


def _drop(hook: Direction, cause: str) -> Rule:
    return rule(Count(fixed_counter(hook, cause)), DROP)


def _range(prefix: Prefix) -> Range:
    return Range(prefix.first, prefix.last)
