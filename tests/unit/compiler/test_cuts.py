"""Ordered boxes become disjoint cells, within bounds."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import pytest

from sgdataplane.compiler import cuts
from sgdataplane.compiler.diagram import (
    BY_PROTOCOL,
    DIMS,
    Boxes,
    Branch,
    Leaf,
    Node,
    RuleBox,
    Steps,
)
from sgdataplane.model.decision import Decision
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import Direction, Family, Verdict
from sgdataplane.policy.dimensions import CONDITIONS, PORT

NAMES = [*(each.name for each in CONDITIONS), "far"]
LOOK_UPS = 3
BY_PORT = CONDITIONS.index(PORT)
BY_FAR = len(CONDITIONS)
EVERYTHING = (None,) * len(DIMS)
DEFAULT = Decision(Direction.INGRESS, Verdict.DROP, "default")


def make_decision(name: str) -> Decision:
    return Decision(Direction.INGRESS, Verdict.ACCEPT, "rule", "sg", name, 1)


def make_box(name: str, **covered: tuple[Interval, ...]) -> RuleBox:
    """Dimensions by their name; those not named are covered whole."""
    return RuleBox(make_decision(name), tuple(covered.get(name) for name in NAMES))


def boxes_of(*boxes: RuleBox) -> Boxes:
    return Boxes([*boxes, RuleBox(DEFAULT, EVERYTHING)], Family.IPV4)


def build(*boxes: RuleBox, look_ups: int = LOOK_UPS) -> Node:
    made = boxes_of(*boxes)
    return cuts.build_cutting(made.boxes, made.family, look_ups, None).node


def nodes(node: Node) -> Iterator[Node]:
    """All different nodes."""
    waiting, seen = [node], {id(node)}
    for each in waiting:
        yield each
        below = [child for _, child in each.segments] if isinstance(each, Branch) else []
        waiting += {id(child): child for child in below if id(child) not in seen}.values()
        seen.update(map(id, below))


def cells(node: Node) -> int:
    """The segments and steps of all nodes."""
    sizes = (
        len(each.segments) if isinstance(each, Branch) else len(each.steps)
        for each in nodes(node)
        if not isinstance(each, Leaf)
    )
    return sum(sizes)


def depth(node: Node) -> int:
    """The most look-ups on a path."""
    if not isinstance(node, Branch):
        return 0
    is_looked_up = node.dim != BY_PROTOCOL or len(node.segments) > cuts.MANY_PROTOCOLS
    return is_looked_up + max(depth(child) for _, child in node.segments)


def longest(node: Node) -> int:
    """The length of the longest list of steps."""
    return max((len(each.steps) for each in nodes(node) if isinstance(each, Steps)), default=0)


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


def hostile(seed: int, number: int) -> list[RuleBox]:
    """Boxes at random in all dimensions, of two protocols."""
    chosen = random.Random(seed)

    def interval(last: int) -> tuple[Interval, ...]:
        first = chosen.randrange(last)
        return ((first, chosen.randrange(first, last)),)

    return [
        make_box(
            str(index),
            protocol=((chosen.choice((6, 17)),) * 2,),
            local=interval(2**32 - 1),
            source_port=interval(65536),
            port=interval(65536),
            far=interval(2**32 - 1),
        )
        for index in range(number)
    ]


def around(number: int) -> list[RuleBox]:
    """Boxes in pairs, each of which has a small part of two dimensions and all of one: as in sets of real firewalls."""
    made = []
    for index in range(0, number, 2):
        start = 100 * index
        made.append(make_box(f"far-{index}", protocol=((6, 6),), far=((start, start + 9),), port=((index, index + 1),)))
        made.append(make_box(f"own-{index}", protocol=((6, 6),), local=((start, start + 9),), port=((index, index),)))
    return made


def a_point(chosen: random.Random) -> dict[str, int]:
    return {
        "protocol": chosen.choice((6, 6, 17, 1)),
        "local": chosen.randrange(2**32),
        "source_port": chosen.randrange(65536),
        "port": chosen.randrange(65536),
        "far": chosen.randrange(2**32),
    }


def expected_at(boxes: list[RuleBox], point: dict[str, int]) -> str:
    strongest = next((b for b in boxes if holds_all(b, point)), None)
    decision = DEFAULT if strongest is None else strongest.decision
    return decision.security_group_rule_id or decision.cause


@pytest.mark.parametrize("look_ups", [0, 1, 4])
@pytest.mark.parametrize("room", [100, 100_000])
def test_diagram_stays_within_its_bounds_and_means_the_same(
    room: int, look_ups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = hostile(2, 120)
    monkeypatch.setattr(cuts, "most_cells", lambda _: room)
    node = build(*boxes, look_ups=look_ups)
    assert cells(node) <= max(room, len(boxes) + 10)
    assert depth(node) <= look_ups
    chosen = random.Random(3)
    found = set()
    for _ in range(3000):
        point = a_point(chosen)
        expected = expected_at(boxes, point)
        assert cell(node, **point) == expected
        found.add(expected)
    assert len(found) > 10


def test_dimension_that_tells_most_boxes_apart_is_asked_first() -> None:
    """Ports are few and far addresses many; cut by ports, each piece would still have a third of the boxes."""
    boxes = [
        make_box(str(n), protocol=((6, 6),), far=((100 * n, 100 * n + 9),), port=((n % 3, n % 3),)) for n in range(60)
    ]
    node = build(*boxes)
    assert isinstance(node, Branch)
    tcp = next(child for (first, _), child in node.segments if first == 6)
    assert isinstance(tcp, Branch)
    assert tcp.dim == BY_FAR


def test_cells_grow_with_the_boxes_and_lists_stay_short() -> None:
    few, many = build(*around(200)), build(*around(800))
    assert cells(many) <= 8 * cells(few)
    assert longest(many) <= 2 * cuts.MAX_STEPS


def test_boxes_get_new_numbers_without_a_change() -> None:
    """Parts with few of the boxes number them anew (masks get short), which must not show."""
    boxes = around(400)
    node = build(*boxes)
    for index in range(0, 400, 2):
        for start in (100 * index, 100 * index + 9):
            point = {"protocol": 6, "source_port": 1, "port": index, "local": start, "far": start + 1}
            assert cell(node, **point) == expected_at(boxes, point)


def shape(node: Node) -> list[object]:
    """All that a diagram is, and which of its nodes are one object."""
    every = list(nodes(node))
    number = {id(each): place for place, each in enumerate(every)}
    return [
        (each.dim, [(interval, number[id(child)]) for interval, child in each.segments])
        if isinstance(each, Branch)
        else each.steps
        if isinstance(each, Steps)
        else each
        for each in every
    ]


def changed(boxes: list[RuleBox], made: list[RuleBox], chosen: random.Random) -> list[RuleBox]:
    """Some boxes in one place are replaced by others, most often one by none or none by one."""
    start, gone, come = chosen.randrange(len(boxes)), *chosen.choice(((0, 1), (1, 0), (0, 1), (1, 0), (1, 1), (3, 5)))
    return [*boxes[:start], *(made.pop() for _ in range(come)), *boxes[start + gone :]]


@pytest.mark.parametrize(("room", "long"), [(100_000, 1024), (1_200, 1024), (700, 1024), (100_000, 90)])
@pytest.mark.parametrize("make", [hostile, lambda _, number: around(number)])
@pytest.mark.parametrize("changes", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_diagram_is_the_same_whatever_was_cut_before(
    make: Callable[[int, int], list[RuleBox]], room: int, long: int, changes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the earlier one has too many cells to go on with, and if numbers get too long."""
    monkeypatch.setattr(cuts, "most_cells", lambda _: room)
    monkeypatch.setattr(cuts, "LONG", long)
    chosen = random.Random(f"{room} {long}")
    every = make(1, 400)
    chosen.shuffle(every)
    boxes, made = every[:90], every[90:]
    last = RuleBox(DEFAULT, EVERYTHING)
    before: cuts.Cutting | None = None
    for _ in range(changes):
        found = cuts.build_cutting([*boxes, last], Family.IPV4, LOOK_UPS, before)
        assert shape(found.node) == shape(cuts.build_cutting([*boxes, last], Family.IPV4, LOOK_UPS, None).node)
        before, boxes = found, changed(boxes, made, chosen)


def test_node_is_kept_where_no_box_changes() -> None:
    boxes = [*around(400), RuleBox(DEFAULT, EVERYTHING)]
    first = cuts.build_cutting(boxes, Family.IPV4, LOOK_UPS, None)
    second = cuts.build_cutting([*boxes[:200], *boxes[201:]], Family.IPV4, LOOK_UPS, first)
    kept, every = set(map(id, nodes(first.node))), list(nodes(second.node))
    assert 0 < sum(id(node) not in kept for node in every) < len(every) / 10
    assert second.node is not first.node


def holds_all(box: RuleBox, point: dict[str, int]) -> bool:
    return all(
        covered is None or any(first <= point[NAMES[dim]] <= last for first, last in covered)
        for dim, covered in zip(DIMS, box.intervals, strict=True)
    )
