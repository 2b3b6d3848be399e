"""Work in the background that fails starts again, and whoever asks is told."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from sgdataplane.control import background
from sgdataplane.control.background import STEADY_S, Background
from tests.support.probes.flood import wait_until


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RESTART_S", 0.001)


class Work:
    """Fails as often as it is told to, and then goes on until it is to end."""

    def __init__(self, failures: int, fail: Callable[[], None]) -> None:
        self.failures, self.fail = failures, fail
        self.begun = 0
        self.is_going_on = threading.Event()

    def __call__(self, ending: threading.Event) -> None:
        self.begun += 1
        if self.begun <= self.failures:
            return self.fail()
        self.is_going_on.set()
        ending.wait()
        return None


def fail() -> None:
    raise ZeroDivisionError("a bug")


def end() -> None:
    """As work does that has nothing more to do."""


@pytest.mark.parametrize("how", [fail, end])
def test_work_that_fails_or_ends_starts_again_and_is_told_until_it_is_steady(
    how: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    work = Work(3, how)
    with Background("the work", work, lambda: now[0]) as thread:
        assert work.is_going_on.wait(30)
        assert work.begun == 4
        assert thread.trouble.startswith("the work: it ")
        now[0] += STEADY_S
        assert thread.trouble == ""
    assert len(caplog.records) == (3 if how is fail else 0)


def test_nothing_is_wrong_with_work_that_goes_on_and_with_work_that_was_told_to_end() -> None:
    work = Work(0, fail)
    with Background("the work", work) as thread:
        assert work.is_going_on.wait(30)
        assert thread.trouble == ""
    assert thread.trouble == ""
    assert work.begun == 1


def test_a_thread_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing should end it; but then it must not be silent."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def leave(_: threading.Event) -> None:
        raise SystemExit

    with Background("the work", leave) as thread:
        wait_until(lambda: not thread._thread.is_alive())
        assert thread.trouble == "the work: its thread has ended"
