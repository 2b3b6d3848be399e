"""Keep what the proofs of all profiles of a table share: structure, members, claims, and what ranks stand for.

Owns what is read once for all of them, and what the next table's proofs start from. It must not know walks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sgdataplane.model.decision import Decision
from sgdataplane.model.semantics import Candidate
from sgdataplane.model.state import CloudState, GroupRef, Remote
from sgdataplane.net.values import Family
from sgdataplane.proof.spec.claims import Claim, ClaimMemo, EarlierClaims, KnownGroups, KnownRules, Ranges
from sgdataplane.proof.spec.outcomes import Outcome, counter_of
from sgdataplane.proof.walk.far import GroupSetAtoms, Kinships, remote_ranges
from sgdataplane.proof.walk.ranks import NO_WINNERS, RankMaps, Winners
from sgdataplane.proof.walk.structure import Structure


class ByCounter(Mapping[Outcome, int]):
    """The place of each outcome in a list, found by its first counter: hashing an outcome is slow."""

    def __init__(self, order: Sequence[Outcome]) -> None:
        self._order = order
        self._place = {counter_of(outcome): place for place, outcome in enumerate(order)}

    @property
    def is_clear(self) -> bool:
        """Whether no two outcomes have the same counter; else this can't be used."""
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
    """The claims of one direction in one family, strongest first."""

    claims: Sequence[Claim]
    family: Family
    blocks: Mapping[Remote, Ranges]
    """The address blocks of the groups and prefix lists that the claims name."""
    order: Sequence[Outcome]
    """What all candidates must do, in the order of decide()."""
    on_groups: Sequence[Outcome]
    """What the candidates on groups must do, in both families."""
    ranked: Sequence[Outcome]
    """What the candidates on groups and all claims must do, in the order of decide()."""
    said: EarlierClaims
    """The candidates, and what each of them says."""

    @classmethod
    def of(
        cls,
        state: CloudState,
        shared: Shared,
        candidates: Sequence[Candidate],
        family: Family,
        previous: SideClaims | None = None,
    ) -> SideClaims:
        """Work out the claims of these candidates. What `previous` has of an earlier state is used again."""
        said = shared.claims.claims_of(state, candidates, family, ((), ()) if previous is None else previous.said)
        claims = [one.claim for one in said if one.claim is not None]
        remotes = dict.fromkeys([c.remote for c in claims if c.block is None and c.remote is not None])
        blocks = {remote: remote_ranges(state, shared.kinships, remote, family) for remote in remotes}
        on_groups = [one.outcome for one in said if one.is_on_group]
        ranked = [one.outcome for one in said if one.is_on_group or one.claim is not None]
        return cls(claims, family, blocks, [one.outcome for one in said], on_groups, ranked, (candidates, said))

    @cached_property
    def of_groups(self) -> list[Claim]:
        """The claims that hold for members of groups, by their single addresses."""
        return [claim for claim in self.claims if isinstance(claim.remote, GroupRef)]

    @cached_property
    def of_addresses(self) -> list[Claim]:
        """The claims that hold for blocks of addresses, blocks delegated to members included."""
        return [c for c in self.claims if c.block is not None or c.remote is None or self.blocks[c.remote]]

    @cached_property
    def places(self) -> Mapping[Outcome, int]:
        """The place of each candidate in the order."""
        places = ByCounter(self.order)
        return places if places.is_clear else {outcome: place for place, outcome in enumerate(self.order)}

    def far(self, claim: Claim) -> Ranges | None:
        """Return the far addresses of a claim; None for any."""
        return far_of(claim, self.blocks)


def far_of(claim: Claim, blocks: Mapping[Remote, Ranges]) -> Ranges | None:
    """Return the far addresses of a claim, given the blocks of groups and prefix lists; None for any."""
    return claim.block if claim.block is not None or claim.remote is None else blocks[claim.remote]


@dataclass
class Shared:
    """What all profiles of a table share."""

    structure: Structure
    kinships: Kinships
    atoms: Mapping[Family, GroupSetAtoms]
    """The atoms of far addresses by group set."""
    previous: Remembered
    """What profiles of the earlier table shared."""
    claims: ClaimMemo = field(init=False)
    """What candidates claim, remembered from state to state."""

    def __post_init__(self) -> None:
        self.claims = ClaimMemo(self.previous.claims, self.previous.groups, self.previous.others)

    @cached_property
    def rank_maps(self) -> RankMaps:
        """The maps that give group sets ranks, and whether they are right."""
        return RankMaps.after(self.previous.rank_maps, self.atoms, self.structure.table)

    @cached_property
    def winners(self) -> Winners:
        """Where ranks lead."""
        return Winners.read(self.structure.table, self.structure.changed, self.previous.winners)

    @property
    def remembered(self) -> Remembered:
        """What the next proof may use again."""
        maps = self.rank_maps if "rank_maps" in self.__dict__ else self.previous.rank_maps
        groups, others = (
            self.claims.found_groups or self.previous.groups,
            self.claims.found_others or self.previous.others,
        )
        return Remembered(self.winners, self.claims.rules, maps, groups, others)


@dataclass(frozen=True)
class Remembered:
    """What all profiles of the next table start from."""

    winners: Winners = NO_WINNERS
    """Where ranks lead."""
    claims: KnownRules = field(default_factory=dict)
    """Claims by rule."""
    rank_maps: RankMaps | None = None
    """The maps from group sets to ranks that were looked through."""
    groups: KnownGroups = field(default_factory=dict)
    """The rules of each group, in order."""
    others: Mapping[Decision, Candidate] = field(default_factory=dict)
    """Candidates without a rule."""
