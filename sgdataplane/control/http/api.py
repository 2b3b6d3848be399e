"""The API over HTTP: what the cloud's SDKs send, made into calls, and their answers.

    body --> Admission --> CallHandler (ApiService in service/dispatch.py) --> JSON

Owns limits of a request, threads, the form of answers and errors. It gets what does calls, and what admits them.
Must not know what an action does, or how the server gets its bytes (server.py).

Everything after the body is read runs in a thread, as keys and documents may come from a disk. There are few threads
for ordinary calls, and others for calls that wait (SgdpWait). A client that goes away ends no call but a heavy one
(service/heavy.py), which changes nothing and is computed for it alone.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Protocol, TypeVar, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sgdataplane.control.calls.answers import NOT_FOUND, UNAVAILABLE, Answer, ApiError
from sgdataplane.control.calls.parameters import unknown_action
from sgdataplane.control.calls.products import plain
from sgdataplane.control.http.accesslog import Access, AccessLog
from sgdataplane.control.http.admission import Admission, Incoming
from sgdataplane.control.http.pacing import Cooldown, RefusalRate, SharedAnswer
from sgdataplane.control.http.workers import WAITING, Workers, WorkLimits, unavailable
from sgdataplane.control.http.xmltext import xml_text
from sgdataplane.control.service.heavy import HEAVY
from sgdataplane.store.call import Call
from sgdataplane.store.interface import Json
from sgdataplane.visible import json_text, visible

JSON, XML = "application/json;charset=utf-8", "text/xml;charset=utf-8"
FORMAT, FORMATS_TRIED = b"Format=", 16
TOO_LARGE, TOO_SLOW, NO_METHOD, INTERNAL, GONE = 413, 408, 405, 500, 499
DRAINED = 8  # times the largest body: what is read and thrown away, so that the client can read why
HEALTH_S = 5.0
T = TypeVar("T")
MAX_CLIENT = 128  # characters of a client's name in the log
UNKNOWN_ERROR = "The request processing has failed due to some unknown error."


class CallHandler(Protocol):
    """Does what is asked for, in any of several threads. Raises ApiError."""

    def call(self, call: Call, /) -> Answer:
        """Answer an ordinary call. It takes as long as the store."""

    def wait(self, call: Call, is_stopping: Event, /) -> Answer:
        """Answer a call that waits as long as it asks for. It returns soon once the event is set."""

    def compute(self, call: Call, is_ended: Event, /) -> Answer:
        """Answer a heavy call, which takes long. It returns soon once the event is set."""

    def why_unhealthy(self) -> str:
        """Return why the service isn't healthy; "" if it is. It may be called often."""


@dataclass(frozen=True, slots=True)
class ApiLimits(WorkLimits):
    """The limits of work and of requests."""

    body: int = 1 << 20  # bytes of a request's body
    small_body: int = 64 << 10  # bytes of a body that counts as small
    large_bodies: int = 64  # how many larger ones are read at a time
    body_s: float = 20.0  # seconds within which a body must come
    requests: int = 512  # how many whose body has come are worked on at a time
    refusals: float = 200.0  # how many requests that no key has signed are answered in a second


class Api:
    """The API as an application for an ASGI server: its attribute `app`."""

    def __init__(
        self, handler: CallHandler, admission: Admission, log: AccessLog | None = None, limits: ApiLimits | None = None
    ) -> None:
        self._handler, self._admission = handler, admission
        self._log, self._limits = log or AccessLog(), limits or ApiLimits()
        self._in_flight = self._in_work = 0
        self._is_stopping = Event()
        self._workers = Workers(self._limits)
        self._large_bodies = asyncio.Semaphore(self._limits.large_bodies)
        self._pace, self._cooldown = RefusalRate(self._limits.refusals), Cooldown()
        self._health, self._metrics = SharedAnswer(self._look), SharedAnswer(self._measure)
        routes = [
            Route("/", self._serve, methods=["GET", "POST"]),
            Route("/healthz", self._show_health),
            Route("/metrics", self._show_metrics),
        ]
        self.app = Starlette(routes=routes, exception_handlers={HTTPException: self._no_route})

    def stop(self) -> None:
        """Make calls that wait and heavy ones end soon. All others that are under way are answered."""
        self._is_stopping.set()
        self._workers.end_heavy()

    def close(self) -> None:
        """Stop, and wait for the threads. Call it once no requests come any more."""
        self.stop()
        self._workers.close()

    # around a request

    async def _serve(self, request: Request) -> Response:
        access = _begin(request)
        self._in_flight += 1
        try:
            return await self._answer(request, access)
        except ApiError as error:
            return await self._refuse(access, error)
        except ClientDisconnect:
            return _refuse(access, ApiError("ClientClosedRequest", "The client went away.", GONE))
        except Exception:  # noqa: BLE001  # a bug: the log gets the traceback, the client doesn't
            self._log.note_bug(access)
            return _refuse(access, ApiError("InternalError", UNKNOWN_ERROR, INTERNAL))
        finally:
            self._in_flight -= 1
            self._log.note(access)

    async def _refuse(self, access: Access, error: ApiError) -> Response:
        """Return the refusal. If no key has signed the request, first wait for its turn."""
        if not access.asker.has_signed and not await self._pace.wait():
            error = ApiError(error.code, error.message, error.status, {**error.extra, "connection": "close"})
        return _refuse(access, error)

    async def _answer(self, request: Request, access: Access) -> Response:
        if request.method not in ("GET", "POST"):
            raise _no_method()
        incoming = _incoming(request, access, await self._body(request))
        if self._in_work >= self._limits.requests or self._is_stopping.is_set():
            raise unavailable("The service is busy, or stops. Nothing was done.")
        self._in_work += 1
        try:
            return _finish(access, *await self._work(request, incoming, access))
        finally:
            self._in_work -= 1

    async def _work(self, request: Request, incoming: Incoming, access: Access) -> tuple[Answer, bytes]:
        """Return an answer, and its text."""
        admit = partial(self._admission.admit, incoming, access.asker)
        call = await self._workers.check(len(incoming.query) + len(incoming.body), admit)
        if call.action in HEAVY:
            compute = partial(_call_and_write, access, partial(self._handler.compute, call))
            return await _unless_gone(request, self._workers.heavy(call.key, compute))
        carry_out = partial(self._handler.wait, call, self._is_stopping)
        if call.action not in WAITING:
            carry_out = partial(self._handler.call, call)
        return await self._workers.call(call.action, call.key, partial(_call_and_write, access, carry_out))

    # its body

    async def _body(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "")
        is_small = len(declared) <= 12 and int(declared or 0) <= self._limits.small_body
        if "transfer-encoding" in request.headers:
            is_small = False
        try:
            async with asyncio.timeout(self._limits.body_s), nullcontext() if is_small else self._large_bodies:
                return await self._read(request)
        except TimeoutError:
            words = f"The body didn't come within {self._limits.body_s:g} s. Nothing was done."
            raise ApiError("RequestTimeout", words, TOO_SLOW) from None

    async def _read(self, request: Request) -> bytes:
        most = self._limits.body
        declared = request.headers.get("content-length", "0")  # a number: the server has checked it
        body = bytearray()
        total = int(declared) if len(declared) <= 12 else most * DRAINED + 1
        if total <= most * DRAINED:
            total = await _collect(request, body, most)
        if total > most:
            raise ApiError("RequestEntityTooLarge", f"The body has more than {most} bytes.", TOO_LARGE)
        return bytes(body)

    # beside the API

    async def _show_health(self, request: Request) -> Response:
        await self._cooldown.wait(_other_end(request))
        why = "it stops" if self._is_stopping.is_set() else await self._health.get()
        return Response(f"{visible(why) or 'ok'}\n", UNAVAILABLE if why else 200, media_type="text/plain")

    async def _look(self) -> str:
        """Return why the API isn't healthy; "" if it is.

        The question goes where calls are carried out. If nothing is free there for a while, that is the answer.
        """
        try:
            async with asyncio.timeout(HEALTH_S):
                return await self._workers.call("", "", self._handler.why_unhealthy)
        except (ApiError, TimeoutError):
            return "it is busy"
        except Exception as error:  # noqa: BLE001  # whatever it is, it isn't healthy
            return f"it can't tell: {type(error).__name__}"

    async def _show_metrics(self, request: Request) -> Response:
        await self._cooldown.wait(_other_end(request))
        return Response(await self._metrics.get(), media_type=self._log.metrics.content_type)

    async def _measure(self) -> bytes:
        return await asyncio.to_thread(self._log.metrics.text, self._in_flight)

    async def _no_route(self, request: Request, error: Exception) -> Response:
        """Return the refusal for another path, or another method."""
        is_lost = isinstance(error, HTTPException) and error.status_code == NOT_FOUND
        access = _begin(request)
        response = await self._refuse(access, unknown_action(request.url.path) if is_lost else _no_method())
        self._log.note(access)
        return response


async def _unless_gone(request: Request, work: Coroutine[None, None, T]) -> T:
    """Await the work, and cancel it if the client goes away.

    Raises:
        ClientDisconnect: The client has gone.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_await_disconnect(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})


async def _await_disconnect(request: Request) -> None:
    """Return when the client has gone, or has closed its side: the body has come, so there is nothing else to hear."""
    await request.receive()


async def _collect(request: Request, body: bytearray, most: int) -> int:
    """Read a body, and return how many bytes came. The first `most` of them are in `body`."""
    total = 0
    async for part in request.stream():
        body += part[: most - len(body)]
        total += len(part)
        if total > most * DRAINED:
            break
    return total


def _incoming(request: Request, access: Access, body: bytes) -> Incoming:
    headers = tuple(request.headers.items())
    query: bytes = request.scope["query_string"]
    access.is_xml = any(map(asks_for_xml, (query, body)))
    return Incoming(request.method, query, headers, body, access.source, access.request_id)


def asks_for_xml(text: bytes) -> bool:
    """Whether a query or form has Format=XML.

    A name may come once, so the first one counts. This must be quick, whatever a megabyte has in it, because the event
    loop waits for it.
    """
    at = -1
    for _ in range(FORMATS_TRIED):
        at = text.find(FORMAT, at + 1)
        if at < 0:
            return False
        if at == 0 or text[at - 1 : at] == b"&":
            value = text[at + len(FORMAT) : at + len(FORMAT) + len(b"XML&")]
            return value.partition(b"&")[0].upper() == b"XML"
    return False


def _other_end(request: Request) -> tuple[str, int]:
    """Return the address and port of a connection's other end."""
    return (request.client.host, request.client.port) if request.client else ("", 0)


def _begin(request: Request) -> Access:
    source = request.client.host if request.client else ""
    host = request.headers.get("host", "")
    client = request.headers.get("user-agent", "")[:MAX_CLIENT]
    return Access(str(uuid.uuid4()).upper(), source, request.method, host, time.monotonic(), client)


def _call_and_write(access: Access, do: Callable[..., Answer], *given: Event) -> tuple[Answer, bytes]:
    """Do a call, and write its answer in the same thread: a large one would hold up the event loop."""
    answer = do(*given)
    name = f"{plain(access.asker.action)}Response"
    return answer, _text(access, name, {"RequestId": access.request_id, **answer.body})


def _finish(access: Access, answer: Answer, text: bytes) -> Response:
    access.status, access.revision = 200, answer.revision
    told = {"x-sgdp-revision": answer.revision, "x-sgdp-epoch": answer.epoch}
    headers = {} if answer.revision is None else {name: str(number) for name, number in told.items()}
    return _response(access, text, headers)


def _refuse(access: Access, error: ApiError) -> Response:
    access.status, access.code = error.status, error.code
    body = {"RequestId": access.request_id, "HostId": access.host, "Code": error.code, "Message": error.message}
    closing = {"connection": "close"} if error.status in (TOO_LARGE, TOO_SLOW) else {}
    return _response(access, _text(access, "Error", body), {**error.extra, **closing})


def _text(access: Access, name: str, body: Mapping[str, object]) -> bytes:
    """Write an answer as its client reads it. `name` is that of XML's element."""
    if access.is_xml:
        return xml_text(name, cast("Mapping[str, Json]", body))
    return json_text(body, separators=(",", ":")).encode()


def _response(access: Access, text: bytes, headers: Mapping[str, str]) -> Response:
    kind = XML if access.is_xml else JSON
    return Response(text, access.status, {"x-acs-request-id": access.request_id, **headers}, kind)


def _no_method() -> ApiError:
    return ApiError("UnsupportedHTTPMethod", "This http method is not supported.", NO_METHOD)
