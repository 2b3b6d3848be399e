"""What the proofs of all profiles of a table share: its structure, members, claims, and what ranks stand for.

Owns what is read once for all of them, and what the next table's proofs start from. Must not know walks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sgdataplane.model.decision import Decision
from sgdataplane.model.semantics import Candidate
from sgdataplane.model.state import CloudState, GroupRef, Remote
from sgdataplane.net.values import Family
from sgdataplane.proof.claims import Before, Claim, ClaimMemo, KnownGroups, KnownRules, Ranges
from sgdataplane.proof.far import KinAtoms, Kinships, remote_ranges
from sgdataplane.proof.ranks import NO_WINNERS, RankMaps, Winners
from sgdataplane.proof.step import Outcome, counter_of
from sgdataplane.proof.structure import Structure


class ByCounter(Mapping[Outcome, int]):
    """The place of each outcome in a list, found by the counter that it begins with: hashing an outcome is slow."""

    def __init__(self, order: Sequence[Outcome]) -> None:
        self._order = order
        self._place = {counter_of(outcome): place for place, outcome in enumerate(order)}

    @property
    def is_clear(self) -> bool:
        """Whether no two have the same counter."""
        return len(self._place) == len(self._order)

    def __getitem__(self, outcome: Outcome) -> int:
        place = self._place[counter_of(outcome)]
        if self._order[place] != outcome:
            raise KeyError(outcome)
        return place

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)


@dataclass(frozen=True)
class SideClaims:
    """The claims of one direction in one family, strongest first, and the address blocks of the groups and prefix lists
    that they name. `order`: what all candidates ask for in the order of decide(), `on_groups`: those on groups, for
    both families, and `ranked`: these and the claims. `said`: the candidates, and what each of them says."""

    claims: Sequence[Claim]
    family: Family
    blocks: Mapping[Remote, Ranges]
    order: Sequence[Outcome]
    on_groups: Sequence[Outcome]
    ranked: Sequence[Outcome]
    said: Before

    @classmethod
    def of(
        cls,
        state: CloudState,
        shared: Shared,
        candidates: Sequence[Candidate],
        family: Family,
        before: SideClaims | None = None,
    ) -> SideClaims:
        """`before`: those of an earlier state."""
        said = shared.claims.said(state, candidates, family, ((), ()) if before is None else before.said)
        claims = [one.claim for one in said if one.claim is not None]
        remotes = dict.fromkeys([c.remote for c in claims if c.block is None and c.remote is not None])
        blocks = {remote: remote_ranges(state, shared.kinships, remote, family) for remote in remotes}
        on_groups = [one.outcome for one in said if one.is_on_group]
        ranked = [one.outcome for one in said if one.is_on_group or one.claim is not None]
        return cls(claims, family, blocks, [one.outcome for one in said], on_groups, ranked, (candidates, said))

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
        places = ByCounter(self.order)
        return places if places.is_clear else {outcome: place for place, outcome in enumerate(self.order)}

    def far(self, claim: Claim) -> Ranges | None:
        """The far addresses of a claim; None for any."""
        return far_of(claim, self.blocks)


def far_of(claim: Claim, blocks: Mapping[Remote, Ranges]) -> Ranges | None:
    """The far addresses of a claim; None for any. `blocks`: of groups and prefix lists."""
    return claim.block if claim.block is not None or claim.remote is None else blocks[claim.remote]


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
        self.claims = ClaimMemo(self.before.claims, self.before.groups, self.before.others)

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
        groups, others = self.claims.found_groups or self.before.groups, self.claims.found_others or self.before.others
        return Remembered(self.winners, self.claims.rules, maps, groups, others)


@dataclass(frozen=True)
class Remembered:
    """What all profiles of the next table start from: where ranks lead, claims, maps that were looked through,
    the rules of groups in order, and candidates without a rule."""

    winners: Winners = NO_WINNERS
    claims: KnownRules = field(default_factory=dict)
    rank_maps: RankMaps | None = None
    groups: KnownGroups = field(default_factory=dict)
    others: Mapping[Decision, Candidate] = field(default_factory=dict)
