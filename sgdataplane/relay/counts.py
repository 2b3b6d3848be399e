"""What relay and sync count of their work: plain numbers, from which the metrics are made.

Owns the words by which things are counted. Must not know who reads them, or in which form. One thread counts; another
one may read at any time.
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
HELLO, REPORT, CHANGE, ASK, REFUSED = "hello", "report", "change", "ask", "refused"
MESSAGES = (HELLO, REPORT, CHANGE, ASK, REFUSED)
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
    """The counts of one relay since it started. The dicts count by the words above."""

    ended: dict[str, int] = field(default_factory=lambda: _none_of(ENDS))
    """Streams that have ended, by reason."""
    answers: dict[str, int] = field(default_factory=lambda: _none_of(ANSWERS))
    """Answers to `hello`, by kind."""
    messages: dict[str, int] = field(default_factory=lambda: _none_of(MESSAGES))
    """Messages in both directions, by kind."""
    errors: dict[str, int] = field(default_factory=lambda: _none_of(RELAY_ERRORS))
    """Failures beside the streams, by what failed."""
    received: int = 0
    """Bytes of messages from hosts."""
    sent: int = 0
    """Bytes of messages to hosts."""
    revisions: int = 0
    """Revisions that were read from the store."""
    snapshots: int = 0
    """Snapshots of the store, taken when the relay had missed revisions."""
    store_read: float = field(default_factory=time.time)
    """When the store answered last, in seconds since 1970."""
    is_name_taken: bool = False
    """Whether another relay has the same name."""
    is_store_full: bool = False
    """Whether the store had no space left when the relay wrote last."""

    def note_sent(self, kind: str, text: str) -> None:
        """Count a message to a host."""
        self.messages[kind] += 1
        self.sent += len(text)

    def note_received(self, kind: str, text: str | bytes) -> None:
        """Count a message from a host."""
        self.messages[kind] += 1
        self.received += len(text)


@dataclass(slots=True)
class SyncCounts:
    """The counts of one host's sync since it started."""

    failures: dict[str, int] = field(default_factory=lambda: _none_of(SYNC_FAILURES))
    """Failures of streams and generations, by the words above."""
    generations: int = 0
    """Generations that were written."""
    is_connected: bool = False
    """Whether a stream is open and its hello answered."""
    heard: float = 0.0
    """When such a stream was opened or ended, in seconds since 1970; 0 if there was none."""
    refused: int = 0
    """Claims of this host that don't count."""

    def note_open(self) -> None:
        """Note that a relay has answered, so that the stream counts as connected."""
        self.is_connected, self.heard = True, time.time()

    def note_end(self) -> None:
        """Note that a stream has ended, whether a relay had answered in it or not."""
        if self.is_connected:
            self.is_connected, self.heard = False, time.time()

    def last_heard(self) -> float:
        """Return when a relay was last heard, in seconds since 1970; 0.0 if never.

        An open stream counts as heard now, because it ends after 15 s of silence.
        """
        return time.time() if self.is_connected else self.heard
