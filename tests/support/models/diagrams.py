"""Functions of packets as decision diagrams, in the one form that each function has: equal functions are one number.

Owns the form. Is given variables by number, in the order in which nodes ask for them, and how many values each has.
Must not know what variables and outcomes mean.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from operator import ne
from typing import Any, Generic, NamedTuple, TypeVar, cast

Node = int  # equal numbers: equal functions; other numbers: functions that differ somewhere
Span = tuple[int, int]  # values, both ends included
Outcome = TypeVar("Outcome", bound=Hashable)


class _Question(NamedTuple):
    """`children[i]` is for values up to `lasts[i]` that no child before is for. Neighbours differ."""

    variable: int
    lasts: tuple[int, ...]
    children: tuple[Node, ...]


class _Leaf(NamedTuple):
    """`variable`: behind all others."""

    variable: int
    outcome: Hashable


class Diagrams(Generic[Outcome]):
    """All functions that were made of variables with so many values."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sizes
        self._nodes: list[_Question | _Leaf] = []
        self._numbers: dict[_Question | _Leaf, Node] = {}
        self._chosen: dict[_Question, Node] = {}

    def leaf(self, outcome: Outcome) -> Node:
        """The same outcome for each packet."""
        return self._number(_Leaf(len(self._sizes), outcome))

    def choose(self, variable: int, parts: Iterable[tuple[Span, Node]], otherwise: Node) -> Node:
        """What the nodes say where the variable is within their spans (disjoint), and elsewhere."""
        pieces: list[tuple[int, Node]] = []
        first = 0
        for (start, end), node in sorted(parts):
            assert first <= start, "spans overlap"
            pieces += [(start - 1, otherwise)] * (first < start) + [(end, node)]
            first = end + 1
        pieces += [(self._sizes[variable] - 1, otherwise)] * (first < self._sizes[variable])
        return self._choose(_question(variable, pieces))

    def replaced(self, node: Node, by: Callable[[Outcome], Node]) -> Node:
        """The function that goes on with another one where it has come to an outcome."""
        return self._replaced(node, by, {})

    def outcome(self, node: Node, point: Mapping[int, int]) -> Outcome:
        """At values of all variables; of one that isn't given, at 0."""
        found = self._nodes[node]
        while isinstance(found, _Question):
            found = self._nodes[self._child(found, point.get(found.variable, 0))]
        return cast(Outcome, found.outcome)

    def difference(self, one: Node, other: Node) -> dict[int, int] | None:
        """Values with which two functions have different outcomes: as few as lead there. None if they are equal."""
        if one == other:
            return None
        point: dict[int, int] = {}
        while (variable := self._first(one, other)) < len(self._sizes):
            cuts = _cuts(self._asking((one, other), variable))
            ways = ((value, *self._at((one, other), variable, value)) for value in cuts)
            point[variable], one, other = next(way for way in ways if way[1] != way[2])
        return point

    def drawn(self, node: Node, chance: random.Random) -> dict[int, int]:
        """Values of the variables on a random way through it, each at an end of its interval."""
        point: dict[int, int] = {}
        while isinstance(found := self._nodes[node], _Question):
            index = chance.randrange(len(found.children))
            first = found.lasts[index - 1] + 1 if index else 0
            point[found.variable], node = chance.choice((first, found.lasts[index])), found.children[index]
        return point

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Nodes that are made meanwhile are gone then."""
        try:
            with shrunk(self._numbers, self._chosen):
                yield
        finally:
            del self._nodes[len(self._numbers) :]

    def _number(self, entry: _Question | _Leaf) -> Node:
        number = self._numbers.setdefault(entry, len(self._nodes))
        if number == len(self._nodes):
            self._nodes.append(entry)
        return number

    def _made(self, question: _Question) -> Node:
        """A question whose children ask only for later variables."""
        return question.children[0] if len(question.children) == 1 else self._number(question)

    def _choose(self, question: _Question) -> Node:
        """The same where children may ask for any variable."""
        if len(question.children) == 1:
            return question.children[0]
        chosen = self._chosen.get(question)
        if chosen is None:
            chosen = self._chosen[question] = self._sorted(question)
        return chosen

    def _sorted(self, question: _Question) -> Node:
        variable, lasts, children = question
        first = self._first(*children)
        if first >= variable:
            return self._made(_question(variable, self._pieces(question)))
        asking, at = self._asking(children, first), [*children]
        found = []
        for cut in _cuts(asking):
            for index, entry in asking:
                at[index] = self._child(entry, cut)
            found.append((cut, self._choose(_joined(variable, lasts, at))))
        return self._made(_question(first, found))

    def _pieces(self, question: _Question) -> Iterable[tuple[int, Node]]:
        """With children that ask for the same variable put in place."""
        start = 0
        for last, child in zip(question.lasts, question.children, strict=True):
            found = self._nodes[child]
            if isinstance(found, _Question) and found.variable == question.variable:
                begin, end = bisect_left(found.lasts, start), bisect_left(found.lasts, last)
                yield from zip(found.lasts[begin:end], found.children[begin:end], strict=True)
                yield last, found.children[end]
            else:
                yield last, child
            start = last + 1

    def _first(self, *nodes: Node) -> int:
        """The first variable that any of them asks for."""
        return min(self._nodes[node].variable for node in nodes)

    def _asking(self, nodes: Sequence[Node], variable: int) -> list[tuple[int, _Question]]:
        """Those of them that ask for that variable first, by their places."""
        entries = enumerate(map(self._nodes.__getitem__, nodes))
        return [(i, entry) for i, entry in entries if isinstance(entry, _Question) and entry.variable == variable]

    def _at(self, nodes: Sequence[Node], variable: int, value: int) -> list[Node]:
        """What is left of them where that variable has a value."""
        left = [*nodes]
        for index, entry in self._asking(nodes, variable):
            left[index] = self._child(entry, value)
        return left

    @staticmethod
    def _child(question: _Question, value: int) -> Node:
        return question.children[bisect_left(question.lasts, value)]

    def _replaced(self, node: Node, by: Callable[[Outcome], Node], known: dict[Node, Node]) -> Node:
        if node not in known:
            found = self._nodes[node]
            if isinstance(found, _Leaf):
                known[node] = by(cast(Outcome, found.outcome))
            else:
                children = [self._replaced(child, by, known) for child in found.children]
                known[node] = self._choose(_question(found.variable, zip(found.lasts, children, strict=True)))
        return known[node]


@contextmanager
def shrunk(*known: dict[Any, Any]) -> Iterator[None]:
    """They lose what they get meanwhile."""
    sizes = [*map(len, known)]
    try:
        yield
    finally:
        for each, size in zip(known, sizes, strict=True):
            while len(each) > size:
                each.popitem()


def _cuts(asking: Iterable[tuple[int, _Question]]) -> list[int]:
    """The values up to which none of them changes."""
    return sorted({last for _, entry in asking for last in entry.lasts})


def _question(variable: int, pieces: Iterable[tuple[int, Node]]) -> _Question:
    """With neighbours that are equal joined."""
    lasts, children = zip(*pieces, strict=True)
    return _joined(variable, lasts, children)


def _joined(variable: int, lasts: Sequence[int], children: Sequence[Node]) -> _Question:
    """The same of pieces in two rows."""
    is_last = [*map(ne, children, children[1:]), True]
    return _Question(variable, tuple(compress(lasts, is_last)), tuple(compress(children, is_last)))
