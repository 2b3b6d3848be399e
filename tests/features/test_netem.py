"""A bad way to the policy: packets late, lost, doubled and out of order. Verdicts and sessions hold."""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress

import pytest

from sgdataplane.host import netns
from sgdataplane.net.values import Family
from tests.features.passage import Passage, must_arrive
from tests.features.probes import NETEM, require
from tests.features.upper import Line
from tests.support.events.talks import AF, Side
from tests.support.probes.flood import wait_until
from tests.support.scenes.labs import run_in

pytestmark = [pytest.mark.traffic, pytest.mark.optional]

DELAY_MS, HARM = 20, "delay 20ms loss 5% duplicate 5% reorder 25% 50%"
OPEN, KEPT, REFUSED = 5000, 5001, 6000
ALL = ("ingress tcp 5000/5001", "ingress udp 5000/5001")
WITHOUT = ("ingress tcp 5001/5001", "ingress udp 5001/5001")
TIMES = 20
by_family = pytest.mark.parametrize("family", Family, ids=lambda family: family.value)


@pytest.fixture(scope="module", autouse=True)
def _feature() -> None:
    require(NETEM)


def harm(passage: Passage) -> None:
    """From both ends on, before the policy sees a packet; the same each time, where the kernel can."""
    for seed, place in enumerate((passage.far, passage.near), 1):
        command = f"tc qdisc add dev eth0 root netem {HARM}".split()
        try:
            run_in(place.netns, *command, "seed", str(seed))
        except AssertionError:  # Debian 12 can't
            run_in(place.netns, *command)


def line_to(passage: Passage, family: Family, port: int) -> Line:
    far, near = (place.address(family) for place in (passage.far, passage.near))
    return Line(passage.stack, (passage.far.netns, far), (passage.near.netns, near), port)


def call(passage: Passage, family: Family, port: int) -> tuple[socket.socket, socket.socket]:
    """A listener at the near end and who is about to connect to it, at the far one."""
    made = []
    for place, number in ((passage.near, port), (passage.far, 0)):
        with netns.inside(place.netns):
            made.append(passage.stack.enter_context(socket.socket(AF[family], socket.SOCK_STREAM)))
        made[-1].setblocking(False)
        made[-1].bind((place.address(family), number))
    listener, caller = made
    listener.listen()
    with suppress(BlockingIOError):
        caller.connect(listener.getsockname())
    return listener, caller


def settle(kept: Line) -> None:
    """What was sent by now has come, or never will: this line's datagrams have come for longer than the delay."""
    end = time.monotonic() + 3 * DELAY_MS / 1000
    while time.monotonic() < end:
        kept.send()
    late: list[bytes] = []

    def has_come() -> bool:
        late.append(kept.send())
        return not kept.read().isdisjoint(late)

    wait_until(has_come)


def answers(line: Line) -> int:
    """How many came back so far and weren't counted yet."""
    count = 0
    line.client.setblocking(False)
    with suppress(BlockingIOError):
        while line.client.recv(64):
            count += 1
    return count


@by_family
def test_sessions_that_are_allowed_complete(passage: Passage, family: Family) -> None:
    """Each word of each end arrives, in order."""
    passage.apply(*ALL)
    harm(passage)
    talks = [passage.talk("tcp", family, port) for port in (OPEN, KEPT)]
    for talk in talks * TIMES:
        for side in Side:
            talk.say(side)
    wait_until(lambda: all(talk.has_arrived(side) for talk in talks for side in Side))


@by_family
def test_what_is_refused_stays_refused(passage: Passage, family: Family) -> None:
    """However often it is sent, beside as much that is allowed, of which most arrives."""
    passage.apply(*ALL)
    harm(passage)
    allowed, refused = (line_to(passage, family, port) for port in (OPEN, REFUSED))
    (listener, _), (other, _) = (call(passage, family, port) for port in (REFUSED, KEPT))
    for line in [allowed, refused] * 5 * TIMES:
        line.send()
    wait_until(lambda: bool(select.select([other], [], [], 0)[0]))
    arrived: set[bytes] = set()

    def have_most_come() -> bool:
        arrived.update(allowed.read())
        return len(arrived) > 3 * TIMES

    wait_until(have_most_come)
    settle(allowed)
    assert refused.read() == set()
    with pytest.raises(BlockingIOError):
        listener.accept()


@by_family
def test_revoked_datagrams_stop_at_the_next_one(passage: Passage, family: Family) -> None:
    """Whatever is on its way to the policy then, late, early or twice. Answers, too; another session goes on."""
    passage.apply(*ALL)
    revoked, kept = (line_to(passage, family, port) for port in (OPEN, KEPT))
    for line in (revoked, kept):  # both ways, so that nobody has to ask for a neighbour later, which may be lost
        wait_until(lambda: bool(line.send() and line.read()))  # noqa: B023  (called here only)
        line.answer()
        wait_until(lambda: answers(line) > 0)  # noqa: B023
    harm(passage)
    for _ in range(TIMES):
        revoked.send()
    passage.apply(*WITHOUT)
    revoked.read()
    for line in [revoked, kept] * TIMES:
        line.send()
        line.answer()
    settle(kept)
    assert revoked.read() == set()
    assert answers(kept) > 0
    assert answers(revoked) == 0


@by_family
def test_revoked_connection_stops_at_the_next_segment(passage: Passage, family: Family) -> None:
    """Though it sends again and again what was lost."""
    passage.apply(*ALL)
    revoked, kept = (passage.talk("tcp", family, port) for port in (OPEN, KEPT))
    plain = line_to(passage, family, KEPT)
    harm(passage)
    must_arrive(revoked, *Side)
    for side in [*Side] * TIMES:
        revoked.say(side)
    passage.apply(*WITHOUT)
    before = [revoked.heard(side) for side in Side]
    for side in [*Side] * TIMES:
        revoked.say(side)
    must_arrive(kept, *Side)
    settle(plain)
    assert [revoked.heard(side) for side in Side] == before
