"""Whether an ENI's policy is enforced, or only audited: what the rules refuse passes then, and is counted.

Owns the modes, how tags say them, and until when an ENI may be audited. Must not know clocks, files or hosts: whoever
reads a clock passes the time.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from datetime import UTC, datetime

MODE_TAG, UNTIL_TAG = "sgdp:mode", "sgdp:audit-until"
UNTIL_EXPECTED = "a time in UTC as 2026-12-24T00:00:00Z"
_UNTIL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class Mode(enum.Enum):
    """`audit`: packets pass that a rule, an inner policy or a default refuses. All else is dropped as ever."""

    ENFORCE = "enforce"
    AUDIT = "audit"


def parse_until(text: str) -> str:
    """Return the time as it is compared: texts of one shape are in the order of time. ValueError if it is none."""
    if not _UNTIL.fullmatch(text):
        raise ValueError(f"{text!r} is not {UNTIL_EXPECTED}")
    datetime.fromisoformat(text)
    return text


def until_text(seconds: float) -> str:
    """Return a time, given in seconds since 1970, in the same shape."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def until_seconds(text: str) -> float:
    """Return such a time in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def mode_of_tags(tags: Mapping[str, str]) -> tuple[Mode, str]:
    """Return the mode that an ENI's tags say, and until when. What can't be read means `enforce`."""
    until = tags.get(UNTIL_TAG, "")
    if tags.get(MODE_TAG) != Mode.AUDIT.value or not (not until or is_until(until)):
        return Mode.ENFORCE, ""
    return Mode.AUDIT, until


def is_until(text: str) -> bool:
    """Return whether that is such a time."""
    try:
        return bool(parse_until(text))
    except ValueError:
        return False


def unreadable_tags(tags: Mapping[str, str]) -> list[str]:
    """Return the tags of an ENI that should say a mode and can't be read."""
    known = {mode.value for mode in Mode}
    found = [MODE_TAG] if tags.get(MODE_TAG, Mode.ENFORCE.value) not in known else []
    return found + ([UNTIL_TAG] if tags.get(UNTIL_TAG) and not is_until(tags[UNTIL_TAG]) else [])
