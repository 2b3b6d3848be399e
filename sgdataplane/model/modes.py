"""Whether an ENI's policy is enforced, or only audited: what the rules refuse passes then, and is counted.

Owns the modes, how tags say them, and until when an ENI may be audited. Must not know clocks, files or hosts: callers
that read a clock pass the time.
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
    """Whether an ENI enforces what its rules refuse."""

    ENFORCE = "enforce"
    AUDIT = "audit"
    """Packets pass that a rule, an inner policy or a default refuses. What has another cause is still dropped."""


def parse_until(text: str) -> str:
    """Return the time in the form in which times are compared: texts of this form sort by time.

    Raises:
        ValueError: the text is no such time.
    """
    if not _UNTIL.fullmatch(text):
        raise ValueError(f"{text!r} is not {UNTIL_EXPECTED}")
    datetime.fromisoformat(text)
    return text


def until_text(seconds: float) -> str:
    """Return a time, given in seconds since 1970, in the form of UNTIL_EXPECTED."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def until_seconds(text: str) -> float:
    """Return a time of that form in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def mode_of_tags(tags: Mapping[str, str]) -> tuple[Mode, str]:
    """Return the mode that an ENI's tags say, and the end of its audit ("" if it has none).

    Tags that can't be read mean `enforce`.
    """
    until = tags.get(UNTIL_TAG, "")
    if tags.get(MODE_TAG) != Mode.AUDIT.value or not (not until or is_until(until)):
        return Mode.ENFORCE, ""
    return Mode.AUDIT, until


def is_until(text: str) -> bool:
    """Return whether the text is a time of the form of UNTIL_EXPECTED."""
    try:
        return bool(parse_until(text))
    except ValueError:
        return False


def unreadable_tags(tags: Mapping[str, str]) -> list[str]:
    """Return the names of the tags that should say a mode or its end, and can't be read."""
    known = {mode.value for mode in Mode}
    found = [MODE_TAG] if tags.get(MODE_TAG, Mode.ENFORCE.value) not in known else []
    return found + ([UNTIL_TAG] if tags.get(UNTIL_TAG) and not is_until(tags[UNTIL_TAG]) else [])
