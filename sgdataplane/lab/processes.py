"""Ending what still runs in a lab's namespaces before they are removed.

Owns the signals the lab sends. Is given namespaces' names. Must not touch a process outside them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable

from sgdataplane.errors import HostError
from sgdataplane.host import netns

TERM_S, KILL_S = 2.0, 5.0


def end_processes(names: Iterable[str]) -> int:
    """End all processes in these namespaces: asked first, then killed. The number; HostError if one won't go."""
    handles = _open_all(tuple(names))
    try:
        left = _signal_and_wait(handles, signal.SIGTERM, TERM_S)
        left = _signal_and_wait(left, signal.SIGKILL, KILL_S)
        if left:
            raise HostError("processes", f"{len(left)} in the lab's namespaces did not end when killed")
    finally:
        for handle in handles:
            os.close(handle)
    return len(handles)


def _open_all(names: tuple[str, ...]) -> list[int]:
    """Handles that stay with their process even if its number is used again; checked again after opening."""
    opened = {}
    for pid in netns.pids_in(names):
        with contextlib.suppress(ProcessLookupError):
            opened[pid] = os.pidfd_open(pid)
    still = netns.pids_in(names) if opened else ()
    for pid, handle in opened.items():
        if pid not in still:
            os.close(handle)
    return [handle for pid, handle in opened.items() if pid in still]


def _signal_and_wait(handles: list[int], number: signal.Signals, seconds: float) -> list[int]:
    """The handles of those that are still there after that time."""
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
    deadline = time.monotonic() + seconds
    left = list(handles)
    while left and (rest := deadline - time.monotonic()) > 0:
        ended, _, _ = select.select(left, [], [], rest)
        left = [handle for handle in left if handle not in ended]
    return left
