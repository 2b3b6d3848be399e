"""Undoing: an earlier policy that is held in place of the state on disk.

Owns when a hold begins and ends, and its file. Its input is policies. Must not know cycles, or how a policy is
enforced.

A hold ends when somebody resumes, when its time is over, or when the state on disk is another one than the one that it
holds off. A hold is always visible: the state on disk counts as refused as long as it lasts.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sgdataplane.daemon.logs import event
from sgdataplane.daemon.pastpolicies import UNREADABLE, PastPolicies, WrittenState, digest_of
from sgdataplane.daemon.policy import Origin, Policy
from sgdataplane.daemon.statefolder import HOLD, POLICIES, make_state_folder
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.files import Survives, replace_file
from sgdataplane.model.modes import until_text
from sgdataplane.model.state import CloudState

MAX_HOLD_S = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold of an earlier policy that somebody asked for."""

    number: int  # the policy's
    digest: str  # names the policy's content
    instead_of: str  # digest of the state on disk when it began; "" if that could not be read
    until: float  # seconds since 1970; 0: without end

    @property
    def words(self) -> str:
        """Why the state on disk isn't in force."""
        until = f" until {until_text(self.until)}" if self.until else ""
        return f"policy {self.number} is in force in place of the state on disk{until} (`sgdp resume` ends that)"


class PolicyKeeper:
    """Keeps policies, and holds one of them if somebody has asked for it.

    A cycle and clients may use it at once.

    Attributes:
        past: The policies that are kept.
        source: The name of the state on disk.
        error: Why the hold can't be kept over a restart; "" if it can.
        hold: The hold; None if there is none.
    """

    def __init__(self, state_directory: Path, source: str = "", now: Callable[[], float] = time.time) -> None:
        self.past = PastPolicies(state_directory / POLICIES)
        self.source, self.error = source, ""
        self._path, self._now, self._lock = state_directory / HOLD, now, threading.Lock()
        self._state: tuple[str, CloudState] | None = None  # what is held, by its digest
        self._on_disk: Policy | None = None
        self._held_off: CloudState | None = None  # a state on disk that is known to be the one held off
        self.hold: Hold | None = self._load()

    @property
    def wait_s(self) -> float | None:
        """The seconds until the hold is over; None if there is none, or it has no end."""
        hold = self.hold
        return None if hold is None or not hold.until else max(0.0, hold.until - self._now())

    @property
    def errors(self) -> tuple[str, ...]:
        """Why policies, or the hold, aren't kept."""
        return tuple(error for error in (self.past.error, self.error) if error)

    def begin(self, number: int, seconds: float) -> Hold:
        """Hold that policy from the next cycle on, for so many seconds; 0: without end.

        Raises:
            HostError: The policy isn't kept or was changed. Nothing changes then.
        """
        entry, on_disk = self.past.find(number), self._on_disk
        self.past.check(entry.digest)
        is_read = on_disk is not None and on_disk.origin is Origin.STATE
        instead_of = digest_of(on_disk.state) if on_disk is not None and is_read else ""
        until = self._now() + min(seconds, MAX_HOLD_S) if seconds else 0.0
        hold = Hold(number, entry.digest, instead_of, until)
        with self._lock:
            self.hold = hold
            self._store(hold)
        event(logging.WARNING, "held", policy=number, until=until_text(until) if until else "resumed")
        return hold

    def resume(self) -> bool:
        """Let the state on disk be in force from the next cycle on. Return whether another one was held."""
        hold = self.hold
        return hold is not None and self._end(hold, "somebody asked for it")

    def choose(self, on_disk: Policy) -> Policy:
        """Return the policy to enforce: this one, or what is held."""
        self._on_disk, hold = on_disk, self.hold
        if hold is None:
            return on_disk
        if hold.until and self._now() >= hold.until:
            self._end(hold, "its time is over")
            return on_disk
        if self._is_other(on_disk, hold):
            self._end(hold, "the state on disk has changed")
            return on_disk
        state = self._read_held_policy(hold)
        if state is None:
            return on_disk
        refusal = f"{hold.words}\n{on_disk.refusal}" if on_disk.refusal else hold.words
        return Policy(state, Origin.HELD, refusal, on_disk.is_missing, refused=on_disk.generation or on_disk.refused)

    def in_force(self, on_disk: CloudState | None) -> CloudState | None:
        """Return what the agent enforces, by what is kept on disk; None if that can't be told. It changes nothing.

        Processes other than the agent ask this. `on_disk` is the state there; None if it can't be read.
        """
        hold = self.hold if self.holds(on_disk) else None
        if hold is None and on_disk is not None:
            return on_disk
        last = self.past.entries[-1].digest if self.past.entries else ""
        digest = last if hold is None else hold.digest
        with suppress(SgDataplaneError):
            return self.past.state(digest) if digest else None
        return None

    def holds(self, on_disk: CloudState | None) -> bool:
        """Whether an earlier policy is held in place of the state on disk on disk; None: it can't be read."""
        hold = self.hold
        if hold is None or (hold.until and self._now() >= hold.until):
            return False
        return on_disk is None or digest_of(on_disk) == hold.instead_of

    def note(self, policy: Policy, written: WrittenState | None = None) -> None:
        """Keep a policy that is in force. `written` is where it is on disk already, if it is."""
        hold = self.hold
        if policy.origin is Origin.HELD and hold is not None:
            self.past.note(policy.state, self.source, "", f"back to {hold.number}")
        elif policy.origin is Origin.STATE:
            self.past.note(policy.state, self.source, policy.generation, written=written)

    def _is_other(self, on_disk: Policy, hold: Hold) -> bool:
        """Whether the state on disk was read, and isn't the one that is held off."""
        if on_disk.origin is not Origin.STATE or on_disk.state is self._held_off:
            return False
        if digest_of(on_disk.state) != hold.instead_of:
            return True
        self._held_off = on_disk.state
        return False

    def _read_held_policy(self, hold: Hold) -> CloudState | None:
        """Return the state that is held. If it can't be read, end the hold and return None."""
        known = self._state
        if known is not None and known[0] == hold.digest:
            return known[1]
        try:
            state = self.past.state(hold.digest)
        except SgDataplaneError as error:
            self._end(hold, f"policy {hold.number} can't be read: {error}")
            return None
        self._state = hold.digest, state
        return state

    def _end(self, hold: Hold, why: str) -> bool:
        """End this hold, unless there is another one by now. Return whether that was done."""
        with self._lock:
            if self.hold is not hold:
                return False
            self.hold = self._state = self._held_off = None
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                self.error = f"{self._path}: {error.strerror}"
        event(logging.WARNING, "resumed", held=hold.number, why=why)
        return True

    def _store(self, hold: Hold) -> None:
        self.error = ""
        try:
            make_state_folder(self._path.parent)
            replace_file(self._path, json.dumps(asdict(hold)).encode(), Survives.AS_NEW, mode=0o600)
        except (SgDataplaneError, OSError) as error:
            self.error = f"{self._path}: {error}; the hold ends with the agent"

    def _load(self) -> Hold | None:
        with suppress(FileNotFoundError):
            try:
                value = json.loads(self._path.read_bytes())
                until = float(value["until"])
                if not math.isfinite(until):
                    raise ValueError("its end is not a time")
                return Hold(int(value["number"]), str(value["digest"]), str(value["instead_of"]), until)
            except FileNotFoundError:
                raise
            except UNREADABLE as error:
                self.error = f"{self._path}: it can't be read, so nothing is held ({error})"
        return None
