"""Calls to an etcd cluster: which member is asked, how long, and what its refusals mean.

Owns connections, TLS, deadlines, and going on to the next member. Must not know keys, or what is stored.

Every call demands that its member has a leader (`hasleader`): one on the minority side of a partition refuses at once
instead of being silent. A call that brings no answer is sent again, to the next member; so a call that writes must be
made such that twice is the same as once.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc

from sgdataplane.errors import HostError
from sgdataplane.store.etcd.access import EtcdAccess
from sgdataplane.store.etcd.messages import CLASSES, METHODS, Message, make
from sgdataplane.store.interface import FullError, GoneError, UnavailableError

HAS_LEADER = (("hasleader", "true"),)
TRY_S, IN_ALL_S = 1.0, 2.4  # of one member, and of the cluster: a caller has its answer within 3 s
PAUSE_S, AGAIN_S = 0.05, 0.2  # before the next member is asked, and before a cluster is that didn't answer at all
PROGRESS_S, SILENT_S = 1.0, 3.0  # a watch asks its member so often for a sign of life, and gives it up after that time
LOGGER = logging.getLogger("sgdataplane.store.etcd")
OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # a page of the log may be larger than the 4 MB of old
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 10_000),  # a connection that a partition has cut isn't kept
    ("grpc.keepalive_timeout_ms", 3_000),
)
# What a member refuses for good; another one would say the same.
FINAL = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}
NO_SPACE = (
    "etcd at {} has no space left; look who has filled it, compact it, defragment its members, and disarm its alarm"
    " (docs/etcd.md, When etcd is full)"
)


class EtcdError(UnavailableError):
    """etcd refused a call, and any member would.

    Attributes:
        code: The name that gRPC gives it.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"etcd refuses: {detail}")
        self.code = code


def _channel(access: EtcdAccess, member: str) -> Any:  # noqa: ANN401  # gRPC has no types
    if access.authority is None:
        return grpc.insecure_channel(member, OPTIONS)
    files = (access.authority, access.key, access.certificate)
    return grpc.secure_channel(member, grpc.ssl_channel_credentials(*map(_read, files)), OPTIONS)


def _read(file: Path | None) -> bytes | None:
    try:
        return None if file is None else file.read_bytes()
    except OSError as error:
        raise HostError(str(file), f"can't read it: {error.strerror}") from error


class Cluster:
    """The members of an etcd cluster. Several threads may use it.

    Raises:
        HostError: A file of TLS can't be read.
    """

    def __init__(self, access: EtcdAccess) -> None:
        self._channels = [_channel(access, member) for member in access.members]
        self.members = access.members
        self._at = 0  # the member that is asked next
        self._failed_at = -math.inf  # when a call had no answer of any member; -inf once one has had
        self._is_closed = False

    def call(self, request: Message) -> Message:
        """Return the answer of the first member that has one.

        Raises:
            EtcdError: etcd refuses the call.
            UnavailableError: No member answers in time.
        """
        deadline = time.monotonic() + self._timeout_s()
        try_s = max(TRY_S, IN_ALL_S / len(self.members))
        why = ""
        while (left := deadline - time.monotonic()) > 0:
            at = self._at
            try:
                answer = self._ask(request, at, min(left, try_s))
            except _NoAnswerError as error:
                why = str(error)
                self._leave(at)
                time.sleep(min(PAUSE_S, max(0.0, deadline - time.monotonic())))
            else:
                self._failed_at = -math.inf
                return answer
        self._failed_at = time.monotonic()
        raise UnavailableError(f"etcd doesn't answer: {why}")

    def _timeout_s(self) -> float:
        """Return how many seconds a call may take.

        While no member answers, calls are refused at once, but for one now and then. So the waits of calls that queue
        for each other don't add up.

        Raises:
            UnavailableError: The call is refused at once.
        """
        if self._failed_at == -math.inf:
            return IN_ALL_S
        if time.monotonic() - self._failed_at < AGAIN_S:
            raise UnavailableError("etcd doesn't answer")
        return TRY_S

    def _ask(self, request: Message, at: int, timeout: float) -> Message:
        """Ask one member, and return its answer. `timeout` is in seconds.

        Raises:
            EtcdError: etcd refuses the call.
            UnavailableError: The store is closed.
            _NoAnswerError: Another member may have an answer.
        """
        try:
            return self._method(request, at)(request, timeout=timeout, metadata=HAS_LEADER)
        except grpc.RpcError as error:
            self.require_open()
            raise _translate_error(error, self.members) from error
        except ValueError:  # gRPC's word for a channel that is closed
            self.require_open()
            raise

    def watch(self, create: Message, heard: Callable[[Message], None]) -> None:
        """Hand over what one member says of a watch, until it ends, has no leader, or is silent.

        The next watch is at the next member.
        """
        self.require_open()
        at = self._at
        pulse = _Pulse(create)
        answers = self._method(make("WatchRequest"), at)(pulse.requests(), metadata=HAS_LEADER)
        pulse.give_up = answers.cancel
        try:
            for answer in answers:
                pulse.beat()
                if answer.canceled:
                    break
                heard(answer)
        except grpc.RpcError:  # the caller sees that it has ended
            pass
        finally:
            pulse.stop()
            answers.cancel()
        self._leave(at)

    def close(self) -> None:
        """Close all connections. Calls that wait for an answer get UnavailableError."""
        self._is_closed = True
        for channel in self._channels:
            channel.close()

    def _leave(self, at: int) -> None:
        """Make the next call go to another member than this one."""
        if self._at == at:
            self._at = (at + 1) % len(self.members)

    def _method(self, request: Message, at: int) -> Any:  # noqa: ANN401  # gRPC has no types
        self.require_open()
        path, answer = METHODS[request.DESCRIPTOR.name]
        channel = self._channels[at]
        make_one = channel.stream_stream if path.endswith("/Watch") else channel.unary_unary
        return make_one(path, type(request).SerializeToString, CLASSES[answer].FromString)

    def require_open(self) -> None:
        """Refuse calls once the cluster is closed.

        Raises:
            UnavailableError: It is.
        """
        if self._is_closed:
            raise UnavailableError("the store is closed")


class _NoAnswerError(Exception):
    """A member hasn't answered, or can't now."""


def _translate_error(error: Any, members: Iterable[str]) -> Exception:  # noqa: ANN401  # gRPC has no types
    code, detail = error.code(), error.details() or ""
    if code in FINAL:
        return EtcdError(code.name, detail)
    if "database space exceeded" in detail:
        return FullError(NO_SPACE.format(", ".join(members)))
    return _NoAnswerError(f"{code.name.lower().replace('_', ' ')}: {detail}")


class _Pulse:
    """The requests of one watch: it is created, and then asked every second for its progress.

    `give_up` ends it, once it has been silent for too long.
    """

    def __init__(self, create: Message) -> None:
        self._create = create
        self._stopped = threading.Event()
        self._heard_at = time.monotonic()
        self.give_up: Callable[[], object] = self.stop

    def requests(self) -> Iterator[Message]:
        """Yield the requests. A thread of gRPC's takes them."""
        yield make("WatchRequest", create_request=self._create)
        while not self._stopped.wait(PROGRESS_S):
            if time.monotonic() - self._heard_at > SILENT_S:
                self.give_up()
                return
            yield make("WatchRequest", progress_request=make("WatchProgressRequest"))

    def beat(self) -> None:
        self._heard_at = time.monotonic()

    def stop(self) -> None:
        self._stopped.set()


class _IdleError(Exception):
    """Nobody has waited for long."""


class WatchNotifier:
    """Wakes those who wait when a key may have been written, or one before `end`.

    That is when etcd says so, or doesn't say anything any more. Its thread begins with a `wait`, and ends when nobody
    has waited for `idle_s` seconds.
    """

    def __init__(self, cluster: Cluster, key: bytes, end: bytes = b"", *, idle_s: float = float("inf")) -> None:
        self._cluster, self._idle_s = cluster, idle_s
        self._create = make("WatchCreateRequest", key=key, range_end=end, fragment=True)
        self._waiting = 0  # those who wait now
        self._waited_at = time.monotonic()  # when somebody last did
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self.is_closed = False
        self.notices = 0

    def wait(self, notices: int, timeout: float | None) -> bool:
        """Wait until it has notified more often than `notices`; False if the time is over, or it is closed.

        `timeout` is in seconds; None: no limit.
        """
        if timeout is not None and timeout <= 0:
            return False
        with self._news:
            self._waiting += 1
            try:
                if self._thread is None and not self.is_closed:
                    self._thread = threading.Thread(target=self._listen, daemon=True)
                    self._thread.start()
                self._news.wait_for(lambda: self.notices != notices or self.is_closed, timeout)
            finally:
                self._waiting -= 1
                self._waited_at = time.monotonic()
            return self.notices != notices and not self.is_closed

    def close(self) -> None:
        """End the thread, and wake everything that waits."""
        with self._news:
            self.is_closed = True
            self._news.notify_all()
        if (thread := self._thread) is not None:
            thread.join()

    def _listen(self) -> None:
        while not self.is_closed:
            try:
                self._cluster.watch(self._create, self._note_change)
            except UnavailableError:  # closed
                return
            except _IdleError:
                if self._is_over():
                    return
            except Exception:  # those who wait must go on hearing of commits
                LOGGER.exception("the watch of etcd failed, and starts again")
            self._notify()
            with self._news:
                self._news.wait_for(lambda: self.is_closed, PAUSE_S)

    def _is_over(self) -> bool:
        """End the thread, unless somebody has waited in the meantime."""
        with self._news:
            if is_over := self._is_idle():
                self._thread = None
            return is_over

    def _note_change(self, answer: Message) -> None:
        """Note what etcd says. It says something each second (`_Pulse`)."""
        if answer.created or answer.events:
            self._notify()
        if self._is_idle():
            raise _IdleError

    def _is_idle(self) -> bool:
        return not self._waiting and time.monotonic() - self._waited_at > self._idle_s

    def _notify(self) -> None:
        with self._news:
            self.notices += 1
            self._news.notify_all()


def pages(call: Callable[[Message], Message], first: bytes, end: bytes, size: int, revision: int) -> Iterator[Message]:
    """Yield each key from `first` to before `end`, at a revision of etcd's, in pages of so many.

    Raises:
        GoneError: etcd has compacted that revision.
    """
    question = make("RangeRequest", key=first, range_end=end, limit=size, revision=revision)
    for answer in answers(call, question):
        yield from answer.kvs


def answers(call: Callable[[Message], Message], question: Message) -> Iterator[Message]:
    """Yield etcd's answers to a RangeRequest with a limit: each goes on after the last key of the one before.

    Raises:
        GoneError: etcd has compacted the question's revision.
    """
    while True:
        try:
            answer = call(question)
        except EtcdError as error:
            if error.code == "OUT_OF_RANGE":
                raise GoneError("more was committed meanwhile than is kept") from error
            raise
        yield answer
        if not answer.more:
            return
        question.key = answer.kvs[-1].key + b"\0"


def pairs(answer: Message) -> list[list[Message]]:
    """Return the keys and values that each question of a transaction found."""
    return [list(one.response_range.kvs) for one in answer.responses]
