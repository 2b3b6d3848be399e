"""The bytes of relays' summaries in a store, and the reading of them within bounds.

A summary comes from another machine. If somebody has taken that machine over, the summary may be anything. So what
isn't a summary is skipped: it costs no other relay its report, and little memory.

Owns how large a summary may be. Must not know where it is kept, or what its fields mean (control/hosts/status.py).
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterable
from typing import Any, NoReturn

from sgdataplane.limitedlog import limit_log
from sgdataplane.store.interface import Body
from sgdataplane.visible import visible

MAX_TEXT, MAX_TOTAL = 8 << 20, 128 << 20  # bytes of JSON, of one relay and of all: 10,000 hosts have about 2 MB
MAX_CONTAINERS, MAX_COMMAS = 100_000, 500_000  # of one relay: they bound the objects that its text becomes
MAX_RELAYS = 256  # whose summaries are read
MAX_NAME = 80  # characters of a relay's name in the log
LONG = 1 << 14  # bytes of JSON from which a summary is compressed, to about a tenth

LOGGER = logging.getLogger("sgdataplane.store")


class SummaryError(ValueError):
    """A value isn't a summary."""


class SummaryReader:
    """Reads summaries, and logs each relay whose summary is skipped once. One thread at a time may use it."""

    def __init__(self) -> None:
        self._log = limit_log(LOGGER)

    def read_all(self, values: Iterable[tuple[str, object]]) -> dict[str, Body]:
        """Return the summaries among these pairs of a relay's name and its value.

        At most `MAX_RELAYS` values and `MAX_TOTAL` bytes are read.
        """
        found: dict[str, Body] = {}
        total = 0
        for count, (relay, value) in enumerate(values):
            if count == MAX_RELAYS or total > MAX_TOTAL:
                self._log.write("", f"there are more summaries than are read: the first {count} relays are heard")
                break
            text, body = self._read(relay, value)
            total += len(text)
            if body is not None:
                found[relay] = body
        return found

    def _read(self, relay: str, value: object) -> tuple[bytes, Body | None]:
        text = b""
        try:
            text = decompress(value)
            body = read_summary(text)
        except SummaryError as error:
            self._log.write(relay, f"the summary of the relay {visible(relay[:MAX_NAME])} is skipped: {error}")
            return text, None
        self._log.forget(relay)
        return text, body


def read_summary(text: bytes) -> dict[str, Any]:
    """Return the JSON object of a text.

    Raises:
        SummaryError: It isn't one, or has more values than a summary may have.
    """
    if text.count(b"{") + text.count(b"[") > MAX_CONTAINERS or text.count(b",") > MAX_COMMAS:
        raise SummaryError("it has too many values")
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise SummaryError("it isn't JSON") from None
    if not isinstance(found, dict):
        raise SummaryError("it isn't a JSON object")
    return found


def compress(text: str) -> bytes:
    """Return what a store keeps of a summary's JSON, which is ASCII; `decompress` is its inverse."""
    return text.encode() if len(text) <= LONG else zlib.compress(text.encode(), 1)


def decompress(value: object) -> bytes:
    """Return the text of a value: a string, UTF-8, or UTF-8 that zlib has compressed, which begins with an x.

    No more than `MAX_TEXT` is decompressed.

    Raises:
        SummaryError: It is anything else, or longer than that.
    """
    if isinstance(value, str):
        value = value.encode(errors="replace")
    if not isinstance(value, bytes):
        raise SummaryError("it isn't text")
    text = value
    if value.startswith(b"x"):
        try:
            text = zlib.decompressobj().decompress(value, MAX_TEXT + 1)
        except zlib.error:
            raise SummaryError("it isn't compressed as it says") from None
    if len(text) > MAX_TEXT:
        raise SummaryError(f"it has more than {MAX_TEXT} bytes")
    return text


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} isn't JSON")
