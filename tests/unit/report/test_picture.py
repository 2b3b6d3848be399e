"""Where boxes and arrows stand."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from sgdataplane.report.picture import Drawing, DrawnBox, Edge, Node, draw, merge

OUTSIDE = Node("out", "Outside", is_outside=True)


def graph(seed: int) -> tuple[list[Node], list[Edge]]:
    chance = random.Random(seed)
    count = chance.randint(1, 14)
    nodes = [OUTSIDE, *(Node(f"n{n}", f"node {n}", ("a line",) * chance.randint(0, 4)) for n in range(count))]
    pairs = [(a.key, b.key) for a, b in itertools.permutations(nodes, 2) if b is not OUTSIDE]
    chosen = chance.sample(pairs, chance.randint(0, min(len(pairs), 40)))
    edges = [Edge(a, b, ("tcp 80",) * chance.randint(1, 3), is_some=chance.random() < 0.3) for a, b in chosen]
    return nodes, edges


def overlap(one: DrawnBox, other: DrawnBox) -> bool:
    return abs(one.x - other.x) < one.width and one.y < other.y + other.height and other.y < one.y + one.height


def numbers(path: str) -> list[tuple[float, float]]:
    found = [float(n) for n in re.findall(r"-?[\d.]+", path)]
    return list(zip(found[::2], found[1::2], strict=True))


def is_inside(drawing: Drawing, x: float, y: float) -> bool:
    return 0 <= x <= drawing.width and 0 <= y <= drawing.height


@pytest.mark.parametrize("seed", range(40))
def test_boxes_stand_apart_and_arrows_end_at_them(seed: int) -> None:
    nodes, edges = graph(seed)
    drawing = draw(nodes, edges)
    assert {box.node for box in drawing.boxes} == set(nodes)
    for one, other in itertools.combinations(drawing.boxes, 2):
        assert not overlap(one, other), f"seed {seed}: {one} {other}"
    box_of = {box.node.key: box for box in drawing.boxes}
    assert {(a.edge.source, a.edge.target) for a in drawing.arrows} <= {(e.source, e.target) for e in edges}
    for arrow in drawing.arrows:
        points = numbers(arrow.path)
        for key, (x, y) in ((arrow.edge.source, points[0]), (arrow.edge.target, points[-1])):
            box = box_of[key]
            assert min(abs(x - box.x), abs(x - box.x - box.width)) < 0.01, f"seed {seed}: {arrow}"
            assert box.y <= y <= box.y + box.height, f"seed {seed}: {arrow}"
        assert all(is_inside(drawing, *point) for point in points), f"seed {seed}: {arrow}"
        assert is_inside(drawing, arrow.x + arrow.width, arrow.y + 20), f"seed {seed}: {arrow}"


@pytest.mark.parametrize("seed", range(40))
def test_labels_of_one_box_do_not_cover_each_other(seed: int) -> None:
    drawing = draw(*graph(seed))
    box_of = {box.node.key: box for box in drawing.boxes}
    for one, other in itertools.combinations(drawing.arrows, 2):
        if one.edge.target != other.edge.target or one.edge.is_both or other.edge.is_both:
            continue
        ranks = {box_of[key].x for key in (one.edge.source, other.edge.source)}
        if box_of[one.edge.target].x in ranks or (one.x < box_of[one.edge.target].x) is not (
            other.x < box_of[one.edge.target].x
        ):
            continue  # within a column, or at different sides
        upper, lower = sorted((one, other), key=lambda arrow: arrow.y)
        assert upper.y + 16 * len(upper.texts) + 4 <= lower.y + 2, f"seed {seed}: {one} {other}"


def test_the_same_in_both_directions_is_one_arrow_with_two_heads() -> None:
    there, back, other = Edge("a", "b", ("tcp",)), Edge("b", "a", ("tcp",)), Edge("a", "c", ("tcp",))
    found = merge([there, back, other, Edge("c", "a", ("udp",))])
    assert [(edge.source, edge.target, edge.is_both) for edge in found] == [
        ("a", "b", True),
        ("a", "c", False),
        ("c", "a", False),
    ]


def test_two_arrows_between_the_same_boxes_are_both_drawn() -> None:
    edges = [Edge("out", "a", ("tcp 80",)), Edge("out", "a", ("tcp 22",), is_some=True)]
    assert len(draw([OUTSIDE, Node("a", "a")], edges).arrows) == 2


def test_the_way_in_orders_the_columns() -> None:
    nodes = [OUTSIDE, Node("web", "web"), Node("db", "db"), Node("lb", "lb")]
    edges = [Edge("out", "lb", ("tcp",)), Edge("lb", "web", ("tcp",)), Edge("web", "db", ("tcp",))]
    edges.append(Edge("out", "db", ("tcp 22",), is_some=True))  # by what passes from all there, first
    x = {box.node.key: box.x for box in draw(nodes, edges).boxes}
    assert x["out"] < x["lb"] < x["web"] < x["db"]


def test_nothing_at_all_is_a_drawing() -> None:
    assert draw([], []).boxes == ()
    assert len(draw([OUTSIDE], []).boxes) == 1
