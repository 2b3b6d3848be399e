"""The clearing of marks of old epochs ahead, in a thread of its own, so that no change has to wait for it.

Owns whose sessions are cleared, in which order, and what is known of them. Its input is the reports of cycles. Must not
know what a mark means, or which epoch comes next.

Namespaces take turns, a slice each. So one with very many sessions, or one whose root keeps writing marks, delays no
other. Nothing of it has to outlive the agent: what a clearing has done is less work for the next one.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from sgdataplane.attach.report import HostReport, Key, NamespaceReport
from sgdataplane.contract.sites import SITES
from sgdataplane.contract.stamp import Stamp
from sgdataplane.daemon.logs import event
from sgdataplane.enforce import ClearedEpochs, Clearing, Epochs
from sgdataplane.enforce.clearing import Place, at
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.identity import find_namespace
from sgdataplane.model.options import Placement

YIELD_S = 0.05  # so cycles without end can't keep a clearing from its end
AGAIN_S = 10.0  # after a clearing that others have kept from its end


@dataclass(frozen=True, slots=True)
class Duty:
    """What is to be cleared in one namespace."""

    key: Key
    since: Stamp  # the stamp with which the row of applies began for which this is due
    clearing: Callable[[], Clearing] = field(compare=False)  # begins the clearing
    epochs: frozenset[int] = frozenset()  # those whose marks are cleared


def duties(host: HostReport) -> Iterator[Duty]:
    """Yield what is due on this host."""
    for report in host.namespaces:
        ageing = report.ageing
        if ageing is None or report.is_gone:
            continue
        marks = SITES[Placement.HOST if isinstance(report.key, str) else Placement.INSTANCE].marks
        epochs = frozenset(Epochs(marks.last_epoch).due(ageing.stamp))
        if epochs:
            yield Duty(report.key, ageing.since, partial(Clearing, _place_of(report), marks, epochs), epochs)


def _place_of(report: NamespaceReport) -> Place:
    if isinstance(report.key, str):
        return at(report.key)
    return partial(find_namespace, report.key, report.enis[0].binding.path)


@dataclass(slots=True)
class _Job:
    """A clearing that has begun."""

    duty: Duty
    clearing: Clearing
    slices: Generator[None, None, None]

    @classmethod
    def of(cls, duty: Duty) -> _Job:
        clearing = duty.clearing()
        return cls(duty, clearing, clearing.slices())


class Clearer:
    """Clears marks in a thread of its own. All methods are for one other thread.

    That thread can wait for the file descriptor: there is something to read when a clearing has ended. If `is_idle`,
    nothing is cleared.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.cleared: dict[Key, ClearedEpochs] = {}
        self.is_idle = False
        self._clock = clock
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._lock = threading.Lock()
        self._jobs, self._ended = deque[_Job](), list[_Job]()
        self._is_working = self._is_closed = False
        self._failed = dict[Key, tuple[Duty, float]]()
        self._is_free = threading.Event()
        self._is_free.set()

    def fileno(self) -> int:
        """Return the descriptor that is readable when a clearing has ended."""
        return self._reader.fileno()

    @contextmanager
    def give_way(self) -> Iterator[None]:
        """Slow the clearing down while the block runs, to a slice every `YIELD_S`.

        So the caller has the interpreter for itself.
        """
        self._is_free.clear()
        try:
            yield
        finally:
            self._is_free.set()

    @property
    def known(self) -> dict[Key, ClearedEpochs] | None:
        """What is cleared, by namespace; None if nothing is ever cleared."""
        return None if self.is_idle else self.cleared

    def close(self) -> None:
        """End the thread after its slice."""
        with self._lock:
            self._is_closed = True
            self._jobs.clear()
        self._reader.close()
        self._writer.close()

    def follow(self, wanted: Iterable[Duty]) -> None:
        """Clear these from now on, and no others."""
        due = {} if self.is_idle else {duty.key: duty for duty in wanted}
        for key in [key for key, known in self.cleared.items() if not _is_of(known, due.get(key))]:
            del self.cleared[key]
        new = [duty for key, duty in due.items() if key not in self.cleared and not self._waits(duty)]
        with self._lock:
            kept = {job.duty.key: job for job in self._jobs if due.get(job.duty.key) == job.duty}
            self._jobs = deque(kept.get(duty.key) or _Job.of(duty) for duty in new)
            begins = bool(self._jobs) and not self._is_working and not self._is_closed
            self._is_working |= begins
        if begins and not self._begin():
            self._is_working = False

    def _waits(self, duty: Duty) -> bool:
        """Whether a clearing was tried in vain a moment ago."""
        failed, since = self._failed.get(duty.key, (None, 0.0))
        return failed == duty and self._clock() < since + AGAIN_S

    def _begin(self) -> bool:
        """Start the thread, and return whether there was memory for it."""
        try:
            threading.Thread(target=self._work, name="clearer", daemon=True).start()
        except RuntimeError:
            return False
        return True

    def read(self) -> frozenset[Key]:
        """Return the namespaces where a clearing has ended, whatever it achieved."""
        with suppress(BlockingIOError):
            self._reader.recv(4096)
        with self._lock:
            ended, self._ended = self._ended, []
        for job in ended:
            self._note(job)
        return frozenset(job.duty.key for job in ended)

    def _note(self, job: _Job) -> None:
        duty, clearing = job.duty, job.clearing
        self._failed.pop(duty.key, None)
        if clearing.is_clear:
            self.cleared[duty.key] = ClearedEpochs(duty.since, duty.epochs)
        else:
            self._failed[duty.key] = duty, self._clock()
        level = logging.DEBUG if clearing.is_clear else logging.WARNING
        namespace = duty.key if isinstance(duty.key, str) else f"inode {duty.key.inode}"
        numbers = {"sessions": clearing.seen, "passes": clearing.passes}
        event(level, "marks-cleared" if clearing.is_clear else "marks-not-cleared", namespace=namespace, **numbers)

    # the thread

    def _work(self) -> None:
        while True:
            self._is_free.wait(YIELD_S)
            job = self._next()
            if job is None:
                return
            if not self._step(job):
                with self._lock:
                    self._ended.append(job)
                with suppress(OSError):  # full: there is something to read anyway
                    self._writer.send(b"\0")

    def _next(self) -> _Job | None:
        """Return the job whose turn it is; None, and the thread ends, if there is none."""
        with self._lock:
            self._is_working = bool(self._jobs)
            return self._jobs[0] if self._jobs else None

    def _step(self, job: _Job) -> bool:
        """Do one slice. Return False if it was the last one of a clearing that is still wanted.

        Whatever goes wrong there concerns that namespace only.
        """
        is_over = True
        try:
            next(job.slices)
            is_over = False
        except StopIteration:
            pass
        except (SgDataplaneError, OSError) as error:
            event(logging.DEBUG, "clearing-failed", error=error)
        except Exception:  # root of a namespace chooses what the kernel reports about it
            logging.getLogger("sgdataplane.contained").exception("an unexpected error in one namespace")
        with self._lock:
            others = deque(other for other in self._jobs if other is not job)
            is_wanted = len(others) < len(self._jobs)
            self._jobs = others
            if is_wanted and not is_over:
                others.append(job)
        if not is_wanted:
            job.slices.close()
        return not is_over or not is_wanted


def _is_of(known: ClearedEpochs, duty: Duty | None) -> bool:
    return duty is not None and known == ClearedEpochs(duty.since, duty.epochs)
