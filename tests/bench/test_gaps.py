"""What `bench.gaps` says of gaps in a stream, and that it makes each kind of load beside one."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from bench.gaps import LOADS, NOTHING, Window, arguments, measured, more_ms, row, scene

from sgdataplane.contract.tables import TABLE
from tests.support.kernel.nft import nft

HELD_S = 0.2


def test_what_is_more_is_taken_round_by_round() -> None:
    without = [Window(0.001, 100, 0.5), Window(0.010, 100, 0.5), Window(0.002, 100, 0.5)]
    loaded = [Window(0.003, 100, 0.1), Window(0.011, 200, 0.2), Window(0.012, 300, 0.3)]
    assert more_ms(loaded, without) == pytest.approx(2)
    assert row("here", loaded, without) == "| here | 200 | 1,000 | 11.00 | 12.00 | +2.00 |"


def test_a_thousand_enis_unless_somebody_says_otherwise() -> None:
    assert (arguments([]).enis, arguments([]).loads) == (1000, LOADS)
    assert (arguments(["-n", "3"]).enis, arguments(["--loads", "here,refill"]).loads) == (3, ("here", "refill"))
    with pytest.raises(SystemExit):
        arguments(["--loads", "there"])


@pytest.mark.kernel
def test_each_load_goes_on_beside_a_stream_that_is_received(lab_name: str) -> None:
    processor = min(os.sched_getaffinity(0))
    with scene(lab_name, 3, processor) as place:
        found = measured(place, (NOTHING, *LOADS), 1, random.Random(1))
        assert {kind: len(windows) for kind, windows in found.items()} == dict.fromkeys((NOTHING, *LOADS), 1)
        assert all(window.packets > 100 and window.gap > 0 for windows in found.values() for window in windows)
        place.window("here")
        assert f"table inet {TABLE}" in nft(place.here, "list tables")
        place.window("elsewhere")
        assert f"table inet {TABLE}" in nft(place.elsewhere, "list tables")
        assert TABLE not in nft(place.here, "list tables")


@pytest.mark.kernel
def test_whatever_holds_the_sender_up_is_a_gap(lab_name: str) -> None:
    """The control: the sender is stopped for a moment, by a signal."""
    with scene(lab_name, 1, min(os.sched_getaffinity(0))) as place:
        assert place.stream.during(lambda: _hold(place.stream.pid)).gap >= HELD_S


def _hold(pid: int) -> None:
    for _ in range(3):  # it may rest just then
        time.sleep(HELD_S)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(HELD_S)
        os.kill(pid, signal.SIGCONT)
