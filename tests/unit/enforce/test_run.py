"""How a plan is run: a stage in parts, and what is left of one that the kernel refuses. The kernel is in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Desired
from sgdataplane.errors import KernelError
from sgdataplane.nft.snapshot import with_generation
from tests.support.building import apply, table_of
from tests.support.fakekernel import RefusingKernel
from tests.unit.enforce.test_steps import ONE, REVOKE, TWO, Sessions


def counting(before: Desired | None) -> RefusingKernel:
    """A kernel that holds `before`, if there is any, and counts commits from here on."""
    kernel = RefusingKernel()
    if before is not None:
        apply(kernel, Sessions(kernel), before, None, REVOKE)
    kernel.turn = 0
    return kernel


@pytest.mark.parametrize(
    ("before", "previous"),
    [pytest.param(None, None, id="first"), (ONE, ONE), (ONE, None)],
    ids=["first", "difference", "refill"],
)
def test_large_update_is_staged_in_parts_and_one_that_is_refused_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, before: Desired | None, previous: Desired | None
) -> None:
    whole = counting(before)
    apply(whole, Sessions(whole), TWO, previous, REVOKE)
    monkeypatch.setattr("sgdataplane.nft.transaction.PART", 1)
    kernel = counting(before)
    there = kernel.inventory(TABLE)
    report = apply(kernel, Sessions(kernel), TWO, previous, REVOKE)
    assert kernel.turn >= whole.turn + 2
    assert kernel.table(TABLE) == with_generation(with_epoch(table_of(TWO), report.epoch), kernel.generation)
    assert not apply(kernel, Sessions(kernel), TWO, None, REVOKE).changed
    for refused in range(1, whole.turn + 2):
        kernel = counting(before)
        kernel.refused = refused
        with pytest.raises(KernelError, match="made up"):
            apply(kernel, Sessions(kernel), TWO, previous, REVOKE)
        assert replace(kernel.inventory(TABLE), generation=there.generation) == there
