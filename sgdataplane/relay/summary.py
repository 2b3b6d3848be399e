"""What a relay says of its hosts, in the store and outside its revisions: who is there, and what is in force where.

Owns the form of a summary, and when one is written. Must not know who reads it.

    {"time": seconds since 1970, "epoch", "seen": the last revision that the relay has seen, "hosts": {host: of it}}
    of a host: {"connected": bool, "since": seconds since 1970, "enforced": [epoch, revision] or null,
                "needed": the last revision that may concern it, "failed": [{"eni", "why"}], "error": text,
                "age": seconds since its last report or null, "claims": [ENIs attached there that aren't its own yet]}
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import NoReturn

from sgdataplane.control.documents import Documents, Fields, ResourceKind, about
from sgdataplane.control.hosts import FIELD
from sgdataplane.control.store import Json, Store, StoreError
from sgdataplane.errors import LimitError
from sgdataplane.relay.held import give_back
from sgdataplane.relay.server import Relay
from sgdataplane.relay.streams import Stream

EACH_S, AT_LEAST_S = 1.0, 5.0  # if something is new; if nothing is
MOST_FAILED, MOST_CLAIMS = 20, 1_000  # of one host: a summary must fit into the store
MANY_ENDED = 100  # streams, whose memory is worth the time to take it back
AGELESS = ("time", "age")

LOGGER = logging.getLogger("sgdataplane.relay")


@dataclass
class Summarizing:
    """Writes them. `name`: of the relay."""

    store: Store
    relay: Relay
    name: str

    async def run(self) -> NoReturn:
        """Until it is cancelled."""
        said: object = None
        at, trouble = 0.0, ""
        while True:
            body = summary_of(self.relay, time.time())
            if (new := _ageless(body)) != said or time.monotonic() - at > AT_LEAST_S:
                try:
                    await asyncio.to_thread(self.store.put_summary, self.name, body)
                except (StoreError, LimitError) as error:
                    if str(error) != trouble:
                        LOGGER.warning("nobody hears how the hosts are: %s", error)
                    trouble = str(error)
                else:
                    said, at, trouble = new, time.monotonic(), ""
            if self.relay.ended >= MANY_ENDED:
                self.relay.ended = 0
                give_back()
            await asyncio.sleep(EACH_S)


def summary_of(relay: Relay, now: float) -> Fields:
    hosts: Fields = {name: _left(stream, now) for name, stream in relay.left.items()}
    hosts |= {name: _described(stream, relay.documents, now) for name, stream in relay.streams.items()}
    version = relay.documents.version
    return {"time": now, "epoch": version.epoch, "seen": version.revision, "hosts": hosts}


def _described(stream: Stream, documents: Documents, now: float) -> Fields:
    report = stream.report
    failed: list[Json] = [{"eni": eni, "why": why} for eni, why in report.failed[:MOST_FAILED]] if report else []
    enforced = report.enforced if report else None
    return {
        "connected": True,
        "since": stream.since,
        "enforced": None if enforced is None else [enforced.epoch, enforced.revision],
        "needed": stream.needed,
        "failed": failed,
        "error": report.error if report else "",
        "age": None if report is None else round(now - stream.heard, 1),
        "claims": _new_claims(stream, documents),
    }


def _left(stream: Stream, now: float) -> Fields:
    """Of a host whose stream has ended: what it said last."""
    return {**_described(stream, Documents(), now), "connected": False, "claims": []}


def _new_claims(stream: Stream, documents: Documents) -> list[Json]:
    """Those that nobody has yet: of others the host hears itself."""
    enis = documents.of_kind[ResourceKind.ENI]
    claims = stream.report.claims if stream.report else ()
    new = [eni for eni in claims if (body := enis.get(eni)) is not None and not about(body).get(FIELD)]
    return [*new[:MOST_CLAIMS]]


def _ageless(value: object) -> object:
    """Without what changes by itself."""
    if not isinstance(value, dict):
        return value
    return {key: _ageless(inner) for key, inner in value.items() if key not in AGELESS}
