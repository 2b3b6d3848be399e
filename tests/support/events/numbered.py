"""Two streams of UDP packets from one node of a pair to the other, one that is to pass and one that is not, in turn,
for as long as a block runs; each packet has a number, so that what became of each is known.

Owns the sockets and the thread that sends. Must not know policy, or what happens meanwhile.
"""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from typing import Self

from tests.support.probes.flood import wait_until
from tests.support.scenes.pair import HERE, Pair, bound

SO_RCVBUFFORCE = 33
PAUSE_S = 0.0002


class Numbered:
    """`number`: of the last pair of packets that was sent, the first is 1. `passed`, `leaked`: the numbers that have
    arrived of the one stream and of the other."""

    def __init__(self, pair: Pair, source: str, passing: int, refused: int) -> None:
        """The ports are those of the other end."""
        self._stack = ExitStack()
        target = next(role for role in HERE if role != source)
        self._inboxes = {port: self._stack.enter_context(bound(pair, target, port)) for port in (passing, refused)}
        self._outbox = self._stack.enter_context(bound(pair, source, 0))
        self._targets = [(HERE[target][0], port) for port in (refused, passing)]
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._is_over = threading.Event()
        self.number = 0
        self.passed, self.leaked = set[int](), set[int]()
        self._sets = {passing: self.passed, refused: self.leaked}

    def __enter__(self) -> Self:
        for inbox in self._inboxes.values():
            inbox.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
            inbox.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._stack.close()

    def _send(self) -> None:
        while not self._is_over.wait(PAUSE_S):
            number = self.number + 1
            for target in self._targets:
                with suppress(OSError):  # rules that drop what leaves tell its sender
                    self._outbox.sendto(number.to_bytes(8), target)
            self.number = number

    def arrive(self) -> int:
        """Wait until what is sent from now on arrives, and with it all that was sent before and is to arrive; the
        number from which on it is sent after the call."""
        after = self.number + 2  # the next one may be under way
        for _ in range(2):  # of two ways through the kernel one may be slower
            mark = self.number + 2
            wait_until(lambda: self._has_passed(mark))  # noqa: B023  (called here only)
        return after

    def _has_passed(self, mark: int) -> bool:
        for port, inbox in self._inboxes.items():
            with suppress(BlockingIOError):
                while True:
                    self._sets[port].add(int.from_bytes(inbox.recv(8)))
        return max(self.passed, default=0) >= mark

    def lost(self, first: int, last: int) -> int:
        """How many of these numbers, both ends included, have not passed."""
        return len(set(range(first, last + 1)) - self.passed)
