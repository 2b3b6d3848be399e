"""A state whose objects have the names of their Terraform resources: for people, who wrote these and no ids.

Owns the renaming. No verdict changes, since ids only say what is meant by what. Is given a checked state. Must not know
formats.
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


def addressed(loaded: Loaded, *others: Loaded) -> Loaded:
    """The same state with addresses in place of ids, where it has any. `others`: whose addresses count as well, the
    weakest first: an object that two states have gets one name in both."""
    places = Origins({key: each for one in (loaded, *others) for key, each in one.places.addresses.items()})
    if not places.addresses:
        return loaded
    names = _Names(loaded.state, places)
    pending = (
        replace(each, security_group_ids=tuple(map(names.of, each.security_group_ids))) for each in loaded.pending
    )
    return replace(
        loaded, state=names.renamed(), findings=tuple(map(names.finding, loaded.findings)), pending=tuple(pending)
    )


@dataclass(frozen=True)
class _Names:
    state: CloudState
    places: Origins

    def of(self, some_id: str) -> str:
        """The name of a group or an ENI. The group of a group's own members keeps what tells them apart."""
        address = shown(self.places.address(some_id))
        is_own = some_id.endswith(standins.OWN_MEMBERS)
        return f"{address}{standins.OWN_MEMBERS}" if address and is_own else address or some_id

    def rule(self, group_id: str, rule_id: str) -> str:
        """The name of a rule. One that stands for something keeps its id."""
        address = shown(self.places.address(group_id, rule_id))
        if not address or address == shown(self.places.address(group_id)):
            return rule_id
        return address + next((mark for mark in standins.MARKS if rule_id.endswith(mark)), "")

    def renamed(self) -> CloudState:
        groups = sorted((self.group(each) for each in self.state.security_groups), key=lambda g: g.security_group_id)
        enis = sorted((self.eni(each) for each in self.state.network_interfaces), key=lambda e: e.network_interface_id)
        return replace(self.state, security_groups=tuple(groups), network_interfaces=tuple(enis))

    def eni(self, eni: Eni) -> Eni:
        groups = tuple(sorted(map(self.of, eni.security_group_ids)))
        name = self.of(eni.network_interface_id)
        return replace(eni, network_interface_id=name, security_group_ids=groups)

    def group(self, group: SecurityGroup) -> SecurityGroup:
        group_id = group.security_group_id
        names = distinct((rule.security_group_rule_id, self.rule(group_id, rule.security_group_rule_id))
                         for rule in group.rules)  # fmt: skip
        rules = sorted((self.renamed_rule(rule, names) for rule in group.rules), key=lambda r: r.security_group_rule_id)
        return replace(group, security_group_id=self.of(group_id), rules=tuple(rules))

    def renamed_rule(self, rule: SecurityGroupRule, names: Mapping[str, str]) -> SecurityGroupRule:
        remote = rule.remote
        if isinstance(remote, GroupRef):
            remote = GroupRef(self.of(remote.security_group_id))
        return replace(rule, security_group_rule_id=names[rule.security_group_rule_id], remote=remote)

    def finding(self, finding: Finding) -> Finding:
        ids = dict(finding.subject)
        group_id, rule_id = ids.get("security_group_id", ""), ids.get("security_group_rule_id", "")
        if rule_id:
            ids["security_group_rule_id"] = self.rule(group_id, rule_id)
        for name in ("security_group_id", "network_interface_id"):
            if name in ids:
                ids[name] = self.of(ids[name])
        return replace(finding, subject=tuple(sorted(ids.items())))


def distinct(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Id -> name, each name once: one resource may make several rules."""
    taken: dict[str, int] = {}
    found: dict[str, str] = {}
    for some_id, name in names:
        taken[name] = taken.get(name, 0) + 1
        found[some_id] = name if taken[name] == 1 else f"{name} #{taken[name]}"
    return found


def shown(address: str) -> str:
    """An address as a name: the author of a plan chooses keys of any characters and length."""
    text = visible(address)
    return text if len(text) <= MAX_ADDRESS else f"{text[: MAX_ADDRESS - 3]}..."
