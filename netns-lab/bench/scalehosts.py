"""`python -m bench.scalehosts`: many hosts in one process, each with a TLS stream of its own to a real relay.

Owns what a simulated host does: it connects as `sgdp sync` does, keeps what it gets, and reports. It writes no folder,
asks no agent, and believes its relay. Objects are kept as texts, and hosts of one process share those that are equal.
Must not know what is measured: it says on stdout what came when, by the clock that all processes of a machine share
(CLOCK_MONOTONIC).

Standard input: a line with the configuration, then commands: `drop` ends all streams at once, `end` the process.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import gc
import json
import random
import resource
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from sgdataplane.relay.tls import TlsFiles, host_context
from sgdataplane.relay.wire import (
    LARGEST_FROM_RELAY,
    SHORT_HELLO,
    Hello,
    Reported,
    canonical,
    digest_in,
    digest_of_all,
    spell,
)
from sgdataplane.store.history import Version

READ = 16 << 10  # bytes that asyncio reads TLS into; 256 KB for each stream otherwise
AT_ONCE, AGAIN_AT_ONCE = 40, 150  # streams that are being opened, at first and when all come back
PING_S, PONG_S, REPORT_S = 5.0, 8.0, 10.0  # as `sgdp sync` has them
SHORTEST_S, LONGEST_S = 0.1, 10.0


@dataclass
class SimulatedHost:
    """`texts`: path -> what it has of it. `digest`: of all of these; "" if they have changed since it was made.
    `changes`: how many have come on this stream."""

    name: str
    url: str
    tls: TlsFiles
    texts: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    version: Version | None = None
    changes: int = 0
    socket: ClientConnection | None = None
    context: ssl.SSLContext | None = None


class Crowd:
    def __init__(self, config: dict[str, Any]) -> None:
        authority, key = Path(config["authority"]), Path(config["key"])
        self.hosts = [
            SimulatedHost(name, url, TlsFiles(Path(certificate), key, authority))
            for name, url, certificate in config["hosts"]
        ]
        self._shared: dict[str, str] = {}  # text -> the same object for all hosts
        self._digests: dict[str, bytes] = {}  # text -> its digest
        self._sock = asyncio.Semaphore(AT_ONCE)
        self._ping_s = PING_S if config["pings"] else None
        self._answered = 0
        self._failures = 0
        self._begun = time.monotonic()

    async def live(self, host: SimulatedHost) -> None:
        tries = 0
        while True:
            try:
                await self._open(host)
                tries = 0
                await self._stay(host)
            except (OSError, WebSocketException, TimeoutError, EOFError):
                self._failures += 1
            host.socket = None
            tries += 1
            await asyncio.sleep(random.uniform(0, min(LONGEST_S, SHORTEST_S * 2**tries)))

    async def _open(self, host: SimulatedHost) -> None:
        async with self._sock:
            await self._connect(host)

    async def _connect(self, host: SimulatedHost) -> None:
        host.context = host.context or host_context(host.tls)
        host.socket = await connect(
            host.url, ssl=host.context, compression=None, max_size=LARGEST_FROM_RELAY, proxy=None, max_queue=4,
            open_timeout=60, ping_interval=self._ping_s, ping_timeout=PONG_S, close_timeout=2,
            subprotocols=[Subprotocol(SHORT_HELLO)],
        )  # fmt: skip
        host.changes = 0
        is_short = bool(host.texts) and host.socket.subprotocol == SHORT_HELLO
        await host.socket.send(spell(self._short_hello(host) if is_short else self._hello(host)))
        await self._take(host)

    def _hello(self, host: SimulatedHost) -> Hello:
        return Hello("bench", host.version, {path: self._digest(text).hex() for path, text in host.texts.items()})

    def _short_hello(self, host: SimulatedHost) -> Hello:
        host.digest = host.digest or digest_of_all(map(self._digest, host.texts.values()))
        return Hello("bench", host.version, digest=host.digest)

    async def _stay(self, host: SimulatedHost) -> None:
        """Report at once, after each change, and each 10 s."""
        assert host.socket is not None
        while True:
            await host.socket.send(spell(Reported(host.version)))
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._take(host)

    async def _take(self, host: SimulatedHost) -> None:
        """One change, with all of its parts."""
        assert host.socket is not None
        size, has_more = 0, True
        while has_more:
            text = await host.socket.recv()
            message = json.loads(text)  # a real host checks more, but all of these share a processor
            if message["kind"] == "ask":
                await host.socket.send(spell(self._hello(host)))
                continue
            if message["kind"] != "change":
                return
            size += len(text)
            if message["deletes"] or message["puts"]:
                host.digest = ""
            for path in message["deletes"]:
                host.texts.pop(path, None)
            for path, fields in message["puts"].items():
                kept = canonical(fields)
                host.texts[sys.intern(path)] = self._shared.setdefault(kept, kept)
            host.version = Version(message["epoch"], message["revision"])
            has_more = message.get("more", False)
        self._note(host, size)

    def _note(self, host: SimulatedHost, size: int) -> None:
        now = time.monotonic()
        host.changes += 1
        if host.changes > 1:
            assert host.version is not None
            say(event="change", host=host.name, revision=host.version.revision, at=now, bytes=size)
            return
        self._answered += 1
        if self._answered == len(self.hosts):
            gc.collect()
            gc.freeze()  # all hosts share a processor, and a real one has less to examine
            seconds = now - self._begun
            say(event="ready", seconds=seconds, failures=self._failures, objects=len(host.texts), at=now)

    def _digest(self, text: str) -> bytes:
        if text not in self._digests:
            self._digests[text] = digest_in(text)
        return self._digests[text]

    def drop(self) -> None:
        """All streams end at once, without a word."""
        there = [host.socket for host in self.hosts if host.socket is not None]
        self._sock = asyncio.Semaphore(AGAIN_AT_ONCE)
        self._answered, self._failures, self._begun = 0, -len(there), time.monotonic()
        for socket in there:
            socket.transport.abort()


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def run() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    crowd = Crowd(json.loads(await lines.readline()))
    tasks = [asyncio.create_task(crowd.live(host)) for host in crowd.hosts]
    while (line := await lines.readline()).strip() not in (b"", b"end"):
        if line.strip() == b"drop":
            crowd.drop()
    for task in tasks:
        task.cancel()


def main() -> int:
    asyncio.sslproto.SSLProtocol.max_size = READ
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with suppress(asyncio.CancelledError):
        asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
