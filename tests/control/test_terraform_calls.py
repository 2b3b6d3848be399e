"""What Terraform's provider asked during its own acceptance tests, asked again: each call is answered, and the answer
has the fields that the provider reads, of the types that it takes them for.

`tests/data/terraform-calls.txt` has the calls. An id there stands for the next one of its kind that the API has made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.control.actions import ACTIONS
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.calls.parameters import nest_and_type
from sgdataplane.store.documents import ResourceKind
from tests.support.inputs.controlling import Client

CALLS = Path(__file__).parents[1] / "data" / "terraform-calls.txt"
SYMBOL = re.compile(r"<(\w+)\.\d+>")
KINDS = {
    "vpc": ResourceKind.VPC,
    "vsw": ResourceKind.VSWITCH,
    "sg": ResourceKind.GROUP,
    "eni": ResourceKind.ENI,
    "pl": ResourceKind.PREFIX_LIST,
    "i": ResourceKind.INSTANCE,
}
# Other products, and what instances have in the cloud alone: refused as the cloud refuses what isn't there.
ABSENT = {"DescribeDedicatedHosts", "kms:CreateKey", "ram:CreateRole", "vpc:CreateDhcpOptionsSet"}
GONE = re.compile(r".*\.NotFound")  # what is read or deleted after it was deleted
TAG = {"Tag": [{"TagKey": str, "TagValue": str}]}
KEY = {"Tag": [{"Key": str, "Value": str}]}
VPC = {
    "VpcId": str, "VpcName": str, "Description": str, "Status": str, "CidrBlock": str, "Ipv6CidrBlock": str,
    "RegionId": str, "CreationTime": str, "ResourceGroupId": str, "VRouterId": str, "DnsHostnameStatus": str,
    "ClassicLinkEnabled": bool, "EnabledIpv6": bool, "IsDefault": bool, "UserCidrs": {"UserCidr": [str]},
    "SecondaryCidrBlocks": {"SecondaryCidrBlock": [str]}, "VSwitchIds": {"VSwitchId": [str]},
    "Ipv6CidrBlocks": {"Ipv6CidrBlock": [{"Ipv6CidrBlock": str, "Ipv6Isp": str}]}, "Tags": KEY,
}  # fmt: skip
VSWITCH = {
    "VSwitchId": str, "VSwitchName": str, "Description": str, "Status": str, "CidrBlock": str, "Ipv6CidrBlock": str,
    "VpcId": str, "ZoneId": str, "CreationTime": str, "IsDefault": bool, "ResourceGroupId": str,
    "AvailableIpAddressCount": int, "RouteTable": {"RouteTableId": str}, "Tags": KEY,
}  # fmt: skip
ENI = {
    "NetworkInterfaceId": str, "NetworkInterfaceName": str, "Description": str, "MacAddress": str,
    "PrivateIpAddress": str, "PrivateIpSets": {"PrivateIpSet": [{"PrivateIpAddress": str, "Primary": bool}]},
    "Ipv6Sets": {"Ipv6Set": [{"Ipv6Address": str}]}, "Ipv4PrefixSets": {"Ipv4PrefixSet": [{"Ipv4Prefix": str}]},
    "QueueNumber": int, "ResourceGroupId": str, "SecurityGroupIds": {"SecurityGroupId": [str]}, "Status": str,
    "VSwitchId": str, "VpcId": str, "ZoneId": str, "Type": str, "NetworkInterfaceTrafficMode": str, "OwnerId": str,
    "CreationTime": str, "ServiceID": int, "ServiceManaged": bool, "InstanceId": str, "AssociatedPublicIp": {},
    "Attachment": {}, "Tags": TAG,
}  # fmt: skip
INSTANCE = {
    "InstanceId": str, "InstanceName": str, "HostName": str, "Description": str, "Status": str, "ZoneId": str,
    "ImageId": str, "InstanceType": str, "InternetMaxBandwidthOut": int, "InternetMaxBandwidthIn": int,
    "InstanceChargeType": str, "KeyPairName": str, "SpotStrategy": str, "SpotPriceLimit": float, "SpotDuration": int,
    "InternetChargeType": str, "DeletionProtection": bool, "CreditSpecification": str, "AutoReleaseTime": str,
    "HpcClusterId": str, "DeploymentSetId": str, "StoppedMode": str, "PublicIpAddress": {"IpAddress": [str]},
    "InnerIpAddress": {"IpAddress": [str]}, "EipAddress": {"AllocationId": str, "IpAddress": str},
    "VpcAttributes": {"VpcId": str, "VSwitchId": str, "PrivateIpAddress": {"IpAddress": [str]}},
    "MetadataOptions": {"HttpTokens": str, "HttpEndpoint": str, "HttpPutResponseHopLimit": int}, "Cpu": int,
    "Memory": int, "OSName": str, "OSType": str, "DedicatedHostAttribute": {"DedicatedHostId": str},
    "CreationTime": str, "StartTime": str, "ExpiredTime": str, "ImageOptions": {"LoginAsNonRoot": bool},
    "SecurityGroupIds": {"SecurityGroupId": [str]}, "Tags": TAG,
    "NetworkInterfaces": {"NetworkInterface": [{"NetworkInterfaceId": str, "Type": str, "PrimaryIpAddress": str}]},
}  # fmt: skip
READ: Mapping[str, Any] = {
    "AssignPrivateIpAddresses": {},
    "CreateKeyPair": {"KeyPairName": str},
    "CreateNetworkInterface": {"NetworkInterfaceId": str},
    "CreatePrefixList": {"PrefixListId": str},
    "CreateSecurityGroup": {"SecurityGroupId": str},
    "DescribeAvailableResource": {
        "AvailableZones": {
            "AvailableZone": [
                {
                    "ZoneId": str,
                    "Status": str,
                    "AvailableResources": {
                        "AvailableResource": [
                            {"Type": str, "SupportedResources": {"SupportedResource": [{"Status": str, "Value": str}]}}
                        ]
                    },
                }
            ]
        }
    },
    "DescribeDisks": {
        "Disks": {
            "Disk": [
                {"DiskId": str, "Category": str, "DiskName": str, "Size": int, "Encrypted": bool, "KMSKeyId": str}
                | {"Description": str, "AutoSnapshotPolicyId": str, "StorageClusterId": str, "PerformanceLevel": str}
                | {"Status": str, "Type": str, "Tags": TAG}
            ]
        }
    },
    "DescribeImages": {"Images": {"Image": [{"ImageId": str, "ImageName": str, "CreationTime": str, "Status": str}]}},
    "DescribeImageSupportInstanceTypes": {"InstanceTypes": {"InstanceType": [{"InstanceTypeId": str}]}},
    "DescribeInstanceAttribute": {"InstanceId": str, "EnableJumboFrame": bool},
    "DescribeInstanceMaintenanceAttributes": {
        "MaintenanceAttributes": {
            "MaintenanceAttribute": [
                {"InstanceId": str, "MaintenanceWindows": {"MaintenanceWindow": []}, "NotifyOnMaintenance": bool}
                | {"ActionOnMaintenance": {"Value": str}}
            ]
        }
    },
    "DescribeInstanceRamRole": {"InstanceRamRoleSets": {"InstanceRamRoleSet": [{"RamRoleName": str}]}},
    "DescribeInstances": {"Instances": {"Instance": [INSTANCE]}},
    "DescribeInstanceTypes": {
        "NextToken": str,
        "InstanceTypes": {
            "InstanceType": [
                {"InstanceTypeId": str, "CpuCoreCount": int, "MemorySize": (int, float), "EniQuantity": int}
                | {"InstanceTypeFamily": str, "GPUAmount": int, "LocalStorageCapacity": int, "NvmeSupport": str}
            ]
        },
    },
    "DescribeNetworkInterfaces": {"NetworkInterfaceSets": {"NetworkInterfaceSet": [ENI]}},
    "DescribePrefixListAttributes": {
        "PrefixListId": str,
        "PrefixListName": str,
        "AddressFamily": str,
        "MaxEntries": int,
        "Entries": {"Entry": [{"Cidr": str, "Description": str}]},
    },
    "DescribePrefixLists": {
        "NextToken": str,
        "PrefixLists": {"PrefixList": [{"PrefixListId": str, "PrefixListName": str, "AssociationCount": int}]},
    },
    "DescribeSecurityGroupAttribute": {
        "InnerAccessPolicy": str,
        "Permissions": {
            "Permission": [
                {"IpProtocol": str, "PortRange": str, "SourceCidrIp": str, "SourceGroupId": str, "DestCidrIp": str}
                | {"Ipv6SourceCidrIp": str, "Ipv6DestCidrIp": str, "SourcePrefixListId": str, "DestPrefixListId": str}
                | {"Policy": str, "Priority": str, "NicType": str, "Direction": str, "DestGroupId": str}
                | {"Description": str, "SecurityGroupRuleId": str}
            ]
        },
    },
    "DescribeSecurityGroups": {
        "SecurityGroups": {
            "SecurityGroup": [
                {"SecurityGroupId": str, "SecurityGroupName": str, "SecurityGroupType": str, "VpcId": str}
                | {"CreationTime": str, "Description": str, "ResourceGroupId": str, "Tags": TAG}
            ]
        }
    },
    "DescribeTags": {"Tags": {"Tag": []}},
    "DescribeUserData": {"UserData": str},
    "DescribeZones": {
        "Zones": {
            "Zone": [
                {"ZoneId": str, "LocalName": str, "AvailableInstanceTypes": {"InstanceTypes": [str]}}
                | {"AvailableDiskCategories": {"DiskCategories": [str]}}
                | {"AvailableResourceCreation": {"ResourceTypes": [str]}}
            ]
        }
    },
    "ListTagResources": {"TagResources": {"TagResource": [{"TagKey": str, "TagValue": str}]}},
    "RunInstances": {"InstanceIdSets": {"InstanceIdSet": [str]}},
    "resourcemanager:ListResourceGroups": {
        "TotalCount": int,
        "ResourceGroups": {
            "ResourceGroup": [{"Id": str, "Name": str, "DisplayName": str, "Status": str, "AccountId": str}]
        },
    },
    "vpc:CreateDefaultVSwitch": {"VSwitchId": str},
    "vpc:CreateVSwitch": {"VSwitchId": str},
    "vpc:CreateVSwitchCidrReservation": {"VSwitchCidrReservationId": str},
    "vpc:CreateVpc": {"VpcId": str},
    "vpc:DescribeRouteTableList": {
        "TotalCount": int,
        "RouterTableList": {
            "RouterTableListType": [
                {"RouteTableId": str, "RouterId": str, "RouteTableName": str, "Description": str}
                | {"ResourceGroupId": str, "VSwitchIds": {"VSwitchId": [str]}}
            ]
        },
    },
    "vpc:DescribeVSwitchAttributes": VSWITCH,
    "vpc:DescribeVSwitches": {"TotalCount": int, "VSwitches": {"VSwitch": [VSWITCH]}},
    "vpc:DescribeVpcAttribute": VPC,
    "vpc:DescribeVpcs": {"TotalCount": int, "Vpcs": {"Vpc": [VPC]}},
}


def recorded() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each acceptance test, with its calls: an action, and its parameters as JSON."""
    for part in CALLS.read_text("utf-8").split("\n= ")[1:]:
        name, *lines = part.strip().splitlines()
        yield name, [(action, text) for action, _, text in (line.partition(" ") for line in lines)]


RECORDED = dict(recorded())


class Replay:
    """Asks again, with the ids that the API has made."""

    def __init__(self, calls: list[tuple[str, str]]) -> None:
        self.client, self.ids = Client(), dict[str, str]()
        if not any(action == "vpc:CreateVpc" for action, _ in calls):  # then it looks for those that are there
            self.client("vpc:CreateVpc", VpcName="default-NODELETING")
            self.client("vpc:CreateDefaultVpc")

    def ask(self, action: str, text: str) -> Mapping[str, Any]:
        """ApiError if it is refused."""
        pairs = json.loads(SYMBOL.sub(self._bound, text)) | {"RegionId": "cn-hangzhou"}
        return self.client(action, **nest_and_type(action, pairs).named)

    def _bound(self, found: re.Match[str]) -> str:
        if found[0] not in self.ids:
            free = [one for one in self._made(found[1]) if one not in self.ids.values()]
            assert free, f"nothing has been made that could be {found[0]}"
            self.ids[found[0]] = free[0]
        return self.ids[found[0]]

    def names_what_is_gone(self, text: str) -> bool:
        """Whether a call names something that was there, and isn't any more."""
        named = {found[0]: found[1] for found in SYMBOL.finditer(text) if found[0] in self.ids}
        return any(self.ids[symbol] not in self._made(kind) for symbol, kind in named.items())

    def _made(self, kind: str) -> list[str]:
        """The ids of a kind, the oldest first. A disk is of an instance."""
        documents = self.client.engine.documents.of_kind[KINDS["i" if kind == "d" else kind]]
        names = sorted(documents, key=lambda name: int(name.rpartition("-")[2]))
        return [f"d{name.removeprefix('i')}" for name in names] if kind == "d" else names


def lacks(answer: object, shape: object, path: str = "") -> list[str]:
    """What an answer doesn't have of a shape."""
    if isinstance(shape, dict):
        if not isinstance(answer, dict):
            return [path]
        return [one for name, inner in shape.items() for one in lacks(answer.get(name), inner, f"{path}.{name}")]
    if isinstance(shape, list):
        if not isinstance(answer, list):
            return [path]
        return [one for entry in answer for inner in shape for one in lacks(entry, inner, f"{path}[]")]
    assert isinstance(shape, (type, tuple))
    return [] if isinstance(answer, shape) else [path]


@pytest.mark.parametrize("name", RECORDED)
def test_what_the_provider_asks_is_answered_as_it_reads_it(name: str) -> None:
    replay, wrong = Replay(RECORDED[name]), list[str]()
    for at, (action, text) in enumerate(RECORDED[name]):
        if action in ABSENT:
            assert action not in ACTIONS
            continue
        try:
            answer = replay.ask(action, text)
        except ApiError as error:
            is_tried_again = "DependencyViolation" in error.code and (action, text) in RECORDED[name][at + 1 :]
            is_gone = GONE.fullmatch(error.code) and replay.names_what_is_gone(text)
            if not is_tried_again and not is_gone:
                wrong.append(f"{action} {text}: {error}")
            continue
        wrong += [f"{action}: no {path}" for path in lacks(answer, READ.get(action, {}))]
    assert wrong == []


def test_a_shape_finds_what_is_missing_or_of_another_type() -> None:
    assert lacks({"A": [{"B": "b"}, {"B": 1}]}, {"A": [{"B": str}], "C": {"D": str}}) == [".A[].B", ".C"]


def test_every_action_that_was_asked_is_known_or_absent() -> None:
    asked = {action for calls in RECORDED.values() for action, _ in calls}
    assert asked - ACTIONS.keys() == ABSENT
