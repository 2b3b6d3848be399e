"""Compile the profiles of one namespace into chains, maps and counters.

Owns what profiles share: members, ranks, and which sides are taken over from the compile before. It is given a resolved
policy. It must not know hooks' chains, epochs, or interfaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from sgdataplane.compiler.group_sets import GroupSets, Ranking, ranks_map
from sgdataplane.compiler.lower import AllSides, ChainMemo, Lowering
from sgdataplane.compiler.memo import CompiledSide, Memo, SideMaps, side_digest
from sgdataplane.compiler.parts import Named, Part, Rules, are_same, by_name
from sgdataplane.compiler.ranks import Strength
from sgdataplane.compiler.shared import Order, RemoteBlocks
from sgdataplane.compiler.sides import Side, winners_map
from sgdataplane.contract import names
from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.names import spread
from sgdataplane.contract.priority import FIRST_PROFILE, PROFILE_NUMBERS
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import PROFILES
from sgdataplane.errors import InternalError
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft import pages
from sgdataplane.nft.ir import Chain, Counter, Map, jump
from sgdataplane.policy.resolve import HostPolicy, Profile

# Diagrams are kept for the next compile if a profile has FEWEST permissions or more: small ones aren't worth it. With
# more than MAX_PROFILES profiles they would take too much memory, some 1 MB each.
FEWEST, MAX_PROFILES = 64, 8


@dataclass
class Profiles:
    """Compiles the profiles of one namespace."""

    policy: HostPolicy
    site: Site
    memo: Memo
    _shared: AllSides = field(default_factory=AllSides)

    def __post_init__(self) -> None:
        memo, policy = self.memo, self.policy
        self._order = memo.order = Order.of(policy.profiles, memo.order)
        self._far = memo.far = RemoteBlocks.of(policy, memo.far)
        self._group_sets = memo.group_sets = GroupSets.of(policy.members, self._order.named_groups, memo.group_sets)

    def profile(self, profile: Profile) -> dict[Direction, str]:
        """Return the name of the first chain of each side, which judges sessions of every ENI with this profile."""
        return {direction: self._side(profile, direction) for direction in Direction}

    def _side(self, profile: Profile, direction: Direction) -> str:
        """Return the name of a side's first chain. The side is taken over if it was compiled from the same objects."""
        key = (profile.security_group_ids, profile.nic_type, direction, self.site.placement)
        origin = (profile.permissions(direction), self._far, self._order)
        found = self.memo.previous.get(key)
        if found is None or not found.is_of(origin, self._group_sets):
            found = self._recompile(profile, direction, origin, found)
        if found.maps.group_sets is not self._group_sets:
            found = replace(found, maps=self._rank_maps(found.ranks))
        self.memo.sides[key] = found
        return found.root

    def _recompile(
        self, profile: Profile, direction: Direction, origin: Origin, found: CompiledSide | None
    ) -> CompiledSide:
        """Return the side, compiled anew unless all that it follows from is equal."""
        permissions, order = profile.permissions(direction), self._order
        far = {remote: self._far.ranges[remote] for remote in profile.references[direction]}
        strength = Strength.of(profile, direction, order.ranks, order.inner[direction])
        basis = (permissions, far, strength)
        if found is not None and found.is_for(basis, self._group_sets):
            return replace(found, origin=origin)
        previous, lowering = None, Lowering(ChainMemo(), self._shared)
        if found is not None:
            previous, lowering = found.side, found.side.lowering.next(self._shared)
        side = Side(profile_name(profile), self.site, direction, *basis, self._group_sets, lowering, previous)
        root = side.root(names.comment(f"groups {', '.join(profile.security_group_ids)}"))
        winners = side.winners()
        needed = lowering.collect_needed([root, *winners.values()])
        counters = lowering.counters()
        side.evict_unused(keeps_diagrams=len(permissions) >= FEWEST and len(self.policy.profiles) <= MAX_PROFILES)
        chains = {name: named.chain for name, named in needed.items()}
        digest = side_digest(chains.values(), winners)
        group_sets, ranks = self._group_sets if side.names_group_sets else None, tuple(side.ranks)
        is_same = found is not None and found.ranks == ranks and found.maps.group_sets is self._group_sets
        maps = found.maps if found is not None and is_same else self._rank_maps(ranks)
        return CompiledSide(origin, basis, group_sets, root, chains, counters, ranks, maps, winners, digest, side)

    def _rank_maps(self, ranks: Iterable[Ranking]) -> SideMaps:
        """Return the maps of ranks, for the group sets that there are now."""
        group_sets = self._group_sets
        every = [self.memo.ranks.get((some, group_sets), partial(ranks_map, some, group_sets)) for some in ranks]
        return SideMaps(group_sets, {entry.name: entry for entry in every})

    def rules(self, roots: Sequence[dict[Direction, str]], previous: Rules | None) -> Rules:
        """Return all that profiles make. `previous` is what an earlier policy's profiles made."""
        sides = tuple(self.memo.sides.values())
        number = numbers_of(side.root for side in sides)
        if previous is None or not are_same(sides, previous.sides):
            fixed = self._join_sides(sides, number, previous)
        else:
            fixed = previous.fixed
        members = list(self._members())
        sources = (*fixed.sources, *(f"{entry.name} {pages.digest(entry.elements)}" for entry in members))
        part = Part(fixed.chains, by_name([*fixed.maps, *members]), fixed.counters, (), sources)
        policy, numbers = self.policy, [{side: number[root] for side, root in of.items()} for of in roots]
        return Rules(self.site, policy.profiles, policy.remotes, policy.members, numbers, sides, fixed, part)

    def _members(self) -> Iterator[Map]:
        """Yield the map of members of each family, if any rule is on a group."""
        for family in Family if self._order.named_groups else ():
            found = self.memo.maps[family].next(self.policy.members.pages(family), self._group_sets)
            self.memo.maps[family] = found
            yield found.map(family)

    def _join_sides(self, sides: Sequence[CompiledSide], number: Mapping[str, int], previous: Rules | None) -> Part:
        """Return the chains, counters and maps of all sides.

        `number` has the numbers of their first chains. The sides of `previous` were joined before, without a clash.
        """
        known = set(map(id, () if previous is None else previous.sides))
        held = {} if previous is None else {entry.name: entry for entry in previous.fixed.maps}
        chains, maps, counters = dict[str, Chain](), dict[str, Map](), dict[str, Counter]()
        for side in sorted(sides, key=lambda side: id(side) not in known):
            if id(side) not in known:
                _check_names(chains, side.chains)
            chains.update(side.chains)
            counters.update(side.counters)
            maps.update(side.maps.by_name)
        leaves = {rank: leaf for side in sides for rank, leaf in side.winners.items()}
        for entry in (winners_map(leaves), profiles_map(number)):
            same = held.get(entry.name)
            maps[entry.name] = same if same is not None and same == entry else entry
        sources = sorted({f"{side.digest} {side.maps.digest}" for side in sides})
        return Part(_in_order(chains), _in_order(maps), _in_order(counters), (), tuple(sources))


def numbers_of(roots: Iterable[str]) -> dict[str, int]:
    """Return the numbers by which the base chains find these root chains.

    Each follows from the chain's name, so that profiles come and go without changing another's.
    """
    return {root: FIRST_PROFILE + place for root, place in spread(sorted(roots), PROFILE_NUMBERS).items()}


def profiles_map(number: Mapping[str, int]) -> Map:
    """Return the map from a number to the root chain."""
    elements = ((found, jump(root)) for root, found in number.items())
    return Map(PROFILES, KeyType.CLASSID, tuple(sorted(elements, key=lambda element: element[0])))


Origin = tuple[object, ...]


def _check_names(chains: Mapping[str, Chain], others: Mapping[str, Chain]) -> None:
    """Check that no two chains that differ have the same name.

    Raises:
        InternalError: Two have.
    """
    for name in chains.keys() & others.keys():
        if chains[name] is not others[name] and chains[name] != others[name]:
            raise InternalError(f"two chains would be named {name}")


def _in_order(named: Mapping[str, Named]) -> tuple[Named, ...]:
    return tuple([named[name] for name in sorted(named)])


def profile_name(profile: Profile) -> str:
    """Return a readable, stable name for a set of groups and a NIC type."""
    ids = profile.security_group_ids
    return f"{ids[0][:24]}-{names.digest(repr((ids, profile.nic_type.value)))}"
