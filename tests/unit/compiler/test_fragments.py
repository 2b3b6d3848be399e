"""How much memory fragments may take."""

from __future__ import annotations

from sgdataplane.compiler.fragments import ENIS_OF_UPLINK, fragment_bytes


def test_an_uplink_may_hold_as_many_fragments_as_several_enis() -> None:
    one = fragment_bytes(30, 1, 0)
    assert one > 0
    assert fragment_bytes(30, 0, 1) == ENIS_OF_UPLINK * one
    assert fragment_bytes(30, 7, 2) == 7 * one + 2 * ENIS_OF_UPLINK * one
