"""A second process: it visits half of the namespaces that need a visit, and hands back what it did and found there.

Owns that process, and what it hands back. Its input is what to do in each namespace. Must not know how that is done.

It is a fork, so it has the state and what is in force, and it ends with its parent. While it works, nobody else touches
its half. The parent visits each namespace of which it hands back nothing. The listener to the kernel's events learns
the process's number in commits before any other process can have that number, so that its commits aren't taken for
others'.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import struct
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import NoReturn

from sgdataplane.attach.report import Key, NamespaceReport
from sgdataplane.enforce import TableSummary, own_process

MANY = 16  # namespaces to visit: for ten, the process takes as long as it saves
POLL_S, MARGIN_S = 0.05, 2.0  # it may take twice as long as we did for our half, and MARGIN_S
PR_SET_PDEATHSIG = 1  # linux/prctl.h
CHUNK = 1 << 16
NUMBER = struct.Struct("=I")  # comes first in the answer
Work = Mapping[Key, Callable[[], NamespaceReport]]


@dataclass
class Handed:
    """What a helper hands back, by namespace, where nothing is left to do. Both are empty if it failed."""

    reports: Mapping[Key, NamespaceReport] = field(default_factory=dict)
    """Reports without `proven`, which is large and stays with the helper."""
    summaries: Mapping[Key, TableSummary] = field(default_factory=dict)
    """Summaries of the tables that it put in force."""


def is_worth(count: int) -> bool:
    """Whether a helper saves time with so many namespaces to visit."""
    return count >= MANY and len(os.sched_getaffinity(0)) > 1


@contextmanager
def helper(work: Work, between: Callable[[], None], ended: Callable[[int], None]) -> Iterator[Handed]:
    """Run the block while another process does this work; then wait for it and fill in what it hands back.

    Args:
        work: What to do in each namespace.
        between: Called while waiting.
        ended: Called with that process's number in commits, once it has ended and no other process can have that
            number yet.
    """
    handed, started = Handed(), time.monotonic()
    made = _fork(work)
    if made is None:
        yield handed
        return
    child, answer = made
    data = b""
    try:
        yield handed
        data = b"".join(_read(answer, 2 * time.monotonic() - started + MARGIN_S, between))
        with suppress(EOFError, pickle.UnpicklingError):
            handed.reports, handed.summaries = pickle.loads(data[NUMBER.size :])  # our own process wrote it
    finally:
        os.close(answer)
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        try:
            if len(data) >= NUMBER.size:
                ended(*NUMBER.unpack_from(data))
        finally:
            os.waitpid(child, 0)


def _fork(work: Work) -> tuple[int, int] | None:
    """Fork a process that does the work, and return its id and where it answers.

    It is None if the machine has no room for it.
    """
    answer, told = os.pipe()
    with warnings.catch_warnings():
        # Python warns of forks beside threads. Ours wait for work, close sockets or serve metrics; should one hold a
        # lock that the child needs, the child waits in vain, and its work is done here a little later.
        warnings.simplefilter("ignore", DeprecationWarning)
        parent = os.getpid()
        try:
            child = os.fork()
        except OSError:
            child = -1
    if child == 0:
        _help(work, told, parent)
    os.close(told)
    if child > 0:
        return child, answer
    os.close(answer)
    return None


def _help(work: Work, told: int, parent: int) -> NoReturn:
    """Do all of the work in the child, and send the result. Whatever fails is left to the parent."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            with open(told, "wb") as file:
                file.write(NUMBER.pack(own_process()))
                file.flush()
                reports = [report for report in (call() for call in work.values()) if _is_done(report)]
                summaries = {report.key: report.proven.summary for report in reports if report.proven is not None}
                pickle.dump(({report.key: replace(report, proven=None) for report in reports}, summaries), file)
    finally:
        os._exit(0)


def _is_done(report: NamespaceReport) -> bool:
    """Whether its policy is in force at all its ENIs, and nothing is left to do."""
    is_whole = report.proven is not None and report.error is None and report.is_settled
    return is_whole and all(eni.refusal is None for eni in report.enis)


def _read(answer: int, until: float, between: Callable[[], None]) -> Iterable[bytes]:
    """Yield what the process writes, to the end or until that time."""
    while time.monotonic() < until:
        if select.select([answer], [], [], POLL_S)[0]:
            data = os.read(answer, CHUNK)
            if not data:
                return
            yield data
        between()
