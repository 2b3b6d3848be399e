"""Heavy answers: those that may compute for long (SgdpDiff, SgdpExplain).

Owns which these are, and how one is computed where this is called. Must not know who computes it when, or who may see
it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Protocol

from sgdataplane.control.actions.engine import random_id
from sgdataplane.control.actions.scope import Scope
from sgdataplane.control.service import extensions
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents, Workspace
from sgdataplane.store.interface import Body

HEAVY = frozenset({"SgdpDiff", "SgdpExplain"})
HEAVY_S = 20.0  # seconds that an answer may take, with the time that it waits


class Computer(Protocol):
    """Computes heavy answers, in any of several threads."""

    def compute(self, documents: Documents, call: Call, is_ended: Event, /) -> Body:
        """Return the answer's fields. The documents are at least those that it follows from (`part_for`).

        Raises:
            ApiError: The call is refused, or somebody has set the event.
        """


class HeavyAnswers:
    """Computes heavy answers where it is called, to the end."""

    def __init__(self, profile: str) -> None:
        self._actions: dict[str, Callable[[Scope], Body]] = {
            "SgdpDiff": partial(extensions.diff, profile=profile),
            "SgdpExplain": partial(extensions.explain, profile=profile),
        }

    def compute(self, documents: Documents, call: Call, is_ended: Event | None = None) -> Body:  # noqa: ARG002
        """Return the answer's fields.

        Raises:
            ApiError: The call is refused.
        """
        return self._actions[call.action](Scope(Workspace(documents), call, random_id))
