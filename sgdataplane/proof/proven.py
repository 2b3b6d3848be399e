"""One interface whose fixed part is proven, and when the same proof would come out once more.

Owns what such a proof rests on, and what the chains are called where rules of an ENI begin. Must not know how it is
found.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Key
from sgdataplane.proof.structure import Structure, said

RULES = "profile-"  # what the chains are called where the rules of an ENI begin
Roots = Mapping[tuple[Direction, Family], AbstractSet[str]]  # where the rules of an ENI begin, for either direction


def judging(chain: str) -> Direction | None:
    """The direction whose rules begin at that chain."""
    if not chain.startswith(RULES):
        return None
    return next((side for side in Direction if chain.startswith(f"{RULES}{side.value}.")), None)


@dataclass(frozen=True, slots=True)
class ProvenGate:
    """One interface whose fixed part is proven. `basis`: the part of the specification that it was compared with.
    `chains`, `maps`, `keys`: what was read of the table; of some maps only the values of single keys. `roots`: the
    chains of rules that it leads to."""

    basis: object
    chains: frozenset[str]
    maps: frozenset[str]
    keys: Mapping[tuple[str, Key], object]
    roots: Roots

    def is_same(self, basis: object, structure: Structure) -> bool:
        """Whether the comparison would be the same: of the same chains and maps with the same basis. The structure has
        what changed since it was proven."""
        return (
            structure.changed.isdisjoint(self.chains)
            and structure.changed_maps.isdisjoint(self.maps)
            and all(
                said(structure, *asked) == value
                for asked, value in self.keys.items()
                if asked[0] in structure.changed_maps
            )
            and self.basis == basis
        )
