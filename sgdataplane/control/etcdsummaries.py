"""What relays say of their hosts, in etcd: `summary/RELAY`, outside the revisions of the store.

Owns these keys, and that etcd doesn't keep what each of them was before. Must not know what a summary says.

    summary/RELAY       {"until": seconds since 1970, "body": the summary}; nobody reads it after that time

etcd keeps all former values of a key until they are compacted; of one that is put each second, that is soon more than
etcd holds. So this compacts them, but not what somebody may be reading: a snapshot is read at one revision of etcd's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sgdataplane.control import etcdkeys
from sgdataplane.control.etcdclient import Cluster, EtcdError
from sgdataplane.control.etcdkeys import Keys
from sgdataplane.control.etcdmessages import make
from sgdataplane.control.etcdparcels import Parcels
from sgdataplane.control.store import SUMMARY_S, Body
from sgdataplane.errors import LimitError

COMPACT_S = 60.0  # how long etcd keeps what a summary was before, and a bit longer


class Summaries:
    """Those below one store's name. Safe for use by several threads, each with a relay's name of its own."""

    def __init__(self, cluster: Cluster, keys: Keys, clock: Callable[[], float]) -> None:
        self._cluster, self._keys, self._clock = cluster, keys, clock
        self._parcels = Parcels(cluster, keys)
        self._compacted_at, self._revision = time.monotonic(), 0  # etcd's own at that time

    def put(self, relay: str, body: Body) -> None:
        """LimitError if it is larger than etcd takes. ValueError, TypeError if it isn't JSON."""
        now = self._clock()
        value = etcdkeys.packed({"until": now + SUMMARY_S, "body": dict(body)})
        if len(value) > etcdkeys.MOST_BYTES:
            raise LimitError(f"the summary of {relay} (bytes in etcd)", etcdkeys.MOST_BYTES, len(value))
        answer = self._cluster.call(make("PutRequest", key=self._keys.of("summary", relay), value=value))
        if time.monotonic() >= self._compacted_at + COMPACT_S:
            compact(self._cluster, self._revision)
            self._compacted_at, self._revision = time.monotonic(), answer.header.revision

    def all(self) -> dict[str, Body]:
        found: dict[str, Body] = {}
        for pair in self._parcels.folder(0, "summary"):
            said = etcdkeys.read_value(pair.value)
            if said["until"] > self._clock():
                found[self._keys.name_in(pair.key, "summary")] = said["body"]
        return found


def compact(cluster: Cluster, revision: int) -> None:
    """etcd needn't know what was before this revision of its own. Somebody else may have said so already."""
    if revision < 1:
        return
    try:
        cluster.call(make("CompactionRequest", revision=revision))
    except EtcdError as error:
        if error.code != "OUT_OF_RANGE":
            raise
