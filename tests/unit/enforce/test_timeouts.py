"""Idle timeouts of ENIs, through enforce. The kernel is in memory."""

from __future__ import annotations

import random

import pytest

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Desired, Settings, build
from sgdataplane.enforce.sessions import Longest
from sgdataplane.model.options import Placement
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.net.values import UDP
from sgdataplane.nft.snapshot import with_generation
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import apply, table_of
from tests.support.kernel.conntrack import tracked
from tests.support.models.fakekernel import FakeKernel
from tests.unit.enforce.test_steps import Sessions, policy

OWN_TIMEOUTS = ConnectionTracking(300, 10, 100)


@pytest.mark.parametrize(
    ("tracking", "scale", "expected"),
    [
        pytest.param(ConnectionTracking(), 1.0, set(), id="default-is-the-namespaces"),
        pytest.param(ConnectionTracking(), 0.1, set(), id="default-scaled-too"),
        pytest.param(OWN_TIMEOUTS, 1.0, {300, 10, 100}, id="own"),
        pytest.param(OWN_TIMEOUTS, 0.1, {30, 1, 10}, id="own-scaled"),
        pytest.param(OWN_TIMEOUTS, 0.003, {1}, id="at-least-a-second"),
    ],
)
def test_timeouts_of_an_eni_are_scaled_with_the_rest(
    tracking: ConnectionTracking, scale: float, expected: set[int]
) -> None:
    table = build(policy(connection_tracking=tracking), Settings(time_scale=scale, prove=False)).table
    assert {seconds for timeout in table.timeouts for _, seconds in timeout.policy} == expected


def test_what_was_built_with_another_time_scale_is_not_taken_over() -> None:
    desired = policy(connection_tracking=OWN_TIMEOUTS)
    before = build(desired, Settings(time_scale=0.1))
    after = build(desired, Settings(), before)
    assert after.table.timeouts != before.table.timeouts
    assert after.table == build(desired, Settings()).table


def test_enis_that_come_go_and_change_their_timeouts_leave_what_the_last_state_says() -> None:
    """Each apply knows the previous one."""
    chance, kernel, previous = random.Random(4), FakeKernel(), None
    sessions = Sessions(kernel)
    for _ in range(12):
        desired = timed(chance)
        report = apply(kernel, sessions, desired, previous, Settings(fence=False))
        expected = with_epoch(table_of(desired), report.epoch)
        assert kernel.table(TABLE) == with_generation(expected, kernel.generation)
        previous = desired


def timed(chance: random.Random) -> Desired:
    """Some ENIs of one host, each with timeouts of its own, or none."""
    enis = [
        make_eni(f"eni-{n}", f"10.0.0.{n}", "sg-a", connection_tracking=chance.choice(TRACKINGS))
        for n in chance.sample(range(1, 7), chance.randint(1, 5))
    ]
    state = make_state([make_group("sg-a", ["ingress tcp 22/22 from 0.0.0.0/0"])], enis)
    interfaces = {eni.network_interface_id: eni.network_interface_id for eni in enis}
    return Desired(state, interfaces, placement=Placement.HOST)


TRACKINGS = [ConnectionTracking(), OWN_TIMEOUTS, ConnectionTracking(60, 15, 20), ConnectionTracking(udp_timeout=10)]


def test_an_eni_s_own_timeout_holds_for_its_address_inside_another_one_s_block() -> None:
    """A new ENI has a delegated block. Another ENI, which was there before, has one address of it."""
    new = make_eni("eni-new", "10.0.0.1 10.0.1.0/24", "sg-a", connection_tracking=ConnectionTracking(30, 3, 10))
    there = make_eni("eni-there", "10.0.1.7", "sg-a")
    longest = Longest.of([new], [there], 1.0)
    assert longest(tracked("10.0.1.8/40000 198.51.100.7/53", protocol=UDP)) == 10
    assert longest(tracked("10.0.1.7/40000 198.51.100.7/53", protocol=UDP)) is None
    assert longest(tracked("10.0.1.7/40000 10.0.0.1/53", protocol=UDP)) == 10, "the new one is at its other end"


def test_a_session_between_two_new_enis_gets_the_shorter_of_their_timeouts() -> None:
    short, long = (
        make_eni(f"eni-{n}", f"10.0.0.{n}", "sg-a", connection_tracking=ConnectionTracking(30, 3, seconds))
        for n, seconds in ((1, 10), (2, 20))
    )
    longest = Longest.of([short, long], [], 1.0)
    for entry, seconds in (("10.0.0.1/40000 10.0.0.2/53", 10), ("10.0.0.2/40000 10.0.0.1/53", 10)):
        assert longest(tracked(entry, protocol=UDP)) == seconds
    assert longest(tracked("10.0.0.2/40000 198.51.100.7/53", protocol=UDP)) == 20
