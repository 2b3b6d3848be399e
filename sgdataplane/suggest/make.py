"""The suggested state, put together from units.

Owns which rules a changed group has: its drop rules, the rules that carry what was seen, and rules that close its
egress. Is given units, as wide as they are now. Must not know how they became so wide.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from sgdataplane.model.semantics import has_inner_accept
from sgdataplane.model.state import CloudState, SecurityGroup, SecurityGroupRule
from sgdataplane.net.values import ALL, Family, Verdict
from sgdataplane.statefile.rules import make_rule_id
from sgdataplane.suggest.ends import EVERYBODY, NamedEnd
from sgdataplane.suggest.plan import Drafted
from sgdataplane.suggest.room import Unit
from sgdataplane.suggest.scope import EGRESS, WEAKEST, ChangingGroups, GrantKind, Slot

Name = tuple[object, ...]


def name_of(slot: Slot, scope: ChangingGroups) -> Name:
    """Return the name of the unit that a slot belongs to."""
    if slot.kind is GrantKind.INNER:
        return GrantKind.INNER.value, slot.group_id
    if slot.kind is GrantKind.DEFAULT:
        return GrantKind.DEFAULT.value, next(cluster for cluster in scope.clusters if slot.group_id in cluster)
    return slot.kind.value, slot.key


def list_fixed_units(state: CloudState, scope: ChangingGroups) -> dict[Name, frozenset[str]]:
    """Return the units that exist whatever was seen, with their groups: each inner accept, and each default."""
    inner = [group_id for group_id in scope.groups if has_inner_accept(state.group[group_id])]
    found: dict[Name, frozenset[str]] = {(GrantKind.INNER.value, group_id): frozenset([group_id]) for group_id in inner}
    return found | {(GrantKind.DEFAULT.value, cluster): frozenset(cluster) for cluster in scope.clusters}


class Maker:
    """Makes the state of units."""

    def __init__(self, state: CloudState, scope: ChangingGroups, units: Mapping[Name, Unit]) -> None:
        self._state, self._scope, self._units = state, scope, units

    def state(self) -> CloudState:
        """Return the state with the rules of all units."""
        rules: dict[str, dict[SecurityGroupRule, None]] = {group_id: {} for group_id in self._scope.groups}
        for group_id, rule in (*((one.slot.group_id, one.rule) for one in self.rules()), *self.close_egress()):
            rules[group_id][rule] = None
        inner = set(self.inner_closed())
        groups = tuple(
            self._group(group, rules[group.security_group_id], is_inner_closed=group.security_group_id in inner)
            if group.security_group_id in rules
            else group
            for group in self._state.security_groups
        )
        return replace(self._state, security_groups=groups)

    def rules(self) -> Iterator[Drafted]:
        """Yield the accept rules of all units; one that the state has keeps its id and description."""
        for unit in self._units.values():
            for one in unit.draft():
                yield replace(one, rule=self._identify(one.slot.group_id, one.rule))

    def close_egress(self) -> Iterator[tuple[str, SecurityGroupRule]]:
        """Yield the rules that close the egress of basic groups."""
        for cluster in self._scope.clusters:
            for group_id in cluster if not self._units[GrantKind.DEFAULT.value, cluster].is_kept else ():
                for family in self._families(group_id):
                    rule = SecurityGroupRule(
                        "", EGRESS, ALL, EVERYBODY[family], policy=Verdict.DROP, priority=WEAKEST,
                        description="nothing else was seen",
                    )  # fmt: skip
                    yield group_id, self._identify(group_id, rule)

    def inner_closed(self) -> Iterator[str]:
        """Yield the groups whose inner policy becomes Drop."""
        for name, unit in self._units.items():
            if name[0] == GrantKind.INNER.value and not unit.is_kept:
                yield str(name[1])

    def _group(
        self, group: SecurityGroup, made: Mapping[SecurityGroupRule, None], *, is_inner_closed: bool
    ) -> SecurityGroup:
        stay = [rule for rule in group.rules if rule.policy is Verdict.DROP and rule not in made]
        inner = Verdict.DROP if is_inner_closed else group.inner_access_policy
        rules = sorted((*stay, *made), key=lambda rule: rule.security_group_rule_id)
        return replace(group, rules=tuple(rules), inner_access_policy=inner)

    def _identify(self, group_id: str, rule: SecurityGroupRule) -> SecurityGroupRule:
        """Return the rule with an id made from what it says; the state's own rule, if it has one that says the same."""
        if rule.security_group_rule_id:
            return rule
        for one in self._state.group[group_id].rules:
            if replace(one, security_group_rule_id="", description=rule.description) == rule:
                return one
        return replace(rule, security_group_rule_id=make_rule_id(group_id, rule))

    def _families(self, group_id: str) -> Iterator[Family]:
        """Yield IPv4, and IPv6 if it is used: where it isn't, its default stays as it is."""
        vpc = self._state.vpc[self._state.group[group_id].vpc_id]
        prefixes = (p for eni in self._state.enis_of_group[group_id] for p in eni.private_prefixes)
        yield Family.IPV4
        if any(prefix.family is Family.IPV6 for prefix in (*vpc.cidr_blocks, *prefixes)):
            yield Family.IPV6


def in_reading_order(state: CloudState, changed: Collection[str]) -> CloudState:
    """Return the state with the rules of these groups in the order in which people read them.

    Ingress comes first, then the order in which rules are evaluated. Reading the state again gives it as it was.
    """
    groups = (
        replace(group, rules=tuple(sorted(group.rules, key=_as_read))) if group.security_group_id in changed else group
        for group in state.security_groups
    )
    return replace(state, security_groups=tuple(groups))


def _as_read(rule: SecurityGroupRule) -> tuple[object, ...]:
    ports = (rule.port_range.first, rule.port_range.last) if rule.port_range else (0, 0)
    strength = rule.priority, rule.policy is Verdict.ACCEPT
    end = NamedEnd(rule.remote, rule.narrowing).key
    return rule.direction.value != "ingress", *strength, rule.ip_protocol, ports, end, rule.security_group_rule_id
