"""What relay and sync count of what they do: plain numbers, which whoever makes the metrics reads.

Owns the words by which things are counted. Must not know who asks, or in which form. One thread counts; another one may
read at any time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

# Why a stream has ended. closed: by the host, or with its connection.    certificate: it names no host.    unread: the
# host didn't read, or said nothing.
CLOSED, WAS_REVOKED, NO_HOST, NO_MESSAGE = "closed", "revoked", "certificate", "bad message"
OTHER, REPLACED, UNREAD, BUG = "other protocol", "newer stream", "unread", "bug"
ENDS = (CLOSED, WAS_REVOKED, NO_HOST, NO_MESSAGE, OTHER, REPLACED, UNREAD, BUG)
# What a hello was answered with: to a host that had nothing; to one that had something of the same or an older version.
SNAPSHOT, RESUMED = "snapshot", "resumed"
ANSWERS = (SNAPSHOT, RESUMED)
HELLO, REPORT, CHANGE, REFUSED = "hello", "report", "change", "refused"
MESSAGES = (HELLO, REPORT, CHANGE, REFUSED)
# store: it couldn't be read.    summary: it wasn't written.    task: one beside the streams failed, and started again.
OF_STORE, OF_SUMMARY, OF_TASK = "store", "summary", "task"
RELAY_ERRORS = (OF_STORE, OF_SUMMARY, OF_TASK)
# What stops a host. unreachable: no stream could be opened.    ended: by the relay, or with the connection.    bad
# message: the relay sent none of ours.    older: it sent an older version.    publish: a generation wasn't written.
UNREACHABLE, ENDED, OLDER, PUBLISH = "unreachable", "ended", "older", "publish"
SYNC_FAILURES = (UNREACHABLE, ENDED, NO_MESSAGE, OLDER, PUBLISH)


def _none_of(words: Iterable[str]) -> dict[str, int]:
    return dict.fromkeys(words, 0)


@dataclass(slots=True)
class RelayCounts:
    """`ended`, `answers`, `messages`, `errors`: by the words above. `received`, `sent`: bytes of messages. `revisions`:
    read from the store; `snapshots`: taken of it, since it knew no more what came next. `store_read`: when the store
    answered last, in seconds since 1970. `is_name_taken`: another relay is called the same. `is_store_full`: it had no
    space left when the relay wrote last."""

    ended: dict[str, int] = field(default_factory=lambda: _none_of(ENDS))
    answers: dict[str, int] = field(default_factory=lambda: _none_of(ANSWERS))
    messages: dict[str, int] = field(default_factory=lambda: _none_of(MESSAGES))
    errors: dict[str, int] = field(default_factory=lambda: _none_of(RELAY_ERRORS))
    received: int = 0
    sent: int = 0
    revisions: int = 0
    snapshots: int = 0
    store_read: float = field(default_factory=time.time)
    is_name_taken: bool = False
    is_store_full: bool = False

    def note_sent(self, kind: str, text: str) -> None:
        self.messages[kind] += 1
        self.sent += len(text)

    def note_received(self, kind: str, text: str | bytes) -> None:
        self.messages[kind] += 1
        self.received += len(text)


@dataclass(slots=True)
class SyncCounts:
    """`failures`: by the words above. `generations`: written. `is_connected`: a stream is open, and its hello answered;
    `heard`: when such a one ended, or was opened, in seconds since 1970; 0 if there was none. `refused`: claims that
    don't count."""

    failures: dict[str, int] = field(default_factory=lambda: _none_of(SYNC_FAILURES))
    generations: int = 0
    is_connected: bool = False
    heard: float = 0.0
    refused: int = 0

    def note_open(self) -> None:
        self.is_connected, self.heard = True, time.time()

    def note_end(self) -> None:
        """Of a stream, whether a relay has answered in it or not."""
        if self.is_connected:
            self.is_connected, self.heard = False, time.time()

    def last_heard(self) -> float:
        """A stream that is open counts: it ends after 15 s of silence."""
        return time.time() if self.is_connected else self.heard
