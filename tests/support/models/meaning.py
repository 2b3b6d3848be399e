"""What a table's chains do with all packets at once, as decision diagrams: made from the end, statement by statement.

Owns the meaning of each statement, apart from the interpreter's: tests compare the two. Is given a table without
circles. Must not know which tables are right.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from sgdataplane.contract.fields import Field, KeyType
from sgdataplane.nft.ir import (
    RETURN,
    Count,
    Datum,
    Effect,
    Exceeds,
    InSet,
    Key,
    Log,
    MapCount,
    MapKey,
    MapPriority,
    Match,
    OfMap,
    OneIn,
    Range,
    Remember,
    SessionsExceed,
    SetMark,
    SetPacketMark,
    SetPriority,
    SetTimeout,
    Table,
    Verdict,
    VerdictKind,
    VerdictMap,
)
from tests.support.models.diagrams import Diagrams, Node
from tests.support.models.variables import (
    INTERFACES,
    NUMBER,
    OPEN,
    PARTS,
    PORTS,
    Variable,
    Variables,
    in_part,
    lowest,
    parts_of,
)

MAX_JUMPS, MAX_CALLS = 16, 20_000
# What rules can write and leave behind, and the field that a packet must have for that.
WRITABLE: dict[Variable, Field] = {Field.PACKET_PRIORITY: Field.PACKET_PRIORITY, **dict.fromkeys(PARTS, Field.CT_MARK)}
PLACE = {variable: place for place, variable in enumerate(WRITABLE)}


class State(NamedTuple):
    """What was written to packets on their way, by PLACE (None: nothing), and how many jumps lead back."""

    written: tuple[int | None, ...] = (None,) * len(PLACE)
    packet_mark: int = 0
    jumps: int = 0

    def after(self, variable: Variable, value: int | None) -> State:
        """With that written."""
        place = PLACE[variable]
        return self._replace(written=(*self.written[:place], value, *self.written[place + 1 :]))

    def value(self, asked: Field, mask: int | None) -> int | None:
        """What was written there; None if nothing was."""
        if asked is Field.PACKET_MARK:
            return self.packet_mark if mask is None else self.packet_mark & mask
        if asked is Field.CT_MARK:
            return self._mark(parts_of(mask))
        return self.written[PLACE[asked]] if asked in PLACE else None

    def _mark(self, parts: Sequence[str]) -> int | None:
        values = {part: value for part in parts if (value := self.written[PLACE[part]]) is not None}
        assert len(values) in (0, len(parts)), "a mark is asked for of which a part was written"
        return sum(value * lowest(PARTS[part]) for part, value in values.items()) if values else None

    def marked(self, mark: SetMark) -> State:
        """After that was written: each part is kept, or written as a whole."""
        assert not mark.keep & mark.value, "a mark is written where it is kept"
        state = self
        for part, bits in PARTS.items():
            assert mark.keep & bits in (0, bits), "a piece of a mark's part is written"
            if not mark.keep & bits:
                state = state.after(part, in_part(part, mark.value))
        return state


class End(NamedTuple):
    """How packets leave a chain: with a verdict, or None if it returns them. `is_fault`: the interpreter refuses."""

    verdict: VerdictKind | None = None
    state: State = State()
    counters: tuple[str, ...] = ()
    timeouts: tuple[str, ...] = ()
    is_fault: bool = False


FAULT = End(is_fault=True)
Next = Callable[[], Node]  # what becomes of packets; worked out only if there are any
Case = tuple[Sequence[Range], Next]


class Fork(NamedTuple):
    """What becomes of packets by a field: in some ranges, elsewhere, and if they lack it."""

    cases: Sequence[Case]
    otherwise: Next
    lacking: Next


class Place(NamedTuple):
    """Where packets are in a chain. Behind a rule's last statement is its end."""

    chain: str
    rule: int
    statement: int = 0

    @property
    def next(self) -> Place:
        return self._replace(statement=self.statement + 1)

    @property
    def next_rule(self) -> Place:
        return Place(self.chain, self.rule + 1)


class Meanings:
    """What was found out. `known`: of a chain by its number, from a rule on, for packets in that state."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.diagrams: Diagrams[End] = Diagrams(variables.sizes)
        self.fault = self.diagrams.leaf(FAULT)
        self.known: dict[tuple[int, int, State], Node] = {}

    def having(self, name: Field, node: Node, lacking: Node) -> Node:
        """The one for packets that have the field, the other one for those that lack it."""
        for variable, wanted in reversed(self.variables.needs[name]):
            parts = [(span, node) for span in self.variables.places(variable, wanted)]
            node = self.diagrams.choose(NUMBER[variable], parts, lacking)
        return node

    def behind(self, node: Node, counters: tuple[str, ...] = (), timeouts: tuple[str, ...] = ()) -> Node:
        """What it does with packets for which these have counted and were set before."""
        if not counters and not timeouts:
            return node

        def with_these(end: End) -> Node:
            done = end._replace(counters=counters + end.counters, timeouts=timeouts + end.timeouts)
            return self.fault if end.is_fault else self.diagrams.leaf(done)

        return self.diagrams.replaced(node, with_these)


class Reading:
    """Of one table. `numbers`: of its chains; chains with the same number, in whatever table, do the same."""

    def __init__(self, meanings: Meanings, table: Table, numbers: dict[str, int]) -> None:
        self._meanings, self._table, self._numbers = meanings, table, numbers
        self._diagrams, self._fault = meanings.diagrams, meanings.fault

    def base(self, name: str) -> Node:
        """What becomes of all packets of a base chain."""
        with _deep():
            return self._chain(name, State())

    def _chain(self, name: str, state: State) -> Node:
        return self._rules(Place(name, 0), state) if name in self._table.chain else self._fault

    def _rules(self, place: Place, state: State) -> Node:
        """From that rule on."""
        key, known = (self._numbers[place.chain], place.rule, state), self._meanings.known
        if key not in known:
            is_end = place.rule == len(self._table.chain[place.chain].rules)
            known[key] = self._end(None, state) if is_end else self._statement(place, state)
        return known[key]

    def _end(self, verdict: VerdictKind | None, state: State) -> Node:
        return self._diagrams.leaf(End(verdict, state))

    def _statement(self, place: Place, state: State) -> Node:
        """From that statement on."""
        statements = self._table.chain[place.chain].rules[place.rule].statements
        if place.statement == len(statements):
            return self._rules(place.next_rule, state)
        match statements[place.statement]:
            case Verdict() as verdict:
                return self._lead(verdict, place, state)
            case Exceeds():
                return self._fault
            case OneIn() | SessionsExceed() | Remember():  # as long as nobody has too many sessions
                return self._rules(place.next_rule, state)
            case Log():
                is_last = place.statement == len(statements) - 1
                return self._rules(place.next_rule, state) if is_last else self._fault
            case Count() | SetMark() | SetPacketMark() | SetPriority() | SetTimeout() as effect:
                return self._effect(effect, place, state)
            case asking:
                return self._asking(asking, place, state)

    def _effect(self, effect: Effect, place: Place, state: State) -> Node:
        match effect:
            case Count(counter):
                return self._counted(counter, place, state)
            case SetTimeout(timeout):
                return self._meanings.behind(self._statement(place.next, state), timeouts=(timeout,))
            case SetPriority(value):
                return self._statement(place.next, state.after(Field.PACKET_PRIORITY, value))
            case SetPacketMark(value):
                return self._statement(place.next, state._replace(packet_mark=value))
            case SetMark():
                return self._statement(place.next, state.marked(effect))

    def _counted(self, counter: str, place: Place, state: State) -> Node:
        if counter not in self._table.counter:
            return self._fault
        return self._meanings.behind(self._statement(place.next, state), counters=(counter,))

    def _lead(self, verdict: Verdict, place: Place, state: State) -> Node:
        match verdict.kind:
            case VerdictKind.GOTO:
                return self._chain(verdict.chain, state)
            case VerdictKind.JUMP:
                return self._jump(verdict.chain, place.next_rule, state)
            case VerdictKind.RETURN:
                return self._end(None, state)
            case kind:
                return self._end(kind, state)

    def _jump(self, target: str, back: Place, state: State) -> Node:
        if state.jumps == MAX_JUMPS:
            return self._fault

        def go_on(end: End) -> Node:
            if end.is_fault or end.verdict:
                return self._diagrams.leaf(end)
            behind = self._rules(back, end.state._replace(jumps=state.jumps))
            return self._meanings.behind(behind, end.counters, end.timeouts)

        return self._diagrams.replaced(self._chain(target, state._replace(jumps=state.jumps + 1)), go_on)

    def _asking(self, asking: Match | OfMap, place: Place, state: State) -> Node:
        fails = partial(self._rules, place.next_rule, state)
        match asking:
            case Match(asked, ranges, negate, mask):
                inside, outside = self._either(place, state, negate)
                return self._ask(asked, mask, state, Fork([(ranges, inside)], outside, fails))
            case InSet():
                return self._in_set(asking, place, state)
            case VerdictMap(asked, entries, ""):
                assert asked not in INTERFACES, "a map without a name is keyed by a name"
                cases = [((item,), partial(self._lead, verdict, place, state)) for item, verdict in entries]
                return self._ask(asked, None, state, Fork(cases, fails, fails))
            case MapCount(_, _, interface) if interface is not None:
                return self._by_pair(asking, interface, place, state)
            case _ if asking.name not in self._table.map:
                return self._meanings.having(asking.field, self._fault, fails())
            case _:
                return self._look_up(asking, place, state)

    def _either(self, place: Place, state: State, negate: bool) -> tuple[Next, Next]:
        """What follows if it is asked for, and if it isn't."""
        holds, fails = partial(self._statement, place.next, state), partial(self._rules, place.next_rule, state)
        return (fails, holds) if negate else (holds, fails)

    def _in_set(self, asking: InSet, place: Place, state: State) -> Node:
        if asking.name not in self._table.map or self._table.map[asking.name].holds is not KeyType.NOTHING:
            return self._fault
        values: dict[str, list[Range]] = defaultdict(list)
        for key, _ in self._table.map[asking.name].elements:
            if isinstance(key, tuple):
                values[key[1]].append(Range.of(key[0]))
        inside, outside = self._either(place, state, asking.negate)
        fails = partial(self._rules, place.next_rule, state)

        def at(ranges: Sequence[Range]) -> Node:
            return self._ask(asking.field, asking.mask, state, Fork([(ranges, inside)], outside, fails))

        cases = [((Range.of(name),), partial(at, ranges)) for name, ranges in values.items()]
        return self._ask(asking.interface, None, state, Fork(cases, partial(at, ()), fails))

    def _by_pair(self, asking: MapCount, interface: Field, place: Place, state: State) -> Node:
        """In a map from pairs to counters."""
        if asking.name not in self._table.map or self._table.map[asking.name].holds is not KeyType.COUNTER:
            return self._fault
        cases: dict[str, list[tuple[tuple[Range, ...], Next]]] = defaultdict(list)
        for key, datum in self._table.map[asking.name].elements:
            if isinstance(key, tuple):
                cases[key[1]].append(((Range.of(key[0]),), partial(self._take, asking, datum, place, state)))
        fails = partial(self._rules, place.next_rule, state)

        def at(some: Sequence[tuple[Sequence[Range], Next]]) -> Node:
            return self._ask(asking.field, None, state, Fork(list(some), fails, fails))

        named = [((Range.of(name),), partial(at, some)) for name, some in cases.items()]
        return self._ask(interface, None, state, Fork(named, partial(at, ()), fails))

    def _look_up(self, asking: OfMap, place: Place, state: State) -> Node:
        """In a named map. If only the kernel knows what is in it, that is all that it can hold, or what we know."""
        entry = self._table.map[asking.name]
        node = self._found(asking, entry.elements, place, state)
        if not entry.lifetime:
            return node
        all_of_it = self._found(asking, [(name, RETURN) for name in self._meanings.variables.names], place, state)
        return self._diagrams.choose(NUMBER[OPEN], [((1, 1), all_of_it)], node)

    def _found(self, asking: OfMap, elements: Iterable[tuple[MapKey, Datum]], place: Place, state: State) -> Node:
        keys: dict[Datum, list[Range]] = defaultdict(list)
        for key, datum in elements:
            if isinstance(key, Key):
                keys[datum].append(Range.of(key))
        fails = partial(self._rules, place.next_rule, state)
        cases = [(ranges, partial(self._take, asking, datum, place, state)) for datum, ranges in keys.items()]
        return self._ask(asking.field, None, state, Fork(cases, fails, fails))

    def _take(self, asking: OfMap, datum: Datum, place: Place, state: State) -> Node:
        """What a map held."""
        match asking, datum:
            case VerdictMap(), Verdict():
                return self._lead(datum, place, state)
            case MapPriority(), int():
                return self._statement(place.next, state.after(Field.PACKET_PRIORITY, datum))
            case MapCount(), Count():
                return self._counted(datum.counter, place, state)
            case _:
                return self._rules(place.next_rule, state)

    def _ask(self, name: Field, mask: int | None, state: State, fork: Fork) -> Node:
        """What becomes of packets by `name & mask`."""
        written = state.value(name, mask)
        if written is not None:
            ways = (then for ranges, then in fork.cases if any(_has(item, written) for item in ranges))
            whole = next(ways, fork.otherwise)()
        elif name is Field.CT_MARK:
            whole = self._by_mark(mask, fork)
        else:
            spans = self._meanings.variables.spans
            parts = [(span, then()) for ranges, then in fork.cases for span in spans(name, ranges, mask)]
            whole = self._diagrams.choose(NUMBER[name], parts, fork.otherwise())
        if not self._meanings.variables.needs[name]:
            return whole
        return self._meanings.having(name, whole, self._fault if name in PORTS else fork.lacking())

    def _by_mark(self, mask: int | None, fork: Fork) -> Node:
        """One mark after the other, each part by itself."""
        node, parts = fork.otherwise(), parts_of(mask)
        for ranges, then in fork.cases:
            for mark in map(_only, ranges):
                if mask is None or not mark & ~mask:
                    node = self._at_mark({part: in_part(part, mark) for part in parts}, then(), node)
        return node

    def _at_mark(self, values: dict[str, int], node: Node, otherwise: Node) -> Node:
        for part, value in values.items():
            node = self._diagrams.choose(NUMBER[part], [((value, value), node)], otherwise)
        return node


def _has(item: Range, value: int) -> bool:
    return not isinstance(item.first, str) and int(item.first) <= value <= int(item.last)


def _only(item: Range) -> int:
    assert item.first == item.last, "a range of marks is asked for"
    return int(item.first)


@contextmanager
def _deep() -> Iterator[None]:
    """A few calls for each statement on a packet's way."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, MAX_CALLS))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
