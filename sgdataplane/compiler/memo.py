"""What a compile leaves for the next one: the sides of profiles, and the maps of members and ranks.

Owns what is kept and for how long. Must not know how it is made.

None of this shows in a result: the same state gives the same table, whatever was compiled before.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import is_

from sgdataplane.compiler.kins import NO_KINS, Kins, MembersMap, Ranking
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
    """The maps of ranks that a side needs, by name, and the kins in them."""

    kins: Kins
    by_name: Mapping[str, Map]

    @cached_property
    def digest(self) -> str:
        """A hash of all their elements; all else of them follows from their names."""
        said = [f"{name} {pages.digest(entry.elements)}" for name, entry in sorted(self.by_name.items())]
        return names.digest(" ".join(said), 32)


@dataclass(frozen=True, eq=False)
class CompiledSide:
    """One side of a profile, and what it was compiled from; `origin`: the same objects as long as nothing of it can
    differ. `kins`: those that its chains name; None if they name none. `ranks`: the maps of ranks that it needs, and
    `maps`: these maps. `winners`: leaves by rank; `digest`: a hash of all but the maps. `side`: how it was compiled.
    Compared by identity."""

    origin: tuple[object, ...]
    basis: object
    kins: Kins | None
    root: str
    chains: Mapping[str, Chain]
    counters: Mapping[str, Counter]
    ranks: Collection[Ranking]
    maps: SideMaps
    winners: Mapping[int, str]
    digest: str
    side: Side

    def is_of(self, origin: tuple[object, ...], kins: Kins) -> bool:
        """Whether it was compiled from these objects."""
        return self.kins in (None, kins) and all(map(is_, self.origin, origin))

    def is_for(self, basis: object, kins: Kins) -> bool:
        """Whether these would have the same result."""
        return self.kins in (None, kins) and self.basis == basis


def side_digest(chains: Iterable[Chain], winners: Mapping[int, str]) -> str:
    """A hash of all that a side has but for its maps. A chain that is named after its content is spelled by its name,
    where something leads to it; and so is what its packets are counted by."""
    leaves = ",".join([f"{rank}:{leaf}" for rank, leaf in sorted(winners.items())])
    return names.digest(f"{Part.of([chain for chain in chains if not chain.texts], ()).digest} {leaves}", 32)


@dataclass
class Memo:
    """The memory of one compile. `before`: the sides that the compile before made. `rules`: what profiles made in the
    latest one; `fixed`, `audits`: all other parts, and what these follow from. For one thread at a time."""

    sides: dict[Hashable, CompiledSide] = field(default_factory=dict)
    ranks: Recent[tuple[Ranking, Kins], Map] = field(default_factory=Recent)
    maps: dict[Family, MembersMap] = field(default_factory=lambda: {family: MembersMap() for family in Family})
    kins: Kins = NO_KINS
    order: Order | None = None
    far: RemoteBlocks = field(default_factory=RemoteBlocks)
    members: Members | None = None
    before: Mapping[Hashable, CompiledSide] = field(default_factory=dict)
    rules: Rules | None = None
    fixed: tuple[object, tuple[Part, ...]] | None = None
    audits: tuple[object, Part | None] | None = None
    joined: Joined | None = None

    def next(self) -> Memo:
        """For the next compile."""
        return replace(self, sides={}, ranks=self.ranks.next(), maps=dict(self.maps), before=self.sides)

    def keep(self) -> None:
        """All that the compile before made is still right."""
        self.sides, self.before = dict(self.before), {}

    def follow(self, members: Members) -> None:
        """Let the members build their index from that of the compile before."""
        if self.members is not None:
            members.follow(self.members)
        self.members = members

    def seal(self) -> None:
        """Forget what the compile, which is over, didn't ask for."""
        self.before = {}
        self.ranks.seal()
