"""A second process at a start: it visits half of the namespaces, and hands back what it did and found there.

Owns that process, and what it hands back. Is given what to do in each namespace. Must not know how that is done.

It is a fork, so it has the state, and it ends with its parent. While it works, nobody else touches its half. The parent
visits each namespace of which it hands back nothing. Of the others, whoever listens to them compares generation, stamp
and links with the report, as for namespaces that the parent itself has visited.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import NoReturn

from sgdataplane.attach.report import Key, NamespaceReport
from sgdataplane.enforce import Cache, TableSummary

MANY = 100  # namespaces to visit: fewer take less than a second
POLL_S, PATIENCE_S = 0.05, 2.0  # it may take twice as long as we did for our half, and PATIENCE_S
PR_SET_PDEATHSIG = 1  # linux/prctl.h
CHUNK = 1 << 16
Work = Mapping[Key, Callable[[], NamespaceReport]]


@dataclass
class Handed:
    """A helper's reports, by namespace, where nothing is left to do; and what it built. Nothing if it failed. `proven`,
    which is large, stays with the helper."""

    reports: Mapping[Key, NamespaceReport] = field(default_factory=dict)
    summaries: Mapping[str, TableSummary] = field(default_factory=dict)


def is_worth(count: int) -> bool:
    """Whether a helper saves time with so many namespaces to visit."""
    return count >= MANY and len(os.sched_getaffinity(0)) > 1


@contextmanager
def helper(work: Work, cache: Cache, between: Callable[[], None]) -> Iterator[Handed]:
    """Run the block while another process does this work. After the block, wait for that and fill in what it hands
    back. `between`: called while waiting."""
    handed, started = Handed(), time.monotonic()
    made = _forked(work, cache)
    if made is None:
        yield handed
        return
    child, answer = made
    try:
        yield handed
        data = b"".join(_read(answer, 2 * time.monotonic() - started + PATIENCE_S, between))
        with suppress(EOFError, pickle.UnpicklingError):
            handed.reports, handed.summaries = pickle.loads(data)  # our own process wrote it
    finally:
        os.close(answer)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _forked(work: Work, cache: Cache) -> tuple[int, int] | None:
    """The process, and where it answers; None if the machine has no room for it."""
    answer, told = os.pipe()
    with warnings.catch_warnings():
        # Python warns of forks beside threads. Those of ours wait for work, or close sockets, and hold no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        parent = os.getpid()
        try:
            child = os.fork()
        except OSError:
            child = -1
    if child == 0:
        _help(work, cache, told, parent)
    os.close(told)
    if child > 0:
        return child, answer
    os.close(answer)
    return None


def _help(work: Work, cache: Cache, told: int, parent: int) -> NoReturn:
    """In the child: do it all, and tell. Whatever fails, the parent does."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            reports = [call() for call in work.values()]
            done = {report.key: replace(report, proven=None) for report in reports if _is_done(report)}
            proven = [report.proven for report in reports if report.proven is not None]
            with open(told, "wb") as file:
                pickle.dump((done, dict(cache.summaries(proven) or {})), file)
    finally:
        os._exit(0)


def _is_done(report: NamespaceReport) -> bool:
    """Whether its policy is in force at all its ENIs, and nothing is left to do."""
    is_whole = report.proven is not None and report.error is None and report.is_settled
    return is_whole and all(eni.refusal is None for eni in report.enis)


def _read(answer: int, until: float, between: Callable[[], None]) -> Iterable[bytes]:
    """Read to the end, or until that time."""
    while time.monotonic() < until:
        if select.select([answer], [], [], POLL_S)[0]:
            data = os.read(answer, CHUNK)
            if not data:
                return
            yield data
        between()
