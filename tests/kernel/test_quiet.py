"""A grace period on demand, held against a reader: a BPF program, which runs under RCU's read lock as packets do."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from unittest import mock

import pytest

from sgdataplane.host import quiet
from sgdataplane.host.quiet import _Switch
from tests.support.kernel.reader import Reader, Span
from tests.support.probes.flood import DEADLINE, ROOT, wait_until

pytestmark = pytest.mark.kernel
FLIPS = 50
RUNS, LEAST = 80, 8
LONGEST_PAUSE = 0.006  # seconds; a run takes about 5 ms
chance, pause = random.Random(1), threading.Event()  # an event that nobody sets


def many_spans_of(reader: Reader, ask: Callable[[], object]) -> tuple[int, int]:
    """As `spans_of`, but LEAST times or more; on a busy machine who asks doesn't always run beside the program."""
    found = [0, 0]

    def are_many() -> bool:
        found[:] = map(sum, zip(found, spans_of(reader, ask), strict=True))
        return found[0] >= LEAST

    wait_until(are_many)
    return found[0], found[1]


def spans_of(reader: Reader, ask: Callable[[], object]) -> tuple[int, int]:
    """How often it was asked while the program ran, and how often it came back though the same run went on."""
    asked: list[Span] = []
    processors = os.sched_getaffinity(0)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        runs = pool.submit(reader.run, RUNS)
        os.sched_setaffinity(0, processors - {max(processors)})
        stack.callback(os.sched_setaffinity, 0, processors)
        while not runs.done():
            before = time.perf_counter_ns()
            ask()
            asked.append((before, time.perf_counter_ns()))
            pause.wait(chance.random() * LONGEST_PAUSE)
    inside = [(after, end) for before, after in asked for start, end in runs.result() if start < before < end]
    return len(inside), sum(after < end for after, end in inside)


@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two processors: a reader must run beside the thread that asks")
def test_nobody_is_let_go_while_a_reader_reads() -> None:
    with Reader() as reader:
        asked, early = many_spans_of(reader, lambda: None)
        assert early > asked // 2, "whoever doesn't wait is early"
        assert many_spans_of(reader, quiet.wait)[1] == 0


def refuse(*_: object) -> None:
    raise OSError(errno.EPERM, "no")


def test_loopback_goes_up_and_down_each_time() -> None:
    switch, done = _Switch(), []
    real = switch._set

    def noted(flags: int) -> None:
        real(flags)
        done.append(flags)

    with mock.patch.object(switch, "_set", noted):
        for _ in range(FLIPS):
            switch.flip()
    switch.close()
    assert done == [quiet.IFF_UP, 0] * FLIPS


def test_the_callers_own_loopback_is_left_alone() -> None:
    before = socket.if_nameindex()
    quiet.wait()
    assert socket.if_nameindex() == before
    assert quiet._SWITCH._socket is not None


def test_many_threads_may_wait_at_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: quiet.wait(), range(8 * FLIPS))) == [None] * 8 * FLIPS


def test_a_child_has_a_switch_of_its_own() -> None:
    quiet.wait()
    child = multiprocessing.get_context("fork").Process(target=quiet.wait)
    child.start()
    for _ in range(FLIPS):
        quiet.wait()
    child.join(DEADLINE)
    assert child.exitcode == 0


def test_a_child_does_not_wait_for_a_lock_that_its_parent_held() -> None:
    child = multiprocessing.get_context("fork").Process(target=quiet.wait)
    with quiet._SWITCH._lock:
        child.start()
    child.join(DEADLINE)
    child.kill()
    assert child.exitcode == 0


def test_an_answer_that_nobody_read_is_not_taken_for_the_next() -> None:
    switch = _Switch()
    switch.flip()
    assert switch._socket is not None
    switch._socket = mock.Mock(wraps=switch._socket, **{"recvfrom.side_effect": KeyboardInterrupt})
    with pytest.raises(KeyboardInterrupt):
        switch.flip()
    switch.flip()
    assert switch._socket is not None
    with pytest.raises(BlockingIOError):
        switch._socket.recv(1, socket.MSG_DONTWAIT)
    switch.close()


def said_without(*capabilities: str) -> str:
    """What a process says that waits without these, once it has waited."""
    body = "import socket, unittest.mock as m\nfrom sgdataplane.host import quiet\n"
    body += "with m.patch('socket.socket', wraps=socket.socket) as made: quiet.wait()\n"
    body += "print(made.call_args.args[0].name)"
    dropped = ["setpriv", "--bounding-set", ",".join(f"-{name}" for name in capabilities)]
    done = subprocess.run([*dropped, sys.executable, "-c", body], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


def test_who_may_not_make_a_namespace_waits_by_a_packet_socket() -> None:
    assert said_without("sys_time") == "AF_NETLINK"
    assert said_without("sys_admin") == "AF_PACKET"
    assert "this needs CAP_NET_RAW" in said_without("sys_admin", "net_raw")


def test_refusal_is_made_good_by_a_packet_socket() -> None:
    with mock.patch.object(_Switch, "flip", refuse), mock.patch("socket.socket", wraps=socket.socket) as made:
        quiet.wait()
    assert made.call_args.args[0] is socket.AF_PACKET


def test_kernel_that_says_no_is_an_error() -> None:
    switch = _Switch()
    switch.flip()
    with mock.patch.object(quiet, "LOOPBACK", 77), pytest.raises(OSError, match="No such device"):
        switch.flip()
    switch.close()
