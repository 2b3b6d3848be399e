"""What a compile leaves for the next one: boxes, the chains that a class of far addresses leads to, and members' maps.

Owns what is kept and for how long. Is given what was made of what. Must not know how it is made.

A class's chains follow from its boxes alone, so a state that differs in one rule makes only that rule's classes anew;
and all chains of a space (one profile's far addresses in one family) follow from its permissions and classes.
Nothing here changes what a compile makes: the same state gives the same table, whatever was compiled before.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

from sgdataplane.compiler.classes import AddressClasses, RemoteSet
from sgdataplane.compiler.diagram import RuleBox
from sgdataplane.model.members import Kin, Members, Pages
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Chain, Counter, Paged, Verdict
from sgdataplane.policy.resolve import Permission, Profile


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
class CompiledSpace:
    """What a space was made of, and what became of it."""

    profile: Profile
    classes: AddressClasses
    lowered: Lowered

    def is_for(self, profile: Profile, classes: AddressClasses) -> bool:
        """Whether the same becomes of these."""
        return self.classes.is_like(classes) and (self.profile is profile or self.profile == profile)


PacketKind = tuple[Family, int | None]  # and their protocol, where all have one


@dataclass
class SpaceMemo:
    """Of the last two compiles of one space."""

    boxes: dict[tuple[Permission, PacketKind], RuleBox | None] = field(default_factory=dict)
    silent: dict[RuleBox, RuleBox] = field(default_factory=dict)
    parts: dict[str, NamedChain] = field(default_factory=dict)
    targets: dict[Hashable, str] = field(default_factory=dict)
    known: CompiledSpace | None = None
    _older: SpaceMemo | None = None

    def next(self) -> SpaceMemo:
        """For the next compile."""
        return SpaceMemo(_older=replace(self, _older=None))

    @property
    def before(self) -> CompiledSpace | None:
        """What the compile before made."""
        return self._older.known if self._older else None

    def again(self, known: CompiledSpace) -> SpaceMemo:
        """For a compile in which the space is what it was."""
        return self if self._older is None else replace(self._older, known=known)

    def box(self, permission: Permission, kind: PacketKind) -> tuple[bool, RuleBox | None]:
        """Whether it is known, and the box."""
        key = (permission, kind)
        if key in self.boxes:
            return True, self.boxes[key]
        if self._older is not None and key in self._older.boxes:
            self.boxes[key] = self._older.boxes[key]
            return True, self.boxes[key]
        return False, None

    def silenced(self, box: RuleBox) -> RuleBox:
        """The same region without a cause: the same object for the same box."""
        found = self.silent.get(box) or (self._older.silent.get(box) if self._older else None)
        self.silent[box] = found = found or RuleBox(None, box.intervals)
        return found

    def target(self, key: Hashable) -> str | None:
        """The chain that these boxes led to."""
        found = self.targets.get(key) or (self._older.targets.get(key) if self._older else None)
        if found is not None:
            self.targets[key] = found
        return found

    def part(self, name: str) -> NamedChain | None:
        found = self.parts.get(name) or (self._older.parts.get(name) if self._older else None)
        if found is not None:
            self.parts[name] = found
        return found


@dataclass(frozen=True)
class MembersMap:
    """The elements of a map of members, page by page, and what they were made of."""

    pages: Pages
    verdicts: Mapping[Kin, Verdict]
    elements: Paged


NO_MEMBERS = MembersMap({}, {}, Paged({}))


@dataclass
class Memo:
    """Of all that was compiled for one namespace. For one thread at a time."""

    spaces: dict[Hashable, SpaceMemo] = field(default_factory=dict)
    maps: dict[str, MembersMap] = field(default_factory=dict)
    members: Members | None = None
    _older: Memo | None = None

    def next(self) -> Memo:
        """For the next compile."""
        return Memo(_older=replace(self, _older=None))

    def follow(self, members: Members) -> None:
        """Index the members from those of the compile before."""
        if self._older is not None and self._older.members is not None:
            members.follow(self._older.members)
        self.members = members

    def space(self, key: Hashable) -> SpaceMemo:
        """For a space that is compiled now."""
        before = self._older.spaces.get(key) if self._older else None
        return before.next() if before else SpaceMemo()

    def map_before(self, name: str) -> MembersMap:
        """The map of that name that the compile before made."""
        return self._older.maps.get(name, NO_MEMBERS) if self._older else NO_MEMBERS
