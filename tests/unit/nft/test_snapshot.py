"""Stamps and generations: what the kernel's word is trusted for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.contract.stamp import STAMP_MAP, Stamp, next_generation
from sgdataplane.nft import snapshot
from sgdataplane.nft.ir import DROP, Key, Verdict
from sgdataplane.nft.snapshot import Inventory, stamp_of, with_generation, without_policy
from tests.support.kernel_contract import TABLE

WHOLE: dict[Key, Verdict | int] = {0: 3, 1: 0xDEADBEEF, 2: 0, 3: 1, 4: 0xFFFFFFFF}
DIGEST = "deadbeef0000000000000001ffffffff"


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        pytest.param(WHOLE, Stamp(3, DIGEST), id="as-compiled"),
        pytest.param({**WHOLE, 5: 77}, Stamp(3, DIGEST, 77), id="with-the-generation"),
        pytest.param({**WHOLE, 9: 1}, Stamp(3, DIGEST), id="more-than-we-know"),
        pytest.param({key: value for key, value in WHOLE.items() if key != 0}, None, id="no-epoch"),
        pytest.param({key: value for key, value in WHOLE.items() if key != 4}, None, id="cut-digest"),
        pytest.param({**WHOLE, 2: DROP}, None, id="no-number"),
        pytest.param({}, None, id="flushed"),
    ],
)
def test_stamp_is_whole_or_none(elements: dict[Key, Verdict | int], expected: Stamp | None) -> None:
    assert Stamp.of(elements) == expected


@pytest.mark.parametrize(
    ("generation", "commits", "expected"),
    [(1, 1, 2), (1, 3, 4), (0xFFFFFFFE, 1, 0xFFFFFFFF), (0xFFFFFFFF, 1, 1), (0xFFFFFFFE, 3, 2)],
)
def test_generation_goes_round_without_zero(generation: int, commits: int, expected: int) -> None:
    assert next_generation(generation, commits) == expected


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
