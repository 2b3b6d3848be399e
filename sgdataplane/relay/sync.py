"""A host's side: follows one relay of several, writes what comes as generations, and reports what the agent enforces.

Owns when it connects, what it publishes, and what it reports. Must not know how the agent enforces, or what a policy
means. Nothing that a relay sends becomes a file's name: generations have names of ours.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from sgdataplane import __version__
from sgdataplane.errors import EndpointError, HostError, SgDataplaneError, SilentError
from sgdataplane.handover.agentplace import AgentPlace, Enforcement, Status, number_of_cycle
from sgdataplane.handover.publishing import Publisher, files
from sgdataplane.limitedlog import limit_log
from sgdataplane.relay.counts import ENDED, NO_MESSAGE, OLDER, PUBLISH, UNREACHABLE, SyncCounts
from sgdataplane.relay.part import HostPart, OlderError, Receiving
from sgdataplane.relay.tls import HostTls, TlsFiles, end_of
from sgdataplane.relay.wire import (
    LARGEST_FROM_RELAY,
    SHORT_HELLO,
    Ask,
    BadMessageError,
    HostChange,
    Refused,
    Reported,
    read_from_relay,
    spell,
)
from sgdataplane.statefile import Memory, load_native
from sgdataplane.store.history import Version
from sgdataplane.visible import visible

PING_S, PONG_S, CLOSE_S, OPEN_S = 5.0, 8.0, 2.0, 30.0  # silence of 15 s ends a stream
SHORTEST_S, LONGEST_S = 0.1, 10.0  # limits of the pause before it connects again (`wait_s`)
REPORT_S = 10.0  # a report is sent this often, if nothing is new
LOOK_S = 1.0  # until an agent that didn't answer is asked again, and a certificate is looked at
SHORTEST_CYCLE_S = 0.01  # a pause between an answer of the agent and the request for its next cycle
RETRY_S = 5.0  # after which what couldn't be published is tried again
QUEUE = 4

LOGGER = logging.getLogger("sgdataplane.sync")


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Lock a folder, so that this process alone writes generations there while the block runs.

    Raises:
        HostError: Another process has the lock, or the folder can't be made.
    """
    lock = path / ".lock"
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostError(str(lock), error.strerror or str(error)) from error
    try:
        if os.fstat(handle).st_uid != os.geteuid():  # who could hold it for good
            raise HostError(str(lock), f"it belongs to another user; expected user {os.geteuid()}")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise HostError(str(path), "another `sgdp sync` writes there") from None
    finally:
        os.close(handle)


@dataclass
class Folder:
    """The generations of this host. One thread at a time uses it."""

    publisher: Publisher
    published: HostPart = field(default_factory=HostPart)
    """What the current generation has, and the version that it was written for."""
    same_until: Version | None = None
    """The last version for which the current generation is right: later ones changed nothing of it."""
    is_damaged: bool = False
    """Whether the current generation can't be read, or isn't as we would write it, such as one of an earlier program.

    If so, even the same version is written anew.
    """
    generations: int = 0
    """How many generations this process has written."""
    memory: Memory = field(default_factory=Memory)

    @staticmethod
    def open(path: Path) -> Folder:
        """Return the folder with the generation that the last process has left.

        One that can't be read counts as none, but nothing older may follow it.
        """
        publisher = Publisher(path.absolute())
        version = publisher.version()
        if version is None:
            return Folder(publisher)
        try:
            document = _read(publisher.current)
            part = HostPart.of(version, document)
        except (OSError, ValueError, AttributeError, RecursionError, BadMessageError) as error:
            LOGGER.warning("%s can't be used, all is fetched anew: %s", publisher.current, visible(str(error)))
            return Folder(publisher, HostPart(version), version, is_damaged=True)
        return Folder(publisher, part, version, is_damaged=files(part.document()) != files(document))

    def publish(self, part: HostPart, *, may_go_back: bool) -> None:
        """Make a part of the store what the agent reads.

        Raises:
            SgDataplaneError: It can't be published. The generation before stays.
        """
        version, until = part.version, self.same_until
        assert version is not None, "only what a relay has sent is published"
        is_later = until is None or version >= until
        if until is not None and is_later and not self.is_damaged and part.objects == self.published.objects:
            self.same_until = version
            return
        document = part.document()
        load_native(dict(document), profile="unlimited", memory=self.memory)
        self.publisher.publish(version, document, always=may_go_back or self.is_damaged)
        self.published, self.same_until, self.is_damaged = part, version, False
        self.generations += 1


def _read(folder: Path) -> dict[str, object]:
    """Return the document that a generation's files make together."""
    document: dict[str, object] = {}
    for file in sorted(folder.iterdir()):
        for section, found in json.loads(file.read_bytes()).items():
            known = document.setdefault(section, found)
            if known is not found and isinstance(known, list):
                known.extend(found)
    return document


def wait_s(attempts: int) -> float:
    """Return the seconds to wait before the next attempt, after this many.

    It is a random time below a limit that doubles with each attempt ("full jitter"). So hosts that lost a relay at one
    moment don't come back at one moment. Chance needn't be secret for that.
    """
    return random.uniform(0, min(LONGEST_S, SHORTEST_S * 2 ** min(attempts, 10)))


class HostSync:
    """The sync of one host with its relays. Call `run` once, in one event loop.

    `relays` are URLs, which are tried in turn. `place` asks the agent what is in force. With `may_go_back`, an operator
    has allowed that the first change may be older than what is here.
    """

    def __init__(
        self,
        relays: Sequence[str],
        tls: HostTls,
        folder: Folder,
        place: AgentPlace,
        *,
        may_go_back: bool = False,
    ) -> None:
        self._relays, self._tls, self._folder, self._place = relays, tls, folder, place
        self._may_go_back = may_go_back  # whether the next change may be older than what is here
        self._has_gone_back = False  # whether what was received is older than what is published, as was allowed
        self.part = folder.published  # what was received; it is published a moment later
        self.report, self.counts = Reported(), SyncCounts()
        self._trouble_log = limit_log(LOGGER)
        self._enforced: Version | None = None
        self._status: Status | SilentError | None = None  # what the agent said last
        self._error = ""  # why what has arrived isn't published
        self._arrived, self._reported = asyncio.Event(), asyncio.Event()
        self._attempts = 0

    async def run(self) -> NoReturn:
        """Follow the relays and publish what they send, until this is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._publish_all())
            tasks.create_task(self._hear_agent())
        raise AssertionError("all go on for ever")

    @property
    def written(self) -> Version | None:
        """The last version for which the current generation is right."""
        return self._folder.same_until

    # the relay

    async def _follow(self) -> NoReturn:
        turn = 0
        while True:
            url = self._relays[turn % len(self._relays)]
            begun = time.monotonic()
            try:
                await self._stream(url)
            except (BadMessageError, OlderError, EndpointError, WebSocketException, OSError, EOFError) as error:
                self.counts.failures[_classify_error(error, was_open=self.counts.is_connected)] += 1
                told = visible(f"{url}: {_describe_end(error)}")
                self._trouble_log.write(url, f"no stream from the relay, all stays as it is: {told}")
            finally:
                self.counts.note_end()
            turn += 1
            self._attempts = 1 if time.monotonic() - begun > LONGEST_S else self._attempts + 1
            await asyncio.sleep(wait_s(self._attempts))

    async def _stream(self, url: str) -> None:
        """Follow one relay until the stream ends, and raise the error that ended it."""
        async with connect(
            url,
            ssl=self._tls.context(),
            proxy=None,
            compression=None,
            open_timeout=OPEN_S,
            ping_interval=PING_S,
            ping_timeout=PONG_S,
            close_timeout=CLOSE_S,
            max_size=LARGEST_FROM_RELAY,
            max_queue=QUEUE,
            user_agent_header=None,
            subprotocols=[Subprotocol(SHORT_HELLO)],
        ) as socket:
            beside = [asyncio.create_task(self._watch_certificate(socket))]
            try:
                answer = await self._greet(socket)
                beside.append(asyncio.create_task(self._send_reports(socket)))
                await self._receive(socket, answer)
            except (BadMessageError, OlderError) as error:
                await self._say_why(socket, str(error))
                raise
            finally:
                for task in beside:
                    task.cancel()

    async def _greet(self, socket: ClientConnection) -> str | bytes:
        """Say hello, and again with all digests if the relay asks for them. Return the first message of its answer."""
        await socket.send(spell(self.part.hello(__version__, is_short=socket.subprotocol == SHORT_HELLO)))
        answer = await socket.recv()
        if not isinstance(read_from_relay(answer), Ask):
            return answer
        await socket.send(spell(self.part.hello(__version__)))
        return await socket.recv()

    async def _watch_certificate(self, socket: ClientConnection) -> None:
        """End the stream once the relay's certificate has ended, or may have been revoked."""
        ends = end_of(socket.transport.get_extra_info("ssl_object").getpeercert())
        while time.time() < ends and not self._tls.is_replaced:
            await asyncio.sleep(LOOK_S)
        has_ended = time.time() >= ends
        why = "the relay's certificate has ended" if has_ended else "another list of revoked certificates is there"
        await socket.close(CloseCode.GOING_AWAY, why)

    async def _say_why(self, socket: ClientConnection, why: str) -> None:
        """Send a stream's last report, with the reason why it is ended here. Later reports don't repeat the reason."""
        with suppress(ConnectionClosed):
            await socket.send(spell(replace(self.report, error=why)))

    async def _receive(self, socket: ClientConnection, text: str | bytes) -> NoReturn:
        """Take what a relay sends. `text` is the first message."""
        receiving = Receiving(self.part, may_go_back=self._may_go_back)
        while True:
            message = read_from_relay(text)
            if isinstance(message, Ask):
                raise BadMessageError("a relay asks once, before it sends anything else")
            if not self.counts.is_connected:
                self.counts.note_open()
            if isinstance(message, Refused):
                self._note_refused(message.enis)
            elif self._take(receiving, message, len(text)):
                self._arrived.set()
            text = await socket.recv()

    def _take(self, receiving: Receiving, change: HostChange, characters: int) -> bool:
        before = self.part.version
        if not receiving.take(change, characters):
            return False
        self.part, self._may_go_back = receiving.part, False
        self._has_gone_back |= before is not None and change.version < before
        return True

    async def _send_reports(self, socket: ClientConnection) -> None:
        try:
            while True:
                self._reported.clear()
                await socket.send(spell(self.report))
                try:
                    async with asyncio.timeout(REPORT_S):
                        await self._reported.wait()
                except TimeoutError:
                    pass
        except ConnectionClosed:
            pass  # the stream's end says why

    def _note_refused(self, enis: Mapping[str, str]) -> None:
        self.counts.refused = len(enis)
        if not enis:
            self._trouble_log.forget("refused")
            return
        told = "; ".join(f"{eni}: {why}" for eni, why in enis.items())
        self._trouble_log.write("refused", f"attached here, but not this host's: {told}")

    # the agent

    async def _publish_all(self) -> NoReturn:
        """Publish what arrives, and try again what couldn't be published."""
        while True:
            try:
                async with asyncio.timeout(RETRY_S if self._error else None):
                    await self._arrived.wait()
            except TimeoutError:
                pass
            self._arrived.clear()
            self._error = await self._publish()
            self._note_report()

    async def _publish(self) -> str:
        """Publish the part that was received. Return why that failed; "" if it didn't."""
        part, has_gone_back = self.part, self._has_gone_back
        if part.version is None:
            return ""
        try:
            await asyncio.to_thread(self._folder.publish, part, may_go_back=has_gone_back)
        except SgDataplaneError as error:
            self.counts.failures[PUBLISH] += 1
            self._trouble_log.write("published", f"{part.version} isn't published: {error}")
            return str(error)
        self._trouble_log.forget("published")
        self._has_gone_back, self.counts.generations = False, self._folder.generations
        return ""

    async def _hear_agent(self) -> NoReturn:
        """Ask the agent for its status after each of its cycles, and note the answers."""
        cycle = 0
        while True:
            try:
                self._status = await self._place.hear(cycle)
                cycle = number_of_cycle(self._status)
                pause = SHORTEST_CYCLE_S
            except SilentError as error:
                self._status, cycle, pause = error, 0, LOOK_S
            self._note_report()
            await asyncio.sleep(pause)

    def _note_report(self) -> None:
        """Make the report of what the agent said last, for what is published now."""
        found = self._judge_agent()
        if found.is_enforced and not self._folder.is_damaged:
            self._enforced = self._folder.same_until
        report = Reported(self._enforced, found.failed, self._error or found.error, found.attached)
        if report != replace(self.report, trials=()):
            self._reported.set()
        self.report = replace(report, trials=found.trials)  # counts are no news: they go with the next report

    def _judge_agent(self) -> Enforcement:
        """Return what of the current generation is in force by the agent's last status.

        If the agent couldn't be asked, the error says why.
        """
        if self._status is None:
            return Enforcement()
        if isinstance(self._status, SilentError):
            return Enforcement(error=f"no agent: {self._status}")
        try:
            return self._place.judge(self._status, self._folder.published.version or Version(0, 0))
        except HostError as error:
            return Enforcement(error=str(error))


def run_sync(  # noqa: PLR0913  # what the command line says
    relays: Sequence[str],
    tls: TlsFiles,
    folder: Path,
    socket: Path,
    *,
    may_go_back: bool,
    ready: Callable[[str], None],
    beside: Callable[[HostSync], Coroutine[None, None, None]],
) -> None:
    """Follow relays until SIGTERM or Ctrl-C. A publication that has begun is finished.

    Args:
        relays: URLs, which are tried in turn.
        tls: This host's certificate and the authority of the relays'.
        folder: Where generations are written.
        socket: The agent's control socket.
        may_go_back: Whether the first change may be older than what is here.
        ready: Called once, with a line that says what is here.
        beside: Makes a coroutine that runs as long as the sync does.

    Raises:
        EndpointError: The TLS files can't be used.
        HostError: The folder can't be used, or another process writes it.
    """
    checked = HostTls(tls)

    async def follow(opened: Folder) -> None:
        sync = HostSync(relays, checked, opened, AgentPlace(opened.publisher, socket), may_go_back=may_go_back)
        task, other = asyncio.create_task(sync.run()), asyncio.create_task(beside(sync))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        ready(f"{opened.publisher.current} has {opened.published.version or 'nothing yet'}")
        with suppress(asyncio.CancelledError):
            await task
        other.cancel()

    with lock_folder(folder):
        asyncio.run(follow(Folder.open(folder)))


def _classify_error(error: Exception, *, was_open: bool) -> str:
    """Return the word by which a failure is counted."""
    if isinstance(error, OlderError):
        return OLDER
    if isinstance(error, BadMessageError):
        return NO_MESSAGE
    return ENDED if was_open else UNREACHABLE


def _describe_end(error: Exception) -> str:
    """Return why a stream has ended, for people."""
    if isinstance(error, ConnectionClosed):
        end, ours = error.rcvd, error.sent
        if end is not None and error.rcvd_then_sent is not False:
            return f"the relay has ended it: {end.reason or 'without a reason'} ({end.code})"
        if ours is not None and ours.code == CloseCode.INTERNAL_ERROR:
            return "the relay has said nothing for 15 s"
        return f"it was ended here: {ours.reason} ({ours.code})" if ours is not None else "the connection was lost"
    if isinstance(error, TimeoutError):
        return "the relay doesn't answer"
    return str(error) or type(error).__name__
