"""A stamp is read whole or not at all, and generations go round."""

from __future__ import annotations

import pytest

from sgdataplane.contract.stamp import Stamp, next_generation
from sgdataplane.nft.ir import DROP, Datum, Key

WHOLE: dict[Key, Datum] = {0: 3, 1: 0xDEADBEEF, 2: 0, 3: 1, 4: 0xFFFFFFFF}
DIGEST = "deadbeef0000000000000001ffffffff"


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        pytest.param(WHOLE, Stamp(3, DIGEST), id="as-compiled"),
        pytest.param({**WHOLE, 5: 77}, Stamp(3, DIGEST, 77), id="with-the-generation"),
        pytest.param({**WHOLE, 10: 1}, Stamp(3, DIGEST), id="more-than-we-know"),
        pytest.param({key: value for key, value in WHOLE.items() if key != 0}, None, id="no-epoch"),
        pytest.param({key: value for key, value in WHOLE.items() if key != 4}, None, id="cut-digest"),
        pytest.param({**WHOLE, 2: DROP}, None, id="no-number"),
        pytest.param({}, None, id="flushed"),
    ],
)
def test_stamp_is_whole_or_none(elements: dict[Key, Datum], expected: Stamp | None) -> None:
    assert Stamp.of(elements) == expected


@pytest.mark.parametrize(
    ("generation", "commits", "expected"),
    [(1, 1, 2), (1, 3, 4), (0xFFFFFFFE, 1, 0xFFFFFFFF), (0xFFFFFFFF, 1, 1), (0xFFFFFFFE, 3, 2)],
)
def test_generation_goes_round_without_zero(generation: int, commits: int, expected: int) -> None:
    assert next_generation(generation, commits) == expected
