"""The report of an error that is a bug of sgdataplane.

Owns the wording of a bug report. Must not know what failed.
"""

from __future__ import annotations

import platform
import traceback
from pathlib import Path

from sgdataplane import __version__


def bug_report(error: Exception) -> str:
    """Return a short block: what happened, where, on which system, and what to send with the report."""
    frame, system = traceback.extract_tb(error.__traceback__)[-1], f"{platform.system()} {platform.release()}"
    return "\n".join(
        (
            f"{type(error).__name__}: {error}",
            f"  in:      {Path(frame.filename).name}:{frame.lineno} {frame.name}",
            f"  version: sgdp {__version__}, Python {platform.python_version()}, {system}",
            "  This is a bug in sgdataplane, not in your input. Please report it with this block, the command and",
            "  the state file. --debug adds the traceback.",
        )
    )
