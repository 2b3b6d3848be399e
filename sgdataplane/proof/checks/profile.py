"""Compare the chains of one profile with the rules of its groups: all addresses, protocols, ports, both families.

Owns which kinds of packets there are, and which part of a proof holds for the next table. It is given an ENI that has
the profile, and the chains where it begins. It must not know what comes before those chains, or after the chains that
carry verdicts out.

The proof of a kind rests on its claims, the blocks of their remotes and the order among them; on the chains that it
read; on the group sets of far addresses, the maps that rank them, and what its ranks stand for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sgdataplane.contract.sites import Site
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.values import Direction, Family
from sgdataplane.proof.checks.kindcheck import KindCheck, ProvenAddresses, ProvenGroups
from sgdataplane.proof.checks.leaves import Standing
from sgdataplane.proof.reuse.shared import Shared, SideClaims
from sgdataplane.proof.spec.kinds import SessionKind
from sgdataplane.proof.spec.outcomes import Outcome
from sgdataplane.proof.walk.ranks import Winners


@dataclass(frozen=True)
class ProvenKind:
    """A kind of packets that is proven, in two walks."""

    side: SideClaims
    """What its chains were compared with."""
    groups: ProvenGroups
    """What the first walk has shown."""
    addresses: ProvenAddresses
    """What the second walk has shown."""
    standing: Standing
    """What its leaves were compared with."""
    winners: Winners
    """Where all ranks of the table led."""
    ranks: Mapping[int, Outcome]
    """The claims that its own ranks stand for."""

    def has_same_chains(self, kind: SessionKind, shared: Shared, roots: Collection[str]) -> bool:
        """Return whether all that was read of the table is the same."""
        changed, touched, maps = shared.structure.changed, shared.structure.touched_maps, shared.structure.table.map
        return (
            self.groups.roots == roots
            and changed.isdisjoint(self.groups.names)
            and changed.isdisjoint(self.addresses.names)
            and (self.groups.atoms is (atoms := shared.atoms[kind.family].all) or self.groups.atoms == atoms)
            and all(maps.get(name) == self.groups.maps[name] for name in self.groups.maps.keys() & touched)
            and self._has_same_ranks(shared.winners)
        )

    def _has_same_ranks(self, winners: Winners) -> bool:
        if winners is self.winners:
            return True
        is_clear = winners.doubled.isdisjoint(self.ranks.values()) and self.addresses.has_same_ranks(winners)
        return is_clear and self.ranks == KindCheck.own_ranks(winners, self.side)

    def has_same_claims(self, side: SideClaims) -> bool:
        """Return whether the claims, their blocks, and their order among all ranks are the same."""
        mine = self.side
        return mine.claims == side.claims and mine.blocks == side.blocks and mine.ranked == side.ranked


@dataclass(frozen=True)
class ProvenProfile:
    """A proven profile."""

    basis: object
    """The part of the specification that its claims follow from."""
    kinds: Mapping[SessionKind, ProvenKind] = field(default_factory=dict)
    quick_basis: object = None
    """Objects that `basis` follows from, for a quick comparison."""


EarlierProfile = tuple[ProvenProfile, Shared]  # a profile, and what the present table shares with the one it was of


@dataclass
class ProfileCheck:
    """The check of one profile."""

    state: CloudState
    options: Options
    site: Site
    shared: Shared
    carriers: Sequence[tuple[str, Eni]]
    """The ENIs that have it, each with its interface."""
    roots: Mapping[tuple[Direction, Family], Collection[str]]
    """The chains that it begins with."""
    known: Sequence[EarlierProfile] = ()
    """What earlier proofs left."""
    is_strict: bool = True
    """Whether to compare all packets, and not only those with addresses that reach the carriers' rules."""
    cells: int = 0
    """How many ends of walks were compared."""
    classes: int = 0
    """Into how many classes far addresses were divided."""
    chains: set[str] = field(default_factory=set)
    """The chains that were read."""
    kinds: dict[SessionKind, ProvenKind] = field(default_factory=dict)
    """The kinds that are proven, for the next proof."""

    def check(self) -> None:
        """Prove all kinds of packets of the profile.

        Raises:
            ProfileMismatch: Chains and rules differ.
        """
        _, eni = self.carriers[0]
        for direction in Direction:
            candidates = self.shared.claims.candidates(self.state, eni, direction, self.options)
            for family in Family:
                side = SideClaims.of(self.state, self.shared, candidates, family, self._earlier(direction, family))
                for kind in kinds_of(self.site, direction, family):
                    self.kinds[kind] = self._reuse_kind(kind, side) or self._prove_kind(kind, side)

    def _earlier(self, direction: Direction, family: Family) -> SideClaims | None:
        """Return what an earlier proof compared with in that direction and family."""
        kinds = (found for profile, _ in self.known for found in profile.kinds.items())
        return next((known.side for k, known in kinds if k.direction is direction and k.family is family), None)

    def _reuse_kind(self, kind: SessionKind, side: SideClaims) -> ProvenKind | None:
        """Return the kind as an earlier proof left it, if that still holds."""
        roots = self.roots.get((kind.direction, kind.family), ())
        for profile, shared in self.known:
            found = profile.kinds.get(kind)
            if found is not None and found.has_same_claims(side) and found.has_same_chains(kind, shared, roots):
                return found
        return None

    def _prove_kind(self, kind: SessionKind, side: SideClaims) -> ProvenKind:
        """Prove a kind by walks, starting from what the same profile's earlier proof has shown."""
        roots = self.roots.get((kind.direction, kind.family), ())
        earlier = next((p.kinds[kind] for p, shared in self.known if shared is self.shared and kind in p.kinds), None)
        kept = None if earlier is None else (earlier.groups, earlier.addresses, earlier.standing)
        check = KindCheck(self.shared, kind, side, roots, self.carriers, self.is_strict, kept)
        groups, addresses, standing = check.check()
        self.cells += check.cells
        self.classes += check.classes
        self.chains |= check.chains
        return ProvenKind(side, groups, addresses, standing, check.winners, check.own)


def kinds_of(site: Site, direction: Direction, family: Family) -> Iterator[SessionKind]:
    """Yield the kinds of packets whose sessions a direction's rules judge."""
    for is_behind_ah in (False, True) if family is Family.IPV6 else (False,):
        yield SessionKind(direction, family, not site.is_leaving(direction), is_behind_ah)
