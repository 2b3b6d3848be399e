"""Flat parameters become nested and typed ones; whatever can't is refused with its name and value."""

from __future__ import annotations

import pytest

from sgdataplane.control.calls.answers import ApiError
from sgdataplane.control.calls.parameters import (
    MAX_PARAMETERS,
    MAX_VALUE,
    ParameterField,
    nest_and_type,
    read_pairs,
    tables,
    together,
)
from sgdataplane.store.interface import Json

KINDS = {"string", "integer", "number", "boolean", "fields"}


def kind(described: ParameterField) -> str:
    return described.kind or "fields"


def named(action: str, text: str) -> object:
    return nest_and_type(action, read_pairs(text.encode())).named


AUTHORIZE = "SecurityGroupId=sg-1&"


@pytest.mark.parametrize(
    ("action", "text", "expected"),
    [
        ("CreateSecurityGroup", "", {}),
        ("CreateSecurityGroup", "Description=&VpcId=v", {"Description": "", "VpcId": "v"}),
        ("CreateSecurityGroup", "Tag.1.Key=a&Tag.1.Value=b", {"Tag": [{"Key": "a", "Value": "b"}]}),
        ("DescribeSecurityGroups", "MaxResults=10&DryRun=True", {"MaxResults": 10, "DryRun": True}),
        ("DescribeSecurityGroups", "DryRun=false&PageSize=", {"DryRun": False}),
        ("DescribeInstances", "Unknown=1&Tag.1.Other=2&on=DescribeInstances", {"Tag": [{}]}),
        ("CreateInstance", "VSwitchId=v&SystemDisk.Size=20", {"VSwitchId": "v", "SystemDisk": {"Size": 20}}),
        ("SgdpWait", "Revision=7&Timeout=30", {"Revision": 7, "Timeout": 30}),
        (
            "RunInstances",
            "NetworkInterface.1.SecurityGroupIds.2=b&NetworkInterface.1.SecurityGroupIds.1=a",
            {"NetworkInterface": [{"SecurityGroupIds": ["a", "b"]}]},
        ),
        (
            "AuthorizeSecurityGroup",
            AUTHORIZE + "Permissions.10.Priority=3&Permissions.2.Priority=2&Permissions.2.PortRange=1%2F2",
            {"SecurityGroupId": "sg-1", "Permissions": [{"Priority": "2", "PortRange": "1/2"}, {"Priority": "3"}]},
        ),
    ],
)
def test_parameters_are_nested_and_typed(action: str, text: str, expected: dict[str, Json]) -> None:
    assert named(action, text) == expected


def test_parameters_of_ours_are_kept_apart_as_text() -> None:
    found = nest_and_type("CreateSecurityGroup", {"SgdpConsole": "true", "VpcId": "v"})
    assert (found.named, found.extensions) == ({"VpcId": "v"}, {"SgdpConsole": "true"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("MaxResults=ten", '"MaxResults" is not valid: it is an integer. Value: "ten"'),
        ("MaxResults=1e3", "it is an integer"),
        ("MaxResults=%D9%A3", "it is an integer"),
        (f"MaxResults={'9' * 19}", "it is an integer"),
        ("DryRun=yes", '"DryRun" is not valid: it is true or false'),
        ("Tag=x", '"Tag" is not valid: it is a list: Tag.1 is its first'),
        ("Tag.1=x", '"Tag.1" is not valid: it has parts, such as Tag.1.Key'),
        ("Tag.0.Key=x", "a list's parts are 1 to 1000"),
        ("Tag.1001.Key=x", "a list's parts are 1 to 1000"),
        ("Tag.99999999999.Key=x", "a list's parts are 1 to 1000"),
        ("Tag.01.Key=x", "a list's parts are 1 to 1000"),
        ("Tag.a.Key=x", "a list's parts are 1 to 1000"),
        ("VpcId.1=x", '"VpcId.1" is not valid: VpcId has no parts'),
        ("VpcId.a.b.c=x", "VpcId has no parts"),
        ("VpcId=a&VpcId=b", '"VpcId" is not valid: it comes more than once'),
        ("Vpc%20Id=a", "a name has letters"),
        ("=a", "a name has letters"),
        ("a..b=a", "a name has letters"),
        (f"{'a' * 129}=a", "a name has letters"),
        ("VpcId=%FF", "percent-encoded UTF-8"),
        ("VpcId=%", "percent-encoded UTF-8"),
        ("VpcId=%zz", "percent-encoded UTF-8"),
        ("VpcId=%ED%A0%80", "percent-encoded UTF-8"),
        (f"VpcId={'a' * (MAX_VALUE + 1)}", "it has 65537 characters"),
        ("&".join(f"a{number}=" for number in range(MAX_PARAMETERS + 2)), "more than 4000 parameters"),
    ],
    ids=lambda value: value[:40],
)
def test_what_cant_be_understood_is_refused(text: str, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        named("DescribeSecurityGroups", text)
    assert caught.value.code == "InvalidParameter"
    assert words in caught.value.message
    assert len(caught.value.message) < 600


def test_a_message_shows_odd_values_safely() -> None:
    with pytest.raises(ApiError) as caught:
        named("DescribeSecurityGroups", "MaxResults=%1b%5b31m%0a%e2%80%ae")
    assert "\\x1b[31m\\n\\u202e" in caught.value.message


def test_a_parameter_in_query_and_form_is_refused() -> None:
    with pytest.raises(ApiError, match="more than once"):
        together({"VpcId": "a"}, {"VpcId": "a"})


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("DeleteSecurityGroup", "MissingSecurityGroupId"),
        ("TagResources", "MissingResourceId"),
        ("CreateVSwitch", "MissingCidrBlock"),
        ("Nonsense", "InvalidAction.NotFound"),
        ("", "InvalidAction.NotFound"),
    ],
)
def test_what_is_missing_is_named(action: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        nest_and_type(action, {})
    assert caught.value.code == code


@pytest.mark.parametrize("action", ["DescribeSecurityGroups", "DescribeInstances", "DescribeRegions", "RunInstances"])
def test_a_region_is_never_asked_for(action: str) -> None:
    assert nest_and_type(action, {}).named == {}


def test_the_tables_have_every_action_that_is_promised() -> None:
    assert {"CreateSecurityGroup", "DeleteVpc", "SgdpWait", "SgdpCloneSecurityGroup"} <= tables().keys()
    assert {kind(described) for table in tables().values() for described in table.values()} <= KINDS
