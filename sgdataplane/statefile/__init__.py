"""A state's files <-> CloudState: `load`, and the two formats to write it in. Must not judge policy."""

from __future__ import annotations

from sgdataplane.statefile.dump_ecs import dump_ecs
from sgdataplane.statefile.dump_native import dump_native
from sgdataplane.statefile.load import Loaded, load, load_native, load_owned, load_placed, load_plan, load_text
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.owner import SoleOwner
from sgdataplane.statefile.quotas import near_quotas

__all__ = [
    "Loaded",
    "Memory",
    "SoleOwner",
    "dump_ecs",
    "dump_native",
    "load",
    "load_native",
    "load_owned",
    "load_placed",
    "load_plan",
    "load_text",
    "near_quotas",
]
