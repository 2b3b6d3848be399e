"""The documents as a folder that the agent follows: one folder a revision, and a link that is turned to it.

    DIR/current -> generations/0000000042          what the agent reads: `state = "DIR/current"`
    DIR/generations/0000000042/vpcs.json, security_groups-7.json, network_interfaces-12.json, ...

Owns the files, and how they get there whole. Must not know actions or the agent.

Each section is spread over several files by id, so that a change writes few of them; a file that says the same as
before is linked to the one of the generation before. A generation is never changed. It's written under another name and
renamed when all of it is on disk, and then the link is renamed over the one before: whoever reads through the link gets
one generation or the other (statefile/source.py holds the folder open while it reads).
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

from sgdataplane.errors import HostError
from sgdataplane.visible import json_text

FILES = 64  # of each section at most
KEPT = 3  # generations; a reader that is slow may still be in one of them
WIDTH = 12
CURRENT, GENERATIONS = "current", "generations"


class Publisher:
    """Writes generations into `folder`, which is the API's alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._generations = folder / GENERATIONS

    @property
    def current(self) -> Path:
        """What the agent is told to read."""
        return self.folder / CURRENT

    def revision(self) -> int:
        """Of the generation that the link leads to; -1 if there is none."""
        try:
            return int(self.current.readlink().name)
        except (OSError, ValueError):
            return -1

    def publish(self, revision: int, document: Mapping[str, object]) -> None:
        """Make a native document the current generation. HostError if it can't be written; then the one before stays.
        An older revision than the current one is never published."""
        before = self.revision()
        if revision <= before:
            return
        try:
            self._write(revision, document, before)
            self._turn(revision)
            self._remove_old(revision)
        except OSError as error:
            raise HostError(f"folder {self.folder}", error.strerror or str(error)) from error

    def _write(self, revision: int, document: Mapping[str, object], before: int) -> None:
        self._generations.mkdir(mode=0o755, parents=True, exist_ok=True)
        name = name_of_generation(revision)
        new, old = self._generations / f".{name}", self._generations / name_of_generation(before)
        shutil.rmtree(new, ignore_errors=True)  # of a process that died
        new.mkdir(mode=0o755)
        for file, text in files(document).items():
            _write_or_link(new / file, old / file, text.encode())
        _sync(new)
        final = self._generations / name
        shutil.rmtree(final, ignore_errors=True)
        new.rename(final)
        _sync(self._generations)

    def _turn(self, revision: int) -> None:
        beside = self.folder / f".{CURRENT}"
        beside.unlink(missing_ok=True)
        beside.symlink_to(f"{GENERATIONS}/{name_of_generation(revision)}")
        beside.rename(self.current)
        _sync(self.folder)

    def _remove_old(self, revision: int) -> None:
        names = sorted(entry.name for entry in self._generations.iterdir())
        older = [name for name in names if name.isdecimal() and int(name) < revision]
        for name in older[: 1 - KEPT]:
            shutil.rmtree(self._generations / name)


def name_of_generation(revision: int) -> str:
    """Of its folder; in the order of revisions."""
    return f"{revision:0{WIDTH}}"


def files(document: Mapping[str, object]) -> dict[str, str]:
    """Name -> text of every file. What isn't a list of objects is in the first one."""
    found: dict[str, dict[str, object]] = {"00.json": {"version": document.get("version", 1)}}
    for section, objects in document.items():
        for entry in objects if isinstance(objects, list) else ():
            number = zlib.crc32(str(next(iter(entry.values()))).encode()) % FILES
            part = found.setdefault(f"{section}-{number:02}.json", {}).setdefault(section, [])
            assert isinstance(part, list)
            part.append(entry)
    return {name: json_text(part, indent=1) + "\n" for name, part in sorted(found.items())}


def _write_or_link(path: Path, before: Path, data: bytes) -> None:
    """A file with that text; the same one as before if that says the same."""
    try:
        if before.read_bytes() == data:
            path.hardlink_to(before)
            return
    except OSError:
        pass  # there is none before, or no link can be made to it
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
