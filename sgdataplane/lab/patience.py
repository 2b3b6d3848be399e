"""How long a lab waits on a machine that is slow for a reason, such as an emulated one.

Owns the factor: SGDP_PATIENCE in the environment, 1 unless set. The processes that a lab starts inherit it. Must not
know what is waited for. It changes no verdict: what is seen sooner is believed sooner.
"""

from __future__ import annotations

import os

VARIABLE = "SGDP_PATIENCE"
MOST = 100.0


def patient(seconds: float) -> float:
    """So long here. What is no number from 1 to MOST counts as 1."""
    return seconds * factor(os.environ.get(VARIABLE, ""))


def factor(text: str) -> float:
    """What a value of VARIABLE says."""
    try:
        found = float(text)
    except ValueError:
        return 1.0
    return found if 1.0 <= found <= MOST else 1.0
