"""2,000 members change their groups under a flood, in place and by the detour that kernels need whose look-ups may miss
(Linux before 6.16.8 and 6.12.48): no allowed packet is lost, no denied one gets through. The control takes the members
away for a moment, and the flood notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.contract.tables import TABLE, members_name
from sgdataplane.enforce import Settings
from sgdataplane.net.values import Family
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from tests.support.events.regrouping import MEMBERS, both_turns, flood_at
from tests.support.inputs.building import enforce, table_of
from tests.support.probes.flood import wait_for_packets
from tests.support.scenes.pair import Pair

pytestmark = pytest.mark.kernel
PACKETS = 100  # of each kind, between two changes
SLOW = [pytest.param(1000, is_swapped, marks=pytest.mark.slow) for is_swapped in (False, True)]


def looks_again() -> bool:
    """Whether this kernel lets no key miss that changes in place."""
    with NetlinkKernel("/proc/self/ns/net") as kernel:
        return not kernel.may_miss()


@pytest.fixture(params=[True, False], ids=["by-a-detour", "in-place"])
def may_miss(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """What the kernel is taken to say of itself."""
    if not request.param and not looks_again():
        pytest.skip("a key that changes in place may be missed on this kernel")
    monkeypatch.setattr(NetlinkKernel, "may_miss", lambda _: request.param)
    return bool(request.param)


@pytest.mark.parametrize(("switches", "is_swapped"), [(10, False), *SLOW])
def test_members_that_change_their_groups_are_never_missed(
    pair: Pair, tmp_path: Path, placement: str, *, may_miss: bool, switches: int, is_swapped: bool
) -> None:
    """Sessions are revoked in one placement and kept in the other, and the other way round by a detour; `is_swapped`
    makes each of these the other one, so that the slow tests have all combinations."""
    is_revoked = (placement == "host") ^ may_miss ^ is_swapped
    turns, settings = both_turns(pair), Settings(on_change="revoke" if is_revoked else "keep")
    enforce(pair["policy"], turns[0], settings=settings)
    with flood_at(pair, tmp_path) as flood:
        enforce(pair["policy"], turns[0], turns[0], settings)  # the flood's own rules are somebody's commit
        for number in range(switches):
            before, after = turns[number % 2], turns[(number + 1) % 2]
            report = enforce(pair["policy"], after, before, settings)
            assert (report.changed, report.is_full_resync, report.leftover) == (True, False, "")
            assert (report.staged >= MEMBERS) is may_miss
            wait_for_packets([flood], PACKETS)
    print(f"{switches} switches, allowed {flood.allowed}, denied {flood.denied}")
    assert flood.allowed.received == flood.allowed.sent > PACKETS * switches
    assert flood.denied.received == 0 < flood.denied.sent


def test_a_flood_notices_members_that_are_away_for_a_moment(pair: Pair, tmp_path: Path) -> None:
    """The control. In host placement the router lets allowed packets' session stay, which is then not judged again."""
    desired, _ = both_turns(pair)
    enforce(pair["policy"], desired)
    members = table_of(desired).map[members_name(Family.IPV4)]
    away, back = (Transaction(TABLE, (Operation(verb, Kind.ELEMENTS, members),)) for verb in (Verb.DELETE, Verb.ADD))
    with flood_at(pair, tmp_path) as flood, NetlinkKernel(pair["policy"]) as kernel:
        kernel.run(away)
        wait_for_packets([flood], PACKETS)
        kernel.run(back)
    assert flood.denied.received > 0
    if pair["policy"] == pair["instance"]:
        assert flood.allowed.received < flood.allowed.sent
