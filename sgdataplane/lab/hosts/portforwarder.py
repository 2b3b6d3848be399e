"""A port forwarder: a port of this machine's loopback behind which an API of a lab of hosts answers.

Owns the sockets on both sides. It passes octets as they are, so TLS is between the client and the API. Must not know
what is said.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from sgdataplane.errors import EndpointError
from sgdataplane.host import netns

CHUNK = 1 << 16
CONNECT_S = 2.0
Target = tuple[str, int]


@contextmanager
def forward_port(address: str, port: int, namespace: str, targets: Sequence[Target]) -> Iterator[int]:
    """Forward connections to the next target that answers, in that namespace, while the block runs.

    Yields the port, which the kernel chooses for 0.

    Raises:
        EndpointError: The address and port can't be listened at.
    """
    listener = _listen(address, port)
    chosen: int = listener.getsockname()[1]
    loop = asyncio.new_event_loop()
    forwarder = PortForwarder(namespace, targets)
    thread = threading.Thread(target=_run, args=(loop, forwarder, listener), daemon=True)
    thread.start()
    try:
        yield chosen
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio turns Nagle off only where the protocol is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise EndpointError(f"{address}:{port}", error.strerror or str(error)) from error
    return listener


def _run(loop: asyncio.AbstractEventLoop, forwarder: PortForwarder, listener: socket.socket) -> None:
    """Serve until the loop is stopped.

    This is all in one thread, which goes into the namespace and back whenever it makes a socket.
    """
    server = loop.run_until_complete(asyncio.start_server(forwarder.serve, sock=listener))
    loop.run_forever()
    server.close()
    loop.run_until_complete(forwarder.end())
    loop.close()


class PortForwarder:
    """A forwarder to several targets in turn; `serve` is called for each connection."""

    def __init__(self, namespace: str, targets: Sequence[Target]) -> None:
        self._namespace, self._count, self._turns = namespace, len(targets), itertools.cycle(targets)
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect to the next target that answers, and pass octets until both sides have ended."""
        with self._keep_open(writer), suppress(OSError, asyncio.CancelledError):
            for _ in range(self._count):
                with suppress(OSError, TimeoutError):
                    far_reader, far_writer = await self._connect(next(self._turns))
                    with self._keep_open(far_writer):
                        await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
                    break

    async def end(self) -> None:
        """End all connections at once."""
        for writer in self._open:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets in the next step

    @contextmanager
    def _keep_open(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        """Keep a connection among the open ones while the block runs, then close it."""
        self._open.add(writer)
        try:
            yield
        finally:
            self._open.discard(writer)
            writer.close()

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a target in the namespace. OSError or TimeoutError if it doesn't answer."""
        with netns.inside(self._namespace):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(made, target)
            return await asyncio.open_connection(sock=made)
        except BaseException:
            made.close()
            raise


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on everything that is read, and then the end of it."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    finally:
        with suppress(OSError):
            writer.write_eof() if writer.can_write_eof() else writer.close()
