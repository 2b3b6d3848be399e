"""The streams of a relay's hosts: what each has got, what it may have to hear of, and what it has reported.

Owns what is sent to whom, and in which order. Its input is documents and open sockets. Must not know stores.

A stream has no queue. It notes which paths may have changed for its host, and sends the newest objects of these paths
when their turn comes. So a host that reads slowly skips what lies between, and costs no memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from sgdataplane.relay.closure import Closures
from sgdataplane.relay.counts import CHANGE, CLOSED, REFUSED, RESUMED, SNAPSHOT, RelayCounts
from sgdataplane.relay.sent import ResumePoint, ResumePoints, Sent, by_hash
from sgdataplane.relay.spill import SpillFile
from sgdataplane.relay.tls import Peer
from sgdataplane.relay.wire import (
    Hello,
    Refused,
    Reported,
    canonical,
    digest_in,
    digest_of_all,
    spell,
    split_change,
)
from sgdataplane.store.documents import Documents, Fields, ResourceKind
from sgdataplane.store.history import Version
from sgdataplane.store.hosts import host_of
from sgdataplane.store.interface import Path

LONGEST_REASON = 120  # bytes that WebSocket has for the reason of an end
REPORT_S = 0.05  # between two reports of a host; those that it sends faster wait in its own socket
HEX = 32  # characters of a digest
CLAIMS_S = 1.0  # how often a host's claims are looked at
FRAGMENT = 1 << 11  # characters of a message that are given to TLS at once
SEND_S = 15.0  # in which a host must take what is sent to it


@dataclass(frozen=True, slots=True)
class PackedHello:
    """A hello that waits for its turn. It takes a third of what one with a dict takes: all hosts may wait at once."""

    version: str
    have: Version | None
    paths: str  # a line each, in the order of `digests`
    digests: str  # one after the other
    digest: str  # of all objects; "" if there are digests

    @staticmethod
    def of(hello: Hello) -> PackedHello:
        """Pack a hello that was checked: no path has a line's end, and all digests have the same length."""
        paths, digests = "\n".join(hello.digests), "".join(hello.digests.values())
        return PackedHello(hello.version, hello.have, paths, digests, hello.digest)

    def unpack(self) -> Hello:
        """Return the hello as it came."""
        paths = self.paths.split("\n") if self.paths else []
        found = {path: self.digests[at * HEX : (at + 1) * HEX] for at, path in enumerate(paths)}
        return Hello(self.version, self.have, found, self.digest)


class FirstChange(NamedTuple):
    """The answer to `hello`."""

    messages: Iterator[str]
    has_news: bool  # whether the host gets or loses anything


@dataclass(eq=False)
class Stream:
    """The stream of one host."""

    host: str
    socket: ServerConnection
    counts: RelayCounts = field(default_factory=RelayCounts)
    since: float = field(default_factory=time.time)
    """When it was opened, in seconds since 1970."""
    sent: Sent = field(default_factory=Sent)
    """What the host has."""
    version: Version | None = None
    """The version that was sent last; None before the first answer."""
    needed: int = 0
    """The last revision that may concern the host."""
    pending: set[Path] = field(default_factory=set)
    """The paths that the host may have to hear of."""
    must_hear: bool = False
    """Whether the host must get a message even if nothing of it has changed."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something is pending."""
    report: Reported | None = None
    """The host's last one."""
    report_before: Reported | None = None
    """The last one of the host's stream before, until it has reported in this one."""
    heard: float = 0.0
    """When `report` came, in seconds since 1970."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """The claims that the host was told don't count, and why."""
    why_ended: str = CLOSED
    """One of `ENDS`."""
    peer: Peer | None = None
    """Whose certificate opened the stream."""
    claims_asked: tuple[tuple[str, ...], Version] | None = None
    """Which claims were checked last, and with which documents."""
    claims_asked_at: float = float("-inf")
    """When that was (monotonic)."""

    @property
    def has_answered(self) -> bool:
        """Whether the host has said that it enforces the last revision that may concern it, or what fails."""
        report, version = self.report, self.version
        if report is None or version is None:
            return False
        is_enforced = report.enforced is not None and report.enforced >= Version(version.epoch, self.needed)
        return is_enforced or bool(report.failed or report.error)

    def note(self, paths: Iterable[Path], revision: int, *, must_hear: bool = False) -> None:
        """Note paths whose objects may be different now, and wake the task that sends them."""
        self.pending.update(paths)
        self.needed = revision
        self.must_hear |= must_hear
        self.news.set()

    def resume(
        self, hello: PackedHello, points: ResumePoints, closures: Closures, version: Version
    ) -> Iterator[str] | None:
        """Return the first change to a host that has what its last stream has sent; None if it hasn't.

        If an error ends this, what the host has missed is still pending.
        """
        point = points.find(self.host, hello.digest)
        if point is None:
            return None
        points.forget(self.host)
        self._begin(hello.have, point.sent, version)
        self.pending.update(point.missed)
        self.must_hear = True
        return self.take_changes(closures, version)

    def answer(self, hello: Hello, closures: Closures, points: ResumePoints, version: Version) -> FirstChange | None:
        """Return the first change: how what the host gets differs from what it has.

        It is None if the hello is short and the host hasn't all: then nobody knows what it has.
        """
        digests, texts = closures.digests(self.host)
        if hello.digest and hello.digest != digest_of_all(digests.values()):
            return None
        points.forget(self.host)
        self._begin(hello.have, Sent.of(by_hash(digests), closures.file), version)
        if hello.digest:
            return FirstChange(split_change(iter(()), version, ()), has_news=False)
        puts = sorted(path for path, digest in digests.items() if hello.digests.get(path) != digest.hex())
        deletes = tuple(sorted(hello.digests.keys() - digests.keys()))
        unspelt = closures.some(self.host, [path for path in puts if path not in texts])
        texts = {**texts, **{path: canonical(fields) for path, fields in unspelt.items() if fields is not None}}
        return FirstChange(
            split_change(((path, texts[path]) for path in puts), version, deletes), has_news=bool(puts or deletes)
        )

    def _begin(self, have: Version | None, sent: Sent, version: Version) -> None:
        """Note what the host has once it has the first change. `have` is the version that it had before."""
        self.sent, self.version, self.needed = sent, version, version.revision
        self.counts.answers[RESUMED if have else SNAPSHOT] += 1
        self.pending.clear()

    def take_changes(self, closures: Closures, version: Version) -> Iterator[str]:
        """Return the messages that tell the host of all that is pending; none if it has that as it is."""
        found = closures.some(self.host, self.pending) if self.pending else {}
        messages = self.differences(found, version, closures.file)
        self.pending.clear()
        return messages

    def resume_point(self) -> ResumePoint | None:
        """Return where the next stream of the host goes on; None before the first answer."""
        return ResumePoint(self.sent, frozenset(self.pending)) if self.version is not None else None

    def differences(self, found: Mapping[Path, Fields | None], version: Version, file: SpillFile) -> Iterator[str]:
        """Return the messages that tell the host of these objects; none if it has all of them as they are.

        An object that is None is one that the host doesn't get (any more). What the host has then is kept in `file`.
        """
        texts: dict[Path, str] = {}
        deletes, sent = [], self.sent.by_path() if found else {}
        for path, fields in found.items():
            if fields is None:
                if sent.pop(hash(path), None) is not None:
                    deletes.append(path)
                continue
            text = canonical(fields)
            digest = digest_in(text)
            if sent.get(hash(path)) != digest:
                sent[hash(path)] = digest
                texts[path] = text
        if texts or deletes:
            self.sent = Sent.of(sent, file)
        elif not self.must_hear:
            return iter(())
        self.version, self.must_hear = version, False
        return split_change(iter(texts.items()), version, tuple(sorted(deletes)))

    async def send(self, messages: Iterable[str], kind: str = CHANGE) -> None:
        """Send messages, each within `SEND_S`.

        Raises:
            ConnectionClosed: The stream has ended.
            TimeoutError: The host doesn't read.
        """
        for text in messages:
            self.counts.note_sent(kind, text)
            async with asyncio.timeout(SEND_S):
                await self.socket.send(text if len(text) <= FRAGMENT else fragments(text))

    async def end(self, code: int, reason: str) -> None:
        """Close the stream with a code and a reason. A stream that has ended already stays as it is."""
        with suppress(ConnectionClosed):
            await self.socket.close(code, reason.encode()[:LONGEST_REASON].decode(errors="ignore"))


@dataclass(frozen=True, slots=True)
class Left:
    """What remains of a stream that has ended: the host's last report, without any socket."""

    at: float  # when the stream ended, in seconds since 1970
    since: float  # what `Stream.since` was
    needed: int  # what `Stream.needed` was
    report: Reported  # what `Stream.report` was
    heard: float  # what `Stream.heard` was


def fragments(text: str) -> Iterator[str]:
    """Return a message in pieces.

    TLS keeps for each stream as much memory as the largest piece that it was ever given.
    """
    return (text[start : start + FRAGMENT] for start in range(0, len(text), FRAGMENT))


async def send_changes(stream: Stream, closures: Closures, documents: Documents) -> None:
    """Send all changes that were noted since the last call.

    Raises:
        ConnectionClosed: The stream has ended.
        TimeoutError: The host doesn't read.
    """
    if not (stream.pending or stream.must_hear):  # it was woken because of its claims
        return
    before = stream.version
    messages = stream.take_changes(closures, documents.version)
    if stream.version is before and before is not None:  # nothing is different after all
        stream.needed = before.revision
    await stream.send(messages)


def refusals(stream: Stream, documents: Documents) -> dict[str, str]:
    """Return the ENIs that a host claims and can't have, each with the reason."""
    found = {}
    for eni in stream.report.claims if stream.report else ():
        body = documents.of_kind[ResourceKind.ENI].get(eni)
        if body is None:
            found[eni] = "the store has no such ENI"
        elif host_of(documents, body) not in (None, stream.host):
            found[eni] = "another host has this ENI: detach it there first"
    return found


async def send_refusals(stream: Stream, documents: Documents) -> None:
    """Send the host which of its claims don't count, if that has changed.

    Each claim costs a look at a document. So a host's claims are checked at most once in `CLAIMS_S`, however often it
    reports, and not at all if neither the claims nor the documents have changed.

    Raises:
        ConnectionClosed: The stream has ended.
        TimeoutError: The host doesn't read.
    """
    asked = stream.report.claims if stream.report else (), documents.version
    if asked == stream.claims_asked:
        return
    if (wait_s := stream.claims_asked_at + CLAIMS_S - time.monotonic()) > 0:
        asyncio.get_running_loop().call_later(wait_s, stream.news.set)
        return
    stream.claims_asked, stream.claims_asked_at = asked, time.monotonic()
    found = refusals(stream, documents)
    if found != stream.refused:
        stream.refused = found
        await stream.send([spell(Refused(found))], REFUSED)
