"""Walks a table for sets of packets at once, and compares each end that they come to with an order of boxes.

Owns the walk. Is given a program, the order that it must equal, and where both cut the axes. Must not know policies.

A state of the walk is a cell without some holes. Holes are cells that earlier rules have taken out; they are kept as
they are, since cutting them out would make pieces in every axis. The state also has the boxes of the order that can
still decide there. An end is right if the strongest of these asks for this outcome everywhere in the cell. Only where
sets alone don't show that, the holes are cut out (BoxOrder.differing). So each end is compared exactly and as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from sgdataplane.nft.ir import Verdict, VerdictKind
from sgdataplane.proof.axes import Atoms, Axis
from sgdataplane.proof.order import Boxes, BoxOrder, Cell, without
from sgdataplane.proof.program import Program
from sgdataplane.proof.step import Effects, Limits, RuleStep

MAX_JUMPS = 16  # NFT_JUMP_STACK_SIZE
PROTOCOL = 0  # the axis of protocols is the first one
LEMMA_VISITS = 3  # a chain that the walk comes to so often in different ways is tried for all packets at once

Outcome = tuple[Effects, str]  # effects; accept, drop, "end" (of the base chain), or what a stop stands for
Place = tuple[str, int]  # a chain and the step in it that is next


class Mismatch(Exception):  # noqa: N818  # control flow of the walk, not an error of ours
    """Packets for which the table does something else than the order's box number `box` asks for, or has a
    `problem`."""

    def __init__(self, cell: Cell, far: int, box: int | None, outcome: Outcome | None, problem: str) -> None:
        super().__init__(problem)
        self.cell, self.far, self.box, self.outcome, self.problem = cell, far, box, outcome, problem


class State(NamedTuple):
    """A state, as described above. `boxes` may be too many, never too few. `returns`: where each jump on the way
    returns to, the latest one last."""

    cell: Cell
    holes: tuple[Cell, ...]
    boxes: Boxes
    effects: Effects
    returns: tuple[Place, ...]


@dataclass
class Walk:
    """`with_ports`: the protocols with ports, as atoms of the first axis. `far`: the present far address. `cells`: how
    many ends were compared so far, repeated ones included. `reached`: stops that packets came to.

    `theirs`: boxes that some chains decide by, whatever other boxes there are: an end at such a chain is right if no
    other box decides in it. `proven`: chains that do so. Others that many ways lead to are tried."""

    program: Program
    axes: Sequence[Axis]
    order: BoxOrder
    with_ports: Atoms
    proven: AbstractSet[str] = frozenset()
    theirs: Boxes = 0
    far: int = 0
    cells: int = 0
    reached: set[str] = field(default_factory=set)
    _bound: set[str] = field(default_factory=set)
    _done: dict[tuple[Place, int, Boxes, State], int] = field(default_factory=dict)  # -> cells
    _visits: dict[tuple[str, Boxes], int] = field(default_factory=dict)
    _lemmas: dict[tuple[str, Boxes], bool] = field(default_factory=dict)

    def check(self, chain: str, cell: Cell, boxes: Boxes, far: int = 0, theirs: Boxes = 0) -> None:
        """Mismatch unless the chain does what the strongest box asks for, for every packet of the cell."""
        self.far, self.theirs = far, theirs
        self._enter(chain, State(cell, (), boxes, (), ()))

    def _enter(self, chain: str, state: State) -> None:
        way_out = self.program.outs.get(chain)
        if way_out is not None:
            effects, stop = way_out
            self.reached.add(stop)
            self._end((state.effects + effects, self.program.stops[stop]), state)
            return
        cell, holes, boxes, effects, returns = state
        if chain in self.proven:
            self._at_proven(chain, state)
            return
        state = State(cell, holes, self.order.relevant(cell, boxes), effects, returns)
        if returns or effects or not self._follows(chain, state):
            self._once((chain, 0), state)

    def _at_proven(self, chain: str, state: State) -> None:
        """Mismatch unless `theirs` decide."""
        self.cells += 1
        if state.effects:
            self._fail(state, f"effects on the way to {chain}")
        found = self.order.differing(state.cell, state.holes, state.boxes, self.theirs)
        if found is not None:
            raise Mismatch(found[1], self.far, found[0], None, "")

    def _follows(self, chain: str, state: State) -> bool:
        """Whether the state is right because the chain does what `theirs` ask for, for all packets: then it is right
        here, too, unless another box decides somewhere. This is tried for chains that many ways lead to."""
        key = (chain, self.theirs)
        known = self._lemmas.get(key)
        if known is None:
            visits = self._visits[key] = self._visits.get(key, 0) + 1
            if visits < LEMMA_VISITS:
                return False
            self._lemmas[key] = False  # while it is tried
            known = self._lemmas[key] = self._is_right(chain)
        if not known:
            return False
        self.cells += 1
        return self.order.differing(state.cell, state.holes, state.boxes, self.theirs) is None

    def _is_right(self, chain: str) -> bool:
        if not self.theirs or chain in self.program.far_chains:
            return False
        try:
            self._enter(chain, State(self.order.full, (), self.theirs, (), ()))
        except Mismatch:
            return False
        return True

    def _once(self, place: Place, state: State) -> None:
        """Walk from this step on, unless that was done before."""
        far_chains = self.program.far_chains
        is_far = place[0] in far_chains or any(name in far_chains for name, _ in state.returns)
        key = (place, self.far if is_far else -1, self.theirs, state)
        done = self._done.get(key)
        if done is None:
            before = self.cells
            self._run(place, state)
            self._done[key] = self.cells - before
        else:
            self.cells += done

    def _run(self, place: Place, state: State) -> None:
        chain, index = place
        left: State | None = state
        for following, step in enumerate(self.bound(chain)[index:], index + 1):
            left = self._less(state, self._take((chain, following), step, state))
            if left is None:
                return
            state = left
        self._back(state)

    def _less(self, state: State, taken: Cell | None) -> State | None:
        """The state without the packets that a rule has taken; None if it took all."""
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
        """The part of the cell that a step doesn't send on to the next step. It is walked from where it goes."""
        if step.distant and not all(test(self.far) for test in step.distant):
            return None
        if step.guard is not None:
            self._check_ports(following[0], step.guard, state)
        cell = _narrowed(state.cell, step.limits)
        if cell is None:
            return None
        inside = State(cell, state.holes, state.boxes, state.effects + step.effects, state.returns)
        verdict = step.verdict
        if step.problem:
            self._fail(inside, f"chain {following[0]}: {step.problem}")
        elif step.parts:
            return self._looked_up(following, step, inside)
        elif step.lookup is not None:
            verdict = step.lookup(self.far)
            if verdict is None:
                return None
        elif verdict is None:
            self._rest_of_rule(following, step.then, inside)
        self._go(following, verdict, inside)
        return cell

    def _looked_up(self, following: Place, step: RuleStep, state: State) -> Cell | None:
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

    def _rest_of_rule(self, following: Place, then: RuleStep | None, state: State) -> None:
        """After effects: walk the rest of the rule, and then the next rules."""
        left = self._less(state, None if then is None else self._take(following, then, state))
        if left is not None:
            self._once(following, left)

    def _check_ports(self, chain: str, guard: Limits, state: State) -> None:
        """Mismatch if a rule reads the port of a packet without ports: the kernel would read other bytes."""
        portless = state.cell[PROTOCOL] & ~self.with_ports
        cell = _narrowed((portless, *state.cell[1:]), guard) if portless else None
        if cell is not None:
            self._fail(State(cell, state.holes, 0, (), ()), f"chain {chain}: it reads a port of a packet without ports")

    def _go(self, following: Place, verdict: Verdict | None, state: State) -> None:
        kind = None if verdict is None else verdict.kind
        if verdict is None or kind is None:
            return
        if kind is VerdictKind.GOTO:
            self._enter(verdict.chain, state)
        elif kind is VerdictKind.RETURN:
            self._back(state)
        elif kind is not VerdictKind.JUMP:
            self._end((state.effects, kind.value), state)
        elif len(state.returns) < MAX_JUMPS:
            self._enter(verdict.chain, state._replace(returns=(*state.returns, following)))
        else:
            self._fail(state, f"jumps nest deeper than {MAX_JUMPS} at {verdict.chain}")

    def _back(self, state: State) -> None:
        if state.returns:
            self._once(state.returns[-1], state._replace(returns=state.returns[:-1]))
        else:
            self._end((state.effects, "end"), state)

    def _end(self, outcome: Outcome, state: State) -> None:
        self.cells += 1
        same = self.order.saying.get(outcome, 0)
        found = self.order.differing(state.cell, state.holes, state.boxes, same)
        if found is not None:
            raise Mismatch(found[1], self.far, found[0], outcome, "")

    def _fail(self, state: State, problem: str) -> None:
        """Mismatch if any packet comes here."""
        left = without(state.cell, state.holes)
        if left:
            raise Mismatch(left[0], self.far, None, None, problem)

    def bound(self, chain: str) -> list[RuleStep]:
        """A chain's steps, with their ranges as atoms."""
        steps = self.program.steps[chain]
        if chain not in self._bound:
            self._bound.add(chain)
            for step in steps:
                step.bind(self.axes)
        return steps


def _narrowed(cell: Cell, limits: Limits) -> Cell | None:
    """The part of the cell that is within the limits; None if there is none."""
    if not limits:
        return cell
    narrowed = list(cell)
    for axis, atoms in limits:
        narrowed[axis] &= atoms
        if not narrowed[axis]:
            return None
    return tuple(narrowed)
