"""A relay's listening socket, the limits of its connections, and its end.

Owns where a relay listens, and what a connection may cost. Must not know the messages.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import ipaddress
import logging
import resource
import signal
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SO_REUSEADDR,
    SO_SNDBUF,
    SOCK_STREAM,
    SOL_SOCKET,
    gethostname,
    socket,
)
from typing import NamedTuple, NoReturn

from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from sgdataplane.errors import EndpointError
from sgdataplane.relay.counts import OF_TASK, RelayCounts
from sgdataplane.relay.held import hold
from sgdataplane.relay.metrics import RELAY_PREFIX, RelayMetrics, serve_metrics, text_of
from sgdataplane.relay.server import LOGGER, Relay
from sgdataplane.relay.silence import HostConnection
from sgdataplane.relay.summary import Summarizing
from sgdataplane.relay.tls import TlsFiles, relay_context
from sgdataplane.relay.watcher import Watcher
from sgdataplane.relay.wire import LARGEST_FROM_HOST, SHORT_HELLO
from sgdataplane.store.interface import Store
from sgdataplane.visible import visible

CLOSE_S = 2.0  # in which a peer must answer that a connection ends
RESTART_S = 1.0  # after which a task that failed starts again
HANDSHAKE_S = OPEN_S = 30.0  # when all hosts come at once, the last one waits for long
BACKLOG = 4096
# What one connection keeps: asyncio reads TLS into 256 KB each otherwise, and the kernel keeps megabytes for a host
# that doesn't read.
READ, UNSENT, SEND_BUFFER = 2 << 10, 1 << 15, 1 << 18  # bytes
QUEUE = 4  # messages that have come and aren't read


class RelayEndpoint(NamedTuple):
    """The address and port at which a relay listens."""

    host: str
    port: int


def endpoint_at(text: str) -> RelayEndpoint:
    """Read `ADDRESS:PORT`.

    Raises:
        ValueError: It is no IP address with a port.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        at = RelayEndpoint(host, int(port))
        if not 0 <= at.port < 65536:
            raise ValueError
    except ValueError:
        raise ValueError(f"{visible(text)}: not an address and a port, such as 192.0.2.1:8443 or [::]:8443") from None
    return at


@dataclass(frozen=True, slots=True)
class Serving:
    """How a relay serves."""

    endpoint: RelayEndpoint
    tls: TlsFiles
    snapshots: float  # how many hosts a second get all that they need
    name: str = ""  # the relay's name in the store; "" for this machine's name and its port
    metrics: str = ""  # the address and port for Prometheus; "" for none


def run_relay(store: Store, how: Serving, ready: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. `ready` is called with the URL and the revision once hosts can connect.

    Raises:
        EndpointError: TLS or the address can't be used.
        StoreError: The store can't be read.
    """
    context = relay_context(how.tls)
    allow_descriptors()
    with closing(_listen(how.endpoint)) as listening:
        asyncio.run(_serve(store, listening, context, how, ready))


async def _serve(
    store: Store, listener: socket, context: ssl.SSLContext, how: Serving, ready: Callable[[str, int], None]
) -> None:
    ends = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ends.set)
    asyncio.sslproto.SSLProtocol.max_size = READ
    relay = Relay(hold(store), how.snapshots)
    quiet = logging.getLogger("sgdataplane.relay.websockets")
    quiet.setLevel(logging.CRITICAL)  # who can't speak WebSocket, or has no certificate, must not fill the log
    bugs: list[Exception] = []

    def fail(error: Exception) -> None:
        """Note an error and end the relay: one that no longer follows the store must not go on as if it did."""
        bugs.append(error)
        ends.set()

    with Watcher(store, relay, fail):
        async with serve(
            relay.serve,
            sock=listener,
            ssl=context,
            backlog=BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=CLOSE_S,
            compression=None,
            subprotocols=[Subprotocol(SHORT_HELLO)],
            select_subprotocol=select_subprotocol,
            open_timeout=OPEN_S,
            create_connection=HostConnection,
            ping_interval=None,  # `SilenceWatch` pings
            close_timeout=CLOSE_S,
            max_size=LARGEST_FROM_HOST,
            max_queue=QUEUE,
            write_limit=UNSENT,
            server_header=None,
            logger=quiet,
        ):
            ready(_url_of(listener), relay.documents.revision)
            beside = _start_beside(store, relay, how, listener)
            await ends.wait()
            for task in beside:
                task.cancel()
    for error in bugs:
        raise error


def select_subprotocol(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Agree to a short hello if the host offers it. One of an earlier version doesn't."""
    return next((one for one in offered if one == SHORT_HELLO), None)


def _start_beside(store: Store, relay: Relay, how: Serving, listener: socket) -> list[asyncio.Task[NoReturn]]:
    """Start to write summaries and serve metrics. Both go on until their tasks are cancelled."""
    summarizing = Summarizing(store, relay, how.name or f"{gethostname()}:{listener.getsockname()[1]}")
    text = text_of(RelayMetrics(relay, how.tls), RELAY_PREFIX)
    runs: dict[str, Callable[[], Awaitable[None]]] = {
        "writing summaries": summarizing.run,
        "pinging hosts": partial(relay.silence.run, relay.streams.values),
        "serving metrics": partial(serve_metrics, text, how.metrics, LOGGER),
    }
    return [asyncio.create_task(keep_running(name, run, relay.counts)) for name, run in runs.items()]


async def keep_running(name: str, run: Callable[[], Awaitable[None]], counts: RelayCounts) -> NoReturn:
    """Run a task until this is cancelled. If it ends earlier, log and count it, and start it again."""
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001  # whatever it is: the next attempt may go well
            LOGGER.exception("%s failed, and starts again", name)
        counts.errors[OF_TASK] += 1
        await asyncio.sleep(RESTART_S)


def _url_of(listener: socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"wss://[{host}]:{port}" if ":" in host else f"wss://{host}:{port}"


def _listen(at: RelayEndpoint) -> socket:
    listener = socket(AF_INET6 if ":" in at.host else AF_INET, SOCK_STREAM, IPPROTO_TCP)
    try:
        listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        listener.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER)
        listener.bind((at.host, at.port))
    except OSError as error:
        listener.close()
        raise EndpointError(f"{at.host}:{at.port}", f"can't listen there: {error.strerror}") from error
    return listener


def allow_descriptors() -> None:
    """Raise the limit of file descriptors as far as this process may, because each host needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
