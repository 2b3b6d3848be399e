"""What a compile leaves for the next one: chains, the sides of profiles, and the maps of members and ranks.

Owns what is kept and for how long. Must not know how it is made.

None of this shows in a result: the same state gives the same table, whatever was compiled before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sgdataplane.compiler.kins import NO_KINS, Kins, MembersMap, Strengths
from sgdataplane.compiler.parts import Rules
from sgdataplane.model.members import Members
from sgdataplane.net.values import Family
from sgdataplane.nft.ir import Chain, Counter, Map

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values that a compile has asked for, and those of the compile before. All others are forgotten."""

    def __init__(self, older: Mapping[K, V] | None = None) -> None:
        self._older: Mapping[K, V] = older or {}
        self._values: dict[K, V] = {}

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value; if it isn't there, it is made."""
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = self._older.get(key) or make()
        return found

    def next(self) -> Recent[K, V]:
        """For the next compile."""
        return Recent(self._values)

    def seal(self) -> None:
        """Forget what the compile, which is over, didn't ask for."""
        self._older = {}


@dataclass(frozen=True)
class NamedChain:
    """A chain that is named after its content, and the counter that it counts in, if any."""

    chain: Chain
    counter: Counter | None = None


ChainMemo = Recent[Hashable, NamedChain]


@dataclass(frozen=True)
class CompiledSide:
    """One side of a profile, and what it was compiled from. `kins`: those that its chains name; None if they name none.
    `ranks`: the maps of ranks that it needs. `winners`: leaves by rank."""

    basis: object
    kins: Kins | None
    root: str
    chains: Mapping[str, Chain]
    counters: Mapping[str, Counter]
    ranks: Collection[Strengths]
    winners: Mapping[int, str]
    memo: ChainMemo

    def is_for(self, basis: object, kins: Kins) -> bool:
        """Whether these would have the same result."""
        return self.kins in (None, kins) and self.basis == basis


@dataclass
class Memo:
    """The memory of one compile. `before`: the sides that the compile before made. `rules`: what profiles made in the
    latest one. For one thread at a time."""

    sides: dict[Hashable, CompiledSide] = field(default_factory=dict)
    ranks: Recent[tuple[Strengths, Kins], Map] = field(default_factory=Recent)
    maps: dict[Family, MembersMap] = field(default_factory=lambda: {family: MembersMap() for family in Family})
    kins: Kins = NO_KINS
    members: Members | None = None
    before: Mapping[Hashable, CompiledSide] = field(default_factory=dict)
    rules: Rules | None = None

    def next(self) -> Memo:
        """For the next compile."""
        return Memo({}, self.ranks.next(), dict(self.maps), self.kins, self.members, self.sides, self.rules)

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
