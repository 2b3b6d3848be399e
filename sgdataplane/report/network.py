"""One VPC on a page: who reaches whom as a picture and a table, what passes from and to outside, and what is left out.

Owns how much of it is shown. Takes who reaches whom. Must not know HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from sgdataplane.analyse.kinds import EniKind
from sgdataplane.analyse.reachable import Far, Reachability, TooIntricateError, Way
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.model.words import first_of, pluralize
from sgdataplane.net.ranges import Ranges
from sgdataplane.net.values import Direction, Family
from sgdataplane.report.content import FarRow, Grid, GridCell, Head, Line, Network, Picture
from sgdataplane.report.picture import Edge, Node, draw, story
from sgdataplane.report.words import addresses, is_most, services

MAX_ENIS = 16  # if there are more ENIs, those that no rule tells apart share a row
MAX_KINDS = 40  # rows of a table in which ENIs share rows
MAX_BOXES = 14
MAX_FAR_ROWS = 150
MAX_NAMES = 4  # names of ENIs in one box or row
FAMILY = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}
OUTSIDE = "outside"
SOME = "some addresses"
MAX_TEXTS = 12  # services in one cell
UNKNOWN = Line(("not worked out",), is_some=True)


@dataclass(frozen=True, slots=True)
class End:
    """A row of the table: one ENI, or all ENIs of a kind."""

    kind: EniKind
    head: Head
    eni: Eni | None = None
    """None if the row is for all ENIs of the kind."""


class NetworkView:
    """Makes the Network of one VPC of a state; remembers what it has worked out."""

    def __init__(self, state: CloudState, reach: Reachability, vpc_id: str) -> None:
        self._state, self._reach, self._vpc_id = state, reach, vpc_id
        self._kinds = sorted(
            (kind for kind in reach.kinds if kind.vpc_id == vpc_id), key=lambda kind: (-len(kind.enis), _first(kind))
        )
        self._enis = sum(len(kind.enis) for kind in self._kinds)
        self._ways: dict[tuple[EniKind, EniKind], tuple[Line, ...]] = {}
        self._far: dict[tuple[EniKind, Direction], tuple[Far, ...] | None] = {}

    def network(self, number: int) -> Network:
        """Return everything that is shown; `number` makes the keys unique on the page."""
        ends = self._ends()
        shown = list(dict.fromkeys(end.kind for end in ends))
        for pair in product(shown, shown):
            self._lines(*pair)  # first, because what is outside may use up the effort allowed
        incoming, outgoing = (self._far_rows(ends, direction) for direction in Direction)
        left_out = max(len(incoming), len(outgoing)) > MAX_FAR_ROWS
        blocks = ", ".join(map(str, self._state.vpc[self._vpc_id].cidr_blocks[:MAX_NAMES]))
        return Network(
            f"vpc-{number}",
            self._vpc_id,
            f"{pluralize(self._enis, 'ENI')}{f', {blocks}' if blocks else ''}",
            self._picture(shown[:MAX_BOXES], f"picture-{number}") if ends else None,
            self._grid(ends),
            incoming[:MAX_FAR_ROWS],
            outgoing[:MAX_FAR_ROWS],
            tuple(self._notes(shown, is_far_cut=left_out)),
        )

    def _ends(self) -> list[End]:
        if self._enis <= MAX_ENIS:
            ends = [End(kind, self._head([eni], kind), eni) for kind in self._kinds for eni in kind.enis]
            return sorted(ends, key=lambda end: end.eni.network_interface_id if end.eni else "")
        shown = sorted(self._kinds[:MAX_KINDS], key=lambda kind: kind.security_group_ids)
        return [End(kind, self._head(kind.enis, kind)) for kind in shown]

    def _notes(self, shown: Sequence[EniKind], *, is_far_cut: bool) -> Iterator[str]:
        audited = sum(len(kind.enis) for kind in self._kinds if _is_audited(kind))
        if audited:
            are = "is in audit mode: what its" if audited == 1 else "are in audit mode: what their"
            yield f"{pluralize(audited, 'ENI')} {are} rules refuse passes, and is shown so."
        if None in self._far.values() or (UNKNOWN,) in self._ways.values():
            yield (
                'Rules overlap in so many ways that some places say "not worked out"; '
                "sgdp explain answers for any one packet."
            )
        if self._enis > MAX_ENIS:
            rows = pluralize(len(self._kinds), "row")
            yield (
                f"{self._enis:,} ENIs are too many for a row each: ENIs that no rule tells apart share one. They have "
                f"the same groups, and lie in the same CIDR blocks of rules. There are {rows}."
            )
        if len(shown) < len(self._kinds):
            missing = sum(len(kind.enis) for kind in self._kinds[len(shown) :])
            yield (
                f"Only the {len(shown)} largest of these rows are shown; {pluralize(missing, 'ENI')} are in the others."
            )
        if len(shown) > MAX_BOXES:
            yield f"The picture shows the {MAX_BOXES} largest."
        if is_far_cut:
            yield f"The tables of what passes from and to outside show their first {MAX_FAR_ROWS} rows."

    def _head(self, enis: Sequence[Eni], kind: EniKind) -> Head:
        return Head(first_of([self._name(eni) for eni in enis], MAX_NAMES), self._groups(kind))

    def _name(self, eni: Eni) -> str:
        """Return the instance's name if that has no other ENI; else the ENI's id."""
        instance = self._state.instance.get(eni.instance_id)
        if instance is None or len(self._state.enis_of_instance[eni.instance_id]) > 1:
            return eni.network_interface_id
        return instance.instance_name or instance.instance_id

    def _groups(self, kind: EniKind) -> str:
        """Return what the kind's ENIs have in common: their groups, and the mode if it isn't enforce."""
        mode = "; in audit mode" if _is_audited(kind) else ""
        return first_of(list(kind.security_group_ids), MAX_NAMES) + mode

    def _lines(self, source: EniKind, target: EniKind) -> tuple[Line, ...]:
        if (source, target) not in self._ways:
            families = {place.family for place in source.places} & {place.family for place in target.places}
            try:
                self._ways[source, target] = lines_of(self._reach.between(source, target), families)
            except TooIntricateError:
                self._ways[source, target] = (UNKNOWN,)
        return self._ways[source, target]

    def _rows_far(self, kind: EniKind, direction: Direction) -> tuple[Far, ...] | None:
        """Return what passes between the kind and outside; None if it is too intricate."""
        if (kind, direction) not in self._far:
            try:
                self._far[kind, direction] = self._reach.far(kind, direction)
            except TooIntricateError:
                self._far[kind, direction] = None
        return self._far[kind, direction]

    def _outside(self, family: Family) -> Ranges:
        return self._reach.outside(self._vpc_id, family)

    def _far_rows(self, ends: Sequence[End], direction: Direction) -> tuple[FarRow, ...]:
        """Return the rows of what passes from or to outside.

        What passes for the same addresses outside shares a row, and so do ENIs for which the same passes.
        """
        passing: dict[tuple[End, str, str], list[str]] = {}
        for end in ends:
            found = self._rows_far(end.kind, direction)
            if found is None:
                passing[end, "not worked out", ""] = list(UNKNOWN.services)
            for row in found or ():
                who = addresses(row.addresses, self._outside(row.family), row.family)
                who += " (not at all of the ENI's addresses)" if row.is_some else ""
                passing.setdefault((end, who, FAMILY[row.family]), []).extend(services(row.passing))
        names: dict[tuple[tuple[str, ...], str, str], list[str]] = {}
        for (end, who, family), texts in passing.items():
            if texts:
                names.setdefault((tuple(texts), who, family), []).append(end.head.name)
        return tuple(
            FarRow(first_of(some, MAX_ENIS), few(texts), who, family) for (texts, who, family), some in names.items()
        )

    def _far_lines(self, kind: EniKind, direction: Direction, *, most: bool) -> tuple[Line, ...]:
        """Return what passes for `most` addresses outside, or for fewer, without saying which."""
        found = self._rows_far(kind, direction)
        if found is None:
            return () if most else (UNKNOWN,)
        rows = [
            Way(row.family, row.passing, row.is_some)
            for row in found
            if row.passing and is_most(row.addresses, self._outside(row.family)) is most
        ]
        return lines_of(rows, {place.family for place in kind.places})

    def _far_cell(self, kind: EniKind, direction: Direction) -> GridCell:
        most, some = (self._far_lines(kind, direction, most=most) for most in (True, False))
        noted = (Line(line.services, f"{SOME}, {line.note}" if line.note else SOME, is_some=True) for line in some)
        return GridCell((*most, *noted), is_some=not most)

    def _grid(self, ends: Sequence[End]) -> Grid:
        outside = Head("Outside", "not in the VPC")
        first = (GridCell(is_same=True), *(self._far_cell(end.kind, Direction.INGRESS) for end in ends))
        others = (
            (self._far_cell(source.kind, Direction.EGRESS), *(self._cell(source, target) for target in ends))
            for source in ends
        )
        heads = (outside, *(end.head for end in ends))
        return Grid(heads, heads, (first, *others))

    def _cell(self, source: End, target: End) -> GridCell:
        if source is target and len(source.kind.enis if source.eni is None else (source.eni,)) == 1:
            return GridCell(is_same=True)
        return GridCell(self._lines(source.kind, target.kind))

    def _picture(self, kinds: Sequence[EniKind], key: str) -> Picture:
        names = {kind: f"n{number}" for number, kind in enumerate(kinds)}
        nodes = [Node(OUTSIDE, "Outside", ("all that is", "not in the VPC"), is_outside=True)]
        nodes += [Node(names[kind], self._head(kind.enis, kind).name, tuple(self._box_lines(kind))) for kind in kinds]
        edges = [edge for kind in kinds for edge in self._edges_from_outside(kind, names[kind])]
        for source, target in permutations(kinds, 2):
            lines = self._lines(source, target)
            if lines:
                is_some = all(line.is_some for line in lines)
                edges.append(Edge(names[source], names[target], texts_of(lines), is_some))
        return Picture(key, f"Who reaches whom in {self._vpc_id}", story(nodes, edges), draw(nodes, edges))

    def _box_lines(self, kind: EniKind) -> Iterator[str]:
        yield self._groups(kind)
        if len(kind.enis) > 1:
            among = self._lines(kind, kind)
            yield f"among them: {'; '.join(texts_of(among)) or 'nothing'}"
        out = self._far_cell(kind, Direction.EGRESS).lines
        yield f"out: {'; '.join(texts_of(out)) or 'nothing'}"

    def _edges_from_outside(self, kind: EniKind, key: str) -> Iterator[Edge]:
        anyone = self._far_lines(kind, Direction.INGRESS, most=True)
        if anyone:
            yield Edge(OUTSIDE, key, texts_of(anyone))
        some = self._far_lines(kind, Direction.INGRESS, most=False)
        if some:
            yield Edge(OUTSIDE, key, ("from some:", *texts_of(some)), is_some=True)


def _is_audited(kind: EniKind) -> bool:
    """Return whether the kind's ENIs are in audit mode; ENIs of different modes are of different kinds."""
    return kind.enis[0].is_audited


def _first(kind: EniKind) -> str:
    return kind.enis[0].network_interface_id


def lines_of(ways: Iterable[Way], families: Iterable[Family]) -> tuple[Line, ...]:
    """Return a line for what passes in all `families`, and one for what passes in only some of them."""
    known: dict[tuple[str, bool], set[Family]] = {}
    for way in ways:
        for text in services(way.passing):
            known.setdefault((text, way.is_some), set()).add(way.family)
    all_families = set(families)
    found: dict[tuple[str, bool], list[str]] = {}
    for (text, is_some), some in known.items():
        found.setdefault((", ".join(_notes(some, all_families, is_some=is_some)), is_some), []).append(text)
    return tuple(Line(few(texts), note, is_some) for (note, is_some), texts in found.items())


def few(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the first MAX_TEXTS texts, and how many more there are."""
    more = len(texts) - MAX_TEXTS
    return tuple(texts) if more <= 0 else (*texts[:MAX_TEXTS], f"and {more:,} more")


def _notes(some: set[Family], families: set[Family], *, is_some: bool) -> Iterator[str]:
    if some != families:
        yield from sorted(FAMILY[family] for family in some)
    if is_some:
        yield "not between all addresses"


def texts_of(lines: Iterable[Line]) -> tuple[str, ...]:
    """Return the lines as texts."""
    return tuple(line.text for line in lines)
