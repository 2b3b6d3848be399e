"""Execute a table symbolically, for sets of packets at once, and compare each outcome with what it must be.

Owns the walk. It is given a program; the specification, which is boxes in the order of their strength (spec/order.py);
and the axes, cut into atoms where either of them tells values apart. It must not know policies.

A state of the walk is a cell without some holes. Holes are cells that earlier rules have taken out. They aren't cut out
at once, since that could split the cell on every axis. The state also has the boxes of the order that can
still decide there. An end is right if the strongest of these asks for this outcome everywhere in the cell. Only where
sets alone don't show that, the holes are cut out (BoxOrder.differing). So each end is compared exactly and as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sgdataplane.nft.ir import Match, Verdict, VerdictKind
from sgdataplane.proof.spec.axes import Atoms, Axis
from sgdataplane.proof.spec.order import Boxes, BoxOrder, Cell, without
from sgdataplane.proof.spec.outcomes import Effects, Outcome
from sgdataplane.proof.walk.priority import OnePriority, Priorities
from sgdataplane.proof.walk.program import Program
from sgdataplane.proof.walk.step import Limits, RuleStep

MAX_JUMPS = 16  # NFT_JUMP_STACK_SIZE
PROTOCOL = 0  # the index of the axis of protocols

Place = tuple[str, int]  # a chain, and the index of its next step


class Mismatch(Exception):  # noqa: N818  # control flow of the walk, not an error of ours
    """Packets for which the table does something else than it must, or nobody can prove what it does.

    Attributes:
        cell: The packets.
        box: The number of the box that should decide; None if there is a problem.
        outcome: What the table does; None if that isn't known.
        problem: The problem in words; "" if the outcome is wrong.
    """

    def __init__(self, cell: Cell, box: int | None, outcome: Outcome | None, problem: str) -> None:
        super().__init__(problem)
        self.cell, self.box, self.outcome, self.problem = cell, box, outcome, problem


class State(NamedTuple):
    """The packets at one place of a walk: a cell without some holes."""

    cell: Cell
    holes: tuple[Cell, ...]
    """Parts of the cell that earlier rules have taken out."""
    boxes: Boxes
    """The boxes that can still decide, and perhaps more."""
    effects: Effects
    """The effects on the way."""
    returns: tuple[Place, ...]
    """Where each jump on the way returns to, the latest one last."""


@dataclass
class Walk:
    """A walk through a program, compared with an order of boxes."""

    program: Program
    axes: Sequence[Axis]
    order: BoxOrder
    with_ports: Atoms
    """The protocols with ports, as atoms of the first axis."""
    priorities: Priorities | OnePriority | None = None
    """The priorities that packets can have; None if no chain may ask for it."""
    cells: int = 0
    """How many ends were compared so far, repeated ones included."""
    reached: set[str] = field(default_factory=set)
    """The stops that packets came to."""
    last_chains: set[str] = field(default_factory=set)
    """The chains from which packets went to a stop."""
    _bound: set[str] = field(default_factory=set)
    _done: dict[tuple[Place, State], int] = field(default_factory=dict)  # how many ends were compared from there on

    def check(self, chain: str, cell: Cell, boxes: Boxes) -> None:
        """Walk from a chain on, with the packets of a cell.

        Raises:
            Mismatch: The chain doesn't do what the strongest box asks for, for some packet.
        """
        self._enter(chain, State(cell, (), boxes, (), ()))

    def _enter(self, chain: str, state: State) -> None:
        """Go on at the beginning of a chain."""
        if state.returns and chain in self.program.heads:
            self._fail(state, f"chain {chain}: packets that return don't come to the end")
        way_out = self.program.outs.get(chain)
        if way_out is not None:
            effects, stop = way_out
            if state.returns and chain in self.program.leaves:
                self._fail(state, f"chain {chain}: packets that return don't come to the end")
            self.reached.add(stop)
            self.last_chains.add(chain)
            self._end((state.effects + effects, self.program.stops.get(stop, stop)), state)
            return
        cell, holes, boxes, effects, returns = state
        self._walk_once((chain, 0), State(cell, holes, self.order.relevant(cell, boxes), effects, returns))

    def _walk_once(self, place: Place, state: State) -> None:
        """Walk from this step on, unless that was done before."""
        key = (place, state)
        done = self._done.get(key)
        if done is None:
            before = self.cells
            self._run(place, state)
            self._done[key] = self.cells - before
        else:
            self.cells += done

    def _run(self, place: Place, state: State) -> None:
        """Walk the steps of a chain from a place on, each with the packets that the steps before have left."""
        chain, index = place
        left: State | None = state
        for following, step in enumerate(self.bind_steps(chain)[index:], index + 1):
            left = self._subtract(state, self._take((chain, following), step, state))
            if left is None:
                return
            state = left
        self._go_back(state)

    def _subtract(self, state: State, taken: Cell | None) -> State | None:
        """Return the state without the packets that a rule has taken; None if it took all."""
        if taken is None:
            return state
        cell, holes, boxes, effects, returns = state
        open_axes = [axis for axis, atoms in enumerate(taken) if cell[axis] != atoms]
        if not open_axes:
            return None
        if len(open_axes) == 1:
            axis = open_axes[0]
            cell = (*cell[:axis], cell[axis] & ~taken[axis], *cell[axis + 1 :])
            return State(cell, holes, boxes, effects, returns)
        return State(cell, (*holes, taken), boxes & ~self.order.inside(cell, taken), effects, returns)

    def _take(self, following: Place, step: RuleStep, state: State) -> Cell | None:
        """Walk the packets that meet a step's tests, to their ends. Return their cell; None if there are none.

        After effects without a verdict that includes the following rules, as these packets' effects differ from now on.
        """
        limits, asked = (
            step.limits,
            self._limit_by_priority(following[0], step, step.asked, state) if step.asked else (),
        )
        if step.guard is not None:
            first = self._limit_by_priority(following[0], step, step.asked_first, state) if step.asked_first else ()
            self._check_ports(following[0], (*step.guard, *first), state)
        cell = _narrow(state.cell, (*limits, *asked) if asked else limits)
        if cell is None:
            return None
        inside = State(cell, state.holes, state.boxes, state.effects + step.effects, state.returns)
        verdict = step.verdict
        if step.problem:
            self._fail(inside, f"chain {following[0]}: {step.problem}")
        elif step.parts:
            return self._look_up(following, step, inside)
        elif step.numbers:
            return self._look_up_priority(following, step, inside)
        elif verdict is None:
            self._walk_rest(following, step.then, inside)
        self._go(following, verdict, inside)
        return cell

    def _limit_by_priority(self, chain: str, step: RuleStep, matches: tuple[Match, ...], state: State) -> Limits:
        """Return limits for the packets whose priority is as these matches of a step ask.

        Raises:
            Mismatch: The priority of some packets isn't known.
        """
        if self.priorities is None:
            cell = _narrow(state.cell, step.limits)
            if cell is not None:
                self._fail(state._replace(cell=cell), f"chain {chain}: it asks for the priority")
            return ()
        axis, unset, chosen = self.priorities.select(matches, state.effects)
        cell = _narrow(state.cell, (*step.limits, (axis, unset))) if unset else None
        if cell is not None:
            self._fail(state._replace(cell=cell), f"chain {chain}: it asks for a priority that nobody has set")
        return ((axis, chosen),)

    def _look_up(self, following: Place, step: RuleStep, state: State) -> Cell | None:
        """Go on by a look-up on an axis. Return the packets for which it finds an element."""
        cell, holes, boxes, effects, returns = state
        axis = step.axis
        hit = cell[axis] & step.hit
        if not hit:
            return None
        for verdict, atoms in step.parts:
            part = cell[axis] & atoms
            if part:
                piece = (*cell[:axis], part, *cell[axis + 1 :])
                self._go(following, verdict, State(piece, holes, boxes, effects, returns))
        return (*cell[:axis], hit, *cell[axis + 1 :])

    def _look_up_priority(self, following: Place, step: RuleStep, state: State) -> Cell | None:
        """Go on by a look-up of the priority. Return the packets for which it finds an element."""
        value = self.priorities.value(state.effects) if isinstance(self.priorities, OnePriority) else None
        if value is None:
            self._fail(state, f"chain {following[0]}: it looks up a priority that isn't known")
            return state.cell
        verdict = self.program.look_up_number(step.numbers, value)
        if verdict is None:
            return None
        if verdict.chain and verdict.chain not in self.program.steps and verdict.chain not in self.program.outs:
            self._fail(state, f"chain {following[0]}: priority {value:#x} leads to {verdict.chain}")
        else:
            self._go(following, verdict, state)
        return state.cell

    def _walk_rest(self, following: Place, then: RuleStep | None, state: State) -> None:
        """Walk the rest of the rule after effects, and then the next rules, with these effects."""
        left = self._subtract(state, None if then is None else self._take(following, then, state))
        if left is not None:
            self._walk_once(following, left)

    def _check_ports(self, chain: str, guard: Limits, state: State) -> None:
        """Check that no rule reads the port of a packet without ports: the kernel would read other bytes.

        Raises:
            Mismatch: One does.
        """
        portless = state.cell[PROTOCOL] & ~self.with_ports
        cell = _narrow((portless, *state.cell[1:]), guard) if portless else None
        if cell is not None:
            self._fail(State(cell, state.holes, 0, (), ()), f"chain {chain}: it reads a port of a packet without ports")

    def _go(self, following: Place, verdict: Verdict | None, state: State) -> None:
        """Go on where a verdict leads; without a verdict, do nothing: the caller has walked these packets."""
        kind = None if verdict is None else verdict.kind
        if verdict is None or kind is None:
            return
        if kind is VerdictKind.GOTO:
            self._enter(verdict.chain, state)
        elif kind is VerdictKind.RETURN:
            self._go_back(state)
        elif kind is not VerdictKind.JUMP:
            self._end((state.effects, kind.value), state)
        elif len(state.returns) < MAX_JUMPS:
            self._enter(verdict.chain, state._replace(returns=(*state.returns, following)))
        else:
            self._fail(state, f"jumps nest deeper than {MAX_JUMPS} at {verdict.chain}")

    def _go_back(self, state: State) -> None:
        """Return to the latest jump, or end at the end of the base chain."""
        if state.returns:
            self._walk_once(state.returns[-1], state._replace(returns=state.returns[:-1]))
        else:
            self._end((state.effects, "end"), state)

    def _end(self, outcome: Outcome, state: State) -> None:
        """Check that the specification asks for this outcome in the whole state.

        Raises:
            Mismatch: It asks for another one somewhere.
        """
        self.cells += 1
        same = self.order.saying.get(outcome, 0)
        found = self.order.differing(state.cell, state.holes, state.boxes, same)
        if found is not None:
            raise Mismatch(found[1], found[0], outcome, "")

    def _fail(self, state: State, problem: str) -> None:
        """Refuse the table for this problem, unless the holes leave no packet.

        Raises:
            Mismatch: A packet comes here.
        """
        left = without(state.cell, state.holes)
        if left:
            raise Mismatch(left[0], None, None, problem)

    def bind_steps(self, chain: str) -> list[RuleStep]:
        """Return a chain's steps, with their ranges as atoms."""
        steps = self.program.steps[chain]
        if chain not in self._bound:
            self._bound.add(chain)
            for step in steps:
                step.bind(self.axes)
        return steps


def _narrow(cell: Cell, limits: Limits) -> Cell | None:
    """Return the part of the cell that is within the limits; None if there is none."""
    if not limits:
        return cell
    narrowed = list(cell)
    for axis, atoms in limits:
        narrowed[axis] &= atoms
        if not narrowed[axis]:
            return None
    return tuple(narrowed)
