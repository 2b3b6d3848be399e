"""Trials in a lab: they are kept in its folder, and every verb that changes the lab carries them on.

Owns where they are, and that no trial fails an apply. Is given a lab whose lock the caller holds. Must not know how a
trial counts.

A lab has no agent. So its tables and files are all there is of a trial, and each verb that concerns them checks whether
a trial's time is over. A process of its own does so meanwhile, and listens for samples (keeping.py).
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.files import Survives
from sgdataplane.host.private import open_lock, wait_for_lock
from sgdataplane.lab.record import LabFolder
from sgdataplane.trial.declared import begin_declared, list_declared, list_ended
from sgdataplane.trial.record import TrialFolder, TrialRecord
from sgdataplane.trial.report import TrialReport, report_of
from sgdataplane.trial.samples import Samples
from sgdataplane.trial.trial import Trial, TrialScope, follow, remove_others

if TYPE_CHECKING:
    from sgdataplane.lab.manage import Lab
    from sgdataplane.model.state import CloudState

FOLDER, SAMPLES_FILE, KEEPER = "trials", "samples", "keeper"  # and in it: what was sampled, and the lock of who listens
END_S = 10.0
LOGGER = logging.getLogger("sgdataplane.trials")


def folder_of(name: str) -> TrialFolder:
    """Return the folder of trials of the lab of that name."""
    return TrialFolder(LabFolder(name).path / FOLDER, Survives.THE_WRITER)


def scopes_of(lab: Lab) -> tuple[TrialScope, ...]:
    """Return all namespaces that enforce policy, as a trial takes them."""
    return tuple(TrialScope(at.netns, partial(nullcontext, at.netns), at.desired) for at in lab.enforced)


def start(lab: Lab, record: TrialRecord, state: CloudState) -> TrialReport:
    """Begin a trial, and return its first report.

    Raises:
        TrialError: There is one of that name, or there are too many.
        KernelError: The kernel refuses; then nothing of it is left.
    """
    folder, scopes = folder_of(lab.record.name), scopes_of(lab)
    with folder.lock():
        end_expired(lab, folder)
        folder.add(record, state)
        trial = Trial.load(folder, record.name)
        try:
            trial.carry_out(trial.plan(scopes), scopes)
            trial.note()
        except BaseException:
            trial.end(scopes)
            folder.remove(record.name)
            raise
    _begin_keeping(lab.record.name)
    return report_of(trial)


def read(lab: Lab, name: str) -> TrialReport:
    """Return what a trial has seen until now, or why that can't be read.

    Raises:
        TrialError: There is none of that name.
    """
    folder = folder_of(lab.record.name)
    with folder.lock():
        end_expired(lab, folder)
        return _report(lab, folder, name)


def _report(lab: Lab, folder: TrialFolder, name: str) -> TrialReport:
    record = folder.read_known(name)
    try:
        trial = Trial.load(folder, name)
    except SgDataplaneError as error:
        return TrialReport(record, str(error), (), ())
    trial.read(scopes_of(lab))
    kept = read_keeper(folder)
    trial.samples = Samples.of(kept.get("samples"))
    with suppress(OSError):
        trial.note()
    silent = kept.get("silent")
    return report_of(trial, map(str, silent) if isinstance(silent, list) else ())


def stop(lab: Lab, name: str) -> TrialReport:
    """End a trial, and return what it has seen.

    Raises:
        TrialError: There is none of that name.
        KernelError: The kernel refuses.
    """
    folder = folder_of(lab.record.name)
    with folder.lock():
        found = _report(lab, folder, name)
        _end(lab, folder, [name])
    if not folder.names():
        _forget_samples(folder)
    return found


def forget(name: str) -> None:
    """Remove what is kept of all trials, because the lab ends and their tables with it."""
    folder = folder_of(name)
    if folder.path.is_dir():
        for trial in folder.names():
            folder.remove(trial)
        _forget_samples(folder)


def _forget_samples(folder: TrialFolder) -> None:
    """Remove what the keeper has written, after the end of the last trial."""
    _wait_kept(folder.path)
    for name in (SAMPLES_FILE, KEEPER):
        (folder.path / name).unlink(missing_ok=True)


def read_keeper(folder: TrialFolder) -> Mapping[str, object]:
    """Return what the keeper has noted: samples, and where it can't listen. Nothing if that can't be read."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads((folder.path / SAMPLES_FILE).read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


def records(lab: Lab) -> tuple[TrialRecord, ...]:
    """Return the trials that run."""
    folder = folder_of(lab.record.name)
    with folder.lock():
        end_expired(lab, folder)
        return tuple(folder.read_known(name) for name in folder.names())


def follow_all(lab: Lab) -> None:
    """Make all trials follow the policy that the lab has now.

    Those that the lab's state declares begin, and those end that it doesn't declare any more. What goes wrong is
    logged, and fails no caller.
    """
    folder = folder_of(lab.record.name)
    declared = list_declared(lab.state, time.time())
    with suppress(SgDataplaneError):
        _end(lab, folder, tuple(list_ended(folder, declared)))
    for name, why in begin_declared(folder, declared).items():
        LOGGER.warning("the trial %s can't begin: %s", name, why)
    if declared:
        _begin_keeping(lab.record.name)
    for name in folder.names():
        try:
            trial = Trial.load(folder, name)
            follow(trial, scopes_of(lab))
            trial.note()
        except Exception as error:  # noqa: BLE001  # a trial can't fail an apply, nor another trial
            LOGGER.warning("a trial can't follow the policy: %s", error)


def list_expired(folder: TrialFolder) -> list[str]:
    """Return the trials whose time is over.

    One whose record can't be read ends by the age of its file (TrialFolder.read_known).
    """
    found = []
    for name in folder.names():
        with suppress(SgDataplaneError):
            if folder.read_known(name).until <= time.time():
                found.append(name)
    return found


def end_expired(lab: Lab, folder: TrialFolder) -> None:
    """End trials whose time is over. If the kernel refuses, the next call tries again."""
    with suppress(SgDataplaneError):
        _end(lab, folder, list_expired(folder))


def _end(lab: Lab, folder: TrialFolder, names: Collection[str]) -> None:
    """Remove the tables of these trials, then what is kept of them. KernelError if the kernel refuses."""
    if names:
        remove_others(scopes_of(lab), set(folder.names()) - set(names))
    for name in names:
        folder.remove(name)


def _begin_keeping(name: str) -> None:
    """Have a process keep the lab's trials, if none does; return when it listens.

    If it can't be started, trials lack samples.
    """
    nobody = subprocess.DEVNULL  # it outlives us, and must not hold anything of ours
    command = [sys.executable, "-m", "sgdataplane.lab.keeping", name]
    with suppress(OSError, SgDataplaneError, subprocess.TimeoutExpired):
        if _is_free(folder_of(name).path, 0.0):
            subprocess.run(command, check=False, timeout=END_S, stdin=nobody, stdout=nobody, stderr=nobody)


def _wait_kept(folder: Path) -> None:
    """Wait until no process keeps trials in that folder, which has none."""
    with suppress(OSError, SgDataplaneError):
        _is_free(folder, END_S)


def _is_free(folder: Path, seconds: float) -> bool:
    """Return whether no process keeps trials there, after waiting at most `seconds` for that."""
    with open(open_lock(folder / KEEPER), encoding="ascii") as lock:
        return wait_for_lock(lock.fileno(), seconds)
