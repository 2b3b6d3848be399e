"""The files of trials: a folder with three files a trial, each replaced in one step.

Owns these files, the names of trials, and how many there may be. Must not know the kernel.

    <name>.yaml     the state on trial; none if the state in force declares the trial (declared.py)
    <name>.json     what was asked for: the trial's ENIs, when it began, when it ends
    <name>.seen     its lines, what they counted, and which lines an apply has made true

The state is written first and the record last, so that a record stands for a whole trial. A file that can't be read
pauses its trial, and stops nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sgdataplane.errors import HostError, TrialError
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.host.private import make_private_folder, open_lock, wait_for_lock
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import dump_native, load

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
EXPECTED = "a name of up to 63 letters, digits, dots, dashes and underscores that begins with a letter or digit"
MAX_TRIALS = 16
MAX_S = 30 * 86400  # that a trial runs
UNREADABLE = "a record that can't be read"
LOCK, LOCK_S = "lock", 30.0
MAX_SEEN_BYTES = 64 << 20
VERSION = 1


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """The record of one trial."""

    name: str
    source: str
    """The name of its state when it began."""
    enis: tuple[str, ...]
    """The ENIs that it is about; empty for all."""
    since: float
    """When it began, in seconds since 1970."""
    until: float
    """When it ends, in seconds since 1970."""
    group: str = ""
    """The group whose proposed rules it is about, if the state in force declares it; "" if it has its own state."""


def check_trial_name(name: str) -> str:
    """Return the name. TrialError if it can't be a trial's."""
    if not NAME.fullmatch(name):
        raise TrialError(name, f"it can't be a trial's name; expected {EXPECTED}")
    return name


class TrialFolder:
    """The trials of a lab, or of this host's agent. `survives` says what a change has to outlast."""

    def __init__(self, path: Path, survives: Survives) -> None:
        self.path, self._survives = path, survives

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder's lock while the block runs: nobody else changes trials.

        Raises:
            HostError: Others keep it.
        """
        make_private_folder(self.path)
        with open(open_lock(self.path / LOCK), encoding="ascii") as file:
            if not wait_for_lock(file.fileno(), LOCK_S):
                raise HostError(str(self.path), f"another command has been working on trials for {LOCK_S:g} s")
            yield

    def names(self) -> tuple[str, ...]:
        """Return the names of all trials, sorted."""
        try:
            found = sorted(path.stem for path in self.path.glob("*.json"))
        except OSError:
            return ()
        return tuple(name for name in found if NAME.fullmatch(name))

    def free_name(self) -> str:
        """Return a name that no trial has."""
        taken = set(self.names())
        return next(name for name in (f"trial{number}" for number in range(1, MAX_TRIALS + 2)) if name not in taken)

    def add(self, record: TrialRecord, state: CloudState | None) -> None:
        """Keep another trial. `state` is the one on trial; None if the state in force declares the trial.

        Raises:
            TrialError: There is one of that name, or there are too many.
            OSError: It can't be written.
        """
        check_trial_name(record.name)
        taken = self.names()
        if record.name in taken:
            raise TrialError(record.name, "there is one of that name already; stop it, or choose another name")
        if len(taken) >= MAX_TRIALS:
            raise TrialError(record.name, f"{MAX_TRIALS} trials run here already, which is the most; stop one")
        make_private_folder(self.path)
        self.remove(record.name)  # what a start left that was killed
        if state is not None:
            self._write(f"{record.name}.yaml", dump_native(state))
        self._write(f"{record.name}.json", json.dumps({"version": VERSION, **asdict(record)}))

    def record(self, name: str) -> TrialRecord:
        """Return a trial's record. TrialError if there is no such trial, or its record can't be read."""
        try:
            value = json.loads((self.path / f"{check_trial_name(name)}.json").read_bytes())
            if value.pop("version") != VERSION:
                raise ValueError("it is of another version")
            times = float(value["since"]), float(value["until"])
            enis = tuple(map(str, value["enis"]))
            return TrialRecord(name, str(value["source"]), enis, *times, str(value.get("group", "")))
        except FileNotFoundError:
            raise self._make_missing_error(name) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TrialError(name, f"its record can't be read ({error})") from error

    def read_known(self, name: str) -> TrialRecord:
        """Return a trial's record; one that can't be read is made up from its file's age.

        That one ends as if the trial had begun when the file was written, and ran as long as a trial may. TrialError if
        there is no such trial.
        """
        try:
            return self.record(name)
        except TrialError as error:
            if error.is_missing:
                raise
        try:
            since = (self.path / f"{name}.json").stat().st_mtime
        except OSError:
            raise self._make_missing_error(name) from None
        return TrialRecord(name, UNREADABLE, (), since, since + MAX_S)

    def _make_missing_error(self, name: str) -> TrialError:
        """Return the error that there is no such trial, with the names of those that run."""
        others = ", ".join(self.names()) or "none"
        return TrialError(name, f"no such trial; running: {others}", is_missing=True)

    def state(self, name: str) -> CloudState:
        """Return the state on trial. StateFileError if it can't be read."""
        return load(self.path / f"{name}.yaml", profile="unlimited").state

    def read_seen(self, name: str) -> Mapping[str, object]:
        """Return what was noted last; nothing if there is nothing that can be read."""
        path = self.path / f"{name}.seen"
        with suppress(OSError, ValueError, RecursionError, MemoryError):
            if path.stat().st_size <= MAX_SEEN_BYTES:
                value = json.loads(path.read_bytes())
                return value if isinstance(value, dict) else {}
        return {}

    def note(self, name: str, seen: Mapping[str, object]) -> None:
        """Keep what was seen. OSError if it can't be written; the earlier file stays."""
        self._write(f"{name}.seen", json.dumps(seen, separators=(",", ":")))

    def remove(self, name: str) -> None:
        """Forget a trial; the record goes first."""
        for kind in ("json", "yaml", "seen"):
            (self.path / f"{name}.{kind}").unlink(missing_ok=True)

    def _write(self, name: str, text: str) -> None:
        replace_file(self.path / name, text.encode(), self._survives, mode=0o600)
