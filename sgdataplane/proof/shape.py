"""What a walk does, but for names and numbers that make no difference to it: interfaces that are alike are walked once.

Owns that form. Is given a walk before it begins, and the number that each interface has a different one of: its slot.
Must not know chains.

A walk sees chains as places, values as atoms, and effects as things that are equal or not. So two walks with the same
places, atoms, ends and order go the same way. A slot is written as `own`, also where it is in the clauses: that turns
what is equal into what is equal, and what differs into what differs, as long as marks are written or kept whole. So are
the counters that are the ENI's alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sgdataplane.nft.ir import Count, SetMark, Verdict
from sgdataplane.proof.order import Cell
from sgdataplane.proof.step import Effect, Step
from sgdataplane.proof.walk import Walk

Form = Hashable


@dataclass(frozen=True, slots=True)
class Slots:
    """Where a mark holds slots, as masks, each with the slot of this interface there; and the counters of its ENI."""

    own: Mapping[int, int]
    counters: tuple[str, ...] = ()

    def effect(self, effect: Effect) -> Hashable:
        """With the word "own" for each slot of this interface, and each counter."""
        if isinstance(effect, Count):
            return ("own", self.counters.index(effect.counter)) if effect.counter in self.counters else effect
        if not isinstance(effect, SetMark):
            return effect
        value, found = effect.value, list[Hashable]()
        for mask, slot in self.own.items():
            kept, written = effect.keep & mask, effect.value & mask
            if (kept and kept != mask) or (kept and written):
                return effect, tuple(self.own.values())  # slots made of parts: no other interface is like this one
            found.append("own" if written == slot else written)
            value &= ~mask
        return effect.keep, value, *found

    def outcome(self, outcome: tuple[Iterable[Effect], str]) -> Hashable:
        return tuple(map(self.effect, outcome[0])), outcome[1]


def form_of(walk: Walk, begin: str, cells: Sequence[Cell], slots: Slots) -> tuple[Form, list[str]]:
    """The form of the walk from a chain on; and the chains in the order in which it has them."""
    order, places = walk.order, _Places(walk, begin, slots)
    outcomes = tuple(map(slots.outcome, order.outcomes))  # type: ignore[arg-type]
    specified = order.full, tuple(order.regions), outcomes, walk.with_ports, tuple(cells)
    return (tuple(places.forms()), specified), places.names


class _Places:
    """Chains by number, in the order in which they are met."""

    def __init__(self, walk: Walk, begin: str, slots: Slots) -> None:
        self._walk, self._slots = walk, slots
        self.names = [begin]
        self._numbers = {begin: 0}

    def forms(self) -> Iterable[Hashable]:
        program = self._walk.program
        for name in self.names:  # grows on the way
            way_out = program.outs.get(name)
            if way_out is None:
                yield tuple(map(self._step, self._walk.bound(name)))
            elif name in program.stops:
                yield program.stops[name]
            else:
                yield self._slots.outcome((way_out[0], "")), self._number(way_out[1])

    def _number(self, chain: str) -> int:
        if chain not in self._numbers:
            self._numbers[chain] = len(self.names)
            self.names.append(chain)
        return self._numbers[chain]

    def _verdict(self, verdict: Verdict | None) -> Hashable:
        return verdict if verdict is None or not verdict.chain else (verdict.kind, self._number(verdict.chain))

    def _step(self, step: Step) -> Hashable:
        return (
            step.limits,
            step.guard,
            tuple(map(self._slots.effect, step.effects)),
            self._verdict(step.verdict),
            tuple((self._verdict(verdict), atoms) for verdict, atoms in step.parts),
            step.axis,
            step.problem,
            step.then and self._step(step.then),
        )
