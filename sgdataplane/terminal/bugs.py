"""The report of an error that nothing foresaw: a bug of sgdataplane, or a lack of memory.

Owns the wording of a bug report. Must not know what failed.
"""

from __future__ import annotations

import platform
import traceback
from pathlib import Path

from sgdataplane import __version__

BUG = (
    "  This is a bug in sgdataplane, not in your input. Please report it with this block, the command and",
    "  the state file. --debug adds the traceback.",
)
NO_MEMORY = ("  No memory was left. `ulimit -v` and the cgroup say how much the command may have.",)


def bug_report(error: Exception) -> str:
    """Return a short block: what happened, where, on which system, and what to do about it."""
    frame, system = traceback.extract_tb(error.__traceback__)[-1], f"{platform.system()} {platform.release()}"
    return "\n".join(
        (
            f"{type(error).__name__}: {error}",
            f"  in:      {Path(frame.filename).name}:{frame.lineno} {frame.name}",
            f"  version: sgdp {__version__}, Python {platform.python_version()}, {system}",
            *(NO_MEMORY if isinstance(error, MemoryError) else BUG),
        )
    )
