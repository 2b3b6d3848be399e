"""Random requests over the table of actions, to the real service: whatever comes, it is answered, and never with a 5xx.

A seed is printed; SGDP_TEST_SEED sets it.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from sgdataplane.control.access.signature import Verifier
from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.calls.parameters import ParameterField, Table, tables
from sgdataplane.control.hosts.following import Following
from sgdataplane.control.http.accesslog import AccessLog
from sgdataplane.control.http.admission import Admission
from sgdataplane.control.http.api import Api, ApiLimits
from sgdataplane.control.http.server import ApiServer, listen_at
from sgdataplane.control.http.tokenbuckets import TokenBuckets
from sgdataplane.control.service.analysis import HeavyAnswers
from sgdataplane.control.service.dispatch import ApiService
from tests.http.conftest import Running
from tests.http.signing import KEYS, Reply, Signed, acs3, send_on, v1
from tests.support.run.memorystore import MemoryStore

FEW, MANY = 2_000, 20_000
UNHURRIED = ApiLimits(refusals=1e6)
ODD = (
    "",
    " ",
    "0",
    "-1",
    "1e9",
    "9" * 18,
    "9" * 400,
    "nan",
    "True",
    "null",
    "[]",
    "{}",
    '["i-1"]',
    "é\u202e\x1b[0m\0\n",
    "\ud7ff\U0010ffff",
    "'; drop table documents; --",
    "../../etc/passwd",
    "%n%s%x",
    "${jndi:x}",
    "a" * 5_000,
    "*",
    "1.2.3.4/33",
    "::/129",
    "fe80::1%eth0",
    "1/0",
    "65536/1",
    "-1/-1",
)
PLAUSIBLE = (
    "cn-hangzhou",
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.0.0.7",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::/64",
    "TCP",
    "udp",
    "ALL",
    "icmp",
    "22/22",
    "1/65535",
    "-1/-1",
    "accept",
    "drop",
    "Accept",
    "Drop",
    "1",
    "5",
    "100",
    "normal",
    "enterprise",
    "IPv4",
    "IPv6",
    "ingress",
    "egress",
    "all",
    "instance",
    "securitygroup",
    "eni",
    "true",
    "web",
    "a",
)
ID = re.compile(r"^[a-z]+-[0-9a-z]{10,}$")
# What a field's name ends with, and how the ids that make sense there begin.
PREFIXES = {
    "VpcId": "vpc-",
    "VSwitchId": "vsw-",
    "GroupId": "sg-",
    "GroupIds": "sg-",
    "NetworkInterfaceId": "eni-",
    "InstanceId": "i-",
    "PortRangeListId": "prl-",
    "PrefixListId": "pl-",
    "ResourceId": "sg-",
}
FITTING = {
    "CidrBlock": ("10.0.0.0/16", "10.0.1.0/24", "10.1.0.0/16"),
    "IpProtocol": ("TCP", "udp", "ICMP", "ALL"),
    "PortRange": ("22/22", "1/65535", "-1/-1"),
    "Policy": ("accept", "drop"),
    "Priority": ("1", "100"),
    "AddressFamily": ("IPv4", "IPv6"),
    "ResourceType": ("securitygroup", "eni", "instance"),
    "ClientToken": ("a", "b", "c", "d", "e", "f", "g", "h"),
    "NextToken": ("", "1"),
    "InnerAccessPolicy": ("Accept", "Drop"),
    "SecurityGroupType": ("normal", "enterprise"),
    "CidrIp": ("0.0.0.0/0", "10.0.0.0/8", "10.0.1.7/32"),
    "PrivateIpAddress": ("10.0.1.7", "10.0.1.8"),
    "Cidr": ("10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"),
}


# Fields without which little is done.
OFTEN = {"IpProtocol", "PortRange", "SourceCidrIp", "DestCidrIp", "VSwitchId", "SecurityGroupId", "NetworkInterfaceId"}
# What there is at first, and again from time to time; a value such as "vpc-" stands for the newest id of that kind.
RULE = {
    "Permissions.1.IpProtocol": "TCP",
    "Permissions.1.PortRange": "22/22",
    "Permissions.1.SourceCidrIp": "10.0.0.0/8",
}
WORLD: tuple[tuple[str, dict[str, str]], ...] = (
    ("CreateVpc", {"CidrBlock": "10.0.0.0/16"}),
    ("CreateVSwitch", {"VpcId": "vpc-", "CidrBlock": "10.0.1.0/24", "ZoneId": "a"}),
    ("CreateSecurityGroup", {"VpcId": "vpc-"}),
    ("CreateSecurityGroup", {"VpcId": "vpc-"}),
    ("AuthorizeSecurityGroup", {"SecurityGroupId": "sg-", **RULE}),
    ("RunInstances", {"VSwitchId": "vsw-", "SecurityGroupId": "sg-", "Amount": "3"}),
    ("CreateNetworkInterface", {"VSwitchId": "vsw-", "SecurityGroupId": "sg-"}),
    ("DescribeNetworkInterfaces", {}),
    ("CreatePrefixList", {"PrefixListName": "a", "AddressFamily": "IPv4", "MaxEntries": "20"}),
    ("CreatePortRangeList", {"PortRangeListName": "a", "MaxEntries": "20"}),
)


class Fuzzer:
    """Makes requests; learns ids from the answers."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.ids: dict[str, list[str]] = {}

    def request(self) -> tuple[str, Signed]:
        chance = self.chance
        action = chance.choice(sorted(tables()))
        pairs = dict(self.pairs(tables()[action], ""))
        pairs |= (
            {} if chance.random() < 0.8 else {chance.choice(("on", "SgdpConsole", "Tag.x", "A.1.B.2.C")): self.text()}
        )
        request = self.signed(action if chance.random() < 0.98 else self.text(30), pairs)
        return action, request if chance.random() < 0.9 else self.damaged(request)

    def pairs(self, table: Table, head: str) -> Iterator[tuple[str, str]]:
        for name, described in table.items():
            if self.chance.random() < (0.95 if described.is_required else 0.25):
                yield from self.field(described, head + name)

    def field(self, described: ParameterField, path: str) -> Iterator[tuple[str, str]]:
        chance = self.chance
        if chance.random() < 0.02:
            yield path + chance.choice((".1", ".0", ".1.2.3", ".99999999", "")), self.text()
        elif described.is_list:
            for index in chance.sample(range(1, 5), chance.randrange(1, 4)):
                yield from self.field(replace(described, is_list=False), f"{path}.{index}")
        elif described.fields:
            yield from self.pairs(described.fields, f"{path}.")
        else:
            yield path, self.value(described.kind, path)

    def value(self, kind: str, path: str) -> str:
        chance = self.chance
        if chance.random() < 0.04:
            return self.text()
        match kind:
            case "boolean":
                return chance.choice(("true", "False", "False"))
            case "integer" | "number":
                return str(chance.choice((1, 2, 10, 100, 1, 2, 10, 0, 1000, -1, 2**31, 10**17)))
        return self.fitting(re.sub(r"\.\d+$", "", path)) if chance.random() < 0.9 else chance.choice(PLAUSIBLE)

    def fitting(self, path: str) -> str:
        """A value that makes sense there, as far as a name tells."""
        name = path.rpartition(".")[2]
        for end, prefix in PREFIXES.items():
            if name.endswith(end):
                return self.chance.choice(self.ids.get(prefix) or ["none"])
        pool = next((values for end, values in FITTING.items() if name.endswith(end)), PLAUSIBLE)
        return self.chance.choice(pool)

    def text(self, most: int = 10_000) -> str:
        return self.chance.choice(ODD)[:most]

    def signed(self, action: str, pairs: dict[str, str]) -> Signed:
        chance = self.chance
        form = (
            {name: pairs.pop(name) for name in list(pairs) if chance.random() < 0.5} if chance.random() < 0.5 else None
        )
        method = "POST" if form is not None else chance.choice(("GET", "POST"))
        if chance.random() < 0.5:
            return v1(action, pairs, form, method=method)
        header = re.sub(r"[^\x20-\x7e]", "?", action).strip() or "x"
        return acs3(header, pairs, form, method=method)

    def damaged(self, request: Signed) -> Signed:
        chance, text = self.chance, request.target
        cut = chance.randrange(2, len(text) + 1)
        name = chance.choice(sorted(request.headers) or ["host"])
        return chance.choice(
            (
                replace(request, target=text[:cut]),
                replace(request, target=text[:cut] + chance.choice("%&=.+~") + text[cut:]),
                replace(request, target=text + "&" + text[2:]),
                replace(request, body=request.body[: len(request.body) // 2] + b"&%"),
                replace(request, headers={**request.headers, name: chance.choice(("", "x", "A=B,C;D"))}),
                replace(request, headers={each: value for each, value in request.headers.items() if each != name}),
            )
        )

    def learn(self, reply: Reply) -> None:
        for text in filter(ID.match, strings(reply.body)):
            known = self.ids.setdefault(f"{text.partition('-')[0]}-", [])
            known[:] = known if text in known else [*known[-20:], text]


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def service(lines: list[str]) -> Iterator[Running]:
    """The real engine over a store in memory, behind HTTP."""
    store = MemoryStore()
    engine = Engine(store)
    with Following(engine, []) as following:
        admission = Admission(Verifier(KEYS.get), buckets=TokenBuckets(1e6, 1e6))
        api = Api(
            ApiService(engine, store, following, heavy=HeavyAnswers(engine.profile)),
            admission,
            AccessLog(lines.append),
            UNHURRIED,
        )
        running = Running(ApiServer(api, listen_at("127.0.0.1:0")))
        yield running
        running.stop()


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_no_request_gets_a_5xx(service: Running, lines: list[str], count: int) -> None:
    seed = int(os.environ.get("SGDP_TEST_SEED", random.randrange(1 << 32)))
    print(f"SGDP_TEST_SEED={seed}")
    fuzzer, done = Fuzzer(random.Random(seed)), Counter[str]()
    with closing(http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)) as connection:
        for number in range(count):
            if number % 200 == 0:
                build(fuzzer, connection)
            once(fuzzer, connection, done)
    entries = [json.loads(line) for line in lines]
    assert [entry["traceback"] for entry in entries if "traceback" in entry] == []
    assert len(done) > 40, "most actions were done at least once"


def build(fuzzer: Fuzzer, connection: http.client.HTTPConnection) -> None:
    for action, pairs in WORLD:
        filled = {name: fuzzer.ids[value][-1] if value in fuzzer.ids else value for name, value in pairs.items()}
        reply = send_on(connection, acs3(action, filled))
        assert reply.status == 200, reply
        fuzzer.learn(reply)


def once(fuzzer: Fuzzer, connection: http.client.HTTPConnection, done: Counter[str]) -> None:
    action, request = fuzzer.request()
    reply = send_on(connection, request)
    assert reply.status < 500, (action, request, reply)
    assert reply.body["RequestId"]
    assert ("Code" in reply.body) == (reply.status != 200), (action, request, reply)
    fuzzer.learn(reply)
    if reply.status == 200:
        done[action] += 1
