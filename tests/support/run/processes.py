"""Tell which processes a process has begun, and which of them run.

Owns reading that from /proc, where threads and processes may end while they are read. Must not know what they are for.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def list_children(pid: int) -> list[int]:
    """Return the processes that a process has begun and not waited for; none if it isn't there."""
    found: list[str] = []
    for each in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += each.read_text("ascii").split()
    return [int(child) for child in found]


def list_running_children(pid: int) -> list[int]:
    """Return those of them that haven't ended."""
    return [child for child in list_children(pid) if is_running(child)]


def is_running(pid: int) -> bool:
    """Return whether a process is there, and no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")
