"""Clients without a key that do their worst at the same time: those with one are served, and hardly later."""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from sgdataplane.control.http.api import ApiLimits
from sgdataplane.control.http.pacing import MAX_HELD_S, REST_TIMES, SHOWN_S, Cooldown, RefusalRate, SharedAnswer
from tests.http.conftest import Alone, Serve, Served
from tests.http.hostile import KINDS, odd_header, v1
from tests.http.signing import Signed, acs3, send
from tests.http.test_bad_clients import connected, read_all

ROOT = Path(__file__).resolve().parents[2]
FORM = {"content-type": "application/x-www-form-urlencoded"}


@contextmanager
def hostile(url: str, count: int, seconds: float) -> Iterator[None]:
    """So many connections for so long, or until the block ends."""
    command = [sys.executable, "-m", "tests.http.hostile", url, str(count), str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            yield
        finally:
            process.kill()


def times(url: str, count: int) -> list[float]:
    """Of signed calls, one after the other; none is refused."""
    found = []
    for _ in range(count):
        begun = time.monotonic()
        reply = send(url, acs3("DescribeSecurityGroups", {}))
        found.append(time.monotonic() - begun)
        assert reply.status == 200, (reply.status, reply.body)
    return found


@pytest.mark.parametrize("calls", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_those_with_a_key_are_served_while_every_kind_of_others_does_its_worst(
    alone: Callable[..., Alone], calls: int
) -> None:
    server = alone()
    with hostile(server.url, 10 * len(KINDS), 60):
        times(server.url, calls)
        with urlopen(f"{server.url}/healthz", timeout=30) as health:
            assert health.status == 200


@pytest.mark.slow
def test_two_thousand_of_them_cost_signed_calls_ten_times_their_time_at_most(alone: Callable[..., Alone]) -> None:
    server = alone()
    idle = statistics.median(times(server.url, 60))  # of one key, 200 may come at once, all in all
    with hostile(server.url, 2_000, 120):
        times(server.url, 30)  # all of them have come
        busy = statistics.median(times(server.url, 100))
        with urlopen(f"{server.url}/healthz", timeout=30) as health:
            assert health.status == 200
    print(f"idle {idle * 1e3:.1f} ms, beside 2,000 hostile connections {busy * 1e3:.1f} ms: {busy / idle:.1f} times")
    assert busy <= 10 * idle


def test_bodies_that_do_not_come_take_nobody_s_place(serve: Serve) -> None:
    """513 of them gave every signed call 503."""
    served = serve(limits=ApiLimits(requests=2))
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n"
    with connected(served) as one, connected(served) as two, connected(served) as three:
        for client in (one, two, three):
            client.sendall(head)
        times(served.url, 3)


@pytest.mark.parametrize(
    ("request_of", "code"),
    [
        (lambda: Signed("POST", "/", FORM, v1("LTAInone")), "InvalidAccessKeyId.NotFound"),
        (lambda: Signed("POST", "/", FORM, v1("LTAIold")), "InvalidAccessKeyId.Inactive"),
        (lambda: Signed("POST", "/", FORM, b"a=b&" * 250_000), "MissingParameter"),
    ],
)
def test_who_has_no_key_does_not_have_his_text_read(
    served: Served, monkeypatch: pytest.MonkeyPatch, request_of: Callable[[], Signed], code: str
) -> None:
    read: list[bytes] = []

    def note(text: bytes) -> dict[str, str]:
        read.append(text)
        return {}

    monkeypatch.setattr("sgdataplane.control.http.admission.read_pairs", note)
    assert send(served.url, request_of()).code == code
    assert read == []


def test_a_header_that_is_not_ascii_is_a_signature_that_does_not_match(served: Served) -> None:
    with connected(served) as client:
        client.sendall(odd_header())
        client.shutdown(socket.SHUT_WR)
        assert b"SignatureDoesNotMatch" in read_all(client)
    assert "traceback" not in "".join(served.lines)


def test_refusals_leave_at_a_rate_and_are_not_held_for_ever() -> None:
    now = [0.0]
    pace = RefusalRate(10.0, lambda: now[0])
    delays = [pace.take() for _ in range(70)]
    assert delays[:50] == [0.0] * 50, "a person who mistypes doesn't wait"
    assert delays[50:] == pytest.approx([number / 10 for number in range(1, 21)])
    now[0] += 2.0
    assert pace.take() == pytest.approx(0.1)
    now[0] += 100.0
    assert [pace.take() for _ in range(50)] == [0.0] * 50
    assert MAX_HELD_S < 60


def test_a_connection_is_shown_the_same_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("sgdataplane.control.http.pacing.asyncio.sleep", sleep)
    cooldown = Cooldown(lambda: now[0])

    async def look() -> None:
        for port in (1, 1, 1, 2):
            await cooldown.wait(("a", port))

    asyncio.run(look())
    assert slept == [0.0, 1.0, 2.0, 0.0]


def test_what_many_ask_for_is_made_once_for_all_who_have_asked_by_then_and_anew_for_the_next() -> None:
    made: list[int] = []

    async def make() -> int:
        made.append(len(made))
        await asyncio.sleep(0)
        return made[-1]

    async def ask() -> None:
        shared = SharedAnswer(make, lambda: 0.0)
        assert list(await asyncio.gather(*(shared.get() for _ in range(100)))) == [0] * 100
        assert await shared.get() == 1
        first = asyncio.ensure_future(shared.get())
        while len(made) < 3:
            await asyncio.sleep(0)
        assert list(await asyncio.gather(first, shared.get())) == [2, 3], "who comes while it is made gets a later one"

    asyncio.run(ask())


@pytest.mark.parametrize(("cost", "rest"), [(0.01, REST_TIMES * 0.01), (60.0, SHOWN_S)])
def test_what_many_ask_for_is_made_for_a_tenth_of_the_time_and_also_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, cost: float, rest: float
) -> None:
    now, slept = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += max(0.0, seconds)

    async def make() -> None:
        now[0] += cost
        raise InterruptedError

    monkeypatch.setattr("sgdataplane.control.http.pacing.asyncio.sleep", sleep)

    async def ask() -> None:
        shared = SharedAnswer(make, lambda: now[0])
        for _ in range(2):
            with pytest.raises(InterruptedError):
                await shared.get()

    asyncio.run(ask())
    assert slept[-1] == pytest.approx(rest)
