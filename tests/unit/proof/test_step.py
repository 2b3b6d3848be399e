"""Marks that are written one after the other: as one, they leave the same behind."""

from __future__ import annotations

import random

from sgdataplane.nft.ir import Count, SetMark, SetPacketMark
from sgdataplane.proof.step import composed


def written(mark: int, effects: tuple[object, ...]) -> int:
    for effect in effects:
        if isinstance(effect, SetMark):
            mark = mark & effect.keep | effect.value
    return mark


def test_composed_marks_write_what_they_write_in_turn() -> None:
    chance = random.Random(1)
    for _ in range(500):
        effects = tuple(SetMark(chance.getrandbits(8), chance.getrandbits(8)) for _ in range(chance.randint(0, 4)))
        one = composed((Count("c"), *effects, SetPacketMark(7)))
        assert (one[0], one[-1], len(one)) == (Count("c"), SetPacketMark(7), 2 + bool(effects))
        assert all(written(mark, one) == written(mark, effects) for mark in range(256))
