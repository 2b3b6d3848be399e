"""Read rules that decide by themselves as a way to a leaf (verdict chain), so that a walk treats both alike.

Owns how such a rule looks, and the names of these leaves, which say all that they do. It must not know ranks.

A leaf returns packets whose rank it leaves alone. Such a rule lets them go on to the next rule instead. So all rules
behind it must be of this kind, too, and leave the same ranks alone. A walk doesn't follow these packets: each rule
answers for all rules behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from sgdataplane.contract.fields import Field
from sgdataplane.nft.ir import RETURN, Count, Range, SetPriority, goto
from sgdataplane.proof.spec.outcomes import Effect, Effects, Outcome
from sgdataplane.proof.walk.step import Bound, RuleStep

NOTHING = Bound(())
END = "step: "  # names of these leaves begin so, and no chain's name does


def ends_of(
    steps: Sequence[RuleStep], find_outcome: Callable[[Effects], Outcome | None]
) -> Iterator[tuple[str, Outcome, Bound | None]]:
    """Turn the steps of a chain that decide by themselves into ways to leaves.

    Yields each leaf's name, its outcome, and the priorities that it leaves alone (None: none). `find_outcome` returns
    what effects decide, or None. A step gets a problem if packets that it leaves alone may be decided behind it.
    """
    behind: Bound | None = NOTHING  # what all rules behind leave alone; None if one of them doesn't decide by itself
    for place in range(len(steps) - 1, -1, -1):
        step = steps[place]
        bound = _read_bound(step)
        outcome = None if bound is None else find_outcome(step.effects)
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


def _read_bound(step: RuleStep) -> Bound | None:
    """Return the priorities that such a rule leaves alone; None if it isn't such a rule."""
    if step.verdict != RETURN or not step.effects or step.problem or step.then is not None:
        return None
    if not step.asked:
        return NOTHING
    match = step.asked[0]
    is_plain = len(step.asked) == 1 and match.negate and match.mask is None and match.field is Field.PACKET_PRIORITY
    return Bound(match.ranges) if is_plain else None


def is_end(name: str) -> bool:
    """Return whether a name is that of such a leaf."""
    return name.startswith(END)


@lru_cache(maxsize=1 << 16)
def _name(effects: Effects, ranges: tuple[Range, ...]) -> str:
    """Return the leaf's name. Equal names stand for equal leaves."""
    left = ", ".join(f"{item.first}-{item.last}" for item in ranges)
    return (
        f"{END}{' '.join(map(_effect_text, effects))} but for {left}"
        if left
        else f"{END}{' '.join(map(_effect_text, effects))}"
    )


def _effect_text(effect: Effect) -> str:
    """Return one effect as a part of the leaf's name."""
    match effect:
        case Count(counter):
            return counter
        case SetPriority(value):
            return f"{value:#x}"
        case _:
            return repr(effect)
