"""The summaries of relays in etcd: `summary/RELAY`, outside the revisions of the store.

Owns these keys, and that etcd doesn't keep what each of them was before. Must not know what a summary says.

    summary/RELAY       {"until": seconds since 1970, "body": the summary}; nobody reads it after that time

etcd keeps all former values of a key until they are compacted; of one that is put several times a second, that is soon
more than etcd holds. So this compacts them, but not what somebody may be reading: a snapshot is read at one revision of
etcd's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from sgdataplane.errors import LimitError
from sgdataplane.store.encoded import encode
from sgdataplane.store.etcd import keys
from sgdataplane.store.etcd.client import Cluster, EtcdError, WatchNotifier, answers
from sgdataplane.store.etcd.keys import Keys
from sgdataplane.store.etcd.messages import Message, make
from sgdataplane.store.interface import SUMMARY_S, Body, NewSummaries, SummaryMark
from sgdataplane.store.summaries import SummaryReader, compress

A_PAGE = 4  # summaries in one answer of etcd's: each has up to 1.5 MB
IDLE_S = 10.0  # after which nobody waits for summaries any more: etcd sends them to a watch, whoever needs them
COMPACT_S = 60.0  # how long etcd keeps what a summary was before, and a bit longer


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a reading of summaries went."""

    revision: int  # etcd's own
    notices: int  # how often the watch had notified before


class Summaries:
    """The summaries below one store's name.

    Several threads may use it, each with a relay's name of its own.
    """

    def __init__(self, cluster: Cluster, keys: Keys, clock: Callable[[], float]) -> None:
        self._cluster, self._keys, self._clock = cluster, keys, clock
        self._reader = SummaryReader()
        begin, end = keys.folder("summary")
        self.notifier = WatchNotifier(cluster, begin, end, idle_s=IDLE_S)
        self._compacted_at, self._revision = time.monotonic(), 0  # etcd's own at that time

    def put(self, relay: str, body: Body) -> int:
        """Write a relay's summary, and compact former ones now and then. Return how many bytes etcd got.

        Raises:
            LimitError: It is larger than etcd takes.
            ValueError: It isn't JSON.
            TypeError: It isn't JSON.
        """
        now = self._clock()
        value = compress(encode({"until": now + SUMMARY_S, "body": dict(body)}))
        if len(value) > keys.MAX_BYTES:
            raise LimitError(f"the summary of {relay} (bytes in etcd)", keys.MAX_BYTES, len(value))
        answer = self._cluster.call(make("PutRequest", key=self._keys.of("summary", relay), value=value))
        if time.monotonic() >= self._compacted_at + COMPACT_S:
            compact(self._cluster, self._revision)
            self._compacted_at, self._revision = time.monotonic(), answer.header.revision
        return len(value)

    def new(self, mark: SummaryMark = None) -> NewSummaries:
        """Return the last summary of each relay that has put one since. What isn't a summary is skipped.

        A revision that is lower than at the reading before is that of a restored backup, so all are read then.
        """
        before, notices = mark.revision if isinstance(mark, Mark) else 0, self.notifier.notices
        begin, end = self._keys.folder("summary")
        question = make("RangeRequest", key=begin, range_end=end, limit=A_PAGE, min_mod_revision=before + 1)
        found = answers(self._cluster.call, question)
        first = next(found)
        if first.header.revision < before:
            return self.new()
        bodies = self._current(self._reader.read_all(self._values_in(first, found)))
        return NewSummaries(bodies, Mark(first.header.revision, notices))

    def wait(self, mark: SummaryMark, timeout: float) -> None:
        """Return once something may have been put after the reading that gave this mark, in seconds at most."""
        if isinstance(mark, Mark):
            self.notifier.wait(mark.notices, timeout)

    def _values_in(self, first: Message, others: Iterator[Message]) -> Iterator[tuple[str, bytes]]:
        """Yield each relay with its value. Answers after the first one are asked for when their turn comes."""
        for answer in chain((first,), others):
            yield from ((self._relay_of(pair.key), pair.value) for pair in answer.kvs)

    def of(self, relay: str) -> Body | None:
        """Return the last summary of one relay. A relay's role needs to read no other."""
        answer = self._cluster.call(make("RangeRequest", key=self._keys.of("summary", relay)))
        return self._current(self._reader.read_all((relay, pair.value) for pair in answer.kvs)).get(relay)

    def _relay_of(self, key: bytes) -> str:
        return key.decode(errors="replace").removeprefix(f"{self._keys.name}/summary/")

    def _current(self, values: Mapping[str, Body]) -> dict[str, Body]:
        """Return the summaries in these values whose time isn't over."""
        now = self._clock()
        timed = ((relay, value.get("until"), value.get("body")) for relay, value in values.items())
        return {
            relay: body
            for relay, until, body in timed
            if isinstance(until, (int, float)) and until > now and isinstance(body, dict)
        }


def compact(cluster: Cluster, revision: int) -> None:
    """Make etcd forget what was before this revision of its own. Another process may have done so already."""
    if revision < 1:
        return
    try:
        cluster.call(make("CompactionRequest", revision=revision))
    except EtcdError as error:
        if error.code != "OUT_OF_RANGE":
            raise
