"""The agent's answers on its sockets.

Owns which part of the agent answers what. Its input is these parts. Must not know sockets, or when cycles run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from sgdataplane.daemon.control import ControlRequest, Request, spell_answer, spell_refusal
from sgdataplane.daemon.counts import AnswerTooLargeError, Counts
from sgdataplane.daemon.hold import PolicyKeeper
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.status import Status
from sgdataplane.daemon.trials import Trials
from sgdataplane.errors import SgDataplaneError
from sgdataplane.model.naming import look_up, names_of_enis
from sgdataplane.model.state import CloudState

CAUSES = {Request.RELOAD: Cause.RELOAD, Request.RESYNC: Cause.RESYNC}


@dataclass(frozen=True, slots=True)
class Answers:
    """The parts of the agent that answer."""

    status: Status
    counts: Counts
    trials: Trials
    keeper: PolicyKeeper
    state: Callable[[], CloudState]  # returns the state in force
    start_cycle: Callable[[Cause], int]  # asks for a cycle, and returns the number of the one that will have done it

    def answer(self, asked: ControlRequest) -> bytes:
        """Answer root. What can't be done is refused with the reason."""
        try:
            return spell_answer(**self._do_what_is_asked(asked))
        except (SgDataplaneError, AnswerTooLargeError) as error:
            return spell_refusal(str(error))

    def tell_owner(self) -> bytes:
        """Answer the owner of the state."""
        return spell_answer(status=self.status.for_owner() | self._tell_declared())

    def _tell_declared(self) -> dict[str, object]:
        """Return what the trials that the state declares have seen."""
        return {"trials": [trial.as_plain() for trial in self.trials.list_declared()]}

    def _do_what_is_asked(self, asked: ControlRequest) -> dict[str, object]:
        match asked.request:
            case Request.STATUS:
                return {"status": self.status.as_json(asked.eni, self.counts.read_audited()) | self._tell_declared()}
            case Request.COUNTERS:
                return {"counters": self.counts.as_json(asked.eni)}
            case Request.FIND:
                return self._look_up_name(asked.eni)
            case Request.TRIALS:
                return {"trials": self.trials.records_as_json()}
            case Request.TRIAL | Request.TRIAL_START | Request.TRIAL_STOP:
                return self._trial(asked)
            case Request.POLICIES:
                return {"policies": [asdict(entry) for entry in self.keeper.past.entries]}
            case Request.ROLLBACK:
                hold = self.keeper.begin(asked.policy, asked.for_s)
                return {"until": hold.until or None, "cycle": self.start_cycle(Cause.UNDO)}
            case Request.RESUME:
                return {"held": self.keeper.resume(), "cycle": self.start_cycle(Cause.UNDO)}
        return {"cycle": self.start_cycle(CAUSES[asked.request])}

    def _trial(self, asked: ControlRequest) -> dict[str, object]:
        do = {Request.TRIAL: self.trials.report, Request.TRIAL_START: self.trials.begin}
        found = do.get(asked.request, self.trials.stop)(asked.trial)
        return {"trial": None if found is None else found.as_plain()}

    def _look_up_name(self, name: str) -> dict[str, object]:
        named = look_up(name, {**dict.fromkeys(self.counts.enis, ()), **names_of_enis(self.state())})
        return {"ids": named.ids, "near": named.near}
