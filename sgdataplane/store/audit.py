"""The audit: who changed what, and when. One record is part of each commit, so there are no gaps.

Owns the shape of a record, and reading them. Must not know what makes them, or how they are shown.

    {"request_id": ..., "key": id of the access key; "" for a command on this host,
     "action": ..., "source": the client's address; "uid:N" for a command on this host,
     "time": seconds since 1970, "changed": [paths of documents],
     "rules": [...] and "more_rules": the rules that it changed, if it changed any (rulechanges.py)}
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from types import MappingProxyType
from typing import cast

from sgdataplane.store.call import Call
from sgdataplane.store.interface import AuditRecord, Body, Json, Path, Store

AT_ONCE = 1_000
NO_RULES: Body = MappingProxyType({})


def record_of(call: Call, changed: Iterable[Path], rules: Body = NO_RULES) -> Body:
    """Return the record of a commit that a call makes. `rules` is what `rule_changes()` returns."""
    return {
        "request_id": call.request_id,
        "key": call.key,
        "action": call.action,
        "source": call.source,
        "time": call.now,
        "changed": [*sorted(changed)],
        **rules,
    }


def local_call(action: str) -> Call:
    """Return what a command on this host does as a call, so that its record is like all others."""
    return Call(action, {}, str(uuid.uuid4()).upper(), key="", source=f"uid:{os.getuid()}", now=time.time())


def read(store: Store, after: int = 0) -> Iterator[dict[str, Json]]:
    """Yield the record of each revision from `after` + 1 on, in order, as programs get it."""
    while records := store.events(after, AT_ONCE):
        yield from map(record_as_json, records)
        after = records[-1].revision


def record_as_json(record: AuditRecord) -> dict[str, Json]:
    """Return the record as programs get it: with its revision, and the time as a text."""
    at = datetime.fromtimestamp(cast(float, record.record.get("time", 0)), UTC)
    text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"revision": record.revision, **record.record, "time": text}
