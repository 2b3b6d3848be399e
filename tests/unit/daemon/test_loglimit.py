"""What others can have the agent log is bounded, the last line about each thing comes, and nothing silences others."""

from __future__ import annotations

import logging
import random

import pytest

from sgdataplane.daemon import loglimit
from sgdataplane.daemon.loglimit import BURST, EVERY_S, LogLimit


class Bench:
    """What is logged, as (word, left out)."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lines: list[tuple[str, int]] = []
        self.limit = LogLimit(self._note, lambda: self.now)

    def _note(self, record: logging.LogRecord) -> None:
        self.lines.append((record.getMessage(), getattr(record, "left_out", 0)))

    def log(self, text: str, **fields: object) -> None:
        record = logging.LogRecord("sgdataplane.agent", logging.INFO, "", 0, text, (), None)
        if fields:
            record.fields = fields
        if self.limit.filter(record):
            self._note(record)

    def flap(self, times: int, **fields: object) -> None:
        for number in range(times):
            self.log(str(number), event="eni", **fields)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_few_lines_come_at_once_and_then_the_last_one_with_the_count_of_the_others(bench: Bench) -> None:
    bench.flap(100, eni="a")
    assert bench.lines == [(str(number), 0) for number in range(BURST)]
    bench.limit.flush()
    assert len(bench.lines) == BURST  # not yet
    assert bench.limit.wait_s == pytest.approx(EVERY_S)
    bench.now += EVERY_S
    bench.limit.flush()
    assert bench.lines[-1] == ("99", 100 - BURST - 1)
    assert bench.limit.wait_s is None


def test_a_line_that_is_held_back_stays_in_front_of_later_ones(bench: Bench) -> None:
    bench.flap(BURST + 1, eni="a")
    bench.now += EVERY_S
    bench.log("later", event="eni", eni="a")
    assert len(bench.lines) == BURST
    bench.limit.flush()
    assert bench.lines[-1] == ("later", 1)


@pytest.mark.parametrize("seed", range(20))
def test_every_line_is_logged_or_counted_and_the_rate_is_kept(bench: Bench, seed: int) -> None:
    chance, count, started = random.Random(seed), 0, bench.now
    for _ in range(2000):
        bench.now += chance.expovariate(10)
        if chance.random() < 0.7:
            bench.log(str(count), event="cycle", causes="link")
            count += 1
        else:
            bench.limit.flush()
        assert len(bench.lines) <= BURST + (bench.now - started) / EVERY_S
    bench.now += EVERY_S
    bench.limit.flush()
    assert sum(1 + left_out for _, left_out in bench.lines) == count
    assert bench.lines[-1][0] == str(count - 1)


def test_one_thing_silences_no_other(bench: Bench) -> None:
    bench.flap(100, eni="a")
    bench.log("b", event="eni", eni="b")
    bench.log("state", event="cycle", causes="state")
    bench.log("trouble")
    assert [text for text, _ in bench.lines[BURST:]] == ["b", "state", "trouble"]


def test_the_number_of_things_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loglimit, "MAX_SUBJECTS", 10)
    for number in range(1000):
        bench.flap(2, eni=str(number))
    assert len(bench.lines) <= 10 * 2 + BURST
    bench.now += BURST * EVERY_S + EVERY_S
    bench.limit.flush()
    assert bench.lines[-1][1] > 0  # the others share one rate, and are counted


def test_whoever_asks_to_look_at_everything_begins_anew(bench: Bench) -> None:
    bench.flap(100, eni="a")
    bench.limit.forget()
    assert bench.lines[-1] == ("99", 100 - BURST - 1)
    bench.flap(3, eni="a")
    assert [text for text, _ in bench.lines[-3:]] == ["0", "1", "2"]
