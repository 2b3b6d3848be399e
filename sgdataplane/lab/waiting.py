"""The timeout factor of a lab on a machine that is slow for a reason, such as an emulated one.

Owns the factor: SGDP_TIMEOUT_FACTOR in the environment, 1 unless set. The processes that a lab starts inherit it. It
must not know what is waited for. It changes no verdict: a wait ends as soon as something is seen.
"""

from __future__ import annotations

import os

VARIABLE = "SGDP_TIMEOUT_FACTOR"
MAX_FACTOR = 100.0


def scale_timeout(seconds: float) -> float:
    """Return the time to wait on this machine: `seconds` times the factor."""
    return seconds * factor(os.environ.get(VARIABLE, ""))


def factor(text: str) -> float:
    """Return the factor that a value of VARIABLE stands for: 1 if it isn't a number from 1 to MAX_FACTOR."""
    try:
        found = float(text)
    except ValueError:
        return 1.0
    return found if 1.0 <= found <= MAX_FACTOR else 1.0
