"""A heavy answer from the part of the documents that it follows from is the one that all documents give."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from sgdataplane.control.actions.scope import NEW_ACCOUNT, Habits
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.service.analysis import HeavyAnswers
from sgdataplane.control.service.parts import part_for
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents, ResourceKind
from sgdataplane.store.interface import Body, Json
from tests.support.inputs.controlling import Client, Randomly

ANSWERS = HeavyAnswers("seed")
WORDS = {ResourceKind.GROUP: "GroupId", ResourceKind.PREFIX_LIST: "PrefixListId"}


class Town(Randomly):
    """Two VPCs whose groups name each other and lists, and ENIs in several groups."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        super().__init__(client, chance)
        self.networks = [client.network(f"10.{number}.0.0/16") for number in range(2)]
        kinds = ["normal"] * 4 + ["enterprise"]
        groups = {vpc: [client.group(vpc, SecurityGroupType=kind) for kind in kinds] for vpc, _ in self.networks}
        for prefix in ("10.0.0.0/28", "203.0.113.0/24"):
            client("CreatePrefixList", PrefixListName="a", AddressFamily="IPv4", MaxEntries=2, Entry=[{"Cidr": prefix}])
        for vpc, switch in self.networks:
            for number in range(8):
                some: Json = self.chance.sample(groups[vpc][:4], self.chance.choice((1, 2)))
                self.tried("CreateNetworkInterface", VSwitchId=switch, SecurityGroupIds=some)
                one: Json = self.chance.choice(groups[vpc])
                self.tried("CreateInstance", VSwitchId=switch, SecurityGroupId=one, InstanceName=f"web-{number}")
        for group in (one for some in groups.values() for one in some):
            self.tried("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=self.rules("Source"))
            self.tried("AuthorizeSecurityGroupEgress", SecurityGroupId=group, Permissions=self.rules("Dest"))

    def tried(self, action: str, **asked: Json) -> None:
        with suppress(ApiError):
            self.client(action, **asked)

    def rules(self, end: str) -> Json:
        return [self.rule(end) for _ in range(self.chance.choice((1, 2, 3)))]

    def rule(self, end: str) -> Json:
        chance = self.chance
        kind = chance.choice((ResourceKind.GROUP, ResourceKind.GROUP, ResourceKind.PREFIX_LIST, None))
        far: dict[str, Json] = {f"{end}CidrIp": chance.choice(("0.0.0.0/0", "10.0.0.7/32", "10.0.0.0/8"))}
        if kind is not None:
            far = {f"{end}{WORDS[kind]}": self.any(kind)}
        return {
            "IpProtocol": chance.choice(("TCP", "UDP")),
            "PortRange": chance.choice(("22/22", "80/90", "1/65535")),
            "Policy": chance.choice(("accept", "accept", "drop")),
            "Priority": chance.choice(("1", "5")),
            **far,
        }

    def explaining(self) -> Call:
        chance = self.chance
        bodies = self.client.engine.documents.of_kind[ResourceKind.ENI].values()
        addresses = sorted({one for body in bodies for one in cast(Any, body)["state"]["private_ip_addresses"]})
        way = chance.choice(("ingress", "egress"))
        far = "SourceIp" if way == "ingress" else "DestIp"
        return asked(
            "SgdpExplain",
            NetworkInterfaceId=self.any(ResourceKind.ENI),
            Direction=chance.choice((way, way, way, "sideways")),
            IpProtocol=chance.choice(("tcp", "udp", "icmp")),
            Port=chance.choice((22, 85, 443)),
            **{far: chance.choice([*addresses, *addresses, "192.0.2.7", "2001:db8::1", "nonsense"])},
        )

    def differing(self) -> Call:
        chance = self.chance
        more: dict[str, Json] = {}
        for name, end in (("Permissions", "Source"), ("EgressPermissions", "Dest")):
            if chance.random() < 0.7:
                more[name] = self.rules(end)
        if chance.random() < 0.3:
            more["InnerAccessPolicy"] = chance.choice(("Accept", "drop"))
        return asked("SgdpDiff", SecurityGroupId=self.any(ResourceKind.GROUP), **more)


def asked(action: str, **parameters: Json) -> Call:
    return Call(action, parameters, "request-1", "LTAI-test", "127.0.0.1", time.time())


def answer(documents: Documents, call: Call) -> object:
    try:
        return ANSWERS.compute(documents, call)
    except ApiError as error:
        return error.code, error.message, error.status


def is_telling(told: object) -> bool:
    """Whether an answer has more than its form."""
    found = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    return len(found.get("Ends", ())) == 2 or bool(found.get("Changes") or found.get("WouldOpen"))


@pytest.mark.parametrize("habits", [NEW_ACCOUNT, Habits(is_classic=True)], ids=["new account", "classic"])
def test_an_answer_from_its_part_is_the_one_of_all_documents(habits: Habits) -> None:
    chance = random.Random(int(os.environ.get("SGDP_TEST_SEED", "1")))
    telling: dict[str, int] = {}
    for _ in range(3):
        town = Town(Client(habits=habits), chance)
        calls: tuple[Callable[[], Call], ...] = (town.explaining, town.differing)
        for _ in range(4):
            for _ in range(8):
                town.step()
            documents = town.client.engine.documents
            for call in (make() for make in calls for _ in range(6)):
                told = answer(part_for(documents, call), call)
                assert told == answer(documents, call), call
                telling[call.action] = telling.get(call.action, 0) + is_telling(told)
    assert min(telling.values()) > 8, telling


def test_a_part_has_nothing_of_others() -> None:
    """Two groups that name each other; the members of each are far ends for the other."""
    client = Client()
    vpc, switch = client.network()
    web, db, other = (client.group(vpc) for _ in range(3))
    enis = {group: client.text("CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupId=group)
            for group in (web, db, other)}  # fmt: skip
    rule: Json = [{"IpProtocol": "TCP", "PortRange": "22/22", "SourceGroupId": web}]
    client("AuthorizeSecurityGroup", SecurityGroupId=db, Permissions=rule)
    client("AuthorizeSecurityGroup", SecurityGroupId=other, Permissions=rule)
    documents = client.engine.documents
    part = part_for(documents, asked("SgdpExplain", NetworkInterfaceId=enis[db], SourceIp="192.0.2.7"))
    assert paths(part) == {f"vpc/{vpc}", f"security_group/{web}", f"security_group/{db}",
                           f"network_interface/{enis[web]}", f"network_interface/{enis[db]}"}  # fmt: skip
    assert state(part, f"network_interface/{enis[web]}")["member_only"] is True
    assert "rules" not in state(part, f"security_group/{web}")
    of_web = part_for(documents, asked("SgdpDiff", SecurityGroupId=web))
    assert paths(of_web) == {f"vpc/{vpc}", f"security_group/{web}", f"network_interface/{enis[web]}"}
    proposing: Json = [{"IpProtocol": "TCP", "PortRange": "22/22", "SourceGroupId": other}]
    proposed = part_for(documents, asked("SgdpDiff", SecurityGroupId=web, Permissions=proposing))
    assert paths(proposed) - paths(of_web) == {f"security_group/{other}", f"network_interface/{enis[other]}"}


@pytest.mark.parametrize(
    "parameters", [{}, {"NetworkInterfaceId": "eni-none"}, {"SecurityGroupId": "sg-none", "Permissions": [{}]}]
)
@pytest.mark.parametrize("action", ["SgdpExplain", "SgdpDiff"])
def test_a_call_that_names_nothing_has_an_empty_part(action: str, parameters: dict[str, Json]) -> None:
    client = Client()
    client.group(client.network()[0])
    assert paths(part_for(client.engine.documents, asked(action, **parameters))) == set()


def paths(documents: Documents) -> set[str]:
    return {f"{kind}/{name}" for kind, of_kind in documents.of_kind.items() for name in of_kind}


def state(documents: Documents, path: str) -> Body:
    return cast("dict[str, Any]", documents.get(path))["state"]  # type: ignore[no-any-return]
