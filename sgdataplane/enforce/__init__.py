"""The enforcement of one state in one namespace."""

from sgdataplane.enforce.clearing import Clearing
from sgdataplane.enforce.desired import DEFAULT_SETTINGS, ApplyReport, Desired, Settings
from sgdataplane.enforce.epochs import Ageing, Clearance, ClearedEpochs, Epochs
from sgdataplane.enforce.fence import check_fence
from sgdataplane.enforce.proven import Build, Cache, Proven, TableSummary, build
from sgdataplane.enforce.sessions import KernelSessions
from sgdataplane.enforce.steps import (
    apply,
    check_hold,
    check_kernel,
    enforce,
    generation_and_process,
    is_enforced,
    is_in_force,
    remove,
)
from sgdataplane.nft.commits import own_process
from sgdataplane.nft.messages import trim_encoded

__all__ = [
    "DEFAULT_SETTINGS",
    "Ageing",
    "ApplyReport",
    "Build",
    "Cache",
    "Clearance",
    "ClearedEpochs",
    "Clearing",
    "Desired",
    "Epochs",
    "KernelSessions",
    "Proven",
    "Settings",
    "TableSummary",
    "apply",
    "build",
    "check_fence",
    "check_hold",
    "check_kernel",
    "enforce",
    "generation_and_process",
    "is_enforced",
    "is_in_force",
    "own_process",
    "remove",
    "trim_encoded",
]
