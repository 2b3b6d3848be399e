"""The process's memory: how little of it the C library keeps that nobody uses.

Owns what glibc is asked for. Does nothing where there is another C library.
"""

from __future__ import annotations

import ctypes
import gc

M_ARENA_MAX = -8  # of malloc.h


def use_one_heap() -> None:
    """Before there are threads, each of which would get a heap of its own and keep what it ever needed. gRPC's have
    some 10 MB together."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Memory that isn't used any more: a third of all after the documents were read, or many streams have ended. The
    collector and the C library would keep it for long. It takes some 20 ms."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
