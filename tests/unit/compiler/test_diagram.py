"""Ordered boxes become disjoint cells."""

from __future__ import annotations

import itertools
import random

import pytest

from sgdataplane.compiler import coarse
from sgdataplane.compiler.diagram import (
    DIMS,
    EVERYTHING,
    MAX_DEPTH,
    Boxes,
    Branch,
    Leaf,
    Node,
    RuleBox,
    Steps,
    TooManyCellsError,
)
from sgdataplane.model.decision import Decision
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.policy.dimensions import CONDITIONS, PORT

NAMES = [each.name for each in CONDITIONS]
BY_PORT = CONDITIONS.index(PORT)
DEFAULT = Decision(Direction.INGRESS, Verdict.DROP, "default")


def make_decision(name: str) -> Decision:
    return Decision(Direction.INGRESS, Verdict.ACCEPT, "rule", "sg", name, 1)


def make_box(name: str, **covered: tuple[Interval, ...]) -> RuleBox:
    """Dimensions by their name; those not named are covered whole."""
    return RuleBox(make_decision(name), tuple(covered.get(name) for name in NAMES))


def boxes_of(*boxes: RuleBox, max_cells: int = 10_000) -> Boxes:
    return Boxes([*boxes, RuleBox(DEFAULT, EVERYTHING)], Family.IPV4, max_cells)


def build(*boxes: RuleBox) -> Node:
    made = boxes_of(*boxes)
    return made.exact((1 << len(made.boxes)) - 1)


def cut(*boxes: RuleBox) -> Branch:
    """The branch, where there are so many boxes that they aren't asked one by one."""
    fillers = [make_box(f"f{port}", port=((port, port),)) for port in range(60001, 60021, 2)]
    node = build(*boxes, *fillers)
    assert isinstance(node, Branch)
    return node


def cell(node: Node, **point: int) -> str:
    """The name of what decides at a point; every dimension that is asked must be given."""
    while isinstance(node, Branch):
        value = point[NAMES[node.dim]]
        node = next(child for (first, last), child in node.segments if first <= value <= last)
    if isinstance(node, Steps):
        node = Leaf(next(step.decision for step in node.steps if holds(step.conditions, point)))
    assert node.decision is not None
    return node.decision.security_group_rule_id or node.decision.cause


def holds(conditions: tuple[tuple[int, Interval], ...], point: dict[str, int]) -> bool:
    return all(first <= point[NAMES[dim]] <= last for dim, (first, last) in conditions)


def test_stronger_box_wins_where_both_cover() -> None:
    node = build(make_box("a", port=((80, 90),)), make_box("b", port=((85, 100),)))
    found = [cell(node, port=port) for port in (79, 80, 85, 90, 91, 100, 101)]
    assert found == ["default", "a", "a", "a", "b", "b", "default"]


def test_few_boxes_are_asked_one_by_one() -> None:
    node = build(make_box("a", port=((80, 90),)), make_box("b", port=((1, 2), (5, 6))))
    assert isinstance(node, Steps)
    assert [step.conditions for step in node.steps] == [
        ((BY_PORT, (80, 90)),),
        ((BY_PORT, (1, 2)),),
        ((BY_PORT, (5, 6)),),
        (),
    ]


def test_segments_are_disjoint_sorted_and_cover_everything() -> None:
    node = cut(make_box("a", port=((5, 10), (20, 30))), make_box("b", port=((1, 60000),)))
    edges = [interval for interval, _ in node.segments]
    assert edges[:6] == [(0, 0), (1, 4), (5, 10), (11, 19), (20, 30), (31, 60000)]
    assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(edges))
    assert edges[-1][1] == 65535


def test_box_behind_one_that_covers_everything_is_gone() -> None:
    assert build(make_box("a"), make_box("b", port=((1, 2),))) == Leaf(make_decision("a"))


def test_dimension_that_no_box_cuts_is_not_asked() -> None:
    assert cut(make_box("a", port=((1, 5),))).dim == BY_PORT


def test_neighbours_with_the_same_outcome_are_joined() -> None:
    node = cut(make_box("a", port=((80, 80),)), make_box("a", port=((81, 81),)))
    assert [interval for interval, _ in node.segments][:3] == [(0, 79), (80, 81), (82, 60000)]


def test_equal_sub_diagrams_are_one_object() -> None:
    ports = tuple((port, port) for port in range(1, 40, 2))
    node = build(make_box("a", protocol=((6, 6),), port=ports), make_box("a", protocol=((17, 17),), port=ports))
    assert isinstance(node, Branch)
    tcp, udp = (next(child for (first, _), child in node.segments if first == number) for number in (6, 17))
    assert tcp is udp


def test_box_without_any_port_covers_nothing() -> None:
    assert build(make_box("a", port=())) == Leaf(DEFAULT)


def test_box_without_a_cause_leaves_what_is_behind_it_to_others() -> None:
    made = Boxes([make_box("a", port=((80, 90),)), RuleBox(None, EVERYTHING)], Family.IPV4, 100)
    node = made.exact(0b11)
    assert isinstance(node, Steps)
    assert [step.decision for step in node.steps] == [make_decision("a"), None]


def hostile(seed: int, number: int) -> list[RuleBox]:
    """Boxes at random in three dimensions."""
    chosen = random.Random(seed)

    def interval(last: int) -> tuple[Interval, ...]:
        first = chosen.randrange(last)
        return ((first, chosen.randrange(first, last)),)

    return [
        make_box(
            str(index),
            protocol=((6, 6),),
            local=interval(2**32 - 1),
            source_port=interval(65536),
            port=interval(65536),
        )
        for index in range(number)
    ]


def test_exact_diagram_that_is_too_large_is_given_up() -> None:
    made = boxes_of(*hostile(1, 60), max_cells=1000)
    with pytest.raises(TooManyCellsError):
        made.exact((1 << len(made.boxes)) - 1)


@pytest.mark.parametrize("max_cells", [100, 1000])
def test_coarse_diagram_stays_within_its_bounds_and_means_the_same(max_cells: int) -> None:
    boxes = hostile(2, 60)
    made = boxes_of(*boxes, max_cells=max_cells)
    node = coarse.diagram(made, (1 << len(made.boxes)) - 1)
    assert node.cells <= 2 * max_cells
    assert 1 <= node.depth <= MAX_DEPTH
    chosen = random.Random(3)
    found = set()
    for _ in range(3000):
        point = {
            "protocol": chosen.choice((6, 6, 6, 17)),
            "local": chosen.randrange(2**32),
            "source_port": chosen.randrange(65536),
            "port": chosen.randrange(65536),
        }
        strongest = next((b for b in boxes if holds_all(b, point)), None)
        decision = DEFAULT if strongest is None or strongest.decision is None else strongest.decision
        expected = decision.security_group_rule_id or decision.cause
        assert cell(node, **point) == expected
        found.add(expected)
    assert len(found) > 10


def holds_all(box: RuleBox, point: dict[str, int]) -> bool:
    return all(
        covered is None or any(first <= point[NAMES[dim]] <= last for first, last in covered)
        for dim, covered in zip(DIMS, box.intervals, strict=True)
    )
