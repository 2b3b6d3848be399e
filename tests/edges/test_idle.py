"""Sessions without traffic live as long as they may and no longer: scaled down, and once in real time.

Two sessions of each kind: one is used shortly before its time is over and so lives on, beside it the other one dies.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest

from tests.edges.scene import FAMILIES, NO_WINDOW, Scene, drained, grown, until

pytestmark = pytest.mark.traffic

ESTABLISHED_S, UDP_S = 910, 30
SCALED_TCP_S, SCALED_UDP_S = 6, 3
IN_PORT, OUT_PORT = 7000, 7100


@dataclass(frozen=True, slots=True)
class Session:
    """A TCP session between `near` and the host outside, whoever opened it."""

    near: socket.socket
    outside: socket.socket
    is_inbound: bool

    def exchange(self) -> None:
        """A byte each way must arrive."""
        for sender, receiver in ((self.near, self.outside), (self.outside, self.near)):
            sender.send(b".")
            assert receiver.recv(1) == b"."


def sessions(scene: Scene, first: int) -> list[Session]:
    """One for each family and direction."""
    made = []
    for number, family in enumerate(FAMILIES):
        outside, near = scene.connect(scene.outside, scene.near, family, IN_PORT + first + number)
        made.append(Session(near, outside, is_inbound=True))
        near, outside = scene.connect(scene.near, scene.outside, family, OUT_PORT + first + number)
        made.append(Session(near, outside, is_inbound=False))
    return made


def exchange_all(found: Iterable[Session]) -> float:
    """When they were done."""
    for session in found:
        session.exchange()
    return time.monotonic()


def wait_until(moment: float) -> None:
    """Nothing but time must pass."""
    time.sleep(max(0.0, moment - time.monotonic()))


def check_idle_tcp(scene: Scene, alive_s: float, lifetime_s: float) -> None:
    used, idle = sessions(scene, 0), sessions(scene, 10)
    exchange_all(idle)
    since = exchange_all(used)
    wait_until(since + alive_s)
    exchange_all(used)
    wait_until(since + lifetime_s)
    before = scene.counts()
    for session in idle:
        session.near.send(b"late")  # TCP takes it, and is refused when it sends it
        if not session.is_inbound:  # what comes in is judged by the rules, and these let the other ones in
            session.outside.send(b"late")
    exchange_all(used)
    until(lambda: refusals(scene, before)["egress.midstream"] >= len(idle), "refusal of what idle sessions send")
    until(lambda: refusals(scene, before)["default.ingress.drop"] >= 2, "refusal of what comes in for outbound ones")
    exchange_all(used)
    assert [drained(session.outside) for session in idle] == [[]] * len(idle)
    assert [drained(session.near) for session in idle] == [[]] * len(idle)


def refusals(scene: Scene, before: dict[str, int]) -> dict[str, int]:
    return {"egress.midstream": 0, "default.ingress.drop": 0} | grown(before, scene.counts())


RULES = (f"ingress tcp {IN_PORT}/{IN_PORT + 99} from any", "egress all to any")


def test_an_idle_tcp_session_dies_when_its_scaled_time_is_over(scene: Scene) -> None:
    scene.enforce(*RULES, settings=replace(NO_WINDOW, time_scale=SCALED_TCP_S / ESTABLISHED_S))
    check_idle_tcp(scene, SCALED_TCP_S - 2, SCALED_TCP_S + 1)


@pytest.mark.slow
def test_an_idle_tcp_session_lives_900_seconds_and_is_dead_after_910(scene: Scene) -> None:
    scene.enforce(*RULES)
    check_idle_tcp(scene, 900, ESTABLISHED_S + 1)


def test_a_udp_answer_passes_in_time_and_not_afterwards(scene: Scene) -> None:
    """From `near` to a client outside (a session that came in), and back from a server outside (one that went out)."""
    rules = ("ingress udp 53/53 from any", "egress udp 54/54 to any")
    scene.enforce(*rules, settings=replace(NO_WINDOW, time_scale=SCALED_UDP_S / UDP_S))
    inbound = [Asked(scene.udp(scene.near, f, 53), scene.udp(scene.outside, f)) for f in FAMILIES]
    outbound = [Asked(scene.udp(scene.outside, f, 54), scene.udp(scene.near, f)) for f in FAMILIES]
    for pair in (*inbound, *outbound):
        pair.ask()
    wait_until(time.monotonic() + SCALED_UDP_S - 2)
    for pair in (*inbound, *outbound):
        pair.answer()
        assert pair.client.recv(1) == b"!"
    wait_until(time.monotonic() + SCALED_UDP_S + 1)
    before = scene.counts()
    assert [scene.refuses(pair.answer) for pair in inbound] == [True, True]
    for pair in outbound:
        pair.answer()
    until(lambda: grown(before, scene.counts()) == {"default.egress.drop": 2, "default.ingress.drop": 2}, "refusal")
    assert [drained(pair.client) for pair in (*inbound, *outbound)] == [[]] * 4
    for pair in (*inbound, *outbound):  # the same sockets may begin anew
        pair.ask()
        pair.answer()
        assert pair.client.recv(1) == b"!"


class Asked:
    """A client that asks a server, which can answer at any time."""

    def __init__(self, server: socket.socket, client: socket.socket) -> None:
        self.server, self.client = server, client

    def ask(self) -> None:
        self.client.sendto(b"?", self.server.getsockname()[:2])
        assert self.server.recv(1) == b"?"

    def answer(self) -> None:
        self.server.sendto(b"!", self.client.getsockname()[:2])
