"""Say what the fixed part of a table must do with packets at interfaces that carry no ENI.

Owns the specification of these interfaces. It must not know how the compiler gets there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sgdataplane.contract.fields import SOURCE, CtDirection, Field
from sgdataplane.net.values import Direction, Family, Prefix, Verdict
from sgdataplane.nft.ir import Match
from sgdataplane.proof.spec.claims import unite
from sgdataplane.proof.spec.crossing import find_source_field
from sgdataplane.proof.spec.fixed import IS_ICMP, IS_RELATED, FixedClause, make_drop, one_of
from sgdataplane.proof.spec.outcomes import Effects


def other_clauses(hook: Direction, *, is_internal: bool) -> Iterator[FixedClause]:
    """Yield the clauses for interfaces that carry no ENI and are no uplinks.

    Packets pass at the instance's own interfaces, and are dropped at all others.
    """
    if is_internal:
        yield FixedClause(((), Verdict.ACCEPT.value), (), "accept, as the instance's own business")
    else:
        yield make_drop(hook, "unknown-interface")


def uplink_clauses(
    family: Family, private: Iterable[Prefix], passing: Effects, *, is_leaving: bool
) -> Iterator[FixedClause]:
    """Yield the clauses for uplinks, where all packets pass but two kinds.

    These are packets that come in with a source of an ENI on this host, and ICMP errors that come in about packets to
    such an ENI. `passing` are the effects on all other packets.
    """
    here = unite((p.first, p.last) for p in private if p.family is family)
    if not is_leaving:
        yield make_drop(Direction.EGRESS, "spoofed", Match(SOURCE[family], here))
        for way in CtDirection:
            is_here = one_of(Field.CT_DIRECTION, way), Match(find_source_field(family, way, is_arriving=True), here)
            yield make_drop(Direction.EGRESS, "icmp-error-refused", IS_RELATED, IS_ICMP, *is_here)
    yield FixedClause((passing, Verdict.ACCEPT.value), (), "accept, as on its way from or to elsewhere")
