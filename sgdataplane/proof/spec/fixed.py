"""Say what the fixed part of a table must do with each packet, before and after rules are evaluated.

Owns the specification of this part: the clauses of semantics.md, sections 3 and 4, about header fields. The first
clause that holds decides. For opening packets they equal decide() until rules are evaluated; a test compares them.
It is given an ENI. It must not know how the compiler gets there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeVar

from sgdataplane.contract import names
from sgdataplane.contract.counters import eni_counter
from sgdataplane.contract.fields import DESTINATION, SOURCE, TCP_SYN, CtDirection, CtState, Field, KeyType
from sgdataplane.contract.marks import HALF, other_half
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import accept_name, refuse_name
from sgdataplane.model import always
from sgdataplane.model.options import Options
from sgdataplane.model.state import Eni
from sgdataplane.net.values import AH, ICMP, ICMPV6, TCP, UDP, Direction, Family, Prefix, Verdict
from sgdataplane.nft.ir import Count, Match, Range, SetMark, SetPacketMark
from sgdataplane.proof.spec.claims import Ranges, end_chain, unite
from sgdataplane.proof.spec.crossing import (
    ANSWERED,
    ICMP_TYPE,
    OPENED,
    SYN_FLAGS,
    find_reached_field,
    find_source_field,
)
from sgdataplane.proof.spec.outcomes import Effect, Effects, Outcome

Value = TypeVar("Value")
JUDGE = {side: f"judge-{side.value}" for side in Direction}  # the outcome "the rules of this side decide"
# The outcome "carry out this verdict of that side".
ENDS = {end_chain(side, verdict): (side, verdict) for side in Direction for verdict in Verdict}


def ends_at(hook: Direction) -> dict[str, str]:
    """Return the chains at a hook that carry verdicts out, each with the name that stands for it (`end_chain`)."""
    accepting = {accept_name(hook, side): end_chain(side, Verdict.ACCEPT) for side in Direction}
    return {**accepting, **{refuse_name(side): end_chain(side, Verdict.DROP) for side in Direction}}


EVERY_END = frozenset(name for hook in Direction for name in ends_at(hook))
# The largest address of each key type, and the fields that hold addresses of each family.
LAST = {KeyType.IPV4: Family.IPV4.last, KeyType.IPV6: Family.IPV6.last, KeyType.BITS128: Family.IPV6.last}
OF_ENTRY = {f: [ends[f][end] for ends in (OPENED, ANSWERED) for end in ("source", "destination")] for f in Family}
ADDRESSES = {
    family: (SOURCE[family], DESTINATION[family], *OF_ENTRY[family], *more)
    for family, more in ((Family.IPV4, ()), (Family.IPV6, (Field.ND_TARGET,)))
}
ERRORS = {Family.IPV4: always.ICMP_ERRORS, Family.IPV6: always.ICMPV6_ERRORS}


@dataclass(frozen=True, slots=True)
class FixedClause:
    """What must happen to packets for which all conditions hold."""

    outcome: Outcome
    conditions: tuple[Match, ...]
    says: str
    """The clause in words, for people."""


@dataclass(frozen=True, slots=True)
class Own:
    """What the clauses at an ENI's interface say of this ENI alone. All the rest is the same at any ENI.

    Clauses ask only whether a packet's address is among its addresses; template.py relies on that.
    """

    ifname: str
    slot: int = 0
    """Its number in the mark of sessions that it accepts."""
    private: tuple[Prefix, ...] = ()
    """Its private addresses and delegated prefixes."""
    addresses: tuple[Prefix, ...] = ()
    """The private ones and the allowed address pairs: all that it may send from."""
    link_local: tuple[Prefix, ...] = ()
    """Its link-local addresses."""

    @classmethod
    def of(cls, ifname: str, slot: int, eni: Eni) -> Own:
        """Take what is an ENI's own from its record."""
        return cls(ifname, slot, eni.private_prefixes, eni.own_prefixes, eni.link_prefixes)


@dataclass(frozen=True, slots=True)
class EniAtHook:
    """One ENI's interface at one hook, in one family."""

    site: Site
    hook: Direction
    family: Family
    own: Own
    epoch: int
    """The epoch in the mark of sessions that it accepts."""
    secret: int
    """The packet mark of packets that may leave; 0 if there is none."""
    options: Options

    @property
    def far(self) -> Field:
        """The header field with the far address."""
        return (SOURCE if self.hook is Direction.INGRESS else DESTINATION)[self.family]

    @property
    def local(self) -> Field:
        """The header field with the address on the ENI's side."""
        return (DESTINATION if self.hook is Direction.INGRESS else SOURCE)[self.family]

    @property
    def reached(self) -> Field:
        """The field with the far address of sessions that the ENI opens."""
        return find_reached_field(self.family, is_arriving=not self.site.is_leaving(Direction.EGRESS))

    def find_source_field(self, way: CtDirection) -> Field:
        """Return the field with the address that a session's packets in one direction come from."""
        return find_source_field(self.family, way, is_arriving=not self.site.is_leaving(self.hook))

    @property
    def is_egress(self) -> bool:
        """Whether it is about what the ENI sends."""
        return self.hook is Direction.EGRESS

    @property
    def neighbours(self) -> tuple[Prefix, ...]:
        """The IPv6 addresses that may be on the ENI's link."""
        return always.on_link(self.own.addresses, self.options, self.site.placement)

    def passing(self) -> Effects:
        """Return the effects on an accepted packet. One that leaves gets the fence's mark."""
        return approval(self.site, self.hook, self.secret)

    def accept(self, counter: str, *conditions: Match) -> FixedClause:
        """Make a clause that accepts packets and counts them by this cause."""
        effects = (Count(names.identifier(self.hook.value, counter)), *self.passing())
        return FixedClause((effects, Verdict.ACCEPT.value), conditions, f"accept, as {counter}")

    def drop(self, counter: str, *conditions: Match) -> FixedClause:
        """Make a clause that drops packets and counts them by this cause and for the ENI."""
        return make_drop(self.hook, counter, *conditions, then=(self.count_drop(self.hook),))

    def count_drop(self, side: Direction) -> Count:
        """Return the counter of all packets that are dropped for the ENI."""
        return Count(eni_counter(side, self.own.ifname))

    def among(self, asked: Field, prefixes: Iterable[Prefix]) -> Match:
        """Make a match that holds for addresses in one of the prefixes of the family."""
        return Match(asked, unite((p.first, p.last) for p in prefixes if p.family is self.family))


def approval(site: Site, hook: Direction, secret: int) -> Effects:
    """Return the effects that mark a packet for the fence, at a hook where packets leave; none elsewhere."""
    return (SetPacketMark(secret),) if secret and site.is_leaving(hook) else ()


def one_of(asked: Field, *values: int | str) -> Match:
    """Make a match that holds for these values of a field."""
    return Match(asked, tuple(Range.of(value) for value in sorted(set(values))))


def none_of(match: Match) -> Match:
    """Negate a match. It still doesn't hold for packets that lack the field."""
    return Match(match.field, match.ranges, negate=True, mask=match.mask)


IS_RELATED, IS_ICMP = one_of(Field.CT_STATE, CtState.RELATED), one_of(Field.L4PROTO, ICMP, ICMPV6)


def clauses(link: EniAtHook, *, is_adopting: bool) -> Iterator[FixedClause]:
    """Yield all clauses for packets at an ENI's interface, strongest first. The last one holds for every packet.

    TCP that opens no session is dropped, but not while the ENI is being adopted.
    """
    yield from _sessions(link)
    yield from _unconditional(link)
    yield from _addresses(link)
    yield from _own_link(link)
    yield from _drop_unjudged(link)
    yield from _errors(link)
    if not (link.is_egress and is_adopting):
        yield from _midstream(link)
    yield from _judge(link)


def _sessions(link: EniAtHook) -> Iterator[FixedClause]:
    """Yield clauses that accept packets of sessions that this ENI accepts now, and ICMP errors about them that come in.

    AH over IPv6 carries the entry of another session, so it never passes by that.
    """
    is_no_ah = (none_of(one_of(Field.L4PROTO, AH)),) if link.family is Family.IPV6 else ()
    for way in CtDirection:
        state = one_of(Field.CT_STATE, CtState.NEW, CtState.ESTABLISHED)
        known = (*is_no_ah, *_require_acceptance(link, way), state)
        yield FixedClause((link.passing(), "accept"), known, "accept, as of a known session")
    if not link.is_egress:
        yield from _of_accepted(link)


def _of_accepted(link: EniAtHook) -> Iterator[FixedClause]:
    """Yield clauses that accept ICMP errors about sessions that this ENI accepts now."""
    is_error = IS_RELATED, one_of(ICMP_TYPE[link.family], *ERRORS[link.family])
    for way in CtDirection:
        yield link.accept("icmp-error", *_require_acceptance(link, way), *is_error)


def _is_of_another(link: EniAtHook, way: CtDirection) -> Match:
    """Make a match that holds if packets of that direction don't come from the ENI."""
    return none_of(link.among(link.find_source_field(way), link.own.addresses))


def _require_acceptance(link: EniAtHook, way: CtDirection) -> tuple[Match, Match, Match]:
    """Make the conditions that a session was accepted by this ENI: direction, epoch and slot."""
    side, marks = (link.hook if way is CtDirection.ORIGINAL else link.hook.other), link.site.marks
    epoch, slot = Range.of(marks.epoch(side, link.epoch)), Range.of(marks.slot(side, link.own.slot))
    return (
        one_of(Field.CT_DIRECTION, way),
        Match(Field.CT_MARK, (epoch,), mask=marks.epoch_mask(side)),
        Match(Field.CT_MARK, (slot,), mask=marks.slot_mask(side)),
    )


def _unconditional(link: EniAtHook) -> Iterator[FixedClause]:
    """Yield the clauses that come before the ENI's addresses are looked at.

    They drop discovery beyond the link and claims of others' addresses. Then they accept discovery, MLD and DHCP.
    """
    if link.is_egress and link.family is Family.IPV6:
        yield link.drop("far-discovery", one_of(Field.ICMPV6_TYPE, *always.DISCOVERY_TYPES), _beyond_the_link(link))
        yield from _claims(link)
    for shape in always.DISCOVERY[link.hook]:
        sources = always.UNNUMBERED if link.is_egress else shape.sources
        yield from _discovery(link, shape, sources)
    yield from _dhcp(link, (always.DHCP_UNNUMBERED[link.family],) if link.is_egress else None)


def _beyond_the_link(link: EniAtHook) -> Match:
    """Make a match that holds for far addresses that can't be on the ENI's link."""
    return none_of(link.among(link.far, link.neighbours))


def _claims(link: EniAtHook) -> Iterator[FixedClause]:
    """Yield clauses that drop claims of others' addresses.

    These are neighbour advertisements and probes for such addresses, and link-local sources that aren't the ENI's own.
    """
    own = (*link.own.addresses, *link.own.link_local)
    of_another = none_of(link.among(Field.ND_TARGET, own))
    yield link.drop("neighbour-claim", one_of(Field.ICMPV6_TYPE, always.ADVERTISE), of_another)
    is_probe = one_of(Field.ICMPV6_TYPE, always.SOLICIT), link.among(Field.IP6_SADDR, (always.UNSPECIFIED,))
    yield link.drop("neighbour-claim", *is_probe, of_another)
    as_a_link, as_another = link.among(link.local, (always.LINK_LOCAL,)), none_of(link.among(link.local, own))
    yield link.drop("spoofed", as_a_link, as_another)


def _own_link(link: EniAtHook) -> Iterator[FixedClause]:
    """Yield clauses that accept discovery and DHCP that an ENI sends from its own address."""
    if link.is_egress:
        for shape in always.DISCOVERY[link.hook]:
            if shape.sources is None:
                yield from _discovery(link, shape, None)
        yield from _dhcp(link, None)


def _discovery(
    link: EniAtHook, shape: always.DiscoveryShape, sources: tuple[Prefix, ...] | None
) -> Iterator[FixedClause]:
    """Yield a clause that accepts discovery or MLD of one shape from these sources (None: any)."""
    if link.family is Family.IPV6:
        source = () if sources is None else (link.among(Field.IP6_SADDR, sources),)
        hops = one_of(Field.IP6_HOPLIMIT, shape.hop_limit)
        yield link.accept("always", one_of(Field.ICMPV6_TYPE, *shape.types), hops, *source)


def _dhcp(link: EniAtHook, sources: tuple[Prefix, ...] | None) -> Iterator[FixedClause]:
    """Yield a clause that accepts DHCP with a gateway; `sources` are the allowed local addresses (None: any)."""
    client, server, everyone = always.DHCP[link.family]
    far = {address.value for address in link.options.gateways if address.family is link.family}
    ports = (client, server) if link.is_egress else (server, client)
    conditions = [
        one_of(Field.L4PROTO, UDP),
        one_of(link.far, *far, *([everyone.value] if link.is_egress else [])),
        one_of(Field.TH_SPORT, ports[0]),
        one_of(Field.TH_DPORT, ports[1]),
    ]
    if sources is not None:
        conditions.append(link.among(link.local, sources))
    yield link.accept("always", *conditions)


def _addresses(link: EniAtHook) -> Iterator[FixedClause]:
    """Yield clauses that drop packets with a false source, or for somebody else.

    They are `is_spoofed` and `is_foreign` of semantics.
    """
    own = link.among(link.local, link.own.addresses)
    if link.is_egress:
        yield link.drop("spoofed", none_of(own))
        return
    yield link.drop("spoofed", link.among(link.far, link.own.private))
    mine = (*link.own.addresses, *always.SHARED[link.family])
    yield link.drop("foreign", none_of(link.among(link.local, mine)))


def _drop_unjudged(link: EniAtHook) -> Iterator[FixedClause]:
    """Yield clauses that drop other discovery, DHCP offers that the ENI sends, and packets without a session."""
    if link.family is Family.IPV6:
        yield link.drop("malformed-discovery", one_of(Field.ICMPV6_TYPE, *always.DISCOVERY_TYPES))
    if link.is_egress:
        client, server, _ = always.DHCP[link.family]
        is_opening = one_of(Field.CT_DIRECTION, CtDirection.ORIGINAL)
        ports = one_of(Field.TH_SPORT, server), one_of(Field.TH_DPORT, client)
        yield link.drop("dhcp-server", is_opening, one_of(Field.L4PROTO, UDP), *ports)
    yield link.drop("invalid", one_of(Field.CT_STATE, CtState.INVALID))
    yield link.drop("untracked", one_of(Field.CT_STATE, CtState.UNTRACKED))


def _errors(link: EniAtHook) -> Iterator[FixedClause]:
    """Yield the clauses for ICMP errors and other related ICMP.

    An ENI that sends an error about a packet that wasn't sent to it can't have seen that packet: the error is dropped.
    Other errors about sessions that the ENI accepts now pass. Errors about other sessions are judged like these
    sessions. Other related ICMP says nothing about its session, and is dropped.
    """
    if link.is_egress:
        for way in CtDirection:
            is_way = one_of(Field.CT_DIRECTION, way)
            yield link.drop("icmp-error-refused", IS_RELATED, IS_ICMP, is_way, _is_of_another(link, way))
        yield from _of_accepted(link)
    yield from _judge(link, IS_RELATED, one_of(ICMP_TYPE[link.family], *ERRORS[link.family]))
    yield link.drop("icmp-error-refused", IS_RELATED, IS_ICMP)


def _judge(link: EniAtHook, *conditions: Match) -> Iterator[FixedClause]:
    """Yield clauses by which the rules of the direction in which the session was opened decide.

    For the metadata address no rule is asked.
    """
    for prefix in link.options.metadata:
        way = CtDirection.ORIGINAL if link.is_egress else CtDirection.REPLY
        effects = (Count(names.identifier(link.hook.value, "always")),)
        outcome = (effects, end_chain(Direction.EGRESS, Verdict.ACCEPT))
        is_metadata = link.among(link.reached, (prefix,)), one_of(Field.CT_DIRECTION, way)
        yield FixedClause(outcome, (*conditions, *is_metadata), "accept, as the metadata address")
    is_reply = one_of(Field.CT_DIRECTION, CtDirection.REPLY)
    yield FixedClause(((), JUDGE[link.hook.other]), (*conditions, is_reply), "what the rules say")
    yield FixedClause(((), JUDGE[link.hook]), conditions, "what the rules say")


def _midstream(link: EniAtHook) -> Iterator[FixedClause]:
    """Yield a clause that drops TCP that opens no session and belongs to none (`semantics.is_refused_midstream`)."""
    options = link.options
    if options.strict_syn or (link.is_egress and options.midstream_egress == "drop"):
        opens_nothing = none_of(Match(Field.TCP_FLAGS, (Range.of(TCP_SYN),), mask=SYN_FLAGS))
        of_none = one_of(Field.CT_STATE, CtState.NEW, CtState.RELATED)
        yield link.drop("midstream", one_of(Field.L4PROTO, TCP), of_none, opens_nothing)


def end_clauses(link: EniAtHook, side: Direction, verdict: Verdict) -> Iterator[FixedClause]:
    """Yield how a verdict of that side's rules is carried out.

    The side's half of the mark, and nothing else, says which ENI accepted the session, or that none did. Two kinds of
    packets leave the mark alone: AH over IPv6, which carries another session's entry, and ICMP errors, whose own
    addresses aren't those of their session.
    """
    is_accept = verdict is Verdict.ACCEPT
    rest = link.passing() if is_accept else (link.count_drop(side),)
    if link.family is Family.IPV6:
        yield FixedClause((rest, verdict.value), (one_of(Field.L4PROTO, AH),), f"{verdict.value}, no mark")
    yield FixedClause((rest, verdict.value), (IS_RELATED, IS_ICMP), f"{verdict.value}, no mark")
    value = link.site.marks.encode_acceptance(side, link.epoch, link.own.slot) if is_accept else 0
    mark = SetMark(other_half(side), value)
    yield FixedClause(((mark, *rest), verdict.value), (), f"{verdict.value}, and mark the session so")


def make_drop(hook: Direction, cause: str, *conditions: Match, then: Effects = ()) -> FixedClause:
    """Make a clause that drops packets, counts them by this cause, and then does what `then` says."""
    effects = (Count(names.identifier(hook.value, cause)), *then)
    return FixedClause((effects, Verdict.DROP.value), conditions, f"drop, as {cause}")


@dataclass(frozen=True)
class Common:
    """What the clauses say of all ENIs of a namespace alike."""

    site: Site
    options: Options
    epoch: int
    secret: int

    def at(self, hook: Direction, family: Family, own: Own) -> EniAtHook:
        """Return an ENI's interface at one hook, in one family."""
        return EniAtHook(self.site, hook, family, own, self.epoch, self.secret, self.options)

    def sets(self, own: Own) -> dict[Field, tuple[Ranges, ...]]:
        """Return the sets of an ENI's addresses, by the field that is compared with them.

        Each set that clauses ask for is a union of these and of a constant one (`constants`).
        """
        kinds = own.private, own.addresses, own.link_local, self.at(Direction.EGRESS, Family.IPV6, own).neighbours
        found = {f: tuple(unite((p.first, p.last) for p in kind if p.family is f) for kind in kinds) for f in Family}
        return {asked: found[family] for family, fields in ADDRESSES.items() for asked in fields}

    @cached_property
    def constants(self) -> frozenset[tuple[Field, Ranges]]:
        """The sets of addresses that clauses ask for even at an ENI without addresses."""
        found: set[tuple[Field, Ranges]] = set()
        for hook, family in product(Direction, Family):
            at = self.at(hook, family, Own(""))
            made = [*clauses(at, is_adopting=False), *clauses(at, is_adopting=True)]
            made += [clause for end in ENDS.values() for clause in end_clauses(at, *end)]
            matches = (match for clause in made for match in clause.conditions)
            found.update((match.field, match.ranges) for match in matches if match.field.key_type in LAST)
        return frozenset(found)


def find_renamings(
    common: Common, one: Own, other: Own
) -> tuple[dict[Effect, Effect], dict[tuple[int | None, Range], Range]]:
    """Return what changes between two ENIs: effects, and values of the mark under a mask, as one's -> other's."""
    marks, epoch, pair = common.site.marks, common.epoch, (one, other)
    effects: list[tuple[Effect, Effect]] = []
    values: list[tuple[tuple[int | None, Range], tuple[int | None, Range]]] = []
    for side in Direction:
        accepted = [marks.encode_acceptance(side, epoch, of.slot) for of in pair]
        effects.append(_two(Count(eni_counter(side, of.ifname)) for of in pair))
        effects.append(_two(SetMark(other_half(side), value) for value in accepted))
        values.append(_two((HALF[side], Range.of(value)) for value in accepted))
        values.append(_two((marks.slot_mask(side), Range.of(marks.slot(side, of.slot))) for of in pair))
    return dict(effects), {mine: theirs for mine, (_, theirs) in values}


def _two(made: Iterable[Value]) -> tuple[Value, Value]:
    """Return exactly two values, as a pair."""
    one, other = made
    return one, other
