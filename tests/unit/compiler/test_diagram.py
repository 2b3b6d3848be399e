"""Ordered boxes to disjoint cells."""

from __future__ import annotations

import pytest

from sgdataplane.compiler import diagram
from sgdataplane.compiler.diagram import Box, Branch, DiagramBuilder, Dim, Leaf, Node
from sgdataplane.errors import LimitError
from sgdataplane.net.values import Direction, Verdict
from sgdataplane.policy.resolve import Cause, Interval

DEFAULT = Cause(Direction.INGRESS, Verdict.DROP, "default")


def make_cause(name: str) -> Cause:
    return Cause(Direction.INGRESS, Verdict.ACCEPT, "rule", "sg", name, 1)


def make_box(name: str, **covered: tuple[Interval, ...]) -> Box:
    """Dimensions by their lower-case name; those not named are covered whole."""
    return Box(make_cause(name), tuple(covered.get(dim.name.lower()) for dim in Dim))


def build(*boxes: Box) -> Node:
    return DiagramBuilder(2**32 - 1).build((*boxes, Box(DEFAULT, (None,) * 4)))


def cell(node: Node, **point: int) -> str:
    """The name of what decides at a point; every dimension that is asked must be given."""
    while isinstance(node, Branch):
        value = point[node.dim.name.lower()]
        node = next(child for (first, last), child in node.segments if first <= value <= last)
    return node.cause.security_group_rule_id or node.cause.reason


def test_stronger_box_wins_where_both_cover() -> None:
    node = build(make_box("a", port=((80, 90),)), make_box("b", port=((85, 100),)))
    found = [cell(node, port=port) for port in (79, 80, 85, 90, 91, 100, 101)]
    assert found == ["default", "a", "a", "a", "b", "b", "default"]


def test_segments_are_disjoint_sorted_and_cover_everything() -> None:
    node = build(make_box("a", port=((5, 10), (20, 30))), make_box("b", port=((0, 65535),)))
    assert isinstance(node, Branch)
    edges = [interval for interval, _ in node.segments]
    assert edges == [(0, 4), (5, 10), (11, 19), (20, 30), (31, 65535)]


def test_box_behind_one_that_covers_everything_is_gone() -> None:
    assert build(make_box("a"), make_box("b", port=((1, 2),))) == Leaf(make_cause("a"))


def test_dimension_that_no_box_cuts_is_not_asked() -> None:
    node = build(make_box("a", source_port=((1, 5),)))
    assert isinstance(node, Branch)
    assert node.dim is Dim.SOURCE_PORT
    assert all(isinstance(child, Leaf) for _, child in node.segments)


def test_neighbours_with_the_same_outcome_are_joined() -> None:
    node = build(make_box("a", port=((80, 80),)), make_box("a", port=((81, 81),)))
    assert isinstance(node, Branch)
    assert [interval for interval, _ in node.segments] == [(0, 79), (80, 81), (82, 65535)]


def test_equal_sub_diagrams_are_one_object() -> None:
    ports = ((22, 22),)
    node = build(make_box("a", protocol=((6, 6),), port=ports), make_box("a", protocol=((17, 17),), port=ports))
    assert isinstance(node, Branch)
    tcp, udp = (next(child for (first, _), child in node.segments if first == number) for number in (6, 17))
    assert tcp is udp


def test_box_without_any_port_covers_nothing() -> None:
    assert build(make_box("a", port=())) == Leaf(DEFAULT)


def test_path_asks_each_dimension_once_in_order() -> None:
    everywhere = {"protocol": ((6, 6),), "local": ((1, 9),), "source_port": ((1, 5),), "port": ((7, 8),)}
    node, asked = build(make_box("a", **everywhere), make_box("b", protocol=((6, 6),), port=((8, 9),))), []
    while isinstance(node, Branch):
        asked.append(node.dim)
        node = node.segments[1][1] if len(node.segments) > 1 else node.segments[0][1]
    assert asked == sorted(set(asked))


def test_too_many_cells_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagram, "MAX_CELLS", 10)
    with pytest.raises(LimitError, match="disjoint cells"):
        build(*(make_box(str(port), port=((port, port),)) for port in range(1, 40, 2)))
