"""The thread that clears marks ahead: namespaces take turns, and what is known ends with its row of applies."""

from __future__ import annotations

import select
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext

import pytest

from sgdataplane.contract.sites import HOST
from sgdataplane.contract.stamp import Stamp
from sgdataplane.daemon.clearing import AGAIN_S, Clearer, Duty
from sgdataplane.enforce import ClearedEpochs, Clearing
from sgdataplane.errors import HostError

EPOCHS, SINCE, LATER = frozenset({1, 2, 3}), Stamp(20, "0" * 32, 7), Stamp(20, "0" * 32, 9)
WAIT_S = 30.0


class Scripted(Clearing):
    """Takes so many slices, and notes each one. `gate`: each slice waits for it. `error`: raised at the end."""

    def __init__(self, name: str, slices: int, log: list[str], gate: threading.Semaphore | None = None) -> None:
        super().__init__(nullcontext, HOST.marks, EPOCHS)
        self._script, self.error, self.ends_clear, self.is_closed = (name, slices, log, gate), "", True, False

    def slices(self) -> Generator[None, None, None]:
        name, slices, log, gate = self._script
        try:
            for _ in range(slices):
                if gate is not None:
                    assert gate.acquire(timeout=WAIT_S)
                log.append(name)
                yield
            if self.error:
                raise HostError(name, self.error)
            self.is_clear = self.ends_clear
        finally:
            self.is_closed = True


def duty(name: str, clearing: Clearing, since: Stamp = SINCE) -> Duty:
    return Duty(name, since, lambda: clearing, EPOCHS)


@contextmanager
def clearing(clock: list[float] | None = None) -> Iterator[Clearer]:
    made = Clearer(lambda: clock[0]) if clock else Clearer()
    try:
        yield made
    finally:
        made.close()


def ended(clearer: Clearer, *names: str) -> None:
    """Wait until these have ended."""
    left = set(names)
    while left:
        assert select.select([clearer], [], [], WAIT_S)[0], left
        left -= {str(key) for key in clearer.read()}


def test_namespaces_take_turns_so_that_a_large_one_delays_no_other_by_more_than_a_slice() -> None:
    log: list[str] = []
    gate = threading.Semaphore(0)
    with clearing() as clearer:
        large, small = Scripted("large", 1000, log, gate), Scripted("small", 3, log, gate)
        clearer.follow([duty("large", large), duty("small", small)])
        gate.release(10)
        ended(clearer, "small")
        assert clearer.cleared["small"] == ClearedEpochs(SINCE, EPOCHS)
        gate.release(993)
        ended(clearer, "large")
    assert [n for n, name in enumerate(log) if name == "small"] == [1, 3, 5]
    assert log.count("large") == 1000


def test_namespace_that_fails_harms_no_other_and_is_tried_again_later() -> None:
    now, log = [0.0], list[str]()
    with clearing(now) as clearer:
        bad, endless, good = Scripted("bad", 2, log), Scripted("endless", 2, log), Scripted("good", 5, log)
        bad.error, endless.ends_clear = "made up", False
        duties = [duty("bad", bad), duty("endless", endless), duty("good", good)]
        clearer.follow(duties)
        ended(clearer, "bad", "endless", "good")
        assert set(clearer.cleared) == {"good"}
        clearer.follow(duties)
        assert log.count("bad") == 2, "not at once"
        now[0] = AGAIN_S
        clearer.follow(duties)
        ended(clearer, "bad", "endless")
    assert (log.count("bad"), log.count("endless"), log.count("good")) == (4, 4, 5)


def test_what_is_cleared_is_known_as_long_as_the_row_of_applies_lasts() -> None:
    log: list[str] = []
    with clearing() as clearer:
        clearer.follow([duty("a", Scripted("a", 1, log))])
        ended(clearer, "a")
        clearer.follow([duty("a", Scripted("a", 1, log))])
        assert (log, set(clearer.cleared)) == (["a"], {"a"})
        clearer.follow([duty("a", Scripted("a", 2, log), LATER)])
        assert clearer.cleared == {}
        ended(clearer, "a")
        assert (log, clearer.cleared) == (["a"] * 3, {"a": ClearedEpochs(LATER, EPOCHS)})
        clearer.follow([])
        assert clearer.cleared == {}


@pytest.mark.parametrize("is_replaced", [False, True])
def test_clearing_that_is_not_wanted_any_more_ends_within_a_slice(is_replaced: bool) -> None:
    log, gate = list[str](), threading.Semaphore(0)
    with clearing() as clearer:
        old, new = Scripted("old", 1000, log, gate), Scripted("new", 1, log)
        clearer.follow([duty("a", old)])
        gate.release()
        clearer.follow([duty("a", new, LATER), duty("b", new)] if is_replaced else [duty("b", new)])
        gate.release()
        ended(clearer, "b")
        assert (old.is_closed, log.count("old") <= 2) == (True, True)
        assert ClearedEpochs(SINCE, EPOCHS) not in [known for key, known in clearer.cleared.items() if key == "a"]


def test_cycles_come_first_and_cannot_keep_a_clearing_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    with clearing() as clearer:
        monkeypatch.setattr("sgdataplane.daemon.clearing.YIELD_S", 3600.0)
        with clearer.give_way():
            clearer.follow([duty("a", Scripted("a", 3, log))])
            assert not select.select([clearer], [], [], 0.0)[0]
            assert log == []
        ended(clearer, "a")
        monkeypatch.setattr("sgdataplane.daemon.clearing.YIELD_S", 0.001)
        with clearer.give_way():
            clearer.follow([duty("b", Scripted("b", 3, log))])
            ended(clearer, "b")
    assert log == ["a"] * 3 + ["b"] * 3


def test_agent_that_runs_once_clears_nothing_ahead() -> None:
    log: list[str] = []
    with clearing() as clearer:
        clearer.is_idle = True
        clearer.follow([duty("a", Scripted("a", 1, log))])
        assert (clearer.known, clearer.read(), log) == (None, frozenset(), [])
