"""Records checked against each other: what makes CloudState's promise true.

Owns unique ids, references, and the rules of semantics.md, sections 1, 2, 5 and 6 that need more than one record, for
groups and their rules; interfaces.py has those for ENIs. Is given drafts. Must not know formats.
"""

from __future__ import annotations

from collections.abc import Iterable

from sgdataplane.model.state import GroupRef, GroupType, NicType, PrefixListRef, SecurityGroup, SecurityGroupRule
from sgdataplane.net.values import Direction
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.interfaces import check_interface, check_together
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.quotas import check_quotas
from sgdataplane.statefile.rules import REMOTE_SIDE
from sgdataplane.statefile.sections import ID_FIELD, Draft, Drafts, GroupDraft, Index, Sections, make_index


def validate(sections: Sections, drafts: Drafts, profile: str, problems: Problems) -> None:
    """Note everything that is wrong between the records; `profile` names the quotas (quotas.py)."""
    index = make_index(sections, drafts, problems)
    for section, name in ID_FIELD.items():
        check_unique(getattr(sections, section), name, index)
    basis = basis_of(index, drafts.unknown_groups)
    for group in sections.memory.find_unchecked(basis, drafts.security_groups):
        check_group(group, index)
        for rule in group.rules:
            RuleCheck(group.record, rule, index).run(drafts.unknown_groups)
    for eni in sections.memory.find_unchecked(basis, drafts.network_interfaces):
        check_interface(eni, index)
    check_together(drafts.network_interfaces, index)
    check_quotas(drafts, index, profile)


def basis_of(index: Index, unknown_groups: frozenset[str]) -> object:
    """Return all that the checks of one record ask about others."""
    ids = {section: ids for section, ids in index.ids.items() if section != "network_interfaces"}
    groups = {
        group_id: (group.vpc_id, group.security_group_type, group.service_managed)
        for group_id, group in index.group.items()
    }
    return ids, index.vpc, groups, unknown_groups


def check_unique(objects: Iterable[Fields], name: str, index: Index) -> None:
    """Refuse the second object of a kind with an id, and say where the first is."""
    first: dict[str, Fields] = {}
    for fields in objects:
        value = fields.values.get(name)
        if not isinstance(value, str):
            continue
        place = first.setdefault(value, fields).where()
        if first[value] is not fields:
            message = f"the id is taken by {place.pointer}" + (f" of {place.file}" if place.file != fields.file else "")
            index.refuse(fields.where(name), "InvalidDocument.DuplicateId", message, value, "an id of its own")


def check_group(group: GroupDraft, index: Index) -> None:
    """Check that a group's VPC exists, and that a classic network has only basic groups."""
    record, fields = group.record, group.fields
    index.check_known(fields.where("vpc_id"), "InvalidVpcId.NotFound", "the group's VPC", "vpcs", record.vpc_id)
    if index.is_classic(record.vpc_id) and record.security_group_type is GroupType.ENTERPRISE:
        code, message = "InvalidOperation.NotSupportEnterpriseGroup", "the classic network has basic groups only"
        index.refuse(fields.where("security_group_type"), code, message, GroupType.ENTERPRISE.value, "normal")


class RuleCheck:
    """The checks of one rule against the rest of the state."""

    def __init__(self, group: SecurityGroup, draft: Draft[SecurityGroupRule], index: Index) -> None:
        self.group = group
        self.rule = draft.record
        self.fields = draft.fields
        self.index = index
        self.is_classic = index.is_classic(group.vpc_id)
        self.side = REMOTE_SIDE[self.rule.direction]

    def run(self, unknown_groups: frozenset[str]) -> None:
        """Check the rule; `unknown_groups` are those of which the state has only the id."""
        self.check_nic_type()
        if self.rule.port_list_id:
            where, code = self.fields.where("port_list_id"), "InvalidPortRangeListId.NotFound"
            self.index.check_known(where, code, "the port list", "port_lists", self.rule.port_list_id)
        remote = self.rule.remote
        if isinstance(remote, PrefixListRef):
            self.check_prefix_list(remote.prefix_list_id)
        elif isinstance(remote, GroupRef):
            self.check_group_remote(remote.security_group_id, unknown_groups)

    def refuse(self, name: str, code: str, message: str, value: str, expected: str) -> None:
        """Note a problem with a field of the rule."""
        self.index.refuse(self.fields.where(name), code, message, value, expected)

    def check_nic_type(self) -> None:
        """Check the NIC type: in a VPC it is always intranet, and with a group as remote, too.

        In the classic network, a group as remote is on the internal network.
        """
        if self.rule.nic_type is NicType.INTRANET:
            return
        if not self.is_classic:
            message = "rules of a VPC are always of nic type intranet"
            self.refuse("nic_type", "InvalidNicType.Mismatch", message, "internet", "intranet")
        elif isinstance(self.rule.remote, GroupRef):
            side, message = self.side, "a rule with a group as remote is of nic type intranet"
            self.refuse("nic_type", f"Invalid{side}GroupId.Mismatch", message, "internet", "intranet")

    def check_prefix_list(self, list_id: str) -> None:
        """Check that the prefix list exists, and that the rule isn't in a classic network."""
        where, code = self.fields.where("prefix_list_id"), "InvalidPrefixListId.NotFound"
        self.index.check_known(where, code, "the prefix list", "prefix_lists", list_id)
        if self.is_classic:
            code, message = "NotSupported.ClassicNetworkPrefixList", "the classic network has no prefix lists"
            self.refuse("prefix_list_id", code, message, list_id, "a CIDR block or a group")

    def check_group_remote(self, remote_id: str, unknown_groups: frozenset[str]) -> None:
        """Check that a rule may have this group as remote."""
        name, side = self.remote_name(), self.side
        if self.group.security_group_type is GroupType.ENTERPRISE:
            code, message = "InvalidGroupParameter.OperationDenied", "rules of an advanced group can't name a group"
            self.refuse(name, code, message, remote_id, "a CIDR block or a prefix list")
        if remote_id == self.group.security_group_id:
            message = "a group can't name itself as remote"
            self.refuse(name, "InvalidParamter.Conflict", message, remote_id, "another group, or inner_access_policy")
        elif remote_id not in unknown_groups:
            where, code = self.fields.where(name), f"Invalid{side}GroupId.NotFound"
            self.index.check_known(where, code, "the group named as remote", "security_groups", remote_id)
        other = self.index.group.get(remote_id)
        if other is not None and other is not self.group:
            self.check_known_remote(name, other)

    def check_known_remote(self, name: str, other: SecurityGroup) -> None:
        """Check what a rule needs of the group that it names: its type, its owner and its network."""
        other_id = other.security_group_id
        if other.security_group_type is GroupType.ENTERPRISE:
            code, message = "InvalidGroupAuthParameter.OperationDenied", "an advanced group can't be a remote"
            self.refuse(name, code, message, other_id, "a basic group, a CIDR block or a prefix list")
        if other.service_managed and not self.group.service_managed:
            code = "InvalidOperation.ResourceManagedByCloudProduct"
            message = "a group managed by a cloud service can't be the remote of a user's rule"
            self.refuse(name, code, message, other_id, "a group of the user's own")
        if self.index.is_classic(other.vpc_id) is not self.is_classic:
            message = "one group is in the classic network, the other in a VPC"
            self.refuse(name, "InvalidNetworkType.Conflict", message, other_id, "a group of the same network type")

    def remote_name(self) -> str:
        """Return the field that named the group: an egress rule may use either."""
        if self.rule.direction is Direction.EGRESS and "dest_security_group_id" in self.fields.values:
            return "dest_security_group_id"
        return "source_security_group_id"
