"""Spans of time, and times, as people write them.

Is given text. Must not know what is asked for.
"""

from __future__ import annotations

import re
from datetime import datetime

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SPAN = re.compile(r"([1-9][0-9]{0,6})([smhdw])")
SPAN_WORDS = "a number and s, m, h, d or w, such as 90m or 30d"
TIME_WORDS = f"{SPAN_WORDS} (ago), or a time such as 2026-12-24T08:00 (local, unless it has an offset)"


def parse_span(text: str) -> int:
    """Parse a span of time, and return its seconds. ValueError if it is none."""
    found = SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not {SPAN_WORDS}")
    return int(found[1]) * UNITS[found[2]]


def parse_time(text: str, now: float) -> float:
    """Parse a time: so long ago, or a date and time; return its seconds since 1970.

    Raises:
        ValueError: It is neither.
    """
    if SPAN.fullmatch(text):
        return now - parse_span(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not {TIME_WORDS}") from None
    return found.timestamp()  # local, unless it has an offset: as outputs show it
