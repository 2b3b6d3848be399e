"""Walk the fixed part of a table: to where rules are evaluated, and from there on with what they have decided.

Owns what becomes of the packet's priority in that part. It is given the same as any walk. It must not know rules, or
clauses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sgdataplane.contract.priority import RANKS
from sgdataplane.contract.tables import PROFILES, WINNERS
from sgdataplane.nft.ir import Match, Range, SetPriority, jump
from sgdataplane.proof.spec.order import Cell
from sgdataplane.proof.spec.outcomes import Outcome
from sgdataplane.proof.walk.priority import OnePriority
from sgdataplane.proof.walk.program import PRIORITY, Program
from sgdataplane.proof.walk.step import RuleStep
from sgdataplane.proof.walk.walk import Mismatch, Place, State, Walk

IS_RANK = Match(PRIORITY, (Range(RANKS[0], RANKS[-1]),))


def place_behind(program: Program, base: str) -> Place | None:
    """Return where packets go on in a base chain after rules were evaluated; None if it evaluates none."""
    found = (index for index, step in enumerate(program.steps[base]) if step.numbers == PROFILES)
    index = next(found, None)
    return None if index is None else (base, index + 1)


def _audits(step: RuleStep, chain: str) -> bool:
    """Return whether a step leads each rank at this interface to that chain, and does nothing else."""
    return step.verdict == jump(chain) and step.asked == (IS_RANK,) and not step.tests and not step.effects


def _asks_for_rank(step: RuleStep) -> bool:
    """Return whether a step looks up where each rank leads, and does nothing else."""
    return step.numbers == WINNERS and step.asked == (IS_RANK,) and not step.tests


@dataclass(kw_only=True)
class GateWalk(Walk):
    """A walk that knows the priority of every packet that rules have judged."""

    priorities: OnePriority
    rules: Collection[str]
    """The outcomes of packets that come to where rules begin."""
    reset: Cell
    """The packets that pass with priority 0. All others that pass keep the priority that they came with."""
    behind: Place | None = None
    """Where packets must return to after rules were evaluated."""
    audit: str = ""
    """The chain where ranks must lead first, if the ENI is in audit mode (audits.py); "" if they must not."""

    def go_on(self, cell: Cell, code: int) -> None:
        """Walk on with packets of a cell that return from rules with this priority.

        A rank must be looked up first: then its leaf is next (ranks.py), which returns to the step behind.

        Raises:
            Mismatch: They don't come to their end.
        """
        state = State(cell, (), self.order.all, (SetPriority(code),), ())
        steps = [] if self.behind is None else self.program.steps[self.behind[0]][self.behind[1] :]
        if self.audit:
            if not steps or not _audits(steps[0], self.audit):
                raise Mismatch(
                    cell, None, None, f"packets that return from rules with a rank don't come to {self.audit}"
                )
            steps = steps[1:]
        if self.behind is None or not steps or not _asks_for_rank(steps[0]):
            raise Mismatch(cell, None, None, "packets that return from rules aren't asked for their rank")
        self._walk_once(self.behind, state)

    def begin(self, chain: str, cells: Iterable[Cell], code: int | None) -> None:
        """Walk from a chain on, with packets that come with this priority (None: any).

        Raises:
            Mismatch: The chain doesn't do what it must.
        """
        effects = () if code is None else (SetPriority(code),)
        for cell in cells:
            self._enter(chain, State(cell, (), self.order.all, effects, ()))

    def _end(self, outcome: Outcome, state: State) -> None:
        """Check the priority of packets at an end, then compare the end as if no priority had been written.

        Packets that rules judge must return to the step behind. A priority that was written to accepted
        packets must be 0, and only packets in `reset` may get it.
        """
        effects, stop = outcome
        if stop in self.rules and (self.behind is None or state.returns != (self.behind,)):
            self._fail(state, "packets that rules judge don't return to the base chain")
        others = tuple(effect for effect in effects if not isinstance(effect, SetPriority))
        if stop == "accept" and others != effects:
            if self.priorities.value(effects):
                self._fail(state, "a priority is left on packets that pass")
            self._fail(state._replace(holes=(*state.holes, self.reset)), "packets that pass lose their priority")
        super()._end((others, stop), state)
