"""The profiles of one namespace -> chains, maps and counters.

Owns what profiles share: members, ranks, and which sides are taken over from the compile before. Is given a resolved
policy. Must not know hooks' chains, epochs, or interfaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from sgdataplane.compiler.diagram import Intervals
from sgdataplane.compiler.kins import Kins, ranks_map
from sgdataplane.compiler.lower import AllSides, Lowering
from sgdataplane.compiler.memo import ChainMemo, CompiledSide, Memo
from sgdataplane.compiler.ranks import Strength, inner_level, ranks_of
from sgdataplane.compiler.sides import Side, far_addresses, winners_of
from sgdataplane.contract import names
from sgdataplane.contract.sites import Site
from sgdataplane.errors import InternalError
from sgdataplane.model.state import GroupRef, Remote
from sgdataplane.net.values import Direction, Family
from sgdataplane.nft.ir import Chain, Counter, Map
from sgdataplane.policy.resolve import HostPolicy, Permission, Profile


@dataclass
class Profiles:
    """Collects the chains, maps and counters of the profiles of one namespace."""

    policy: HostPolicy
    site: Site
    memo: Memo
    chains: dict[str, Chain] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)

    _shared: AllSides = field(default_factory=AllSides)
    _addresses: dict[Remote, Mapping[Family, Intervals]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        on_groups = {side: [p for p in self._permissions(side) if isinstance(p.remote, GroupRef)] for side in Direction}
        every = [permission for some in on_groups.values() for permission in some]
        spoken = frozenset(p.remote.security_group_id for p in every if isinstance(p.remote, GroupRef))
        self._kins = self.memo.kins = Kins.of(self.policy.members, spoken, self.memo.kins)
        self._inner = {s: inner_level(p.permissions(s) for p in self.policy.profiles) for s in Direction}
        self._ranks = {side: ranks_of((p.decision for p in on_groups[side]), self._inner[side]) for side in Direction}
        self._winners: dict[Direction, dict[int, str]] = {side: {} for side in Direction}
        for family in Family if spoken else ():
            found = self.memo.maps[family].next(self.policy.members.pages(family), self._kins)
            self.memo.maps[family] = found
            self._keep_map(found.map(family))

    def _permissions(self, side: Direction) -> Iterator[Permission]:
        for profile in self.policy.profiles:
            yield from profile.permissions(side)

    def _far(self, remote: Remote) -> Mapping[Family, Intervals]:
        if remote not in self._addresses:
            self._addresses[remote] = far_addresses(remote, self.policy.remotes, self.policy.members)
        return self._addresses[remote]

    def profile(self, profile: Profile) -> dict[Direction, str]:
        """The root chain of each side, which judges sessions of every ENI with this profile."""
        return {direction: self._side(profile, direction) for direction in Direction}

    def _side(self, profile: Profile, direction: Direction) -> str:
        key = (profile.security_group_ids, profile.nic_type, direction, self.site.placement)
        permissions = profile.permissions(direction)
        far = {remote: self._far(remote) for p in permissions if (remote := p.remote) is not None}
        strength = Strength.of(permissions, self._ranks[direction], self._inner[direction])
        basis = (permissions, far, strength)
        found = self.memo.before.get(key)
        if found is None or not found.is_for(basis, self._kins):
            memo = ChainMemo() if found is None else found.memo.next()
            lowering = Lowering(memo, self._shared)
            side = Side(profile_name(profile), self.site, direction, *basis, self._kins, lowering)
            found = _compiled(side, basis, names.comment(f"groups {', '.join(profile.security_group_ids)}"))
            memo.seal()
        self.memo.sides[key] = found
        self._take(found)
        self._winners[direction].update(found.winners)
        return found.root

    def _take(self, side: CompiledSide) -> None:
        for name, chain in side.chains.items():
            known = self.chains.setdefault(name, chain)
            if known is not chain and known != chain:
                raise InternalError(f"two chains would be named {name}")
        self.counters.update(side.counters)
        for strengths in side.ranks:
            self._keep_map(self.memo.ranks.get((strengths, self._kins), partial(ranks_map, strengths, self._kins)))

    def winners(self) -> None:
        """The chains and maps from ranks to leaves, once all profiles are there."""
        for side, leaves in self._winners.items():
            if leaves:
                chain, entry = winners_of(side, leaves)
                self.chains[chain.name] = chain
                self._keep_map(entry)

    def _keep_map(self, entry: Map) -> None:
        self.maps[entry.name] = entry


def _compiled(side: Side, basis: object, comment: str) -> CompiledSide:
    root, winners = side.root(comment), side.winners()
    lowering, kins = side.lowering, side.kins if side.names_kins else None
    return CompiledSide(
        basis, kins, root, lowering.needed(), lowering.counters, tuple(side.ranks), winners, lowering.memo
    )


def profile_name(profile: Profile) -> str:
    """A readable, stable name for a set of groups and a nic type."""
    ids = profile.security_group_ids
    return f"{ids[0][:24]}-{names.digest(repr((ids, profile.nic_type.value)))}"
