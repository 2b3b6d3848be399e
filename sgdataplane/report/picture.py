"""Who reaches whom as boxes and arrows: the graph, and the drawing that is made of it.

Owns these records, and the same in sentences. Is given texts. Must not know states, nor SVG, nor where things stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

MOST_CHARACTERS, MOST_IN_BOX, MOST_IN_TITLE = 30, 24, 16  # of a label, of a line and of a title


@dataclass(frozen=True, slots=True)
class Node:
    """A box: a title, lines below it, and what it is to a reader of the text alone."""

    key: str
    title: str
    lines: tuple[str, ...] = ()
    is_outside: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """What passes from one node to another, a text a line. `is_some`: not for all there; `is_wrong`: not as it should
    be; `is_both`: the other way round, too."""

    source: str
    target: str
    texts: tuple[str, ...]
    is_some: bool = False
    is_wrong: bool = False
    is_both: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    node: Node
    x: float
    y: float
    width: float
    height: float

    @property
    def title(self) -> str:
        return shortened(self.node.title, MOST_IN_TITLE)

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(shortened(line, MOST_IN_BOX) for line in self.node.lines)


@dataclass(frozen=True, slots=True)
class Arrow:
    """`path` in SVG's words, from the edge's source. The label's box begins at x, y."""

    edge: Edge
    path: str
    x: float
    y: float
    width: float
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def merged(edges: Iterable[Edge]) -> tuple[Edge, ...]:
    """One arrow with two heads where the same passes in both directions."""
    known = dict.fromkeys(edges)
    found = []
    for edge in known:
        is_both = replace(edge, source=edge.target, target=edge.source) in known
        if not (is_both and edge.target < edge.source):
            found.append(replace(edge, is_both=is_both))
    return tuple(found)


def story(nodes: Sequence[Node], edges: Iterable[Edge]) -> tuple[str, ...]:
    """The picture in sentences."""
    titles = {node.key: node.title for node in nodes}
    passing = (f"{titles[e.source]} to {titles[e.target]}: {'; '.join(e.texts).replace(':; ', ': ')}." for e in edges)
    boxes = (f"{node.title}: {', '.join(node.lines)}." for node in nodes if not node.is_outside)
    return (*passing, *boxes)


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
