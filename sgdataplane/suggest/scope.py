"""Which groups a suggestion changes, and what in the state lets each flow pass today.

Owns the groups that get new rules, and with which strength. Is given a state, and the ENIs of which anything was seen.
Must not know how ends are written, nor how rules are merged.

    what lets a flow pass       rules that carry it are in   their priority is
    a rule                      the rule's group             that of the rule
    inner accept                the group                    weaker than any drop rule's, so that each still wins
    the default (egress)        the ENI's home               likewise
    nothing (on request)        the ENI's home               likewise, or just above the one drop rule that refuses it

The home of an ENI is the smallest of its groups that may change: a rule there opens for the fewest other ENIs.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache, cached_property

from sgdataplane.model.state import CloudState, GroupType, NetworkType, NicType, SecurityGroup, SecurityGroupRule
from sgdataplane.net.values import Direction, PortRange, Prefix, Verdict
from sgdataplane.suggest.judge import JudgedFlow

WEAKEST = 100  # the weakest priority of a rule; of two rules that have it, the drop wins
BEFORE_CLOSING = WEAKEST - 1  # for rules that must outrank the drop rules which close egress
EGRESS = Direction.EGRESS


class GrantKind(enum.Enum):
    """What lets a flow pass."""

    RULE = "rule"
    INNER = "inner_accept"
    DEFAULT = "default"
    NEW = "new"  # nothing does, and the user wants a rule


@dataclass(frozen=True, slots=True)
class Slot:
    """Rules that may be merged with each other.

    They are in one group, have one strength, and require the same besides remote, protocol and ports. No drop rule can
    come between them.
    """

    group_id: str
    kind: GrantKind
    direction: Direction
    priority: int
    source_ports: PortRange | None = None
    """The source ports that its rules require; None for every port."""
    narrowing: Prefix | None = None
    """The ENI's own addresses that its rules are for; None for all."""
    nic_type: NicType = NicType.INTRANET

    @property
    def key(self) -> tuple[object, ...]:
        """The key that sorts by group, then by all else."""
        none = "" if self.source_ports is None else str(self.source_ports)
        at = "" if self.narrowing is None else str(self.narrowing)
        kind = self.kind.value, self.direction.value, self.priority
        return self.group_id, *kind, none, at, self.nic_type.value


@dataclass(frozen=True, slots=True)
class Grant:
    """What lets a flow pass."""

    slot: Slot
    """Where a rule goes that carries the flow."""
    rule: SecurityGroupRule | None = None
    """The rule that does; None if something else does."""
    is_exact: bool = False
    """Only the ends that were seen may be named, because a drop rule refuses others."""

    @property
    def name(self) -> str:
        """The rule's id, or the reason as explain gives it; "" if nothing lets the flow pass."""
        if self.rule is not None:
            return self.rule.security_group_rule_id
        return "" if self.slot.kind is GrantKind.NEW else self.slot.kind.value


class ChangingGroups:
    """The groups that change.

    Only the `chosen` groups may, or all if that is None. Groups of other services never change, nor does a group of
    which no ENI was seen.

    Attributes:
        managed: the groups that can't change because a service manages them.
        groups: the groups that change.
        unseen: the groups that stay because none of their ENIs was seen.
        beside: the group, and all groups that an ENI of it is in, too.
        home: an ENI's home; "" if none of its groups changes.
    """

    def __init__(self, state: CloudState, seen: Collection[str], chosen: Collection[str] | None) -> None:
        self._state, self._seen = state, seen
        wanted = [group for group in state.security_groups if chosen is None or group.security_group_id in chosen]
        self.managed = tuple(group.security_group_id for group in wanted if group.service_managed)
        own = [group for group in wanted if not group.service_managed]
        self.groups = tuple(g.security_group_id for g in own if self._is_any_seen(g, seen))
        self.unseen = tuple(g.security_group_id for g in own if not self._is_any_seen(g, seen))
        self.beside = cache(self._beside)
        self.home = cache(self._home)

    @cached_property
    def homes(self) -> tuple[str, ...]:
        """The basic groups whose egress is closed: the homes of the ENIs that were seen."""
        found = {self.home(eni_id) for eni_id in self._seen}
        return tuple(sorted(group for group in found if group and self._is_basic(group)))

    @cached_property
    def clusters(self) -> tuple[tuple[str, ...], ...]:
        """The homes, in sets that share no ENI; those of a set are closed together, or stay open together."""
        left, found = list(self.homes), []
        while left:
            mine = {left[0]}
            while more := [home for home in left if home not in mine and self._homes_beside(home) & mine]:
                mine |= {*more}
            found.append(tuple(sorted(mine)))
            left = [home for home in left if home not in mine]
        return tuple(found)

    def why_open(self, group_id: str, staying: Collection[tuple[str, str]]) -> str:
        """Return why the egress of a group can't be closed by a rule of the weakest priority; "" if it can.

        `staying` has the accept rules, or parts of them, that stay in groups that change.
        """
        if self._state.vpc[self._state.group[group_id].vpc_id].network_type is NetworkType.CLASSIC:
            return "it is in the classic network"
        for group in map(self._state.group.__getitem__, self.beside(group_id)):
            for rule in group.rules:
                key = group.security_group_id, rule.security_group_rule_id
                stays = rule.policy is Verdict.DROP or key[0] not in self.groups or key in staying
                if rule.direction is EGRESS and rule.priority >= WEAKEST and stays:
                    return f"{key[1]} of {key[0]} has priority {rule.priority} already"
        return ""

    def grant_of(self, judged: JudgedFlow) -> Grant | None:
        """Return what lets an accepted packet pass if inner accept is left out wherever that makes no difference.

        None if nothing that changes does.
        """
        first, after = judged.candidates[0], judged.without_inner
        if first.rule is None and first.group is not None and after.decision.verdict is Verdict.DROP:
            group_id = first.group.security_group_id
            direction = judged.packet.direction
            slot = Slot(group_id, GrantKind.INNER, direction, self.floor(group_id, direction))
            return Grant(slot) if group_id in self.groups else None
        if after.rule is not None and after.group is not None:
            return self.of_rule(after.group, after.rule)
        return self.of_default(judged.packet.eni_id)

    def of_default(self, eni_id: str) -> Grant | None:
        """Return the default of an ENI's egress; None if none of its groups changes."""
        home = self.home(eni_id)
        return Grant(Slot(home, GrantKind.DEFAULT, EGRESS, self.floor(home, EGRESS))) if home else None

    def new_grant(self, judged: JudgedFlow) -> Grant | None:
        """Return where a rule goes that lets a refused packet pass; None if no rule can."""
        home, refusal = self.home(judged.packet.eni_id), judged.candidates[0]
        direction = judged.packet.direction
        if not home:
            return None
        if refusal.rule is None:
            nic_type = self._state.eni[judged.packet.eni_id].nic_type
            return Grant(Slot(home, GrantKind.NEW, direction, self.floor(home, direction), nic_type=nic_type))
        if refusal.rule.priority == 1:
            return None
        stronger = min(refusal.rule.priority - 1, WEAKEST)
        return Grant(Slot(home, GrantKind.NEW, direction, stronger, nic_type=refusal.rule.nic_type), is_exact=True)

    def floor(self, group_id: str, direction: Direction) -> int:
        """Return the priority of a rule that overrides no drop rule.

        It overrides none at an ENI of the group, or of a group that such an ENI joins later. At egress it must outrank
        the rule that closes the rest, which is never beside a drop rule as weak as itself (`why_open`).
        """
        if direction is not EGRESS:
            return WEAKEST
        drops = [rule.priority for rule in self._rules(group_id, direction) if rule.policy is Verdict.DROP]
        return min(max([BEFORE_CLOSING, *drops]), WEAKEST)

    def of_rule(self, group: SecurityGroup, rule: SecurityGroupRule) -> Grant | None:
        """Return the grant of a rule; None if its group doesn't change."""
        if group.security_group_id not in self.groups:
            return None
        shape = rule.source_port_range, rule.narrowing, rule.nic_type
        return Grant(Slot(group.security_group_id, GrantKind.RULE, rule.direction, rule.priority, *shape), rule)

    def _homes_beside(self, group_id: str) -> set[str]:
        """Return the homes that an ENI of the group is in."""
        return {other for other in self.beside(group_id) if other in self.homes}

    def _is_any_seen(self, group: SecurityGroup, seen: Collection[str]) -> bool:
        return any(eni.network_interface_id in seen for eni in self._state.enis_of_group[group.security_group_id])

    def _home(self, eni_id: str) -> str:
        """Return the ENI's home; "" if none of its groups changes."""
        mine = [group for group in self._state.eni[eni_id].security_group_ids if group in self.groups]
        return min(mine, key=lambda group: (len(self._state.enis_of_group[group]), group), default="")

    def _rules(self, group_id: str, direction: Direction) -> Iterable[SecurityGroupRule]:
        """Return the rules of one direction at any ENI of the group."""
        groups = (self._state.group[group] for group in self.beside(group_id))
        return [rule for group in groups for rule in group.rules if rule.direction is direction]

    def _beside(self, group_id: str) -> tuple[str, ...]:
        """Return the group, and all groups that an ENI of it is in, too."""
        found = {other for eni in self._state.enis_of_group[group_id] for other in eni.security_group_ids}
        return tuple(sorted(found | {group_id}))

    def _is_basic(self, group_id: str) -> bool:
        return self._state.group[group_id].security_group_type is GroupType.NORMAL
