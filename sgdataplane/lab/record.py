"""The record of a lab: /run/sgdataplane/labs/<name>/ with lab.json, the applied state and a lock.

Owns these files. It is given records. Must not know the kernel.

lab.json is written before anything is created, so `down` can find and remove by name whatever a killed verb left.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import IO

from sgdataplane.errors import LabError
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.private import make_private_folder, open_lock, wait_for_lock
from sgdataplane.lab.parts import check_lab_name
from sgdataplane.model.choices import CHOICES, IN_LAB, Choices, read_choices
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native, load

LABS_DIR = Path("/run/sgdataplane/labs")
VERSION = 1
LOCK_S = 30.0
LOCK = "lock"
CHANGING, UP = "changing", "up"


@dataclass(frozen=True, slots=True)
class LabRecord:
    """The record of a lab, from which every verb finds everything that the lab has."""

    name: str
    externals: tuple[tuple[str, ...], ...]
    """The addresses of each host outside."""
    namespaces: tuple[str, ...]
    """All namespaces that may exist by now."""
    phase: str = CHANGING
    """CHANGING while a verb works, and for good if the verb dies; else UP."""
    state_file: str = ""
    """The file of the applied state; empty before a state was in force. Each apply gives it another name."""
    time_scale: float = 1.0
    """The factor of the lab's timeouts."""
    hosts: int = 1
    """How many hosts each VPC is spread over."""
    choices: Choices = IN_LAB
    """How the lab judges; every verb that asks the lab uses them."""

    @property
    def is_up(self) -> bool:
        """Whether the lab is complete."""
        return self.phase == UP


class LabFolder:
    """The folder of one lab. Change it only while holding its lock."""

    def __init__(self, name: str, base: Path | None = None) -> None:
        self.name = check_lab_name(name)
        self.path = (base or LABS_DIR) / name

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Hold the lab's lock while the block runs: alone, or `shared` to change nothing.

        Raises:
            LabError: Another verb holds it for longer than LOCK_S.
        """
        with self._open_lock() as file:
            self._wait_lock(file, shared=shared)
            if self._is_current(file):
                yield
                return
        with self.lock(shared=shared):  # `down` removed the folder while we waited, so we hold an old lock
            yield

    def _is_current(self, file: IO[str]) -> bool:
        """Return whether that file is the lock that the folder has now."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), (self.path / LOCK).stat())
        except FileNotFoundError:
            return False

    def _open_lock(self) -> IO[str]:
        """Open the lock, and make it with its folders if they don't exist."""
        while True:
            with suppress(FileNotFoundError):  # another verb removed it between these steps
                make_private_folder(self.path.parent)
                make_private_folder(self.path)
                return open(open_lock(self.path / LOCK), encoding="ascii")

    def _wait_lock(self, file: IO[str], *, shared: bool) -> None:
        if not wait_for_lock(file.fileno(), LOCK_S, shared=shared):
            raise LabError(f"lab {self.name}", f"another command has been working on it for {LOCK_S:g} s")

    def load(self) -> LabRecord | None:
        """Return the record; None if there is none. LabError if it can't be read."""
        try:
            value = json.loads((self.path / "lab.json").read_text(encoding="utf-8"))
            if value.pop("version") != VERSION:
                raise LabError(f"lab {self.name}", "its record is of another version; take it down with that version")
            externals = tuple(tuple(addresses) for addresses in value.pop("externals"))
            namespaces = tuple(value.pop("namespaces"))
            chosen = {name: value.pop(name) for name in CHOICES if name in value}
            choices = IN_LAB.over(read_choices(chosen))
            return LabRecord(externals=externals, namespaces=namespaces, choices=choices, **value)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LabError(f"lab {self.name}", f"its record {self.path}/lab.json can't be read ({error})") from error

    def store(self, record: LabRecord) -> None:
        """Replace the record in one step."""
        values = {entry.name: getattr(record, entry.name) for entry in fields(record) if entry.name != "choices"}
        text = json.dumps({"version": VERSION, **values, **record.choices.plain()}, indent=1)
        self._write("lab.json", text + "\n")

    def store_applied(self, record: LabRecord, state: CloudState) -> LabRecord:
        """Store the state that is now in force, then point the record at it and remove earlier states' files."""
        applied = replace(record, phase=UP, state_file=f"state-{secrets.token_hex(8)}.yaml")
        self._write(applied.state_file, dump_native(state))
        self.store(applied)
        for old in self.path.glob("state-*.yaml"):
            if old.name != applied.state_file:
                old.unlink(missing_ok=True)
        return applied

    def load_applied(self, record: LabRecord) -> CloudState:
        """Return the state in force. StateFileError if it is gone.

        Quotas aren't checked here: they were checked, if at all, before it was applied.
        """
        return load(self.path / record.state_file, profile="unlimited").state

    def remove(self) -> None:
        """Remove the folder with the lock in it, and the one above if this was the last lab.

        The next one up stays: where others have mounted something on it in a mount namespace of theirs, the kernel
        would detach that.
        """
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # other labs are there
            self.path.parent.rmdir()

    def _write(self, name: str, text: str) -> None:
        """Write a file whole or not at all, even if this process dies.

        It isn't flushed, because no lab outlives its machine.
        """
        replace_file(self.path / name, text.encode(), Survives.THE_WRITER)


def up_since(name: str) -> float:
    """Return when the lab was built, in seconds since 1970: its lock was made first and is never written to."""
    return (LABS_DIR / check_lab_name(name) / LOCK).stat().st_mtime


def lab_names(base: Path | None = None) -> tuple[str, ...]:
    """Return the names of the labs that have a record, sorted."""
    return tuple(sorted(path.parent.name for path in (base or LABS_DIR).glob("*/lab.json")))
