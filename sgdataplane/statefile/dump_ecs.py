"""CloudState -> the cloud's own answers (state-format.md, section B), a file for each, as its command line prints them.

Owns the answers' shape. Is given a checked state; the same state gives the same bytes, and reading them gives an equal
state. Keys that begin with `Sgdp` have what the cloud's answers have no key for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from sgdataplane.model.modes import MODE_TAG, UNTIL_TAG
from sgdataplane.model.state import (
    CloudState,
    ConnectionTracking,
    Eni,
    Instance,
    NetworkType,
    NicType,
    PortList,
    PrefixList,
    SecurityGroup,
    Vpc,
)
from sgdataplane.statefile import ecs_answers as calls
from sgdataplane.statefile import ecs_enis, ecs_groups, ecs_instances, ecs_lists, ecs_translation, ecs_vpcs
from sgdataplane.statefile import ecs_names as names_of
from sgdataplane.statefile.dump_native import group_fields, plain_fields, rule_with_id
from sgdataplane.statefile.interfaces import require_whole
from sgdataplane.statefile.keys import KEYS
from sgdataplane.statefile.native_objects import (
    NativeEni,
    NativeGroup,
    NativeInstance,
    NativePortList,
    NativePrefixList,
)
from sgdataplane.visible import json_text

PAGE_SIZE = 500  # the cloud's largest page of ENIs; it keeps each file of a large state small enough to look at
REQUEST = {"RequestId": "00000000-0000-0000-0000-000000000000"}


def dump_ecs(state: CloudState) -> dict[str, str]:
    """Return the text of every answer, by its file's name.

    Raises:
        StateFileError: the state has ENIs only as members of groups; the cloud has no such ENIs.
    """
    require_whole(state)
    return {f"{name}.json": json_text(answer, indent=1) + "\n" for name, answer in answers(state)}


def answers(state: CloudState) -> Iterator[tuple[str, object]]:
    """Yield each answer with its file's name without suffix, page by page."""
    classic = {vpc.vpc_id for vpc in state.vpcs if vpc.network_type is NetworkType.CLASSIC}
    yield from pages(calls.VPCS, [vpc_item(vpc) for vpc in state.vpcs])
    yield from pages(calls.SECURITY_GROUPS, [group_item(group, classic) for group in state.security_groups])
    for group in state.security_groups:
        yield f"{calls.SECURITY_GROUP}-{group.security_group_id}", group_answer(group, classic)
    yield from pages(calls.INTERFACES, [eni_item(eni, classic) for eni in state.network_interfaces])
    classic_instances = {eni.instance_id for eni in state.network_interfaces if eni.vpc_id in classic}
    yield from pages(calls.INSTANCES, [instance_item(entry, classic_instances) for entry in state.instances])
    for prefix_list in state.prefix_lists:
        yield f"{calls.PREFIX_LIST}-{prefix_list.prefix_list_id}", prefix_list_answer(prefix_list)
    if state.port_lists:
        items = [ecs_lists.list_head(port_list_fields(entry), names_of.PORT_LIST) for entry in state.port_lists]
        yield calls.PORT_LISTS, {**REQUEST, "NextToken": "", "PortRangeLists": items}
    for port_list in state.port_lists:
        yield f"{calls.PORT_LIST}-{port_list.port_list_id}", port_entries_answer(port_list)


def pages(call: str, items: Sequence[object]) -> Iterator[tuple[str, object]]:
    """Yield the pages of a call's answer: at least one, because an empty page says that there is nothing."""
    outer, inner = calls.NESTING[call]
    for number, start in enumerate(range(0, max(1, len(items)), PAGE_SIZE), 1):
        page = {
            **REQUEST,
            "TotalCount": len(items),
            "PageNumber": number,
            "PageSize": PAGE_SIZE,
            "NextToken": "",
            outer: {inner: items[start : start + PAGE_SIZE]},
        }
        yield (call if len(items) <= PAGE_SIZE else f"{call}-{number:04d}"), page


def vpc_item(vpc: Vpc) -> ecs_translation.AnswerFields:
    """Return a VPC as the cloud lists it."""
    item = {"VpcId": vpc.vpc_id, **ecs_vpcs.vpc_blocks([str(block) for block in vpc.cidr_blocks])}
    return {**item, names_of.NETWORK_TYPE: vpc.network_type.value} if vpc.network_type is NetworkType.CLASSIC else item


def vpc_name(vpc_id: str, classic: set[str]) -> str:
    """Return a VPC's id as the cloud gives it: "" for the classic network, which is no VPC there."""
    return "" if vpc_id == names_of.CLASSIC_VPC and vpc_id in classic else vpc_id


def group_item(group: SecurityGroup, classic: set[str]) -> ecs_translation.AnswerFields:
    """Return a group as the cloud lists it."""
    item = ecs_groups.group_item(cast(NativeGroup, group_fields(group)), vpc_name(group.vpc_id, classic))
    return {**item, "Tags": {"Tag": ecs_translation.tag_items(group.tags)}}


def group_answer(group: SecurityGroup, classic: set[str]) -> dict[str, object]:
    """Return the answer about one group, with its rules."""
    return {
        **REQUEST,
        **ecs_groups.group_head(cast(NativeGroup, group_fields(group)), vpc_name(group.vpc_id, classic)),
        "InnerAccessPolicy": group.inner_access_policy.value.capitalize(),
        "NextToken": "",
        "Permissions": {"Permission": [ecs_groups.permission(rule_with_id(rule)) for rule in group.rules]},
    }


def eni_item(eni: Eni, classic: set[str]) -> ecs_translation.AnswerFields:
    """Return an ENI as the cloud lists it."""
    fields = cast(NativeEni, plain_fields(eni, KEYS["network_interfaces"]))
    return ecs_enis.eni_item(fields, vpc_name(eni.vpc_id, classic)) | extras(eni)


def extras(eni: Eni) -> ecs_translation.AnswerFields:
    """Return what only some ENIs have: session timeouts of their own, and what the cloud has no key for."""
    found: ecs_translation.AnswerFields = {}
    if eni.connection_tracking != ConnectionTracking():
        times = cast(NativeEni, plain_fields(eni, ("connection_tracking",)))
        found[names_of.TRACKING] = ecs_enis.tracking_item(times)
    if eni.allowed_address_pairs:
        found[names_of.ALLOWED_PAIRS] = [str(prefix) for prefix in eni.allowed_address_pairs]
    if eni.nic_type is NicType.INTERNET:
        found[names_of.NIC_TYPE] = eni.nic_type.value
    if eni.is_audited:
        tags = {MODE_TAG: eni.mode.value} | ({UNTIL_TAG: eni.audit_until} if eni.audit_until else {})
        found["Tags"] = {"Tag": ecs_translation.tag_items(tags.items())}
    return found


def instance_item(instance: Instance, classic: set[str]) -> ecs_translation.AnswerFields:
    """Return an instance as the cloud lists it."""
    fields: NativeInstance = {"instance_id": instance.instance_id, "instance_name": instance.instance_name}
    return ecs_instances.instance_item(fields, is_classic=instance.instance_id in classic)


def prefix_list_answer(entry: PrefixList) -> dict[str, object]:
    """Return the answer about one prefix list, with its entries."""
    fields = cast(NativePrefixList, plain_fields(entry, KEYS["prefix_lists"]))
    entries = ecs_lists.list_entries(fields, names_of.PREFIX_ENTRY)
    return {**REQUEST, **ecs_lists.list_head(fields, names_of.PREFIX_LIST), "Entries": {"Entry": entries}}


def port_list_fields(entry: PortList) -> NativePortList:
    """Return a port list under native names."""
    return cast(NativePortList, plain_fields(entry, KEYS["port_lists"]))


def port_entries_answer(entry: PortList) -> dict[str, object]:
    """Return the answer with a port list's entries.

    The cloud leaves the list's id out. It is written here, so that the file's name needn't say it.
    """
    entries = ecs_lists.list_entries(port_list_fields(entry), names_of.PORT_ENTRY)
    return {**REQUEST, "PortRangeListId": entry.port_list_id, "Entries": entries}
