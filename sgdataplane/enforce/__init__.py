"""One namespace made equal to one state."""

from sgdataplane.enforce.desired import DEFAULT_SETTINGS, ApplyReport, Desired, Settings
from sgdataplane.enforce.epochs import ALL_EPOCHS, SECOND_HALF, KernelSessions
from sgdataplane.enforce.steps import apply, enforce, remove

__all__ = [
    "ALL_EPOCHS",
    "DEFAULT_SETTINGS",
    "SECOND_HALF",
    "ApplyReport",
    "Desired",
    "KernelSessions",
    "Settings",
    "apply",
    "enforce",
    "remove",
]
