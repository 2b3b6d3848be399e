"""Who reaches whom as boxes and arrows: the graph, where everything stands in the drawing, and the same in sentences.

Owns the layout. Takes nodes and edges with texts. Must not know what they stand for, nor SVG.

Boxes stand in columns, outside on the left, by how many steps each is away from it. An arrow over several columns has a
slot of its own in each column between, so no arrow crosses a box. What passes stands at the arrow's tip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

MAX_CHARACTERS, MAX_IN_BOX, MAX_IN_TITLE = 30, 24, 16  # in a label, in a line of a box and in its title
BOX_WIDTH, ROW_GAP, MARGIN = 172.0, 26.0, 12.0
LINE, TITLE, PADDING = 16.0, 22.0, 12.0
CHARACTER = 6.9  # the width of a character in a label, on average
ROOM, BULGE, TIP = 34.0, 30.0, 14.0  # beside labels; of an arrow within a column; from a label to the box
SWEEPS = 6


@dataclass(frozen=True, slots=True)
class Node:
    """A box to be drawn: a title, and lines below it."""

    key: str
    title: str
    lines: tuple[str, ...] = ()
    is_outside: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """What passes from one node to another."""

    source: str
    target: str
    texts: tuple[str, ...]
    """A line for each text."""
    is_some: bool = False
    """It passes only for some addresses."""
    is_wrong: bool = False
    """The policy says otherwise."""
    is_both: bool = False
    """The same passes the other way round."""


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box with its place in the drawing; `x` and `y` are its upper left corner."""

    node: Node
    x: float
    y: float
    width: float
    height: float

    @property
    def title(self) -> str:
        """The title, shortened so that it fits."""
        return shorten(self.node.title, MAX_IN_TITLE)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines below the title, shortened so that they fit."""
        return tuple(shorten(line, MAX_IN_BOX) for line in self.node.lines)


@dataclass(frozen=True, slots=True)
class Arrow:
    """An arrow with its label."""

    edge: Edge
    path: str
    """An SVG path from the edge's source to its target."""
    x: float
    """The left edge of the label."""
    y: float
    """The upper edge of the label."""
    width: float
    """The width of the label."""
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Everything that is drawn, and its size."""

    width: float
    height: float
    boxes: tuple[DrawnBox, ...]
    arrows: tuple[Arrow, ...]


def merge(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    """Return the edges, with two that carry the same in both directions as one with two tips."""
    known = dict.fromkeys(edges)
    found = []
    for edge in known:
        is_both = replace(edge, source=edge.target, target=edge.source) in known
        if not (is_both and edge.target < edge.source):
            found.append(replace(edge, is_both=is_both))
    return tuple(found)


def story(nodes: Sequence[Node], edges: Iterable[Edge]) -> tuple[str, ...]:
    """Return the picture in sentences."""
    titles = {node.key: node.title for node in nodes}
    passing = (f"{titles[e.source]} to {titles[e.target]}: {'; '.join(e.texts).replace(':; ', ': ')}." for e in edges)
    boxes = (f"{node.title}: {', '.join(node.lines)}." for node in nodes if not node.is_outside)
    return (*passing, *boxes)


def shorten(text: str, most: int = MAX_CHARACTERS) -> str:
    """Return a text of at most so many characters; an ellipsis stands for the rest."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


# the layout


@dataclass(eq=False, slots=True)
class _Slot:
    """A place in a column."""

    node: Node | None
    """None for an arrow that passes through."""
    rank: int
    """The number of the column; 0 is outside."""
    y: float = 0.0
    height: float = LINE
    left: list[_Link] = field(default_factory=list)
    """The links to the column on its left."""
    right: list[_Link] = field(default_factory=list)
    """The links to the column on its right, or within its own."""


@dataclass(eq=False, slots=True)
class _Link:
    """A part of the arrow for `edge`: from one column to the next, or within a column."""

    edge: Edge
    near: _Slot
    """The end on the left; within a column, the arrow's source."""
    far: _Slot
    """The end on the right; within a column, the arrow's target."""
    near_y: float = 0.0
    """Where the link meets that slot."""
    far_y: float = 0.0
    """Where the link meets that slot."""

    @property
    def is_within(self) -> bool:
        """Whether both ends are in one column."""
        return self.near.rank == self.far.rank

    def has_label(self, slot: _Slot) -> bool:
        """Return whether the arrow's tip, and so its label, is at this end.

        An arrow with two tips has its label at the right end.
        """
        if self.is_within or slot.node is None:
            return False
        return slot.node.key == self.edge.target if not self.edge.is_both else slot is self.far


def draw(nodes: Sequence[Node], edges: Iterable[Edge]) -> Drawing:
    """Return the drawing; each edge must lead from one of the nodes to another."""
    arrows = merge(edges)
    ranks = _ranks(nodes, arrows)
    slots = {node.key: _Slot(node, ranks[node.key]) for node in nodes}
    columns: list[list[_Slot]] = [[] for _ in range(max(ranks.values(), default=0) + 1)]
    for slot in slots.values():
        columns[slot.rank].append(slot)
    ways = [_way(edge, slots[edge.source], slots[edge.target], columns) for edge in arrows]
    _order(columns)
    _stand(columns)
    starts, width = _columns_x(columns)
    boxes = tuple(
        DrawnBox(slot.node, starts[slot.rank], slot.y, BOX_WIDTH, slot.height)
        for slot in slots.values()
        if slot.node is not None
    )
    height = max((slot.y + slot.height for column in columns for slot in column), default=0.0) + MARGIN
    return Drawing(width, height, boxes, tuple(_arrow(way, starts) for way in ways))


def _ranks(nodes: Sequence[Node], edges: Sequence[Edge]) -> dict[str, int]:
    """Return the column of each node, by its key.

    It is the fewest steps from outside, first over what passes from all addresses there, then over what passes from
    some.
    """
    after: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        after[edge.source].append(edge.target)
        if edge.is_both:
            after[edge.target].append(edge.source)
    outside = {node.key for node in nodes if node.is_outside}
    ranks = dict.fromkeys(outside, 0)
    open_to = [e.target for e in sorted(edges, key=lambda e: e.is_some) if e.source in outside]
    first = [[e.target for e in edges if e.source in outside and not e.is_some]]
    rest = [[key] for key in (*open_to, *(node.key for node in nodes))]
    for seeds in (*first, *rest):
        _spread({key for key in seeds if key not in ranks}, after, ranks)
    return ranks


def _spread(seeds: set[str], after: Mapping[str, list[str]], ranks: dict[str, int]) -> None:
    step, now = 1, seeds
    while now:
        ranks.update(dict.fromkeys(now, step))
        now = {key for source in now for key in after[source] if key not in ranks}
        step += 1


def _way(edge: Edge, source: _Slot, target: _Slot, columns: list[list[_Slot]]) -> list[_Link]:
    """Return an arrow's links from left to right, through a new slot in each column between."""
    near, far = (source, target) if source.rank <= target.rank else (target, source)
    passed = [_Slot(None, rank) for rank in range(near.rank + 1, far.rank)]
    for slot in passed:
        columns[slot.rank].append(slot)
    stops = [near, *passed, far]
    links = [_Link(edge, one, other) for one, other in pairwise(stops)]
    for link in links:
        link.near.right.append(link)
        (link.far.right if near.rank == far.rank else link.far.left).append(link)
    return links


def _order(columns: list[list[_Slot]]) -> None:
    """Move each slot near the mean of those that it is linked with, sweeping from left to right and back."""
    place = {id(slot): float(index) for column in columns for index, slot in enumerate(column)}

    def mean(slot: _Slot, links: list[_Link]) -> float:
        others = [place[id(link.near if link.far is slot else link.far)] for link in links]
        return sum(others) / len(others) if others else place[id(slot)]

    for sweep in range(SWEEPS):
        is_forward = sweep % 2 == 0
        for column in columns if is_forward else reversed(columns):
            column.sort(key=lambda slot: mean(slot, slot.left if is_forward else slot.right))
            place.update({id(slot): float(index) for index, slot in enumerate(column)})


def _label_height(edge: Edge) -> float:
    return LINE * len(edge.texts) + 8


def _stand(columns: list[list[_Slot]]) -> None:
    """Set the height and y of each slot, with all columns centred on one line; then where links meet their slots."""
    heights = []
    for column in columns:
        y = MARGIN
        for slot in column:
            if slot.node is not None:
                texts = TITLE + LINE * len(slot.node.lines) + PADDING
                slot.height = max(texts, *(sum(_room(link, slot) for link in side) for side in (slot.left, slot.right)))
            slot.y, y = y, y + slot.height + ROW_GAP
        heights.append(y)
    for column, height in zip(columns, heights, strict=True):
        for slot in column:
            slot.y += (max(heights) - height) / 2
    for slot in (slot for column in columns for slot in column):
        _meet(slot, slot.left)
        _meet(slot, slot.right)


def _room(link: _Link, slot: _Slot) -> float:
    return _label_height(link.edge) if link.has_label(slot) else LINE


def _meet(slot: _Slot, links: list[_Link]) -> None:
    """Spread the links of one side over a slot; links that lead upwards meet it further up."""
    links.sort(key=lambda link: link.near.y if link.far is slot else link.far.y)
    weights = [_room(link, slot) for link in links]
    y, scale = slot.y, slot.height / (sum(weights) or 1.0)
    for link, weight in zip(links, weights, strict=True):
        middle, y = y + weight * scale / 2, y + weight * scale
        if link.far is slot:
            link.far_y = middle
        else:
            link.near_y = middle


def _label_width(edge: Edge) -> float:
    return max((len(shorten(text)) for text in edge.texts), default=0) * CHARACTER + 12


def _columns_x(columns: list[list[_Slot]]) -> tuple[list[float], float]:
    """Return the x of each column, with room for labels on both sides; and the whole width."""
    starts, x = list[float](), MARGIN
    for column in columns:
        x += _widest(link for slot in column for link in slot.left if link.has_label(slot))
        starts.append(x)
        right = [(slot, link) for slot in column for link in slot.right]
        within = max((_label_width(link.edge) + _bulge(link) for _, link in right if link.is_within), default=0.0)
        x += BOX_WIDTH + within + _widest(k for s, k in right if k.has_label(s)) + ROOM
    return starts, x - ROOM + MARGIN


def _bulge(link: _Link) -> float:
    """Return how far an arrow within a column bulges out of it.

    Longer arrows bulge further, so that they can be told apart.
    """
    return BULGE + min(abs(link.near_y - link.far_y) * 0.15, 3 * BULGE)


def _widest(links: Iterable[_Link]) -> float:
    return max((_label_width(link.edge) for link in links), default=0.0)


def _arrow(way: Sequence[_Link], starts: Sequence[float]) -> Arrow:
    edge, first, last = way[-1].edge, way[0], way[-1]
    width, half = _label_width(edge), _label_height(edge) / 2
    texts = tuple(map(shorten, edge.texts))
    right = starts[first.near.rank] + BOX_WIDTH
    is_forward = first.near.node is not None and first.near.node.key == edge.source
    if last.is_within:
        y1, y2 = (last.near_y, last.far_y) if is_forward else (last.far_y, last.near_y)
        bulge = _bulge(last)
        control = right + bulge * 4 / 3  # the curve comes three quarters as far
        path = f"M{right:g},{y1:g} C{control:g},{y1:g} {control:g},{y2:g} {right:g},{y2:g}"
        return Arrow(edge, path, right + bulge - 4, (y1 + y2) / 2 - half, width, texts)
    points = [(right, first.near_y)]
    for link in way:
        x = starts[link.far.rank]
        points += [(x, link.far_y)] if link is last else [(x, link.far_y), (x + BOX_WIDTH, link.far_y)]
    if last.has_label(last.far):
        x, y = points[-1][0] - width - TIP, last.far_y
        points.insert(-1, (x, y))
    else:
        x, y = points[0][0] + TIP, first.near_y
        points.insert(1, (x + width, y))
    return Arrow(edge, _path(points if is_forward else points[::-1]), x, y - half, width, texts)


def _path(points: Sequence[tuple[float, float]]) -> str:
    text = f"M{points[0][0]:g},{points[0][1]:g}"
    for (x1, y1), (x2, y2) in pairwise(points):
        middle = (x1 + x2) / 2
        text += f" L{x2:g},{y2:g}" if y1 == y2 else f" C{middle:g},{y1:g} {middle:g},{y2:g} {x2:g},{y2:g}"
    return text
