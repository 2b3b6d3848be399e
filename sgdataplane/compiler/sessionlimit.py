"""Limit how many sessions an ENI may hold in the conntrack table that all ENIs of a router share.

Owns the chain that asks, at each side, and its sets. It is given the limit. It must not know rules of users.

    limit-<side>          packets that open a session which this side's rules accept, before its mark is written
        the ENI is in <side>-full: dropped
        one in so many, at random: counted in <side>-held.<limit>; above the limit, the ENI comes into <side>-full

Both sets have pairs of 0 and the ENI's interface. Neither rule concerns sessions whose mark isn't 0 in ACCEPTED: this
ENI has accepted them in an earlier epoch, or another ENI on this host has opened them.

The kernel counts by walking the list of all sessions that it counts, with a look-up for each. So only a random sample
of about COUNTED sessions of each ENI at its limit is counted, at any limit: that many look-ups, for one in so many new
sessions. Up to COUNTED, each session is counted, and the limit is exact.

The sets outlast every update, and with them the count. A set's name has the limit, since the kernel copies the limit
into each element.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from sgdataplane.compiler.skeleton import drop
from sgdataplane.contract.fields import CtState, Field, KeyType
from sgdataplane.contract.marks import HALF
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import limit_name
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import (
    Chain,
    InSet,
    Map,
    Match,
    OneIn,
    Range,
    Remember,
    Rule,
    SessionsExceed,
    is_value,
    jump,
    rule,
)

COUNTED = 256
SLACK = 4, 3  # as COUNTED in a sample deviate by 6 %, this factor of 4/3 spares an honest ENI just below its limit
PAUSE_MS = 20_000  # a full ENI opens no session for so long, then it is counted again
ROOM = 4096  # how many elements a set can have, which is more than a router has ENIs

# A session from an ENI to another one of the same router is its opener's, whose half of the mark says so already.
ACCEPTED = {Direction.EGRESS: HALF[Direction.EGRESS], Direction.INGRESS: 0xFFFFFFFF}


def sample_of(limit: int) -> tuple[int, int]:
    """Return n, where one in n sessions is counted, and how many of those that are counted an ENI may hold."""
    one_in = -(-limit // COUNTED)
    more, less = SLACK
    return one_in, limit if one_in == 1 else -(-limit * more // (one_in * less))


@lru_cache(maxsize=8)
def make_opening_rule(side: Direction) -> Rule:
    """Return the rule that leads packets that may open a session to the chain."""
    return rule(is_value(Field.CT_STATE, CtState.NEW), jump(limit_name(side)))


def limit_chain(site: Site, side: Direction, limit: int) -> Chain:
    """Return the chain that enforces the limit; it is empty if there is none (0)."""
    return Chain(limit_name(side), tuple(_rules(site, side, limit)) if limit else ())


def _rules(site: Site, side: Direction, limit: int) -> Iterator[Rule]:
    """Yield the rules of the chain: drop for full ENIs; then count a sample, and note an ENI that has too many."""
    mask, interface = ACCEPTED[side], site.interface(side)
    one_in, most = sample_of(limit)
    yield drop(side, "session-limit", InSet(Field.CT_MARK, interface, _full(side), mask=mask))
    yield drop(
        side,
        "session-limit",
        *([OneIn(one_in)] if one_in > 1 else []),
        Match(Field.CT_MARK, (Range.of(0),), mask=mask),
        SessionsExceed(Field.CT_MARK, interface, _count_chain(side, limit), most, mask),
        Remember(Field.CT_MARK, interface, _full(side), PAUSE_MS, mask),
    )


def limit_sets(limit: int) -> Iterator[Map]:
    """Yield the sets that packets fill: what each ENI holds, and which ENIs are full.

    Without a limit (0) there are none.
    """
    for side in Direction if limit else ():
        yield Map(_count_chain(side, limit), KeyType.MARK_IFNAME, (), holds=KeyType.NOTHING, room=ROOM)
        yield Map(_full(side), KeyType.MARK_IFNAME, (), "", KeyType.NOTHING, PAUSE_MS, ROOM)


def _count_chain(side: Direction, limit: int) -> str:
    return f"{side.value}-held.{limit}"


def _full(side: Direction) -> str:
    return f"{side.value}-full"
