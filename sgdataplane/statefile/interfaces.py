"""ENIs checked against the rest of the state: references, groups, instances, MACs and addresses.

Owns the rules of semantics.md, section 1 about ENIs. Is given drafts. Must not know formats.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sgdataplane.errors import Problem, StateFileError, Where
from sgdataplane.model.state import CloudState, Eni, EniType, NicType
from sgdataplane.net.values import Address, Prefix
from sgdataplane.statefile.sections import Draft, Index

EniDraft = Draft[Eni]


def check_interface(draft: EniDraft, index: Index) -> None:
    """Check what one ENI needs of other kinds of records."""
    check_references(draft, index)
    check_groups(draft, index)
    check_nic_type(draft, index)
    check_within_vpc(draft, index)


def check_together(enis: Sequence[EniDraft], index: Index) -> None:
    """Check what ENIs need of each other."""
    check_macs(enis, index)
    check_instances(enis, index)
    check_overlaps(enis, index)


def check_references(draft: EniDraft, index: Index) -> None:
    """Check that the ENI's VPC, instance and groups exist."""
    eni, fields = draft.record, draft.fields
    index.check_known(fields.where("vpc_id"), "InvalidVpcId.NotFound", "the ENI's VPC", "vpcs", eni.vpc_id)
    if eni.instance_id:
        where, code = fields.where("instance_id"), "InvalidInstanceId.NotFound"
        index.check_known(where, code, "the ENI's instance", "instances", eni.instance_id)
    for group_id in eni.security_group_ids:
        where, code = fields.find_element("security_group_ids", group_id), "InvalidSecurityGroupId.NotFound"
        index.check_known(where, code, "the security group", "security_groups", group_id)


def check_groups(draft: EniDraft, index: Index) -> None:
    """Check that all groups of an ENI are in its VPC and of one type."""
    eni, fields = draft.record, draft.fields
    groups = [index.group[group_id] for group_id in eni.security_group_ids if group_id in index.group]
    for group in groups:
        if group.vpc_id != eni.vpc_id:
            value, expected = group.security_group_id, "groups of the ENI's own VPC"
            where = fields.find_element("security_group_ids", value)
            message = f"the group is in {group.vpc_id}, but the ENI is in {eni.vpc_id}"
            index.refuse(where, "InvalidOperation.VpcMismatch", message, value, expected)
    if len({group.security_group_type for group in groups}) > 1:
        kinds = ", ".join(f"{group.security_group_id} is {group.security_group_type.value}" for group in groups)
        where, message = fields.where("security_group_ids"), "an ENI can't have basic and advanced groups together"
        index.refuse(where, "InvalidOperation.MultiGroupType", message, kinds, "groups of one type")


def check_nic_type(draft: EniDraft, index: Index) -> None:
    """Check that only ENIs of a classic network are of NIC type `internet`."""
    eni = draft.record
    if eni.nic_type is NicType.INTERNET and eni.vpc_id in index.vpc and not index.is_classic(eni.vpc_id):
        where, message = draft.fields.where("nic_type"), "ENIs of a VPC are always of nic type intranet"
        index.refuse(where, "InvalidNicType.Mismatch", message, "internet", "intranet")


def check_within_vpc(draft: EniDraft, index: Index) -> None:
    """Check that addresses are within the VPC's blocks, in the families whose blocks are known.

    A classic network has no blocks.
    """
    eni = draft.record
    vpc = index.vpc.get(eni.vpc_id)
    if vpc is None or index.is_classic(vpc.vpc_id):
        return
    for name, prefix, text in own_prefixes(eni):
        blocks = [block for block in vpc.cidr_blocks if block.family is prefix.family]
        if blocks and not any(block.first <= prefix.first and prefix.last <= block.last for block in blocks):
            where, message = draft.fields.find_element(name, text), f"{text} is outside the blocks of {vpc.vpc_id}"
            index.refuse(where, "InvalidIp.OutOfVpc", message, text, "within " + " ".join(map(str, blocks)))


def require_whole(state: CloudState) -> None:
    """Refuse a state that knows ENIs only as members of groups, as one host's part does.

    A reader that took it for the whole state would make ENIs of these.

    Raises:
        StateFileError: names every such ENI.
    """
    message, expected = "the state has only a part of this ENI", "the whole state, not what one host gets of it"
    problems = (
        Problem(Where(), "InvalidState.MemberOnly", message, eni.network_interface_id, expected)
        for eni in state.network_interfaces
        if eni.member_only
    )
    if found := tuple(problems):
        raise StateFileError(found)


def own_prefixes(eni: Eni) -> Iterator[tuple[str, Prefix, str]]:
    """Yield every address and delegated prefix with its field: (field, block, its text)."""
    for name in ("private_ip_addresses", "ipv6_addresses", "ipv4_prefixes", "ipv6_prefixes"):
        values: tuple[Address | Prefix, ...] = getattr(eni, name)
        for value in values:
            yield name, Prefix.of(value) if isinstance(value, Address) else value, str(value)


def check_macs(enis: Iterable[EniDraft], index: Index) -> None:
    """Check that no MAC is in one VPC twice: anti-spoofing couldn't tell the two ENIs apart."""
    first: dict[tuple[str, str], str] = {}
    for draft in enis:
        eni = draft.record
        holder = first.setdefault((eni.vpc_id, eni.mac_address), eni.network_interface_id)
        if eni.mac_address and holder != eni.network_interface_id:
            where, expected = draft.fields.where("mac_address"), "a MAC of its own, or none: one is made"
            message = f"the MAC is taken by {holder}"
            index.refuse(where, "InvalidMacAddress.Duplicate", message, eni.mac_address, expected)


def check_instances(enis: Iterable[EniDraft], index: Index) -> None:
    """Check that a VPC instance has one primary ENI, and a classic one at most one ENI of each NIC type."""
    of_instance: dict[str, list[EniDraft]] = defaultdict(list)
    for draft in enis:
        if draft.record.instance_id:
            of_instance[draft.record.instance_id].append(draft)
    for instance_id, drafts in of_instance.items():
        check_one_vpc(instance_id, drafts, index)
        if index.is_classic(drafts[0].record.vpc_id):
            check_classic_instance(instance_id, drafts, index)
        else:
            check_primary(instance_id, drafts, index)


def check_one_vpc(instance_id: str, drafts: list[EniDraft], index: Index) -> None:
    """Check that all ENIs of an instance are in one VPC.

    They share a namespace, and a group means the members of one VPC.
    """
    vpc_id = drafts[0].record.vpc_id
    for draft in drafts[1:]:
        if draft.record.vpc_id != vpc_id:
            where, message = draft.fields.where("vpc_id"), f"{instance_id} has an ENI of another VPC already"
            index.refuse(where, "InvalidVpcId.Mismatch", message, draft.record.vpc_id, vpc_id)


def check_classic_instance(instance_id: str, drafts: list[EniDraft], index: Index) -> None:
    """Check that a classic instance has at most one ENI of each NIC type."""
    seen: set[NicType] = set()
    for draft in drafts:
        nic_type = draft.record.nic_type
        if nic_type in seen:
            where, message = draft.fields.where("nic_type"), f"{instance_id} has an ENI of that nic type already"
            expected = "one intranet and one internet ENI"
            index.refuse(where, "InvalidNicType.Duplicate", message, nic_type.value, expected)
        seen.add(nic_type)


def check_primary(instance_id: str, drafts: list[EniDraft], index: Index) -> None:
    """Check that a VPC instance has exactly one primary ENI."""
    primaries = [draft for draft in drafts if draft.record.type is EniType.PRIMARY]
    code, expected = "InvalidOperation.InvalidEniType", "one ENI of type primary, the others secondary"
    if not primaries:
        index.refuse(drafts[0].fields.where("type"), code, f"{instance_id} has no primary ENI", "", expected)
    for draft in primaries[1:]:
        message = f"{instance_id} has a primary ENI already: {primaries[0].record.network_interface_id}"
        index.refuse(draft.fields.where("type"), code, message, "primary", expected)


@dataclass(frozen=True, slots=True)
class OwnedRange:
    """An address or delegated prefix of an ENI, and the field that gives it."""

    prefix: Prefix
    name: str
    """The name of the field."""
    text: str
    """The address or prefix as it is written."""
    draft: EniDraft
    """The ENI."""


def check_overlaps(enis: Iterable[EniDraft], index: Index) -> None:
    """Refuse every address and prefix that lies in another one of the same VPC and family.

    No address may belong to two ENIs of one VPC.
    """
    by_space: dict[tuple[str, int], list[OwnedRange]] = defaultdict(list)
    for draft in enis:
        for name, prefix, text in own_prefixes(draft.record):
            by_space[draft.record.vpc_id, prefix.family_bits].append(OwnedRange(prefix, name, text, draft))
    for owned in by_space.values():
        sweep(sorted(owned, key=lambda one: (one.prefix.first, -one.prefix.last)), index)


def sweep(owned: list[OwnedRange], index: Index) -> None:
    """Refuse overlaps in blocks that are sorted by their first address, larger ones first.

    Blocks nest or are disjoint, so only the one that reaches furthest so far can overlap the next.
    """
    furthest: OwnedRange | None = None
    for one in owned:
        if furthest is not None and one.prefix.first <= furthest.prefix.last:
            refuse_overlap(one, furthest, index)
        if furthest is None or one.prefix.last > furthest.prefix.last:
            furthest = one


def refuse_overlap(one: OwnedRange, other: OwnedRange, index: Index) -> None:
    """Refuse an overlap, unless an ENI has an address inside its own delegated prefix."""
    is_same_eni = one.draft is other.draft
    if is_same_eni and one.prefix != other.prefix:
        return
    owner = "the ENI itself" if is_same_eni else other.draft.record.network_interface_id
    where, message = one.draft.fields.find_element(one.name, one.text), f"{one.text} is taken by {owner} ({other.text})"
    index.refuse(where, "InvalidIp.IpAssigned", message, one.text, "an address of its own in the VPC")
