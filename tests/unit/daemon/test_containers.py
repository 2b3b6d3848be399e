"""Containers that start, reported by engines that die, hang or don't exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sgdataplane.daemon import containers
from sgdataplane.daemon.containers import ContainerWatch
from sgdataplane.errors import BindingError
from tests.support.probes.flood import wait_until
from tests.support.servers.engine import engine_at, line_of, only


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The socket where podman listens, if it does. No other engine exists."""
    path = tmp_path / "podman.sock"
    only(monkeypatch, tmp_path, podman=path)
    monkeypatch.setattr(containers, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(containers, "LAST_WAIT_S", 0.02)
    return path


@pytest.fixture
def watch() -> Iterator[ContainerWatch]:
    found = ContainerWatch()
    yield found
    found.close()


def found(watch: ContainerWatch, kind: type = int) -> Mapping[str, int | BindingError]:
    """Wait for the next processes, or the reason why there is none."""
    taken: list[Mapping[str, int | BindingError]] = [{}]

    def is_found() -> bool:
        taken[0] = {name: each for name, each in watch.take().items() if isinstance(each, kind)}
        return bool(taken[0])

    wait_until(is_found)
    return taken[0]


def test_an_engine_that_dies_or_comes_later_is_followed_again(podman: Path, watch: ContainerWatch) -> None:
    watch.follow({"web"}, ())
    with engine_at(podman) as engine:
        engine.answer(12)
        engine.tell(line_of("other"), line_of("web"))
        assert found(watch) == {"web": 12}
    with engine_at(podman) as engine:
        engine.answer(13)
        wait_until(lambda: engine.follows > 0)
        engine.tell(line_of("web"))
        wait_until(lambda: watch.take() == {"web": 13})  # the first engine may have been asked twice
        engine.drop()
        wait_until(lambda: engine.follows > 1)


def test_who_has_gone_is_asked_for_until_it_is_found_though_nobody_tells_of_it(
    podman: Path, watch: ContainerWatch
) -> None:
    with engine_at(podman) as engine:
        engine.answer(0)
        watch.follow({"web"}, {"web"})
        wait_until(lambda: engine.asked.count("/containers/web/json") > 1)
        engine.answer(12)
        assert found(watch) == {"web": 12}


def test_who_has_not_gone_is_told_where_its_name_leads_nowhere(podman: Path, watch: ContainerWatch) -> None:
    watch.follow({"web"}, ())  # nobody answers: that says nothing
    with engine_at(podman) as engine:
        watch.follow({"web"}, (), is_look=True)
        (told,) = found(watch, BindingError).values()
        assert isinstance(told, BindingError)
        assert told.problem.code == "InvalidContainer.NotFound"
        assert engine.told == []


def test_what_is_not_running_or_not_wanted_is_not_found(podman: Path, watch: ContainerWatch) -> None:
    with engine_at(podman) as engine:
        engine.answer(7, "db")
        engine.tell(line_of("web"), line_of("db"))
        watch.follow({"db"}, ())
        assert found(watch) == {"db": 7}
        engine.answer(0, "db")
        watch.follow({"db", "web"}, {"web"})
        engine.answer(9)
        engine.tell(line_of("db"), line_of("web"))
        wait_until(lambda: watch.take() == {"web": 9})


def test_what_is_not_clear_has_all_of_them_asked_for(podman: Path, watch: ContainerWatch) -> None:
    with engine_at(podman) as engine:
        watch.follow({"db", "web"}, ())
        wait_until(lambda: engine.follows > 0)
        engine.answer(7, "db")
        engine.answer(9)
        engine.tell(b"nonsense\n")
        heard: dict[str, int | BindingError] = {}

        def is_heard() -> bool:
            heard.update(watch.take())
            return heard == {"db": 7, "web": 9}

        wait_until(is_heard)
