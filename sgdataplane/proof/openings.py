"""Which rules that set timeouts a session's first packet passes, from a base chain on to where its fate is decided.

Owns the ways through the fixed part of a table, as far as timeouts go. Is given the table. Must not know what is set.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from sgdataplane.contract.counters import fixed_counter
from sgdataplane.contract.fields import CtDirection, CtState, Field
from sgdataplane.contract.tables import EGRESS_PASS
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import (
    ACCEPT,
    RETURN,
    Count,
    Exceeds,
    Key,
    Match,
    Rule,
    SetTimeout,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
    goto,
)
from sgdataplane.proof.axes import LACKING, holds
from sgdataplane.proof.gate import RULES
from sgdataplane.proof.program import TIMEOUTS

ASKED = (Field.NFPROTO, Field.L4PROTO, Field.IIFNAME, Field.CT_STATE)
ALWAYS = {Count(fixed_counter(hook, "always")) for hook in Direction}
PASSES = (ACCEPT, goto(EGRESS_PASS))
# TCP and UDP have timeouts; a session's first packet carries no mark of ours, or that of the session it comes with.
OPENING: Mapping[Field, Key | None] = {
    Field.CT_DIRECTION: CtDirection.ORIGINAL,
    **dict.fromkeys((Field.ICMP_TYPE, Field.ICMPV6_TYPE, Field.ND_TARGET), LACKING),
}
FIRST: tuple[Mapping[Field, Key | None], ...] = (
    {**OPENING, Field.CT_STATE: CtState.NEW, Field.CT_MARK: 0},
    {**OPENING, Field.CT_STATE: CtState.RELATED},
)
Passed = tuple[Rule, ...]
Ways = AbstractSet[Passed]
NONE: Ways = frozenset()


class WrongTimeoutsError(Exception):
    """What is wrong with a table's timeouts."""


def sets_timeouts(entry: Rule) -> bool:
    """Whether a rule sets timeouts, or goes where they are set."""
    return any(
        isinstance(part, SetTimeout) or (isinstance(part, Verdict) and part.chain.startswith(TIMEOUTS))
        for part in entry.statements
    )


def is_harmless(part: object) -> bool:
    """Whether it does no more than ask for what timeouts may depend on, and lead to such chains."""
    if isinstance(part, Verdict):
        return part.kind is VerdictKind.RETURN or part.chain.startswith(TIMEOUTS)
    return isinstance(part, SetTimeout) or (isinstance(part, Match) and part.field in ASKED)


@dataclass
class Openings:
    """`walked`: the chains that packets were followed through."""

    table: Table
    walked: set[str] = field(default_factory=set)

    def passed(self, base: str, asked: Field, ifname: str | None) -> Passed | None:
        """What all pass at that interface that may be accepted; None: none may be. DHCP that passes always is left out,
        as it needs no session. WrongTimeoutsError: not all pass the same."""
        known: dict[Field, Key | None] = {asked: ifname} if ifname is not None else {}
        if asked is Field.IIFNAME:
            known[Field.OIFNAME] = LACKING
        accepted: set[Passed] = set()
        for first in FIRST:
            walk = _Walk(self.table, {**first, **known}, self.walked, accepted)
            walk.chain(base, {()})
        if len(accepted) > 1:
            raise WrongTimeoutsError(
                f"timeouts are set on some ways only through {base} at {ifname or 'any interface'}"
            )
        return accepted.pop() if accepted else None

    def check_others(self) -> None:
        """WrongTimeoutsError: timeouts are set where nobody was followed to."""
        for name, chain in self.table.chain.items():
            if name not in self.walked and not name.startswith(TIMEOUTS) and any(map(sets_timeouts, chain.rules)):
                raise WrongTimeoutsError(f"chain {name} sets timeouts")


@dataclass
class _Walk:
    """Packets of which this is known; of all else both is possible."""

    table: Table
    known: Mapping[Field, Key | None]
    walked: set[str]
    accepted: set[Passed]

    def chain(self, name: str, ways: Ways) -> Ways:
        """What those have passed that come back."""
        if name.startswith(RULES):
            self.accepted |= ways
            return NONE
        self.walked.add(name)
        back: set[Passed] = set()
        for entry in self.table.chain[name].rules:
            if sets_timeouts(entry):
                _check_setting(name, entry)
                ways = {(*way, entry) for way in ways}
                continue
            verdicts, is_sure = self._verdicts(entry)
            if _is_always(entry):
                continue
            on: set[Passed] = set() if is_sure else set(ways)
            for verdict in verdicts:
                if verdict.kind is VerdictKind.ACCEPT:
                    self.accepted |= ways
                elif verdict.kind is VerdictKind.RETURN:
                    back |= ways
                elif verdict.chain:
                    (on if verdict.kind is VerdictKind.JUMP else back).update(self.chain(verdict.chain, ways))
            ways = on
            if not ways:
                return back
        return back | ways

    def _verdicts(self, entry: Rule) -> tuple[Collection[Verdict], bool]:
        """Those that a rule may have, and whether it has one for certain."""
        is_sure = True
        for statement in entry.statements:
            if isinstance(statement, Match) and statement.field in self.known:
                if not holds(statement, self.known[statement.field]):
                    return (), False
            elif isinstance(statement, Match | Exceeds):
                is_sure = False
            elif isinstance(statement, Verdict):
                return (statement,), is_sure
            elif isinstance(statement, VerdictMap):
                found, is_known = self._looked_up(statement)
                return found, is_sure and is_known
        return (), False

    def _looked_up(self, vmap: VerdictMap) -> tuple[Collection[Verdict], bool]:
        """Those that a look-up may find, and whether it finds one for certain. (A map that isn't there is a problem of
        whoever follows packets.)"""
        if vmap.name not in self.table.map:
            return {verdict for _, verdict in vmap.entries}, False
        if self.table.map[vmap.name].lifetime:
            return (RETURN,), False
        elements = self.table.elements_of(vmap.name)
        if vmap.field not in self.known:
            return {value for value in elements.values() if isinstance(value, Verdict)}, False
        key = self.known[vmap.field]
        found = None if key is None else elements.get(key)
        return ((found,), True) if isinstance(found, Verdict) else ((), False)


def _is_always(entry: Rule) -> bool:
    counts = (part in ALWAYS for part in entry.statements if isinstance(part, Count))
    return any(counts) and entry.statements[-1] in PASSES


def _check_setting(name: str, entry: Rule) -> None:
    """On goes the packet, and nothing else happens to it. Interfaces are asked for in chains for timeouts only."""
    for part in entry.statements:
        is_jump = isinstance(part, Verdict) and part.kind is VerdictKind.JUMP
        is_asked = isinstance(part, Match) and part.field is not Field.IIFNAME
        if not is_harmless(part) or not (is_jump or is_asked or isinstance(part, SetTimeout)):
            raise WrongTimeoutsError(f"in chain {name} timeouts are set for some packets only, or more is done")
