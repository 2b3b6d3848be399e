"""Where packets end that are dropped: counted by cause and by ENI, logged, and their session unmarked.

Owns these chains. Is given where the table stands, and the interfaces that carry ENIs. Must not know rules of users.

    leaf                  (lower.py) what rules refuse: counts, logs; goes to <side>-refuse
    <side>-refuse         unmarks the session, counts for the packet's ENI, drops
    <hook>-drop.<cause>   what is dropped before any rule is asked: counts, logs; goes to <hook>-dropped
    <hook>-dropped        counts for the packet's ENI, if its interface carries one, and drops
    <side>-drops.<if>     of more than FEW interfaces: the last step of both

A log stands in a rule of its own, right after the counter that it names: where too many packets come, the kernel leaves
that rule, and the next one goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from sgdataplane.compiler.fastpath import is_few
from sgdataplane.compiler.skeleton import OF_ERRORS, by_interface
from sgdataplane.contract import names
from sgdataplane.contract.counters import CAUSES, LOG_GROUP, PASSING, eni_counter, fixed_counter
from sgdataplane.contract.fields import CtState, Field, Nfproto
from sgdataplane.contract.marks import other_half
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import drop_name, refuse_name
from sgdataplane.net.values import AH, Direction
from sgdataplane.nft.ir import (
    DROP,
    Chain,
    Count,
    Log,
    Map,
    Match,
    Range,
    Rule,
    SetMark,
    VerdictMap,
    goto,
    is_value,
    rule,
)

LOGGED_A_SECOND = 100  # by each rule that refuses, and each other cause


def logged(counter: str) -> Log:
    """Tell of packets that this counter has just counted."""
    return Log(counter, LOG_GROUP, LOGGED_A_SECOND)


@lru_cache(maxsize=2)
def cause_chains(hook: Direction) -> tuple[Chain, ...]:
    """One for each cause to drop a packet before any rule is asked."""
    end = rule(goto(_dropped_name(hook)))
    counters = {cause: fixed_counter(hook, cause) for cause in CAUSES if cause not in PASSING}
    return tuple(
        Chain(drop_name(hook, cause), (rule(Count(name), logged(name)), end)) for cause, name in counters.items()
    )


def end_chains(site: Site, side: Direction, ifnames: Sequence[str]) -> tuple[list[Chain], list[Map]]:
    """What a hook drops, and what rules of a direction refuse. `ifnames` carry ENIs; a refused packet is that one's
    which it leaves by, if it has one already, else that one's by which it came. AH over IPv6 has another session's
    entry, and leaves its mark alone; so do ICMP errors, whose session its own packets speak for."""
    unmark = SetMark(other_half(side), 0)
    is_other = is_value(Field.CT_STATE, *(state for state in CtState if state is not CtState.RELATED))
    are_no_errors = (is_value(Field.CT_STATE, CtState.RELATED), *map(_is_no, OF_ERRORS))
    kinds = ((is_other,), are_no_errors)
    families = ((is_value(Field.NFPROTO, Nfproto.IPV4),), (is_value(Field.NFPROTO, Nfproto.IPV6), _is_no(AH)))
    unmarked = [rule(*family, *kind, unmark) for family in families for kind in kinds]
    chains = [
        Chain(_dropped_name(side), (*_counted(side, (site.interface(side),), ifnames), rule(DROP))),
        Chain(refuse_name(side), (*unmarked, *_counted(side, (Field.OIFNAME, Field.IIFNAME), ifnames), rule(DROP))),
    ]
    if is_few(ifnames):
        return chains, []
    ends = {
        ifname: Chain(names.identifier(_drops_name(side), ifname), (rule(Count(eni_counter(side, ifname)), DROP),))
        for ifname in ifnames
    }
    return [*chains, *ends.values()], [by_interface(_drops_name(side), ends)]


def _is_no(protocol: int) -> Match:
    return Match(Field.L4PROTO, (Range.of(protocol),), negate=True)


def _counted(side: Direction, asked: tuple[Field, ...], ifnames: Sequence[str]) -> Iterator[Rule]:
    for field in asked:
        if is_few(ifnames):
            for ifname in ifnames:
                yield rule(is_value(field, ifname), Count(eni_counter(side, ifname)), DROP)
        else:
            yield rule(VerdictMap(field, name=_drops_name(side)))


def _dropped_name(hook: Direction) -> str:
    return f"{hook.value}-dropped"


def _drops_name(side: Direction) -> str:
    return f"{side.value}-drops"
