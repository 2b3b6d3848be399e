"""What clients look up of instances besides DescribeInstances, and by which filters they find them."""

from __future__ import annotations

import json

import pytest

from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import Client, items, only

ROLE, KEY = "role-of-web", "mine"
MAINTENANCE = ("DescribeInstanceMaintenanceAttributes", "MaintenanceAttributes", "MaintenanceAttribute")
RENEWAL = ("DescribeInstanceAutoRenewAttribute", "InstanceRenewAttributes", "InstanceRenewAttribute")
ATTACHMENTS = ("DescribeInstanceAttachmentAttributes", "Instances", "Instance")
STATUSES = ("DescribeInstanceStatus", "InstanceStatuses", "InstanceStatus")
ROLES = ("DescribeInstanceRamRole", "InstanceRamRoleSets", "InstanceRamRoleSet")


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def made(client: Client) -> tuple[str, str]:
    """A plain instance, and one that was asked for with more."""
    vpc, switch = client.network()
    where: dict[str, Json] = {"VSwitchId": switch, "SecurityGroupId": client.group(vpc)}
    more: dict[str, Json] = {
        "InstanceType": "ecs.g7.large",
        "InstanceChargeType": "PrePaid",
        "InternetChargeType": "PayByBandwidth",
        "KeyPairName": KEY,
        "RamRoleName": ROLE,
        "HttpTokens": "required",
        "IoOptimized": "none",
    }
    plain = client.text("CreateInstance", "InstanceId", **where)
    return plain, client.text("CreateInstance", "InstanceId", **where, **more)


@pytest.mark.parametrize("listing", [MAINTENANCE, RENEWAL, ATTACHMENTS, STATUSES], ids=lambda listing: listing[0])
def test_only_what_is_asked_for_is_described(
    client: Client, made: tuple[str, str], listing: tuple[str, str, str]
) -> None:
    action, outer, inner = listing
    is_text = listing == ATTACHMENTS
    which: dict[str, Json] = {"InstanceIds": json.dumps([made[1]])} if is_text else {"InstanceId": [made[1]]}
    assert sorted(one["InstanceId"] for one in items(client, action, outer, inner)) == sorted(made)
    found = items(client, action, outer=outer, inner=inner, **which)
    assert [one["InstanceId"] for one in found] == [made[1]]


def test_a_renewal_is_described_as_it_was_asked_for_and_found_by_its_status(
    client: Client, made: tuple[str, str]
) -> None:
    asked: dict[str, Json] = {"RenewalStatus": "AutoRenewal", "Duration": 3, "PeriodUnit": "Month"}
    client("ModifyInstanceAutoRenewAttribute", InstanceId=made[1], **asked)
    found = only(client, *RENEWAL, RenewalStatus="AutoRenewal")
    assert found == {"InstanceId": made[1], "AutoRenewEnabled": True, **asked}
    plain = only(client, *RENEWAL, RenewalStatus="Normal")
    assert (plain["InstanceId"], plain["AutoRenewEnabled"]) == (made[0], False)


def test_maintenance_is_described_as_it_was_asked_for(client: Client, made: tuple[str, str]) -> None:
    window: Json = [{"StartTime": "02:00:00Z", "EndTime": "03:00:00Z"}]
    asked: dict[str, Json] = {"ActionOnMaintenance": "Stop", "NotifyOnMaintenance": True, "MaintenanceWindow": window}
    client("ModifyInstanceMaintenanceAttributes", InstanceId=[made[1]], **asked)
    plain, changed = (only(client, *MAINTENANCE, InstanceId=[one]) for one in made)
    assert (changed["ActionOnMaintenance"]["Value"], plain["ActionOnMaintenance"]["Value"]) == ("Stop", "AutoRecover")
    assert (changed["NotifyOnMaintenance"], plain["NotifyOnMaintenance"]) == (True, False)
    assert changed["MaintenanceWindows"] == {"MaintenanceWindow": window}


@pytest.mark.parametrize("by", ["InstanceIds", "RamRoleName"])
def test_a_role_is_found_by_its_instance_or_its_name(client: Client, made: tuple[str, str], by: str) -> None:
    asked = {"InstanceIds": json.dumps([*made]), "RamRoleName": ROLE}[by]
    assert items(client, *ROLES, **{by: asked}) == [{"InstanceId": made[1], "RamRoleName": ROLE}]
    assert items(client, *ROLES, RamRoleName="none") == []


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"InstanceChargeType": "PrePaid"}, [1]),
        ({"InstanceChargeType": "PostPaid"}, [0]),
        ({"InternetChargeType": "PayByTraffic"}, [0]),
        ({"InternetChargeType": "PayByBandwidth"}, [1]),
        ({"KeyPairName": KEY}, [1]),
        ({"KeyPairName": "other"}, []),
        ({"HpcClusterId": "hpc-1"}, []),
        ({"HttpTokens": "required"}, [1]),
        ({"HttpEndpoint": "enabled"}, [0, 1]),
        ({"HttpPutResponseHopLimit": 1}, []),
        ({"IoOptimized": True}, [0]),
        ({"IoOptimized": False}, [1]),
        ({"InstanceTypeFamily": "ecs.g7"}, [1]),
    ],
    ids=str,
)
def test_an_instance_is_found_by_what_it_was_asked_for_with(
    client: Client, made: tuple[str, str], asked: dict[str, Json], found: list[int]
) -> None:
    there = items(client, "DescribeInstances", "Instances", "Instance", **asked)
    assert sorted(one["InstanceId"] for one in there) == sorted(made[number] for number in found)


def test_the_limits_of_an_account_are_told_by_name(client: Client) -> None:
    listing = ("DescribeAccountAttributes", "AccountAttributeItems", "AccountAttributeItem")
    assert len(items(client, *listing)) > 1
    found = only(client, *listing, AttributeName=["max-security-groups"])
    assert found == {"AttributeName": "max-security-groups", "AttributeValues": {"ValueItem": [{"Value": "100"}]}}
