"""Rules that decide by themselves: each is read as a way to a leaf, so that a walk treats both alike.

Owns how such a rule looks, and the names of these leaves, which say all that they do. Must not know ranks.

A leaf returns packets whose rank it leaves alone. Such a rule lets them go on to the next one instead. So all rules
behind it must be of this kind, too, and leave the same ranks alone. A walk doesn't follow these packets, so each rule
answers for all that are behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from sgdataplane.contract.fields import Field
from sgdataplane.nft.ir import RETURN, Count, Range, SetPriority, goto
from sgdataplane.proof.step import Bound, Effect, Effects, Outcome, RuleStep

NOTHING = Bound(())
END = "step: "  # no chain has such a name


def ends_of(
    steps: Sequence[RuleStep], decided: Callable[[Effects], Outcome | None]
) -> Iterator[tuple[str, Outcome, Bound | None]]:
    """Make such steps of a chain ways to their leaves. Yields each leaf's name, what becomes of packets there, and what
    it leaves alone. `decided`: what effects decide, if they do. A step has a problem if packets that it leaves alone
    may be decided behind it."""
    behind: Bound | None = NOTHING  # what all rules behind leave alone, if they are ends; none is behind the last one
    for place in range(len(steps) - 1, -1, -1):
        step = steps[place]
        bound = _bound_of(step)
        outcome = None if bound is None else decided(step.effects)
        if bound is None or outcome is None:
            behind = None
            continue
        is_last = place == len(steps) - 1
        if bound.ranges and not is_last and not (behind is not None and bound.is_within(behind)):
            step.problem = "packets that it leaves alone may be decided by a weaker rule behind it"
        name = _name(step.effects, bound.ranges)
        step.effects, step.asked, step.asked_first, step.verdict = (), (), (), goto(name)
        yield name, outcome, bound if bound.ranges else None
        behind = None if step.problem else bound


def _bound_of(step: RuleStep) -> Bound | None:
    """The priorities that such a rule leaves alone. None if it is no such rule."""
    if step.verdict != RETURN or not step.effects or step.problem or step.then is not None:
        return None
    if not step.asked:
        return NOTHING
    match = step.asked[0]
    is_plain = len(step.asked) == 1 and match.negate and match.mask is None and match.field is Field.PACKET_PRIORITY
    return Bound(match.ranges) if is_plain else None


def is_end(name: str) -> bool:
    return name.startswith(END)


@lru_cache(maxsize=1 << 16)
def _name(effects: Effects, ranges: tuple[Range, ...]) -> str:
    """Equal names stand for equal leaves."""
    left = ", ".join(f"{item.first}-{item.last}" for item in ranges)
    return f"{END}{' '.join(map(_said, effects))} but for {left}" if left else f"{END}{' '.join(map(_said, effects))}"


def _said(effect: Effect) -> str:
    match effect:
        case Count(counter):
            return counter
        case SetPriority(value):
            return f"{value:#x}"
        case _:
            return repr(effect)
