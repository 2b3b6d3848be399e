"""The process that records history, which the agent starts: `python -m sgdataplane.history FILE KEEP_S MAX_BYTES`.

Owns its priority, and its end. It has the agent's socket as its stdin, and ends when the agent does.

It is a process of its own, so that it never makes the agent wait: a thread would hold the interpreter while it reads.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from sgdataplane.history.link import PROCESS, StateReceiver, receive_orders, send_status
from sgdataplane.history.merge import HistoryLimits
from sgdataplane.history.recorder import Recorder
from sgdataplane.host.identity import boot_id
from sgdataplane.nft.commits import own_process

NICE = 19
VICTIM = "1000"  # in oom_score_adj: if memory runs out, the kernel takes us and not the agent
STATUS_S = 5.0


class Process:
    """The process of a recorder that obeys the agent."""

    def __init__(self, link: socket.socket, recorder: Recorder) -> None:
        self._link, self._recorder = link, recorder
        self._received = StateReceiver()
        self._is_ending = False
        self._told, self._number = 0.0, own_process()
        recorder.register(link.fileno(), self._obey)
        recorder.budget.is_over = self._is_over

    def run(self) -> None:
        """Record until the agent or a signal ends it."""
        self._tell()
        while not self._is_ending:
            self._recorder.round()
            if time.monotonic() - self._told >= STATUS_S:
                self._tell()
        self._recorder.close()

    def _tell(self) -> None:
        """Send the status, with the number by which the agent tells this process's commits from others'.

        The agent gives no namespace before it knows that number.
        """
        self._told = time.monotonic()
        send_status(self._link, {**self._recorder.status.as_json(), PROCESS: self._number})

    def end(self, *_: object) -> None:
        """End the process with its next round; a handler of signals."""
        self._is_ending = True

    def _is_over(self) -> bool:
        """Return whether somebody has asked this process to end, or the agent has ended."""
        poll = select.poll()
        poll.register(self._link, select.POLLRDHUP)
        return self._is_ending or bool(poll.poll(0))

    def _obey(self) -> None:
        """Do what the agent has ordered since the last call."""
        for orders in receive_orders(self._link):
            if orders is None:
                self._is_ending = True
                return
            for cookie, counters in orders.removed:
                self._recorder.note_removed(cookie, counters)
            state = self._received.state(orders)
            if state is not None and orders.options is not None:
                self._recorder.set_state(state, orders.options)
            if orders.places is not None:
                self._recorder.set_places(orders.places)


def take_descriptors() -> None:
    """Raise the limit of open files as far as allowed: each namespace takes five."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def give_way() -> None:
    """Run only when nobody else wants to. A sandbox may forbid it; that is no error."""
    with suppress(OSError):
        os.nice(NICE)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(VICTIM)


def main() -> None:
    """Record until the other end of stdin closes, or a signal ends it."""
    give_way()
    take_descriptors()
    path, keep_s, max_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with socket.socket(fileno=0) as link:
        link.setblocking(False)
        process = Process(link, Recorder(path, HistoryLimits(keep_s, max_bytes), boot_id()))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, process.end)
        process.run()


if __name__ == "__main__":
    main()
