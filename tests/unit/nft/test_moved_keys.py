"""A key gets another value in place where the kernel repeats a look-up that misses, and by a detour elsewhere."""

from __future__ import annotations

import pytest

from sgdataplane.nft.delta import Plan, plan
from sgdataplane.nft.ir import Table
from sgdataplane.nft.snapshot import with_generation
from tests.support.models.kernel_contract import NAME
from tests.unit.nft.test_delta import FIRST, JOINED, MORE_MEMBERS, loaded, run


@pytest.mark.parametrize(
    ("desired", "may_miss", "changes"),
    [
        pytest.param(JOINED, False, 1, id="in-place-where-look-ups-are-repeated"),
        pytest.param(JOINED, True, 2, id="by-a-detour-where-they-miss"),
        pytest.param(MORE_MEMBERS, True, 1, id="other-keys-in-place-everywhere"),
    ],
)
def test_a_key_changes_its_value_as_the_kernel_allows(desired: Table, may_miss: bool, changes: int) -> None:
    kernel = loaded()
    steps = plan(FIRST, kernel.inventory(NAME), desired, may_miss=may_miss)
    assert (len(steps.changes), steps.is_full_resync) == (changes, False)
    run(kernel, steps)
    assert kernel.table(NAME) == with_generation(desired, kernel.generation)


def test_an_apply_that_dies_in_a_detour_leaves_a_table_that_nobody_believes() -> None:
    kernel = loaded()
    steps = plan(FIRST, kernel.inventory(NAME), JOINED, may_miss=True)
    run(kernel, Plan(steps.changes[:1]))
    for believed in (FIRST, JOINED):
        assert plan(believed, kernel.inventory(NAME), believed).is_full_resync
    run(kernel, Plan(steps.changes[1:]))
    assert plan(JOINED, kernel.inventory(NAME), JOINED) == Plan()
