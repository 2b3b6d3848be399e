"""Check that limits of sessions only ever refuse packets that open a session.

Owns what the chains of limits may do, and which chains may lead there. A walk doesn't follow packets into them, as it
doesn't know how many sessions came before. It must not know how many an ENI may hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sgdataplane.contract.fields import CtState, Field, KeyType
from sgdataplane.contract.marks import HALF
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import LIMIT, accept_name, drop_name, limit_name
from sgdataplane.net.values import Direction
from sgdataplane.nft.ir import (
    Chain,
    InSet,
    Map,
    Match,
    OneIn,
    Range,
    Remember,
    Rule,
    SessionsExceed,
    Statement,
    goto,
    is_value,
    jump,
    rule,
)
from sgdataplane.proof.walk.structure import Structure

IS_NEW = is_value(Field.CT_STATE, CtState.NEW)


def wrong_limits(structure: Structure, site: Site) -> str:
    """Return what is wrong with the table's limits; "" if nothing is."""
    return next(_wrong(structure, site), "")


def _wrong(structure: Structure, site: Site) -> Iterator[str]:
    """Yield what is wrong with sets that packets fill, with chains of limits, and with chains that lead there."""
    ways = {accept_name(side, side): rule(IS_NEW, jump(limit_name(side))) for side in Direction}
    chains, sets = structure.table.chain, structure.table.map
    for name, entry in sets.items():
        if entry.room and (entry.elements or entry.holds is not KeyType.NOTHING):
            yield f"set {name} is filled by packets, and comes with elements"
    for side in Direction:
        chain = chains.get(limit_name(side))
        if chain is not None and not (
            _is_limit(chain, site, side) and all(_is_filled(sets, way) for way in chain.ways.maps)
        ):
            yield f"chain {chain.name} does more than refuse sessions that are opened, or less"
    for name in structure.changed & chains.keys():
        led = [entry for entry in chains[name].rules if _leads(entry)]
        if led and (led != [ways.get(name)] or not site.placement.is_outside):
            yield f"chain {name} leads other packets to a limit than those that open a session"


def _is_filled(sets: Mapping[str, Map], name: str) -> bool:
    return name in sets and sets[name].room > 0


def _leads(entry: Rule) -> bool:
    return any(getattr(part, "chain", "").startswith(LIMIT) for part in entry.statements)


def _is_limit(chain: Chain, site: Site, side: Direction) -> bool:
    """Return whether a chain's rules only count sessions that nobody accepted before, and refuse.

    At ingress, no ENI here may have opened the session, either. So only such sessions become elements of its sets.
    """
    mask = HALF[Direction.EGRESS] if side is Direction.EGRESS else 0xFFFFFFFF
    unaccepted = Match(Field.CT_MARK, (Range.of(0),), mask=mask)
    refused = goto(drop_name(side, "session-limit"))
    return all(_refuses(entry.statements, unaccepted, refused, site.interface(side)) for entry in chain.rules)


def _refuses(statements: Sequence[Statement], unaccepted: Match, refused: Statement, interface: Field) -> bool:
    """Return whether a rule asks for the ENI of the packet's interface, and refuses."""
    *asked, end = (part for part in statements if not isinstance(part, OneIn))
    filled = [part for part in asked if isinstance(part, SessionsExceed | Remember)]
    wanted = [unaccepted, *filled] if filled else [part for part in asked if isinstance(part, InSet)]
    pairs = [part for part in asked if isinstance(part, InSet | SessionsExceed | Remember)]
    is_own = all((part.interface, part.mask) == (interface, unaccepted.mask) for part in pairs)
    is_asked = any(isinstance(part, InSet | SessionsExceed) for part in pairs)
    is_plain = all(not part.negate for part in pairs if isinstance(part, InSet))
    return end == refused and asked == wanted and is_own and is_asked and is_plain
