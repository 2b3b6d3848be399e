"""Generations of a state: folders that are never changed, and a link that is turned from one to the next."""

from __future__ import annotations

from pathlib import Path

from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native


def write_generation(folder: Path, state: CloudState) -> None:
    """In two files, the groups in the second one."""
    folder.mkdir()
    text = dump_native(state)
    cut, end = text.index("security_groups:"), text.index("instances:")
    (folder / "a.yaml").write_text(text[:cut] + text[end:], "utf-8")
    (folder / "b.yaml").write_text(text[cut:end], "utf-8")


def turn(link: Path, to: str) -> None:
    """A link is renamed over the one before."""
    (link.parent / "next").symlink_to(to)
    (link.parent / "next").rename(link)
