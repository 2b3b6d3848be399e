"""Compare a profile's chains with its rules for one kind of packets, in two walks.

Owns the comparison, and far addresses that show a difference. It is given the claims of one side, and where its chains
begin. It must not know earlier proofs.

The first walk ends at the chains for addresses. It shows that the priority is then the rank of the strongest permission
on a group that holds for the packet, or no rank. The second walk begins there. It shows to which leaf (verdict chain)
the strongest of all other permissions leads. Each leaf gives way to exactly the stronger ranks, so the stronger of both
permissions decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice

from sgdataplane.contract.tables import is_address, members_name
from sgdataplane.model.state import Eni, GroupRef, Remote
from sgdataplane.net.values import AH, PORT_PROTOCOLS
from sgdataplane.nft.ir import Map, Range
from sgdataplane.proof.checks.groups import GroupOrder, GroupsWalk
from sgdataplane.proof.checks.leaves import Leaves, ProvenLeaf, Standing, check_heads, find_unused_leaves, leaf_of
from sgdataplane.proof.reuse.partial import PartialWalk
from sgdataplane.proof.reuse.shared import Shared, SideClaims
from sgdataplane.proof.spec.axes import Atoms, Axis, Span
from sgdataplane.proof.spec.claims import AXES, Claim, Ranges
from sgdataplane.proof.spec.kinds import FAR, GROUP_SET, LOCAL, PROTOCOL, SessionKind
from sgdataplane.proof.spec.order import BoxOrder, Cell, indices, meet
from sgdataplane.proof.spec.outcomes import Outcome
from sgdataplane.proof.walk.far import NO_MEMBER
from sgdataplane.proof.walk.priority import GroupSetAtom, Priorities
from sgdataplane.proof.walk.program import Program
from sgdataplane.proof.walk.ranks import ACCEPTS, Winners, WrongRanksError
from sgdataplane.proof.walk.step import Bound
from sgdataplane.proof.walk.walk import Mismatch, Walk

MAX_FAR = 16  # so many far addresses are tried to show a difference


class ProfileMismatch(Exception):  # noqa: N818  # carries a difference up, as Mismatch does
    """A difference between a profile's chains and its rules.

    Attributes:
        root: The chain that packets begin at.
        carriers: The ENIs with the profile, each with its interface.
        kind: The kind of packets.
        axes: The axes of the header.
        far: Some far addresses of such packets.
        priorities: Some priorities that such packets may come with.
        claim: What should decide; None if no packet may come there, or no permission may decide.
        mismatch: The packets, and what was wrong.
    """

    def __init__(
        self, check: KindCheck, axes: Sequence[Axis], far: Iterable[int], claim: Claim | None, mismatch: Mismatch
    ) -> None:
        super().__init__(str(mismatch))
        self.carriers, self.kind, self.root = check.carriers, check.kind, min(check.roots, default="")
        self.axes, self.far = axes, tuple(islice(far, MAX_FAR))
        self.priorities = 0, *islice(check.own, 1)
        self.claim, self.mismatch = claim, mismatch


@dataclass(frozen=True, slots=True)
class ProvenGroups:
    """What the first walk has shown."""

    roots: Collection[str]
    """The chains that packets begin at."""
    claims: Sequence[Claim]
    """The claims that they were compared with."""
    atoms: Sequence[GroupSetAtom]
    """The atoms of far addresses by group set."""
    ranks: Mapping[int, Outcome]
    """What each rank of the profile stands for."""
    names: AbstractSet[str]
    """The chains that were read."""
    maps: Mapping[str, Map]
    """The maps from group sets to ranks that were read."""
    borders: Sequence[str]
    """The chains for addresses that these chains lead to."""
    entries: Sequence[str]
    """Those of them that packets came to."""
    others: AbstractSet[int | None]
    """The priorities, other than ranks, with which packets came there."""


@dataclass(frozen=True, slots=True)
class ProvenAddresses:
    """What the second walk has shown."""

    borders: Sequence[str]
    """The chains for addresses that the first walk can lead to."""
    entries: Sequence[str]
    """Those of them that packets came to, where the walk began."""
    claims: Sequence[Claim]
    """The claims that they were compared with."""
    blocks: Mapping[Remote, Ranges]
    """The address blocks of the claims' remotes."""
    names: AbstractSet[str]
    """The chains that were read."""
    heads: Mapping[str, Bound]
    """The priorities that each entry returns at once."""
    leaves: Mapping[str, ProvenLeaf]
    """The leaves that packets came to, by name."""
    ranks: Mapping[int, Outcome]
    """Where the ranks lead that some of these leaves write."""

    def has_same_ranks(self, winners: Winners) -> bool:
        """Return whether these ranks lead to the same leaves as before."""
        return all(winners.leaves.get(rank) == outcome for rank, outcome in self.ranks.items())


@dataclass
class KindCheck:
    """The check of one kind of packets."""

    shared: Shared
    kind: SessionKind
    side: SideClaims
    """What its chains are compared with."""
    roots: Collection[str]
    """The chains that its packets begin at."""
    carriers: Sequence[tuple[str, Eni]]
    """The ENIs that have the profile, each with its interface."""
    is_strict: bool = True
    """Whether to compare all packets, and not only those with addresses that reach the carriers' rules."""
    earlier: tuple[ProvenGroups, ProvenAddresses, Standing] | None = None
    """What both walks have shown for an earlier table."""
    cells: int = 0
    """How many ends of walks were compared."""
    classes: int = 0
    """Into how many classes far addresses were divided."""
    chains: set[str] = field(default_factory=set)
    """The chains that were read."""

    def __post_init__(self) -> None:
        self.atoms = self.shared.atoms[self.kind.family]
        self._groups = self._reuse_groups()
        self._borders = self._groups.borders if self._groups is not None else sorted(self.groups.borders)
        self._addresses = self._reuse_addresses()
        self.winners = self.shared.winners
        self.own = self.own_ranks(self.winners, self.side)

    @cached_property
    def groups(self) -> Program:
        """The chains from the roots to the chains for addresses."""
        structure = self.shared.structure
        program = Program(structure.table, self.kind.reading(by_group_set=True), {}, structure.lookups, is_address)
        for root in self.roots:
            program.add(root)
        return program

    @cached_property
    def addresses(self) -> Program:
        """The chains for addresses, and all chains behind them."""
        structure, reading = self.shared.structure, self.kind.reading(by_group_set=False)
        ranks = self.shared.winners.leaves
        program = Program(structure.table, reading, {}, structure.lookups, codes=ACCEPTS, ranks=ranks)
        for name in self._borders:
            program.add(name)
            program.behead(name)
        return program

    def _reuse_groups(self) -> ProvenGroups | None:
        """Return what an earlier proof has shown of the first walk, if that still holds for the same ranks."""
        found, structure = self.earlier[0] if self.earlier is not None else None, self.shared.structure
        is_same = (
            found is not None
            and found.roots == self.roots
            and structure.changed.isdisjoint(found.names)
            and found.atoms == self.atoms.all
            and all(structure.table.map.get(name) == entry for name, entry in found.maps.items())
            and found.claims == self.side.of_groups
        )
        return found if is_same else None

    def _reuse_addresses(self) -> ProvenAddresses | None:
        """Return what an earlier proof has shown of the second walk, except what its leaves give way to.

        Return None if it doesn't hold any more.
        """
        found = self.earlier[1] if self.earlier is not None else None
        is_same = (
            found is not None
            and found.borders == self._borders
            and self.shared.structure.changed.isdisjoint(found.names)
            and found.claims == self.side.of_addresses
            and found.has_same_ranks(self.shared.winners)
            and all(self.side.blocks.get(remote, ranges) == ranges for remote, ranges in found.blocks.items())
            and not self._find_unused_leaves(found.leaves)
        )
        return found if is_same else None

    @staticmethod
    def own_ranks(winners: Winners, side: SideClaims) -> Mapping[int, Outcome]:
        """Return the ranks of these claims, each with what it stands for."""
        return {winners.of[outcome]: outcome for outcome in side.on_groups if outcome in winners.of}

    def check(self) -> tuple[ProvenGroups, ProvenAddresses, Standing]:
        """Run both walks, as far as an earlier proof doesn't answer for them.

        Raises:
            ProfileMismatch: Chains and rules differ.
        """
        try:
            return self._check()
        except WrongRanksError as error:
            raise self._wrong_ranks(error) from error

    def _check(self) -> tuple[ProvenGroups, ProvenAddresses, Standing]:
        """Prove both walks, each by an earlier proof if that still holds."""
        if not self.winners.doubled.isdisjoint(self.own.values()):
            raise WrongRanksError("several ranks stand for one decision")
        groups = self._groups
        if groups is None or groups.ranks != self.own:
            groups = self._prove_groups()
        found = self._reuse_walk(groups) or self._prove_partly(groups)
        if found is None:
            addresses = self._prove_addresses(groups.entries)
            found = addresses, self._compare(groups.others, addresses)
        return groups, *found

    def _reuse_walk(self, groups: ProvenGroups) -> tuple[ProvenAddresses, Standing] | None:
        """Return the earlier second walk if its leaves are still right.

        A wrong leaf may be one that no packet comes to any more, so a wrong one only means that the walk must be
        repeated.
        """
        found = self._addresses
        if found is None or found.entries != groups.entries:
            return None
        try:
            return found, self._compare(groups.others, found)
        except WrongRanksError:
            return None

    def _prove_groups(self) -> ProvenGroups:
        """Make the first walk, and keep what it has shown."""
        walk, names = self._walk_groups(), frozenset(self.groups.steps)
        asked = self.groups.maps - {members_name(self.kind.family)}
        maps = {name: self.shared.structure.table.map[name] for name in asked}
        self.chains |= names
        entries, others = sorted(walk.entries), frozenset(walk.others)
        claims, atoms = self.side.of_groups, self.atoms.all
        return ProvenGroups(self.roots, claims, atoms, self.own, names, maps, self._borders, entries, others)

    def _prove_addresses(self, entries: Sequence[str]) -> ProvenAddresses:
        """Make the second walk, and keep what it has shown."""
        reached = sorted(self._walk_addresses(entries))
        leaves = {leaf.name: leaf for name in reached for leaf in leaf_of(self.addresses, name, self.side.places)}
        heads, names = self.addresses.heads, frozenset(self.addresses.steps)
        check_heads(heads, leaves.values())
        self.chains |= names
        return self._of_addresses(entries, names, heads, leaves, self.addresses.asked)

    def _of_addresses(
        self,
        entries: Sequence[str],
        names: AbstractSet[str],
        heads: Mapping[str, Bound],
        leaves: Mapping[str, ProvenLeaf],
        ranks: Mapping[int, Outcome],
    ) -> ProvenAddresses:
        """Put together what the second walk has shown."""
        side = self.side
        return ProvenAddresses(self._borders, entries, side.of_addresses, side.blocks, names, heads, leaves, ranks)

    def _prove_partly(self, groups: ProvenGroups) -> tuple[ProvenAddresses, Standing] | None:
        """Prove the second walk by the earlier one and a walk of what has changed since.

        Return None if that doesn't show that everything is right.
        """
        old, entries = self.earlier[1] if self.earlier is not None else None, groups.entries
        if old is None or old.borders != self._borders or old.entries != entries or not self.is_strict:
            return None
        if not old.has_same_ranks(self.shared.winners):
            return None
        walk = PartialWalk(self.shared, self.kind, self.side, old.claims, old.blocks, old.leaves)
        if not walk.shows_all_right(entries):
            return None
        structure, leaves, places = self.shared.structure, dict(old.leaves), self.side.places
        again = {name for name in structure.changed if leaves.pop(name, None) and name in structure.table.chain}
        others = walk.new_program()
        for name in again:  # a changed leaf is read again even if no packet comes there any more
            others.add(name)
        for name in self._find_unused_leaves(leaves):
            del leaves[name]
        leaves |= {leaf.name: leaf for name in walk.last_chains - again for leaf in leaf_of(walk.program, name, places)}
        leaves |= {leaf.name: leaf for name in again for leaf in leaf_of(others, name, places)}
        heads = walk.program.heads
        new = [leaf for name, leaf in leaves.items() if heads != old.heads or old.leaves.get(name) is not leaf]
        names = (old.names | walk.names) - {name for name in structure.changed if name not in structure.table.chain}
        found = self._of_addresses(entries, names, heads, leaves, {**old.ranks, **walk.program.asked, **others.asked})
        try:
            check_heads(heads, new)
            standing = self._compare(groups.others, found)
        except WrongRanksError:
            return None
        self.cells += walk.cells
        self.chains |= walk.names
        return found, standing

    def _find_unused_leaves(self, leaves: Leaves) -> list[str]:
        """Return the names of leaves whose candidate doesn't exist any more."""
        return (
            []
            if self.earlier is None
            else find_unused_leaves(leaves, self.earlier[2].order, self.side.order, self.side.places)
        )

    def _compare(self, priorities: AbstractSet[int | None], addresses: ProvenAddresses) -> Standing:
        """Compare leaves with all ranks, unless an earlier proof did so and the result can't have changed."""
        standing = Standing(self.own, priorities, self.side.order, self.side.places)
        standing.check(addresses.leaves, None if self.earlier is None else (self.earlier[1].leaves, self.earlier[2]))
        return standing

    def _walk_groups(self) -> GroupsWalk:
        """Walk from the roots to the chains for addresses.

        Raises:
            ProfileMismatch: A rank there is wrong.
        """
        made = self.side.of_groups
        axes = self._cut_axes(made, self.groups)
        regions = [(*_region(claim, axes), self.atoms.by_group.get(_group(claim), 0)) for claim in made]
        full = (*(axis.full for axis in axes), self.atoms.full)
        order = GroupOrder(full, regions, [claim.outcome for claim in made])
        priorities = Priorities(GROUP_SET, self.atoms.all, self.shared.structure.table.elements_of)
        ranks = {rank: order.saying.get(outcome, 0) for rank, outcome in self.own.items()}
        walk = GroupsWalk(
            program=self.groups,
            axes=axes,
            order=order,
            with_ports=_with_ports(axes),
            priorities=priorities,
            ranks=ranks,
            all_ranks=self.winners.leaves,
            strengths=[(_group(claim), self.winners.of.get(claim.outcome, 0)) for claim in made],
            numbered=self.atoms.numbered,
            maps=self.shared.rank_maps,
        )
        for root in self.roots:
            try:
                walk.check(root, self._cell(walk), order.all)
            except Mismatch as mismatch:
                far = self._members(mismatch.cell[GROUP_SET])
                raise ProfileMismatch(self, axes, far, self._claim(mismatch, made), mismatch) from mismatch
        self.cells += walk.cells
        return walk

    def _walk_addresses(self, entries: Sequence[str]) -> AbstractSet[str]:
        """Walk from the chains for addresses that packets come to. Return the leaves that packets were sent from.

        Raises:
            ProfileMismatch: Some packets come to a wrong leaf.
        """
        made = self.side.of_addresses
        cuts = [*self.addresses.cuts.get(FAR, ()), *(item for claim in made for item in self.side.far(claim) or ())]
        far = Span(self.side.family.last, Span.cuts_of(cuts))
        axes = (*self._cut_axes(made, self.addresses), far)
        regions = [(*_region(claim, axes[:FAR]), _atoms(far, self.side.far(claim))) for claim in made]
        order = BoxOrder(tuple(axis.full for axis in axes), regions, [claim.outcome for claim in made])
        walk = Walk(self.addresses, axes, order, _with_ports(axes))
        for entry in entries:
            try:
                walk.check(entry, self._cell(walk), order.all)
            except Mismatch as mismatch:
                far_of = self._in_blocks(far, mismatch.cell[FAR])
                raise ProfileMismatch(self, axes[:FAR], far_of, self._claim(mismatch, made), mismatch) from mismatch
        self.cells += walk.cells
        self.classes = len(far.starts)
        return walk.last_chains

    def _cut_axes(self, made: Iterable[Claim], program: Program) -> tuple[Span, ...]:
        """Cut the axes of the header where claims or chains ask for them."""
        cuts: list[set[int]] = [set() for _ in AXES]
        for claim in made:
            for axis, ranges in enumerate(claim.ranges):
                cuts[axis].update(Span.cuts_of(ranges or ()))
        for index in range(len(AXES)):
            cuts[index].update(Span.cuts_of(program.cuts.get(index, ())))
        cuts[PROTOCOL].update(cut for protocol in (*PORT_PROTOCOLS, AH) for cut in (protocol, protocol + 1))
        return tuple(Span(axis.last(self.side.family), cut) for axis, cut in zip(AXES, cuts, strict=True))

    def _cell(self, walk: Walk) -> Cell:
        """Return all packets of the kind; unless strict, only those with addresses that reach the carriers' rules."""
        cell = list(walk.order.full)
        if self.kind.is_behind_ah:
            cell[PROTOCOL] = walk.axes[PROTOCOL].single(AH)
        if not self.is_strict:
            own = [p for _, eni in self.carriers for p in self.kind.own(eni)]
            local = walk.axes[LOCAL]
            assert isinstance(local, Span)
            cell[LOCAL] = local.overlapping((p.first, p.last) for p in own)
        return tuple(cell)

    def _claim(self, mismatch: Mismatch, made: Sequence[Claim]) -> Claim | None:
        """Return the claim that a mismatch is about."""
        is_claim = mismatch.box is not None and mismatch.box < len(made)
        return made[mismatch.box] if is_claim and mismatch.box is not None else None

    def _members(self, atoms: Atoms) -> Iterator[int]:
        """Yield far addresses of these group sets."""
        found = [self.atoms.all[index] for index in islice(indices(atoms), MAX_FAR)]
        for atom in found[::-1]:
            yield from islice(self.atoms.examples(atom), 3)
        if NO_MEMBER in found:
            yield from self._others()

    def _others(self) -> Iterator[int]:
        """Yield addresses that no member has."""
        last = self.side.family.last
        tries = (last // 3 + number for number in range(1 << 16))
        yield from (address for address in tries if not self.atoms.knows(address))

    def _in_blocks(self, far: Span, atoms: Atoms) -> Iterator[int]:
        """Yield far addresses in these blocks, those that no member has first."""
        blocks = [far.ends(index) for index in indices(atoms)]
        some = [address for first, last in blocks[:64] for address in (*range(first, min(first + 8, last + 1)), last)]
        yield from sorted(dict.fromkeys(some), key=self.atoms.knows)

    def _wrong_ranks(self, error: WrongRanksError) -> ProfileMismatch:
        """Make a mismatch of an error about ranks: of packets that both the leaf and the rank are about."""
        axes, about = self._cut_axes(self.side.claims, self.addresses), list(self._about(error.outcomes))
        cell = tuple(axis.full for axis in axes)
        for claim in about:
            cell = meet(cell, _region(claim, axes)) or cell
        far = [address for claim in about[::-1] for address in islice(self._far_of(about, claim), MAX_FAR // 3)]
        far += islice(self._members(0 if about else self.atoms.full), MAX_FAR // 3)
        mismatch = Mismatch(cell, None, None, str(error))
        return ProfileMismatch(self, axes, chain(far, self._others()), about[0] if about else None, mismatch)

    def _about(self, outcomes: Iterable[Outcome]) -> Iterator[Claim]:
        for outcome in outcomes:
            yield from (claim for claim in self.side.claims if claim.outcome == outcome)

    def _far_of(self, about: Sequence[Claim], claim: Claim) -> Iterator[int]:
        """Yield far addresses that a claim holds for; of members only those in blocks of the first claim."""
        blocks = self.side.far(about[0])
        if isinstance(claim.remote, GroupRef):
            members = self._members(self.atoms.by_group.get(_group(claim), 0))
            yield from (a for a in members if not blocks or any(int(b.first) <= a <= int(b.last) for b in blocks))
        yield from (int(block.first) for block in self.side.far(claim) or ())


def _group(claim: Claim) -> str:
    assert isinstance(claim.remote, GroupRef)
    return claim.remote.security_group_id


def _atoms(axis: Span, ranges: Ranges | None) -> Atoms:
    return axis.full if ranges is None else axis.select(ranges)


def _region(claim: Claim, axes: Sequence[Span]) -> Cell:
    return tuple(map(_atoms, axes, claim.ranges))


def _with_ports(axes: Sequence[Axis]) -> Atoms:
    return axes[PROTOCOL].select([Range.of(protocol) for protocol in PORT_PROTOCOLS])
