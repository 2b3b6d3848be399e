"""What policies permit, and which ones are refused."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdataplane.control.access.permissions import BUILT_IN, LARGEST, AccessPolicy, PolicyError, matches, read_policy
from sgdataplane.control.actions import ACTIONS
from sgdataplane.store.call import Call
from sgdataplane.store.interface import Json

SG = "acs:ecs:*:*:securitygroup/"


def call(action: str, **parameters: Json) -> Call:
    return Call(action, parameters, "request", "LTAI", "192.0.2.1", 0.0)


def extended(action: str, extensions: Mapping[str, str], **parameters: Json) -> Call:
    return Call(action, parameters, "request", "LTAI", "192.0.2.1", 0.0, extensions)


def statement(effect: str, action: Json = "*", resource: Json = "*") -> dict[str, Json]:
    return {"Effect": effect, "Action": action, "Resource": resource}


def text(*statements: Json) -> str:
    return json.dumps({"Version": "1", "Statement": list(statements)})


def policy(*statements: Json) -> AccessPolicy:
    return read_policy(text(*statements))


ALL = statement("Allow")
ON_SG_1 = call("AuthorizeSecurityGroup", SecurityGroupId="sg-1", Permissions=[{"SourceGroupId": "sg-2"}])
JOIN = call("JoinSecurityGroup", SecurityGroupId="sg-1", NetworkInterfaceId="eni-1")


@pytest.mark.parametrize(
    ("given_statements", "asked", "is_permitted"),
    [
        pytest.param([ALL], ON_SG_1, True, id="all"),
        pytest.param([statement("Deny")], ON_SG_1, False, id="nothing"),
        pytest.param([statement("Allow", "ecs:*")], ON_SG_1, True, id="all-of-the-service"),
        pytest.param([statement("Allow", "vpc:*")], ON_SG_1, False, id="all-of-another-service"),
        pytest.param([statement("Allow", "ecs:AuthorizeSecurityGroup")], ON_SG_1, True, id="the-action"),
        pytest.param([statement("Allow", "ECS:authorizesecuritygroup")], ON_SG_1, True, id="in-any-case"),
        pytest.param([statement("Allow", "ecs:AuthorizeSecurityGroupEgress")], ON_SG_1, False, id="a-longer-name"),
        pytest.param([statement("Allow", "ecs:Authorize")], ON_SG_1, False, id="a-shorter-name"),
        pytest.param([statement("Allow", "ecs:Authorize*")], ON_SG_1, True, id="how-it-begins"),
        pytest.param([statement("Allow", "ecs:*Group")], ON_SG_1, True, id="how-it-ends"),
        pytest.param([statement("Allow", ["ecs:Join*", "ecs:Auth*"])], ON_SG_1, True, id="one-of-several"),
        pytest.param([statement("Allow", "ecs:*", f"{SG}sg-1")], ON_SG_1, True, id="the-resource"),
        pytest.param([statement("Allow", "ecs:*", f"{SG}sg-1*")], ON_SG_1, True, id="ids-that-begin-so"),
        pytest.param([statement("Allow", "ecs:*", f"{SG}sg-2")], ON_SG_1, False, id="another-resource"),
        pytest.param([statement("Allow", "ecs:*", f"{SG}SG-1")], ON_SG_1, False, id="ids-have-a-case"),
        pytest.param([statement("Allow", "ecs:*", "acs:ecs:*:*:eni/*")], ON_SG_1, False, id="another-kind"),
        pytest.param([statement("Allow", "ecs:*", "acs:ecs:*:*:*")], ON_SG_1, True, id="all-of-the-service-s"),
        pytest.param([statement("Allow", "*", "acs:vpc:*:*:*")], ON_SG_1, False, id="all-of-another-service-s"),
        pytest.param([ALL, statement("Deny", "ecs:*", f"{SG}sg-1")], ON_SG_1, False, id="deny-wins"),
        pytest.param([statement("Deny", "ecs:*", f"{SG}sg-1"), ALL], ON_SG_1, False, id="deny-wins-in-any-order"),
        pytest.param([ALL, statement("Deny", "ecs:*", f"{SG}sg-2")], ON_SG_1, True, id="a-rule-s-group-isn-t-touched"),
        pytest.param([ALL, statement("Deny", "ecs:Delete*")], ON_SG_1, True, id="another-action-is-denied"),
        pytest.param([statement("Allow", "ecs:*", f"{SG}*")], JOIN, False, id="one-of-two-resources"),
        pytest.param([statement("Allow", "ecs:*", [f"{SG}*", "acs:ecs:*:*:eni/eni-1"])], JOIN, True, id="both"),
        pytest.param(
            [statement("Allow", "ecs:*", f"{SG}*"), statement("Allow", "*", "acs:ecs:*:*:eni/*")], JOIN, True,
            id="both-by-two-statements",
        ),
        pytest.param([ALL, statement("Deny", "*", "acs:ecs:*:*:eni/eni-1")], JOIN, False, id="deny-for-one-of-two"),
    ],
)  # fmt: skip
def test_a_policy_permits(given_statements: list[Json], asked: Call, is_permitted: bool) -> None:
    assert policy(*given_statements).permits(asked) == is_permitted


INSIDE = call("RunInstances", NetworkInterface=[{"SecurityGroupIds": ["sg-1", "sg-2"], "VSwitchId": "vsw-1"}])


@pytest.mark.parametrize(
    ("resource", "asked"),
    [
        pytest.param("acs:vpc:*:*:vpc/vpc-1", call("DescribeVpcs", VpcId="vpc-1"), id="a-vpc"),
        pytest.param("acs:vpc:*:*:vswitch/vsw-1", call("DeleteVSwitch", VSwitchId="vsw-1"), id="a-vswitch"),
        pytest.param("acs:ecs:*:*:prefixlist/pl-1", call("DeletePrefixList", PrefixListId="pl-1"), id="a-prefix-list"),
        pytest.param(
            "acs:ecs:*:*:portrangelist/prl-1", call("DeletePortRangeList", PortRangeListId="prl-1"), id="a-port-list"
        ),
        pytest.param("acs:ecs:*:*:instance/i-1", call("DeleteInstances", InstanceId=["i-1"]), id="of-a-list"),
        pytest.param(
            "acs:ecs:*:*:instance/i-1", call("DescribeInstances", InstanceIds='["i-1"]'), id="of-a-list-as-text"
        ),
        pytest.param("acs:ecs:*:*:instance/[", call("DescribeInstances", InstanceIds="["), id="of-a-list-that-is-none"),
        pytest.param(f"{SG}sg-1", call("DescribeSecurityGroups", SecurityGroupIds=["sg-1"]), id="of-ids"),
        pytest.param(
            f"{SG}sg-1", call("TagResources", ResourceType="SecurityGroup", ResourceId=["sg-1"]), id="what-is-tagged"
        ),
        pytest.param(
            "acs:ecs:*:*:eni/eni-1", call("AssignPrivateIpAddresses", NetworkInterfaceId="eni-1"), id="an-eni"
        ),
    ],
)
def test_a_call_is_about_what_it_names(resource: str, asked: Call) -> None:
    assert policy(statement("Allow", "*", resource)).permits(asked)
    assert not policy(ALL, statement("Deny", "*", resource)).permits(asked)
    assert not policy(statement("Allow", "*", resource + "0")).permits(asked)
    assert policy(ALL, statement("Deny", "*", resource + "0")).permits(asked)


def test_a_call_is_not_about_what_a_rule_refers_to() -> None:
    rule: Json = {"SourceGroupId": "sg-2", "SourcePrefixListId": "pl-1", "PortRangeListId": "prl-1"}
    for asked in (
        call("AuthorizeSecurityGroup", SecurityGroupId="sg-1", Permissions=[rule]),
        call("ModifySecurityGroupRule", SecurityGroupId="sg-1", SecurityGroupRuleId="sgr-1", PortRangeListId="prl-1"),
    ):
        assert policy(statement("Allow", "*", f"{SG}sg-1")).permits(asked)


HOST_A: dict[str, Json] = {"Tag": [{"Key": "sgdp:host", "Value": "a"}]}


@pytest.mark.parametrize(
    ("asked", "is_about"),
    [
        pytest.param(
            extended("AttachNetworkInterface", {"SgdpHost": "a"}, NetworkInterfaceId="eni-1"), True, id="named"
        ),
        pytest.param(
            extended("AttachNetworkInterface", {"SgdpHost": "b"}, NetworkInterfaceId="eni-1"), False, id="other"
        ),
        pytest.param(call("RunInstances", **HOST_A), True, id="by-the-tag"),
        pytest.param(call("TagResources", ResourceType="instance", ResourceId=["i-1"], **HOST_A), True, id="tagged"),
        pytest.param(call("RunInstances", Tag=[{"Key": "host", "Value": "a"}]), False, id="by-another-tag"),
        pytest.param(call("RunInstances", HostName="a"), False, id="what-an-instance-calls-itself"),
        pytest.param(call("DescribeInstances", **HOST_A), False, id="a-filter"),
        pytest.param(call("SgdpDescribeHosts", HostName=["a"]), True, id="described"),
        pytest.param(call("SgdpDescribeHosts", HostName=["b"]), False, id="another-one-described"),
    ],
)
def test_a_deny_on_a_host_denies_what_names_it(asked: Call, *, is_about: bool) -> None:
    given_policy = policy(ALL, statement("Deny", "*", "acs:ecs:*:*:host/a"))
    assert given_policy.permits(asked) is not is_about


def test_all_hosts_are_listed_by_those_who_may_see_all() -> None:
    asked = call("SgdpDescribeHosts")
    assert not policy(statement("Allow", "ecs:*", "acs:ecs:*:*:host/a")).permits(asked)
    assert policy(statement("Allow", "ecs:*", "acs:ecs:*:*:host/*")).permits(asked)
    for name in BUILT_IN:
        assert BUILT_IN[name].permits(asked)


@pytest.mark.parametrize("name", [f"{SG}sg-1", f"{SG}sg-2", "acs:vpc:*:*:vswitch/vsw-1", "acs:ecs:*:*:instance/*"])
def test_every_resource_inside_a_call_counts(name: str) -> None:
    assert not policy(ALL, statement("Deny", "*", name)).permits(INSIDE)


@pytest.mark.parametrize(
    ("asked", "needed"),
    [
        pytest.param(call("CreateSecurityGroup", VpcId="vpc-1"), [f"{SG}*", "acs:vpc:*:*:vpc/vpc-1"], id="made"),
        pytest.param(call("SgdpCloneSecurityGroup", SecurityGroupId="sg-1"), [f"{SG}*"], id="cloned"),
        pytest.param(call("DescribeSecurityGroups", VpcId="vpc-1"), [f"{SG}*"], id="all-of-them-filtered"),
        pytest.param(call("DescribeRegions"), ["acs:ecs:*:*:*"], id="of-no-kind"),
    ],
)
def test_a_call_that_names_none_of_its_kind_needs_all_of_them(asked: Call, needed: list[Json]) -> None:
    assert policy(statement("Allow", "*", needed)).permits(asked)
    assert not policy(statement("Allow", "*", [f"{SG}sg-1", "acs:vpc:*:*:vpc/vpc-1"])).permits(asked)


@pytest.mark.parametrize("name", ["ecs:DescribeVpcs", "vpc:DescribeVpcs", "vpc:*", "ecs:Describe*"])
def test_actions_on_vpcs_have_two_names(name: str) -> None:
    assert policy(statement("Allow", name)).permits(call("DescribeVpcs"))
    assert not policy(ALL, statement("Deny", name)).permits(call("DescribeVpcs"))


def test_patterns_that_match_no_action_are_known() -> None:
    found = policy(
        statement("Allow", ["ecs:*", "vpc:DescribeVpcs", "ecs:Reboot*"]), statement("Deny", "ecs:DeleteGruop")
    )
    assert found.idle(ACTIONS) == ["ecs:reboot*", "ecs:deletegruop"]
    assert not BUILT_IN["full"].idle(ACTIONS)


@pytest.mark.parametrize("action", ACTIONS)
def test_the_built_in_policies(action: str) -> None:
    assert BUILT_IN["full"].permits(call(action))
    assert BUILT_IN["read-only"].permits(call(action)) != ACTIONS[action].writes


@pytest.mark.parametrize(
    ("document", "place", "value"),
    [
        pytest.param([], "", "[]", id="a-list"),
        pytest.param({"Statement": [ALL]}, "/Version", "", id="no-version"),
        pytest.param({"Version": "2012-10-17", "Statement": [ALL]}, "/Version", "2012-10-17", id="another-version"),
        pytest.param({"Version": "1"}, "/Statement", "", id="no-statement"),
        pytest.param({"Version": "1", "Statement": []}, "/Statement", "[]", id="no-statements"),
        pytest.param({"Version": "1", "Statement": ALL}, "/Statement", "{", id="a-statement-alone"),
        pytest.param({"Version": "1", "Statement": [ALL], "Id": "x"}, "/Id", "x", id="unknown-key"),
    ],
)
def test_a_document_that_is_no_policy(document: Json, place: str, value: str) -> None:
    with pytest.raises(PolicyError) as raised:
        read_policy(json.dumps(document), "file")
    (problem,) = raised.value.problems
    assert (problem.where.file, problem.where.pointer) == ("file", place)
    assert problem.value.startswith(value)
    assert problem.expected


@pytest.mark.parametrize(
    ("change", "place", "value"),
    [
        pytest.param({"Effect": "allow"}, "Effect", "allow", id="effect-in-another-case"),
        pytest.param({"Effect": None}, "Effect", "", id="no-effect"),
        pytest.param({"Action": []}, "Action", "[]", id="no-actions"),
        pytest.param({"Action": None}, "Action", "", id="action-null"),
        pytest.param({"Action": ["ecs:*", 3]}, "Action/1", "3", id="an-action-that-is-a-number"),
        pytest.param({"Action": "oss:*"}, "Action", "oss:*", id="another-service"),
        pytest.param({"Action": "ecs:Describe?"}, "Action", "ecs:Describe?", id="a-question-mark"),
        pytest.param({"Action": "DescribeVpcs"}, "Action", "DescribeVpcs", id="no-service"),
        pytest.param({"Action": "ecs:"}, "Action", "ecs:", id="no-name"),
        pytest.param({"Action": "ecs:*\n"}, "Action", "ecs:*\n", id="a-line-break"),
        pytest.param({"Resource": "sg-1"}, "Resource", "sg-1", id="an-id-alone"),
        pytest.param({"Resource": f"{SG[:-1]}s/sg-1"}, "Resource", f"{SG[:-1]}s/sg-1", id="unknown-kind"),
        pytest.param({"Resource": "acs:ecs:*:*:vpc/v"}, "Resource", "acs:ecs:*:*:vpc/v", id="the-other-service-s-kind"),
        pytest.param({"Resource": "acs:*:*:*:odd/x"}, "Resource", "acs:*:*:*:odd/x", id="unknown-kind-of-any-service"),
        pytest.param({"Resource": "acs:ecs:cn-a:*:eni/*"}, "Resource", "acs:ecs:cn-a:*:eni/*", id="a-region"),
        pytest.param({"Resource": "acs:ecs:*:12:eni/*"}, "Resource", "acs:ecs:*:12:eni/*", id="an-account"),
        pytest.param({"Resource": ["*", {}]}, "Resource/1", "{}", id="a-resource-that-is-an-object"),
        pytest.param({"Condition": {"IpAddress": {}}}, "Condition", "{", id="a-condition"),
        pytest.param({"NotAction": "ecs:*"}, "NotAction", "ecs:*", id="an-exception"),
        pytest.param({"a/b~": 1}, "a~1b~0", "1", id="a-key-that-a-pointer-spells"),
    ],
)
def test_a_statement_that_is_refused(change: Mapping[str, Json], place: str, value: str) -> None:
    with pytest.raises(PolicyError) as raised:
        policy(ALL, {**ALL, **change})
    (problem,) = raised.value.problems
    assert problem.where.pointer == f"/Statement/1/{place}"
    assert problem.value.startswith(value)
    assert problem.expected
    assert policy(ALL, ALL).permits(ON_SG_1)  # control


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(PolicyError) as raised:
        policy("x", statement("No", "no", "no"))
    places = [problem.where.pointer.removeprefix("/Statement/") for problem in raised.value.problems]
    assert places == ["0", "1/Effect", "1/Action", "1/Resource"]


def test_each_refusal_says_what_is_wrong_and_what_would_be_right() -> None:
    """In the words that people read, whole."""
    with pytest.raises(PolicyError) as raised:
        policy("x", {**statement("No", "no", "no"), "Id": "y"}, statement("Allow", 3))
    with pytest.raises(PolicyError) as of_document:
        read_policy("{}", "p.json")
    with pytest.raises(PolicyError) as of_size:
        read_policy(" " * (LARGEST + 1), "p.json")
    expected = "ecs:NAME, vpc:NAME or another service's, where * stands for any text; or *"
    resource = (
        "* or acs:ecs:*:*:KIND/ID (acs:vpc for vpc, vswitch and routetable); KIND is one of "
        "securitygroup, eni, instance, prefixlist, portrangelist, keypair, disk, image, vpc, vswitch, routetable, host"
    )
    keys = "Effect, Action, Resource"
    found = [*raised.value.problems, *of_document.value.problems, *of_size.value.problems]
    assert [(one.code.removeprefix("InvalidPolicy."), one.message, one.value, one.expected) for one in found] == [
        ("Format", "not an object", "x", f"an object with {keys}"),
        ("Unsupported", "Id has no meaning here", "y", f"only {keys}"),
        ("Effect", "not an effect", "No", "Allow or Deny"),
        ("Action", "not an action of this API", "no", expected),
        ("Resource", "not a resource of this API", "no", resource),
        ("Action", "not a text or a list of texts", "3", "each Action; * is all of them"),
        ("Version", "not the version of RAM policies", "", '"1"'),
        ("Statement", "not a list of statements", "", "one statement or more"),
        ("TooLarge", "the policy is too large", "", "64 KB at most"),
    ]
    assert all(one.code.startswith("InvalidPolicy.") for one in found)
    assert found[-1].where.file == "p.json"
    with pytest.raises(PolicyError, match="isn't JSON"):
        read_policy(" " * LARGEST)


@pytest.mark.parametrize(
    ("given_text", "message"),
    [
        pytest.param('{"Version": "1",\n"Statement": [}', "isn't JSON", id="no-json"),
        pytest.param('{"Version": "1", "Version": "1"}', "given twice", id="a-key-twice"),
        pytest.param("[" * 20_000, "can't be read|isn't JSON", id="deep"),
        pytest.param(" " * (LARGEST + 1), "too large", id="large"),
        pytest.param("", "isn't JSON", id="empty"),
    ],
)
def test_a_text_that_is_no_policy(given_text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        read_policy(given_text, "file")


def test_the_line_of_an_error_is_told() -> None:
    with pytest.raises(PolicyError, match=r"at: +file:2"):
        read_policy('{"Version": "1",\n"Statement": [}', "file")


def words_of(letters: str, longest: int) -> Iterator[str]:
    """All words of these letters, up to a length."""
    return ("".join(word) for length in range(longest + 1) for word in itertools.product(letters, repeat=length))


def test_wildcards_match_as_regular_expressions_say() -> None:
    """Every pattern of up to six characters against every text of up to four."""
    names = [*words_of("ab", 4)]
    for pattern in words_of("ab*", 6):
        judge = re.compile(".*".join(map(re.escape, pattern.split("*"))))
        fitting = [name for name in names if judge.fullmatch(name)]
        assert [name for name in names if matches(pattern, name)] == fitting, pattern


def test_no_pattern_takes_long() -> None:
    assert not matches("*a" * 5_000 + "b", "a" * 60_000)


KEYS = st.sampled_from(["Version", "Statement", "Effect", "Action", "Resource"])
LEAVES = st.none() | st.booleans() | st.integers() | st.sampled_from(["1", "Allow", "*"]) | st.text(max_size=5)


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)))
def test_nothing_but_a_policy_error_comes_of_odd_documents(document: Json) -> None:
    with suppress(PolicyError):
        assert read_policy(json.dumps(document)).statements
