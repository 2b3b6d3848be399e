"""What a compile leaves for the next one: boxes, the chains that a class of far addresses leads to, and members' maps.

Owns what is kept and for how long. Is given what was made of what. Must not know how it is made.

A class's chains follow from its boxes alone, so a state that differs in one rule makes only that rule's classes anew;
and all chains of a space (one profile's far addresses in one family) follow from its permissions and classes.
Nothing here changes what a compile makes: the same state gives the same table, whatever was compiled before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from sgdataplane.compiler.classes import AddressClasses, RemoteSet
from sgdataplane.compiler.diagram import RuleBox
from sgdataplane.model.members import Kin, Members, Pages
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Chain, Counter, Paged, Verdict
from sgdataplane.policy.resolve import Permission, Profile

PacketKind = tuple[Family, int | None]  # and their protocol, where all have one
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """What a compile has asked for, and what the one before it had: anything else is forgotten."""

    def __init__(self, older: Mapping[K, V] | None = None) -> None:
        self._older: Mapping[K, V] = older or {}
        self._values: dict[K, V] = {}

    def find(self, key: K) -> V | None:
        if key not in self._values and key in self._older:
            self._values[key] = self._older[key]
        return self._values.get(key)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value, which is made if it isn't there."""
        if key not in self._values:
            self._values[key] = self._older[key] if key in self._older else make()
        return self._values[key]

    def put(self, key: K, value: V) -> None:
        self._values[key] = value

    def next(self) -> Recent[K, V]:
        """For the next compile."""
        return Recent(self._values)

    def seal(self) -> None:
        """The compile is over: what it didn't ask for goes."""
        self._older = {}


@dataclass(frozen=True, slots=True)
class NamedChain:
    """A chain named after what it holds, and the counter it counts in, if any."""

    chain: Chain
    counter: Counter | None = None


@dataclass(frozen=True)
class Lowered:
    """A space as chains. By side, `kin` are those that packets of members of groups come to, `far` all others."""

    chains: Mapping[str, Chain]
    counters: Mapping[str, Counter]
    far: Mapping[Direction, str]
    kin: Mapping[Direction, Mapping[RemoteSet, Verdict]]


@dataclass(frozen=True)
class SpaceMemo:
    """What one space needs while it is made. `silent`: the same region without a cause, so that there is one object for
    each box; `targets`: the chain that boxes lead to."""

    boxes: Recent[tuple[Permission, PacketKind], RuleBox | None] = field(default_factory=Recent)
    silent: Recent[RuleBox, RuleBox] = field(default_factory=Recent)
    chains: Recent[str, NamedChain] = field(default_factory=Recent)
    targets: Recent[Hashable, str] = field(default_factory=Recent)

    def next(self) -> SpaceMemo:
        """For the next compile."""
        return SpaceMemo(self.boxes.next(), self.silent.next(), self.chains.next(), self.targets.next())

    def seal(self) -> None:
        self.boxes.seal()
        self.silent.seal()
        self.chains.seal()
        self.targets.seal()


@dataclass(frozen=True)
class CompiledSpace:
    """What a space was made of, and what became of it."""

    profile: Profile
    classes: AddressClasses
    lowered: Lowered
    memo: SpaceMemo

    def is_for(self, profile: Profile, classes: AddressClasses) -> bool:
        """Whether the same becomes of these."""
        return self.classes.is_like(classes) and (self.profile is profile or self.profile == profile)


@dataclass(frozen=True)
class MembersMap:
    """The elements of a map of members, page by page, and what they were made of."""

    pages: Pages
    verdicts: Mapping[Kin, Verdict]
    elements: Paged


NO_MEMBERS = MembersMap({}, {}, Paged({}))


@dataclass
class Memo:
    """Of all that was compiled for one namespace, and of the compile before. For one thread at a time."""

    spaces: dict[Hashable, CompiledSpace] = field(default_factory=dict)
    maps: dict[str, MembersMap] = field(default_factory=dict)
    members: Members | None = None
    before: Memo | None = None

    def next(self) -> Memo:
        """For the next compile."""
        return Memo(before=replace(self, before=None))

    def follow(self, members: Members) -> None:
        """Index the members from those of the compile before."""
        if self.before is not None and self.before.members is not None:
            members.follow(self.before.members)
        self.members = members

    def space_before(self, key: Hashable) -> CompiledSpace | None:
        return self.before.spaces.get(key) if self.before else None

    def map_before(self, name: str) -> MembersMap:
        """The map of that name that the compile before made."""
        return self.before.maps.get(name, NO_MEMBERS) if self.before else NO_MEMBERS
