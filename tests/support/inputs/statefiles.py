"""A state's file or folder that nobody watches, for cycles that a test runs itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sgdataplane.model.state import CloudState
from sgdataplane.statefile import load


@dataclass(frozen=True)
class StateFiles:
    path: Path
    generation: str = ""

    def read(self, profile: str) -> CloudState:
        return load(self.path, profile=profile).state
