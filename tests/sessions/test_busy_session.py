"""A session in which one end pushes packets without a pause, while it is revoked and allowed again and again.

Not one packet that is sent after `apply` has returned is received, and each time it comes back to life.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.net.values import Family
from tests.sessions.causes import CAUSES, Way
from tests.support.events.talks import Ends, Side, UdpTalk
from tests.support.probes.flood import wait_until
from tests.support.probes.pusher import PHASES, Pusher
from tests.support.scenes.sessionlab import SessionLab, session_lab

pytestmark = pytest.mark.traffic

CHOSEN = ("rule deleted", "member leaves the remote group")
ROUNDS = (2, pytest.param(6, marks=pytest.mark.slow))  # through both


@pytest.fixture(scope="module")
def lab(make_lab_name: Callable[[], str], placement: str) -> Iterator[SessionLab]:
    with session_lab(make_lab_name(), placement) as lab:
        yield lab


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("side", Side, ids=[f"{side.value} pushes" for side in Side])
@pytest.mark.parametrize("way", Way, ids=[way.value for way in Way])
def test_packet_sent_after_apply_is_never_received(
    lab: SessionLab, tmp_path: Path, way: Way, side: Side, rounds: int
) -> None:
    client, server = (lab.far, lab.near) if way is Way.INGRESS else (lab.near, lab.far)
    causes = [cause for cause in CAUSES if cause.name in CHOSEN]
    lab.apply(causes[0].allowing(way))
    talk = UdpTalk(Ends(Family.IPV4, client, server, 5000, 20000))
    phase = itertools.count(1)
    try:
        talk.open()
        with Pusher(tmp_path, talk.sockets[side], talk.sockets[side.other]) as pusher:
            for cause in causes * rounds:
                lab.apply(cause.refusing(way))
                refused = pusher.phases.present = next(phase)
                wait_until(lambda: pusher.phases.sent(refused) > 100)  # noqa: B023  (called here only)
                between = pusher.phases.present = next(phase)  # what is sent from now on, an apply may let through
                wait_until(lambda: pusher.phases.sent(between) > 100)  # noqa: B023  (called here only)
                lab.apply(cause.allowing(way))
                allowed = pusher.phases.present = next(phase)
                wait_until(lambda: pusher.phases.received(allowed) > 100)  # noqa: B023  (called here only)
                assert pusher.phases.received(refused) == 0
                pusher.phases.present = next(phase)
    finally:
        talk.close()
    assert next(phase) <= PHASES
