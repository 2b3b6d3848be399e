"""Where two permissions of opposite verdict hold for one packet: ties that the drop wins, and drops that inner accept
makes void.

Is given a view. Owns what these words mean; each is found only where a packet at an ENI shows it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sgdataplane.analyse.order import LOCAL_AT, Mask, bits
from sgdataplane.analyse.pools import View
from sgdataplane.model.decision import RULE


def ties(view: View) -> Iterator[tuple[int, int]]:
    """(accept, drop): rules of equal priority that both match a packet which the drop decides."""
    found: set[tuple[int, int]] = set()
    accepts = _accepts_by_priority(view)
    for holding, far in view.classes.items():
        for cell, winner in view.cells(holding):
            decision = view.decision(winner)
            tied = holding & accepts.get(decision.priority, 0) if decision.cause == RULE else 0
            for index in bits(tied & ~view.alike(winner)):
                pair = index, winner
                if pair not in found and view.has_part(cell, index) and view.is_met(far, view.local(cell, index)):
                    found.add(pair)
    return iter(sorted(found))


def _accepts_by_priority(view: View) -> dict[int, Mask]:
    found: dict[int, Mask] = {}
    for index in view.rules.values():
        if view.accepting >> index & 1:
            priority = view.decision(index).priority
            found[priority] = found.get(priority, 0) | 1 << index
    return found


def void_drops(view: View) -> Iterator[tuple[int, int]]:
    """(drop, inner accept): of a packet that the rule would drop, were the ENI and the remote not together in a group
    that accepts within."""
    found: dict[int, int] = {}
    for holding, far in view.classes.items():
        inner = holding & view.inner
        if not inner:
            continue
        for cell, winner in view.cells(holding & ~inner):
            is_drop = view.decision(winner).cause == RULE and not view.accepting >> winner & 1
            is_outranked = winner > next(bits(inner))  # at egress it may be the other way round (options)
            if is_drop and is_outranked and winner not in found and view.is_met(far, cell.shape[LOCAL_AT]):
                found[winner] = next(bits(inner))
    return iter(sorted(found.items()))
