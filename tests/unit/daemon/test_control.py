"""The control socket: the server, which the test's own thread serves step by step."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sgdataplane.daemon import control
from sgdataplane.daemon.clients import MAX_CLIENTS, MAX_REQUEST_BYTES, MAX_SECONDS, NO_ROOM_S, SHORTEST_S
from sgdataplane.daemon.control import (
    Request,
    parse_answer,
    spell_request,
)
from sgdataplane.errors import HostError
from tests.unit.daemon.control_bench import LARGE, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "agent.sock")
    yield bench
    bench.server.close()
    bench.selector.close()
    assert not bench.path.exists()


def test_only_its_owner_can_open_it(bench: Bench) -> None:
    mode = bench.path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_large_answer_comes_whole(bench: Bench) -> None:
    with bench.connect() as client:
        client.send(spell_request(Request.STATUS))
        assert parse_answer(bench.read(client)) == {"cycle": 1, "text": LARGE}


def test_a_request_may_come_in_pieces(bench: Bench) -> None:
    with bench.connect() as client:
        for byte in spell_request(Request.RELOAD):
            client.send(bytes([byte]))
            bench.serve()
        assert parse_answer(bench.read(client))["cycle"] == 1
    assert bench.asked == [Request.RELOAD]


@pytest.mark.parametrize("data", [b"garbage\n", b"\0" * 100 + b"\n", b"x" * (MAX_REQUEST_BYTES + 1), b"\n"])
def test_garbage_gets_a_refusal_and_nothing_else(bench: Bench, data: bytes) -> None:
    with bench.connect() as client:
        client.send(data)
        assert b'"ok":false' in bench.read(client)
    assert bench.asked == []


def test_who_says_nothing_or_half_is_left_when_the_time_is_over(bench: Bench) -> None:
    with bench.connect() as silent, bench.connect() as half:
        half.send(b'{"request"')
        bench.serve()
        assert bench.server.wait_s == MAX_SECONDS
        bench.now += MAX_SECONDS
        bench.server.expire()
        assert (bench.read(silent), bench.read(half)) == (b"", b"")
        assert bench.server.wait_s is None


def test_who_was_not_heard_for_a_long_cycle_is_answered_all_the_same(bench: Bench) -> None:
    with bench.connect() as client:
        bench.serve()
        bench.now += MAX_SECONDS
        client.send(spell_request(Request.STATUS))
        bench.serve()
        bench.server.expire()
        assert parse_answer(bench.read(client))["cycle"] == 1


def test_who_does_not_read_is_left_when_the_time_is_over(bench: Bench) -> None:
    with bench.connect() as client:
        client.send(spell_request(Request.STATUS))
        bench.serve()
        bench.now += MAX_SECONDS
        bench.server.expire()
        assert 0 < len(bench.read(client)) < len(LARGE)


def test_who_goes_away_is_forgotten(bench: Bench) -> None:
    bench.connect().close()
    with bench.connect() as client:
        client.send(spell_request(Request.STATUS))
    bench.serve()
    bench.serve()
    assert bench.server.wait_s is None


def test_more_clients_than_places_wait_for_theirs(bench: Bench) -> None:
    clients = [bench.connect() for _ in range(MAX_CLIENTS)]
    bench.serve()
    late = bench.connect()
    late.send(spell_request(Request.RESYNC))
    bench.serve()
    assert bench.asked == []
    clients.pop().close()
    bench.serve()
    assert parse_answer(bench.read(late))["cycle"] == 1
    for client in (*clients, late):
        client.close()
    bench.serve()
    assert bench.server.wait_s is None


def test_who_waits_gets_the_place_of_the_one_that_has_asked_longest(bench: Bench) -> None:
    reading = bench.connect()
    reading.send(spell_request(Request.STATUS))
    bench.serve()
    bench.now += 0.001
    slow = [bench.connect() for _ in range(MAX_CLIENTS - 1)]
    slow[0].send(b'{"request"')
    bench.serve()
    late = bench.connect()
    late.send(spell_request(Request.RESYNC))
    bench.serve()
    assert bench.server.wait_s == pytest.approx(SHORTEST_S)  # each has that
    bench.now += SHORTEST_S
    bench.server.expire()
    assert parse_answer(bench.read(late))["cycle"] == 1
    assert bench.read(slow[0]) == b""
    assert parse_answer(bench.read(reading))["cycle"] == 1
    for client in slow[1:]:
        with pytest.raises(BlockingIOError):
            client.recv(1)  # it is still served
    for client in (*slow, late, reading):
        client.close()
    bench.serve()
    assert bench.server.wait_s is None


def test_who_is_half_way_through_asking_is_not_left_before_its_time(bench: Bench) -> None:
    """Meanwhile the client that has been asking longest is answered."""
    first = bench.connect()
    bench.serve()
    bench.now += SHORTEST_S / 2
    others = [bench.connect() for _ in range(MAX_CLIENTS)]
    bench.serve()
    first.send(spell_request(Request.STATUS))
    bench.serve()
    bench.now += SHORTEST_S / 2
    bench.server.expire()
    bench.serve()
    for client in others:
        with pytest.raises(BlockingIOError):
            client.recv(1)
    assert bench.server.wait_s == pytest.approx(SHORTEST_S / 2)
    for client in (first, *others):
        client.close()


def test_without_descriptors_it_does_not_ask_again_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = list[int]()

    def refuse() -> None:
        tries.append(1)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with bench.connect() as client:
        client.send(spell_request(Request.RELOAD))
        with monkeypatch.context() as patched:
            door = SimpleNamespace(accept=refuse, fileno=bench.server._listening.fileno, close=lambda: None)
            patched.setattr(bench.server, "_listener", door)
            bench.serve()
            bench.serve()
            assert (len(tries), bench.server.wait_s) == (1, NO_ROOM_S)
            bench.now += NO_ROOM_S
            bench.server.expire()
            bench.serve()
            assert (len(tries), bench.server.wait_s) == (2, NO_ROOM_S)
        bench.now += NO_ROOM_S
        bench.server.expire()
        assert parse_answer(bench.read(client))["cycle"] == 1


def test_an_answer_may_wait_for_a_cycle_after_one_that_is_known(bench: Bench) -> None:
    with bench.connect() as waiting, bench.connect() as behind:
        waiting.send(spell_request(Request.STATUS, after=7))
        behind.send(spell_request(Request.STATUS, after=6))
        assert parse_answer(bench.read(behind))["cycle"] == 1
        bench.server.answer_waiting()
        bench.serve()
        assert bench.asked == [Request.STATUS]
        bench.cycles = 8
        bench.server.answer_waiting()
        assert parse_answer(bench.read(waiting)) == {"cycle": 1, "text": LARGE}
    assert bench.server.wait_s is None


def test_who_waits_for_a_cycle_is_told_what_is_so_when_the_time_is_over(bench: Bench) -> None:
    with bench.connect() as waiting:
        waiting.send(spell_request(Request.STATUS, after=7))
        bench.serve()
        bench.now += MAX_SECONDS / 2
        bench.server.expire()
        assert bench.asked == []
        bench.now += MAX_SECONDS / 2
        bench.server.expire()
        assert parse_answer(bench.read(waiting)) == {"cycle": 1, "text": LARGE}, "with time to read it"
    assert bench.server.wait_s is None


def test_who_waits_for_a_cycle_is_told_what_is_so_if_another_needs_the_place(bench: Bench) -> None:
    waiting = [bench.connect() for _ in range(MAX_CLIENTS)]
    for client in waiting:
        client.send(spell_request(Request.STATUS, after=7))
        bench.serve()
        bench.now += 0.001
    late = bench.connect()
    late.send(spell_request(Request.RESYNC))
    bench.serve()
    bench.now += SHORTEST_S
    bench.server.expire()
    assert parse_answer(bench.read(waiting[0]))["cycle"] == 1
    assert parse_answer(bench.read(late))["cycle"] == 1
    assert bench.asked == [Request.STATUS, Request.RESYNC]
    for client in (*waiting, late):
        client.close()
    bench.serve()
    assert bench.server.wait_s is None


@pytest.mark.parametrize(
    "line",
    [b'{"request":"reload","after":7}\n', b'{"request":"status","after":-1}\n', b'{"request":"status","after":true}\n'],
)
def test_only_the_status_comes_after_a_cycle(bench: Bench, line: bytes) -> None:
    with bench.connect() as client:
        client.send(line)
        assert b'"ok":false' in bench.read(client)
    assert bench.asked == []


def test_others_are_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Credentials:
        size = control.CREDENTIALS.size

        def unpack(self, _: bytes) -> tuple[int, int, int]:
            return 1, os.geteuid() + 1, 1

    monkeypatch.setattr(control, "CREDENTIALS", Credentials())
    with bench.connect() as client:
        client.send(spell_request(Request.STATUS))
        assert b"only root may ask" in bench.read(client)
    assert bench.asked == []


def test_a_socket_that_was_left_is_replaced_and_one_in_use_is_not(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="running already"):
        Bench(bench.path)
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(left))
    again = Bench(left)
    with again.connect() as client:
        client.send(spell_request(Request.RELOAD))
        assert parse_answer(again.read(client))["cycle"] == 1
    again.server.close()
    again.selector.close()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("precious", "utf-8")
    for _ in range(2):  # the lock isn't kept
        with pytest.raises(HostError, match="in use"):
            Bench(path)
    assert path.read_text("utf-8") == "precious"
