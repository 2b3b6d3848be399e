"""What a key may not do by way of something else, what it may not see in an answer, and what its reads may cost."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from sgdataplane.control.access.hiding import HIDDEN
from sgdataplane.control.access.permissions import AccessPolicy, read_policy
from sgdataplane.control.access.targets import CallTarget
from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.hosts.following import Following
from sgdataplane.control.service import events
from sgdataplane.control.service.analysis import HeavyAnswers
from sgdataplane.control.service.dispatch import ApiService
from sgdataplane.store.audit import local_call
from sgdataplane.store.call import Call
from sgdataplane.store.documents import ResourceKind
from sgdataplane.store.hosts import add_host
from sgdataplane.store.interface import Json, Write
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.run.memorystore import MemoryStore

OWNER = "LTAI-owner"


@dataclass
class Keys:
    """One key has a policy, and the other one may do everything."""

    policy: AccessPolicy

    def permits(self, call: Call, /) -> bool:
        return call.key == OWNER or self.policy.permits(call)

    def denies(self, call: Call, targets: Iterable[CallTarget], /) -> bool:
        return call.key != OWNER and self.policy.denies(call.action, targets)


def policy(*denied: str, action: str = "*") -> AccessPolicy:
    """All is allowed but these resources, if any."""
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    refused = {"Effect": "Deny", "Action": action, "Resource": [f"acs:ecs:*:*:{one}" for one in denied]}
    return read_policy(json.dumps({"Version": "1", "Statement": [everything, *([refused] if denied else [])]}))


class Shop:
    """Two instances of two groups at two hosts, and a key with a policy."""

    def __init__(self) -> None:
        self.store, self.keys = MemoryStore(), Keys(policy())
        for host in ("host-a", "host-b"):
            add_host(self.store, local_call("AddHost"), host)
        self.engine = Engine(self.store, "seed", counted_ids(), self.keys)
        self.owner, self.key = Client(self.engine, key=OWNER), Client(self.engine)
        self.vpc, self.switch = self.owner.network()
        self.groups = [self.owner.group(self.vpc) for _ in range(3)]
        self.instances = [self._instance(group, host) for group, host in zip(self.groups, "ab", strict=False)]
        self.enis = [self.primary(one) for one in self.instances]
        self.service = ApiService(
            self.engine, self.store, Following(self.engine, ()), heavy=HeavyAnswers(self.engine.profile)
        )

    def _instance(self, group: str, host: str) -> str:
        more: dict[str, Json] = {"Tag": [{"Key": "sgdp:host", "Value": f"host-{host}"}]}
        made = self.owner("RunInstances", VSwitchId=self.switch, SecurityGroupIds=[group], **more)
        return str(cast("Any", made)["InstanceIdSets"]["InstanceIdSet"][0])

    def primary(self, instance: str) -> str:
        enis = self.engine.documents.of_kind[ResourceKind.ENI].whole()
        return next(eni for eni, body in enis.items() if cast("Any", body)["state"].get("instance_id") == instance)

    def deny(self, *resources: str) -> None:
        self.keys.policy = policy(*resources)

    def events(self, key: str = "LTAI-test") -> list[dict[str, Any]]:
        """All that were, as this key sees them."""
        call = Call("SgdpDescribeEvents", {}, "request-1", key, "127.0.0.1", time.time())
        return cast("list[dict[str, Any]]", self.service.call(call).body["Events"])

    def ask(self, action: str, parameters: dict[str, Json], key: str = "LTAI-test") -> dict[str, Any]:
        """One of the actions that the cloud hasn't."""
        call = Call(action, parameters, "request-1", key, "127.0.0.1", time.time())
        return cast("dict[str, Any]", self.service.compute(call, threading.Event()).body)


@pytest.fixture
def shop() -> Shop:
    return Shop()


# what a call changes


@pytest.mark.parametrize("denied", ["eni/{eni}", "securitygroup/{none}"])
def test_a_deny_on_an_eni_holds_for_calls_on_its_instance(shop: Shop, denied: str) -> None:
    """To join a group by the instance changes its primary ENI."""
    shop.deny(denied.format(eni=shop.enis[0], none="sg-none"))
    asked: dict[str, Json] = {"SecurityGroupId": shop.groups[2], "InstanceId": shop.instances[0]}
    if denied.startswith("eni"):
        assert shop.key.refused("JoinSecurityGroup", **asked) == "Forbidden.RAM"
        shop.key("JoinSecurityGroup", **{**asked, "InstanceId": shop.instances[1]})
        shop.owner("JoinSecurityGroup", **asked)
    else:
        shop.key("JoinSecurityGroup", **asked)


def test_a_deny_on_an_eni_holds_when_its_instance_is_deleted(shop: Shop) -> None:
    shop.deny(f"eni/{shop.enis[0]}")
    assert shop.key.refused("DeleteInstance", InstanceId=[shop.instances[0]]) == "Forbidden.RAM"
    assert shop.engine.documents.get(f"network_interface/{shop.enis[0]}") is not None
    shop.key("DeleteInstance", InstanceId=[shop.instances[1]])


def test_a_deny_on_a_host_holds_for_what_moves_there_or_away_by_an_instance(shop: Shop) -> None:
    shop.deny("host/host-a")
    tag: Json = [{"Key": "sgdp:host", "Value": "host-b"}]
    away: dict[str, Json] = {"ResourceType": "instance", "ResourceId": [shop.instances[0]], "Tag": tag}
    assert shop.key.refused("TagResources", **away) == "Forbidden.RAM"
    gone: dict[str, Json] = {"ResourceType": "instance", "ResourceId": [shop.instances[0]], "TagKey": ["sgdp:host"]}
    assert shop.key.refused("UntagResources", **gone) == "Forbidden.RAM"
    secondary = shop.owner.text(
        "CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=shop.switch, SecurityGroupId=shop.groups[0]
    )
    there: dict[str, Json] = {"NetworkInterfaceId": secondary, "InstanceId": shop.instances[0]}
    assert shop.key.refused("AttachNetworkInterface", **there) == "Forbidden.RAM"
    shop.key("AttachNetworkInterface", **{**there, "InstanceId": shop.instances[1]})
    other: Json = [{"Key": "team", "Value": "x"}]
    shop.key("TagResources", **{**away, "Tag": other})


def test_what_a_call_makes_is_not_denied_by_what_is_there(shop: Shop) -> None:
    shop.deny(f"eni/{shop.enis[0]}", f"securitygroup/{shop.groups[0]}")
    shop.key("RunInstances", VSwitchId=shop.switch, SecurityGroupIds=[shop.groups[1]])


# what an answer shows


def test_explain_shows_no_id_that_the_key_may_not_see(shop: Shop) -> None:
    near, far = shop.enis
    address = cast("Any", shop.engine.documents.get(f"network_interface/{far}"))["state"]["private_ip_addresses"][0]
    asked: dict[str, Json] = {"NetworkInterfaceId": near, "SourceIp": address, "Port": 22}
    shop.owner(
        "AuthorizeSecurityGroup",
        SecurityGroupId=shop.groups[0],
        Permissions=[{"IpProtocol": "TCP", "PortRange": "22/22", "SourceGroupId": shop.groups[1], "Policy": "accept"}],
    )
    whole = json.dumps(shop.ask("SgdpExplain", asked, OWNER))
    assert far in whole
    shop.deny(f"eni/{far}", f"securitygroup/{shop.groups[1]}")
    told = json.dumps(shop.ask("SgdpExplain", asked))
    assert near in told
    assert HIDDEN in told
    assert far not in told
    assert shop.groups[1] not in told.replace(shop.groups[0], "")


def test_diff_shows_no_id_that_the_key_may_not_see(shop: Shop) -> None:
    """Of the group's members, where a new rule would let something in."""
    rule: Json = {"IpProtocol": "TCP", "PortRange": "22/22", "SourceCidrIp": "192.0.2.0/24"}
    asked: dict[str, Json] = {"SecurityGroupId": shop.groups[0], "Permissions": [rule]}
    whole = json.dumps(shop.ask("SgdpDiff", asked, OWNER))
    assert shop.enis[0] in whole
    shop.deny(f"eni/{shop.enis[0]}")
    told = json.dumps(shop.ask("SgdpDiff", asked))
    assert shop.groups[0] in told
    assert HIDDEN in told
    assert shop.enis[0] not in told


def test_events_show_no_rule_and_no_id_of_a_group_that_the_key_may_not_see(shop: Shop) -> None:
    """Neither while the group is there nor when it has gone."""
    seen, secret = shop.groups[2], shop.owner.group(shop.vpc)
    for group, source in ((seen, "192.0.2.0/24"), (secret, "198.51.100.0/24")):
        rule: Json = {"IpProtocol": "TCP", "PortRange": "22/22", "SourceCidrIp": source}
        shop.owner("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[rule])
    shop.deny(f"securitygroup/{secret}")
    assert "198.51.100.0" in json.dumps(shop.events(OWNER))
    events = shop.events()
    told = json.dumps(events)
    assert "192.0.2.0" in told
    assert "198.51.100.0" not in told
    assert secret not in told
    assert events[-1]["MoreRules"] == 1
    shop.owner("DeleteSecurityGroup", SecurityGroupId=secret)
    told = json.dumps(shop.events())
    assert "192.0.2.0" in told
    assert "198.51.100.0" not in told


# what reading costs


def test_an_answer_with_events_has_a_bounded_number_of_rules(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next ones have the others."""
    for name, value in (("MAX_EVENT_RULES", 5), ("EVENTS_AT_ONCE", 3)):
        monkeypatch.setattr(events, name, value)
    for first in range(1, 9):
        rule: dict[str, Json] = {"IpProtocol": "TCP", "SourceCidrIp": "192.0.2.0/24"}
        rules: list[Json] = [{**rule, "PortRange": f"{first}/{first + last}"} for last in range(2)]
        shop.owner("AuthorizeSecurityGroup", SecurityGroupId=shop.groups[0], Permissions=rules)
    whole, token = list[dict[str, Any]](), ""
    while True:
        call = Call("SgdpDescribeEvents", {"NextToken": token}, "r", OWNER, "127.0.0.1", time.time())
        answer = cast("dict[str, Any]", shop.service.call(call).body)
        assert sum(len(event["Rules"]) for event in answer["Events"]) <= 5
        whole += answer["Events"]
        token = answer["NextToken"]
        if not token:
            break
    assert [event["Revision"] for event in whole] == list(range(1, shop.engine.version.revision + 1))
    assert sum(len(event["Rules"]) for event in whole) == 16


def test_patterns_stay_nowhere(shop: Shop) -> None:
    """A megabyte a call stayed for good."""
    shop.key("DescribeSecurityGroups", SecurityGroupName="warm")
    tracemalloc.start()
    try:
        for number in range(20):
            shop.key("DescribeSecurityGroups", SecurityGroupName=f"*{number}" + "a?[" * 15_000)
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 1 << 20


@pytest.mark.parametrize(
    ("text", "pattern", "is_found"),
    [
        ("a-web", "*web", True),
        ("a-web", "a*b", True),
        ("a-web", "web", False),
        ("a[?]", "a[?]", True),
        ("ax", "a?", False),
    ],
)
def test_only_a_star_stands_for_others(shop: Shop, text: str, pattern: str, is_found: bool) -> None:
    group = shop.owner.group(shop.vpc, SecurityGroupName="sgname")
    put = {**cast("Any", shop.store.snapshot().documents[f"security_group/{group}"])}
    put["state"] = {**put["state"], "security_group_name": text}
    shop.store.commit(Write({}, {f"security_group/{group}": put}))
    shop.engine.catch_up()
    found = cast("Any", shop.key("DescribeSecurityGroups", SecurityGroupName=pattern))
    assert (found["TotalCount"] == 1) is is_found


DEEP = "[" * 30_000 + "]" * 30_000


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        ("DescribeInstances", {"InstanceIds": json.dumps([f"i-{n}" for n in range(101)])}),
        ("DescribeInstances", {"InstanceIds": DEEP}),
        ("DescribeInstances", {"InstanceIds": '[["i-1"]]'}),
        ("DescribeInstances", {"InstanceIds": "[" + "9" * 5_000 + "]"}),
        ("DescribeSecurityGroups", {"SecurityGroupIds": json.dumps(["sg-1"] * 101)}),
        ("DescribeNetworkInterfaces", {"NetworkInterfaceId": [f"eni-{n}" for n in range(101)]}),
        ("DescribeSecurityGroups", {"MaxResults": 10, "NextToken": "OTk5" * 2_000}),
        ("DescribeVpcs", {"VpcId": ",".join(f"vpc-{n}" for n in range(101))}),
    ],
)
def test_long_lists_and_odd_texts_are_refused(shop: Shop, action: str, parameters: dict[str, Json]) -> None:
    assert shop.key.refused(action, **parameters).startswith("InvalidParameter")


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        ("DescribeInstances", {"InstanceIds": json.dumps([f"i-{n}" for n in range(100)])}),
        ("DescribeSecurityGroups", {"SecurityGroupIds": json.dumps(["sg-1"] * 100)}),
        ("DescribeNetworkInterfaces", {"NetworkInterfaceId": [f"eni-{n}" for n in range(100)]}),
        ("DescribeVpcs", {"VpcId": ",".join(f"vpc-{n}" for n in range(100))}),
    ],
)
def test_lists_of_a_hundred_are_answered(shop: Shop, action: str, parameters: dict[str, Json]) -> None:
    """The control."""
    assert "TotalCount" in shop.key(action, **parameters)


@pytest.mark.parametrize("token", ["9" * 30, "9" * 5_000, "٣", "-1"])
def test_events_after_anything_are_told(shop: Shop, token: str) -> None:
    call = Call("SgdpDescribeEvents", {"NextToken": token}, "r", "LTAI-test", "127.0.0.1", time.time())
    assert "Events" in shop.service.call(call).body
