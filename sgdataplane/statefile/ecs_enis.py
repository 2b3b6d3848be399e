"""DescribeNetworkInterfaces, DescribeNetworkInterfaceAttribute and DescribeInstances -> ENIs and instances.

Owns the joining of these answers, and the interfaces of classic instances, which the cloud doesn't list as ENIs.
Is given answers. Must not know what values mean.
"""

from __future__ import annotations

from collections.abc import Iterator

from sgdataplane.statefile import ecs_answers as ecs
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.ecs_names import (
    ALLOWED_PAIRS,
    ENI_LISTS,
    ENI_NAMES,
    INSTANCE_NAMES,
    NIC_TYPE,
    TRACKING,
    TRACKING_NAMES,
)
from sgdataplane.statefile.ecs_translate import Translation, translated
from sgdataplane.statefile.fields import Fields, Place

NAMES = {**ENI_NAMES, "nic_type": NIC_TYPE}
# A classic instance's two interfaces: nic type, where its answer has the address, type.
CLASSIC_INTERFACES = (("intranet", "InnerIpAddress", "primary"), ("internet", "PublicIpAddress", "secondary"))


def add_interfaces(translation: Translation) -> None:
    """All ENIs of the list, with what the answers about single ones add; those that only these tell of, too."""
    single = {answer.item.text("NetworkInterfaceId"): answer.item for answer in translation.answers.of(ecs.INTERFACE)}
    for item in translation.answers.objects(ecs.INTERFACES):
        more = single.pop(item.text("NetworkInterfaceId"), item)
        translation.sections.network_interfaces.append(eni_fields(item, more, translation))
    for item in single.values():
        translation.sections.network_interfaces.append(eni_fields(item, item, translation))


def eni_fields(item: Item, more: Item, translation: Translation) -> Fields:
    values: dict[str, object] = translated(item, NAMES)
    names: dict[str, Place] = {**NAMES, "vpc_id": "VpcId", "instance_id": "InstanceId"}
    values["vpc_id"] = translation.vpc_of(item)
    instance_id = item.get("InstanceId") or item.inner("Attachment").get("InstanceId")
    if instance_id is not None:
        values["instance_id"] = instance_id
    for name, keys in ENI_LISTS.items():
        put_elements(values, names, name, item.elements(*keys, translation.problems))
    put_elements(values, names, "allowed_address_pairs", item.elements(ALLOWED_PAIRS, "", "", translation.problems))
    put_addresses(values, names, item)
    for source in (item, more):
        if source.get(TRACKING) is not None:
            values["connection_tracking"] = (tracking_fields(source.inner(TRACKING)),)
    return Fields(item.file, item.pointer, values, names)


def tracking_fields(item: Item) -> Fields:
    return Fields(item.file, item.pointer, translated(item, TRACKING_NAMES), TRACKING_NAMES)


def put_elements(
    values: dict[str, object], names: dict[str, Place], name: str, elements: list[tuple[str, object]]
) -> None:
    if elements:
        values[name] = [value for _, value in elements]
        names[name] = tuple(path for path, _ in elements)


def put_addresses(values: dict[str, object], names: dict[str, Place], item: Item) -> None:
    """The primary address first: the answer gives it apart too. Older answers give nothing else."""
    primary = item.get("PrivateIpAddress")
    found, paths = values.get("private_ip_addresses", []), names.get("private_ip_addresses", ())
    if primary is None or not isinstance(found, list) or not isinstance(paths, tuple):
        return
    if primary in found:
        first = found.index(primary)
        values["private_ip_addresses"] = [primary, *found[:first], *found[first + 1 :]]
        names["private_ip_addresses"] = (paths[first], *paths[:first], *paths[first + 1 :])
    else:
        values["private_ip_addresses"] = [primary, *found]
        names["private_ip_addresses"] = ("PrivateIpAddress", *paths)


def add_instances(translation: Translation) -> None:
    """The instances listed, and those that ENIs name: DescribeInstances is optional."""
    with_enis = {fields.said("instance_id") for fields in translation.sections.network_interfaces}
    known = {""}
    for item in translation.answers.objects(ecs.INSTANCES):
        known.add(item.text("InstanceId"))
        fields = Fields(item.file, item.pointer, translated(item, INSTANCE_NAMES), INSTANCE_NAMES)
        translation.sections.instances.append(fields)
        if item.text("InstanceId") in with_enis:
            continue
        if item.text("InstanceNetworkType").lower() == "classic":
            translation.sections.network_interfaces += classic_interfaces(item, translation)
        elif not translation.answers.of(ecs.INTERFACES):
            translation.refuse_missing(item.where(), ecs.INTERFACES)
    for fields in translation.sections.network_interfaces:
        instance_id = fields.said("instance_id")
        if instance_id not in known:
            known.add(instance_id)
            implied = Fields(fields.file, fields.pointer, {"instance_id": instance_id}, {"instance_id": "InstanceId"})
            translation.sections.instances.append(implied)


def classic_interfaces(item: Item, translation: Translation) -> Iterator[Fields]:
    """Up to two interfaces with ids made from the instance's, both in the instance's groups."""
    groups = item.elements("SecurityGroupIds", "SecurityGroupId", "", translation.problems)
    for nic_type, key, eni_type in CLASSIC_INTERFACES:
        addresses = item.elements(key, "IpAddress", "", translation.problems)
        if not addresses:
            continue
        values: dict[str, object] = {
            "network_interface_id": f"{item.text('InstanceId')}-{nic_type}",
            "instance_id": item.get("InstanceId"),
            "vpc_id": translation.vpc_of(Item(item.file, item.pointer, {})),
            "type": eni_type,
            "nic_type": nic_type,
        }
        names: dict[str, Place] = {}
        put_elements(values, names, "private_ip_addresses", addresses)
        put_elements(values, names, "security_group_ids", groups)
        yield Fields(item.file, item.pointer, values, names)
