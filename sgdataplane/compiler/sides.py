"""Compile one side of a profile into its chains, from the root to the leaves (verdict chains).

Owns what is asked in which order: group sets and ranks first, then everything else. It is given ordered permissions.
It must not know hooks' chains, epochs, or interfaces.

    profile-<side>   root: the number of the far address's group set becomes the packet's priority, if any permission
                     of this side is on a group. Then it jumps to groups (members only) and addresses
    groups-...       protocol and port lead to a map that makes the group set the rank of the strongest permission on
                     a group. Inner accept has nothing to do with protocol and port: where it comes before all rules,
                     it has a map of its own, which is asked last, and its group sets are in no other map
    address-...      the diagram of all other permissions. The one that decides notes an accept in the priority, or
                     writes its rank there if it refuses. If a rank is stronger, it leaves that there

All of this returns to the base chain, where a rank leads to the leaf of its permission. Nothing of this leads to the
next thing by itself. So an old kernel, which goes through a chain once for each way there at each commit, goes through
each of them once.

The priority takes the place of a register, as nftables can't use what a map holds as a key otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from itertools import product
from typing import Protocol

from sgdataplane.compiler.cuts import MAX_STEPS, Cutting, build_cutting
from sgdataplane.compiler.diagram import ASKED, BY_PROTOCOL, Boxes, Dim, Intervals, RuleBox, bits
from sgdataplane.compiler.group_sets import NO_GROUP_SETS, GroupSets, Ranking, Strengths
from sgdataplane.compiler.lower import DiagramChains, Lowering, RuleEnd, with_text
from sgdataplane.compiler.ranks import Strength
from sgdataplane.compiler.shared import Addresses
from sgdataplane.compiler.skeleton import SaidRule
from sgdataplane.contract import names
from sgdataplane.contract.fields import Field, KeyType, Nfproto
from sgdataplane.contract.priority import FIRST_GROUP_SET, GROUP_SETS
from sgdataplane.contract.sites import Site
from sgdataplane.contract.tables import WINNERS, address_name, groups_name, members_name
from sgdataplane.model.decision import INNER_ACCEPT, Decision
from sgdataplane.model.state import GroupRef, Remote
from sgdataplane.net.ranges import Interval
from sgdataplane.net.values import AH, Direction, Family, Prefix
from sgdataplane.nft.changes import same_ends
from sgdataplane.nft.ir import (
    RETURN,
    Chain,
    Map,
    MapPriority,
    Match,
    Range,
    Rule,
    SetPriority,
    goto,
    is_value,
    jump,
    rule,
)
from sgdataplane.policy.dimensions import LOCAL, PORT, SOURCE_PORT, conditions
from sgdataplane.policy.resolve import Permission

LOOK_UPS, LOOK_UPS_WITH_GROUPS = 4, 1  # at most so many on a path of a diagram (docs/design/ruleset.md)
NO_PRIORITY = SetPriority(0)
IS_UNRANKED = Match(Field.PACKET_PRIORITY, (Range(FIRST_GROUP_SET, FIRST_GROUP_SET + GROUP_SETS - 1),))
IS_MEMBER = Match(Field.PACKET_PRIORITY, (Range.of(0),), negate=True)
IS_IPV6, IS_AH = is_value(Field.NFPROTO, Nfproto.IPV6), is_value(Field.L4PROTO, AH)
BY_PORT, FURTHER = ASKED.index(PORT), (ASKED.index(LOCAL), ASKED.index(SOURCE_PORT))


@lru_cache(maxsize=1 << 10)
def _gives_way(beaten_by: tuple[Range, ...]) -> SaidRule:
    """Return a rule that returns packets with these ranks."""
    return with_text(rule(Match(Field.PACKET_PRIORITY, beaten_by), RETURN))


@dataclass(frozen=True, slots=True)
class PacketKind:
    """Packets that are judged alike.

    Over IPv6, those with an authentication header have the protocol of that header, since the session's entry is that
    of the packet behind it (verdicts.py).
    """

    family: Family
    is_behind_ah: bool = False
    """Whether the packets have an authentication header; only over IPv6."""

    def box(self, permission: Permission, far: Intervals | None) -> RuleBox | None:
        """Return what a permission asks for besides groups; None if no such packet can have it."""
        asked = conditions(permission, self.family)
        if () in asked:
            return None
        if self.is_behind_ah:
            if asked[BY_PROTOCOL] not in (None, ((AH, AH),)):
                return None
            asked = (*asked[:BY_PROTOCOL], None, *asked[BY_PROTOCOL + 1 :])
        return RuleBox(permission.decision, (*asked, far))


@dataclass(frozen=True, slots=True)
class GroupBox:
    """What a permission on a group asks for besides the group."""

    box: RuleBox
    group_id: str
    rank: int


@dataclass(frozen=True, slots=True)
class KindDiagram:
    """The diagram of one kind of packets, and its chains."""

    boxes: Sequence[RuleBox | None]
    """What each permission asks for; None if it doesn't apply to such packets by addresses."""
    cutting: Cutting
    """The diagram that these became."""
    chains: DiagramChains
    """The chains that the diagram became."""


@dataclass
class Side:
    """Makes the chains of one side of a profile."""

    profile: str
    """The name of the profile."""
    site: Site
    side: Direction
    permissions: Sequence[Permission]
    """The side's permissions, strongest first."""
    far: Addresses
    """The address ranges of the groups and prefix lists that it names."""
    strength: Strength
    """The ranks of these permissions."""
    group_sets: GroupSets
    """The numbers of group sets, by group."""
    lowering: Lowering
    """Collects the chains."""
    previous: Side | None = None
    """The same side in an earlier compile, from which parts are taken over."""
    ranks: dict[Ranking, None] = field(default_factory=dict)
    """The maps of ranks that its chains need, in order."""
    names_group_sets: bool = False
    """Whether its chains name group sets."""
    inner: Strengths = ()
    """The groups and ranks of inner accept, if it has a map of its own."""
    diagrams: dict[PacketKind, KindDiagram] = field(default_factory=dict)
    """The diagram of each kind of packets, for the next compile."""
    groups: dict[PacketKind, str] = field(default_factory=dict)
    """The chain of permissions on groups of each kind of packets, for the next compile."""
    leaves: dict[Decision, str] = field(default_factory=dict)
    """The leaf of each permission with a rank, for the next compile."""

    def __post_init__(self) -> None:
        self._end = cache(self._make_end)
        inner = [(p.decision, p.remote) for p in self.permissions if p.decision.cause == INNER_ACCEPT]
        # A prefix that is delegated to a member is a block of addresses, and may be of a stronger inner accept.
        has_blocks = any(self.far[remote][f] for _, remote in inner if remote for f in Family)
        if self.strength.ranks_before_rules and not has_blocks:
            self.inner = tuple((d.security_group_id, self.strength.ranks[d]) for d, _ in inner)

    def evict_unused(self, *, keeps_diagrams: bool) -> None:
        """Keep what the next compile may take over, and no more, as this side is compiled."""
        self.previous, self.group_sets = None, NO_GROUP_SETS
        del self._end  # it refers to this side, so Python would keep all of it until it looks for such cycles
        if not keeps_diagrams:
            self.diagrams, self.groups, self.leaves = {}, {}, {}
        self.lowering.evict_unused(keeps_chains=keeps_diagrams)
        for made in self.diagrams.values():
            made.chains.evict_unused()

    def root(self, comment: str) -> str:
        """Make all chains. Return the name of the one that packets begin with."""
        rules = self._by_kind(self._address)
        if self.strength.ranks:
            addresses = self._inner("address", (*self._first_rules(), *rules))
            rules = (*self._group_set_rules(), *self._rank_rules(), rule(jump(addresses)))
        name = names.identifier(f"profile-{self.side.value}", self.profile)
        return self.lowering.keep(Chain(name, rules, comment=comment))

    def _inner(self, what: str, rules: tuple[Rule, ...]) -> str:
        return self.lowering.keep(Chain(names.identifier(f"{what}-{self.side.value}", self.profile), rules))

    def _by_kind(self, make: Callable[[PacketKind], str]) -> tuple[Rule, ...]:
        """Return rules that tell kinds of packets apart. `make` makes the chain of a kind."""
        six, behind_ah = make(PacketKind(Family.IPV6)), make(PacketKind(Family.IPV6, is_behind_ah=True))
        apart = [rule(IS_IPV6, IS_AH, goto(behind_ah))] if behind_ah != six else []
        return (*apart, rule(IS_IPV6, goto(six)), rule(goto(make(PacketKind(Family.IPV4)))))

    def winners(self) -> dict[int, str]:
        """Make the leaf of each permission on a group and of each other refusal. Return their names by rank."""
        known = {} if self.previous is None else self.previous.leaves
        ranks = {**self.strength.ranks, **self.strength.refusals}
        self.leaves = {d: known.get(d) or self.lowering.leaf(d) for d in ranks}
        return {rank: self.leaves[d] for d, rank in ranks.items()}

    def _group_set_rules(self) -> Iterator[Rule]:
        """Yield rules that make the number of the far address's group set the priority."""
        yield rule(NO_PRIORITY)
        for family in Family:
            yield rule(MapPriority(self.site.far(self.side, family), members_name(family)))

    def _rank_rules(self) -> Iterator[Rule]:
        """Yield rules that make the rank of the strongest permission on a group the priority."""
        if self.on_groups:
            yield rule(IS_MEMBER, jump(self._inner("groups", self._by_kind(self._groups))))
        if self.inner:
            yield rule(IS_UNRANKED, MapPriority(Field.PACKET_PRIORITY, self.request_rank_map(Ranking(self.inner))))

    def _first_rules(self) -> Iterator[Rule]:
        """Yield a rule by which no address is looked up where inner accept decides."""
        if self.inner:
            yield _gives_way(self.strength.ranks_before_rules)[0]

    def request_rank_map(self, ranking: Ranking) -> str:
        """Note that a map of ranks is needed, and return its name."""
        self.ranks[ranking] = None
        return ranking.name

    def _keep_named(self, kind: PacketKind, name_of: NameOf, rules: tuple[Rule, ...]) -> str:
        """Keep a chain with a stable name, and return it.

        Behind AH it is the same chain as otherwise, if it would have the same rules.
        """
        plain = name_of(self.side, kind.family, self.profile, is_behind_ah=False)
        if kind.is_behind_ah and self.lowering.rules(plain) == rules:
            return plain
        name = name_of(self.side, kind.family, self.profile, is_behind_ah=kind.is_behind_ah)
        return self.lowering.keep(Chain(name, rules))

    # addresses

    def _address(self, kind: PacketKind) -> str:
        """Make the chains of all permissions by addresses, for one kind of packets.

        Return the name of the first one.
        """
        known = None if self.previous is None else self.previous.diagrams.get(kind)
        boxes = [self._box(kind, p) for p in self.permissions] if known is None else self._reuse_boxes(kind, known)
        look_ups = LOOK_UPS_WITH_GROUPS if self.strength.ranks else LOOK_UPS
        asked = [box for box in boxes if box is not None]
        found = build_cutting(asked, kind.family, look_ups, None if known is None else known.cutting)
        names = known.chains.names if known is not None and self._has_same_ends else {}
        chains = DiagramChains(self.lowering, self._fields(kind.family), self._end, names)
        self.diagrams[kind] = KindDiagram(boxes, found, chains)
        return self._keep_named(kind, address_name, self.lowering.inline(chains.chain(found.node)))

    def _fields(self, family: Family) -> list[Field]:
        return [self.site.field(dimension, self.side, family) for dimension in ASKED]

    def _reuse_boxes(self, kind: PacketKind, known: KindDiagram) -> list[RuleBox | None]:
        """Return what all permissions ask for. Where that is the same as before, so is the box."""
        start, end = self._same_permissions
        last, every, changed = len(known.boxes) - end, self.permissions, self._changed_remotes
        between = [self._box(kind, permission) for permission in every[start : len(every) - end]]
        found = [*known.boxes[:start], *between, *known.boxes[last:]]
        for place, permission in enumerate(every) if changed else ():
            if permission.remote in changed:
                found[place] = self._box(kind, permission)
        return found

    def _box(self, kind: PacketKind, permission: Permission) -> RuleBox | None:
        """Return what a permission asks for, if it applies to addresses."""
        far = self._far_of(permission.remote, kind.family)
        everywhere = ((0, kind.family.last),)
        return None if far == () else kind.box(permission, None if far == everywhere else far)

    def _far_of(self, remote: Remote | None, family: Family) -> Intervals | None:
        if isinstance(remote, Prefix):
            return ((remote.first, remote.last),) if remote.family is family else ()
        return None if remote is None else self.far[remote][family]

    def _make_end(self, decision: Decision) -> RuleEnd:
        """Return how a decision by addresses is noted, given that one on a group may be stronger."""
        strength = self.strength
        return self.lowering.shared.end(decision, strength.find_stronger(decision), strength.of_refusal(decision))

    # groups

    @cached_property
    def on_groups(self) -> Sequence[tuple[Permission, str]]:
        """The permissions on groups that inner accept doesn't come before, with their groups."""
        before = {group_id for group_id, _ in self.inner}
        found = [(p, p.remote.security_group_id) for p in self.permissions if isinstance(p.remote, GroupRef)]
        return [(permission, group_id) for permission, group_id in found if group_id not in before]

    def _group_boxes(self, kind: PacketKind) -> Iterator[GroupBox]:
        for permission, group_id in self.on_groups:
            box = kind.box(permission, None)
            if box is not None:
                yield GroupBox(box, group_id, self.strength.ranks[permission.decision])

    def _groups(self, kind: PacketKind) -> str:
        """Make the chains of all permissions on groups, for one kind of packets. Return the name of the first one."""
        if self.previous is not None and self._has_same_groups:
            self.ranks |= self.previous.ranks
            self.groups[kind] = self.previous.groups[kind]
        else:
            found = _GroupChains(self, kind.family, list(self._group_boxes(kind))).chain()
            self.groups[kind] = self._keep_named(kind, groups_name, self.lowering.inline(found))
        return self.groups[kind]

    # what an earlier compile made

    @cached_property
    def _same_permissions(self) -> tuple[int, int]:
        """How many permissions are the same at the beginning and at the end of the order."""
        return same_ends(() if self.previous is None else self.previous.permissions, self.permissions)

    @cached_property
    def _changed_remotes(self) -> set[Remote]:
        """The groups and prefix lists that have other addresses now."""
        previous = {} if self.previous is None else self.previous.far
        return {remote for remote, ranges in self.far.items() if previous.get(remote, ranges) != ranges}

    @cached_property
    def _has_same_ranks(self) -> bool:
        known = None if self.previous is None else list(self.previous.strength.ranks.items())
        return known == list(self.strength.ranks.items())

    @cached_property
    def _has_same_ends(self) -> bool:
        """Whether each permission by addresses leaves the same ranks alone, and has the same rank itself, if any.

        That depends on levels alone, as long as there are any ranks of groups.
        """
        previous = self.previous
        if previous is None or previous.strength.inner != self.strength.inner:
            return False
        refusals = self.strength.refusals
        if any(refusals.get(decision, rank) != rank for decision, rank in previous.strength.refusals.items()):
            return False
        has_ranks = bool(previous.strength.ranks), bool(self.strength.ranks)
        is_by_level = not self.has_delegated and not previous.has_delegated and has_ranks[0] is has_ranks[1]
        return is_by_level or self._has_same_ranks

    @cached_property
    def has_delegated(self) -> bool:
        """Whether any permission on a group is about blocks of addresses, too."""
        return any(self.far[remote][family] for remote in self.far if isinstance(remote, GroupRef) for family in Family)

    @cached_property
    def _has_same_groups(self) -> bool:
        """Whether the chains of permissions on groups are the same, and name no group sets."""
        previous = self.previous
        if previous is None or not previous.groups or previous.names_group_sets or previous.inner != self.inner:
            return False
        return self._has_same_ranks and previous.on_groups == self.on_groups


def winners_map(leaves: Mapping[int, str]) -> Map:
    """Return the map from each rank to the leaf of its permission."""
    return Map(WINNERS, KeyType.CLASSID, tuple((rank, jump(leaf)) for rank, leaf in sorted(leaves.items())))


class NameOf(Protocol):
    """Names a chain of one kind of packets."""

    def __call__(self, side: Direction, family: Family, profile: str, *, is_behind_ah: bool) -> str:
        """Return the chain's name."""


class _GroupChains:
    """Makes the chains that turn a group set into a rank. All of them return."""

    def __init__(self, side: Side, family: Family, boxes: Sequence[GroupBox]) -> None:
        self._side, self._of = side, boxes
        self._boxes = Boxes([entry.box for entry in boxes], family)
        self._fields = [side.site.field(dimension, side.side, family) for dimension in ASKED]
        self._others = tuple(group_id for group_id, _ in side.inner)  # groups that another map ranks

    def chain(self) -> str:
        """Make the chains. Return the name of the first one, which asks for the protocol."""
        every = (1 << len(self._of)) - 1
        targets = [(interval, self._by_port(some)) for interval, some in self._pieces(BY_PROTOCOL, every)]
        return self._side.lowering.one_by_one(self._fields[BY_PROTOCOL], "group-protocol", targets)

    def _pieces(self, dim: Dim, subset: int) -> list[tuple[Interval, int]]:
        return self._boxes.pieces(dim, subset, self._boxes.whole[dim])

    def _by_port(self, subset: int) -> str:
        """Make the chain that asks for the port, of permissions with the same protocol.

        Only TCP and UDP permissions have ports.
        """
        targets = [(interval, self._class(some)) for interval, some in self._pieces(BY_PORT, subset)]
        lowering = self._side.lowering
        choose = lowering.look_up if len(targets) > MAX_STEPS else lowering.one_by_one
        return choose(self._fields[BY_PORT], "group-port", targets)

    def _class(self, subset: int) -> str:
        """Make the chain for packets that have the protocol and the port that all of these permissions ask for."""
        if any(self._boxes.select_bounded(dim, subset) for dim in FURTHER):
            return self._steps(subset)
        found: dict[str, int] = {}
        for index in bits(subset):
            found.setdefault(self._of[index].group_id, self._of[index].rank)
        return self._look_up_rank(tuple(found.items()))

    def _look_up_rank(self, strengths: Strengths) -> str:
        if not strengths:
            return self._keep_chain("rank", (rule(RETURN),))
        name = self._side.request_rank_map(Ranking(strengths, self._others))
        return self._keep_chain("rank", (rule(MapPriority(Field.PACKET_PRIORITY, name)),))

    def _steps(self, subset: int) -> str:
        """Make that chain where they ask for source ports or narrow themselves: step by step, the strongest first."""
        self._side.names_group_sets = True
        rules = tuple(step for index in bits(subset) for step in self._steps_of(self._of[index]))
        return self._keep_chain("group-sets", (*rules, rule(RETURN)))

    def _steps_of(self, entry: GroupBox) -> Iterator[Rule]:
        group_sets = set(self._side.group_sets.of_group[entry.group_id]).difference(
            self._side.group_sets.of_groups(self._others)
        )
        asked = [[(self._fields[dim], i) for i in covered] for dim in FURTHER if (covered := entry.box.intervals[dim])]
        for chosen in product(*asked) if group_sets else ():
            conditions = [Match(name, (Range(*interval),)) for name, interval in chosen]
            yield rule(*conditions, is_value(Field.PACKET_PRIORITY, *group_sets), SetPriority(entry.rank), RETURN)

    def _keep_chain(self, prefix: str, rules: tuple[Rule, ...]) -> str:
        return self._side.lowering.content((prefix, *rules), prefix, lambda: rules)
