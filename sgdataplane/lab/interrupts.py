"""Ctrl-C and SIGTERM at a moment when nothing is half done.

Owns the signals' delay. Must not know what is protected.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let them wait until the block is done; then the first that came takes effect. The block's error goes first."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread is interrupted
        yield
        return
    waiting: list[int] = []
    former = {number: signal.signal(number, lambda number, _: waiting.append(number)) for number in HELD}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if waiting:
        signal.raise_signal(waiting[0])
