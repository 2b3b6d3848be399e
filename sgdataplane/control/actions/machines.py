"""The cloud's side of an instance (type, image, disks, charges). Here it is only what was asked for.

Owns these answers, and what is kept for them. Nothing of it means anything to a policy, but a client that asks for a
type expects to read that type again. Must not know HTTP or the store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from sgdataplane.control.actions.interfaces import EniDocument, interface_in_instance
from sgdataplane.control.actions.networks import answer_vpc_id
from sgdataplane.control.actions.rules import DONE
from sgdataplane.control.actions.scope import Scope, is_among, is_grouped
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.calls.catalogue import Image, InstanceType, catalogue
from sgdataplane.model.state import NicType
from sgdataplane.statefile import ecs_instances, ecs_translation
from sgdataplane.statefile.native_objects import NativeInstance
from sgdataplane.store.bodies import InstanceAbout, TypedDocument
from sgdataplane.store.documents import Fields, ResourceKind
from sgdataplane.store.interface import Body, Json

InstanceDocument: TypeAlias = TypedDocument[NativeInstance, InstanceAbout]
Describe: TypeAlias = Callable[[InstanceDocument], dict[str, Json]]
NO_ENI: EniDocument = TypedDocument("", {}, {})
RUNNING = "Running"
NEVER_ENDS = "2099-12-31T15:59Z"  # the cloud's own, of what is paid for as it is used
# What an answer says as it was asked for, by the field's name in both; and what it says if nothing was asked for.
AS_ASKED: dict[str, Json] = {
    "InstanceChargeType": "PostPaid",
    "InternetChargeType": "PayByTraffic",
    "InternetMaxBandwidthIn": 0,
    "InternetMaxBandwidthOut": 0,
    "SpotStrategy": "NoSpot",
    "SpotPriceLimit": 0.0,
    "SpotDuration": 1,
    "KeyPairName": "",
    "CreditSpecification": "",
    "DeletionProtection": False,
    "DeploymentSetId": "",
    "HpcClusterId": "",
    "AutoReleaseTime": "",
    "IoOptimized": True,
}
METADATA: dict[str, Json] = {"HttpEndpoint": "enabled", "HttpTokens": "optional", "HttpPutResponseHopLimit": 0}
MAINTENANCE = ("ActionOnMaintenance", "MaintenanceWindow", "NotifyOnMaintenance")
RENEWAL = ("AutoRenew", "Duration", "PeriodUnit", "RenewalStatus")
KEPT = (
    *(*AS_ASKED, *METADATA, *MAINTENANCE, *RENEWAL),
    *("UserData", "RamRoleName", "DedicatedHostId", "NetworkOptions", "ImageOptions"),
)
# Filters of DescribeInstances that compare what was asked for.
ASKED_FILTERS = ("InstanceChargeType", "InternetChargeType", "KeyPairName", "HpcClusterId", "IoOptimized", *METADATA)
MAX_USER_DATA = 32 << 10  # bytes
ONLY_SYSTEM: list[Fields] = [{"Type": "system"}]  # the disks of an instance that no call has made
DISK_DEFAULTS: dict[str, Json] = {"Category": "cloud_essd", "Size": 40}
MAX_DISKS, MAX_DISK_GIB = 64, 65_536
SIZE = re.compile(r"[0-9]{1,9}")
MAX_SHOWN = 40  # characters of a value that is refused


def is_as_asked_for(scope: Scope, instance: InstanceDocument) -> bool:
    """Whether an instance was asked for with what a call that lists instances filters by."""
    asked, defaults = _get_asked(instance), {**AS_ASKED, **METADATA}
    return scope.text("InstanceTypeFamily") in ("", _hardware(instance).family) and all(
        scope.text(name) in ("", str(asked.get(name, defaults[name]))) for name in ASKED_FILTERS
    )


def read_described(scope: Scope) -> Fields:
    """Return the parameters of a call that are described again as they were asked for.

    Raises:
        ApiError: UserData isn't right.
    """
    asked = scope.call.parameters
    found: Fields = {name: asked[name] for name in KEPT if asked.get(name) not in (None, "")}
    if asked.get("UserData") == "":  # which takes it away
        found["UserData"] = ""
    elif "UserData" in found:
        _require_user_data(str(found["UserData"]))
    if "IoOptimized" in found:
        found["IoOptimized"] = found["IoOptimized"] != "none"
    return found


def _require_user_data(text: str) -> None:
    """Refuse user data that isn't base64 of at most 32 KB.

    Raises:
        ApiError: It is refused.
    """
    try:
        is_good = len(base64.b64decode(text, validate=True)) <= MAX_USER_DATA
    except (ValueError, binascii.Error):
        is_good = False
    if not is_good:
        raise ApiError("InvalidUserData.Malformed", f"UserData is base64 of at most {MAX_USER_DATA} bytes")


def disks_asked(scope: Scope) -> list[Fields]:
    """Return the system disk and the others, as far as the call says anything of them.

    Raises:
        ApiError: There are too many disks, or one has a size that there isn't.
    """
    system = scope.call.parameters.get("SystemDisk")
    system = system if isinstance(system, dict) else {}
    others = scope.objects("DataDisk")
    if len(others) > MAX_DISKS:
        raise ApiError("InvalidDataDisk.TooMany", f"an instance has at most {MAX_DISKS} data disks")
    return [_disk("SystemDisk", system), *(_disk("DataDisk", one) for one in others)]


def _disk(name: str, asked: Fields) -> Fields:
    """Return one disk as it is kept.

    Raises:
        ApiError: Its size is no number of GiB within the bounds. One of the cloud's tables gives the size as text.
    """
    said = {key: value for key, value in asked.items() if value not in (None, "")}
    if "Size" in said and not 1 <= _gib(said["Size"]) <= MAX_DISK_GIB:
        words = f"{name}.Size is 1 to {MAX_DISK_GIB} GiB, and not {str(said['Size'])[:MAX_SHOWN]}"
        raise ApiError(f"Invalid{name}Size.ValueNotSupported", words)
    return {**said, "Type": "system" if name == "SystemDisk" else "data"}


def _gib(size: Json) -> int:
    """Return a disk's size in GiB; 0 if it is none. Older versions kept sizes without reading them."""
    return int(str(size)) if SIZE.fullmatch(str(size)) else 0


def modify(scope: Scope) -> Body:
    """Answer ModifyInstanceSpec and its like: describe from then on what is asked for. It means nothing here."""
    name = next(key for key in ("InstanceIds", "InstanceId") if scope.has(key) or key == "InstanceId")
    kind: InstanceAbout = {"instance_type": scope.text("InstanceType")} if scope.has("InstanceType") else {}
    for instance_id in scope.texts(name, ","):
        asked = {**_get_asked(scope.instances.find(instance_id)), **read_described(scope)}
        scope.instances.change(instance_id, about={"asked": asked, **kind})
    return DONE


def _get_asked(instance: InstanceDocument) -> Fields:
    return instance.about.get("asked", {})


def _hardware(instance: InstanceDocument) -> InstanceType:
    """Return an instance's type; one without any size if the catalogue doesn't have it."""
    name = str(instance.about.get("instance_type", ""))
    return catalogue().instance_types.get(name, InstanceType(name, name.rpartition(".")[0], 0, 0, 0, 0, 0))


def _image(instance: InstanceDocument) -> Image:
    name = str(instance.about.get("image_id", ""))
    return catalogue().images.get(name, Image(name, "", "", "", 0, ""))


def instance_item(scope: Scope, instance: InstanceDocument) -> Json:
    """Return an instance as DescribeInstances has it."""
    asked, more, hardware = _get_asked(instance), instance.about, _hardware(instance)
    enis = map(scope.enis.find, scope.workspace.enis_of(instance.id))
    return {
        **_common(scope, instance),
        **{name: asked.get(name, default) for name, default in AS_ASKED.items()},
        "SpotDuration": asked.get("SpotDuration", 1),
        "InstanceTypeFamily": hardware.family,
        "OSName": _image(instance).os_name,
        "OSType": "linux",
        "GPUAmount": 0,
        "Recyclable": False,
        "DeviceAvailable": True,
        "SaleCycle": "",
        "StartTime": more.get("created", ""),
        "MetadataOptions": {name: asked.get(name, default) for name, default in METADATA.items()},
        "ImageOptions": asked.get("ImageOptions", {"LoginAsNonRoot": False}),
        "NetworkInterfaces": {"NetworkInterface": [interface_in_instance(eni) for eni in enis]},
        "Tags": {"Tag": ecs_translation.tag_items(sorted(instance.tags.items()))},
        "ResourceGroupId": more.get("resource_group_id", ""),
    }


def _common(scope: Scope, instance: InstanceDocument) -> Fields:
    """Return what both of the cloud's descriptions of an instance have."""
    instance_id, more, asked, hardware = instance.id, instance.about, _get_asked(instance), _hardware(instance)
    enis = scope.workspace.enis_of(instance_id)
    first = scope.enis.find(enis[0]) if enis else NO_ENI
    primary = first.state
    vpc_id = answer_vpc_id(primary.get("vpc_id", ""))
    is_prepaid = asked.get("InstanceChargeType") == "PrePaid"
    item = ecs_instances.instance_item(
        {**instance.state, "instance_id": instance_id},
        is_classic=is_classic(scope, instance_id),
        public=public_addresses(scope, instance),
        inner=classic_addresses(scope, instance_id, NicType.INTRANET),
    )
    return {
        # Before PublicIpAddress: Ansible's client takes fields in this order, and recurses for ever without it.
        "EipAddress": {"AllocationId": "", "IpAddress": "", "InternetChargeType": "", "Bandwidth": 0},
        **item,
        "HostName": more.get("host_name", ""),
        "Description": more.get("description", ""),
        "Status": more.get("status", RUNNING),
        "InstanceType": more.get("instance_type", ""),
        "ImageId": more.get("image_id", ""),
        "Cpu": hardware.cpu,
        "Memory": hardware.memory_gib * 1024,
        "CreationTime": more.get("created", ""),
        "ExpiredTime": more.get("created", "") if is_prepaid else NEVER_ENDS,
        "RegionId": scope.region,
        "ZoneId": more.get("zone_id") or first.about.get("zone_id", ""),
        "StoppedMode": "Not-applicable",
        "SerialNumber": instance_id,
        "ClusterId": "",
        "VlanId": "",
        "SecurityGroupIds": {"SecurityGroupId": primary.get("security_group_ids", [])},
        "VpcAttributes": {
            "VpcId": vpc_id,
            "VSwitchId": first.about.get("vswitch_id", ""),
            "PrivateIpAddress": {"IpAddress": primary.get("private_ip_addresses", [])[:1] if vpc_id else []},
            "NatIpAddress": "",
        },
        "OperationLocks": {"LockReason": []},
        "DedicatedHostAttribute": {"DedicatedHostId": asked.get("DedicatedHostId", ""), "DedicatedHostName": ""},
    }


def is_classic(scope: Scope, instance_id: str) -> bool:
    """Whether an instance is in the classic network: whether its ENIs are in no VPC."""
    enis = map(scope.enis.state, scope.workspace.enis_of(instance_id))
    return any(not answer_vpc_id(eni["vpc_id"]) for eni in enis)


def public_addresses(scope: Scope, instance: InstanceDocument) -> list[str]:
    """Return the public addresses that an instance shows.

    In the classic network these are those of an interface. A client that asks for bandwidth to the internet waits for
    an address, and gets one for documentation, which leads nowhere.
    """
    found = classic_addresses(scope, instance.id, NicType.INTERNET)
    if int(str(_get_asked(instance).get("InternetMaxBandwidthOut", 0))) <= 0:
        return found
    return [*found, f"203.0.113.{1 + hashlib.sha256(instance.id.encode()).digest()[0] % 254}"]


def classic_addresses(scope: Scope, instance_id: str, kind: NicType) -> list[str]:
    """Return the addresses of an instance's interfaces of one kind in the classic network, which knows no ENIs."""
    enis = map(scope.enis.state, scope.workspace.enis_of(instance_id))
    return [
        address
        for eni in enis
        if not answer_vpc_id(eni["vpc_id"]) and eni.get("nic_type", NicType.INTRANET.value) == kind.value
        for address in eni.get("private_ip_addresses", [])
    ]


def describe_attribute(scope: Scope) -> Body:
    """Answer DescribeInstanceAttribute."""
    instance = scope.instances.find(scope.require("InstanceId"))
    asked = _get_asked(instance)
    names = ("InstanceChargeType", "InternetChargeType", "InternetMaxBandwidthIn", "InternetMaxBandwidthOut")
    return {
        **_common(scope, instance),
        **{name: asked.get(name, AS_ASKED[name]) for name in (*names, "CreditSpecification")},
        "IoOptimized": "optimized" if asked.get("IoOptimized", True) else "none",
        "EnableJumboFrame": False,
        "EnableNetworkEncryption": False,
    }


def describe_user_data(scope: Scope) -> Body:
    """Answer DescribeUserData."""
    instance_id = scope.require("InstanceId")
    asked = _get_asked(scope.instances.find(instance_id))
    return {"InstanceId": instance_id, "RegionId": scope.region, "UserData": asked.get("UserData", "")}


def describe_roles(scope: Scope) -> Body:
    """Answer DescribeInstanceRamRole with the role that an instance was made with. Nothing here can assume it."""
    found = [
        (instance_id, str(_get_asked(scope.instances.find(instance_id)).get("RamRoleName", "")))
        for instance_id in scope.texts("InstanceIds") or scope.workspace.ids(ResourceKind.INSTANCE)
    ]
    wanted = [one for one in found if one[1] and scope.text("RamRoleName") in ("", one[1])]

    def shape(entry: tuple[str, str]) -> Json:
        return {"InstanceId": entry[0], "RamRoleName": entry[1]}

    return {"RegionId": scope.region, **scope.page(wanted, shape, "InstanceRamRoleSets", "InstanceRamRoleSet")}


def _describe_each(names: tuple[str, str], shape: Describe, ids: str, filters: tuple[str, ...], scope: Scope) -> Body:
    """Describe each of the instances that a call names; all of them if it names none.

    Args:
        names: Those of the answer's list and of an entry.
        shape: Describes one instance.
        ids: The parameter that names instances.
        filters: Further parameters, each of which compares the field of its name.
        scope: The action at work.
    """
    found = scope.instances.every(scope.texts(ids, ","))
    asked = [name for name in filters if scope.has(name)]
    if asked:
        found = [one for one in found if all(shape(one)[name] == scope.text(name) for name in asked)]
    return scope.page(found, shape, *names)


def _maintenance(instance: InstanceDocument) -> dict[str, Json]:
    asked = _get_asked(instance)
    action = {"DefaultValue": "AutoRecover", "Value": asked.get("ActionOnMaintenance", "AutoRecover")}
    return {
        "InstanceId": instance.id,
        "ActionOnMaintenance": {**action, "SupportedValues": {"SupportedValue": ["AutoRecover", "Stop"]}},
        "MaintenanceWindows": {"MaintenanceWindow": asked.get("MaintenanceWindow", [])},
        "NotifyOnMaintenance": asked.get("NotifyOnMaintenance", False),
    }


def _renewal(instance: InstanceDocument) -> dict[str, Json]:
    asked = _get_asked(instance)
    is_renewed = asked.get("RenewalStatus", "AutoRenewal" if asked.get("AutoRenew") else "Normal") == "AutoRenewal"
    return {
        "InstanceId": instance.id,
        "AutoRenewEnabled": is_renewed,
        "Duration": asked.get("Duration", 1 if is_renewed else 0),
        "PeriodUnit": asked.get("PeriodUnit", "Month"),
        "RenewalStatus": asked.get("RenewalStatus", "AutoRenewal" if is_renewed else "Normal"),
    }


def _attachment(instance: InstanceDocument) -> dict[str, Json]:
    return {"InstanceId": instance.id, "PrivatePoolOptionsId": "", "PrivatePoolOptionsMatchCriteria": "None"}


def _status(instance: InstanceDocument) -> dict[str, Json]:
    return {"InstanceId": instance.id, "Status": instance.about.get("status", RUNNING)}


describe_maintenance = partial(
    _describe_each, ("MaintenanceAttributes", "MaintenanceAttribute"), _maintenance, "InstanceId", ()
)
describe_renewal = partial(
    _describe_each, ("InstanceRenewAttributes", "InstanceRenewAttribute"), _renewal, "InstanceId", ("RenewalStatus",)
)
describe_attachments = partial(_describe_each, ("Instances", "Instance"), _attachment, "InstanceIds", ())
describe_status = partial(_describe_each, ("InstanceStatuses", "InstanceStatus"), _status, "InstanceId", ())


# disks


def describe_disks(scope: Scope) -> Body:
    """Answer DescribeDisks with the disks that instances were asked for with."""
    ids = scope.texts("DiskIds")
    found = [
        (disk_id, disk, instance)
        for instance in scope.instances.among(filter(None, [scope.text("InstanceId")]))
        for disk_id, disk in _disks(instance)
        if is_among(disk_id, ids)
        and scope.text("InstanceId") in ("", instance.id)
        and scope.text("DiskType", "all") in ("all", disk["Type"])
        and scope.text("DiskName") in ("", disk.get("DiskName", ""))
        and scope.text("Category", "all") in ("all", disk["Category"])
        and is_grouped(scope, instance)
    ]
    return scope.page(found, lambda entry: disk_item(scope, *entry), "Disks", "Disk")


def _disks(instance: InstanceDocument) -> list[tuple[str, Fields]]:
    """Return each disk's id with what was asked for. The id is made from the instance's."""
    asked = instance.about.get("disks", ONLY_SYSTEM)
    stem = f"d-{instance.id.removeprefix('i-')}"
    return [(f"{stem}-{at}" if at else stem, {**DISK_DEFAULTS, **one}) for at, one in enumerate(asked)]


def disk_item(scope: Scope, disk_id: str, disk: Fields, instance: InstanceDocument) -> Json:
    """Return a disk as DescribeDisks has it."""
    more, at = instance.about, int(disk_id.rpartition("-")[2]) if disk["Type"] == "data" else 0
    device = f"/dev/xvd{chr(ord('a') + at % 26)}"
    return {
        "DiskId": disk_id,
        "DiskName": disk.get("DiskName", ""),
        "Description": disk.get("Description", ""),
        "Type": disk["Type"],
        "Category": disk["Category"],
        "Size": _gib(disk["Size"]),
        "PerformanceLevel": disk.get("PerformanceLevel", "PL1" if disk["Category"] == "cloud_essd" else ""),
        "Encrypted": str(disk.get("Encrypted", "false")).lower() == "true",
        "KMSKeyId": disk.get("KMSKeyId", ""),
        "AutoSnapshotPolicyId": disk.get("AutoSnapshotPolicyId", ""),
        "SourceSnapshotId": disk.get("SnapshotId", ""),
        "StorageClusterId": disk.get("StorageClusterId", ""),
        "DeleteWithInstance": disk.get("DeleteWithInstance", True) is not False,
        "DeleteAutoSnapshot": True,
        "EnableAutoSnapshot": False,
        "Device": device,
        "DiskChargeType": "PostPaid",
        "Portable": disk["Type"] == "data",
        "Status": "In_use",
        "InstanceId": instance.id,
        "ImageId": more.get("image_id", "") if disk["Type"] == "system" else "",
        "CreationTime": more.get("created", ""),
        "AttachedTime": more.get("created", ""),
        "RegionId": scope.region,
        "ZoneId": more.get("zone_id", ""),
        "ResourceGroupId": more.get("resource_group_id", ""),
        "Attachments": {"Attachment": [{"InstanceId": instance.id, "Device": device, "AttachedTime": more["created"]}]},
        "MountInstances": {"MountInstance": []},
        "OperationLocks": {"OperationLock": []},
        "Tags": {"Tag": []},
    }


def account_attributes(scope: Scope) -> Body:
    """Answer DescribeAccountAttributes: what an account may have, as far as anything here is limited."""
    values = {
        "supported-network-types": ["vpc"],
        "max-security-groups": ["100"],
        "max-elastic-network-interfaces": ["5000"],
        "instance-network-type": ["vpc"],
        "real-name-authentication": ["none"],
    }
    wanted = scope.texts("AttributeName")
    found: list[Json] = [
        {"AttributeName": name, "AttributeValues": {"ValueItem": [{"Value": one} for one in texts]}}
        for name, texts in values.items()
        if is_among(name, wanted)
    ]
    return {"AccountAttributeItems": {"AccountAttributeItem": found}}
