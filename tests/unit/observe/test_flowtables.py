"""Flowtables from the messages that Linux 6.12 gave for those of nft 1.1.3."""

from __future__ import annotations

import pytest

from sgdataplane.model.options import Placement
from sgdataplane.observe.flowtables import FLAGS, HOOK, Flowtable, parse_flowtable

TWO_DEVICES = "080001000000000008000200000000001400030008000100696e3000070001006c6f0000"
ONE_DEVICE = "080001000000000008000200000000000c00030008000100696e3000"
MESSAGE = {1: b"theirs\0", 2: b"f\0", 5: bytes(7) + b"\2", 4: bytes(4), FLAGS: bytes(4)}


@pytest.mark.parametrize(
    ("family", "hook", "flags", "found"),
    [
        pytest.param(1, TWO_DEVICES, 0, Flowtable("inet", "theirs", "f", ("in0", "lo"), False), id="in order"),
        pytest.param(2, ONE_DEVICE, 2, Flowtable("ip", "theirs", "f", ("in0",), False), id="that counts"),
        pytest.param(10, ONE_DEVICE, 3, Flowtable("ip6", "theirs", "f", ("in0",), True), id="in hardware"),
        pytest.param(99, "", 0, Flowtable("99", "theirs", "f", (), False), id="without a device"),
    ],
)
def test_a_message_becomes_a_flowtable(family: int, hook: str, flags: int, found: Flowtable) -> None:
    message = {**MESSAGE, HOOK: bytes.fromhex(hook), FLAGS: flags.to_bytes(4, "big")}
    assert parse_flowtable(family, message) == found


def test_the_complaint_says_what_comes_of_it_there() -> None:
    found = Flowtable("inet", "theirs", "f", ("eth0", "eth1"), is_in_hardware=False)
    inside, outside = (found.complaint(placement) for placement in (Placement.INSTANCE, Placement.HOST))
    assert inside.startswith("flowtable inet theirs f (eth0, eth1) carries sessions past the policy: the fence drops")
    assert "neither counted nor logged" in outside
    assert "hardware" not in inside + outside
    hard = Flowtable("inet", "theirs", "f", (), is_in_hardware=True).complaint(Placement.HOST)
    assert hard.startswith("flowtable inet theirs f (no device) carries sessions past the policy, some in hardware")
