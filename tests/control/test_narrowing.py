"""An answer from indexes is that of a walk over all documents, for any filters and pages of any store."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sgdataplane.control.actions.narrowing import Narrowing
from sgdataplane.control.actions.repository import Repository
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.store.bodies import TypedDocument
from sgdataplane.store.documents import ResourceKind, Workspace
from sgdataplane.store.interface import Json
from tests.support.inputs.controlling import Client, Randomly

NAMES = ("a", "web-1", "web-2", "*", "w*", "*1", "none")
TAGGED = {
    ResourceKind.GROUP: ("securitygroup", "ModifySecurityGroupAttribute", "SecurityGroupId", "SecurityGroupName"),
    ResourceKind.ENI: ("eni", "ModifyNetworkInterfaceAttribute", "NetworkInterfaceId", "NetworkInterfaceName"),
    ResourceKind.INSTANCE: ("instance", "ModifyInstanceAttribute", "InstanceId", "InstanceName"),
}
Ask = Callable[[], Json]


class Reader(Randomly):
    """Names and tags what others made, and asks for it by anything."""

    def decorate(self) -> None:
        kind = self.chance.choice(list(TAGGED))
        (word, modify, key, named), name = TAGGED[kind], self.any(kind)
        tag: Json = [{"Key": self.chance.choice("ab"), "Value": self.chance.choice(("1", "2", ""))}]
        calls: list[tuple[str, dict[str, Json]]] = [
            (modify, {key: name, named: self.chance.choice(NAMES[:3])}),
            ("TagResources", {"ResourceType": word, "ResourceId": [name], "Tag": tag}),
            ("JoinResourceGroup", {"ResourceType": word, "ResourceId": name, "ResourceGroupId": "rg-1"}),
        ]
        action, asked = self.chance.choice(calls)
        answer(self.client, action, asked)

    def reading(self) -> tuple[str, dict[str, Json]]:
        action, filters = self.chance.choice(list(self.filters().items()))
        often = self.chance.choice((0.0, 0.1, 0.3))
        asked = {name: ask() for name, ask in (filters | self.common()).items() if self.chance.random() < often}
        pages: tuple[dict[str, Json], ...] = (
            {},
            {"MaxResults": self.chance.choice((1, 3, 100)), "NextToken": self.chance.choice(("", "Mg==", "wrong"))},
            {"PageSize": 2, "PageNumber": self.chance.choice((1, 2, 9))},
        )
        return action, asked | self.chance.choice(pages)

    def filters(self) -> dict[str, dict[str, Ask]]:
        some = self._some
        where: dict[str, Ask] = {
            "VpcId": some(ResourceKind.VPC),
            "SecurityGroupId": some(ResourceKind.GROUP),
            "VSwitchId": some(ResourceKind.VSWITCH),
        }
        return {
            "DescribeSecurityGroups": {
                "SecurityGroupId": some(ResourceKind.GROUP),
                "SecurityGroupIds": self._ids(ResourceKind.GROUP),
                "SecurityGroupName": self._name,
                "VpcId": where["VpcId"],
                "SecurityGroupType": lambda: self.chance.choice(("normal", "enterprise")),
                "NetworkType": lambda: self.chance.choice(("vpc", "classic")),
            },
            "DescribeNetworkInterfaces": {
                **where,
                "NetworkInterfaceId": self._ids(ResourceKind.ENI),
                "NetworkInterfaceName": self._name,
                "InstanceId": some(ResourceKind.INSTANCE),
                "PrimaryIpAddress": self._address,
                "PrivateIpAddress": lambda: [self._address(), self._address()],
                "Type": lambda: self.chance.choice(("Primary", "Secondary")),
            },
            "DescribeInstances": {
                **where,
                "InstanceIds": self._ids(ResourceKind.INSTANCE),
                "InstanceName": self._name,
                "PrivateIpAddresses": lambda: json.dumps([self._address()]),
                "Filter": lambda: [{"Key": self.chance.choice(("CreationStartTime", "none")), "Value": "2026-01-31"}],
                "PublicIpAddresses": lambda: self.chance.choice(('["192.0.2.1"]', "[wrong")),
            },
            "DescribeVSwitches": {"VpcId": where["VpcId"], "VSwitchId": where["VSwitchId"], "VSwitchName": self._name},
        }

    def common(self) -> dict[str, Ask]:
        return {
            "ResourceGroupId": lambda: self.chance.choice(("rg-1", "rg-none")),
            "Tag": lambda: [{"Key": self.chance.choice("ab"), "Value": self.chance.choice((None, "", "1", "2"))}],
        }

    def _some(self, kind: ResourceKind) -> Ask:
        return lambda: self.any(kind)

    def _ids(self, kind: ResourceKind) -> Ask:
        return lambda: self.chance.choice(([self.any(kind), self.any(kind)], json.dumps([self.any(kind)]), "[wrong"))

    def _name(self) -> Json:
        return self.chance.choice(NAMES)

    def _address(self) -> Json:
        return f"10.{self.chance.randrange(2)}.0.{self.chance.randrange(1, 30)}"


def answer(client: Client, action: str, asked: dict[str, Json]) -> object:
    try:
        return client(action, **asked)
    except ApiError as error:
        return error.code, error.message


def walk(
    self: Narrowing[Any, Any], _: object, is_wanted: Callable[[TypedDocument[Any, Any]], bool]
) -> list[TypedDocument[Any, Any]]:
    """What `choose` returns, from all documents."""
    return [one for one in everything(self.documents) if is_wanted(one)]


def everything(documents: Repository[Any, Any]) -> Iterator[TypedDocument[Any, Any]]:
    bodies = documents.workspace.documents.of_kind[documents.of.kind]
    return (documents.of.read(name, bodies[name]) for name in sorted(bodies))


def test_an_answer_is_that_of_a_walk_over_all_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(Client(), random.Random(int(os.environ.get("SGDP_TEST_SEED", "1"))))
    found: dict[str, int] = {}
    for _ in range(30):
        for _ in range(12):
            reader.step()
            reader.decorate()
        for _ in range(25):
            action, asked = reader.reading()
            told = answer(reader.client, action, asked)
            with monkeypatch.context() as patch:
                patch.setattr(Narrowing, "choose", walk)
                patch.setattr(Narrowing, "by_ids_in", lambda *_: None)
                expected = answer(reader.client, action, asked)
            assert told == expected, (action, asked)
            found[action] = found.get(action, 0) + bool(
                asked.keys() - {"MaxResults"} and "'TotalCount': 0" not in str(told)
            )
    assert min(found.values()) > 10, found


def test_a_first_page_reads_no_other_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    vpc, _ = client.network()
    ids = sorted(client.group(vpc, SecurityGroupName=f"web-{number}") for number in range(40))
    read: list[str] = []
    get = Workspace.get

    def noting(self: Workspace, kind: ResourceKind, name: str) -> object:
        if kind is ResourceKind.GROUP:
            read.append(name)
        return get(self, kind, name)

    monkeypatch.setattr(Workspace, "get", noting)
    page: Any = client("DescribeSecurityGroups", MaxResults=3)
    assert [one["SecurityGroupId"] for one in page["SecurityGroups"]["SecurityGroup"]] == ids[:3]
    assert (page["TotalCount"], read) == (40, ids[:3])
    for asked in ({"SecurityGroupId": ids[7]}, {"SecurityGroupName": "web-7"}):
        read.clear()
        named: Any = client("DescribeSecurityGroups", **asked)
        assert named["TotalCount"] == len(read) == 1
