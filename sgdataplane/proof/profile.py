"""The chains of one profile against the rules of its groups: all addresses, protocols, ports, in both families.

Owns which kinds of packets there are, and what of a proof holds for the next table. Is given an ENI that has the
profile, and the chains where it begins. Must not know what comes before those chains, or after the chains that carry
verdicts out.

The proof of a kind rests on its claims, the blocks of their remotes and the order among them; on the chains that it
read; on the kins of far addresses, the maps that rank them, and what its ranks stand for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sgdataplane.contract.sites import Site
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.values import Direction, Family
from sgdataplane.proof.kindcheck import KindCheck, ProvenAddresses, ProvenGroups
from sgdataplane.proof.kinds import SessionKind
from sgdataplane.proof.leaves import Standing
from sgdataplane.proof.ranks import Winners
from sgdataplane.proof.shared import Shared, SideClaims
from sgdataplane.proof.step import Outcome


@dataclass(frozen=True)
class ProvenKind:
    """A kind that is proven, in two walks. `standing`: what its leaves were compared with; `ranks`: the claims that its
    ranks stand for, by `winners`."""

    side: SideClaims
    groups: ProvenGroups
    addresses: ProvenAddresses
    standing: Standing
    winners: Winners
    ranks: Mapping[int, Outcome]

    def has_same_chains(self, kind: SessionKind, shared: Shared, roots: Collection[str]) -> bool:
        """Whether all that was read of the table is the same."""
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
        """Whether all that the chains were compared with is the same: the claims, and their order among all ranks."""
        mine = self.side
        return mine.claims == side.claims and mine.blocks == side.blocks and mine.ranked == side.ranked


@dataclass(frozen=True)
class ProvenProfile:
    """A proven profile. `basis`: the part of the specification that its claims follow from; `around`: objects that it
    follows from itself."""

    basis: object
    kinds: Mapping[SessionKind, ProvenKind] = field(default_factory=dict)
    around: object = None


EarlierProfile = tuple[ProvenProfile, Shared]  # and what its table's successor shares


@dataclass
class ProfileCheck:
    """The check of one profile. `carriers`: the ENIs that have it, and their interfaces; `roots`: the chains that it
    begins with. `known`: what earlier proofs left.

    `cells`, `classes`, `chains`: what was compared so far, classes of far addresses, and chains that were read.
    `kinds`: for the next proof.
    """

    state: CloudState
    options: Options
    site: Site
    shared: Shared
    carriers: Sequence[tuple[str, Eni]]
    roots: Mapping[tuple[Direction, Family], Collection[str]]
    known: Sequence[EarlierProfile] = ()
    is_strict: bool = True
    cells: int = 0
    classes: int = 0
    chains: set[str] = field(default_factory=set)
    kinds: dict[SessionKind, ProvenKind] = field(default_factory=dict)

    def check(self) -> None:
        """ProfileMismatch if chains and rules differ anywhere."""
        _, eni = self.carriers[0]
        for direction in Direction:
            candidates = self.shared.claims.candidates(self.state, eni, direction, self.options)
            for family in Family:
                side = SideClaims.of(self.state, self.shared, candidates, family, self._earlier(direction, family))
                for kind in kinds_of(self.site, direction, family):
                    self.kinds[kind] = self._known(kind, side) or self._checked(kind, side)

    def _earlier(self, direction: Direction, family: Family) -> SideClaims | None:
        """What an earlier proof compared with in that direction and family."""
        kinds = (found for profile, _ in self.known for found in profile.kinds.items())
        return next((known.side for k, known in kinds if k.direction is direction and k.family is family), None)

    def _known(self, kind: SessionKind, side: SideClaims) -> ProvenKind | None:
        """The kind as an earlier proof left it, if that still holds."""
        roots = self.roots.get((kind.direction, kind.family), ())
        for profile, shared in self.known:
            found = profile.kinds.get(kind)
            if found is not None and found.has_same_claims(side) and found.has_same_chains(kind, shared, roots):
                return found
        return None

    def _checked(self, kind: SessionKind, side: SideClaims) -> ProvenKind:
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
    """The kinds of packets whose sessions a direction's rules judge."""
    for is_behind_ah in (False, True) if family is Family.IPV6 else (False,):
        yield SessionKind(direction, family, not site.is_leaving(direction), is_behind_ah)
