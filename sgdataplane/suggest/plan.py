"""The rules of one slot: its flows' ends are named, and protocols, ports and ends are merged into the fewest rules.

Owns how cells become rules, and how far a slot may be widened to save rules. Is given the cells of one slot. Must not
know other slots, nor quotas.

Named ends get a rule for each run of ports. Addresses are merged in both dimensions at once (`cover`).
"""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter

from sgdataplane.model.state import SecurityGroupRule
from sgdataplane.net.ranges import Ranges, minus, unite
from sgdataplane.net.values import ALL, PortRange, Prefix, Protocol
from sgdataplane.suggest.cover import cover
from sgdataplane.suggest.ends import NamedEnd, Namer, whole_end
from sgdataplane.suggest.evidence import SeenFlow
from sgdataplane.suggest.judge import blocks_of
from sgdataplane.suggest.result import Preferences
from sgdataplane.suggest.scope import Grant, GrantKind, Slot

NEAR, DYNAMIC = 1024, 1024  # with --ports range: gaps below NEAR between ports from DYNAMIC on are closed
Interval = tuple[int, int]


class Width(enum.IntEnum):
    """How wide a slot's rules are. No step opens what the state refuses."""

    SEEN = 0
    """What was seen, as groups, lists and addresses."""
    ADDRESSES = 1
    """No groups, which have a quota of their own, and no lists, which count as often as they may have entries."""
    BLOCKS = 2
    """Addresses that are no ENI's become blocks (/24, /64)."""
    REMOTES = 3
    """Each port keeps the remote of what lets it pass today."""
    KEPT = 4
    """What lets the flows pass today stays as it is."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A flow's place among rules."""

    grant: Grant
    """What lets the flow pass today."""
    protocol: Protocol
    port: int | None
    """None if the protocol has none, or no rule can name it (0)."""
    end: Prefix
    """The other end, as an address or block."""
    flow: SeenFlow

    @property
    def key(self) -> tuple[object, ...]:
        """The key that sorts by protocol and port, then by the other end."""
        return self.protocol, -1 if self.port is None else self.port, self.end


@dataclass(frozen=True, slots=True)
class Drafted:
    """A rule, and the cells that it carries."""

    slot: Slot
    rule: SecurityGroupRule
    end: NamedEnd
    """What the rule says of the other end."""
    cells: tuple[Cell, ...]
    """The cells that it carries."""

    @property
    def grants(self) -> tuple[Grant, ...]:
        """What lets the rule's flows pass today, each once."""
        return tuple(sorted({cell.grant for cell in self.cells}, key=lambda grant: (grant.slot.key, grant.name)))


class SlotPlan:
    """All ways to write the rules of a slot."""

    def __init__(self, slot: Slot, cells: Sequence[Cell], namer: Namer, preferences: Preferences) -> None:
        self.slot, self.cells = slot, tuple(sorted(cells, key=lambda cell: cell.key))
        self._namer = namer
        self._is_joining, self._has_blocks = preferences.ports == "range", preferences.ends == "prefix"
        self._drafted: dict[Width, tuple[Drafted, ...]] = {}

    def rules(self, width: Width) -> tuple[Drafted, ...]:
        """Return the rules of that width, sorted.

        If it is KEPT, they are today's rules, and there are none for inner accept, a default or a new grant.
        """
        if width not in self._drafted:
            drafted = self._keep_rules() if width is Width.KEPT else self._make_rules(width)
            self._drafted[width] = tuple(sorted(drafted, key=_place))
        return self._drafted[width]

    def wider(self, width: Width) -> Width:
        """Return the next width that this slot may have.

        Inner accept knows no ends, and a new rule opens what was asked for or nothing, so both can only be kept.
        """
        return Width.KEPT if self.slot.kind in (GrantKind.INNER, GrantKind.NEW) else Width(width + 1)

    def _keep_rules(self) -> Iterator[Drafted]:
        for rule in {cell.grant.rule: None for cell in self.cells}:
            if rule is not None:
                mine = tuple(cell for cell in self.cells if cell.grant.rule == rule)
                yield Drafted(self.slot, rule, NamedEnd(rule.remote, rule.narrowing), mine)

    def _make_rules(self, width: Width) -> Iterator[Drafted]:
        protocols = {cell.protocol: None for cell in self.cells}
        for protocol in protocols:
            mine = [cell for cell in self.cells if cell.protocol == protocol]
            named, others = self._group_by_name(mine, width)
            for end, cells in named.items():
                yield from self._runs(protocol, end, cells)
            yield from self._blocks(protocol, others)

    def _group_by_name(self, cells: Sequence[Cell], width: Width) -> tuple[dict[NamedEnd, list[Cell]], list[Cell]]:
        """Return the cells by the name of their end, and those whose end has none."""
        named: dict[NamedEnd, list[Cell]] = {}
        others: list[Cell] = []
        for grant, some in _by_port_and_grant(cells):
            names = self._names(grant, dict.fromkeys(cell.end for cell in some), width)
            for cell in some:
                end = names.get(cell.end)
                if end is not None:
                    named.setdefault(end, []).append(cell)
                else:
                    is_wide = width is Width.BLOCKS or self._has_blocks
                    others.append(replace(cell, end=self._namer.widen(grant, cell.end)) if is_wide else cell)
        return named, others

    def _names(self, grant: Grant, ends: Iterable[Prefix], width: Width) -> dict[Prefix, NamedEnd]:
        if width is Width.REMOTES:
            return {end: whole_end(grant, end.family) for end in ends}
        return (self._namer if width is Width.SEEN else self._namer.plain).name(grant, ends)

    def _runs(self, protocol: Protocol, end: NamedEnd, cells: Sequence[Cell]) -> Iterator[Drafted]:
        for ports in self._join_ports(protocol, {cell.port for cell in cells}):
            mine = tuple(cell for cell in cells if _is_in(cell.port, ports))
            yield self._draft(protocol, end, ports, mine)

    def _blocks(self, protocol: Protocol, cells: Sequence[Cell]) -> Iterator[Drafted]:
        if not cells:
            return
        grid = _Grid(cells)
        rectangles = [
            ((block, run), grid.cells_in(block, run))
            for block, ports in grid.blocks.items()
            for run in self._join_ports(protocol, ports)
        ]
        rectangles.sort(key=lambda one: (one[0][1] or (0, 0), one[0][0]))
        left = dict(grid.cells)
        for block, run in cover(range(len(grid.places)), rectangles):
            mine = [left.pop(place) for place in sorted(grid.cells_in(block, run)) if place in left]
            yield self._draft(
                protocol, NamedEnd(block, self.slot.narrowing), run, tuple(c for some in mine for c in some)
            )

    def _join_ports(self, protocol: Protocol, ports: Iterable[int | None]) -> list[Interval | None]:
        """Return runs of ports, with each port in one of them; [None] for a protocol without ports."""
        numbers = sorted(port for port in ports if port is not None)
        if not numbers:
            return [None]
        grants = self._grants[protocol]
        runs = [(numbers[0], numbers[0])]
        for port in numbers[1:]:
            first, last = runs[-1]
            if port == last + 1 or (self._is_joining and self._is_one_range(last, port, grants)):
                runs[-1] = (first, port)
            else:
                runs.append((port, port))
        return list(runs)

    @cached_property
    def _grants(self) -> Mapping[Protocol, Mapping[int, set[Grant]]]:
        """What lets each port pass."""
        found: dict[Protocol, dict[int, set[Grant]]] = {}
        for cell in self.cells:
            found.setdefault(cell.protocol, {}).setdefault(cell.port or 0, set()).add(cell.grant)
        return found

    def _is_one_range(self, last: int, port: int, grants: Mapping[int, set[Grant]]) -> bool:
        """Return whether the ports between two may be opened, too: one grant lets all of them pass today."""
        if last < DYNAMIC or port - last >= NEAR or grants[last] != grants[port] or len(grants[port]) > 1:
            return False
        (grant,) = grants[port]
        return not grant.is_exact and not minus(((last, port),), self._ports_of(grant))

    def _ports_of(self, grant: Grant) -> Ranges:
        if grant.slot.kind is GrantKind.NEW or (grant.rule is not None and grant.rule.port_list_id):
            return ()
        if grant.rule is None or grant.rule.port_range is None:
            return ((1, 65535),)
        return ((grant.rule.port_range.first, grant.rule.port_range.last),)

    def _draft(self, protocol: Protocol, end: NamedEnd, ports: Interval | None, cells: tuple[Cell, ...]) -> Drafted:
        slot = self.slot
        rule = SecurityGroupRule(
            "", slot.direction, protocol, end.remote, PortRange(*ports) if ports else None,
            priority=slot.priority, source_port_range=slot.source_ports if protocol.has_ports else None,
            narrowing=end.narrowing, nic_type=slot.nic_type,
        )  # fmt: skip
        return Drafted(slot, rule, end, cells)


class _Grid:
    """Cells by port and address. A place is a port and a piece of addresses that no block cuts.

    Attributes:
        blocks: the largest blocks that were seen whole at some port, and all ports at which they were.
        places: the place's number, by port, bits of the family, and first address.
        cells: the cells that begin in a place.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        by_port: dict[int | None, list[Prefix]] = {}
        for cell in cells:
            by_port.setdefault(cell.port, []).append(cell.end)
        self._seen = {port: _by_bits(ends) for port, ends in by_port.items()}
        blocks = {block for seen in self._seen.values() for block in _maximal(seen)}
        self.blocks = {block: self._ports_with(block) for block in sorted(blocks)}
        self._rows = {(port, bits): self._row(port, bits) for port in self._seen for bits in (32, 128)}
        found = [(port, bits, edge) for (port, bits), row in self._rows.items() for edge in row]
        self.places = {place: number for number, place in enumerate(found)}
        self.cells: dict[int, list[Cell]] = {}
        for cell in cells:
            row = self._rows[cell.port, cell.end.family_bits]
            edge = row[bisect_right(row, cell.end.first) - 1]
            self.cells.setdefault(self.places[cell.port, cell.end.family_bits, edge], []).append(cell)

    def cells_in(self, block: Prefix, run: Interval | None) -> frozenset[int]:
        """Return the places that a block has at a run of ports."""
        bits, found = block.family_bits, list[int]()
        for port in self.blocks[block]:
            if _is_in(port, run):
                row = self._rows[port, bits]
                some = row[bisect_left(row, block.first) : bisect_right(row, block.last)]
                found += [self.places[port, bits, edge] for edge in some]
        return frozenset(found)

    def _row(self, port: int | None, bits: int) -> list[int]:
        edges, found = self._edges[bits], list[int]()
        for first, last in self._seen[port][bits]:
            found += edges[bisect_left(edges, first) : bisect_right(edges, last)]
        return found

    @cached_property
    def _edges(self) -> dict[int, list[int]]:
        found: dict[int, set[int]] = {32: set(), 128: set()}
        for block in self.blocks:
            found[block.family_bits] |= {block.first, block.last + 1}
        return {bits: sorted(edges) for bits, edges in found.items()}

    def _ports_with(self, block: Prefix) -> list[int | None]:
        """Return the ports at which all of the block was seen."""
        return [port for port, seen in self._seen.items() if _covers(seen[block.family_bits], block)]


def _covers(ranges: Ranges, block: Prefix) -> bool:
    """Return whether a block is within one of the ranges."""
    place = bisect_right(ranges, block.first, key=itemgetter(0)) - 1
    return place >= 0 and block.last <= ranges[place][1]


def _by_bits(ends: Iterable[Prefix]) -> dict[int, Ranges]:
    ends = tuple(ends)
    return {bits: unite((e.first, e.last) for e in ends if e.family_bits == bits) for bits in (32, 128)}


def _maximal(seen: dict[int, Ranges]) -> Iterator[Prefix]:
    for bits, ranges in seen.items():
        for first, last in ranges:
            yield from blocks_of(bits, first, last)


def _by_port_and_grant(cells: Sequence[Cell]) -> Iterator[tuple[Grant, list[Cell]]]:
    found: dict[tuple[int | None, Grant], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.port, cell.grant), []).append(cell)
    for (_, grant), some in found.items():
        yield grant, some


def _is_in(port: int | None, run: Interval | None) -> bool:
    return run is None or (port is not None and run[0] <= port <= run[1])


def _place(drafted: Drafted) -> tuple[object, ...]:
    """Return the key that sorts rules by protocol and port, then groups, lists and addresses."""
    rule = drafted.rule
    ports = (rule.port_range.first, rule.port_range.last) if rule.port_range else (-1, -1)
    return rule.ip_protocol, ports, drafted.end.key


def protocol_of(number: int, end: Prefix, port: int | None) -> tuple[Protocol, int | None]:
    """Return the protocol and port that a rule has to name for a packet.

    Only `all` matches port 0, and ICMP of the other family.
    """
    protocol = Protocol(number)
    if not protocol.exists_in(end.family) or (protocol.has_ports and not port):
        return ALL, None
    return protocol, port if protocol.has_ports else None
