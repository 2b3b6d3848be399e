"""When epochs count as cleared, and for how long that is known. With real sessions: tests/kernel/test_marks.py."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest

from sgdataplane.contract.sites import HOST
from sgdataplane.contract.stamp import Stamp
from sgdataplane.enforce import Ageing, Clearance, ClearedEpochs, Clearing, Epochs
from sgdataplane.enforce.clearing import MAX_PASSES, at

EPOCHS = Epochs(HOST.marks.last_epoch)
STAMP = Stamp(5, "1" * 32, 100, 7)
HALF = frozenset(EPOCHS.half_of(EPOCHS.last))


class Passes:
    """Stands for MarkPass: the n-th one finds what `found` says; -1: it is endless."""

    def __init__(self, found: list[int], log: list[str]) -> None:
        self._found, self._log = found, log

    def __call__(self, fields: object, values: object) -> Passes:  # noqa: ARG002
        self.cleared = self._found.pop(0)
        self.is_endless, self.seen, self._left = self.cleared < 0, 10, 3
        self._log.append("pass")
        return self

    def __enter__(self) -> Passes:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        self._log.append("closed")

    def step(self) -> bool:
        self._left -= 1
        return self._left >= 0


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int]], tuple[Clearing, list[str]]]:
    def run(found: list[int]) -> tuple[Clearing, list[str]]:
        log: list[str] = []
        monkeypatch.setattr("sgdataplane.enforce.clearing.MarkPass", Passes(found, log))
        monkeypatch.setattr("sgdataplane.enforce.clearing.count_tracked", lambda: 10)
        monkeypatch.setattr("sgdataplane.host.netns.inside", lambda _: nullcontext())
        clearing = Clearing(at("anywhere"), HOST.marks, HALF, lambda: log.append("settle"))
        assert clearing.run() == clearing.is_clear
        return clearing, log

    return run


@pytest.mark.parametrize(
    ("found", "passes", "is_clear"),
    [
        pytest.param([0], 1, True, id="nothing"),
        pytest.param([5, 0], 2, True, id="some"),
        pytest.param([5, 1, 0], 3, True, id="one-that-a-packet-put-back"),
        pytest.param([5] * MAX_PASSES, MAX_PASSES, False, id="somebody-puts-them-back-without-end"),
        pytest.param([5, -1], 2, False, id="a-list-without-an-end"),
    ],
)
def test_epochs_are_clear_when_a_pass_finds_none_after_all_packets_have_left(
    run: Callable[[list[int]], tuple[Clearing, list[str]]], found: list[int], passes: int, is_clear: bool
) -> None:
    clearing, log = run(list(found))
    assert (clearing.is_clear, clearing.passes, clearing.seen) == (is_clear, passes, 10 * passes)
    assert log == ["settle", "pass", "closed"] * passes


def test_namespace_that_has_ended_is_not_clear() -> None:
    clearing = Clearing(nullcontext, HOST.marks, HALF)
    assert (clearing.run(), clearing.passes) == (False, 0)


@pytest.mark.parametrize("epoch", EPOCHS.all)
def test_what_is_due_is_never_the_half_in_force_and_all_of_the_other(epoch: int) -> None:
    due = frozenset(EPOCHS.due(replace(STAMP, epoch=epoch)))
    half = EPOCHS.half_of(epoch)
    assert due in (frozenset(), frozenset(EPOCHS.all) - set(half))
    assert bool(due) == (epoch >= half.start + len(half) // 2)
    assert EPOCHS.due(replace(STAMP, epoch=epoch, is_unsettled=True)) == EPOCHS.others(epoch)


def applied(found: Stamp | None, epoch: int, generation: int, *, is_unsettled: bool = False) -> Ageing:
    stamp = replace(STAMP, epoch=epoch, generation=generation, is_unsettled=is_unsettled)
    return Ageing(found, stamp, stamp)


FIRST = Ageing(None, STAMP, STAMP)
OTHERS = replace(STAMP, epoch=4, generation=150)


@pytest.mark.parametrize(
    ("ageing", "is_known"),
    [
        pytest.param(applied(STAMP, 6, 110), True, id="ours-in-the-same-half"),
        pytest.param(applied(STAMP, 5, 100), True, id="nothing-changed"),
        pytest.param(applied(STAMP, 16, 110), False, id="the-other-half"),
        pytest.param(applied(OTHERS, 5, 160), False, id="somebody-else-came-between"),
        pytest.param(applied(None, 5, 160), False, id="there-was-no-stamp"),
        pytest.param(applied(STAMP, 6, 110, is_unsettled=True), False, id="unsettled"),
    ],
)
def test_what_is_cleared_counts_while_only_our_own_applies_follow_in_one_half(ageing: Ageing, is_known: bool) -> None:
    after = ageing.after(FIRST, EPOCHS)
    assert (after.since == STAMP) == is_known
    clearance = Clearance.of(after, ClearedEpochs(STAMP, HALF), 10)
    assert clearance.covers(HALF, after.stamp) == is_known
    assert not clearance.covers(HALF, OTHERS)
    assert not clearance.covers(HALF, None)
    assert not clearance.covers({*HALF, 1}, after.stamp)
    assert not Clearance.of(after, None, 10).covers(HALF, after.stamp)
