"""The question to container runtimes, with programs in their place that answer as these do."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.attach import containers
from sgdataplane.errors import BindingError, HostError

UNKNOWN = 'echo "Error: no such container" >&2; exit 125'


@pytest.fixture
def runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "$@" > {folder}/{name}.asked\n{script}\n')
    program.chmod(0o755)


def test_the_pid_is_what_podman_says(runtimes: Path) -> None:
    install(runtimes, "podman", "echo warning >&2; echo 4711")
    assert containers.pid_of("-web") == 4711
    asked = (runtimes / "podman.asked").read_text()
    assert asked == "container inspect --format {{.State.Pid}} -- -web\n"


def test_the_next_runtime_is_asked_where_one_knows_nothing(runtimes: Path) -> None:
    install(runtimes, "podman", UNKNOWN)
    install(runtimes, "docker", "echo 12")
    assert containers.pid_of("web") == 12


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        pytest.param("echo 0", "InvalidContainer.NotRunning", "not running", id="stopped"),
        pytest.param(UNKNOWN, "InvalidContainer.NotFound", "podman says: Error: no such container", id="unknown"),
        pytest.param("echo '<no value>'", "InvalidContainer.NotFound", "<no value>", id="no-number"),
        pytest.param("exit 1", "InvalidContainer.NotFound", "podman says: nothing", id="silent"),
        pytest.param("", "InvalidContainer.NotFound", "podman says: nothing", id="empty"),
    ],
)
def test_what_is_no_running_container_is_refused(runtimes: Path, script: str, code: str, words: str) -> None:
    install(runtimes, "podman", script)
    with pytest.raises(BindingError) as caught:
        containers.pid_of("web")
    assert caught.value.problem.code == code
    assert words in caught.value.problem.message
    assert caught.value.problem.value == "web"


@pytest.mark.usefixtures("runtimes")
def test_without_a_runtime_it_says_what_would_do() -> None:
    with pytest.raises(BindingError, match="podman or docker on PATH; or use --pid"):
        containers.pid_of("web")


def test_a_runtime_that_cannot_be_run_is_an_error_of_the_machine(runtimes: Path) -> None:
    (runtimes / "podman").write_text("no program")
    (runtimes / "podman").chmod(0o755)
    with pytest.raises(HostError, match="podman"):
        containers.pid_of("web")


def test_a_name_that_two_runtimes_run_is_refused(runtimes: Path) -> None:
    install(runtimes, "podman", "echo 12")
    install(runtimes, "docker", "echo 12")  # the same container, by another name of the program
    assert containers.pid_of("web") == 12
    install(runtimes, "docker", "echo 13")
    with pytest.raises(BindingError, match="podman and docker run one of that name each"):
        containers.pid_of("web")
    install(runtimes, "docker", "echo 0")
    assert containers.pid_of("web") == 12


ID = "0123456789abcdef" * 4


def test_only_exact_lines_tell_of_a_container(runtimes: Path) -> None:
    lines = f"web {ID}", f"-web {ID}", f"web {ID[1:]}", f" web {ID}", "x" * 3000, f"other {ID}", f"cut {ID[:9]}"
    install(runtimes, "podman", "\n".join(f"echo '{line}'" for line in lines))
    events = containers.Events("podman", 17.9)
    found = list(events)
    events.close()
    assert [started.name for started in found] == ["web", "other"]
    asked = (runtimes / "podman.asked").read_text()
    filters = "--filter type=container --filter event=init --filter event=start"
    assert asked.startswith(f"events --since 17 {filters} --format")


@pytest.mark.parametrize(
    ("container", "is_it"),
    [("web", True), (ID, True), (ID[:12], True), (ID[:11], False), ("we", False), ("", False)],
)
def test_a_container_is_called_by_its_name_or_the_beginning_of_its_id(container: str, is_it: bool) -> None:
    assert containers.Started("web", ID).is_called(container) is is_it
