"""Stamps and generations decide whether a table is trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.contract.stamp import STAMP_MAP, Stamp
from sgdataplane.nft import snapshot
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.snapshot import Inventory, with_generation, without_policy
from tests.support.kernel_contract import TABLE

DIGEST = "deadbeef0000000000000001ffffffff"


@pytest.mark.parametrize(
    ("generation", "stamp", "expected"),
    [
        pytest.param(7, Stamp(1, DIGEST, 7), True, id="ours-was-the-last-commit"),
        pytest.param(8, Stamp(1, DIGEST, 7), False, id="somebody-committed-since"),
        pytest.param(7, Stamp(1, DIGEST), False, id="loaded-by-hand"),
        pytest.param(7, None, False, id="no-stamp"),
    ],
)
def test_table_is_untouched_only_at_the_generation_of_its_stamp(
    generation: int, stamp: Stamp | None, expected: bool
) -> None:
    assert Inventory(generation, stamp=stamp).is_untouched is expected


def test_generation_in_a_table_is_the_last_one_put_there() -> None:
    twice = with_generation(with_generation(TABLE, 5), 6)
    assert twice.elements_of(STAMP_MAP)[5] == 6
    assert len(twice.map[STAMP_MAP].elements) == len(TABLE.map[STAMP_MAP].elements) + 1
    assert stamp_of(twice) == replace(stamp_of(TABLE), generation=6)


def test_table_without_policy_keeps_its_epoch() -> None:
    assert stamp_of(without_policy(TABLE)) == Stamp(7, "0" * 32)


def test_table_without_a_stamp_is_no_table_of_ours() -> None:
    with pytest.raises(KeyError):
        stamp_of(replace(TABLE, maps=()))


@pytest.mark.parametrize(("generations", "is_read"), [((1, 2, 2, 2), True), ((1, 1), False)], ids=["changed", "same"])
def test_what_goes_while_it_is_read_is_read_again_if_somebody_committed(
    monkeypatch: pytest.MonkeyPatch, generations: tuple[int, ...], is_read: bool
) -> None:
    turns, inventory, times = iter(generations), Inventory(2), []

    def read_once(*_: object) -> Inventory:
        times.append(1)
        if len(times) == 1:
            raise FileNotFoundError(2, "No such file or directory")
        return inventory

    monkeypatch.setattr(snapshot, "read_generation", lambda _: next(turns))
    monkeypatch.setattr(snapshot, "_read_once", read_once)
    if is_read:
        assert snapshot.read_inventory(None, "t") is inventory  # type: ignore[arg-type]  # no kernel is asked
    else:
        with pytest.raises(FileNotFoundError):
            snapshot.read_inventory(None, "t")  # type: ignore[arg-type]
