"""Calls to an engine, and random ones that try everything, also what must be refused."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.actions.scope import NEW_ACCOUNT, Habits
from sgdataplane.control.calls.answers import Answer, ApiError
from sgdataplane.store.call import Call
from sgdataplane.store.documents import ResourceKind
from sgdataplane.store.interface import Body, Json
from tests.support.run.memorystore import MemoryStore

GROUPS, INSTANCES = 6, 6
PORTS = ("22/22", "80/90", "443/443", "1/65535", "70000/1", "-1/-1")
CIDRS = ("0.0.0.0/0", "10.0.0.0/8", "10.0.1.7/32", "192.0.2.0/24", "nonsense")
HOST = "api.test:8080"  # as clients name the endpoint


def counted_ids() -> Callable[[str], str]:
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}-{next(numbers)}"


class Client:
    """Asks an engine as one key."""

    def __init__(
        self,
        engine: Engine | None = None,
        profile: str = "seed",
        key: str = "LTAI-test",
        habits: Habits = NEW_ACCOUNT,
    ) -> None:
        self.engine = engine or Engine(MemoryStore(), profile, counted_ids(), habits=habits)
        self.key = key

    def ask(self, action: str, **parameters: Json) -> Answer:
        return self._call(action, {}, parameters)

    def asked(self, action: str, extensions: Mapping[str, str], **parameters: Json) -> Body:
        return self._call(action, extensions, parameters).body

    def _call(self, action: str, extensions: Mapping[str, str], parameters: Mapping[str, Json]) -> Answer:
        call = Call(action, parameters, "request-1", self.key, "127.0.0.1", time.time(), extensions, HOST)
        return self.engine.call(call)

    def __call__(self, action: str, **parameters: Json) -> Body:
        return self.ask(action, **parameters).body

    def refused(self, action: str, **parameters: Json) -> str:
        """The code with which it is refused."""
        try:
            answer = self.ask(action, **parameters)
        except ApiError as error:
            return error.code
        raise AssertionError(f"{action} was answered: {answer.body}")

    def text(self, action: str, name: str, **parameters: Json) -> str:
        return str(self(action, **parameters)[name])

    def network(self, block: str = "10.0.0.0/16") -> tuple[str, str]:
        """A VPC and a VSwitch in it."""
        vpc_id = self.text("CreateVpc", "VpcId", CidrBlock=block)
        inner = block.replace("/16", "/24")
        return vpc_id, self.text("CreateVSwitch", "VSwitchId", VpcId=vpc_id, CidrBlock=inner, ZoneId="a")

    def group(self, vpc_id: str, **more: Json) -> str:
        return self.text("CreateSecurityGroup", "SecurityGroupId", VpcId=vpc_id, **more)


def items(client: Client, action: str, outer: str, inner: str, **parameters: Json) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", cast("dict[str, Any]", client(action, **parameters))[outer][inner])


def only(client: Client, action: str, outer: str, inner: str, **asked: Json) -> dict[str, Any]:
    """The only one that is listed."""
    (found,) = items(client, action, outer, inner, **asked)
    return found


def eni(client: Client, eni_id: str) -> dict[str, Any]:
    """An ENI as DescribeNetworkInterfaces has it."""
    outer, inner = "NetworkInterfaceSets", "NetworkInterfaceSet"
    return only(client, "DescribeNetworkInterfaces", outer, inner, NetworkInterfaceId=[eni_id])


def instance(client: Client, instance_id: str) -> dict[str, Any]:
    """An instance as DescribeInstances has it."""
    return only(client, "DescribeInstances", "Instances", "Instance", InstanceIds=f'["{instance_id}"]')


class Randomly:
    """A client that does anything, with ids that are there, were there, or never were."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        self.client, self.chance = client, chance
        self.seen: dict[ResourceKind, list[str]] = {kind: [f"{kind}-none"] for kind in ResourceKind}

    def any(self, kind: ResourceKind) -> str:
        names = sorted(self.client.engine.documents.of_kind[kind])
        self.seen[kind] += [name for name in names if name not in self.seen[kind]]
        return self.chance.choice(names if names and self.chance.random() < 0.9 else self.seen[kind])

    def permission(self) -> dict[str, Json]:
        chance = self.chance
        rule: dict[str, Json] = {
            "IpProtocol": chance.choice(("TCP", "udp", "ICMP", "ALL", "GRE")),
            "PortRange": chance.choice(PORTS),
            "Policy": chance.choice(("accept", "Drop")),
            "Priority": str(chance.choice((1, 1, 5, 100, 101))),
        }
        far = chance.choice(("Source", "Source", "Dest"))
        match chance.randrange(4):
            case 0:
                rule[f"{far}GroupId"] = self.any(ResourceKind.GROUP)
            case 1:
                rule[f"{far}PrefixListId"] = self.any(ResourceKind.PREFIX_LIST)
            case _:
                rule[f"{far}CidrIp"] = chance.choice(CIDRS)
        if chance.random() < 0.1:
            rule["PortRangeListId"] = self.any(ResourceKind.PORT_LIST)
        if chance.random() < 0.05:
            rule["NicType"] = "internet"
        return rule

    def parameters(self) -> Iterator[tuple[str, dict[str, Json]]]:
        """One call of each action that changes something."""
        chance, any_ = self.chance, self.any
        vpc, switch, group = any_(ResourceKind.VPC), any_(ResourceKind.VSWITCH), any_(ResourceKind.GROUP)
        eni, instance = any_(ResourceKind.ENI), any_(ResourceKind.INSTANCE)
        address = f"10.{chance.randrange(2)}.0.{chance.randrange(1, 30)}"
        rules = cast(Json, [self.permission() for _ in range(chance.choice((1, 1, 3)))])
        groups = cast(Json, [any_(ResourceKind.GROUP) for _ in range(chance.choice((1, 1, 2, 3)))])
        which: dict[str, Json] = {"NetworkInterfaceId": eni} if chance.random() < 0.5 else {"InstanceId": instance}
        yield "CreateVpc", {"CidrBlock": f"10.{chance.randrange(3)}.0.0/16"}
        yield "CreateVSwitch", {"VpcId": vpc, "CidrBlock": f"10.{chance.randrange(2)}.0.0/24", "ZoneId": "a"}
        kind = chance.choice(("normal", "normal", "enterprise"))
        yield "CreateSecurityGroup", {"VpcId": vpc if chance.random() < 0.9 else "", "SecurityGroupType": kind}
        yield "CreateInstance", {"VSwitchId": switch, "SecurityGroupId": group, "InstanceName": "a"}
        yield (
            "RunInstances",
            {"VSwitchId": switch, "SecurityGroupIds": groups, "Amount": 2, "PrivateIpAddress": address},
        )
        yield "CreateNetworkInterface", {"VSwitchId": switch, "SecurityGroupIds": groups, "PrimaryIpAddress": address}
        yield "CreateNetworkInterface", {"VSwitchId": switch, "SecurityGroupId": group, "Ipv4PrefixCount": 1}
        for _ in range(2):
            yield "AuthorizeSecurityGroup", {"SecurityGroupId": any_(ResourceKind.GROUP), "Permissions": rules}
            yield "AuthorizeSecurityGroupEgress", {"SecurityGroupId": group, "Permissions": rules}
        yield "RevokeSecurityGroup", {"SecurityGroupId": group, "Permissions": rules}
        yield "JoinSecurityGroup", {"SecurityGroupId": group, **which}
        yield "LeaveSecurityGroup", {"SecurityGroupId": group, **which}
        yield "AttachNetworkInterface", {"NetworkInterfaceId": eni, "InstanceId": instance}
        yield "DetachNetworkInterface", {"NetworkInterfaceId": eni, "InstanceId": instance}
        yield "ModifyNetworkInterfaceAttribute", {"NetworkInterfaceId": eni, "SecurityGroupId": groups}
        yield "AssignPrivateIpAddresses", {"NetworkInterfaceId": eni, "PrivateIpAddress": [address]}
        yield (
            "ModifySecurityGroupPolicy",
            {"SecurityGroupId": group, "InnerAccessPolicy": chance.choice(("Accept", "drop"))},
        )
        yield "CreatePrefixList", {
            "PrefixListName": "a", "AddressFamily": chance.choice(("IPv4", "IPv6")),
            "MaxEntries": chance.choice((0, 2, 20, 201)), "Entry": [{"Cidr": chance.choice(CIDRS)}],
        }  # fmt: skip
        yield (
            "CreatePortRangeList",
            {"PortRangeListName": "a", "MaxEntries": 3, "Entry": [{"PortRange": chance.choice(PORTS)}]},
        )
        yield (
            "ModifyPrefixList",
            {"PrefixListId": any_(ResourceKind.PREFIX_LIST), "AddEntry": [{"Cidr": chance.choice(CIDRS)}]},
        )
        yield "SgdpCloneSecurityGroup", {"SecurityGroupId": group, "VpcId": vpc}
        if chance.random() < 0.15:
            yield from self.deletions()

    def deletions(self) -> Iterator[tuple[str, dict[str, Json]]]:
        """One call of each action that deletes something."""
        yield "DeleteInstance", {"InstanceId": [self.any(ResourceKind.INSTANCE)]}
        yield "DeleteNetworkInterface", {"NetworkInterfaceId": self.any(ResourceKind.ENI)}
        yield "DeleteSecurityGroup", {"SecurityGroupId": self.any(ResourceKind.GROUP)}
        yield "DeletePrefixList", {"PrefixListId": self.any(ResourceKind.PREFIX_LIST)}
        yield "DeleteVSwitch", {"VSwitchId": self.any(ResourceKind.VSWITCH)}
        yield "DeleteVpc", {"VpcId": self.any(ResourceKind.VPC)}

    def step(self) -> tuple[str, str]:
        """One random call: the action, and the code with which it was refused or ""."""
        action, parameters = self.chance.choice(list(self.parameters()))
        try:
            self.client.ask(action, **parameters)
        except ApiError as error:
            return action, error.code
        return action, ""
