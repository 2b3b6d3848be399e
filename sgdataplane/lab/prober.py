r"""The process inside a node or a watched router: it sends, answers and counts probes as JSON lines ask it to.

Owns the processes' life. One starter forks them all; each enters its namespace once and ends when its socket closes, as
the starter does. fleet.py puts the requests. Must not know policy, nor load what it doesn't need, so that it starts
fast.

    orchestrator (fleet.py) --- starter --- one fork per node
           \_________ one socket per node __________/
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import signal
import socket
import sys
from typing import Any

from sgdataplane.errors import LabError, SgDataplaneError
from sgdataplane.host import conntrack, netns
from sgdataplane.lab.exchange import Exchange, ProbeQuestion
from sgdataplane.lab.listeners import AF, Listeners
from sgdataplane.lab.tap import OUT, Tap, TapEnd
from sgdataplane.lab.watch import Watch
from sgdataplane.net.values import Address, Family

PR_SET_PDEATHSIG = 1  # linux/prctl.h
QUICK_S = 0.05  # an accepted exchange takes far less, as both ends are on one machine
RESOLVE_S = 0.05  # in case the kernel had to resolve the neighbour first
MAX_LINE = 1 << 20


class Prober:
    """The server of requests in one node, or in one router if it has a `watch`.

    Each public coroutine is a request; its arguments and result are JSON values.
    """

    def __init__(self, ends: list[dict[str, str]], watch: Watch | None) -> None:
        self._listeners = Listeners()
        self._taps = {end["ifname"]: Tap(TapEnd(**end)) for end in ends}
        self._watch = watch
        self._exchanges: dict[int, Exchange] = {}
        self._numbers = itertools.count(1)

    async def listen(self, protocol: int, port: int, family: str) -> dict[str, object]:
        """Begin to count and answer.

        The result's `error` is the kernel's text if the port is taken, else empty.
        """
        try:
            await self._listeners.ensure(protocol, port, Family(family))
        except OSError as error:
            return {"error": error.strerror or str(error)}
        return {"error": ""}

    async def send(self, question: dict[str, Any], ifname: str) -> dict[str, object]:
        """Begin an exchange; return once it is answered, or once it is known whether its packet left by `ifname`.

        In the result, `left` says whether the sender's tap saw it on the wire. `control` is empty if the tap has proven
        that it sees that wire, else it says what went wrong.
        """
        try:
            exchange = await self._begin(ProbeQuestion(**question))
        except OSError as error:
            return {"error": error.strerror or str(error)}
        number = next(self._numbers)
        self._exchanges[number] = exchange
        answered = await exchange.wait_answered(QUICK_S)
        left, control = (True, "") if answered else await self._did_leave(exchange.key, ifname)
        return {
            "error": "",
            "number": number,
            "key": exchange.key,
            "source_port": exchange.source_port,
            "answered": answered,
            "left": left,
            "control": control,
            "sent_error": exchange.sent_error,
        }

    async def _begin(self, question: ProbeQuestion) -> Exchange:
        """Open an exchange, after the raw socket that its answer comes to. OSError if the kernel refuses."""
        if not question.has_ports:  # the answer comes to a raw socket, which must be there first
            await self._listeners.ensure(question.protocol, 0, question.family)
        return Exchange(question, self._listeners)

    async def _did_leave(self, key: str, ifname: str) -> tuple[bool, str]:
        """Prove the tap, then ask it whether the packet left.

        This is done twice, because the first packet waits until its neighbour is resolved.
        """
        tap, control = self._taps[ifname], ""
        for pause in (RESOLVE_S, 0.0):
            if not tap.seen.count(OUT, key):
                control = await tap.prove()
            if control or tap.seen.count(OUT, key):
                break
            await tap.seen.wait_seen(OUT, key, pause)
        return tap.seen.count(OUT, key) > 0, control

    async def finish(self, number: int, seconds: float) -> dict[str, object]:
        """Wait at most `seconds` for the answer, and say how the exchange stands. It goes on until `close`."""
        exchange = self._exchanges[number]
        answered = await exchange.wait_answered(seconds)
        return {"answered": answered, "connected": exchange.is_connected, "failure": exchange.failure}

    async def close(self, number: int) -> dict[str, object]:
        """End an exchange."""
        await self._exchanges.pop(number).close()
        return {}

    async def counted(self, token: str, seconds: float) -> dict[str, object]:
        """Say how often a socket of this node got the token; wait at most `seconds` for the first time."""
        return {"count": await self._listeners.wait_counted(token, seconds)}

    async def saw(self, ifname: str, direction: str, key: str, seconds: float) -> dict[str, object]:
        """Say whether the tap saw such a packet on the wire of `ifname`; wait at most `seconds` for it."""
        return {"seen": await self._taps[ifname].seen.wait_seen(direction, key, seconds)}

    async def prove(self, ifname: str) -> dict[str, object]:
        """Prove the wire of `ifname` and its tap in both directions.

        The result's `control` is empty if they work, else it says what went wrong.
        """
        return {"control": await self._taps[ifname].prove()}

    async def watched(self, place: str, key: str, seconds: float) -> dict[str, object]:
        """Say whether this router's watch saw such a packet; wait at most `seconds` for it.

        The result's `control` is empty if it did, or if the watch has proven that it saw all packets until now. Else it
        says what went wrong.
        """
        if self._watch is None:
            raise LabError("watch", "this node has none")
        if await self._watch.seen.wait_seen(place, key, seconds):
            return {"seen": True, "control": ""}
        control = await self._watch.prove()
        return {"seen": await self._watch.seen.wait_seen(place, key, 0.0), "control": control}

    async def self_probe(self, question: dict[str, Any], seconds: float) -> dict[str, object]:
        """Put the question to this node's own listener over loopback.

        The result's `alive` says whether the listener counted and answered it.
        """
        try:
            exchange = await self._begin(ProbeQuestion(**question))
        except OSError as error:
            return {"alive": False, "error": error.strerror or str(error)}
        answered = await exchange.wait_answered(seconds)
        await exchange.close()
        return {
            "alive": answered and await self._listeners.wait_counted(exchange.question.token, 0.0) > 0,
            "error": exchange.failure,
        }

    async def forget(self, protocol: int, ends: list[str], ports: list[int]) -> dict[str, object]:
        """Delete the session between two ends from this node's conntrack table, so that the next packet opens one."""
        source, target = map(Address.parse, ends)
        conntrack.forget(conntrack.SessionTuple(protocol, source, target, *ports))
        return {}

    async def half_open(self, remote: str, port: int, family: str) -> dict[str, object]:
        """Say whether a TCP connection from there is half open: its SYN arrived, its handshake isn't complete."""
        return {"half_open": (remote, port) in half_open_remotes(Family(family))}


def half_open_remotes(family: Family) -> frozenset[tuple[str, int]]:
    """Return remote address and port of each connection in SYN_RECV (state 03 in /proc/net/tcp)."""
    name = "tcp" if family is Family.IPV4 else "tcp6"
    with open(f"/proc/self/net/{name}", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return frozenset(_parse_remote(row[2], family) for row in rows if row[3] == "03")


def _parse_remote(text: str, family: Family) -> tuple[str, int]:
    """Parse e.g. `0100007F:1F90`: the address in words of the machine's byte order, then the port."""
    words, _, port = text.partition(":")
    raw = b"".join(int(words[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(words), 8))
    return socket.inet_ntop(AF[family], raw), int(port, 16)


async def serve(kind: type[Prober], connection: socket.socket, ends: list[dict[str, str]], watched: str) -> None:
    """Answer requests until the connection closes, each in a task of its own.

    Args:
        kind: The class whose coroutines are the requests.
        connection: The socket to fleet.py.
        ends: The fields of each tap's TapEnd.
        watched: The name of this process's namespace, if it is that of a router to watch; else empty.
    """
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE)
    prober = kind(ends, Watch(watched) if watched else None)
    tasks: set[asyncio.Task[None]] = set()
    _write(writer, {"id": 0, "result": {}})  # we are ready
    while line := await reader.readline():
        task = asyncio.create_task(_answer(prober, json.loads(line), writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _answer(prober: Prober, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """Carry out a request and write its result, or how it failed."""
    try:
        result = await getattr(prober, request["op"])(**request["arguments"])
        _write(writer, {"id": request["id"], "result": result})
    except Exception as error:  # noqa: BLE001  # the caller must hear of any failure, or it waits in vain
        _write(writer, {"id": request["id"], "failure": f"{type(error).__name__}: {error}"})


def _write(writer: asyncio.StreamWriter, value: dict[str, object]) -> None:
    writer.write(json.dumps(value).encode() + b"\n")


def run_node(
    kind: type[Prober], connection: socket.socket, netns_name: str, ends: list[dict[str, str]], *, is_router: bool
) -> int:
    """Enter a namespace and serve requests there; return the exit code of the node's or router's process."""
    try:
        netns.enter(netns_name)
        asyncio.run(serve(kind, connection, ends, netns_name if is_router else ""))
    except (SgDataplaneError, OSError) as error:
        connection.setblocking(True)
        connection.sendall(json.dumps({"id": 0, "failure": str(error)}).encode() + b"\n")
        return 1
    return 0


def start_nodes(control: socket.socket, kind: type[Prober] = Prober) -> None:
    """Fork a process for each message and its socket until the control socket closes, then wait for all of them."""
    starter = os.getpid()
    while True:
        data, ancillary, _, _ = control.recvmsg(1 << 16, socket.CMSG_SPACE(4))
        if not data:
            break
        fd = array.array("i", ancillary[0][2])[0]
        if os.fork() == 0:
            control.close()
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            request = json.loads(data)
            if os.getppid() == starter:
                os._exit(run_node(kind, socket.socket(fileno=fd), **request))
            os._exit(1)
        os.close(fd)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    start_nodes(socket.socket(fileno=int(sys.argv[1])))
