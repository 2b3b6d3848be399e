"""Carry a verdict out and keep it: the session's mark, the fast path of accepted sessions, counts and drops.

Owns all chains that read or write the mark or name the epoch, and those that drop. It is given where the table stands,
and its interfaces with their slots. It must not know rules of users.

    <hook>                base chain: in a router, packets at an uplink pass first (skeleton.py). Then sessions accepted
                          in this epoch, but no AH over IPv6. It names epoch and slot; with more than FEW interfaces, a
                          set has them for each. All else goes through the ENI's chain, the profile and, by rank, a
                          leaf; at an ENI in audit mode, refusals have other leaves (audit.py). Each of them returns
                          with what it found in the packet's priority. One rule accepts for each side, and whatever
                          else comes back is refused
    <hook>-related        ICMP errors of these sessions pass, but those that an ENI sends are checked by its chain first
    <hook>-accept.<side>  marks the session with the epoch and the slot of the packet's ENI, in one step, and accepts.
                          With more than FEW interfaces, each has a chain of its own that writes the mark,
                          <side>-epoch.<ifname>. AH over IPv6 and ICMP errors are only accepted. In a router, packets
                          that open a session come to the limit first (sessionlimit.py)
    <hook>-pass           where packets leave: marks the packet as approved, for the fence, and accepts it; names the
                          secret
    sent                  base chain, host placement: what the router itself sends passes; other packets that reach its
                          stack behind the policy are dropped, as injected; names the secret
    leaf                  (lower.py) a rule decides: counts; logs what it refuses; notes the verdict in the priority
    <side>-refuse         unmarks the session, counts for the packet's ENI, drops
    <hook>-drop.<cause>   dropped before any rule is asked: counts, logs, counts for the packet's ENI, if its interface
                          carries one, and drops

A log is the last statement of the rule that counts, and the verdict stands in the next rule: where too many packets
come, the kernel leaves the rule at the log, and the next one goes on.

With more than FEW interfaces, another epoch of an ENI changes no rule that has a verdict. Such a rule makes the kernel
validate the whole table when it comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache

from sgdataplane.compiler.eni import make_errors_chain
from sgdataplane.compiler.sessionlimit import make_opening_rule
from sgdataplane.compiler.skeleton import NO_ERROR, OF_ERRORS, drop
from sgdataplane.contract import names
from sgdataplane.contract.counters import CAUSES, INJECTED, LOG_GROUP, PASSING, eni_counter, name_fixed_counter
from sgdataplane.contract.fields import CtDirection, CtState, Field, KeyType, Nfproto
from sgdataplane.contract.marks import HALF, other_half
from sgdataplane.contract.priority import ACCEPTED, CODES, RANKS
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import (
    LOOPBACK,
    PROFILES,
    SENT,
    WINNERS,
    accept_name,
    drop_name,
    gate_name,
    name_audited_enis_map,
    name_related_chain,
    pass_name,
    refuse_name,
)
from sgdataplane.net.values import AH, TCP, Direction
from sgdataplane.net.values import Verdict as Fate
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    MEMBER,
    RETURN,
    Chain,
    Count,
    InSet,
    Log,
    Map,
    MapCount,
    Match,
    Range,
    Rule,
    SetMark,
    SetPacketMark,
    SetPriority,
    Statement,
    VerdictMap,
    goto,
    is_value,
    jump,
    rule,
)

FEW = 2  # up to this many interfaces, the base chain asks for each; a look-up costs about as much as two such questions

# Over IPv6, conntrack looks behind an authentication header for a packet's session, whereas rules see the header's own
# number, 51. So such a packet never passes by its session, and never marks one as accepted.
IS_BEHIND_AH = (is_value(Field.L4PROTO, AH), is_value(Field.NFPROTO, Nfproto.IPV6))
IS_TCP = is_value(Field.L4PROTO, TCP)
IS_NO_AH = Match(Field.L4PROTO, (Range.of(AH),), negate=True)
IS_AH_OVER_IPV4 = (is_value(Field.L4PROTO, AH), is_value(Field.NFPROTO, Nfproto.IPV4))

# `new` is there for sessions without an answer yet, such as one-way UDP. `related` is not: an ICMP error carries its
# session's entry, and a packet that a helper expects inherits the mark, but neither was accepted itself. Nor does an
# error mark a session: that its own addresses are right says nothing about those of its session.
IS_OWN = is_value(Field.CT_STATE, CtState.NEW, CtState.ESTABLISHED)
IS_RELATED = is_value(Field.CT_STATE, CtState.RELATED)
ARE_ERRORS = [(IS_RELATED, is_value(Field.L4PROTO, protocol)) for protocol in OF_ERRORS]
IS_RANK = Match(Field.PACKET_PRIORITY, (Range(RANKS[0], RANKS[-1]),))
NO_CLASS = 0xFFFFFFFF  # no socket has this class: classes are twice 16 bits, and 0 where none is set
HAS_SOCKET = Match(Field.SOCKET_CLASS, (Range.of(NO_CLASS),), negate=True)
Statements = tuple[Statement, ...]

# Rules that name no epoch are made once: a rule that is the same object is encoded once, too.
UNSET, DROPPED = rule(SetPriority(0)), rule(DROP)
IS_INFORMATION = Match(Field.ICMPV6_TYPE, (Range(128, 255),))  # holds for ICMPv6 that is no error (RFC 4443, 2.1)
BEFORE_RELATED = (rule(*NO_ERROR, RETURN), UNSET, rule(IS_INFORMATION, RETURN))


def side_of(hook: Direction, ct_direction: CtDirection) -> Direction:
    """Return the direction whose rules judge a packet: its hook's for an opening packet, the other one for a reply."""
    return hook if ct_direction is CtDirection.ORIGINAL else hook.other


Marks = Mapping[Direction, Mapping[str, int]]  # the half of the mark that an ENI writes, by side and interface


def is_few(ifnames: Collection[str]) -> bool:
    """Return whether the base chains ask for each ENI by itself."""
    return len(ifnames) <= FEW


def epoch_chains(
    site: Site, marks: Marks, secret: int, first: Mapping[Direction, Sequence[Rule]], *, has_audited: bool = False
) -> Iterator[Chain]:
    """Yield the chains that name an epoch or the secret.

    `marks` are what each ENI writes to the sessions that it accepts. `secret` is 0 if packets aren't marked. `first`
    are rules that come before all others in each base chain. `has_audited` says whether an ENI is in audit mode.
    """
    approve = (SetPacketMark(secret), ACCEPT) if secret else (ACCEPT,)
    if site.origin is not None:
        yield Chain(SENT, tuple(_pass_sent(secret)), site.origin)
    for hook in Direction:
        end = approve if site.is_leaving(hook) else (ACCEPT,)
        if site.is_leaving(hook):
            yield Chain(pass_name(hook), (rule(*approve),))
        sessions = list(_sessions(site, hook, marks))
        own = [rule(*known, IS_OWN, IS_NO_AH, *end) for known in sessions]
        behind_ah = [rule(*IS_AH_OVER_IPV4, *known, IS_OWN, *end) for known in sessions]  # asked in few packets only
        yield _note_related(site, hook, sessions)
        before = [*_pass_at_once(first[hook], hook, end), *own, *behind_ah, _to_related(hook)]
        yield _base(site, hook, before, has_audited=has_audited)
    for side in Direction:
        for hook in Direction:
            yield _accept(site, hook, side, marks[side], approve if site.is_leaving(hook) else (ACCEPT,))
        if not is_few(marks[side]):
            yield from (_make_marking_chain(side, ifname, mark) for ifname, mark in marks[side].items())


def _pass_at_once(first: Iterable[Rule], hook: Direction, end: Statements) -> Iterator[Rule]:
    """Yield the rules. One that leads to the hook's pass chain does here at once what that chain does."""
    for one in first:
        is_passing = one.statements[-1] == goto(pass_name(hook))
        yield rule(*one.statements[:-1], *end) if is_passing else one


def _pass_sent(secret: int) -> Iterator[Rule]:
    """Yield the rules for packets that pass the output hook.

    What the router itself sends has a socket of the router's; the kernel has some for ICMP, discovery and the like. A
    packet that a tunnel of the router has wrapped keeps the mark that it got before. All others come from a device of
    another namespace that sends by the router's routes: no policy has judged them.
    """
    yield rule(is_value(Field.OIFNAME, LOOPBACK), ACCEPT)
    yield rule(HAS_SOCKET, ACCEPT)
    if secret:
        yield rule(is_value(Field.PACKET_MARK, secret), ACCEPT)
    yield drop(Direction.INGRESS, INJECTED)


@cache
def _to_related(hook: Direction) -> Rule:
    return rule(IS_RELATED, jump(name_related_chain(hook)))


def _note_related(site: Site, hook: Direction, sessions: Iterable[Statements]) -> Chain:
    """Return the chain that notes in the priority which ICMP errors are about these sessions.

    At ingress one rule leads them to the chain that passes them: an old kernel walks each way there at each commit. At
    egress the ENI's own chains do so, after they have checked where the errors come from.
    """
    noted = (rule(*known, SetPriority(ACCEPTED)) for known in sessions)
    passing = rule(is_value(Field.PACKET_PRIORITY, ACCEPTED), goto(make_errors_chain(site.placement, hook).name))
    return Chain(name_related_chain(hook), (*BEFORE_RELATED, *noted, *([passing] if hook is Direction.INGRESS else ())))


def _sessions(site: Site, hook: Direction, marks: Marks) -> Iterator[Statements]:
    """Yield conditions that hold for packets of sessions which the packet's ENI accepted in its epoch.

    There is one for each way of a session and each ENI, or for all ENIs in a set.
    """
    interface = site.interface(hook)
    for way in CtDirection:
        side, is_way = side_of(hook, way), is_value(Field.CT_DIRECTION, way)
        if is_few(marks[side]):
            for ifname, mark in marks[side].items():
                accepted = Match(Field.CT_MARK, (Range.of(mark),), mask=HALF[side])
                yield is_way, accepted, is_value(interface, ifname)
        else:
            yield is_way, InSet(Field.CT_MARK, interface, _sessions_name(side), mask=HALF[side])


def session_sets(marks: Marks) -> list[Map]:
    """Return the sets of sessions, one for each side; none up to FEW interfaces.

    Each has pairs of an ENI's interface, and what that half of the mark holds for a session that the ENI accepts in its
    epoch.
    """
    found: list[Map] = []
    for side, of_side in marks.items() if not is_few(marks[Direction.INGRESS]) else ():
        pairs = sorted((mark, ifname) for ifname, mark in of_side.items())
        elements = tuple((pair, MEMBER) for pair in pairs)
        found.append(Map(_sessions_name(side), KeyType.MARK_IFNAME, elements, holds=KeyType.NOTHING))
    return found


def _sessions_name(side: Direction) -> str:
    return f"{side.value}-sessions"


def _base(site: Site, hook: Direction, rules: Sequence[Rule], *, has_audited: bool) -> Chain:
    """Return the base chain.

    After these rules come the ENI's checks, the rules of users, and what they have decided. Whatever returns without a
    verdict is refused.
    """
    return Chain(
        hook.value,
        (*rules, *_make_judging_rules(hook, site.interface(hook) if has_audited else None)),
        site.hooks[hook],
    )


@cache
def _make_judging_rules(hook: Direction, audited: Field | None) -> tuple[Rule, ...]:
    """Return the rules that ask for a verdict and carry it out.

    `audited` is the field by which ENIs in audit mode are told, if there are any. There, ranks of refusals lead to
    other leaves (audit.py), which leave no rank.
    """
    by_mode = [rule(IS_RANK, VerdictMap(audited, name=name_audited_enis_map(hook)))] if audited is not None else []
    asked = rule(_leads(PROFILES)), *by_mode, rule(IS_RANK, _leads(WINNERS))
    ends = [(CODES[side, Fate.ACCEPT], accept_name(hook, side)) for side in Direction]
    ends.append((CODES[hook.other, Fate.DROP], refuse_name(hook.other)))
    decided = (rule(is_value(Field.PACKET_PRIORITY, code), goto(end)) for code, end in ends)
    return rule(jump(gate_name(hook))), *asked, *decided, rule(goto(refuse_name(hook)))


def _leads(name: str) -> VerdictMap:
    return VerdictMap(Field.PACKET_PRIORITY, name=name)


def _accept(site: Site, hook: Direction, side: Direction, marks: Mapping[str, int], end: Statements) -> Chain:
    """Return the chain that marks the session as accepted by this side of the packet's ENI, and ends so.

    One statement writes epoch and slot. Otherwise another ENI could write to the same entry in between, and leave one
    ENI's epoch beside the other's slot. `marks` are what to write, by interface. If there are few, TCP comes first, as
    most sessions that are opened are TCP's, and it is neither AH nor an ICMP error.
    """
    asked = site.interface(hook)
    if is_few(marks):
        marked = [(is_value(asked, ifname), SetMark(other_half(side), mark), *end) for ifname, mark in marks.items()]
        usual, rules = [rule(IS_TCP, *one) for one in marked], [*(rule(*one) for one in marked), DROPPED]
    else:
        usual, rules = [], [rule(VerdictMap(asked, name=marks_name(side))), rule(*end)]
    limited = [make_opening_rule(side)] if site.placement.is_outside and hook is side else []
    return Chain(accept_name(hook, side), (UNSET, *limited, *usual, *_accept_unmarked(end), *rules))


@lru_cache(maxsize=64)
def _accept_unmarked(end: Statements) -> tuple[Rule, ...]:
    """Return rules that accept packets which must not mark their session."""
    return tuple(rule(*them, *end) for them in (IS_BEHIND_AH, *ARE_ERRORS))


@lru_cache(maxsize=1 << 13)
def _make_marking_chain(side: Direction, ifname: str, mark: int) -> Chain:
    """Return the chain that writes one ENI's mark.

    It is the same object for the same mark: only those of other epochs are compared and written.
    """
    return Chain(_epoch_name(side, ifname), (rule(SetMark(other_half(side), mark)),))


def mark_maps(ifnames: Collection[str]) -> list[Map]:
    """Return maps from an interface to the chain that marks sessions as accepted by its ENI.

    There is one for each side; none up to FEW interfaces.
    """
    found: list[Map] = []
    for side in Direction if not is_few(ifnames) else ():
        elements = tuple((ifname, jump(_epoch_name(side, ifname))) for ifname in sorted(ifnames))
        found.append(Map(marks_name(side), KeyType.IFNAME, elements))
    return found


def marks_name(side: Direction) -> str:
    """Return the name of that map."""
    return f"{side.value}-marks"


@lru_cache(maxsize=1 << 13)
def _epoch_name(side: Direction, ifname: str) -> str:
    return names.identifier(f"{side.value}-epoch", ifname)


LOGGED_A_SECOND = 100  # so many packets at most, for each rule that refuses, and for each other cause


def log_counted(counter: str) -> Log:
    """Return a statement that logs packets which this counter has just counted."""
    return Log(counter, LOG_GROUP, LOGGED_A_SECOND)


DROPPING = [cause for cause in CAUSES if cause not in PASSING]


def cause_chains(site: Site, hook: Direction) -> Iterator[Chain]:
    """Yield a chain for each cause that drops packets before any rule is asked."""
    for cause in DROPPING:
        name = name_fixed_counter(hook, cause)
        first = rule(Count(name), log_counted(name))
        yield Chain(drop_name(hook, cause), (first, _count_drop(hook, site.interface(hook)), rule(DROP)))


@lru_cache(maxsize=1)
def cause_names() -> frozenset[str]:
    """Return the names of these chains, at both hooks."""
    return frozenset(drop_name(hook, cause) for hook in Direction for cause in DROPPING)


def refuse_chain(side: Direction) -> Chain:
    """Return the chain where refused packets end.

    Such a packet belongs to the ENI by whose interface it leaves, if that is known already, else by whose interface it
    came. AH over IPv6 carries another session's entry and leaves its mark alone. So do ICMP errors: only a session's
    own packets decide about it.
    """
    unmark = SetMark(other_half(side), 0)
    is_other = is_value(Field.CT_STATE, *(state for state in CtState if state is not CtState.RELATED))
    are_no_errors = (is_value(Field.CT_STATE, CtState.RELATED), *NO_ERROR)
    kinds = ((is_other,), are_no_errors)
    families = ((is_value(Field.NFPROTO, Nfproto.IPV4),), (is_value(Field.NFPROTO, Nfproto.IPV6), IS_NO_AH))
    unmarked = [rule(*family, *kind, unmark) for family in families for kind in kinds]
    counted = [_count_drop(side, asked) for asked in (Field.OIFNAME, Field.IIFNAME)]
    return Chain(refuse_name(side), (*unmarked, *counted, rule(DROP)))


def drops_map(side: Direction, ifnames: Iterable[str]) -> Map:
    """Return the map from an interface that carries an ENI to the counter of packets dropped for the ENI."""
    elements = tuple((ifname, Count(eni_counter(side, ifname))) for ifname in sorted(ifnames))
    return Map(_drops_name(side), KeyType.IFNAME, elements, holds=KeyType.COUNTER)


def _count_drop(side: Direction, asked: Field) -> Rule:
    """Return a rule that counts and drops a packet if its interface carries an ENI."""
    return rule(MapCount(asked, _drops_name(side)), DROP)


def _drops_name(side: Direction) -> str:
    return f"{side.value}-drops"
