from __future__ import annotations

import subprocess
import sys
import threading

from sgdataplane.host.nfsocket import KEPT_THREADS, MAX_PENDING, call_aside
from tests.support.probes.flood import wait_until

ENDING = """
import atexit
from sgdataplane.host.nfsocket import call_aside
atexit.register(call_aside, lambda: print(2))
call_aside(lambda: print(1))
"""


def test_the_caller_goes_on_and_the_call_is_made() -> None:
    goes, done = threading.Event(), threading.Event()

    def call() -> None:
        goes.wait()
        done.set()

    call_aside(call)
    assert not done.is_set()
    goes.set()
    wait_until(done.is_set)


def test_no_more_than_so_many_are_pending() -> None:
    goes, asked = threading.Event(), []

    def ask() -> None:
        for number in range(MAX_PENDING + 1):
            call_aside(goes.wait)
            asked.append(number)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: len(asked) == MAX_PENDING)
    assert thread.is_alive()
    goes.set()
    thread.join()
    assert len(asked) == MAX_PENDING + 1


def test_the_threads_that_a_burst_has_needed_end_with_it() -> None:
    def threads() -> int:
        return sum(thread.name.startswith("aside") for thread in threading.enumerate())

    wait_until(lambda: threads() <= KEPT_THREADS)  # those of other tests
    goes = threading.Event()
    for _ in range(10):
        call_aside(goes.wait)
    assert threads() >= 10
    goes.set()
    wait_until(lambda: threads() == 0)
    call_aside(goes.wait)
    wait_until(lambda: threads() == 1)


def test_a_call_that_fails_makes_room_again() -> None:
    for _ in range(2 * MAX_PENDING):
        call_aside(lambda: 1 / 0)


def test_what_is_pending_is_done_before_the_process_ends() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.stderr) == ("1\n2\n", "")
