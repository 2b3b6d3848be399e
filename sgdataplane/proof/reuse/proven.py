"""Remember one interface whose fixed part is proven, and tell when the same proof would come out once more.

Owns what such a proof rests on, and the names of chains where rules of an ENI begin. It must not know how the proof is
found.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Key
from sgdataplane.proof.walk.structure import Structure, map_value

RULES = "profile-"  # names of chains where the rules of an ENI begin start so
Roots = Mapping[tuple[Direction, Family], AbstractSet[str]]  # the chains where the rules of an ENI begin


def judging(chain: str) -> Direction | None:
    """Return the direction whose rules begin at that chain; None if none begin there."""
    if not chain.startswith(RULES):
        return None
    return next((side for side in Direction if chain.startswith(f"{RULES}{side.value}.")), None)


@dataclass(frozen=True, slots=True)
class ProvenGate:
    """One interface whose fixed part is proven."""

    basis: object
    """The part of the specification that it was compared with."""
    chains: frozenset[str]
    """The chains that were read."""
    maps: frozenset[str]
    """The maps of which everything was read."""
    keys: Mapping[tuple[str, Key], object]
    """The single keys that were read of other maps, with what they had."""
    roots: Roots
    """The chains of rules that it leads to."""

    def is_same(self, basis: object, structure: Structure) -> bool:
        """Return whether the comparison would be the same: the same chains and maps with the same basis.

        `structure` says what has changed since the interface was proven.
        """
        return (
            structure.changed.isdisjoint(self.chains)
            and structure.changed_maps.isdisjoint(self.maps)
            and all(
                map_value(structure, *asked) == value
                for asked, value in self.keys.items()
                if asked[0] in structure.changed_maps
            )
            and self.basis == basis
        )
