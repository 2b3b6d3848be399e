from __future__ import annotations

import os
import signal

import pytest

from sgdataplane.lab.manage import hold_interrupts


def interrupted_work(done: list[str], error: Exception | None = None) -> None:
    with hold_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("the rest")
        if error is not None:
            raise error


def test_interrupt_waits_for_the_end_of_the_block() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted_work(done)
    assert done == ["the rest"]


def test_termination_waits_too_and_meets_the_handler_there_was() -> None:
    got = []
    former = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    try:
        with hold_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
            assert got == []
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, former)


def test_error_of_the_block_goes_first() -> None:
    with pytest.raises(ValueError, match="mine"):
        interrupted_work([], ValueError("mine"))


def test_without_a_signal_nothing_happens() -> None:
    with hold_interrupts():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
