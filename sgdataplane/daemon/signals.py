"""Signals as numbers that come from a socket, so that a selector can wait for them.

Owns which signals are read. Must not know what they mean to their reader.
"""

from __future__ import annotations

import signal
import socket

ENDING = (signal.SIGTERM, signal.SIGINT)


def open_signals() -> socket.socket:
    """Return a socket from which the numbers of ENDING and of SIGHUP can be read as these signals come."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in (*ENDING, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reader
