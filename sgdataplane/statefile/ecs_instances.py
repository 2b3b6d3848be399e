"""Instances in the cloud's answers: read into sections, and written from native fields.

Owns their keys' places in an answer, in both directions; and the interfaces of classic instances, which the cloud
doesn't list as ENIs. Must not know files or documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sgdataplane.statefile import ecs_answers as calls
from sgdataplane.statefile import ecs_names
from sgdataplane.statefile.ecs_answers import Item
from sgdataplane.statefile.ecs_translation import AnswerFields, Names, Translation, Values, put_elements, translate
from sgdataplane.statefile.fields import Fields
from sgdataplane.statefile.native_objects import NativeInstance

# A classic instance's two interfaces: nic type, where its answer has the address, type.
CLASSIC_INTERFACES = (("intranet", "InnerIpAddress", "primary"), ("internet", "PublicIpAddress", "secondary"))


def add_instances(translation: Translation) -> None:
    """Add the instances listed, and those that only ENIs name, because DescribeInstances is optional."""
    with_enis = {fields.text_of("instance_id") for fields in translation.sections.network_interfaces}
    known = {""}
    for item in translation.answers.objects(calls.INSTANCES):
        known.add(item.text("InstanceId"))
        translation.sections.instances.append(translate(item, ecs_names.INSTANCE))
        if item.text("InstanceId") in with_enis:
            continue
        if item.text("InstanceNetworkType").lower() == "classic":
            translation.sections.network_interfaces += classic_interfaces(item, translation)
        elif not translation.answers.of(calls.INTERFACES):
            translation.refuse_missing(item.where(), calls.INTERFACES)
    for fields in translation.sections.network_interfaces:
        instance_id = fields.text_of("instance_id")
        if instance_id not in known:
            known.add(instance_id)
            implied = Fields(fields.file, fields.pointer, {"instance_id": instance_id}, {"instance_id": "InstanceId"})
            translation.sections.instances.append(implied)


def classic_interfaces(item: Item, translation: Translation) -> Iterator[Fields]:
    """Yield the interfaces of a classic instance, which the cloud doesn't list as ENIs.

    There are up to two, with ids made from the instance's, and both are in the instance's groups.
    """
    groups = item.elements("SecurityGroupIds", "SecurityGroupId")
    for nic_type, key, eni_type in CLASSIC_INTERFACES:
        addresses = item.elements(key, "IpAddress")
        if not addresses:
            continue
        values: Values = {
            "network_interface_id": f"{item.text('InstanceId')}-{nic_type}",
            "instance_id": item.get("InstanceId"),
            "vpc_id": translation.vpcs.record("", item),
            "type": eni_type,
            "nic_type": nic_type,
        }
        names: Names = {}
        put_elements(values, names, "private_ip_addresses", addresses)
        put_elements(values, names, "security_group_ids", groups)
        yield item.fields(values, names)


def instance_item(
    state: NativeInstance, *, is_classic: bool, public: Sequence[str] = (), inner: Sequence[str] = ()
) -> AnswerFields:
    """Return an instance's name and kind of network under the cloud's keys.

    `public` and `inner` are the addresses that it shows by itself; in a VPC, its ENIs show theirs.
    """
    return {
        "InstanceId": state["instance_id"],
        "InstanceName": state.get("instance_name", ""),
        "InstanceNetworkType": "classic" if is_classic else "vpc",
        "PublicIpAddress": {"IpAddress": [*public]},
        "InnerIpAddress": {"IpAddress": [*inner]},
    }
