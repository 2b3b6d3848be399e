"""What the agent answers at once, whoever asks.

Owns which request is answered with what. Is given what the agent knows. Must not know sockets, or how cycles work.
"""

from __future__ import annotations

from sgdataplane.daemon.counts import Counts, TooMuchError
from sgdataplane.daemon.protocol import Question, Request, spell_answer, spell_refusal
from sgdataplane.daemon.reconcile import Reconciler
from sgdataplane.daemon.status import Status
from sgdataplane.model.naming import look_up, names_of_enis


class Answers:
    """Of one agent."""

    def __init__(self, status: Status, counts: Counts, reconciler: Reconciler) -> None:
        self._status, self._counts, self._reconciler = status, counts, reconciler

    def to(self, asked: Question) -> bytes | None:
        """None for what a cycle has to do."""
        match asked.request:
            case Request.STATUS:
                return spell_answer(status=self._status.as_json())
            case Request.COUNTERS:
                return self._counters(asked.eni)
            case Request.FIND:
                return self._find(asked.eni)
        return None

    def _counters(self, eni_id: str) -> bytes:
        try:
            return spell_answer(counters=self._counts.as_json(eni_id))
        except TooMuchError as error:
            return spell_refusal(str(error))

    def _find(self, name: str) -> bytes:
        known = {**dict.fromkeys(self._counts.enis, ()), **names_of_enis(self._reconciler.state)}
        named = look_up(name, known)
        return spell_answer(ids=named.ids, near=named.near)
