"""Answers of AWS as `aws ec2 describe-...` prints them, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sgdataplane.statefile import Loaded, load

Json = dict[str, Any]


def permission(protocol: str, *ports: int, **far: list[Json]) -> Json:
    """A permission with all of its lists; `far`: those that aren't empty."""
    lists: Json = {"IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [], "UserIdGroupPairs": []}
    between = dict(zip(("FromPort", "ToPort"), ports, strict=False))
    return {"IpProtocol": protocol, **between, **lists, **far}


def blocks(*texts: str) -> list[Json]:
    return [{"CidrIpv6" if ":" in text else "CidrIp": text} for text in texts]


def pairs(*groups: str) -> list[Json]:
    return [{"GroupId": group, "UserId": "123456789012"} for group in groups]


EVERYTHING = permission("-1", IpRanges=blocks("0.0.0.0/0"))


def group(group_id: str, *ingress: Json, egress: tuple[Json, ...] = (EVERYTHING,), vpc: str = "vpc-1") -> Json:
    return {"GroupId": group_id, "GroupName": group_id, "Description": "", "VpcId": vpc,
            "IpPermissions": list(ingress), "IpPermissionsEgress": list(egress)}  # fmt: skip


def interface(number: int, *groups: str, **more: object) -> Json:
    return {
        "NetworkInterfaceId": f"eni-{number}", "VpcId": "vpc-1", "MacAddress": f"02:00:00:00:00:0{number}",
        "PrivateIpAddresses": [{"Primary": True, "PrivateIpAddress": f"10.0.0.{number}"}], "Ipv6Addresses": [],
        "Groups": [{"GroupId": each, "GroupName": each} for each in groups],
        "Attachment": {"InstanceId": f"i-{number}", "DeviceIndex": 0}, "SourceDestCheck": True, **more,
    }  # fmt: skip


def read(folder: Path, inexact: str = "refuse", /, **files: object) -> Loaded:
    """Write the files and load the folder."""
    for name, content in files.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(content), encoding="utf-8")
    return load(folder, inexact=inexact)


def rows(loaded: Loaded, group_id: str) -> list[str]:
    """The accepting rules of a group, in words."""
    return sorted(
        f"{rule.direction.value} {rule.ip_protocol} {rule.port_range or ''} {rule.remote}".replace("  ", " ")
        for rule in loaded.state.group[group_id].rules
        if rule.policy.value == "accept"
    )


def codes(loaded: Loaded) -> list[str]:
    return [finding.code for finding in loaded.findings if finding.code != "OtherCloud"]
