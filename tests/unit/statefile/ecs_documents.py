"""The cloud's answers for the loader's tests, including what the cloud prints and nobody needs.

Owns a valid base of four answers, and the functions that make more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Answers = dict[str, Any]
LIST, GROUPS = "DescribeSecurityGroups", ("SecurityGroups", "SecurityGroup")
INTERFACES, SETS = "DescribeNetworkInterfaces", ("NetworkInterfaceSets", "NetworkInterfaceSet")
INSTANCES = ("DescribeInstances", "Instances", "Instance")
WEB = "DescribeSecurityGroupAttribute-sg-web"
UNUSED = dict.fromkeys((
    "PortRangeListId", "PortRangeListName", "SourcePortRange", "SourceCidrIp", "Ipv6SourceCidrIp", "SourceGroupId",
    "SourceGroupName", "SourceGroupOwnerAccount", "SourcePrefixListId", "SourcePrefixListName", "DestCidrIp",
    "Ipv6DestCidrIp", "DestGroupId", "DestGroupName", "DestGroupOwnerAccount", "DestPrefixListId",
    "DestPrefixListName", "Description",
), "")  # fmt: skip


def permission(rule_id: str, **said: object) -> dict[str, object]:
    """A permission as the cloud prints it: with empty strings for what it doesn't say."""
    always = {"SecurityGroupRuleId": rule_id, "NicType": "intranet", "Policy": "Accept", "Priority": 1}
    return {**UNUSED, **always, "CreateTime": "2026-01-01T00:00:00Z", **said}


def group(group_id: str, **said: object) -> dict[str, object]:
    shown = {"SecurityGroupId": group_id, "SecurityGroupName": "", "Description": "", "VpcId": "vpc-a"}
    return {**shown, "SecurityGroupType": "normal", "ServiceManaged": False, "Tags": {"Tag": []}, **said}


def attribute(group_id: str, *permissions: dict[str, object], **said: object) -> Answers:
    shown = {"RequestId": "R", "SecurityGroupId": group_id, "InnerAccessPolicy": "Accept", "NextToken": ""}
    return {**shown, "Permissions": {"Permission": list(permissions)}, **said}


def eni(eni_id: str, address: str, **said: object) -> dict[str, object]:
    return {
        "NetworkInterfaceId": eni_id,
        "Type": "Primary",
        "InstanceId": "",
        "VpcId": "vpc-a",
        "MacAddress": "",
        "PrivateIpAddress": address,
        "PrivateIpSets": {"PrivateIpSet": [{"PrivateIpAddress": address, "Primary": True}]},
        "Ipv6Sets": {"Ipv6Set": []},
        "SecurityGroupIds": {"SecurityGroupId": ["sg-web"]},
        **said,
    }


def page(call: str, outer: str, inner: str, *objects: object, total: int | None = None) -> Answers:
    count = len(objects) if total is None else total
    return {call: {"RequestId": "R", "TotalCount": count, "NextToken": "", outer: {inner: list(objects)}}}


IN_TCP = {"Direction": "ingress", "IpProtocol": "TCP", "PortRange": "443/443"}
BASE: Answers = {
    **page(LIST, *GROUPS, group("sg-web"), group("sg-db")),
    WEB: attribute("sg-web", permission("sgr-1", **IN_TCP, SourceCidrIp="198.51.100.0/24")),
    "DescribeSecurityGroupAttribute-sg-db": attribute("sg-db"),
    **page(INTERFACES, *SETS, eni("eni-1", "10.0.0.5", InstanceId="i-1")),
}


def write(folder: Path, answers: Answers) -> Path:
    for name, answer in answers.items():
        (folder / f"{name}.json").write_text(json.dumps(answer, indent=1), encoding="utf-8")
    return folder
