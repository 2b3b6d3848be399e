"""The contents of a region: zones, types of instances, images; also resource groups and endpoints.

Owns these actions. They answer from the catalogue: nothing of it means anything to a policy. Must not know HTTP or the
store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sgdataplane.control.actions.scope import REGION, Scope, is_among, is_like
from sgdataplane.control.calls.answers import FORBIDDEN, NOT_FOUND, ApiError
from sgdataplane.control.calls.catalogue import Image, InstanceType, Region, ResourceGroup, catalogue
from sgdataplane.control.calls.products import ACCOUNT, PRODUCTS
from sgdataplane.store.documents import ResourceKind
from sgdataplane.store.interface import Body, Json

AVAILABLE = {"Status": "Available", "StatusCategory": "WithStock"}
CREATED = ("VSwitch", "IoOptimized", "Instance", "DedicatedHost", "Disk")  # what can be made in a zone
MANY_ENIS = 15  # of types with two network cards


def region_of(name: str) -> Region:
    """Return a region of the cloud by its id.

    Raises:
        ApiError: The cloud has no such region.
    """
    found = catalogue().regions.get(name)
    if found is None:
        raise ApiError("InvalidRegionId.NotFound", "The specified RegionId does not exist.", NOT_FOUND)
    return found


def first_zone(name: str) -> str:
    """Return the zone of what names none. Regions that we don't know have one, too."""
    return next(iter(catalogue().regions.get(name, Region(name, name, "a")).zone_ids))


def describe_regions(scope: Scope) -> Body:
    """Answer DescribeRegions with all that the cloud has. Each of them has everything here, and is served here."""
    found: list[Json] = [
        {"RegionId": one.region, "LocalName": one.name, "RegionEndpoint": scope.call.host, "Status": "available"}
        for one in catalogue().regions.values()
    ]
    return {"Regions": {"Region": found}}


def describe_zones(scope: Scope) -> Body:
    """Answer DescribeZones with those of the region, and those in which something is."""
    found: list[Json] = [zone_item(zone) for zone in _zones(scope)]
    return {"Zones": {"Zone": found}}


def _zones(scope: Scope) -> list[str]:
    known = region_of(scope.region).zone_ids
    if scope.region != REGION:
        return [*known]
    used = {str(switch.about.get("zone_id", "")) for switch in scope.vswitches.all()}
    return sorted({*known, *used} - {""})


def zone_item(zone: str) -> Json:
    """Return a zone as DescribeZones has it."""
    types: list[Json] = [*catalogue().instance_types]
    disks: list[Json] = [*catalogue().disk_categories]
    families: list[Json] = [*dict.fromkeys(one.family for one in catalogue().instance_types.values())]
    return {
        "ZoneId": zone,
        "LocalName": zone,
        "ZoneType": "AvailabilityZone",
        "AvailableResourceCreation": {"ResourceTypes": [*CREATED]},
        "AvailableInstanceTypes": {"InstanceTypes": types},
        "AvailableDiskCategories": {"DiskCategories": disks},
        "AvailableVolumeCategories": {"VolumeCategories": []},
        "AvailableDedicatedHostTypes": {"DedicatedHostType": []},
        "DedicatedHostGenerations": {"DedicatedHostGeneration": []},
        "AvailableResources": {
            "ResourcesInfo": [
                {
                    "IoOptimized": True,
                    "NetworkTypes": {"supportedNetworkCategory": ["vpc"]},
                    "InstanceTypes": {"supportedInstanceType": types},
                    "InstanceTypeFamilies": {"supportedInstanceTypeFamily": families},
                    "InstanceGenerations": {"supportedInstanceGeneration": []},
                    "SystemDiskCategories": {"supportedSystemDiskCategory": disks},
                    "DataDiskCategories": {"supportedDataDiskCategory": disks},
                }
            ]
        },
    }


def describe_available(scope: Scope) -> Body:
    """Answer DescribeAvailableResource: everything is available in every zone."""
    wanted, kind = scope.text("ZoneId"), scope.require("DestinationResource")
    found: list[Json] = [
        {
            "ZoneId": zone,
            "RegionId": scope.region,
            **AVAILABLE,
            "AvailableResources": {
                "AvailableResource": [
                    {"Type": kind, "SupportedResources": {"SupportedResource": _list_supported(scope, zone)}}
                ]
            },
        }
        for zone in _zones(scope)
        if wanted in ("", zone)
    ]
    return {"AvailableZones": {"AvailableZone": found}}


def _list_supported(scope: Scope, zone: str) -> list[Json]:
    """Return what a zone has of the resource that a call asks for.

    Raises:
        ApiError: There is no such resource.
    """
    disk: dict[str, Json] = {"Min": 20, "Max": 2048, "Unit": "GiB"}
    match scope.require("DestinationResource"):
        case "Zone":
            return [{"Value": zone, **AVAILABLE}]
        case "InstanceType":
            return [{"Value": one.instance_type, **AVAILABLE} for one in _types_asked(scope)]
        case "SystemDisk" | "DataDisk":
            return [{"Value": name, **AVAILABLE, **disk} for name in catalogue().disk_categories]
        case "Network":
            return [{"Value": "vpc", **AVAILABLE}]
        case "IoOptimized":
            return [{"Value": "optimized", **AVAILABLE}]
    raise ApiError("InvalidParameter.DestinationResource", "There is no such DestinationResource.")


def _types_asked(scope: Scope) -> Iterator[InstanceType]:
    cores, memory = scope.number("Cores", 0), float(scope.text("Memory", "0"))
    for one in catalogue().instance_types.values():
        is_wanted = scope.text("InstanceType") in ("", one.instance_type)
        if is_wanted and cores in (0, one.cpu) and memory in (0, one.memory_gib):
            yield one


# types of instances


def describe_types(scope: Scope) -> Body:
    """Answer DescribeInstanceTypes."""
    ids, families = scope.texts("InstanceTypes"), scope.texts("InstanceTypeFamilies")
    family = scope.text("InstanceTypeFamily")
    least = {
        "cpu": scope.number("MinimumCpuCoreCount", 0),
        "memory_gib": float(scope.text("MinimumMemorySize", "0")),
        "enis": scope.number("MinimumEniQuantity", 0),
        "ipv4_an_eni": scope.number("MinimumEniPrivateIpAddressQuantity", 0),
        "ipv6_an_eni": scope.number("MinimumEniIpv6AddressQuantity", 0),
    }
    found = [
        one
        for one in catalogue().instance_types.values()
        if is_among(one.instance_type, ids)
        and is_among(one.family, families)
        and family in ("", one.family)
        and all(getattr(one, name) >= number for name, number in least.items())
    ]
    start, size, token = scope.next_page(len(found))
    return {
        "InstanceTypes": {"InstanceType": [type_item(one) for one in found[start : start + size]]},
        "NextToken": token,
    }


def type_item(one: InstanceType) -> Json:
    """Return a type of instances as DescribeInstanceTypes has it.

    Clients name a network card only if the type lists its cards.
    """
    cards = 2 if one.enis >= MANY_ENIS else 1
    listed: list[Json] = [{"NetworkCardIndex": number} for number in range(cards)]
    return {
        "InstanceTypeId": one.instance_type,
        "InstanceTypeFamily": one.family,
        "CpuCoreCount": one.cpu,
        "MemorySize": one.memory_gib,
        "CpuArchitecture": "X86",
        "EniQuantity": one.enis,
        "EniTotalQuantity": one.enis,
        "EniTrunkSupported": True,
        "EniPrivateIpAddressQuantity": one.ipv4_an_eni,
        "EniIpv6AddressQuantity": one.ipv6_an_eni,
        "PrimaryEniQueueNumber": 2,
        "SecondaryEniQueueNumber": 2,
        "MaximumQueueNumberPerEni": 4,
        "TotalEniQueueQuantity": 2 * one.enis,
        "QueuePairNumber": 0,
        "NetworkCardQuantity": cards,
        **({"NetworkCards": {"NetworkCardInfo": listed}} if cards > 1 else {}),
        "NvmeSupport": "unsupported",
        "GPUAmount": 0,
        "GPUSpec": "",
        "InitialCredit": 0,
        "BaselineCredit": 0,
        "LocalStorageAmount": 0,
        "LocalStorageCapacity": 0,
        "LocalStorageCategory": "",
    }


def describe_families(scope: Scope) -> Body:
    """Answer DescribeInstanceTypeFamilies."""
    del scope
    names = dict.fromkeys(one.family for one in catalogue().instance_types.values())
    found: list[Json] = [{"InstanceTypeFamilyId": name, "Generation": "ecs-5"} for name in names]
    return {"InstanceTypeFamilies": {"InstanceTypeFamily": found}}


# images


def describe_images(scope: Scope) -> Body:
    """Answer DescribeImages."""
    ids = scope.texts("ImageId", ",")
    found = [
        one
        for one in catalogue().images.values()
        if is_among(one.image, ids)
        and is_like(one.image, scope.text("ImageName"))
        and scope.text("ImageFamily") in ("", one.family)
        and scope.text("ImageOwnerAlias") in ("", "system")
        and scope.text("OSType").lower() in ("", "linux")
        and scope.text("Architecture") in ("", "x86_64")
        and scope.text("Status", "Available") == "Available"
        and not scope.objects("Tag")
    ]
    return {"RegionId": scope.region, **scope.page(found, image_item, "Images", "Image")}


def image_item(one: Image) -> Json:
    """Return an image as DescribeImages has it."""
    return {
        "ImageId": one.image,
        "ImageName": one.image,
        "ImageFamily": one.family,
        "ImageVersion": "",
        "ImageOwnerAlias": "system",
        "Description": one.os_name,
        "OSName": one.os_name,
        "OSNameEn": one.os_name,
        "OSType": "linux",
        "Platform": one.platform,
        "Architecture": "x86_64",
        "Size": one.size_gib,
        "Status": "Available",
        "Progress": "100%",
        "Usage": "none",
        "CreationTime": one.created,
        "IsCopied": False,
        "IsPublic": True,
        "IsSelfShared": "",
        "IsSubscribed": False,
        "IsSupportCloudinit": True,
        "IsSupportIoOptimized": True,
        "ProductCode": "",
        "DiskDeviceMappings": {"DiskDeviceMapping": []},
        "Tags": {"Tag": []},
    }


def describe_image_types(scope: Scope) -> Body:
    """Answer DescribeImageSupportInstanceTypes: each image runs on all types."""
    found: list[Json] = [
        {"InstanceTypeId": one.instance_type, "InstanceTypeFamily": one.family}
        | {"CpuCoreCount": one.cpu, "MemorySize": one.memory_gib}
        for one in catalogue().instance_types.values()
    ]
    return {
        "RegionId": scope.region,
        "ImageId": scope.text("ImageId"),
        "InstanceTypes": {"InstanceType": found},
    }


# other products


def list_resource_groups(scope: Scope) -> Body:
    """Answer ListResourceGroups with those of the catalogue, and all others that something is in."""
    ids, name = scope.texts("ResourceGroupIds"), scope.text("Name")
    groups = {**catalogue().resource_groups, **{one: ResourceGroup(one, one, one) for one in _groups_used(scope)}}
    found = [
        one
        for one in groups.values()
        if is_among(one.resource_group, ids)
        and scope.text("ResourceGroupId") in ("", one.resource_group)
        and name in ("", one.name)
        and scope.text("DisplayName") in ("", one.display_name)
        and scope.text("Status", "OK") == "OK"
    ]
    return scope.page(found, resource_group_item, "ResourceGroups", "ResourceGroup")


def _groups_used(scope: Scope) -> Iterable[str]:
    kinds = (ResourceKind.VPC, ResourceKind.VSWITCH, ResourceKind.GROUP, ResourceKind.INSTANCE, ResourceKind.ENI)
    named = {str(one.about.get("resource_group_id", "")) for kind in kinds for one in scope.resources(kind).all()}
    return sorted(named - {""} - catalogue().resource_groups.keys())


def resource_group_item(one: ResourceGroup) -> Json:
    """Return a resource group as ListResourceGroups has it."""
    return {
        "Id": one.resource_group,
        "Name": one.name,
        "DisplayName": one.display_name,
        "AccountId": ACCOUNT,
        "Status": "OK",
        "CreateDate": "",
    }


def caller(scope: Scope) -> Body:
    """Answer GetCallerIdentity with the account's own identity, which every key has."""
    key = scope.call.key
    return {
        "AccountId": ACCOUNT,
        "UserId": key,
        "PrincipalId": key,
        "IdentityType": "RAMUser",
        "Arn": f"acs:ram::{ACCOUNT}:user/{key}",
    }


def describe_endpoints(scope: Scope) -> Body:
    """Answer DescribeEndpoints with this endpoint for each product that it serves, and nothing for others."""
    code = scope.require("ServiceCode").lower()
    region_of(scope.require("Id"))
    is_served = code in (product.code for product in PRODUCTS)
    one: Json = {
        "Endpoint": scope.call.host,
        "Id": scope.text("Id"),
        "Namespace": scope.text("Namespace"),
        "SerivceCode": code,  # sic: the cloud's own spelling, which clients read
        "ServiceCode": code,
        "Type": scope.text("Type", "openAPI"),
        "Protocols": {"Protocols": ["HTTPS", "HTTP"]},
    }
    return {"Success": True, "Endpoints": {"Endpoint": [one] if is_served else []}}


def refuse_billing(scope: Scope) -> Body:
    """Refuse QueryAvailableInstances, as nothing here costs anything.

    Clients accept this refusal at once, and ask nothing more.
    """
    del scope
    raise ApiError("NotAuthorized", "There is no billing at this endpoint.", FORBIDDEN)
