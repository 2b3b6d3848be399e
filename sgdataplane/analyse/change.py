"""From one order of permissions to another: the traffic whose verdict changes, and what decides it before and after.

Owns that comparison. Is given two orders of one direction and family. Must not know ENIs.

Permissions are compared by what they do, not by their names: those of equal strength and shape are one candidate, whose
far addresses are those of all of them. Where the same candidates hold before and after, nothing can have changed, and
that is so for all far addresses but those that a candidate has gained or lost. Only these are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sgdataplane.analyse.order import Arrangement, Mask, Order, Shape, bits, overlay
from sgdataplane.analyse.regions import Block, Region, common, merged, without
from sgdataplane.model.decision import INNER_ACCEPT, RULE, Decision
from sgdataplane.model.options import Options
from sgdataplane.net.ranges import Ranges, apart, meet, united
from sgdataplane.net.values import Direction, Verdict

Strength = tuple[int, int, bool]  # stage, priority, whether it accepts: the smallest decides
Candidate = tuple[Strength, Shape]


class Part(NamedTuple):
    """Traffic of one decision before and one after, whose verdicts differ."""

    block: Block
    before: Decision
    after: Decision


def differing(before: Order, after: Order, options: Options) -> tuple[Part, ...]:
    """All traffic whose verdict differs, in disjoint parts."""
    sides = _Side.of(before, options), _Side.of(after, options)
    every = sorted({*sides[0].far, *sides[1].far})
    turned = united(i for one in every for i in apart(*(side.far.get(one, ()) for side in sides)))
    found: dict[tuple[Decision, Decision], list[Block]] = {}
    for part in _parts(sides, every, turned) if turned else ():
        found.setdefault((part.before, part.after), []).append(part.block)
    return tuple(Part(block, *causes) for causes, blocks in found.items() for block in merged(blocks))


def strength(decision: Decision, options: Options) -> Strength:
    """Decisions of equal strength have equal verdicts."""
    is_custom_first = options.inner_accept_egress == "custom_first" and decision.direction is Direction.EGRESS
    stages = {INNER_ACCEPT: 2 if is_custom_first else 0, RULE: 1}
    return stages.get(decision.cause, 3), decision.priority, decision.verdict is Verdict.ACCEPT


@dataclass(frozen=True)
class _Side:
    """One of the orders: the candidate of each entry, and the far addresses of each candidate."""

    order: Order
    candidates: tuple[Candidate, ...]
    far: dict[Candidate, Ranges]

    @classmethod
    def of(cls, order: Order, options: Options) -> _Side:
        candidates = tuple((strength(entry.permission.decision, options), entry.shape) for entry in order.entries)
        sets: dict[Candidate, list[Ranges]] = {}
        for candidate, entry in zip(candidates, order.entries, strict=True):
            sets.setdefault(candidate, []).append(entry.far)
        far = {one: some[0] if len(some) == 1 else united(i for r in some for i in r) for one, some in sets.items()}
        return cls(order, candidates, far)

    def decisions(self, holding: Mask, strongest: Strength, region: Region) -> Iterator[tuple[Block, Decision]]:
        """What decides each part of a region where these entries hold and none is stronger than that: the first of the
        equally strong ones, as `decide()` names it."""
        for index in bits(holding):
            entry = self.order.entries[index]
            if self.candidates[index][0] == strongest:
                mine = (Block((region[0].far, *entry.shape)),)
                for block in common(region, mine):
                    yield block, entry.permission.decision
                region = without(region, mine)
                if not region:
                    return


def _parts(sides: tuple[_Side, _Side], every: list[Candidate], turned: Ranges) -> Iterator[Part]:
    """Of the far addresses that candidates have gained or lost."""
    before, after = sides
    family, size = before.order.family, len(before.order.entries)
    accepting = sum(1 << number for number, ((_, _, is_accept), _) in enumerate(every) if is_accept)
    arrangement = Arrangement([shape for _, shape in every], accepting, family)
    number = {candidate: 1 << number for number, candidate in enumerate(every)}
    entries = (*before.order.entries, *after.order.entries)
    for holding, far in overlay(((meet(e.far, turned), 1 << index) for index, e in enumerate(entries)), turned).items():
        old, new = holding & ((1 << size) - 1), holding >> size
        masks = (_candidates(side, half, number) for side, half in ((before, old), (after, new)))
        for shape, winners in arrangement.differing(*masks):
            was, becomes = (every[winner][0] for winner in winners)
            for block, decision in before.decisions(old, was, (Block((far, *shape)),)):
                yield from (Part(b, decision, other) for b, other in after.decisions(new, becomes, (block,)))


def _candidates(side: _Side, holding: Mask, number: dict[Candidate, Mask]) -> Mask:
    """Which candidates some entries are."""
    found = 0
    for index in bits(holding):
        found |= number[side.candidates[index]]
    return found
