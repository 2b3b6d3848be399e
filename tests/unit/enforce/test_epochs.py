"""An ENI keeps its epoch until a change may refuse something of its, or the epoch gets too old."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from sgdataplane.contract.sites import HOST, INSTANCE, Site
from sgdataplane.contract.stamp import Stamp
from sgdataplane.enforce.epochs import Epochs, Slots
from sgdataplane.nft.snapshot import Inventory

SLOTS = frozenset({1, 2, 3})
SITES = [pytest.param(HOST, id="host"), pytest.param(INSTANCE, id="instance")]


class Changes:
    """Changes of one namespace, each of another policy, with nobody else's in between."""

    def __init__(self, site: Site) -> None:
        self.epochs = Epochs(site.marks.last_epoch)
        self.stamp = Stamp(1, "0" * 32, 7)

    def make(self, narrowed: Collection[int], on_change: str = "revoke", generation: int = 7) -> dict[int, int]:
        """Return the epoch at each slot after one more."""
        digest = f"{int(self.stamp.digest, 16) + 1:032x}"
        inventory = Inventory(generation, exists=True, stamp=self.stamp)
        chosen = self.epochs.next(inventory, digest, on_change, lambda *_: True, Slots(SLOTS, frozenset(narrowed)))
        self.stamp = chosen.make_stamp(Stamp(chosen.epoch, digest, 7))
        assert Stamp.of(dict(self.stamp.elements)) == self.stamp
        return self.stamp.epochs(SLOTS)


@pytest.mark.parametrize("site", SITES)
def test_only_those_that_are_narrowed_move(site: Site) -> None:
    changes = Changes(site)
    assert changes.make([2]) == {1: 1, 2: 2, 3: 1}
    assert changes.make([]) == {1: 1, 2: 2, 3: 1}
    assert changes.stamp.epoch == 3
    assert changes.make([3]) == {1: 1, 2: 2, 3: 4}
    assert changes.make(SLOTS) == dict.fromkeys(SLOTS, 5)
    assert (changes.stamp.usual, changes.stamp.own) == (None, ())


@pytest.mark.parametrize(
    ("site", "counts"),
    [
        pytest.param(HOST, range(66), id="host"),
        pytest.param(INSTANCE, (510, 511, 512, 1022, 1023, 1024), id="instance"),
    ],
)
def test_whoever_is_narrowed_moves_however_many_changes_of_others_came_before(
    site: Site, counts: Sequence[int]
) -> None:
    """Epochs come round: the one that comes must not be the one that it still has."""
    changes = Changes(site)
    before = changes.make(SLOTS)
    for count in counts:
        for _ in range(count):
            before = changes.make([1])
        after = changes.make([3])
        assert after[3] != before[3]
        before = after


@pytest.mark.parametrize("site", SITES)
def test_nobody_has_an_epoch_that_is_due_to_be_cleared(site: Site) -> None:
    changes, seen = Changes(site), 0
    for number in range(3 * changes.epochs.last):
        there = set(changes.make([1] if number % 3 else []).values())
        due = set(changes.epochs.due(changes.stamp))
        assert not there & due
        assert changes.epochs.usable(changes.stamp) == changes.stamp
        seen += bool(due)
    assert seen > changes.epochs.last


@pytest.mark.parametrize("site", SITES)
def test_all_move_once_another_has_changed_the_rules(site: Site) -> None:
    changes = Changes(site)
    changes.make([2])
    stamp = changes.stamp
    chosen = changes.epochs.next(
        Inventory(8, exists=True, stamp=stamp), "1" * 32, "revoke", lambda *_: True, Slots(SLOTS, SLOTS)
    )
    assert chosen.make_stamp(stamp).epochs(SLOTS) == dict.fromkeys(SLOTS, 3)


def test_sessions_that_a_change_kept_are_judged_at_the_next_that_keeps_none() -> None:
    """Also those of ENIs of which that change refuses nothing more: the one before may have refused them."""
    changes = Changes(HOST)
    changes.make([2])
    assert changes.make(SLOTS, "keep") == {1: 1, 2: 2, 3: 1}
    assert changes.stamp.is_lenient
    assert changes.make([1], "keep") == {1: 1, 2: 2, 3: 1}
    assert changes.stamp.is_lenient
    assert changes.make([]) == dict.fromkeys(SLOTS, 3)
    assert not changes.stamp.is_lenient


@pytest.mark.parametrize(
    "stamp",
    [
        pytest.param(Stamp(0, "0" * 32), id="no epoch"),
        pytest.param(Stamp(32, "0" * 32), id="beyond the last"),
        pytest.param(Stamp(12, "0" * 32, usual=0), id="no usual epoch"),
        pytest.param(Stamp(12, "0" * 32, own=((1, 99),)), id="an own epoch beyond the last"),
        pytest.param(Stamp(12, "0" * 32, own=((1, 20),)), id="an own epoch that may be cleared"),
        pytest.param(Stamp(12, "0" * 32, usual=20), id="a usual epoch that may be cleared"),
    ],
)
def test_stamp_with_epochs_that_are_never_in_force_together_is_not_used(stamp: Stamp) -> None:
    epochs = Epochs(HOST.marks.last_epoch)
    assert epochs.usable(stamp) is None
    assert epochs.usable(replace(stamp, epoch=12, usual=11, own=((1, 10),))) is not None
