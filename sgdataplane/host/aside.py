"""What is done beside the caller, since nobody has to wait for it: letting sockets go.

Owns the threads. Is given calls. Must not know what they do.

A netfilter socket that closes waits until the kernel has freed all that was deleted in its namespace, an RCU grace
period later (nft_rcv_nl_event; some 16 ms), though the new rules are in force long before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache

from sgdataplane.errors import HostError
from sgdataplane.host import netns

MOST_PENDING = 64  # each holds two descriptors and a thread: where commits of others are large, it waits for long

_ROOM = threading.BoundedSemaphore(MOST_PENDING)


def call_aside(call: Callable[[], object]) -> None:
    """Have it called soon, by another thread, and before the process ends. Waits while too many are pending."""
    _ROOM.acquire()
    try:
        _pool().submit(call).add_done_callback(lambda _: _ROOM.release())
    except RuntimeError:  # the process is ending
        _ROOM.release()
        call()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST_PENDING, "aside", initializer=_leave)


def _leave() -> None:
    """A thread begins in the namespace where the caller just is, and would keep it alive."""
    with suppress(HostError):  # without the privilege nobody is elsewhere
        netns.enter_nowhere()


def _forget_pool() -> None:
    """In a child after a fork: the threads are its parent's."""
    global _ROOM  # noqa: PLW0603
    _ROOM = threading.BoundedSemaphore(MOST_PENDING)
    _pool.cache_clear()


os.register_at_fork(after_in_child=_forget_pool)
