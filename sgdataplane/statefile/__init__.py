"""A state's files <-> CloudState: `load`, and the two ways to write it out again. Must not judge policy."""

from __future__ import annotations

from sgdataplane.statefile.load import Loaded, load, load_sources

__all__ = ["Loaded", "load", "load_sources"]
