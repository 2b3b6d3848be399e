"""Connections of clients without a key that do their worst, each kind in its own way, as a process of their own.

python -m tests.http.hostile URL COUNT SECONDS      ends by itself
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import cycle
from urllib.parse import urlsplit

from tests.http.signing import KEY, acs3

Work = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MEGABYTE = 1 << 20
PAIRS = "&".join(f"Parameter.{number}={'%20x' * 60}" for number in range(3_900))
FORM = b"content-type: application/x-www-form-urlencoded\r\n"


def request(target: str, body: bytes = b"", headers: bytes = b"", method: str = "POST") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n".encode()
    return head + headers + b"\r\n" + body


def again(text: bytes) -> Work:
    """Send the same again and again, as soon as it was answered."""

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(text)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(size)

    return work


def slowly(begin: bytes, each: bytes) -> Work:
    """Begin, and go on a few bytes at a time."""

    async def work(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while True:
            await writer.drain()
            await asyncio.sleep(0.5)
            writer.write(each)

    return work


def odd_header() -> bytes:
    signed = acs3("DescribeVpcs", {}, {"a": "b"})
    lines = {**signed.headers, "x-acs-content-sha256": "\xe9" * 64}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if name != "host")
    return request(signed.target, signed.body, text.encode("latin-1"))


def v1(key: str) -> bytes:
    names = f"AccessKeyId={key}&Signature=s&SignatureNonce=n&Timestamp=2026-01-01T00:00:00Z"
    return f"{names}&Action=DescribeVpcs&Version=2014-05-26&{PAIRS}".encode()[:MEGABYTE]


KINDS: dict[str, Work] = {
    "idle": slowly(b"", b""),
    "slow head": slowly(b"POST / HTTP/1.1\r\n", b"x: y\r\n"),
    "slow body": slowly(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n", b"a=b&"),
    "slow large body": slowly(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n", b"a=b&"),
    "no signature": again(request("/?Action=DescribeVpcs")),
    "large without a signature": again(request("/", PAIRS.encode()[:MEGABYTE], FORM)),
    "large of an unknown key": again(request("/", v1("LTAInone"), FORM)),
    "large of a known key": again(request("/", v1(KEY), FORM)),
    "not ASCII": again(odd_header()),
    "another path": again(request("/nothing", method="GET")),
    "health": again(request("/healthz", method="GET")),
    "metrics": again(request("/metrics", method="GET")),
}


async def one(host: str, port: int, work: Work) -> None:
    """Come again when the server has ended the connection, but not at once."""
    while True:
        with suppress(OSError, asyncio.IncompleteReadError, ValueError, StopIteration):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                await work(reader, writer)
            finally:
                writer.close()
        await asyncio.sleep(0.2)


async def all_of_them(url: str, count: int, seconds: float) -> None:
    at = urlsplit(url)
    works = [work for work, _ in zip(cycle(KINDS.values()), range(count), strict=False)]
    tasks = [asyncio.create_task(one(str(at.hostname), int(at.port or 0), work)) for work in works]
    print("begun", flush=True)
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(all_of_them(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
