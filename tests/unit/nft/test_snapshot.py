"""Stamps and generations decide whether a table is trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from sgdataplane.compiler.skeleton import make_stamp_map
from sgdataplane.contract.stamp import STAMP_MAP, Stamp
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.nft import snapshot
from sgdataplane.nft.outline import Outline, stamp_of
from sgdataplane.nft.snapshot import Inventory, with_generation, without_policy
from tests.support.models.kernel_contract import LEAF, TABLE

DIGEST = "deadbeef0000000000000001ffffffff"
NO_SOCKET = cast(Nfnetlink, None)  # of a reading that asks nothing
STAMPED = make_stamp_map(Stamp(1, DIGEST))


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


def test_what_was_read_while_somebody_committed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading itself has succeeded, though the table may be half the one before the commit and half the next."""
    generations, found = iter([1, 2, 2, 2]), iter([Inventory(1), Inventory(2)])
    monkeypatch.setattr(snapshot, "read_generation", lambda _: next(generations))
    monkeypatch.setattr(snapshot, "_read_once", lambda *_: next(found))
    assert snapshot.read_inventory(NO_SOCKET, "t") == Inventory(2)


def no_chains() -> Iterator[dict[int, bytes]]:
    yield from ()


READERS = {
    "trusted": lambda: snapshot.read_trusted(NO_SOCKET, Outline("t", "inet", DIGEST, frozenset(), (), lambda: TABLE)),
    "vouched": lambda: snapshot.read_vouched(NO_SOCKET, replace(TABLE, chains=(LEAF,), maps=(STAMPED,))),
}


@pytest.mark.parametrize("how", READERS)
@pytest.mark.parametrize(("later", "is_there"), [(7, True), (8, False)])
def test_what_is_read_while_somebody_commits_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, how: str, later: int, is_there: bool
) -> None:
    """The stamp and the generation were right when the reading began."""
    generations = iter([7, later])
    monkeypatch.setattr(snapshot, "read_generation", lambda _: next(generations))
    monkeypatch.setattr(snapshot, "_marks", lambda *_: dict(Stamp(1, DIGEST, 7).elements))
    monkeypatch.setattr(snapshot, "objects", lambda *_: no_chains())
    assert (READERS[how]() is not None) is is_there
