"""How many look-ups a table can ask of one packet: the most on any path from a base chain, by walking its rules.

Owns the count. Is given a table as values. Must not know what the table is for.

A look-up is a map of verdicts or of priorities and, if they are counted, a match on a set or a map whose elements go by
themselves. Packets are told apart by the fields in packetspace.py; in any other field every value is possible at every
rule. So the count is never too small. What it counts too much are paths that addresses, ports or marks rule out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from operator import or_

from sgdataplane.contract.fields import Field
from sgdataplane.nft.ir import (
    RETURN,
    InSet,
    MapCount,
    MapPriority,
    Match,
    OfMap,
    Range,
    SetPriority,
    Statement,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
)
from tests.support.models.packetspace import INDEX, PRIORITY, TRACKED, Packets, Space, read_by, readers

Place = tuple[str, int]  # a chain, and the rule in it that is next
MAX_CALLS = 10_000
CONDITIONS = (Match, MapPriority, MapCount, InSet)
Returns = tuple[Place, ...]  # where the jumps on the way here go back to, the last one first
Way = tuple[Place, Returns]  # all that packets can still meet


@dataclass(frozen=True, slots=True)
class Path:
    """The rules of one path that look something up, as (chain, look-ups), in order; and how many look-ups they make."""

    steps: tuple[tuple[str, int], ...] = ()
    lookups: int = 0

    def after(self, chain: str, lookups: int) -> Path:
        return Path(((chain, lookups), *self.steps), self.lookups + lookups) if lookups else self


@dataclass(frozen=True, slots=True)
class End:
    """One way that a rule can end: with a verdict, or with None and on to the next rule."""

    packets: Packets
    verdict: Verdict | None
    lookups: int


def most_lookups(table: Table, *, with_sets: bool) -> Path:
    """The path with the most of them. RecursionError: the chains go in a circle."""
    walk = _Walk(table, with_sets, Space.of(table))
    starts = [(chain.name, walk.space.at(chain.hook)) for chain in table.chains if chain.hook is not None]
    with _deep_recursion():
        return max((walk.most((start, 0), some, ()) for start, some in starts), key=lambda path: path.lookups)


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """A few calls for each rule of a chain, which may have hundreds."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, MAX_CALLS))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


@dataclass
class _Walk:
    table: Table
    with_sets: bool
    space: Space
    _known: dict[tuple[Way, Packets], Path] = field(default_factory=dict)
    _reads: dict[Place, frozenset[Field]] = field(default_factory=dict)
    _unread: dict[Way, Packets] = field(default_factory=dict)

    def most(self, place: Place, packets: Packets, returns: Returns) -> Path:
        """From this rule on. What nothing asks for from here on is forgotten, so that packets that differ in it alone
        are one."""
        way = (place, returns)
        if way not in self._unread:
            behind = frozenset[Field]().union(*map(self.reads, returns))
            read = self.reads(place) | (behind - {PRIORITY} if self._writes(place) else behind)
            every = zip(TRACKED, self.space.all, strict=True)
            self._unread[way] = tuple(0 if name in read else values for name, values in every)
        packets = tuple(map(or_, packets, self._unread[way]))
        key = (way, packets)
        if key not in self._known:
            self._known[key] = self._most(place, packets, returns)
        return self._known[key]

    def _most(self, place: Place, packets: Packets, returns: Returns) -> Path:
        name, index = place
        rules = self.table.chain[name].rules
        if index == len(rules):
            return self._back(packets, returns)
        ends = self._outcomes(rules[index].statements, packets)
        paths = (self._go_on(place, end, returns).after(name, end.lookups) for end in ends)
        return max(paths, key=lambda path: path.lookups)

    def _go_on(self, place: Place, end: End, returns: Returns) -> Path:
        following = (place[0], place[1] + 1)
        match end.verdict:
            case None:
                return self.most(following, end.packets, returns)
            case Verdict(VerdictKind.GOTO, chain):
                return self.most((chain, 0), end.packets, returns)
            case Verdict(VerdictKind.JUMP, chain):
                return self.most((chain, 0), end.packets, (following, *returns))
            case Verdict(VerdictKind.RETURN):
                return self._back(end.packets, returns)
            case _:
                return Path()

    def _back(self, packets: Packets, returns: Returns) -> Path:
        return self.most(returns[0], packets, returns[1:]) if returns else Path()

    def reads(self, place: Place) -> frozenset[Field]:
        """The tracked fields that this rule, those behind it in its chain, and all below them look at."""
        if place not in self._reads:
            name, index = place
            rules = self.table.chain[name].rules
            found: set[Field] = set(self.reads((name, index + 1))) if index < len(rules) else set()
            for statement in rules[index].statements if index < len(rules) else ():
                found |= read_by(statement) if isinstance(statement, Match | OfMap) else set()
                for target in self._targets(statement):
                    found |= self.reads((target, 0))
            self._reads[place] = frozenset(found)
        return self._reads[place]

    def _writes(self, place: Place) -> bool:
        """Whether whoever comes back from here has another priority than he came with, as from a leaf."""
        name, index = place
        for rule in self.table.chain[name].rules[index:]:
            if any(isinstance(statement, Verdict | VerdictMap) for statement in rule.statements):
                return False
            sure = takewhile(lambda statement: not isinstance(statement, CONDITIONS), rule.statements)
            if any(isinstance(statement, SetPriority) for statement in sure):
                return True
        return False

    def _targets(self, statement: Statement) -> set[str]:
        """The chains that a statement can go to."""
        verdicts: Iterable[Verdict] = (statement,) if isinstance(statement, Verdict) else ()
        if isinstance(statement, VerdictMap):
            verdicts = (verdict for _, verdict in self._entries(statement))
        return {verdict.chain for verdict in verdicts if verdict.chain}

    def _outcomes(self, statements: tuple[Statement, ...], packets: Packets) -> Iterator[End]:
        """All ways in which a rule can end for such packets. Of those that differ in look-ups alone, the most."""
        going: dict[Packets, int] = {packets: 0}
        for statement in statements:
            following: dict[Packets, int] = {}
            for before, made in going.items():
                match statement:
                    case Verdict():
                        yield End(before, statement, made)
                    case VerdictMap():
                        yield from self._looked_up(statement, before, made)
                    case Match() | MapPriority() | MapCount() | InSet():
                        for after, holds, more in self._tested(statement, before):
                            if holds:
                                following[after] = max(made + more, following.get(after, 0))
                            else:
                                yield End(after, None, made + more)
                    case SetPriority(value):
                        following[self.space.with_priority([value], before)] = made
                    case _:
                        following[before] = made
            going = following
        yield from (End(after, None, made) for after, made in going.items())

    def _tested(
        self, condition: Match | MapPriority | MapCount | InSet, packets: Packets
    ) -> Iterator[tuple[Packets, bool, int]]:
        """(packets, whether the rule goes on, look-ups made)."""
        if isinstance(condition, Match):
            yield from self._matched(condition, packets)
            return
        having, lacking = readers(condition.field, packets)
        if lacking:
            yield lacking, False, 0
        if having:
            made = int(isinstance(condition, MapPriority) or self.with_sets)
            yield self._written(condition, having), True, made
            yield having, False, 0 if _is_of_drops(condition) else made

    def _written(self, condition: MapPriority | MapCount | InSet, packets: Packets) -> Packets:
        """The packets for which the map holds something. What a map without elements will hold isn't known."""
        if not isinstance(condition, MapPriority):
            return packets
        entry = self.table.map.get(condition.name)
        values = {value for _, value in entry.elements if isinstance(value, int)} if entry is not None else ()
        return self.space.with_priority(values or (0, *self.space.cuts), packets)

    def _matched(self, match: Match, packets: Packets) -> Iterator[tuple[Packets, bool, int]]:
        having, lacking = readers(match.field, packets)
        made = int(match.is_set and self.with_sets)
        if lacking:
            yield lacking, False, 0
        if having:
            is_plain = match.mask is None
            inside, outside = self.space.part(match.field, match.ranges, having) if is_plain else (having, having)
            if inside:
                yield inside, not match.negate, made
            if outside:
                yield outside, match.negate, made

    def _looked_up(self, vmap: VerdictMap, packets: Packets, made: int) -> Iterator[End]:
        having, rest = readers(vmap.field, packets)
        if rest:
            yield End(rest, None, made)
        if not having:
            return
        made += self._counted(vmap)
        if vmap.field not in INDEX or vmap.field is PRIORITY:
            yield from (End(having, verdict, made) for verdict in {verdict for _, verdict in self._entries(vmap)})
            yield End(having, None, made)
            return
        left: Packets | None = having
        for item, verdict in self._entries(vmap):
            inside, _ = self.space.part(vmap.field, (item,), having)
            left = left and self.space.part(vmap.field, (item,), left)[1]
            if inside:
                yield End(inside, verdict, made)
        if left:
            yield End(left, None, made)

    def _counted(self, vmap: VerdictMap) -> int:
        is_lasting = not vmap.name or not self.table.map[vmap.name].lifetime
        return int(is_lasting or self.with_sets)

    def _entries(self, vmap: VerdictMap) -> Iterable[tuple[Range, Verdict]]:
        """All that it may hold. What is in a map whose elements go by themselves only the kernel knows, so that one
        has, for each interface, an element that may be there."""
        if not vmap.name:
            return vmap.entries
        named = self.table.map[vmap.name]
        elements = [
            (Range.of(key), verdict)
            for key, verdict in named.elements
            if isinstance(verdict, Verdict) and not isinstance(key, tuple)
        ]
        return elements if not named.lifetime else [(Range.of(name), RETURN) for name in self.space.names]


def _is_of_drops(condition: Match | MapPriority | MapCount | InSet) -> bool:
    """Whether an ENI's drops are counted by the outgoing interface. A packet for which they are leaves by the ENI's
    interface, which the map has; or it came by it, and as no outgoing one is known yet, nothing is looked up."""
    return isinstance(condition, MapCount) and condition.field is Field.OIFNAME
