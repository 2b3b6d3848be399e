"""ENIs in the cloud's answers: read into sections, and written from native fields.

Owns their keys' places in an answer, in both directions. Must not know files or documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from sgdataplane.model.modes import Mode, mode_of_tags, unreadable_tags
from sgdataplane.model.state import ConnectionTracking
from sgdataplane.policy.findings import Finding, Severity, subject
from sgdataplane.statefile import ecs_answers as calls
from sgdataplane.statefile import ecs_names
from sgdataplane.statefile.dump_native import Plain
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.ecs_translation import (
    AnswerFields,
    Names,
    Translation,
    Values,
    put_elements,
    tags,
    translate,
    translate_values,
)
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.native_objects import NativeEni

ENI_LISTS = {**ecs_names.ENI_LISTS, "allowed_address_pairs": (ecs_names.ALLOWED_PAIRS, "", "")}
NOTHING: Mapping[str, str] = {}
DEFAULT_TIMES = {name: getattr(ConnectionTracking(), name) for name in ecs_names.TRACKING_NAMES}


def add_interfaces(translation: Translation) -> None:
    """Add every ENI of the list, and those that only the answers about single ENIs have.

    The answers about single ENIs add to what the list says.
    """
    single = {answer.item.text("NetworkInterfaceId"): answer.item for answer in translation.answers.of(calls.INTERFACE)}
    for item in translation.answers.objects(calls.INTERFACES):
        more = single.pop(item.text("NetworkInterfaceId"), item)
        translation.sections.network_interfaces.append(eni_fields(item, more, translation))
    for item in single.values():
        translation.sections.network_interfaces.append(eni_fields(item, item, translation))


def eni_fields(item: Item, more: Item, translation: Translation) -> Fields:
    """Return an ENI, from its item in the list and the answer about it alone (`more`)."""
    values = translate_values(item, ecs_names.ENI)
    names: Names = {**ecs_names.ENI, "vpc_id": "VpcId", "instance_id": "InstanceId"}
    values["vpc_id"] = translation.vpc_of(item)
    instance_id = item.get("InstanceId") or item.inner("Attachment").get("InstanceId")
    if instance_id is not None:
        values["instance_id"] = instance_id
    for name, keys in ENI_LISTS.items():
        elements = item.elements(*keys)
        if name == "private_ip_addresses":
            elements = with_primary(item, elements)
        if elements:
            put_elements(values, names, name, elements)
    for source in (item, more):
        if source.get(ecs_names.TRACKING) is not None:
            values["connection_tracking"] = (translate(source.inner(ecs_names.TRACKING), ecs_names.TRACKING_NAMES),)
    add_mode(tags(item), values, translation.answers.findings)
    return item.fields(values, names)


def add_mode(found: Mapping[str, object], values: Values, findings: list[Finding]) -> None:
    """Add an ENI's mode, which its tags say.

    Tags may hold anything, so a tag that can't be read isn't refused: the ENI is in mode enforce, and a finding says
    why.
    """
    texts = {key: value for key, value in found.items() if isinstance(value, str)}
    mode, until = mode_of_tags(texts)
    if mode is not Mode.ENFORCE:
        values |= {"mode": mode.value} | ({"audit_until": until} if until else {})
    about = subject(network_interface_id=str(values.get("network_interface_id", "")))
    for tag in unreadable_tags(texts):
        message = f"tag {tag} can't be read, so the ENI is in mode enforce: {texts[tag]}"
        findings.append(Finding("UnreadableMode", Severity.WARNING, message, about))


def with_primary(item: Item, elements: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """Return the elements with the primary address first.

    The answer also gives this address apart from the others. Older answers give nothing else.
    """
    primary = item.get("PrivateIpAddress")
    if primary is None:
        return elements
    first = next((element for element in elements if element[1] == primary), ("PrivateIpAddress", primary))
    return [first, *(element for element in elements if element is not first)]


def eni_item(state: NativeEni, vpc_id: str, attached: Mapping[str, Plain] = NOTHING) -> AnswerFields:
    """Return an ENI under the cloud's keys; `vpc_id` is what the cloud shows, "" in the classic network.

    `attached` is what else is known of its attachment to an instance.
    """
    instance_id, addresses = state.get("instance_id", ""), state.get("private_ip_addresses", [])
    item: AnswerFields = {
        "NetworkInterfaceId": state["network_interface_id"],
        "Type": str(state.get("type", "primary")).capitalize(),
        "Status": "InUse" if instance_id else "Available",
        "InstanceId": instance_id,
        "VpcId": vpc_id,
        "MacAddress": state.get("mac_address", ""),
        "PrivateIpAddress": addresses[0],
        "Attachment": {"InstanceId": instance_id, **attached} if instance_id else {},
    }
    for name, (outer, inner, key) in ecs_names.ENI_LISTS.items():
        item[outer] = {inner: [{key: value} if key else value for value in _texts(state, name)]}
    item["PrivateIpSets"] = {"PrivateIpSet": private_ips(addresses)}
    return item


def tracking_item(state: NativeEni) -> AnswerFields:
    """Return an ENI's idle timeouts under the cloud's keys, with the defaults of those that it doesn't set."""
    times = state.get("connection_tracking", {})
    return {key: times.get(name, DEFAULT_TIMES[name]) for name, key in ecs_names.TRACKING_NAMES.items()}


def private_ips(addresses: Sequence[str]) -> list[AnswerFields]:
    """Return an ENI's private addresses under the cloud's keys; the first is the primary one."""
    return [{"PrivateIpAddress": one, "Primary": not at, "AssociatedPublicIp": {}} for at, one in enumerate(addresses)]


def _texts(fields: Mapping[str, object], name: str) -> list[str]:
    return cast("list[str]", fields.get(name, []))
