"""The parts of the conntrack mark don't touch each other, and no two ENIs of a namespace have one slot."""

from __future__ import annotations

import pytest

from sgdataplane.contract.marks import HALF, MarkLayout, other_half
from sgdataplane.contract.sites import HOST, INSTANCE
from sgdataplane.net.values import Direction

LAYOUTS = pytest.mark.parametrize("marks", [INSTANCE.marks, HOST.marks], ids=["instance", "host"])


def last_slot(marks: MarkLayout) -> int:
    return (1 << marks.slot_bits) - 1


@LAYOUTS
def test_halves_and_fields_of_the_mark_do_not_touch(marks: MarkLayout) -> None:
    whole = [marks.encode_acceptance(side, marks.last_epoch, last_slot(marks)) for side in Direction]
    assert [value & HALF[side] for side, value in zip(Direction, whole, strict=True)] == whole
    assert sum(whole) == 0xFFFFFFFF
    slots = [marks.slot(side, last_slot(marks)) for side in Direction]
    assert sum(marks.epoch_fields) ^ sum(slots) == 0xFFFFFFFF


@LAYOUTS
@pytest.mark.parametrize("side", Direction)
def test_what_is_written_is_read_back(marks: MarkLayout, side: Direction) -> None:
    mark = marks.encode_acceptance(side, marks.last_epoch, 1)
    assert marks.parts(side, mark) == (marks.last_epoch, 1)
    assert marks.parts(side.other, mark) == (0, 0), "nobody accepted it"
    assert mark & other_half(side) == 0


@LAYOUTS
def test_each_eni_has_a_slot_of_its_own(marks: MarkLayout) -> None:
    slots = marks.slots(f"eth{number}" for number in range(marks.max_links))
    assert len(set(slots.values())) == marks.max_links
    assert min(slots.values()) >= 1
    assert max(slots.values()) <= last_slot(marks)


def test_slots_of_a_host_stay_where_another_eni_comes() -> None:
    before, after = (HOST.marks.slots(f"veth{number}" for number in numbers) for numbers in (range(9), range(10)))
    moved = {name for name, slot in before.items() if after[name] != slot}
    assert len(moved) <= 1, "only an ENI whose slot the new one takes may move"
