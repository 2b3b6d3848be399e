"""Rubbish in any parameter of any action: it is refused, or taken and then does no harm. Whatever was stored,
everything can still be described, which the API would answer with a 500 for ever if it couldn't."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

from sgdataplane.control.actions import ACTIONS
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.calls.parameters import Table, nest_and_type, tables
from sgdataplane.store.interface import Json
from sgdataplane.visible import json_text
from tests.support.inputs.controlling import Client

RUBBISH = (
    *(
        "abc",
        "-1",
        "0",
        "999999999999999999",
        "1.5",
        "nan",
        "1e9",
        "true",
        "[",
        "[]",
        '["x"]',
        "[[]]",
        '["x", 1, null]',
        "{}",
    ),
    *(",", "*", "a/b", "::", "::/0", "10.0.0.0/8", "10.0.0.1", "256.1.1.1", "٣", "\x00\x1b[2J\u202e\r", "x" * 5_000),
    *("2026-13-99T99:99Z", "MTA=", "internet", "sgdp:host", "../../etc"),
)
AT_ONCE = 60  # calls that were taken, after which everything is described; a page of most lists is 100
STEPS = ("Create", "Run", "Import", "Authorize", "Attach", "Assign", "Join", "Modify", "Tag", "Add")
READS = sorted(action for action, one in ACTIONS.items() if not one.writes)


class World:
    """An API in which there is one of everything, and the ids by which parameters name it."""

    def __init__(self) -> None:
        self.client = Client()
        vpc = self.client.text("vpc:CreateVpc", "VpcId", CidrBlock="10.0.0.0/8", EnableIpv6=True)
        where: dict[str, Json] = {"VpcId": vpc, "ZoneId": "a", "CidrBlock": "10.1.0.0/16", "Ipv6CidrBlock": 1}
        switch = self.client.text("vpc:CreateVSwitch", "VSwitchId", **where)
        self.client("vpc:CreateVSwitchCidrReservation", VSwitchId=switch, VSwitchCidrReservationCidr="10.1.9.0/24")
        group = self.client.group(vpc)
        rule: Json = {"IpProtocol": "tcp", "PortRange": "22/22", "SourceCidrIp": "0.0.0.0/0"}
        self.client("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[rule])
        made = self.client.text("CreateInstance", "InstanceId", VSwitchId=switch, SecurityGroupId=group)
        eni = self.client.text("CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupId=group)
        entry: list[Json] = [{"Cidr": "10.0.0.0/8"}]
        prefixes = self.client.text(
            "CreatePrefixList", "PrefixListId", PrefixListName="p", AddressFamily="IPv4", MaxEntries=9, Entry=entry
        )
        ports = self.client.text(
            "CreatePortRangeList", "PortRangeListId", PortRangeListName="p", MaxEntries=9,
            Entry=[{"PortRange": "80/80"}],
        )  # fmt: skip
        self.client("ImportKeyPair", KeyPairName="mine", PublicKeyBody="ssh-rsa AAAA")
        self.ids = {
            "VpcId": vpc, "VSwitchId": switch, "SecurityGroupId": group, "InstanceId": made, "NetworkInterfaceId": eni,
            "PrefixListId": prefixes, "PortRangeListId": ports, "KeyPairName": "mine", "SecurityGroupIds": group,
            "InstanceIds": json.dumps([made]), "RouteTableId": vpc.replace("vpc-", "vtb-"), "ResourceType": "instance",
            "ResourceId": made, "CidrBlock": "10.2.0.0/16", "SecondaryCidrBlock": "192.168.0.0/16", "ZoneId": "a",
            "IpProtocol": "tcp", "PortRange": "1/2", "SourceCidrIp": "10.0.0.0/8", "DestCidrIp": "10.0.0.0/8",
            "AddressFamily": "IPv4", "MaxEntries": "5", "PrefixListName": "q", "PortRangeListName": "q",
            "DestinationResource": "InstanceType", "Id": "cn-hangzhou", "ServiceCode": "ecs",
            "Permission": "InstanceAttach", "AccountId": "12",
            "VSwitchCidrReservationCidr": "10.1.8.0/24", "InstanceType": "ecs.g6.large",
            "PublicKeyBody": "ssh-rsa AAAA", "ResourceGroupId": "rg-1", "Amount": "1",
        }  # fmt: skip

    def ask(self, action: str, pairs: Mapping[str, str]) -> bool:
        """Whether it was taken. Any error but the API's own ends the test; so does an answer that can't be written."""
        try:
            answer = self.client(action, **nest_and_type(action, pairs).named)
        except ApiError:
            return False
        json_text(answer)
        return True

    def needed(self, action: str) -> dict[str, str]:
        """What makes the action do something: all of its parameters that name what there is, as they are needed."""
        table = tables()[action]
        names = [
            name for name, one in table.items() if one.is_required or action.startswith(STEPS) or name == "VSwitchId"
        ]
        found = {}
        for name in names:
            if name in self.ids and not table[name].fields:
                found[f"{name}.1" if table[name].is_list else name] = self.ids[name]
        if action in ("RunInstances", "CreateInstance"):
            found = {name: found[name] for name in ("VSwitchId", "SecurityGroupId")}
        return found

    def describe_all(self) -> None:
        for action in READS:
            pages = {
                name: most for name, most in (("MaxResults", "100"), ("PageSize", "100")) if name in tables()[action]
            }
            self.ask(action, {**self.needed(action), **pages})
            self.ask(action, {**self.needed(action), **dict([*pages.items()][:1])})
            self.ask(action, pages)


def leaves(table: Table, path: str = "") -> Iterator[str]:
    """The names of all parameters of a table, the first of each list."""
    for name, one in table.items():
        whole = f"{path}{name}" + (".1" if one.is_list else "")
        if one.fields:
            yield from leaves(one.fields, f"{whole}.")
        else:
            yield whole


@pytest.mark.parametrize("action", sorted(ACTIONS.keys() - {"SgdpReset"}))
def test_rubbish_in_a_parameter_breaks_nothing(action: str) -> None:
    *_, last = ("", *leaves(tables()[action]))
    world, taken = World(), list[str]()
    for parameter in leaves(tables()[action]):
        for value in RUBBISH:
            try:
                if world.ask(action, {**world.needed(action), parameter: value}):
                    taken.append(f"{parameter}={value[:20]!r}")
            except Exception as error:
                raise AssertionError(f"{action} {parameter}={value!r}") from error
        if ACTIONS[action].writes and (len(taken) > AT_ONCE or parameter == last):
            try:
                world.describe_all()
            except Exception as error:
                raise AssertionError(f"not everything is described after {action} with each of {taken}") from error
            world, taken = World(), []
