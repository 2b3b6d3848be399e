"""A state whose objects have the names of their Terraform resources, for people who wrote these and not the ids.

Owns the renaming. No verdict changes, because ids only say which objects belong together. Is given a checked state.
Must not know formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sgdataplane.model import standins
from sgdataplane.model.state import CloudState, Eni, GroupRef, SecurityGroup, SecurityGroupRule
from sgdataplane.policy.findings import Finding
from sgdataplane.statefile.load import Loaded
from sgdataplane.statefile.places import Origins
from sgdataplane.visible import visible

MAX_ADDRESS = 200  # characters; keys of for_each may be of any length


def with_addresses(loaded: Loaded, *others: Loaded) -> Loaded:
    """Return the same state with Terraform addresses in place of ids, for objects that have one.

    The addresses of `others` count as well, so an object that two states have gets one name in both. Where addresses
    differ, the last state wins.
    """
    places = Origins({key: each for one in (loaded, *others) for key, each in one.places.addresses.items()})
    if not places.addresses:
        return loaded
    names = _Names(loaded.state, places)
    pending = (
        replace(each, security_group_ids=tuple(map(names.of, each.security_group_ids))) for each in loaded.pending
    )
    return replace(
        loaded, state=names.rename_state(), findings=tuple(map(names.finding, loaded.findings)), pending=tuple(pending)
    )


@dataclass(frozen=True)
class _Names:
    """The names that the objects of one state get."""

    state: CloudState
    places: Origins

    def of(self, some_id: str) -> str:
        """Return the name of a group or an ENI.

        The group that stands for another group's own members keeps the ending that tells the two apart.
        """
        address = printable_address(self.places.address(some_id))
        is_own = some_id.endswith(standins.OWN_MEMBERS)
        return f"{address}{standins.OWN_MEMBERS}" if address and is_own else address or some_id

    def rule(self, group_id: str, rule_id: str) -> str:
        """Return the name of a rule.

        A rule that stands for a default of another cloud keeps its id, and one that isn't exact keeps the ending that
        says so.
        """
        address = printable_address(self.places.address(group_id, rule_id))
        if not address or address == printable_address(self.places.address(group_id)):
            return rule_id
        return address + next((mark for mark in standins.MARKS if rule_id.endswith(mark)), "")

    def rename_state(self) -> CloudState:
        """Return the state with all its objects renamed, sorted by their new names."""
        groups = sorted((self.group(each) for each in self.state.security_groups), key=lambda g: g.security_group_id)
        enis = sorted((self.eni(each) for each in self.state.network_interfaces), key=lambda e: e.network_interface_id)
        return replace(self.state, security_groups=tuple(groups), network_interfaces=tuple(enis))

    def eni(self, eni: Eni) -> Eni:
        """Return the ENI with names in place of its own id and those of its groups."""
        groups = tuple(sorted(map(self.of, eni.security_group_ids)))
        name = self.of(eni.network_interface_id)
        return replace(eni, network_interface_id=name, security_group_ids=groups)

    def group(self, group: SecurityGroup) -> SecurityGroup:
        """Return the group with names in place of its own id and those in its rules."""
        group_id = group.security_group_id
        names = distinct((rule.security_group_rule_id, self.rule(group_id, rule.security_group_rule_id))
                         for rule in group.rules)  # fmt: skip
        rules = sorted((self.rename_rule(rule, names) for rule in group.rules), key=lambda r: r.security_group_rule_id)
        return replace(group, security_group_id=self.of(group_id), rules=tuple(rules))

    def rename_rule(self, rule: SecurityGroupRule, names: Mapping[str, str]) -> SecurityGroupRule:
        """Return the rule with its name (from `names`, by id) and that of its remote group."""
        remote = rule.remote
        if isinstance(remote, GroupRef):
            remote = GroupRef(self.of(remote.security_group_id))
        return replace(rule, security_group_rule_id=names[rule.security_group_rule_id], remote=remote)

    def finding(self, finding: Finding) -> Finding:
        """Return the finding with names in place of the ids that it is about."""
        ids = dict(finding.subject)
        group_id, rule_id = ids.get("security_group_id", ""), ids.get("security_group_rule_id", "")
        if rule_id:
            ids["security_group_rule_id"] = self.rule(group_id, rule_id)
        for name in ("security_group_id", "network_interface_id"):
            if name in ids:
                ids[name] = self.of(ids[name])
        return replace(finding, subject=tuple(sorted(ids.items())))


def distinct(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the name of each id, with a number where a name repeats: one resource may make several rules."""
    taken: dict[str, int] = {}
    found: dict[str, str] = {}
    for some_id, name in names:
        taken[name] = taken.get(name, 0) + 1
        found[some_id] = name if taken[name] == 1 else f"{name} #{taken[name]}"
    return found


def printable_address(address: str) -> str:
    """Return an address as a name: printable, and at most MAX_ADDRESS characters.

    The author of a plan may choose keys of any characters and length.
    """
    text = visible(address)
    return text if len(text) <= MAX_ADDRESS else f"{text[: MAX_ADDRESS - 3]}..."
