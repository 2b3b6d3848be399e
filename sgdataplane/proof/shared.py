"""What the proofs of all profiles of a table share: its structure, members, claims, and what ranks stand for.

Owns what is read once for all of them, and what the next table's proofs start from. Must not know walks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sgdataplane.model.semantics import Candidate
from sgdataplane.model.state import CloudState, GroupRef, Remote
from sgdataplane.net.values import Family
from sgdataplane.proof.claims import Claim, ClaimMemo, KnownRules, Ranges
from sgdataplane.proof.far import KinAtoms, Kinships, remote_ranges
from sgdataplane.proof.ranks import NO_WINNERS, RankMaps, Winners
from sgdataplane.proof.step import Outcome
from sgdataplane.proof.structure import Structure

MOST_FAR = 16  # far addresses that are tried to show a difference


@dataclass(frozen=True)
class SideClaims:
    """The claims of one direction in one family, strongest first, and the address blocks of the groups and prefix lists
    that they name. `order`: what all candidates ask for in the order of decide(), `on_groups`: those on groups, for
    both families, and `ranked`: these and the claims."""

    claims: Sequence[Claim]
    family: Family
    blocks: Mapping[Remote, Ranges]
    order: Sequence[Outcome]
    on_groups: Sequence[Outcome]
    ranked: Sequence[Outcome]

    @classmethod
    def of(cls, state: CloudState, shared: Shared, candidates: Sequence[Candidate], family: Family) -> SideClaims:
        said = shared.claims.said(state, candidates, family)
        claims = [claim for _, claim in said if claim is not None]
        remotes = dict.fromkeys(claim.remote for claim in claims if claim.block is None and claim.remote is not None)
        blocks = {remote: remote_ranges(state, shared.kinships, remote, family) for remote in remotes}
        asked = [(outcome, claim, _is_on_group(c)) for (outcome, claim), c in zip(said, candidates, strict=True)]
        on_groups = [outcome for outcome, _, is_on_group in asked if is_on_group]
        ranked = [outcome for outcome, claim, is_on_group in asked if is_on_group or claim is not None]
        return cls(claims, family, blocks, [outcome for outcome, _ in said], on_groups, ranked)

    @cached_property
    def of_groups(self) -> list[Claim]:
        """What holds for members of groups, by their single addresses."""
        return [claim for claim in self.claims if isinstance(claim.remote, GroupRef)]

    @cached_property
    def of_addresses(self) -> list[Claim]:
        """What holds for blocks of addresses, those that are delegated to members included."""
        return [c for c in self.claims if c.block is not None or c.remote is None or self.blocks[c.remote]]

    @cached_property
    def places(self) -> Mapping[Outcome, int]:
        """The place of each candidate in the order."""
        return {outcome: place for place, outcome in enumerate(self.order)}

    def far(self, claim: Claim) -> Ranges | None:
        """The far addresses of a claim; None for any."""
        return far_of(claim, self.blocks)


def far_of(claim: Claim, blocks: Mapping[Remote, Ranges]) -> Ranges | None:
    """The far addresses of a claim; None for any. `blocks`: of groups and prefix lists."""
    return claim.block if claim.block is not None or claim.remote is None else blocks[claim.remote]


def _is_on_group(candidate: Candidate) -> bool:
    is_inner = candidate.rule is None and candidate.group is not None
    return is_inner or (candidate.rule is not None and isinstance(candidate.rule.remote, GroupRef))


@dataclass
class Shared:
    """What all profiles of a table share. `atoms`: of the kins of far addresses; `before`: what earlier profiles
    shared."""

    structure: Structure
    kinships: Kinships
    atoms: Mapping[Family, KinAtoms]
    before: Remembered
    claims: ClaimMemo = field(init=False)

    def __post_init__(self) -> None:
        self.claims = ClaimMemo(self.before.claims)

    @cached_property
    def rank_maps(self) -> RankMaps:
        return RankMaps.after(self.before.rank_maps, self.atoms, self.structure.table)

    @cached_property
    def winners(self) -> Winners:
        """Where ranks lead."""
        return Winners.read(self.structure.table, self.structure.changed, self.before.winners)

    @property
    def remembered(self) -> Remembered:
        """For the next proof."""
        maps = self.rank_maps if "rank_maps" in self.__dict__ else self.before.rank_maps
        return Remembered(self.winners, self.claims.found or self.before.claims, maps)


@dataclass(frozen=True)
class Remembered:
    """What all profiles of the next table start from: where ranks lead, claims, and maps that were looked through."""

    winners: Winners = NO_WINNERS
    claims: KnownRules = field(default_factory=dict)
    rank_maps: RankMaps | None = None
