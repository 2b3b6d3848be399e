"""What goes wrong in one namespace ends there: others are enforced, looked at and counted all the same.

Owns what an exception becomes that nobody foresaw. Must not know what was being done.

Who is root in a namespace chooses what the kernel tells of it, so it isn't only a bug of ours that may raise anything.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from sgdataplane.errors import ContainedError, InternalError, SgDataplaneError

LOGGER = logging.getLogger("sgdataplane.contained")
Told = SgDataplaneError | InternalError


def told(error: Exception) -> Told:
    """The error as its namespace's report has it. What nobody foresaw is logged with its traceback."""
    if isinstance(error, SgDataplaneError):
        return error
    if not isinstance(error, InternalError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        LOGGER.error("not foreseen, in one namespace", exc_info=error)
        return ContainedError(error, f"{Path(frame.filename).name}:{frame.lineno} {frame.name}")
    return error
