"""Wait for what happens elsewhere, on a machine that may stand still for a while.

is_so_within(30.0, lambda: page.is_there)     whether it came to be so
"""

from __future__ import annotations

import time
from collections.abc import Callable

NAP_S = 0.01
TURN_S = 1.0  # the most that one look and the nap after it count for


def is_so_within(seconds: float, is_so: Callable[[], bool]) -> bool:
    """Return whether it came to be so in these seconds of waiting.

    A machine that stood still gave nobody a turn, neither us nor those whom we wait for: of one look and nap only
    TURN_S count.
    """
    left = seconds
    while left > 0:
        began = time.monotonic()
        if is_so():
            return True
        time.sleep(NAP_S)
        left -= min(time.monotonic() - began, TURN_S)
    return is_so()
