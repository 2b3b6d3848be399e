"""2,000 members change their groups under a flood, in place and by the detour that kernels need whose look-ups may miss
(Linux before 6.16.8 and 6.12.48): no allowed packet is lost, no denied one gets through. The control takes the members
away for a moment, and the flood notices."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from sgdataplane.contract.tables import TABLE, members_name
from sgdataplane.enforce import Settings
from sgdataplane.net.values import Family
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from tests.support.building import enforce, table_of
from tests.support.flood import wait_for_packets
from tests.support.pair import Pair
from tests.support.regrouping import MEMBERS, both_turns, flood_at

pytestmark = pytest.mark.kernel
PACKETS = 100  # of each kind, between two changes
SWITCHES = [20, pytest.param(1000, marks=pytest.mark.slow)]
AWAY = 200  # times at most


def looks_again() -> bool:
    """Whether this kernel lets no key miss that changes in place."""
    with NetlinkKernel("/proc/self/ns/net") as kernel:
        return not kernel.may_miss()


@pytest.mark.parametrize("on_change", ["revoke", "keep"])
@pytest.mark.parametrize("may_miss", [True, False], ids=["by-a-detour", "in-place"])
@pytest.mark.parametrize("switches", SWITCHES)
def test_members_that_change_their_groups_are_never_missed(
    pair: Pair,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_change: Literal["revoke", "keep"],
    may_miss: bool,
    switches: int,
) -> None:
    if not may_miss and not looks_again():
        pytest.skip("a key that changes in place may be missed on this kernel")
    monkeypatch.setattr(NetlinkKernel, "may_miss", lambda _: may_miss)
    turns, settings = both_turns(pair), Settings(on_change=on_change)
    enforce(pair["policy"], turns[0], settings=settings)
    with flood_at(pair, tmp_path) as flood:
        for number in range(switches):
            before, after = turns[number % 2], turns[(number + 1) % 2]
            report = enforce(pair["policy"], after, before, settings)
            assert (report.changed, report.is_refill, report.leftover) == (True, False, "")
            assert (report.staged >= MEMBERS) is may_miss
            wait_for_packets([flood], PACKETS)
    print(f"{switches} switches, allowed {flood.allowed}, denied {flood.denied}")
    assert flood.allowed.received == flood.allowed.sent > PACKETS * switches
    assert flood.denied.received == 0 < flood.denied.sent


def test_a_flood_notices_members_that_are_away_for_a_moment(pair: Pair, tmp_path: Path) -> None:
    """The control."""
    desired, _ = both_turns(pair)
    enforce(pair["policy"], desired)
    members = table_of(desired).map[members_name(Family.IPV4)]
    steps = [Transaction(TABLE, (Operation(verb, Kind.ELEMENTS, members),)) for verb in (Verb.DELETE, Verb.ADD)]
    with flood_at(pair, tmp_path) as flood, NetlinkKernel(pair["policy"]) as kernel:
        for _ in range(AWAY):
            for step in steps:
                kernel.run(step)
            if flood.denied.received:
                break
    assert flood.denied.received > 0
    assert flood.allowed.received < flood.allowed.sent
