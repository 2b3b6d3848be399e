"""Containers that start, from runtimes that die, hang or aren't there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sgdataplane.daemon import containers
from sgdataplane.daemon.containers import ContainerWatch
from tests.support.flood import wait_until

ID = "0123456789abcdef" * 4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only one on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(containers, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(containers, "LAST_WAIT_S", 0.02)
    return tmp_path


@pytest.fixture
def watch() -> Iterator[ContainerWatch]:
    found = ContainerWatch()
    yield found
    found.close()


def install(folder: Path, name: str, events: str, answer: str) -> None:
    beside = folder / f"{name}.new"
    beside.write_text(f'#!/bin/sh\nif [ "$1" = events ]; then {events}; else {answer}; fi\n')
    beside.chmod(0o755)
    beside.replace(folder / name)


def found(watch: ContainerWatch) -> Mapping[str, int]:
    taken: list[Mapping[str, int]] = [{}]

    def is_found() -> bool:
        taken[0] = watch.take()
        return bool(taken[0])

    wait_until(is_found)
    return taken[0]


def test_a_runtime_that_dies_or_comes_later_is_followed_again(folder: Path, watch: ContainerWatch) -> None:
    watch.follow({"web"}, ())
    install(folder, "podman", f"echo 'other {ID}'; echo 'web {ID}'", "echo 12")
    assert found(watch) == {"web": 12}
    install(folder, "podman", f"echo 'web {ID}'", "echo 13")
    wait_until(lambda: watch.take() == {"web": 13})


def test_who_has_gone_is_asked_for_at_once(folder: Path, watch: ContainerWatch) -> None:
    install(folder, "docker", "exec /bin/sleep 600", "echo 12")
    watch.follow({"web", "db"}, {"web"})
    assert found(watch) == {"web": 12}


def test_what_is_not_running_or_not_wanted_is_not_found(folder: Path, watch: ContainerWatch) -> None:
    install(folder, "podman", f"echo 'web {ID}'; echo 'db {ID}'", "echo 7")
    watch.follow({"db"}, ())
    assert found(watch) == {"db": 7}
    install(folder, "podman", f"echo 'db {ID}'", "echo 0")
    watch.follow({"db", "web"}, {"web"})
    install(folder, "podman", f"echo 'web {ID}'", "echo 9")
    wait_until(lambda: watch.take() == {"web": 9})
