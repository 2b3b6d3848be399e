"""The documents as a folder that the agent follows: one folder a revision, and a link to the current one.

    DIR/current -> generations/000000000042         what the agent reads: `state = "DIR/current"`
    DIR/generations/000000000042/vpcs-00.json, security_groups-07.json, network_interfaces-12.json, ...

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
from typing import TypeAlias

from sgdataplane.errors import HostError
from sgdataplane.store.history import Version
from sgdataplane.visible import json_text

FILES = 64  # of each section at most
MAX_REMEMBERED = 20_000  # objects of a generation that is remembered, so that the next one needs no look at its files
KEPT = 3  # generations; a reader that is slow may still be in one of them
WIDTH = 12
CURRENT, GENERATIONS = "current", "generations"

Parts: TypeAlias = dict[str, dict[str, object]]  # file -> the part of a document that it has


class Publisher:
    """A writer of generations into `folder`, which nobody else writes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._generations = folder / GENERATIONS
        self._written: tuple[Version, Parts] | None = None  # what this process wrote last, and what each file has

    @property
    def current(self) -> Path:
        """The path that the agent reads."""
        return self.folder / CURRENT

    def version(self) -> Version | None:
        """Return the version of the generation that the link leads to; None if there is none."""
        try:
            return version_of_generation(self.current.readlink().name)
        except OSError:
            return None

    def publish(self, version: Version, document: Mapping[str, object], *, always: bool = False) -> None:
        """Make a native document the current generation, unless it is already.

        `always` does so even if the current one is of a later version.

        Raises:
            HostError: It can't be written, or the current one is of a later version; then the one before stays.
        """
        before = self.version()
        if before is not None and version <= before and not always:
            self._require_same(version, before)
            return
        try:
            self._write(version, document, before)
            self._turn(version)
            self._remove_old(version)
        except OSError as error:
            raise HostError(f"folder {self.folder}", error.strerror or str(error)) from error

    def _require_same(self, version: Version, current: Version) -> None:
        """Raise HostError if an older version would take back what is in force, which only an operator may mean."""
        if version != current:
            what = f"it has {current}, and the store {version}: if the store was restored from a backup, run"
            more = "`sgdp api restored`; if it is another store, remove the folder"
            raise HostError(f"folder {self.folder}", f"{what} {more}")

    def _write(self, version: Version, document: Mapping[str, object], before: Version | None) -> None:
        """Write a generation under another name, and rename it once all of it is on disk."""
        self._generations.mkdir(mode=0o755, parents=True, exist_ok=True)
        name = name_of_generation(version)
        new = self._generations / f".{name}"
        old = self._generations / (name_of_generation(before) if before else ".none")
        shutil.rmtree(new, ignore_errors=True)  # of a process that died
        new.mkdir(mode=0o755)
        known = self._written[1] if self._written and self._written[0] == before else {}
        self._written, parts = None, split(document)
        for file, part in parts.items():
            path, before_path = f"{new}/{file}", f"{old}/{file}"
            if part != known.get(file) or not _link(path, before_path):
                _write_or_link(path, before_path, _text_of(part).encode())
        _sync(new)
        final, aside = self._generations / name, self._generations / f".{name}.aside"
        shutil.rmtree(aside, ignore_errors=True)
        if final.exists():  # written by a process that died, or the current one
            final.rename(aside)
        new.rename(final)
        if sum(len(part) for part in document.values() if isinstance(part, list)) <= MAX_REMEMBERED:
            self._written = version, parts
        _sync(self._generations)
        shutil.rmtree(aside, ignore_errors=True)

    def _turn(self, version: Version) -> None:
        """Rename the link to a generation over the one before."""
        beside = self.folder / f".{CURRENT}"
        beside.unlink(missing_ok=True)
        beside.symlink_to(f"{GENERATIONS}/{name_of_generation(version)}")
        beside.rename(self.current)
        _sync(self.folder)

    def _remove_old(self, version: Version) -> None:
        """Remove all but the last KEPT generations, and later ones, which are there if an operator went back."""
        found = sorted(filter(None, (version_of_generation(entry.name) for entry in self._generations.iterdir())))
        older = [one for one in found if one < version]
        later = [one for one in found if one > version]  # from before an operator went back
        for one in (*older[: 1 - KEPT], *later):
            shutil.rmtree(self._generations / name_of_generation(one))


def name_of_generation(version: Version) -> str:
    """Return the name of a generation's folder: the revision, after the epoch if the store was ever put back."""
    epoch = f"{version.epoch:0{WIDTH}}-" if version.epoch else ""
    return f"{epoch}{version.revision:0{WIDTH}}"


def version_of_generation(name: str) -> Version | None:
    """Return the version that a folder's name stands for; None if it is no generation's name."""
    epoch, _, revision = name.rpartition("-")
    return Version(int(epoch or 0), int(revision)) if revision.isdecimal() and (epoch or "0").isdecimal() else None


def files(document: Mapping[str, object]) -> dict[str, str]:
    """Return the text of every file, by its name."""
    return {name: _text_of(part) for name, part in split(document).items()}


def _text_of(part: object) -> str:
    return json_text(part, indent=1) + "\n"


def split(document: Mapping[str, object]) -> Parts:
    """Return what every file has. What isn't a list of objects is in the first one."""
    found: Parts = {"00.json": {"version": document.get("version", 1)}}
    for section, objects in document.items():
        for entry in objects if isinstance(objects, list) else ():
            number = zlib.crc32(str(next(iter(entry.values()))).encode()) % FILES
            part = found.setdefault(f"{section}-{number:02}.json", {}).setdefault(section, [])
            assert isinstance(part, list)
            part.append(entry)
    return dict(sorted(found.items()))


def _link(path: str, before: str) -> bool:
    """Make a file by a link to another one. Return whether that could be done."""
    try:
        os.link(before, path)
    except OSError:
        return False
    return True


def _write_or_link(path: str, before: str, data: bytes) -> None:
    """Make a file with that text; a link to the one before if that has the same."""
    try:
        if Path(before).read_bytes() == data and _link(path, before):
            return
    except OSError:
        pass  # there is none before
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
