"""Records checked against each other: what makes CloudState's promise true.

Owns references, and the rules of semantics.md sections 1, 2, 5 and 6 that need more than one record, for groups and
their rules; interfaces.py has those for ENIs. Is given drafts. Must not know formats.
"""

from __future__ import annotations

from sgdataplane.model.state import GroupRef, GroupType, NicType, PrefixListRef, SecurityGroup, SecurityGroupRule
from sgdataplane.net.values import Direction
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.index import Index, check_unique_ids, make_index
from sgdataplane.statefile.interfaces import check_interfaces
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.quotas import check_quotas
from sgdataplane.statefile.sections import Draft, Drafts, GroupDraft, Sections

SIDE = {Direction.INGRESS: "Source", Direction.EGRESS: "Dest"}


def validate(sections: Sections, drafts: Drafts, profile: str, problems: Problems) -> None:
    """Note everything wrong between the records; `profile` names the quotas (quotas.py)."""
    index = make_index(sections, drafts, problems)
    check_unique_ids(sections, problems)
    for group in drafts.security_groups:
        check_group(group, index, problems)
        for rule in group.rules:
            RuleCheck(group, rule, index, problems).run(drafts.unknown_groups)
    check_interfaces(drafts.network_interfaces, index, problems)
    check_quotas(drafts, index, profile, problems)


def check_group(group: GroupDraft, index: Index, problems: Problems) -> None:
    record = group.record
    if record.vpc_id not in index.ids["vpcs"]:
        expected = index.nearest("vpcs", record.vpc_id)
        message = "the group's VPC is not in the state"
        where = group.fields.where("vpc_id")
        problems.add(where, "InvalidVpcId.NotFound", message, value=record.vpc_id, expected=expected)
    elif index.is_classic(record.vpc_id) and record.security_group_type is GroupType.ENTERPRISE:
        code, message = "InvalidOperation.NotSupportEnterpriseGroup", "the classic network has basic groups only"
        where = group.fields.where("security_group_type")
        problems.add(where, code, message, value=record.security_group_type.value, expected="normal")


class RuleCheck:
    """The checks of one rule against the rest of the state."""

    def __init__(self, group: GroupDraft, draft: Draft[SecurityGroupRule], index: Index, problems: Problems) -> None:
        self.group: SecurityGroup = group.record
        self.rule: SecurityGroupRule = draft.record
        self.fields: Fields = draft.fields
        self.index = index
        self.problems = problems

    def run(self, unknown_groups: frozenset[str]) -> None:
        self.check_nic_type()
        self.check_port_list()
        remote = self.rule.remote
        if isinstance(remote, PrefixListRef):
            self.check_prefix_list(remote.prefix_list_id)
        elif isinstance(remote, GroupRef):
            self.check_group_remote(remote.security_group_id, unknown_groups)

    def refuse(self, name: str, code: str, message: str, value: str, expected: str) -> None:
        self.problems.add(self.fields.where(name), code, message, value=value, expected=expected)

    def check_nic_type(self) -> None:
        """VPC rules are always intranet; in the classic network a group as remote is on the internal network."""
        if self.rule.nic_type is NicType.INTRANET:
            return
        if not self.index.is_classic(self.group.vpc_id):
            message = "rules of a VPC are always of nic type intranet"
            self.refuse("nic_type", "InvalidNicType.Mismatch", message, "internet", "intranet")
        elif isinstance(self.rule.remote, GroupRef):
            code = f"Invalid{SIDE[self.rule.direction]}GroupId.Mismatch"
            message = "a rule with a group as remote is of nic type intranet"
            self.refuse("nic_type", code, message, "internet", "intranet")

    def check_port_list(self) -> None:
        list_id = self.rule.port_list_id
        if list_id and list_id not in self.index.ids["port_lists"]:
            expected = self.index.nearest("port_lists", list_id)
            message = "the port list is not in the state"
            self.refuse("port_list_id", "InvalidPortRangeListId.NotFound", message, list_id, expected)

    def check_prefix_list(self, list_id: str) -> None:
        if list_id not in self.index.ids["prefix_lists"]:
            expected = self.index.nearest("prefix_lists", list_id)
            message = "the prefix list is not in the state"
            self.refuse("prefix_list_id", "InvalidPrefixListId.NotFound", message, list_id, expected)
        if self.index.is_classic(self.group.vpc_id):
            code, message = "NotSupported.ClassicNetworkPrefixList", "the classic network has no prefix lists"
            self.refuse("prefix_list_id", code, message, list_id, "a CIDR block or a group")

    def check_group_remote(self, remote_id: str, unknown_groups: frozenset[str]) -> None:
        name = self.remote_name()
        if self.group.security_group_type is GroupType.ENTERPRISE:
            code, message = "InvalidGroupParameter.OperationDenied", "rules of an advanced group can't name a group"
            self.refuse(name, code, message, remote_id, "a CIDR block or a prefix list")
        if remote_id == self.group.security_group_id:
            message = "a group can't name itself as remote"
            self.refuse(name, "InvalidParamter.Conflict", message, remote_id, "another group, or inner_access_policy")
        elif remote_id not in self.index.ids["security_groups"] and remote_id not in unknown_groups:
            code = f"Invalid{SIDE[self.rule.direction]}GroupId.NotFound"
            expected = self.index.nearest("security_groups", remote_id)
            self.refuse(name, code, "the group named as remote is not in the state", remote_id, expected)
        other = self.index.group.get(remote_id)
        if other is not None and other is not self.group:
            self.check_known_remote(name, other)

    def check_known_remote(self, name: str, other: SecurityGroup) -> None:
        other_id = other.security_group_id
        if other.security_group_type is GroupType.ENTERPRISE:
            code, message = "InvalidGroupAuthParameter.OperationDenied", "an advanced group can't be a remote"
            self.refuse(name, code, message, other_id, "a basic group, a CIDR block or a prefix list")
        if other.service_managed and not self.group.service_managed:
            code = "InvalidOperation.ResourceManagedByCloudProduct"
            message = "a group managed by a cloud service can't be the remote of a user's rule"
            self.refuse(name, code, message, other_id, "a group of the user's own")
        if self.index.is_classic(other.vpc_id) is not self.index.is_classic(self.group.vpc_id):
            message = "one group is of the classic network, the other of a VPC"
            self.refuse(name, "InvalidNetworkType.Conflict", message, other_id, "a group of the same network type")

    def remote_name(self) -> str:
        """The field that gave the group: on egress either name may have."""
        if self.rule.direction is Direction.EGRESS and "dest_security_group_id" in self.fields.values:
            return "dest_security_group_id"
        return "source_security_group_id"
