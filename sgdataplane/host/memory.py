"""The process's memory: makes the C library give back what nobody uses.

Owns the calls to glibc. Does nothing where there is another C library.
"""

from __future__ import annotations

import ctypes
import gc

M_ARENA_MAX = -8  # of malloc.h


def use_one_heap() -> None:
    """Make all threads share one heap. Call it before there are any.

    Otherwise each thread gets a heap of its own, which keeps what the thread ever needed: some 10 MB together for the
    threads of gRPC.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Give unused memory back to the kernel, which takes some 20 ms.

    After the documents were read, or many streams have ended, that is a third of all. Python's collector and the C
    library would keep it for long.
    """
    gc.collect()
    trim_heap()


def trim_heap() -> None:
    """Give back what Python has freed already."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
