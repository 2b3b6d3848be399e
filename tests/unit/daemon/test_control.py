"""The control socket: the server, which the test's own thread serves step by step."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sgdataplane.daemon import control
from sgdataplane.daemon.clients import MAX_CLIENTS, MAX_REQUEST_BYTES, MAX_SECONDS, NO_ROOM_S, SHORTEST_S
from sgdataplane.daemon.control import (
    ControlRequest,
    ControlServer,
    Request,
    StatusServer,
    parse_answer,
    spell_answer,
    spell_request,
)
from sgdataplane.errors import HostError

LARGE = "x" * (4 << 20)  # more than a socket takes at once


class Bench:
    def __init__(self, path: Path) -> None:
        self.path, self.now = path, 0.0
        self.asked: list[Request] = []
        self.selector = selectors.DefaultSelector()
        self.server = ControlServer(path, self.selector, self.answer, lambda: self.now)

    def answer(self, asked: ControlRequest) -> bytes:
        self.asked.append(asked.request)
        return spell_answer(cycle=1, text=LARGE if asked.request is Request.STATUS else "")

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(str(self.path))
        client.setblocking(False)
        return client

    def serve(self) -> None:
        """Serve until nothing is ready."""
        while ready := self.selector.select(0):
            for key, _ in ready:
                key.data()
            if all(key.events == selectors.EVENT_WRITE for key, _ in ready):
                return

    def read(self, client: socket.socket) -> bytes:
        """Read everything until the server closes."""
        data = b""
        for _ in range(100_000):
            self.serve()
            try:
                part = client.recv(1 << 16)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return data
            if not part:
                return data
            data += part
        raise AssertionError("the server doesn't close")


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


class StatusBench(Bench):
    """The status socket, in a folder of root's whose group may connect."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o750)
        super().__init__(folder / "agent.sock")
        self.server.close()
        self.path, self.owner = folder / "status.sock", os.geteuid()
        self.status = StatusServer(self.selector, lambda: spell_answer(status={}), lambda: self.owner, lambda: self.now)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[StatusBench]:
    bench = StatusBench(tmp_path)
    assert bench.status.follow(str(bench.path)) == ""
    yield bench
    bench.status.close()
    bench.selector.close()


ANSWERED = (Request.STATUS, Request.ROLLBACK)  # by what they are asked with


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (spell_request(Request.STATUS), b'{"ok":true,"status":{}}\n'),
        *((spell_request(request), b"only the status") for request in Request if request not in ANSWERED),
        (spell_request(Request.ROLLBACK, policy=1), b"only the status"),
        (spell_request(Request.STATUS, "eni-a"), b"only the status"),
        (b"nonsense\n", b"not JSON"),
    ],
)
def test_at_the_status_socket_only_the_status_is_told(told: StatusBench, asked: bytes, answer: bytes) -> None:
    with told.connect() as client:
        client.send(asked)
        assert answer in told.read(client)


@pytest.mark.parametrize(("owner", "may"), [(0, True), (1, False)])
def test_only_the_owner_of_the_state_is_told(
    told: StatusBench, monkeypatch: pytest.MonkeyPatch, owner: int, may: bool
) -> None:
    class Credentials:
        size = control.CREDENTIALS.size

        def unpack(self, _: bytes) -> tuple[int, int, int]:
            return 1, os.geteuid() + 1, 1

    monkeypatch.setattr(control, "CREDENTIALS", Credentials())
    told.owner = os.geteuid() + 1 + owner
    with told.connect() as client:
        client.send(spell_request(Request.STATUS))
        assert (b"only root and the owner of the state may ask" not in told.read(client)) == may


def test_the_status_socket_is_where_the_configuration_says(told: StatusBench, tmp_path: Path) -> None:
    assert stat.S_IMODE(told.path.stat().st_mode) == 0o660
    again = str(tmp_path / "again.sock")
    assert told.status.follow(again) == told.status.follow(again) == ""
    assert [path.name for path in tmp_path.glob("*.sock")] == ["again.sock"]
    assert told.status.follow("") == ""
    assert (list(tmp_path.glob("*.sock")), told.status.wait_s) == ([], None)


@pytest.mark.parametrize("mode", [0o770, 0o757, None])
def test_the_status_socket_is_in_no_folder_where_others_could_put_theirs(
    told: StatusBench, tmp_path: Path, mode: int | None
) -> None:
    folder = tmp_path / "others"
    if mode is not None:
        folder.mkdir()
        folder.chmod(mode)
    assert told.status.follow(str(folder / "status.sock")).startswith(str(folder))
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    assert told.status.follow(str(folder / "status.sock")) == "", "it is tried again"
