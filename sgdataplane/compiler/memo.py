"""What a compile leaves for the next one: boxes, the chains that a class of far addresses leads to, and members' maps.

Owns what is kept and for how long. Must not know how it is made.

A class's chains follow from its boxes alone, so a state that differs in one rule makes only that rule's classes anew.
All chains of a space (one profile's far addresses in one family) follow from its permissions and classes. None of this
shows in a result: the same state gives the same table, whatever was compiled before.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from sgdataplane.compiler.classes import AddressClasses, RemoteSet
from sgdataplane.compiler.diagram import RuleBox
from sgdataplane.compiler.parts import Rules
from sgdataplane.model.members import Kin, Members, Pages
from sgdataplane.net.ranges import Ranges
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Chain, Counter, Paged, Verdict
from sgdataplane.policy.resolve import Permission, Profile

PacketKind = tuple[Family, int | None]  # a family, and the protocol if all packets have the same
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values that a compile has asked for, and those of the compile before. All others are forgotten."""

    def __init__(self, older: Mapping[K, V] | None = None) -> None:
        self._older: Mapping[K, V] = older or {}
        self._values: dict[K, V] = {}

    def find(self, key: K) -> V | None:
        if key not in self._values and key in self._older:
            self._values[key] = self._older[key]
        return self._values.get(key)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value; if it isn't there, it is made."""
        if key not in self._values:
            self._values[key] = self._older[key] if key in self._older else make()
        return self._values[key]

    def put(self, key: K, value: V) -> None:
        self._values[key] = value

    def next(self) -> Recent[K, V]:
        """For the next compile."""
        return Recent(self._values)

    def seal(self) -> None:
        """Forget what the compile, which is over, didn't ask for."""
        self._older = {}


@dataclass(frozen=True, slots=True)
class NamedChain:
    """A chain that is named after its content, and the counter that it counts in, if any."""

    chain: Chain
    counter: Counter | None = None


@dataclass(frozen=True)
class Lowered:
    """A space as chains. By side, `kin` are the chains for members of groups, `far` is the one for all others."""

    chains: Mapping[str, Chain]
    counters: Mapping[str, Counter]
    far: Mapping[Direction, str]
    kin: Mapping[Direction, Mapping[RemoteSet, Verdict]]


@dataclass(frozen=True)
class SpaceMemo:
    """What one space needs while it is compiled. `at`: boxes for far addresses in some blocks; `silent`: for each box
    the one without a decision; `targets`: the chain that a diagram became, by the diagram's key."""

    boxes: Recent[tuple[Permission, PacketKind], RuleBox | None] = field(default_factory=Recent)
    at: Recent[tuple[RuleBox, Ranges], RuleBox] = field(default_factory=Recent)
    silent: Recent[RuleBox, RuleBox] = field(default_factory=Recent)
    chains: Recent[str, NamedChain] = field(default_factory=Recent)
    targets: Recent[Hashable, str] = field(default_factory=Recent)

    def next(self) -> SpaceMemo:
        """For the next compile."""
        return SpaceMemo(self.boxes.next(), self.at.next(), self.silent.next(), self.chains.next(), self.targets.next())

    def seal(self) -> None:
        self.boxes.seal()
        self.at.seal()
        self.silent.seal()
        self.chains.seal()
        self.targets.seal()


@dataclass(frozen=True)
class CompiledSpace:
    """What a space was compiled from, and the result."""

    profile: Profile
    classes: AddressClasses
    lowered: Lowered
    memo: SpaceMemo

    def is_for(self, profile: Profile, classes: AddressClasses) -> bool:
        """Whether these would have the same result."""
        return self.classes.is_like(classes) and (self.profile is profile or self.profile == profile)


@dataclass(frozen=True)
class MembersMap:
    """The elements of a map of members, page by page, and what they were made from."""

    pages: Pages
    verdicts: Mapping[Kin, Verdict]
    elements: Paged


NO_MEMBERS = MembersMap({}, {}, Paged({}))


@dataclass
class Memo:
    """The memory of one compile, and of the one before it. `rules`: what profiles made in the latest of them. For one
    thread at a time."""

    spaces: dict[Hashable, CompiledSpace] = field(default_factory=dict)
    maps: dict[str, MembersMap] = field(default_factory=dict)
    members: Members | None = None
    before: Memo | None = None
    rules: Rules | None = None

    def next(self) -> Memo:
        """For the next compile."""
        return Memo(before=replace(self, before=None), rules=self.rules)

    def keep(self) -> None:
        """All that the compile before made is still right."""
        if self.before is not None:
            self.spaces, self.maps, self.members = self.before.spaces, self.before.maps, self.before.members

    def follow(self, members: Members) -> None:
        """Let the members build their index from that of the compile before."""
        if self.before is not None and self.before.members is not None:
            members.follow(self.before.members)
        self.members = members

    def space_before(self, key: Hashable) -> CompiledSpace | None:
        return self.before.spaces.get(key) if self.before else None

    def map_before(self, name: str) -> MembersMap:
        """The map of that name that the compile before made."""
        return self.before.maps.get(name, NO_MEMBERS) if self.before else NO_MEMBERS
