"""Find the ENIs that a change of the state can affect: all others keep the policy that they had.

Owns what a policy follows from: the ENI, its groups, what their rules name, and the members of groups. It is given two
states. It must not know what a policy is compiled to, nor where.

It may name too many ENIs, never too few: tests/property/test_reach.py compares it with what is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from sgdataplane.model.members import difference
from sgdataplane.model.state import CloudState, Eni, GroupRef, PrefixListRef, SecurityGroup, SecurityGroupRule
from sgdataplane.net.values import Verdict

Record = TypeVar("Record")


class Reach:
    """What the change from one state to another can affect."""

    def __init__(self, before: CloudState, after: CloudState) -> None:
        self._after = after
        self._is_nothing = before is after
        self._is_all = before.vpcs != after.vpcs
        enis = _different(before.network_interfaces, after.network_interfaces, lambda eni: eni.network_interface_id)
        self._enis = enis.keys()
        self._relaxed = {eni_id for eni_id, (old, new) in enis.items() if _only_relaxes(old, new)}
        enis = {eni_id: pair for eni_id, pair in enis.items() if not _is_mode_only(*pair)}  # these change no members
        changed = (eni for pair in enis.values() for eni in pair if eni is not None)
        self._members = {group_id for eni in changed for group_id in eni.security_group_ids}
        groups = _different(before.security_groups, after.security_groups, lambda group: group.security_group_id)
        self._groups = groups.keys()
        self._tightened = {group_id for group_id, (old, new) in groups.items() if not _only_widens(old, new)}
        self._left = {group_id for old, _ in enis.values() if old is not None for group_id in old.security_group_ids}
        self._moved = {group_id for group_id, (old, new) in groups.items() if _vpc_of(old) != _vpc_of(new)}
        self._lists = {
            *_different(before.prefix_lists, after.prefix_lists, lambda entry: entry.prefix_list_id),
            *_different(before.port_lists, after.port_lists, lambda entry: entry.port_list_id),
        }
        self._touched: dict[str, bool] = {}
        self._narrowed: dict[str, bool] = {}

    def touches(self, eni_ids: Iterable[str]) -> bool:
        """Return whether one of these ENIs may have another policy, address or MAC, or isn't in both states."""
        if self._is_nothing:
            return False
        return self._is_all or any(self._touches(eni_id) for eni_id in eni_ids)

    def touches_group(self, group_id: str) -> bool:
        """Return whether the policy of an ENI in this group may differ, whichever ENI that is.

        The group is in one of the states or in both.
        """
        if self._is_nothing:
            return False
        return self._is_all or group_id in self._groups or self._touches_group(group_id)

    def changes_rules(self, group_id: str) -> bool:
        """Return whether the group, or a list that its rules name, differs: not only the members of a group."""
        if self._is_nothing:
            return False
        rules = self._after.group[group_id].rules if group_id in self._after.group else ()
        return self._is_all or group_id in self._groups or any(self._names_changed_list(rule) for rule in rules)

    def _names_changed_list(self, rule: SecurityGroupRule) -> bool:
        remote = rule.remote.prefix_list_id if isinstance(rule.remote, PrefixListRef) else ""
        return rule.port_list_id in self._lists or remote in self._lists

    def narrows(self, eni_ids: Iterable[str]) -> bool:
        """Return whether the policy of one of these ENIs may refuse what it allowed before.

        The result is False only if the change adds accepting rules and members of what these name, takes dropping rules
        away, or puts the ENI into audit mode.
        """
        if self._is_nothing:
            return False
        return self._is_all or any(self._touches(eni_id) and self._narrows(eni_id) for eni_id in eni_ids)

    def _narrows(self, eni_id: str) -> bool:
        if (eni_id in self._enis and eni_id not in self._relaxed) or eni_id not in self._after.eni:
            return True
        return any(self._narrows_group(group_id) for group_id in self._after.eni[eni_id].security_group_ids)

    def _narrows_group(self, group_id: str) -> bool:
        if group_id not in self._narrowed:
            self._narrowed[group_id] = self._may_refuse(self._after.group[group_id])
        return self._narrowed[group_id]

    def _may_refuse(self, group: SecurityGroup) -> bool:
        """Return whether the change may make a group's policy refuse what it allowed."""
        if group.security_group_id in self._tightened or group.security_group_id in self._left:
            return True
        for rule in group.rules:
            match rule.remote:
                case GroupRef(other):
                    is_narrowed = other in self._left or other in self._moved
                    if is_narrowed or (other in self._members and rule.policy is Verdict.DROP):
                        return True
                case PrefixListRef(prefix_list_id):
                    if prefix_list_id in self._lists:
                        return True
            if rule.port_list_id in self._lists:
                return True
        return False

    def _touches(self, eni_id: str) -> bool:
        if eni_id in self._enis or eni_id not in self._after.eni:
            return True
        return any(self._touches_group(group_id) for group_id in self._after.eni[eni_id].security_group_ids)

    def _touches_group(self, group_id: str) -> bool:
        if group_id not in self._touched:
            self._touched[group_id] = self._is_about(self._after.group[group_id])
        return self._touched[group_id]

    def _is_about(self, group: SecurityGroup) -> bool:
        """Return whether the change may affect a group's policy. Its own members matter for its inner access policy."""
        if group.security_group_id in self._groups or group.security_group_id in self._members:
            return True
        for rule in group.rules:
            if rule.port_list_id in self._lists:
                return True
            match rule.remote:
                case GroupRef(other):
                    if other in self._members or other in self._moved:
                        return True
                case PrefixListRef(prefix_list_id):
                    if prefix_list_id in self._lists:
                        return True
        return False


def _different(
    before: tuple[Record, ...], after: tuple[Record, ...], id_of: Callable[[Record], str]
) -> Mapping[str, tuple[Record | None, Record | None]]:
    """Return the records that differ, by id, as they were before and after."""
    gone, come = difference(before, after)
    old, new = ({id_of(record): record for record in some} for some in (gone, come))
    pairs = {key: (old.get(key), new.get(key)) for key in old.keys() | new.keys()}
    return {key: (one, other) for key, (one, other) in pairs.items() if one != other}


def _is_mode_only(old: Eni | None, new: Eni | None) -> bool:
    """Return whether the ENI differs in nothing but its mode."""
    return old is not None and new is not None and new.is_same_but_mode(old)


def _only_relaxes(old: Eni | None, new: Eni | None) -> bool:
    """Return whether the ENI differs in nothing but its mode, and isn't put into mode enforce."""
    return _is_mode_only(old, new) and new is not None and (new.is_audited or old is None or not old.is_audited)


def _only_widens(old: SecurityGroup | None, new: SecurityGroup | None) -> bool:
    """Return whether the new group allows all that the old one did."""
    if old is None or new is None or replace(old, rules=(), trial=None) != replace(new, rules=(), trial=None):
        return False
    gone, come = difference(old.rules, new.rules)
    lost, added = set(gone) - set(come), set(come) - set(gone)
    return all(rule.policy is Verdict.DROP for rule in lost) and all(rule.policy is Verdict.ACCEPT for rule in added)


def _vpc_of(group: SecurityGroup | None) -> str | None:
    return None if group is None else group.vpc_id
