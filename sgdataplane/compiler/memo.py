"""Keep what a compile leaves for the next one: the sides of profiles, and the maps of members and ranks.

Owns what is kept and for how long. It must not know how it is made.

None of this shows in a result: the same state gives the same table, whatever was compiled before.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import is_

from sgdataplane.compiler.group_sets import NO_GROUP_SETS, GroupSets, MembersMap, Ranking
from sgdataplane.compiler.parts import Joined, Part, Rules
from sgdataplane.compiler.recent import Recent
from sgdataplane.compiler.shared import Order, RemoteBlocks
from sgdataplane.compiler.sides import Side
from sgdataplane.contract import names
from sgdataplane.model.members import Members
from sgdataplane.net.values import Family
from sgdataplane.nft import pages
from sgdataplane.nft.ir import Chain, Counter, Map


@dataclass(frozen=True)
class SideMaps:
    """The maps of ranks that a side needs, by name, and the group sets in them."""

    group_sets: GroupSets
    by_name: Mapping[str, Map]

    @cached_property
    def digest(self) -> str:
        """A hash of all their elements. All else of them follows from their names."""
        said = [f"{name} {pages.digest(entry.elements)}" for name, entry in sorted(self.by_name.items())]
        return names.digest(" ".join(said), 32)


@dataclass(frozen=True, eq=False)
class CompiledSide:
    """One side of a profile, and what it was compiled from. Two of them are compared by identity."""

    origin: tuple[object, ...]
    """Objects that it was compiled from; they stay the same objects only if nothing of it can differ."""
    basis: object
    """All that it was compiled from, to be compared by value."""
    group_sets: GroupSets | None
    """The group sets that its chains name; None if they name none."""
    root: str
    """The name of its first chain."""
    chains: Mapping[str, Chain]
    """All its chains, by name."""
    counters: Mapping[str, Counter]
    """The counters of these chains, by name."""
    ranks: Collection[Ranking]
    """The maps of ranks that it needs."""
    maps: SideMaps
    """These maps, made."""
    winners: Mapping[int, str]
    """The name of each leaf, by rank."""
    digest: str
    """A hash of all but the maps."""
    side: Side
    """How it was compiled, for the next compile."""

    def is_of(self, origin: tuple[object, ...], group_sets: GroupSets) -> bool:
        """Return whether it was compiled from these objects."""
        return self.group_sets in (None, group_sets) and all(map(is_, self.origin, origin))

    def is_for(self, basis: object, group_sets: GroupSets) -> bool:
        """Return whether these would have the same result."""
        return self.group_sets in (None, group_sets) and self.basis == basis


def side_digest(chains: Iterable[Chain], winners: Mapping[int, str]) -> str:
    """Return a hash of all that a side has but for its maps.

    A chain that is named after its content counts by its name, which stands where something leads to it. So do
    counters.
    """
    leaves = ",".join([f"{rank}:{leaf}" for rank, leaf in sorted(winners.items())])
    return names.digest(f"{Part.of([chain for chain in chains if not chain.texts], ()).digest} {leaves}", 32)


@dataclass
class Memo:
    """What one compile remembers. It is for one thread at a time."""

    sides: dict[Hashable, CompiledSide] = field(default_factory=dict)
    """The sides that this compile made or took over."""
    ranks: Recent[tuple[Ranking, GroupSets], Map] = field(default_factory=Recent)
    """The maps from group sets to ranks."""
    maps: dict[Family, MembersMap] = field(default_factory=lambda: {family: MembersMap() for family in Family})
    """The map of members, by family."""
    group_sets: GroupSets = NO_GROUP_SETS
    """The numbers of group sets."""
    order: Order | None = None
    """The ranks of permissions."""
    far: RemoteBlocks = field(default_factory=RemoteBlocks)
    """The address ranges of remotes."""
    members: Members | None = None
    """The members of groups."""
    previous: Mapping[Hashable, CompiledSide] = field(default_factory=dict)
    """The sides of the compile before."""
    rules: Rules | None = None
    """What profiles made in the latest compile."""
    fixed: tuple[object, tuple[Part, ...]] | None = None
    """All other parts but that of audit mode, in front of them what they follow from."""
    audits: tuple[object, Part | None] | None = None
    """The part for ENIs in audit mode, in front of it what it follows from."""
    joined: Joined | None = None
    """All parts in one table."""

    def next(self) -> Memo:
        """Return the memory for the next compile."""
        return replace(self, sides={}, ranks=self.ranks.next(), maps=dict(self.maps), previous=self.sides)

    def keep(self) -> None:
        """Keep all that the compile before made: it is still right."""
        self.sides, self.previous = dict(self.previous), {}

    def follow(self, members: Members) -> None:
        """Let the members build their index from that of the compile before."""
        if self.members is not None:
            members.follow(self.members)
        self.members = members

    def evict_unused(self) -> None:
        """Forget what the compile, which is over, didn't ask for."""
        self.previous = {}
        self.ranks.evict_unused()
