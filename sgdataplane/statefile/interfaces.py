"""ENIs checked against the rest of the state: references, their groups, their instances, their addresses.

Owns the rules of semantics.md section 1 about ENIs. Is given drafts. Must not know formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sgdataplane.model.state import Eni, EniType, NicType
from sgdataplane.net.values import Prefix
from sgdataplane.statefile.addresses import check_overlaps
from sgdataplane.statefile.index import Index
from sgdataplane.statefile.problems import Problems
from sgdataplane.statefile.sections import Draft

EniDraft = Draft[Eni]


def check_interfaces(enis: Iterable[EniDraft], index: Index, problems: Problems) -> None:
    enis = tuple(enis)
    for draft in enis:
        check_references(draft, index, problems)
        check_groups(draft, index, problems)
        check_nic_type(draft, index, problems)
        check_within_vpc(draft, index, problems)
    check_macs(enis, problems)
    check_instances(enis, index, problems)
    check_overlaps(enis, problems)


def check_references(draft: EniDraft, index: Index, problems: Problems) -> None:
    eni = draft.record
    if eni.vpc_id not in index.ids["vpcs"]:
        where, expected = draft.fields.where("vpc_id"), index.nearest("vpcs", eni.vpc_id)
        message = "the ENI's VPC is not in the state"
        problems.add(where, "InvalidVpcId.NotFound", message, value=eni.vpc_id, expected=expected)
    if eni.instance_id and eni.instance_id not in index.ids["instances"]:
        where, expected = draft.fields.where("instance_id"), index.nearest("instances", eni.instance_id)
        message = "the ENI's instance is not in the state"
        problems.add(where, "InvalidInstanceId.NotFound", message, value=eni.instance_id, expected=expected)
    for group_id in eni.security_group_ids:
        if group_id not in index.ids["security_groups"]:
            where = draft.fields.where_is("security_group_ids", group_id)
            expected = index.nearest("security_groups", group_id)
            message = "the security group is not in the state"
            problems.add(where, "InvalidSecurityGroupId.NotFound", message, value=group_id, expected=expected)


def check_groups(draft: EniDraft, index: Index, problems: Problems) -> None:
    """All groups of an ENI are of its VPC and of one type."""
    eni = draft.record
    groups = [index.group[group_id] for group_id in eni.security_group_ids if group_id in index.group]
    for group in groups:
        if group.vpc_id != eni.vpc_id:
            value = group.security_group_id
            where = draft.fields.where_is("security_group_ids", value)
            message = f"the group is of {group.vpc_id}, the ENI of {eni.vpc_id}"
            expected = "groups of the ENI's own VPC"
            problems.add(where, "InvalidOperation.VpcMismatch", message, value=value, expected=expected)
    if len({group.security_group_type for group in groups}) > 1:
        kinds = ", ".join(f"{group.security_group_id} is {group.security_group_type.value}" for group in groups)
        where, expected = draft.fields.where("security_group_ids"), "groups of one type"
        message = "basic and advanced groups can't be together on one ENI"
        problems.add(where, "InvalidOperation.MultiGroupType", message, value=kinds, expected=expected)


def check_nic_type(draft: EniDraft, index: Index, problems: Problems) -> None:
    eni = draft.record
    if eni.nic_type is NicType.INTERNET and eni.vpc_id in index.vpc and not index.is_classic(eni.vpc_id):
        where, message = draft.fields.where("nic_type"), "ENIs of a VPC are always of nic type intranet"
        problems.add(where, "InvalidNicType.Mismatch", message, value="internet", expected="intranet")


def check_within_vpc(draft: EniDraft, index: Index, problems: Problems) -> None:
    """Addresses are within the VPC's blocks, in the families whose blocks are known; a classic network has none."""
    eni = draft.record
    vpc = index.vpc.get(eni.vpc_id)
    if vpc is None or index.is_classic(vpc.vpc_id):
        return
    for name, prefix, text in own_prefixes(eni):
        blocks = [block for block in vpc.cidr_blocks if block.family is prefix.family]
        if blocks and not any(block.first <= prefix.first and prefix.last <= block.last for block in blocks):
            expected = "within " + " ".join(map(str, blocks))
            message = f"{text} is outside the blocks of {vpc.vpc_id}"
            where = draft.fields.where_is(name, text)
            problems.add(where, "InvalidIp.OutOfVpc", message, value=text, expected=expected)


def own_prefixes(eni: Eni) -> Iterator[tuple[str, Prefix, str]]:
    """(field, block, its text) of every address and delegated prefix."""
    for address in eni.private_ip_addresses:
        yield "private_ip_addresses", Prefix.of(address), str(address)
    for address in eni.ipv6_addresses:
        yield "ipv6_addresses", Prefix.of(address), str(address)
    for prefix in eni.ipv4_prefixes:
        yield "ipv4_prefixes", prefix, str(prefix)
    for prefix in eni.ipv6_prefixes:
        yield "ipv6_prefixes", prefix, str(prefix)


def check_macs(enis: Iterable[EniDraft], problems: Problems) -> None:
    """No MAC twice in one VPC: anti-spoofing could not tell the two apart."""
    first: dict[tuple[str, str], str] = {}
    for draft in enis:
        eni = draft.record
        holder = first.setdefault((eni.vpc_id, eni.mac_address), eni.network_interface_id)
        if eni.mac_address and holder != eni.network_interface_id:
            where, expected = draft.fields.where("mac_address"), "a MAC of its own, or none: one is made"
            message = f"the MAC is taken by {holder}"
            problems.add(where, "InvalidMacAddress.Duplicate", message, value=eni.mac_address, expected=expected)


def check_instances(enis: Iterable[EniDraft], index: Index, problems: Problems) -> None:
    """A VPC instance has one primary ENI; a classic one at most one ENI of each nic type."""
    of_instance: dict[str, list[EniDraft]] = {}
    for draft in enis:
        if draft.record.instance_id:
            of_instance.setdefault(draft.record.instance_id, []).append(draft)
    for instance_id, drafts in of_instance.items():
        check_one_vpc(instance_id, drafts, problems)
        if index.is_classic(drafts[0].record.vpc_id):
            check_classic_instance(instance_id, drafts, problems)
        else:
            check_primary(instance_id, drafts, problems)


def check_one_vpc(instance_id: str, drafts: list[EniDraft], problems: Problems) -> None:
    """All ENIs of an instance lie in one VPC: they share a namespace, and a group means the members of one VPC."""
    vpc_id = drafts[0].record.vpc_id
    for draft in drafts[1:]:
        if draft.record.vpc_id != vpc_id:
            where, value = draft.fields.where("vpc_id"), draft.record.vpc_id
            message = f"{instance_id} has an ENI of another VPC already"
            problems.add(where, "InvalidVpcId.Mismatch", message, value=value, expected=vpc_id)


def check_classic_instance(instance_id: str, drafts: list[EniDraft], problems: Problems) -> None:
    seen: set[NicType] = set()
    for draft in drafts:
        nic_type = draft.record.nic_type
        if nic_type in seen:
            where, message = draft.fields.where("nic_type"), f"{instance_id} has an ENI of that nic type already"
            expected = "one intranet and one internet ENI"
            problems.add(where, "InvalidNicType.Duplicate", message, value=nic_type.value, expected=expected)
        seen.add(nic_type)


def check_primary(instance_id: str, drafts: list[EniDraft], problems: Problems) -> None:
    primaries = [draft for draft in drafts if draft.record.type is EniType.PRIMARY]
    expected = "one ENI of type primary, the others secondary"
    if not primaries:
        message = f"{instance_id} has no primary ENI"
        problems.add(drafts[0].fields.where("type"), "InvalidOperation.InvalidEniType", message, expected=expected)
    for draft in primaries[1:]:
        where, value = draft.fields.where("type"), "primary"
        message = f"{instance_id} has a primary ENI already: {primaries[0].record.network_interface_id}"
        problems.add(where, "InvalidOperation.InvalidEniType", message, value=value, expected=expected)
