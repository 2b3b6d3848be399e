"""SgdpTrialStart, SgdpTrialShow and SgdpTrialStop: what is asked gets into the group, and counts of hosts come back."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from sgdataplane.control.access.permissions import BUILT_IN
from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.service.trials import LONGEST_S, WAITING
from sgdataplane.model.state import CloudState, GroupRef
from sgdataplane.statefile import load_native
from sgdataplane.store.call import Call
from sgdataplane.store.documents import ResourceKind, native, state_in
from sgdataplane.store.interface import Json
from tests.control.test_hostwaits import ManyHosts
from tests.support.inputs.summaries import host

SQL: dict[str, Json] = {"IpProtocol": "TCP", "PortRange": "5432/5432", "SourceCidrIp": "10.0.0.0/8"}


class Trying(ManyHosts):
    """Two hosts, with an instance each in a group of its own. `group` is the one of host a."""

    def __init__(self) -> None:
        super().__init__()
        self.group = self.group_at("a")

    def group_at(self, name: str) -> str:
        found = self.ask("DescribeSecurityGroups", VpcId=self.vpcs[name])["SecurityGroups"]["SecurityGroup"]
        return str(found[0]["SecurityGroupId"])

    def start(self, *rules: dict[str, Json], **more: Json) -> dict[str, Any]:
        return self.ask("SgdpTrialStart", SecurityGroupId=self.group, Permissions=cast(Json, [*rules]), **more)

    def show(self) -> dict[str, Any]:
        return self.ask("SgdpTrialShow", SecurityGroupId=self.group)

    def counted(self, since: int, *packets: int, paused: str = "", group: str = "") -> dict[str, Json]:
        """What a host says of the trial: lines that close, with so many packets."""
        lines: Json = [{"eni": "eni-1", "verdict": "closes", "packets": count} for count in packets]
        said = {"opens": 0, "closes": sum(packets), "count": len(packets), "lines": lines, "paused": paused}
        return {"group": group or self.group, "since": since, "until": since + 60, **said}

    def say_of(self, name: str, *trials: dict[str, Json]) -> None:
        self.say(**{name: host(self.engine.revision, trials=cast(Json, [*trials]))})

    @property
    def state(self) -> CloudState:
        return load_native(native(self.engine.documents.bodies()), profile="seed").state


@pytest.fixture
def trying() -> Trying:
    return Trying()


def seconds(text: str) -> int:
    return int(time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone)


def test_what_is_on_trial_is_in_the_group_and_decides_nothing(trying: Trying) -> None:
    before = trying.state
    answer = trying.start(SQL, Duration=60, InnerAccessPolicy="Drop")
    assert seconds(answer["Until"]) - seconds(answer["Since"]) == 60
    group = trying.state.group[trying.group]
    assert (group.rules, group.inner_access_policy) == (
        before.group[trying.group].rules,
        before.group[trying.group].inner_access_policy,
    )
    assert [str(rule.port_range) for rule in group.proposed.rules] == ["5432/5432"]
    assert group.proposed.inner_access_policy.value == "drop"
    shown = trying.ask("DescribeSecurityGroupAttribute", SecurityGroupId=trying.group)
    assert shown["Permissions"]["Permission"] == []


def test_a_rule_that_comes_meanwhile_leaves_the_trial_as_it_is(trying: Trying) -> None:
    trying.start(SQL)
    proposed = trying.state.group[trying.group].proposed
    trying.ask("AuthorizeSecurityGroup", SecurityGroupId=trying.group, Permissions=[{**SQL, "PortRange": "80/80"}])
    group = trying.state.group[trying.group]
    assert (len(group.rules), group.proposed) == (1, proposed)


@pytest.mark.parametrize(
    ("rule", "more", "code"),
    [
        ({**SQL, "PortRange": "0/99999"}, {}, "InvalidParam.PortRange"),
        ({**SQL, "IpProtocol": "xyz"}, {}, "InvalidIpProtocol"),
        ({"IpProtocol": "ALL", "PortRange": "-1/-1", "SourceGroupId": "sg-none"}, {}, "InvalidSourceGroupId.NotFound"),
        (SQL, {"Duration": 0}, "InvalidParameter"),
        (SQL, {"Duration": LONGEST_S + 1}, "InvalidParameter"),
        (SQL, {"SecurityGroupId": "sg-none"}, "InvalidSecurityGroupId.NotFound"),
    ],
)
def test_what_a_group_could_not_have_is_refused(
    trying: Trying, rule: dict[str, Json], more: dict[str, Json], code: str
) -> None:
    asked: dict[str, Json] = {"SecurityGroupId": trying.group, "Permissions": cast(Json, [rule]), **more}
    with pytest.raises(ApiError) as refused:
        trying.ask("SgdpTrialStart", **asked)
    assert refused.value.code.startswith(code)
    assert trying.state.group[trying.group].trial is None


def test_more_rules_than_the_quota_allows_are_refused(trying: Trying) -> None:
    many = [{**SQL, "PortRange": f"{port}/{port}"} for port in range(1, 202)]
    with pytest.raises(ApiError, match="rules"):
        trying.start(*many)
    trying.start(*many[:200])


def test_a_trial_takes_the_place_of_the_one_before_even_in_the_same_second(trying: Trying) -> None:
    first, second = trying.start(SQL), trying.start({**SQL, "PortRange": "80/80"})
    assert seconds(second["Since"]) > seconds(first["Since"])
    trying.ask("SgdpTrialStop", SecurityGroupId=trying.group)
    assert trying.state.group[trying.group].trial is None
    for action in ("SgdpTrialStop", "SgdpTrialShow"):
        with pytest.raises(ApiError, match="Nothing is on trial"):
            trying.ask(action, SecurityGroupId=trying.group)


def test_counts_of_hosts_come_back(trying: Trying) -> None:
    """Of this very trial, from the hosts where the group has members."""
    since = seconds(trying.start(SQL)["Since"])
    (waiting,) = trying.show()["Hosts"]["Host"]
    assert (waiting["HostName"], waiting["Counting"], waiting["Paused"]) == ("a", False, WAITING)
    other = trying.group_at("b")
    trying.say_of("a", trying.counted(since, 1, 7), trying.counted(since, 100, group=other))
    trying.say_of("b", trying.counted(since, 100))
    found = trying.show()
    assert (found["Opens"], found["Closes"], found["LinesTotalCount"], found["Ended"]) == (0, 8, 2, False)
    assert [(line["host"], line["packets"]) for line in found["Lines"]] == [("a", 7), ("a", 1)]
    (counting,) = found["Hosts"]["Host"]
    assert (counting["Counting"], counting["Paused"], counting["Closes"]) == (True, "", 8)
    trying.say_of("a", trying.counted(since - 1, 5))
    assert trying.show()["Closes"] == 0, "of the trial before"
    trying.say_of("a", trying.counted(since, paused="no room"))
    (paused,) = trying.show()["Hosts"]["Host"]
    assert (paused["Counting"], paused["Paused"]) == (False, "no room")


@pytest.mark.parametrize("trials", [7, [7], [{"lines": 7}], [{"lines": [7], "since": "x"}], [{}] * 1_000])
def test_whatever_a_summary_says_of_trials_is_survived(trying: Trying, trials: Json) -> None:
    trying.start(SQL)
    trying.say(a=host(trying.engine.revision, trials=trials))
    assert trying.show()["Closes"] == 0


def test_what_a_trial_names_may_be_deleted(trying: Trying) -> None:
    """A trial is in nobody's way. Hosts pause it."""
    other = trying.client.group(trying.vpcs["a"])
    trying.start({"IpProtocol": "ALL", "PortRange": "-1/-1", "SourceGroupId": other})
    assert trying.ask("DescribeSecurityGroupReferences", SecurityGroupId=[other])["SecurityGroupReferences"] == {
        "SecurityGroupReference": []
    }
    trying.ask("DeleteSecurityGroup", SecurityGroupId=other)
    (rule,) = trying.state.group[trying.group].proposed.rules
    assert rule.remote == GroupRef(other)
    trying.ask("AuthorizeSecurityGroup", SecurityGroupId=trying.group, Permissions=[SQL])


def test_a_clone_has_no_trial(trying: Trying) -> None:
    trying.start(SQL)
    made = trying.ask("SgdpCloneSecurityGroup", SecurityGroupId=trying.group)["SecurityGroupId"]
    assert "trial" not in state_in(trying.engine.documents.of_kind[ResourceKind.GROUP][made])


@pytest.mark.parametrize(
    ("action", "may"), [("SgdpTrialShow", True), ("SgdpTrialStart", False), ("SgdpTrialStop", False)]
)
def test_a_key_that_only_reads_may_show_a_trial(action: str, may: bool) -> None:
    call = Call(action, {"SecurityGroupId": "sg-1"}, "request-1", "LTAI-test", "127.0.0.1", time.time())
    assert BUILT_IN["read-only"].permits(call) is may
    assert BUILT_IN["full"].permits(call)
