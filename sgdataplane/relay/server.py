"""A relay: watches the store once, and sends each of its hosts what that host gets.

Owns the documents, the streams by host, who may have a stream, and what happens when the store or a host goes away.
Must not know what a host gets (closure.py), or how messages are written (wire.py).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Iterator
from typing import Any, cast

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from sgdataplane.limitedlog import limit_log
from sgdataplane.relay.closure import Closures
from sgdataplane.relay.counts import (
    ASK,
    BUG,
    HELLO,
    NO_HOST,
    NO_MESSAGE,
    OTHER,
    REPLACED,
    REPORT,
    UNREAD,
    WAS_REVOKED,
    RelayCounts,
)
from sgdataplane.relay.due import SummaryDue
from sgdataplane.relay.held import HeldDocuments
from sgdataplane.relay.sent import ResumePoints
from sgdataplane.relay.silence import SilenceWatch
from sgdataplane.relay.streams import REPORT_S, Left, PackedHello, Stream, send_changes, send_refusals
from sgdataplane.relay.tls import Peer, peer_in
from sgdataplane.relay.turns import FairTurns, SupersededError
from sgdataplane.relay.wire import (
    BAD_MESSAGE,
    NEWER_STREAM,
    OTHER_PROTOCOL,
    REVOKED,
    Ask,
    BadMessageError,
    Hello,
    OtherProtocolError,
    Reported,
    read_from_host,
    spell,
)
from sgdataplane.store.documents import ResourceKind, kind_of
from sgdataplane.store.hosts import StoredHost
from sgdataplane.store.interface import Revision
from sgdataplane.store.refusals import RefusedCertificates

HELLO_S = 10.0  # in which a host must say hello
BEHIND_S = 5.0  # for which a host waits that has seen a later revision than we
FORGET_S = 600.0  # after which nothing is known any more of a host that has gone
MAX_LEFT = 10_000  # of which something is known
SNAPSHOTS = 200.0  # answers to `hello` in a second
DECIDING = (ResourceKind.HOST, ResourceKind.REFUSAL)  # documents that say who gets a stream

LOGGER = logging.getLogger("sgdataplane.relay")


class Relay:
    """A relay with all its streams, in one event loop.

    It begins with `documents`, and answers at most `snapshots` hellos a second.
    """

    def __init__(self, documents: HeldDocuments, snapshots: float = SNAPSHOTS) -> None:
        self.documents, self.counts = documents, RelayCounts()
        self.closures = Closures(documents, file=documents.file)
        self.streams: dict[str, Stream] = {}
        self.left: dict[str, Left] = {}  # of hosts whose stream has ended, in the order in which they did
        self.ended = 0  # streams, since somebody took their memory back
        self.summary_due = SummaryDue()
        self.silence = SilenceWatch(self._cut_off)
        self._turns, self._resume_points = FairTurns(snapshots), ResumePoints()
        self._trouble_log = limit_log(LOGGER)
        self._ending: set[asyncio.Task[None]] = set()

    # what the store says

    def take(self, documents: HeldDocuments, change: Revision) -> None:
        """Go on to the next revision, and tell the streams that it may concern.

        After an error, no host hears of anything any more: topics and streams may be of two revisions.
        """
        with documents.file.condemn_on_error():
            self._take(documents, change)

    def _take(self, documents: HeldDocuments, change: Revision) -> None:
        before, self.documents = self.documents, documents
        self.counts.revisions += 1
        is_other_epoch = documents.version.epoch != before.version.epoch
        changed = self.closures.step(documents, change)
        for host, paths in changed.items():
            self._resume_points.note(host, paths)
        concerned = {host: paths for host, paths in changed.items() if host in self.streams}
        for host, paths in concerned.items():
            self.streams[host].note(paths, documents.revision)
        self.summary_due.note_revision(concerned)
        if is_other_epoch:
            self._tell_all()
        if any(kind_of(path) in DECIDING for path in (*change.puts, *change.deletes)):
            self._end_revoked()

    def restart(self, documents: HeldDocuments, change: Revision) -> None:
        """Go on from a snapshot. Each host hears of the new revision, and of what is different for it."""
        with documents.file.condemn_on_error():
            self._take(documents, change)
            self.counts.snapshots += 1
            self._tell_all()

    def _tell_all(self) -> None:
        for stream in self.streams.values():
            stream.note((), self.documents.revision, must_hear=True)

    def _end_revoked(self) -> None:
        for stream in list(self.streams.values()):
            if stream.peer and (why := self.refusal(stream.peer)):
                self._end(stream, REVOKED, why, WAS_REVOKED)

    def end_expired(self, now: float) -> None:
        """End the streams whose certificate has ended. `now` is in seconds since 1970."""
        for stream in list(self.streams.values()):
            if stream.peer and stream.peer.ends <= now:
                self._end(stream, REVOKED, "the certificate has ended", NO_HOST)

    def refusal(self, peer: Peer) -> str:
        """Return why a host gets no stream; "" if it does."""
        of_kind = self.documents.of_kind
        body = of_kind[ResourceKind.HOST].get(peer.host)
        if body is None:
            return f"the host {peer.host} isn't known here: run `sgdp hosts add {peer.host}`"
        host = StoredHost.of(peer.host, body)
        if host.is_revoked:
            return f"the host {peer.host} is revoked"
        refusal = RefusedCertificates.of(peer.host, of_kind[ResourceKind.REFUSAL].get(peer.host))
        return refusal.refuse(host.refused_serials).why(peer.serial, peer.issued)

    # streams

    async def serve(self, socket: ServerConnection) -> None:
        """Serve one stream until it ends."""
        try:
            peer = peer_in(cast("dict[str, Any]", certificate_of(socket)))
        except ValueError as error:
            self.counts.ended[NO_HOST] += 1
            await Stream("", socket).end(REVOKED, str(error))
            return
        forget_opening(socket)
        stream = Stream(peer.host, socket, self.counts, peer=peer)
        try:
            await self._serve(stream, peer)
        except OtherProtocolError as error:
            stream.why_ended = OTHER
            await stream.end(OTHER_PROTOCOL, str(error))
        except BadMessageError as error:
            stream.why_ended = NO_MESSAGE
            self._trouble_log.write(peer.host, f"{peer.host} has sent an invalid message: {error}")
            await stream.end(BAD_MESSAGE, str(error))
        except (ConnectionClosed, SupersededError):
            pass
        except TimeoutError:
            self._cut_off(stream)
        except Exception:  # a bug of ours; the other streams go on
            stream.why_ended = BUG
            LOGGER.exception("the stream of %s ends", peer.host)
        finally:
            self.ended += 1
            self.summary_due.note_stream(peer.host)
            self.counts.ended[stream.why_ended] += 1
            if self.streams.get(peer.host) is stream:
                del self.streams[peer.host]
                self._keep_resume_point(stream)
                self._note_left(stream)

    async def _serve(self, stream: Stream, peer: Peer) -> None:
        if await self._end_refused(stream, peer):
            return
        hello = await self._hello(stream)
        if await self._end_refused(stream, peer):  # it was revoked before it said hello
            return
        await self._begin(stream, hello)
        sending = asyncio.create_task(self._send(stream))
        try:
            await self._receive(stream)
        finally:
            sending.cancel()

    async def _end_refused(self, stream: Stream, peer: Peer) -> bool:
        """End the stream of a host that gets none. Return whether it is one."""
        if why := self.refusal(peer):
            stream.why_ended = WAS_REVOKED
            await stream.end(REVOKED, why)
        return bool(why)

    async def _begin(self, stream: Stream, hello: PackedHello) -> None:
        """Take up a host's stream, and send what the host hasn't. A hello may be large: it waits packed."""
        if (before := self.streams.get(stream.host)) is not None:
            self._keep_resume_point(before)
            self._end(before, NEWER_STREAM, "the same host has connected anew", REPLACED)
        self.streams[stream.host] = stream
        if (left := self.left.pop(stream.host, None)) is not None:
            stream.report_before = left.report
        self.summary_due.note_stream(stream.host)
        await self._catch_up(hello)
        messages = await self._answer(stream, hello)
        if messages is None:
            await stream.send([spell(Ask())], ASK)
            messages = await self._answer(stream, await self._hello(stream))
        if messages is None:
            raise BadMessageError("the answer to ask is a hello with digests")
        await stream.send(messages)

    async def _answer(self, stream: Stream, hello: PackedHello) -> Iterator[str] | None:
        """Return the first change, once it is the host's turn if the relay must find out what the host gets.

        It is None if the hello doesn't say what the host has, and it hasn't all.
        """
        if self.streams.get(stream.host) is not stream:
            raise SupersededError(stream.host)
        self.documents.file.require_whole()
        messages = stream.resume(hello, self._resume_points, self.closures, self.documents.version)
        if messages is not None:
            return messages
        async with self._turns.turn(self.closures.vpc_of(stream.host), stream.host):
            answer = stream.answer(hello.unpack(), self.closures, self._resume_points, self.documents.version)
            if answer is None or not answer.has_news:
                self._turns.give_back()
        return None if answer is None else answer.messages

    async def _hello(self, stream: Stream) -> PackedHello:
        async with asyncio.timeout(HELLO_S):
            message = read_from_host(text := await stream.socket.recv())
        if not isinstance(message, Hello):
            raise BadMessageError("the first message of a host is hello")
        self.counts.note_received(HELLO, text)
        return PackedHello.of(message)

    async def _catch_up(self, hello: PackedHello) -> None:
        """Give the store's watch a moment if another relay has shown the host a later revision."""
        deadline = time.monotonic() + BEHIND_S
        while hello.have is not None and hello.have.epoch == self.documents.version.epoch:
            if hello.have <= self.documents.version or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)

    async def _send(self, stream: Stream) -> None:
        try:
            while True:
                await stream.news.wait()
                stream.news.clear()
                needed = stream.needed
                await send_changes(stream, self.closures, self.documents)
                if stream.needed != needed:
                    self.summary_due.note_unconcerned(stream.host)
                await send_refusals(stream, self.documents)
        except ConnectionClosed:
            pass
        except TimeoutError:
            self._cut_off(stream)
        except Exception:  # a bug of ours: a stream that goes on in silence would be worse than one that ends
            stream.why_ended = BUG
            LOGGER.exception("the stream of %s ends", stream.host)
            stream.socket.transport.abort()

    def _cut_off(self, stream: Stream) -> None:
        """Cut a connection without a closing message, as the host doesn't read and wouldn't get one."""
        stream.why_ended = UNREAD
        self._trouble_log.write(stream.host, f"{stream.host} doesn't read, or has said nothing: its stream ends")
        stream.socket.transport.abort()

    async def _receive(self, stream: Stream) -> None:
        while True:
            message = read_from_host(text := await stream.socket.recv())
            if not isinstance(message, Reported):
                raise BadMessageError("a host says hello once")
            self.counts.note_received(REPORT, text)
            is_first = stream.report is None
            has_news = message.has_news_since(stream.report_before if is_first else stream.report)
            stream.report, stream.report_before, stream.heard = message, None, time.time()
            if has_news:
                self.summary_due.note_report(stream.host, has_answered=stream.has_answered)
            elif is_first:
                self.summary_due.note_stream(stream.host)
            stream.news.set()  # its claims
            await asyncio.sleep(REPORT_S)

    def _keep_resume_point(self, stream: Stream) -> None:
        if (point := stream.resume_point()) is not None:
            self._resume_points.keep(stream.host, point)

    def _note_left(self, stream: Stream) -> None:
        """Remember for a while what a host said last."""
        now = time.time()
        if stream.report is not None:
            self.left[stream.host] = Left(now, stream.since, stream.needed, stream.report, stream.heard)
        self.forget_left(now)

    def forget_left(self, now: float) -> None:
        """Forget the hosts that have gone long ago, and the oldest of those that are too many."""
        while self.left:
            host, one = next(iter(self.left.items()))
            if len(self.left) <= MAX_LEFT and now - one.at <= FORGET_S:
                break
            del self.left[host]

    def _end(self, stream: Stream, code: int, reason: str, why: str) -> None:
        """End a stream without waiting for it. `why` is the word by which the end is counted."""
        stream.why_ended = why
        task = asyncio.get_running_loop().create_task(stream.end(code, reason))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def certificate_of(socket: ServerConnection) -> dict[str, object]:
    """Return the certificate that a host has shown, as `getpeercert()` describes it."""
    found = socket.transport.get_extra_info("ssl_object")
    assert isinstance(found, ssl.SSLObject), "a relay serves by TLS only"
    return dict(found.getpeercert() or {})


def forget_opening(socket: ServerConnection) -> None:
    """Drop the HTTP request and response that opened a WebSocket. Each stream would keep 2 KB of them."""
    if socket.request is not None:
        socket.request.headers.clear()
    socket.response = None
