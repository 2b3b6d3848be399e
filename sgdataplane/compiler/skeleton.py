"""The fixed part of a table, as data: base chains, the fast path, dispatch by interface, where verdicts end.

Owns hooks, priorities and the chains that name the epoch. Is given the interfaces in the order of their slots.
Must not know rules of users, or what the kernel holds now.

    hook         priority   sees                                              far address
    prerouting      -150    ingress: after conntrack (-200), before DNAT      source
    postrouting      150    egress: after SNAT (100), what is on the wire     destination

    <hook>            base chain, names the epoch: sessions accepted in it pass; all else, and AH over IPv6, goes to
                      the entry. Of more than FEW interfaces each has its own chain for this, <hook>-fast.<interface>
    <hook>-entry      ICMP errors to <hook>-related; lo and internal interfaces pass; an ENI's interface to its chain
    <hook>-related    names the epoch: ICMP errors of sessions accepted in it
    <side>-accept     names the epoch: marks the session, accepts        <side>-refuse   unmarks it, drops
    egress-pass       marks the packet as approved, for the fence, and accepts it; names the secret, so it moves too
    egress-midstream  TCP that opens nothing: back to be judged while its ENI's adoption window is open, else dropped
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sgdataplane.compiler.marks import HALF, accepted_mark, other_half
from sgdataplane.net.values import AH, Direction, Family
from sgdataplane.nft import names
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    RETURN,
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
    SetPacketMark,
    Statement,
    VerdictMap,
    goto,
    jump,
    rule,
)

TABLE = "sgdataplane"
HOOKS = {Direction.INGRESS: Hook("prerouting", -150), Direction.EGRESS: Hook("postrouting", 150)}
INTERFACE = {Direction.INGRESS: Field.IIFNAME, Direction.EGRESS: Field.OIFNAME}
SOURCE = {Family.IPV4: Field.IP_SADDR, Family.IPV6: Field.IP6_SADDR}
DESTINATION = {Family.IPV4: Field.IP_DADDR, Family.IPV6: Field.IP6_DADDR}
LOOPBACK = "lo"
APPLIED = "applied"  # the map that says what was applied: 0 -> epoch, 1..4 -> digest of the table, 6 -> secret
SECRET_KEY = 6
EGRESS_PASS = "egress-pass"
ADOPTING = "adopting"  # the map of interfaces whose adoption window is open (semantics.md section 4)
MIDSTREAM = "egress-midstream"
DEFAULT_WINDOW_MS = 30_000
FEW = 2  # interfaces whose sessions are told one by one; a look-up costs about as much as two of them
CAUSES = (
    "always",
    "foreign",
    "icmp-error",
    "icmp-error-refused",
    "invalid",
    "malformed-discovery",
    "midstream",
    "neighbour-claim",
    "spoofed",
    "unknown-interface",
    "untracked",
)


def is_value(asked: Field, *values: int | str) -> Match:
    return Match(asked, tuple(Range.of(value) for value in sorted(values)))


# Over IPv6, what conntrack takes for a packet's session is that of what is behind an authentication header, whereas
# rules see the header's own number, 51. So such a packet never profits from a session, nor ever marks one as accepted.
IS_BEHIND_AH = (is_value(Field.L4PROTO, AH), is_value(Field.NFPROTO, Nfproto.IPV6))

# `new` is there for sessions without an answer yet, such as one-way UDP. `related` is not: an ICMP error carries its
# session's entry, and what a helper expects inherits the mark; neither was accepted itself.
IS_OWN = is_value(Field.CT_STATE, CtState.NEW, CtState.ESTABLISHED)


def side_of(hook: Direction, ct_direction: CtDirection) -> Direction:
    """Whose policy speaks for a packet: an opening packet answers to its hook's direction, a reply to the other."""
    return hook if ct_direction is CtDirection.ORIGINAL else hook.other


def epoch_chains(ifnames: Sequence[str], epoch: int, secret: int) -> tuple[Chain, ...]:
    """The chains that name the epoch or the secret, all of which move together. An interface's slot is its place in
    `ifnames`."""
    made = [Chain(EGRESS_PASS, (rule(*_passing(Direction.EGRESS, secret)),))]
    for hook in Direction:
        known = {ifname: _sessions(hook, epoch, slot, ifname) for slot, ifname in enumerate(ifnames)}
        own = {
            ifname: [rule(*session, IS_OWN, *_passing(hook, secret)) for session in known[ifname]] for ifname in known
        }
        if len(ifnames) <= FEW:
            made.append(_base(hook, [entry for rules in own.values() for entry in rules]))
        else:
            made.append(_base(hook, [rule(VerdictMap(INTERFACE[hook], name=fast_name(hook)))]))
            made += [
                Chain(_fast_chain(hook, i), (*rules, rule(goto(f"{hook.value}-entry")))) for i, rules in own.items()
            ]
        made.append(_related(hook, [session for sessions in known.values() for session in sessions]))
        made.append(_accept_chain(hook, ifnames, epoch, secret))
    return tuple(made)


def fast(hook: Direction, ifnames: Sequence[str]) -> tuple[Map, ...]:
    """Interface -> the chain of its own sessions, if there are more than a few."""
    elements = tuple((ifname, goto(_fast_chain(hook, ifname))) for ifname in sorted(ifnames))
    return (Map(fast_name(hook), KeyType.IFNAME, elements),) if len(ifnames) > FEW else ()


def fast_name(hook: Direction) -> str:
    return f"{hook.value}-fast"


def _fast_chain(hook: Direction, ifname: str) -> str:
    return names.identifier(fast_name(hook), ifname)


def _passing(hook: Direction, secret: int) -> tuple[Statement, ...]:
    """Accept; a packet that leaves by an ENI is marked as approved. Only egress does: never a packet that comes in."""
    return (SetPacketMark(secret), ACCEPT) if secret and hook is Direction.EGRESS else (ACCEPT,)


def _sessions(hook: Direction, epoch: int, slot: int, ifname: str) -> list[tuple[Statement, ...]]:
    """Hold for packets, at this ENI, of sessions that this ENI accepted in this epoch."""
    found: list[tuple[Statement, ...]] = []
    for ct_direction in CtDirection:
        side = side_of(hook, ct_direction)
        mark = Match(Field.CT_MARK, (Range.of(accepted_mark(side, epoch, slot)),), mask=HALF[side])
        found.append((is_value(Field.CT_DIRECTION, ct_direction), mark, is_value(INTERFACE[hook], ifname)))
    return found


def _base(hook: Direction, rules: Sequence[Rule]) -> Chain:
    to_entry = goto(f"{hook.value}-entry")
    end = drop(hook, "unknown-interface")
    return Chain(hook.value, (rule(*IS_BEHIND_AH, to_entry), *rules, rule(to_entry), end), HOOKS[hook])


def _related(hook: Direction, known: Sequence[tuple[Statement, ...]]) -> Chain:
    to_errors = VerdictMap(INTERFACE[hook], name=errors_name(hook))
    return Chain(f"{hook.value}-related", tuple(rule(*session, to_errors) for session in known))


def entry_chain(hook: Direction, internal: Sequence[str]) -> Chain:
    """Everything that no fast path took. `internal`: interfaces of the instance's own, such as its containers'."""
    passing = [rule(is_value(INTERFACE[hook], ifname), ACCEPT) for ifname in (LOOPBACK, *internal)]
    rules = (
        rule(is_value(Field.CT_STATE, CtState.RELATED), jump(f"{hook.value}-related")),
        *passing,
        rule(VerdictMap(INTERFACE[hook], name=dispatch_name(hook))),
        drop(hook, "unknown-interface"),
    )
    return Chain(f"{hook.value}-entry", rules)


def _accept_chain(side: Direction, ifnames: Sequence[str], epoch: int, secret: int) -> Chain:
    """Mark the session as accepted by this side of the packet's ENI. The ENI is the interface that the packet leaves
    by, if it has one already (it is at the egress hook), else the one that it came by."""
    behind_ah = [
        *(rule(*IS_BEHIND_AH, is_value(Field.OIFNAME, i), *_passing(Direction.EGRESS, secret)) for i in ifnames),
        rule(*IS_BEHIND_AH, ACCEPT),
    ]
    rules = [
        rule(is_value(INTERFACE[hook], ifname), SetMark(other_half(side), mark), *_passing(hook, secret))
        for hook in (Direction.EGRESS, Direction.INGRESS)
        for ifname, mark in ((ifname, accepted_mark(side, epoch, slot)) for slot, ifname in enumerate(ifnames))
    ]
    return Chain(f"{side.value}-accept", (*behind_ah, *rules, rule(DROP)))


def refuse_chain(side: Direction) -> Chain:
    """Unmark the session, so that nothing that belongs to it passes as accepted."""
    return Chain(f"{side.value}-refuse", (rule(*IS_BEHIND_AH, DROP), rule(SetMark(other_half(side), 0), DROP)))


def midstream_chain() -> Chain:
    """TCP of no known session that an ENI sends and that is no bare SYN."""
    adopted = rule(VerdictMap(INTERFACE[Direction.EGRESS], name=ADOPTING))
    return Chain(MIDSTREAM, (adopted, drop(Direction.EGRESS, "midstream")))


def adopting(ifnames: Iterable[str] = (), milliseconds: int = DEFAULT_WINDOW_MS) -> Map:
    """The interfaces whose window is to be opened, for so long. Which are open is for the kernel to know."""
    elements = tuple((ifname, RETURN) for ifname in sorted(ifnames))
    return Map(ADOPTING, KeyType.IFNAME, elements, lifetime=milliseconds)


def dispatch(hook: Direction, chains: Mapping[str, Chain]) -> Map:
    """Interface name -> the chain of the ENI it carries."""
    return _by_interface(dispatch_name(hook), chains)


def errors(hook: Direction, chains: Mapping[str, Chain]) -> Map:
    """Interface name -> what becomes of ICMP errors of accepted sessions."""
    return _by_interface(errors_name(hook), chains)


def _by_interface(name: str, chains: Mapping[str, Chain]) -> Map:
    return Map(name, KeyType.IFNAME, tuple((ifname, goto(chain.name)) for ifname, chain in sorted(chains.items())))


def applied(epoch: int, digest: str, secret: int) -> Map:
    """What was applied, for whoever asks the kernel: the epoch, 128 bits of the digest in four marks, the secret."""
    words = [int(digest[start : start + 8], 16) for start in range(0, 32, 8)]
    elements = ((0, epoch), *((index, word) for index, word in enumerate(words, start=1)))
    if secret:
        elements = (*elements, (SECRET_KEY, secret))
    return Map(APPLIED, KeyType.MARK, elements, holds_marks=True)


def fixed_counters() -> tuple[Counter, ...]:
    """The counters of what passes or drops before any rule is asked."""
    return tuple(Counter(fixed_counter(hook, cause)) for hook in Direction for cause in CAUSES)


def fixed_counter(hook: Direction, cause: str) -> str:
    return names.identifier(hook.value, cause)


def dispatch_name(hook: Direction) -> str:
    return f"{hook.value}-enis"


def errors_name(hook: Direction) -> str:
    return f"{hook.value}-errors"


def accept(hook: Direction, cause: str, *conditions: Statement) -> Rule:
    """Count and accept what meets the conditions."""
    verdict = goto(EGRESS_PASS) if hook is Direction.EGRESS else ACCEPT
    return rule(*conditions, Count(fixed_counter(hook, cause)), verdict)


def drop(hook: Direction, cause: str, *conditions: Statement) -> Rule:
    """Count and drop what meets the conditions."""
    return rule(*conditions, Count(fixed_counter(hook, cause)), DROP)
