"""Walks the fixed part of a table: to where rules are asked, and from there on, with what they decide in the priority.

Owns what becomes of the priority in that part. Is given the same as any walk. Must not know rules, or clauses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sgdataplane.contract.priority import RANKS
from sgdataplane.contract.tables import PROFILES, WINNERS
from sgdataplane.nft.ir import Match, Range, SetPriority, jump
from sgdataplane.proof.order import Cell
from sgdataplane.proof.priority import OnePriority
from sgdataplane.proof.program import PRIORITY, Program
from sgdataplane.proof.step import Outcome, RuleStep
from sgdataplane.proof.walk import Mismatch, Place, State, Walk

IS_RANK = Match(PRIORITY, (Range(RANKS[0], RANKS[-1]),))


def place_behind(program: Program, base: str) -> Place | None:
    """Where packets of a base chain go on that rules were asked about; None if it doesn't ask."""
    found = (index for index, step in enumerate(program.steps[base]) if step.numbers == PROFILES)
    index = next(found, None)
    return None if index is None else (base, index + 1)


def _audits(step: RuleStep, chain: str) -> bool:
    """Whether it leads each rank at this interface to that chain, and does nothing else."""
    return step.verdict == jump(chain) and step.asked == (IS_RANK,) and not step.tests and not step.effects


def _asks_for_rank(step: RuleStep) -> bool:
    """Whether it asks where each rank leads, and nothing else."""
    return step.numbers == WINNERS and step.asked == (IS_RANK,) and not step.tests


@dataclass(kw_only=True)
class GateWalk(Walk):
    """`rules`: the outcomes of packets that come to where rules begin; `behind`: where these packets must return to.
    `reset`: the packets that pass with priority 0; all others that pass keep the one that they came with. `audit`: the
    chain where ranks must lead first, if the ENI is in audit mode (audits.py); "" if they must not."""

    priorities: OnePriority
    rules: Collection[str]
    reset: Cell
    behind: Place | None = None
    audit: str = ""

    def go_on(self, cell: Cell, code: int) -> None:
        """Mismatch unless packets of that cell come to their end that return from rules with that priority. A rank must
        be asked for first, since then its leaf is next (ranks.py), which returns to the step behind."""
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
        self._once(self.behind, state)

    def begin(self, chain: str, cells: Iterable[Cell], code: int | None) -> None:
        """Mismatch unless that chain does what it must, for packets that come with that priority (None: any)."""
        effects = () if code is None else (SetPriority(code),)
        for cell in cells:
            self._enter(chain, State(cell, (), self.order.all, effects, ()))

    def _end(self, outcome: Outcome, state: State) -> None:
        effects, stop = outcome
        if stop in self.rules and (self.behind is None or state.returns != (self.behind,)):
            self._fail(state, "packets that rules are asked about don't return to the base chain")
        others = tuple(effect for effect in effects if not isinstance(effect, SetPriority))
        if stop == "accept" and others != effects:
            if self.priorities.value(effects):
                self._fail(state, "a priority is left on packets that pass")
            self._fail(state._replace(holes=(*state.holes, self.reset)), "packets that pass lose their priority")
        super()._end((others, stop), state)
