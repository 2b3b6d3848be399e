"""Whether two tables do the same with every packet there is.

Owns the comparison. Must not know how a proof is found: it shares nothing with `sgdataplane.proof`. No packet is left
out, and none is tried: what a table does with all of them is a decision diagram (meaning.py), which has one form only
(diagrams.py). A difference is one packet, and the interpreter must show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sgdataplane.contract.fields import Field
from sgdataplane.errors import InternalError
from sgdataplane.nft import interp
from sgdataplane.nft.ir import RETURN, Key, Match, Table, Verdict, VerdictKind
from sgdataplane.nft.order import targets_first
from tests.support.models.diagrams import Node, shrunk
from tests.support.models.meaning import PLACE, WRITABLE, End, Meanings, Reading
from tests.support.models.variables import INTERFACES, LOOPBACK, NUMBER, PARTS, WAY, Packet, Variable, Variables, lowest

Done = tuple[object, ...]


class Circle(Exception):  # noqa: N818
    """Chains lead in a circle: the kernel takes no such table."""


class Comparison:
    """Of one table with others that were made of it. What was found out about a chain is kept: if a chain is the same
    object in another table, and so is all that it leads to, it does the same."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._meanings = Meanings(Variables(_names(table), table.chains))
        self.diagrams = self._meanings.diagrams
        self._numbers: dict[
            tuple[object, ...], tuple[int, object]
        ] = {}  # with the objects, so that their ids stay theirs
        self.meaning = self.of(table)

    def difference(self, other: Table) -> Packet | None:
        """A packet with which they do different things; None if there is none. Circle if the other one has one."""
        with self.diagrams.forgetting(), shrunk(self._meanings.known, self._numbers):
            meaning = self.of(other)
            point = self.diagrams.difference(self.meaning, meaning)
            if point is None:
                return None
            packet = self._meanings.variables.packet(point)
            done = self.checked(self.table, self.meaning, point), self.checked(other, meaning, point)
            assert done[0] != done[1], f"only the diagrams differ: {packet}"
            return packet

    def checked(self, table: Table, meaning: Node, point: Mapping[int, int]) -> Done:
        """What is done with the packet there. AssertionError if diagram and interpreter don't say the same."""
        packet = self._meanings.variables.packet(point)
        foreseen, found = _foreseen(self.diagrams.outcome(meaning, point), packet), done_with(table, packet)
        assert foreseen == found, f"{packet}: {foreseen} by the diagram, {found} by the interpreter"
        return found

    def of(self, table: Table) -> Node:
        """What becomes of each packet, at each hook."""
        assert _names(table) <= {*self._meanings.variables.values[Field.IIFNAME]}, "it names another interface"
        reading = Reading(self._meanings, table, self._numbered(table))
        found = [self.diagrams.replaced(reading.base(way.chain), self._left) for way in self._meanings.variables.ways]
        parts = [((place, place), node) for place, node in enumerate(found)]
        return self.diagrams.choose(NUMBER[WAY], parts, found[0])

    def _numbered(self, table: Table) -> dict[str, int]:
        targets = {chain.name: table.chain.keys() & _targets(table, chain.name) for chain in table.chains}
        found: dict[str, int] = {}
        for name in targets_first(targets):
            chain = table.chain[name]
            objects = [chain.rules, *(table.map[entry] for entry in chain.ways.maps if entry in table.map)]
            key = (*map(id, objects), *sorted((target, found[target]) for target in targets[name]))
            found[name], _ = self._numbers.setdefault(key, (len(self._numbers), objects))
        if len(found) < len(targets):
            raise Circle
        return found

    def _left(self, end: End) -> Node:
        """What is left of packets behind a hook. What is dropped has no priority any more."""
        if end.is_fault:
            return self._meanings.fault
        end = end._replace(verdict=end.verdict or VerdictKind.DROP, state=end.state._replace(jumps=0))
        if end.verdict is VerdictKind.DROP:
            end = end._replace(state=end.state.after(Field.PACKET_PRIORITY, None))
        return self._changed(end, list(WRITABLE))

    def _changed(self, end: End, variables: Sequence[Variable]) -> Node:
        """If what is written was there before, or packets lack the field: as if nothing were."""
        if not variables:
            return self.diagrams.leaf(end)
        variable, *others = variables
        same = self._changed(end._replace(state=end.state.after(variable, None)), others)
        written = end.state.written[PLACE[variable]]
        if written is None:
            return same
        changed = self.diagrams.choose(NUMBER[variable], [((written, written), same)], self._changed(end, others))
        return self._meanings.having(WRITABLE[variable], changed, same)


def difference(one: Table, other: Table) -> Packet | None:
    """A packet with which they do different things; None if there is none."""
    return Comparison(one).difference(other)


def done_with(table: Table, packet: Packet) -> Done:
    """What the interpreter does with it."""
    return result_of(_opened(table) if packet.is_open else table, packet.chain, packet.fields)


def result_of(table: Table, hook: str, packet: Mapping[Field, Key]) -> Done:
    """All that is compared, of a whole packet, by the interpreter."""
    try:
        outcome = interp.run(table, hook, packet)
    except InternalError as error:
        return (type(error).__name__,)
    priority = 0 if outcome.verdict is VerdictKind.DROP else outcome.priority
    done = tuple(outcome.counters), tuple(outcome.timeouts)
    return outcome.verdict, outcome.mark, outcome.packet_mark, priority, *done


def _foreseen(end: End, packet: Packet) -> Done:
    """The same, of a packet that ends so by a diagram."""
    if end.is_fault:
        return (InternalError.__name__,)
    priority, *parts = end.state.written
    mark = int(packet.fields.get(Field.CT_MARK, 0))
    for bits, value in zip(PARTS.values(), parts, strict=True):
        mark = mark if value is None else mark & ~bits | value * lowest(bits)
    if priority is None and end.verdict is not VerdictKind.DROP:
        priority = int(packet.fields.get(Field.PACKET_PRIORITY, 0))
    return end.verdict, mark, end.state.packet_mark, priority or 0, end.counters, end.timeouts


def _targets(table: Table, name: str) -> set[str]:
    ways = table.chain[name].ways
    datums = (datum for entry in ways.maps if entry in table.map for _, datum in table.map[entry].elements)
    return {*ways.chains, *(datum.chain for datum in datums if isinstance(datum, Verdict))}


def _opened(table: Table) -> Table:
    """With each interface that may be an ENI's in the maps whose elements go by themselves."""
    elements = tuple((name, RETURN) for name in sorted(_names(table)) if name != LOOPBACK)
    return replace(table, maps=tuple(replace(m, elements=elements) if m.lifetime else m for m in table.maps))


def _names(table: Table) -> set[str]:
    """The interfaces that it names."""
    statements = (s for chain in table.chains for rule in chain.rules for s in rule.statements)
    matches = (s for s in statements if isinstance(s, Match) and s.field in INTERFACES)
    found = {str(item.first) for match in matches for item in match.ranges}
    for entry in table.maps:
        keys = (key[1] if isinstance(key, tuple) else key for key, _ in entry.elements)
        found |= {key for key in keys if isinstance(key, str)}
    assert not any(name.endswith("*") for name in found), "each interface is named by its whole name"
    return found
