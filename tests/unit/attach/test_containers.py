"""Questions to container engines, answered by a fake engine, correctly and otherwise."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from sgdataplane.attach import containers
from sgdataplane.errors import BindingError, HostError
from tests.support.servers.engine import ID, Engine, engine_at, line_of, only, running


def ended(code: object, **more: object) -> str:
    """The answer about a container that has ended with this exit code."""
    return json.dumps({"State": {"Pid": 0, "Status": "exited", "ExitCode": code, **more}})


DEEP = "[" * 100_000


@pytest.fixture
def podman(engines: tuple[Engine, Engine]) -> Engine:
    return engines[0]


@pytest.fixture
def docker(engines: tuple[Engine, Engine]) -> Engine:
    return engines[1]


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, Engine]]:
    paths = {name: tmp_path / f"{name}.sock" for name in containers.ENGINES}
    only(monkeypatch, tmp_path, **paths)
    with ExitStack() as stack:
        first, second = (stack.enter_context(engine_at(path)) for path in paths.values())
        yield first, second


@pytest.mark.parametrize(
    ("has_systemd", "command"),
    [(True, "systemctl enable --now podman.socket"), (False, "podman system service --time=0 unix://")],
)
def test_who_has_no_systemd_is_not_sent_there(
    has_systemd: bool, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, tmp_path)
    monkeypatch.setattr(containers, "SYSTEMD", tmp_path if has_systemd else tmp_path / "none")
    with pytest.raises(BindingError) as refused:
        containers.pid_of("web")
    assert command in str(refused.value)


@pytest.mark.parametrize("name", ["web", "../info?a=b#c", "wéb", "%2e"])
def test_the_pid_is_what_the_engine_says(podman: Engine, name: str) -> None:
    podman.answer(4711, name)
    assert containers.pid_of(name) == 4711
    (path,) = podman.asked
    assert path.count("/") == 3
    assert "?" not in path


def test_the_next_engine_is_asked_where_one_knows_nothing(docker: Engine) -> None:
    docker.answer(12)
    assert containers.pid_of("web") == 12


@pytest.mark.parametrize(
    ("status", "text", "code", "words"),
    [
        pytest.param(200, running(0), "InvalidContainer.NotRunning", "it has no state", id="no-state"),
        pytest.param(200, ended(143), containers.STOPPED, "exit code 143", id="stopped"),
        pytest.param(200, ended(1, StoppedByUser=True), containers.STOPPED, "exit code 1", id="stopped-by-user"),
        pytest.param(200, ended(139), "InvalidContainer.NotRunning", "exit code 139", id="crashed"),
        pytest.param(200, ended(137, OOMKilled=True), "InvalidContainer.NotRunning", "it has failed", id="no-memory"),
        pytest.param(200, ended("0"), "InvalidContainer.NotRunning", "its state is 'exited'", id="code-a-text"),
        pytest.param(200, ended(0, Status=["exited"]), "InvalidContainer.NotRunning", "no state", id="state-a-list"),
        pytest.param(
            404, '{"message":"No such container"}', "InvalidContainer.NotFound", "podman: No such", id="unknown"
        ),
        pytest.param(200, running("12"), "InvalidContainer.NotFound", "its process is '12'", id="text"),
        pytest.param(200, running(True), "InvalidContainer.NotFound", "its process is True", id="bool"),
        pytest.param(200, running(-1), "InvalidContainer.NotFound", "its process is -1", id="negative"),
        pytest.param(200, "[]", "InvalidContainer.NotFound", "no process", id="list"),
        pytest.param(200, "", "InvalidContainer.NotFound", "no process", id="empty"),
        pytest.param(200, DEEP, "InvalidContainer.NotFound", "no process", id="deep"),
        pytest.param(500, DEEP, "InvalidContainer.NotFound", "HTTP status 500", id="broken"),
    ],
)
def test_what_is_no_running_container_is_refused(podman: Engine, status: int, text: str, code: str, words: str) -> None:
    podman.answers["web"] = status, text
    with pytest.raises(BindingError) as caught:
        containers.pid_of("web")
    assert caught.value.problem.code == code
    assert words in caught.value.problem.message
    assert caught.value.problem.value == "web"


def test_without_an_engine_it_says_what_would_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, tmp_path)
    with pytest.raises(
        BindingError, match=r"(?s)not running \(its socket .*nowhere\.sock is missing\).*makes podman listen; or --pid"
    ):
        containers.pid_of("web")


def test_an_engine_of_another_machine_is_not_asked(monkeypatch: pytest.MonkeyPatch, podman: Engine) -> None:
    podman.answer(12)
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    assert containers.pid_of("web") == 12
    with pytest.raises(BindingError, match=r"tcp://192\.0\.2\.1:2375, which is not a socket of this machine"):
        containers.pid_of("db")


def test_an_engine_that_says_nothing_is_an_error_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(containers, "ANSWER_S", 0.05)
    only(monkeypatch, tmp_path, podman=tmp_path / "mute.sock")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen()
        with pytest.raises(HostError, match="podman"):
            containers.pid_of("web")


def test_a_name_that_two_engines_run_is_refused(podman: Engine, docker: Engine) -> None:
    podman.answer(12)
    docker.answer(12)  # the same container: one socket leads to the other
    assert containers.pid_of("web") == 12
    docker.answer(13)
    with pytest.raises(BindingError, match="podman and docker both run a container with that name"):
        containers.pid_of("web")
    docker.answer(0)
    assert containers.pid_of("web") == 12


def test_of_what_starts_name_and_id_are_read_or_it_is_not_clear(podman: Engine) -> None:
    bad = b"\n", b"{}\n", b"[1]\n", DEEP.encode() + b"\n", b"\xff\n", line_of(7), line_of("-web"), line_of("a", ID[1:])
    too_long = b"x" * (containers.MAX_LINE + 10_000) + b"\n"  # in several pieces
    podman.tell(line_of("web"), *bad, line_of("big" * 85), too_long, line_of("db"))
    events = containers.Events("podman", 17.9)
    found = iter(events)
    told = list(iter(found.__next__, containers.Started("db", ID)))
    big = told.index(containers.Started("big" * 85, ID))
    assert told[:big] == [containers.Started("web", ID), *[None] * len(bad)]
    assert set(told[big + 1 :]) == {None}
    events.end()
    assert list(found) == []
    events.close()
    (path,) = podman.asked
    asked = parse_qs(urlsplit(path).query)
    assert asked["since"] == ["17"]
    assert asked["filters"] == ['{"type": ["container"], "event": ["init", "start", "rename"]}']


def test_who_follows_is_ended_from_outside_before_anything_is_told(podman: Engine) -> None:
    events = containers.Events("podman", 0)
    events.end()
    with pytest.raises(OSError, match="Broken pipe"):
        list(events)
    events.close()
    assert podman.told == []


@pytest.mark.parametrize(
    ("container", "is_it"),
    [("web", True), (ID, True), (ID[:12], True), (ID[:11], False), ("we", False), ("", False)],
)
def test_a_container_is_called_by_its_name_or_the_beginning_of_its_id(container: str, is_it: bool) -> None:
    assert containers.Started("web", ID).is_called(container) is is_it
