"""A relay's summary, in the store but outside its revisions: which hosts are there, and what is in force where.

Owns the form of a summary, and when one is written. Must not know who reads it.

    {"time": seconds since 1970, "process": a text that no other relay has, "epoch", "seen": the last revision that the
     relay has seen, "hosts": {name: host}}
    host: {"connected": bool, "since": seconds since 1970, "enforced": [epoch, revision] or null,
           "needed": the last revision that may concern it, "age": seconds since its last report or null}
    and, unless they are empty: {"failed": [{"eni", "why"}], "error": text, "claims": [ENIs attached there that aren't
           its own yet], "trials": [what trials of groups' rules have seen, as in its report]}
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn, cast

from sgdataplane.errors import LimitError
from sgdataplane.host.memory import give_back
from sgdataplane.relay.counts import OF_SUMMARY
from sgdataplane.relay.server import Relay
from sgdataplane.relay.streams import Left, Stream
from sgdataplane.store.documents import Documents, Fields, ResourceKind, about
from sgdataplane.store.hosts import FIELD
from sgdataplane.store.interface import FullError, Json, Store, StoreError

LOOK_S, AT_LEAST_S = 1.0, 5.0  # until it is looked whether something is new; until a summary is written in any case
# Between two summaries, a relay rests: so many times as long as the last one kept its loop busy, and so long that it
# writes no more than these bytes a second. So one with few hosts says at once what they report.
SHORTEST_S, REST, BYTES_PER_S = 0.02, 9, 1 << 19
# A summary must fit into the store, and its readers take no more (store/summaries.py).
MAX_FAILURES, MAX_CLAIMS, MAX_WHY = 20, 1_000, 500  # of one host; characters
MAX_ALL_FAILURES, MAX_ALL_CLAIMS, MAX_ALL_WHY = 10_000, 100_000, 4 << 20  # of all hosts of a relay
MAX_ALL_LINES = 1_000  # of the trials of all hosts
FIRST_NAME_S, NAME_S = 6.0, 60.0  # after which a relay looks for another one of its name; that one writes each 5 s
MANY_ENDED = 100  # streams, whose memory is worth the time to take it back

LOGGER = logging.getLogger("sgdataplane.relay")


@dataclass
class Summarizing:
    """Writes a relay's summaries."""

    store: Store
    relay: Relay
    name: str
    """The relay's, which no other relay should have."""
    process: str = field(default_factory=lambda: secrets.token_hex(8))
    """Tells this process from another relay of the same name."""
    look_at: float = field(default_factory=lambda: time.monotonic() + FIRST_NAME_S)
    """When to look for another relay of the same name (monotonic)."""
    said_at: float = float("-inf")
    """When the last summary was written (monotonic)."""
    is_behind: bool = True
    """Whether something is new that no summary has."""
    busy_s: float = 0.0
    """For how long the last summary kept the loop busy."""
    troubles: set[type[Exception]] = field(default_factory=set)
    """The kinds of errors that were logged since something was written."""

    async def run(self) -> NoReturn:
        """Write a summary when something is new, and end expired streams, until this is cancelled."""
        is_due = True
        while True:
            self.relay.end_expired(time.time())
            rest_s = await self._say(is_due=is_due)
            if self.relay.ended >= MANY_ENDED:
                self.relay.ended = 0
                give_back()
            await asyncio.sleep(rest_s)
            is_due = await self.relay.summary_due.wait(LOOK_S - rest_s)

    async def _say(self, *, is_due: bool) -> float:
        """Write a summary if it is due and something is new, or none was written for a while. Return how long to rest.

        What is new before a summary is due stays so: it may wait for the answers of hosts.
        """
        self.is_behind |= is_due and self.relay.summary_due.take_news()
        if not self.is_behind and time.monotonic() - self.said_at <= AT_LEAST_S:
            return SHORTEST_S
        began = time.thread_time()
        body = summary_of(self.relay, time.time())
        took_s = time.thread_time() - began
        busy_s = min(took_s, self.busy_s)  # a collection of garbage may fall into one, and takes ten times as long
        self.busy_s = took_s
        self.relay.summary_due.note_cost(busy_s)
        written = await self._try_to_write(body)
        self.is_behind = written is None
        if written is None:
            return LOOK_S
        return min(LOOK_S, max(SHORTEST_S, REST * busy_s, written / BYTES_PER_S))

    async def _try_to_write(self, body: Fields) -> int | None:
        """Write a summary. Return its bytes; None if the store refused it."""
        try:
            written = await self._write(body, is_first=self.said_at == float("-inf"))
        except (StoreError, LimitError) as error:
            self._note_trouble(error)
            return None
        self.said_at = time.monotonic()
        self._note_written()
        return written

    def _note_trouble(self, error: Exception) -> None:
        """Count an error, and log its kind once, because its words may differ each second."""
        self.relay.counts.errors[OF_SUMMARY] += 1
        self.relay.counts.is_store_full = isinstance(error, FullError)
        if type(error) not in self.troubles:
            why = f"the store is full: {error}" if isinstance(error, FullError) else error
            LOGGER.warning("the hosts' reports can't be stored: %s", why)
        self.troubles.add(type(error))

    def _note_written(self) -> None:
        if self.troubles:
            LOGGER.warning("the store can be written again: it has the hosts' reports")
        self.troubles.clear()
        self.relay.counts.is_store_full = False

    async def _write(self, body: Fields, *, is_first: bool) -> int:
        """Write a summary, and now and then look whether another relay has this one's name. Return its bytes."""
        if not is_first and time.monotonic() >= self.look_at:
            self.look_at = time.monotonic() + NAME_S
            self._note_name(await asyncio.to_thread(self._is_name_taken))
        return await asyncio.to_thread(self.store.put_summary, self.name, {**body, "process": self.process})

    def _is_name_taken(self) -> bool:
        """Whether another process has written a summary under this name since we did."""
        found = self.store.summary(self.name)
        return found is not None and found.get("process") != self.process

    def _note_name(self, is_taken: bool) -> None:
        if is_taken and not self.relay.counts.is_name_taken:
            words = "another relay is also called %s, and each of them writes over what the other one says: rename one"
            LOGGER.warning(words, self.name)
        self.relay.counts.is_name_taken = is_taken


class Shares(NamedTuple):
    """How much a summary may hold of each host."""

    failures: int  # the number of ENIs that aren't enforced
    claims: int  # the number of claims
    why: int  # characters of each reason
    lines: int  # of each trial

    @classmethod
    def among(cls, hosts: int, trials: int = 0) -> Shares:
        """Return the share of each of so many hosts, which have so many trials."""
        count = max(1, hosts)
        failures = min(MAX_FAILURES, MAX_ALL_FAILURES // count)
        why = min(MAX_WHY, MAX_ALL_WHY // (count * (failures + 1)))
        return cls(failures, min(MAX_CLAIMS, MAX_ALL_CLAIMS // count), why, MAX_ALL_LINES // max(1, trials))


def summary_of(relay: Relay, now: float) -> Fields:
    """Return a relay's summary of now. Its hosts share what a summary can hold.

    Raises:
        DamagedError: The relay's last step ended in its middle, so it isn't known whom that revision concerns.
    """
    relay.documents.file.require_whole()
    relay.forget_left(now)
    known: list[Stream | Left] = [*relay.left.values(), *relay.streams.values()]
    shares = Shares.among(len(known), sum(len(one.report.trials) for one in known if one.report is not None))
    hosts: Fields = {name: {"connected": False, **_describe_host(one, now, shares)} for name, one in relay.left.items()}
    for name, stream in relay.streams.items():
        claims = _new_claims(stream, relay.documents)[: shares.claims]
        more: Fields = {"claims": claims} if claims else {}
        hosts[name] = {"connected": True, **_describe_host(stream, now, shares), **more}
    version = relay.documents.version
    return {"time": now, "epoch": version.epoch, "seen": version.revision, "hosts": hosts}


def _describe_host(stream: Stream | Left, now: float, shares: Shares) -> Fields:
    """Return what a host said last, as far as its share allows."""
    report = stream.report
    failures = report.failed[: shares.failures] if report else ()
    failed: list[Json] = [{"eni": eni, "why": why[: shares.why]} for eni, why in failures]
    enforced = report.enforced if report else None
    trials: list[Json] = [_cut_trial(trial, shares.lines) for trial in report.trials] if report else []
    more: Fields = {"failed": failed, "error": report.error[: shares.why] if report else "", "trials": trials}
    return {
        "since": round(stream.since, 3),
        "enforced": None if enforced is None else [enforced.epoch, enforced.revision],
        "needed": stream.needed,
        "age": None if report is None else round(now - stream.heard, 1),
        **{name: value for name, value in more.items() if value},
    }


def _cut_trial(trial: Fields, most: int) -> Fields:
    """Return a trial with its first lines, which are those with the most packets."""
    return {**trial, "lines": cast("list[Json]", trial["lines"])[:most]}


def _new_claims(stream: Stream, documents: Documents) -> list[Json]:
    """Return the claims to ENIs that no host has yet. The host itself hears of the others."""
    enis = documents.of_kind[ResourceKind.ENI]
    claims = stream.report.claims if stream.report else ()
    return [eni for eni in claims if (body := enis.get(eni)) is not None and not about(body).get(FIELD)]
