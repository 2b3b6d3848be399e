"""Actions of ours: what they answer, and who waits for what."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest

from sgdataplane.control.actions.engine import Engine
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.hosts.following import Following
from sgdataplane.control.service.analysis import HeavyAnswers
from sgdataplane.control.service.dispatch import ApiService
from sgdataplane.control.service.heavy import HEAVY
from sgdataplane.errors import HostError, LimitError, SilentError
from sgdataplane.model.state import CloudState
from sgdataplane.store.audit import local_call
from sgdataplane.store.call import Call
from sgdataplane.store.history import Version, begin_epoch
from sgdataplane.store.interface import Json, Write
from tests.support.inputs.controlling import Client, counted_ids
from tests.support.probes.flood import wait_until
from tests.support.run.memorystore import MemoryStore

NEVER = threading.Event()


class Somewhere:
    """A place that enforces when it is told to go on, and says what it was given."""

    name = "somewhere"

    def __init__(self) -> None:
        self.may_go_on, self.seen = threading.Event(), list[tuple[int, CloudState]]()
        self.refuses: Exception | None = None

    def put(self, version: Version, state: CloudState) -> None:
        assert self.may_go_on.wait(30)
        if self.refuses:
            raise self.refuses
        self.seen.append((version.revision, state))


class Bench:
    def __init__(self, place: Somewhere) -> None:
        self.store = store = MemoryStore()
        self.engine = Engine(store, "seed", counted_ids())
        self.client = Client(self.engine)
        self.following = Following(self.engine, [place])
        self.service = ApiService(self.engine, store, self.following, heavy=HeavyAnswers(self.engine.profile))

    def ask(self, action: str, **parameters: Json) -> dict[str, Any]:
        call = Call(action, parameters, "request-1", "LTAI-test", "127.0.0.1", time.time())
        if action == "SgdpWait":
            return cast("dict[str, Any]", self.service.wait(call, NEVER).body)
        answer = self.service.compute(call, NEVER) if action in HEAVY else self.service.call(call)
        return cast("dict[str, Any]", answer.body)


@pytest.fixture
def place() -> Somewhere:
    return Somewhere()


@pytest.fixture
def bench(place: Somewhere) -> Bench:
    return Bench(place)


def test_a_revision_is_enforced_only_once_its_place_says_so(bench: Bench, place: Somewhere) -> None:
    with bench.following:
        vpc, _ = bench.client.network()
        group = bench.client.group(vpc)
        assert bench.ask("SgdpWait", Timeout=0)["Lagging"] == ["somewhere"]
        place.may_go_on.set()
        answer = bench.ask("SgdpWait", Timeout=30)
    assert (answer["Revision"], answer["Enforced"], answer["Lagging"]) == (3, ["somewhere"], [])
    revision, state = place.seen[-1]
    assert (revision, [one.security_group_id for one in state.security_groups]) == (3, [group])


def test_what_never_was_is_not_waited_for(bench: Bench, place: Somewhere) -> None:
    """A revision that isn't there yet, as after a restore; and one of another epoch."""
    place.may_go_on.set()
    with bench.following:
        bench.client.network()
        for asked in ({"Revision": 9}, {"Revision": 2, "Epoch": 7}, {"Epoch": 7}):
            with pytest.raises(ApiError, match=r"InvalidRevision\.NotFound: There is no revision .*the last one is"):
                bench.ask("SgdpWait", Timeout=30, **asked)
        began = begin_epoch(bench.store, local_call("RestoreStore"))
        answer = bench.ask("SgdpWait", Timeout=30, Revision=began.revision, Epoch=began.epoch)
        assert (answer["Enforced"], answer["Epoch"]) == (["somewhere"], began.epoch)
        with pytest.raises(ApiError, match="There is no revision 2: "):
            bench.ask("SgdpWait", Timeout=30, Revision=2, Epoch=0)


def test_only_what_is_about_a_vpc_is_waited_for(bench: Bench, place: Somewhere) -> None:
    place.may_go_on.set()
    with bench.following:
        ours, _ = bench.client.network()
        bench.client.group(ours)
        assert bench.ask("SgdpWait", Timeout=30)["Revision"] == 3
        place.may_go_on.clear()
        other, _ = bench.client.network()
        bench.client.group(other)
        assert bench.ask("SgdpWait", Timeout=0)["Lagging"] == ["somewhere"]
        assert bench.ask("SgdpWait", Timeout=0, VpcId=other)["Lagging"] == ["somewhere"]
        answer = bench.ask("SgdpWait", Timeout=0, VpcId=ours)
        assert (answer["Revision"], answer["Enforced"]) == (3, ["somewhere"])
        with pytest.raises(ApiError, match=r"InvalidVpcId\.NotFound"):
            bench.ask("SgdpWait", Timeout=0, VpcId="vpc-none")
        place.may_go_on.set()
        assert bench.ask("SgdpWait", Timeout=30, VpcId=other)["Enforced"] == ["somewhere"]


def test_a_bug_at_a_place_is_told_and_the_next_revision_is_tried(
    bench: Bench, place: Somewhere, caplog: pytest.LogCaptureFixture
) -> None:
    place.refuses = ZeroDivisionError("a bug")
    place.may_go_on.set()
    with bench.following:
        bench.client.network()
        assert bench.ask("SgdpWait", Timeout=30)["Unknown"] == ["somewhere"]
        place.refuses = None
        bench.client.network("10.7.0.0/16")
        assert bench.ask("SgdpWait", Timeout=30)["Enforced"] == ["somewhere"]
    assert "a bug" in caplog.text


@pytest.mark.parametrize(
    ("refusal", "failed", "unknown"),
    [
        (HostError("eth0", "gone"), [{"Host": "somewhere", "Message": "eth0: gone"}], []),
        (SilentError("socket", "no answer"), [], ["somewhere"]),
    ],
    ids=["refused", "silent"],
)
def test_what_is_not_in_force_is_never_called_so(
    bench: Bench, place: Somewhere, refusal: HostError, failed: list[Json], unknown: list[str]
) -> None:
    place.refuses = refusal
    place.may_go_on.set()
    with bench.following:
        bench.client.network()
        answer = bench.ask("SgdpWait", Timeout=30)
        assert (answer["Enforced"], answer["Failed"], answer["Unknown"]) == ([], failed, unknown)
        assert "somewhere" in bench.service.why_unhealthy()
        place.refuses = None
        bench.client.network("10.7.0.0/16")
        assert bench.ask("SgdpWait", Timeout=30)["Enforced"] == ["somewhere"]
        assert bench.service.why_unhealthy() == ""


def test_a_wait_ends_when_the_service_stops(bench: Bench) -> None:
    stopping = threading.Event()
    stopping.set()
    bench.client.network()
    call = Call("SgdpWait", {"Timeout": 3000}, "request-1", "LTAI-test", "127.0.0.1", time.time())
    assert bench.service.wait(call, stopping).body["Lagging"] == ["somewhere"]


def test_a_difference_is_told_and_nothing_is_written(bench: Bench) -> None:
    vpc, switch = bench.client.network()
    group = bench.client.group(vpc)
    owner = bench.client.text("CreateInstance", "InstanceId", VSwitchId=switch, SecurityGroupId=group)
    revision = bench.engine.revision
    asked: list[Json] = [{"IpProtocol": "tcp", "PortRange": "22/22", "SourceCidrIp": "0.0.0.0/0"}]
    answer = bench.ask("SgdpDiff", SecurityGroupId=group, Permissions=asked)
    (change,) = answer["Changes"]
    assert (change["direction"], change["protocol"], change["ports"]) == ("ingress", "tcp", "22-22")
    assert len(answer["OpenedToInternet"]) == 1
    assert bench.engine.revision == revision
    assert owner.startswith("i-")
    with pytest.raises(ApiError, match=r"InvalidSourceGroupId\.NotFound"):
        bench.ask("SgdpDiff", SecurityGroupId=group, Permissions=[{"IpProtocol": "all", "SourceGroupId": "sg-none"}])


def test_a_verdict_is_explained_by_rule(bench: Bench) -> None:
    vpc, switch = bench.client.network()
    group = bench.client.group(vpc)
    bench.client(
        "AuthorizeSecurityGroup",
        SecurityGroupId=group,
        IpProtocol="tcp",
        PortRange="22/22",
        SourceCidrIp="192.0.2.0/24",
    )
    eni = bench.client.text("CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupId=group)
    asked: dict[str, Json] = {"NetworkInterfaceId": eni, "IpProtocol": "tcp", "SourceIp": "192.0.2.7"}
    passes = bench.ask("SgdpExplain", Port=22, **asked)
    assert passes["Passes"]
    assert passes["Ends"][0]["security_group_rule_id"].startswith("sgr-")
    assert not bench.ask("SgdpExplain", Port=23, **asked)["Passes"]
    with pytest.raises(ApiError, match="InvalidParameter"):
        bench.ask("SgdpExplain", Port=22, **(asked | {"SourceIp": "nowhere"}))


def test_events_tell_who_changed_what(bench: Bench) -> None:
    vpc, _ = bench.client.network()
    bench.client.group(vpc)
    first = bench.ask("SgdpDescribeEvents", MaxResults=2)
    rest = bench.ask("SgdpDescribeEvents", MaxResults=2, NextToken=first["NextToken"])
    found = [*first["Events"], *rest["Events"]]
    assert [event["Action"] for event in found] == ["CreateVpc", "CreateVSwitch", "CreateSecurityGroup"]
    assert [event["Revision"] for event in found] == [1, 2, 3]
    assert (found[0]["AccessKeyId"], found[0]["Changed"]) == ("LTAI-test", [f"vpc/{vpc}"])
    assert rest["NextToken"] == ""


def test_events_have_the_rules_that_changed_with_their_ports(bench: Bench) -> None:
    vpc, _ = bench.client.network()
    group = bench.client.group(vpc)
    rule: Json = {"IpProtocol": "tcp", "PortRange": "5432/5432", "SourceCidrIp": "192.0.2.0/24"}
    bench.ask("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[rule])
    (kept,) = bench.ask("DescribeSecurityGroupAttribute", SecurityGroupId=group)["Permissions"]["Permission"]
    named = {"SecurityGroupId": group, "SecurityGroupRuleId": kept["SecurityGroupRuleId"]}
    bench.ask("ModifySecurityGroupRule", PortRange="5433/5433", **named)
    bench.ask("RevokeSecurityGroup", SecurityGroupId=group, SecurityGroupRuleId=[kept["SecurityGroupRuleId"]])
    *_, created, added, modified, removed = bench.ask("SgdpDescribeEvents")["Events"]
    old = {
        "type": "ingress", "ip_protocol": "tcp", "port_range": "5432/5432", "cidr_ip": "192.0.2.0/24",
        "security_group_rule_id": kept["SecurityGroupRuleId"],
    }  # fmt: skip
    new = old | {"port_range": "5433/5433"}
    assert (created["Rules"], created["MoreRules"]) == ([], 0)
    changes = [(None, old), (old, new), (new, None)]
    for event, (before, after) in zip((added, modified, removed), changes, strict=True):
        assert event["Rules"] == [{"security_group_id": group, "before": before, "after": after}]
        assert event["MoreRules"] == 0


def test_a_record_keeps_so_many_rules_and_counts_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgdataplane.store.rulechanges.MAX_RULES", 2)
    vpc, _ = bench.client.network()
    rule: dict[str, Json] = {"IpProtocol": "tcp", "SourceCidrIp": "192.0.2.0/24"}
    rules: list[Json] = [{**rule, "PortRange": f"{port}/{port}"} for port in (80, 81, 82, 83, 84)]
    bench.ask("AuthorizeSecurityGroup", SecurityGroupId=bench.client.group(vpc), Permissions=rules)
    *_, event = bench.ask("SgdpDescribeEvents")["Events"]
    assert [change["after"]["port_range"] for change in event["Rules"]] == ["80/80", "81/81"]
    assert event["MoreRules"] == 3


def test_a_place_that_was_silent_is_asked_again(
    bench: Bench, place: Somewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another revision: what has failed may have come right by itself, such as an agent that starts late."""
    monkeypatch.setattr("sgdataplane.control.hosts.following.RETRY_S", 0.02)
    place.refuses = SilentError("socket", "no agent")
    place.may_go_on.set()
    with bench.following:
        bench.client.network()
        assert bench.ask("SgdpWait", Timeout=30)["Unknown"] == ["somewhere"]
        place.refuses = None
        wait_until(lambda: bench.ask("SgdpWait", Timeout=0)["Enforced"] == ["somewhere"])


def test_a_store_that_is_away_is_told_as_the_cloud_does_it(bench: Bench) -> None:
    bench.store.close()
    for action in ("SgdpDescribeEvents", "CreateVpc"):
        with pytest.raises(ApiError) as refused:
            bench.ask(action)
        assert (refused.value.code, refused.value.status) == ("ServiceUnavailable", 503)


def test_what_the_store_cant_hold_is_refused_and_nothing_changed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Write) -> int:
        raise LimitError("the document vpc/vpc-1 (bytes in etcd)", 5, 6)

    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "commit", refuse)
        with pytest.raises(ApiError) as raised:
            bench.ask("CreateVpc", CidrBlock="10.0.0.0/8")
    assert (raised.value.code, raised.value.status) == ("LimitExceeded.Store", 400)
    assert bench.ask("DescribeVpcs")["TotalCount"] == 0
    bench.ask("CreateVpc", CidrBlock="10.0.0.0/8")
    assert bench.ask("DescribeVpcs")["TotalCount"] == 1  # control
