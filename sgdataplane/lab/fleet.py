"""Start one process per node or watched router (prober.py), and put requests to them.

Owns the sockets to the processes. It is given nodes and routers. Must not know what a request means.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sgdataplane
from sgdataplane.errors import HostError
from sgdataplane.lab.parts import LabNode, Router
from sgdataplane.lab.prober import MAX_LINE
from sgdataplane.lab.topology import GATEWAYS
from sgdataplane.lab.waiting import scale_timeout
from sgdataplane.net.values import Family

START_S = scale_timeout(20.0)
CALL_S = scale_timeout(30.0)
END_S = scale_timeout(5.0)


class Channel:
    """The socket to one node's process: it puts requests and gets answers."""

    def __init__(self, node: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._node, self._reader, self._writer = node, reader, writer
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {0: asyncio.get_running_loop().create_future()}
        self._task = asyncio.create_task(self._read())

    async def ready(self) -> None:
        """Wait until the process is in its namespace and reads requests."""
        await self._result(0, START_S)

    async def call(self, op: str, **arguments: object) -> dict[str, Any]:
        """Put one request and return its answer.

        Raises:
            HostError: The process failed, ended, or didn't answer within CALL_S.
        """
        number = next(self._numbers)
        self._pending[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps({"id": number, "op": op, "arguments": arguments}).encode() + b"\n")
        return await self._result(number, CALL_S)

    async def _result(self, number: int, seconds: float) -> dict[str, Any]:
        """Wait for the answer to that request. HostError if it doesn't come, or says that the request failed."""
        try:
            async with asyncio.timeout(seconds):
                answer = await self._pending[number]
        except TimeoutError:
            raise HostError(f"node {self._node}", f"its process did not answer within {seconds:g} s") from None
        finally:
            del self._pending[number]
        if "failure" in answer:
            raise HostError(f"node {self._node}", answer["failure"])
        result: dict[str, Any] = answer["result"]
        return result

    async def _read(self) -> None:
        """Hand answers to those who wait for them, until the process ends; then fail everybody who still waits."""
        while line := await self._reader.readline():
            answer = json.loads(line)
            future = self._pending.get(answer["id"])
            if future is not None and not future.done():
                future.set_result(answer)
        for future in self._pending.values():
            if not future.done():
                future.set_result({"failure": "its process ended"})

    async def close(self) -> None:
        """Close the socket, which ends the process, and wait at most END_S for that."""
        self._writer.close()
        await asyncio.wait((self._task,), timeout=END_S)
        self._task.cancel()


class Fleet:
    """The processes of all nodes and routers that take part."""

    def __init__(self, channels: dict[str, Channel]) -> None:
        self._channels = channels

    async def call(self, node: str, op: str, **arguments: object) -> dict[str, Any]:
        """Put a request to a node's process and return the answer. Errors as in Channel.call."""
        return await self._channels[node].call(op, **arguments)


@asynccontextmanager
async def run_fleet(
    nodes: Iterable[LabNode], routers: Iterable[Router] = (), module: str = "sgdataplane.lab.prober"
) -> AsyncIterator[Fleet]:
    """Run a process in each of these nodes and routers while the block runs; none is left after it.

    Args:
        nodes: The nodes that take part.
        routers: The routers to watch.
        module: The module that the processes run.

    Raises:
        HostError: A process doesn't get ready within START_S.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # one datagram per node
    starter = _start(theirs, module)
    channels: dict[str, Channel] = {}
    try:
        for node in nodes:
            request = {"netns_name": node.netns, "ends": tap_ends(node), "is_router": False}
            channels[node.name] = await _open_channel(ours, node.name, request)
        for router in routers:
            request = {"netns_name": router.netns, "ends": [], "is_router": True}
            channels[router.process] = await _open_channel(ours, router.process, request)
        await asyncio.gather(*(channel.ready() for channel in channels.values()))
        yield Fleet(channels)
    finally:
        ours.close()
        await asyncio.gather(*(channel.close() for channel in channels.values()))
        await asyncio.to_thread(_end, starter)


def _start(theirs: socket.socket, module: str) -> subprocess.Popen[bytes]:
    """Start a fresh interpreter that forks the processes.

    This process may have threads and much else open, so it isn't forked itself.
    """
    with theirs:
        return start_python(module, str(theirs.fileno()), pass_fds=(theirs.fileno(),))


def start_python(module: str, argument: str, **more: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401  # Popen's own
    """Start one of sgdataplane's modules as a process.

    It has a session of its own: Ctrl-C reaches only the caller, who ends the process.
    """
    root = str(Path(sgdataplane.__file__).parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", module, argument]
    return subprocess.Popen(command, env=environment, start_new_session=True, **more)


async def _open_channel(control: socket.socket, name: str, request: dict[str, object]) -> Channel:
    """Have the starter fork a process, and return the channel to it.

    Args:
        control: The socket to the starter.
        name: What errors call the node.
        request: The arguments of prober.run_node.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(control, [json.dumps(request).encode()], [theirs.fileno()])
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE)
    return Channel(name, reader, writer)


def tap_ends(node: LabNode) -> list[dict[str, str]]:
    """Return what each tap of a node needs to know: the fields of tap.TapEnd."""
    primaries = [(i.ifname, i.primary(Family.IPV4) or i.primary(Family.IPV6)) for i in node.interfaces]
    return [
        {"ifname": ifname, "own": str(own), "gateway": str(GATEWAYS[own.family])}
        for ifname, own in primaries
        if own is not None
    ]


def _end(starter: subprocess.Popen[bytes]) -> None:
    """Wait until the starter has ended, as it does when its socket closes; kill it if it doesn't."""
    try:
        starter.wait(END_S)
    except subprocess.TimeoutExpired:
        starter.kill()
        starter.wait()
