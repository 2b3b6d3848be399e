"""Enforcement that follows the API: hands each new revision to the places, and knows how far each has come.

Owns the order of revisions, and who waits for one. Must not know how a state is enforced.

Revisions that come while one is being put in force are skipped but for the last one: what counts is the newest.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, Self

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.background import Background
from sgdataplane.errors import SgDataplaneError, SilentError
from sgdataplane.model.state import CloudState
from sgdataplane.statefile import Memory, load_native
from sgdataplane.store.documents import Documents, native
from sgdataplane.store.history import Version
from sgdataplane.store.interface import Json

NONE = Version(-1, -1)
RETRY_S = 5.0  # after which a place that says nothing gets its revision again

LOGGER = logging.getLogger("sgdataplane.api.following")


class Place(Protocol):
    """A place where a policy is enforced: a lab, or the agent of this host."""

    name: str  # the host's name, for people

    def put(self, version: Version, state: CloudState) -> None:
        """Have a state enforced, and return when it is in force.

        Raises:
            SgDataplaneError: It can't be enforced. The previous one stays.
            SilentError: It may be in force, but nobody says so.
        """


@dataclass
class Reached:
    """How far one place has come."""

    place: Place
    enforced: Version = NONE  # the last version that is in force
    failed: Version = NONE  # the last version that couldn't be put in force
    why: str = ""  # it couldn't
    is_silent: bool = False  # whether nobody has said if the last version is in force
    moved: threading.Condition = field(default_factory=threading.Condition)  # notified when any of these changes

    def is_settled(self, version: Version) -> bool:
        """Whether the version is in force here, or is known not to be."""
        return self.enforced >= version or self.failed >= version


class Following:
    """The threads that follow, one for each place.

    Use it as a context manager. Leaving it ends the threads, and everything stays in force.
    """

    def __init__(self, engine: Engine, places: Sequence[Place], profile: str = "seed") -> None:
        self._engine, self._profile = engine, profile
        self.reached = tuple(Reached(place) for place in places)
        works = ((f"enforcing at {one.place.name}", partial(self._follow, one)) for one in self.reached)
        self.threads = [Background(name, work) for name, work in works]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for thread in self.threads:
            self._stack.enter_context(thread)
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self.threads:
            thread.end()
        with self._engine.moved:
            self._engine.moved.notify_all()
        self._stack.close()

    def wait(self, version: Version, timeout: float) -> dict[str, Json]:
        """Wait until all places have settled the version or the time is up, and return SgdpWait's answer.

        `timeout` is in seconds.
        """
        deadline = time.monotonic() + timeout
        for one in self.reached:
            with one.moved:
                while not one.is_settled(version) and (left := deadline - time.monotonic()) > 0:
                    one.moved.wait(left)
        return self._summary(version)

    def _summary(self, version: Version) -> dict[str, Json]:
        enforced = [one for one in self.reached if one.enforced >= version]
        failed = [one for one in self.reached if one not in enforced and one.failed >= version]
        lagging = [one for one in self.reached if one not in enforced and one not in failed]
        failures: list[Json] = [{"Host": one.place.name, "Message": one.why} for one in failed if not one.is_silent]
        return {
            "Revision": version.revision,
            "Epoch": version.epoch,
            "Enforced": [one.place.name for one in enforced],
            "Lagging": [one.place.name for one in lagging],
            "Failed": failures,
            "Unknown": [one.place.name for one in failed if one.is_silent],
        }

    def _follow(self, one: Reached, ending: threading.Event) -> None:
        memory = Memory()
        while self._has_news(one, ending):
            documents = self._engine.documents
            version = documents.version
            try:
                one.place.put(version, state_of(documents, self._profile, memory))
            except SgDataplaneError as error:
                self._note(one, failed=version, why=str(error), is_silent=isinstance(error, SilentError))
                LOGGER.warning("%s isn't enforced at %s: %s", version, one.place.name, error)
            except Exception:  # a bug of ours: this place has the revision before, and gets the next one
                LOGGER.exception("%s isn't enforced at %s", version, one.place.name)
                self._note(one, failed=version, why="a bug in sgdataplane: the log has it", is_silent=True)
            else:
                self._note(one, enforced=version)

    def _has_news(self, one: Reached, ending: threading.Event) -> bool:
        """Wait for something to do for a place. Return False at the end.

        That is a revision that the place hasn't settled; or nobody has said whether the last one is in force, and it is
        time to ask again.
        """
        with self._engine.moved:
            while not ending.is_set() and one.is_settled(self._engine.version):
                if not self._engine.moved.wait(RETRY_S if one.is_silent else None):
                    break
        return not ending.is_set()

    def _note(
        self, one: Reached, *, enforced: Version = NONE, failed: Version = NONE, why: str = "", is_silent: bool = False
    ) -> None:
        with one.moved:
            one.enforced = max(one.enforced, enforced)
            one.failed, one.why, one.is_silent = failed, why, is_silent
            one.moved.notify_all()


def state_of(documents: Documents, profile: str, memory: Memory | None = None) -> CloudState:
    """Return the state that all documents make. It was validated when they were written.

    `memory` has objects of former states, which are reused.
    """
    return load_native(native(documents.bodies()), profile=profile, memory=memory).state
