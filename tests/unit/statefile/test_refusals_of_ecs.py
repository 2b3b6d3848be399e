"""Every refusal of the cloud's answers: code, place and wording."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.errors import Problem, StateFileError
from sgdataplane.statefile import load
from tests.unit.statefile.ecs_documents import (
    BASE,
    IN_TCP,
    INSTANCES,
    INTERFACES,
    LIST,
    WEB,
    Answers,
    attribute,
    eni,
    page,
    permission,
    write,
)


def refused(folder: Path, answers: Answers) -> tuple[Problem, ...]:
    with pytest.raises(StateFileError) as caught:
        load(write(folder, answers))
    return caught.value.problems


Edit = Callable[[Answers], None]


def put(path: str, value: object) -> Edit:
    """An edit that sets one value: `path` is the name of an answer and a pointer into it."""
    name, *keys = path.split("/")

    def edit(answers: Answers) -> None:
        place = answers[name]
        for key in keys[:-1]:
            place = place[int(key) if isinstance(place, list) else key]
        place[int(keys[-1]) if isinstance(place, list) else keys[-1]] = value

    return edit


def add(answer: Answers) -> Edit:
    return lambda answers: answers.update(x=answer)


def drop(name: str) -> Edit:
    return lambda answers: answers.pop(name)


RULE = "Permissions/Permission/0"
ENI = "NetworkInterfaceSets/NetworkInterfaceSet/0"
REFUSALS = (
    ("no list of groups", drop("DescribeSecurityGroups"), "InvalidSource.MissingAnswer", INTERFACES, "",
     "the answer of DescribeSecurityGroups is missing", "the answer of: aliyun ecs DescribeSecurityGroups"),
    ("no answer about a group", drop(WEB), "InvalidSource.MissingAnswer", "DescribeSecurityGroups",
     "/SecurityGroups/SecurityGroup/0/SecurityGroupId", "the answer of DescribeSecurityGroupAttribute is missing",
     "aliyun ecs DescribeSecurityGroupAttribute --SecurityGroupId sg-web"),
    ("a group that the list doesn't have", add(attribute("sg-x")), "InvalidSource.MissingAnswer", "x",
     "/SecurityGroupId", "the answer of DescribeSecurityGroups is missing for sg-x", "--SecurityGroupId sg-x"),
    ("a page of groups is missing", put("DescribeSecurityGroups/TotalCount", 3), "InvalidSource.IncompletePages",
     LIST, "", "DescribeSecurityGroups counts 3 in all, but its pages here hold 2", "every page of"),
    ("a page of ENIs is missing", put(f"{INTERFACES}/NextToken", "t"), "InvalidSource.IncompletePages", INTERFACES, "",
     "the last page of DescribeNetworkInterfaces is missing", "after this NextToken"),
    ("a page of rules is missing", put(f"{WEB}/NextToken", "t"), "InvalidSource.IncompletePages", WEB, "",
     "the last page of DescribeSecurityGroupAttribute is missing", "after this NextToken"),
    ("no answer about a prefix list", put(f"{WEB}/{RULE}", permission("s", **IN_TCP, SourcePrefixListId="pl-a")),
     "InvalidSource.MissingAnswer", WEB, f"/{RULE}/SourcePrefixListId",
     "the answer of DescribePrefixListAttributes is missing for pl-a",
     "aliyun ecs DescribePrefixListAttributes --PrefixListId pl-a"),
    ("no answer about a port list", put(f"{WEB}/{RULE}", permission("s", Direction="ingress", IpProtocol="TCP",
     SourceCidrIp="10.0.0.0/8", PortRangeListId="prl-a")), "InvalidSource.MissingAnswer", WEB,
     f"/{RULE}/PortRangeListId", "the answer of DescribePortRangeListEntries is missing for prl-a",
     "aliyun ecs DescribePortRangeListEntries --PortRangeListId prl-a"),
    ("instances without ENIs", lambda a: (a.pop(INTERFACES), a.update(page(*INSTANCES,
     {"InstanceId": "i-1", "InstanceNetworkType": "vpc"}))), "InvalidSource.MissingAnswer", "DescribeInstances",
     "/Instances/Instance/0", "the answer of DescribeNetworkInterfaces is missing",
     "the answer of: aliyun ecs DescribeNetworkInterfaces"),
    ("a call that the cloud refused", add({"RequestId": "R", "Code": "Forbidden.RAM", "Message": "no"}),
     "InvalidSource.RefusedCall", "x", "", "the cloud refused this call: no", "the answer of a call that succeeded"),
    ("a native document among the answers", add({"version": 1}), "InvalidSource.MixedFormats", "x", "",
     "the folder holds files of several formats", "files of one format in a folder"),
    ("a permission without policy", put(f"{WEB}/{RULE}/Policy", ""), "MissingParameter.Policy", WEB, f"/{RULE}",
     "the permission has no Policy", "Accept or Drop"),
    ("a permission without direction", put(f"{WEB}/{RULE}/Direction", ""), "MissingParameter.Type", WEB, f"/{RULE}",
     "type is missing", "ingress or egress"),
    ("a remote on the wrong side", put(f"{WEB}/{RULE}/DestPrefixListId", "pl-a"), "InvalidDocument.MisplacedKey", WEB,
     f"/{RULE}/DestPrefixListId", "DestPrefixListId means nothing in an ingress rule", "empty"),
    ("an egress remote on the wrong side", put(f"{WEB}/{RULE}", permission("s", Direction="egress", IpProtocol="ALL",
     DestCidrIp="0.0.0.0/0", SourceGroupId="sg-db")), "InvalidDocument.MisplacedKey", WEB, f"/{RULE}/SourceGroupId",
     "SourceGroupId means nothing in an egress rule", "empty"),
    ("a priority that is no number", put(f"{WEB}/{RULE}/Priority", "high"), "InvalidDocument.WrongType", WEB,
     f"/{RULE}/Priority", "priority has the wrong type", "a whole number"),
    ("a bad block", put(f"{WEB}/{RULE}/SourceCidrIp", "10.0.0.0/40"), "InvalidSourceCidrIp.Malformed", WEB,
     f"/{RULE}/SourceCidrIp", "cidr_ip is malformed", "IPv4 CIDR block"),
    ("bad ports", put(f"{WEB}/{RULE}/PortRange", "-1/-1"), "InvalidParam.PortRange", WEB, f"/{RULE}/PortRange",
     "port_range is malformed", "from/to"),
    ("a group naming itself", put(f"{WEB}/{RULE}", permission("s", **IN_TCP, SourceGroupId="sg-web")),
     "InvalidParamter.Conflict", WEB, f"/{RULE}/SourceGroupId", "can't name itself", "another group"),
    ("an advanced group that accepts within", put(f"{LIST}/SecurityGroups/SecurityGroup/0/SecurityGroupType",
     "enterprise"), "InvalidGroupParameter.OperationDenied", WEB, "/InnerAccessPolicy", "is always Drop", "Drop"),
    ("a list that isn't one", put(f"{WEB}/Permissions", "none"), "InvalidDocument.WrongType", WEB, "/Permissions",
     "this is not a list", "a list"),
    ("an object that isn't one", put(f"{WEB}/{RULE}", "none"), "InvalidDocument.WrongType", WEB, f"/{RULE}",
     "this is not an object", "an object"),
    ("an ENI in an unknown group", put(f"{INTERFACES}/{ENI}/SecurityGroupIds/SecurityGroupId", ["sg-web", "sg-x"]),
     "InvalidSecurityGroupId.NotFound", INTERFACES, f"/{ENI}/SecurityGroupIds/SecurityGroupId/1",
     "the security group is not in the state", "the id of one of the security groups"),
    ("a bad address", put(f"{INTERFACES}/{ENI}/PrivateIpSets/PrivateIpSet/0/PrivateIpAddress", "10.0.0"),
     "InvalidIp.Address", INTERFACES, f"/{ENI}/PrivateIpSets/PrivateIpSet/0/PrivateIpAddress", "is malformed",
     "a unicast IPv4 address"),
    ("a bad timeout", put(f"{INTERFACES}/{ENI}/ConnectionTrackingConfiguration", {"UdpTimeout": 5}),
     "InvalidParameter.EniConnectionTrackingConfiguration", INTERFACES,
     f"/{ENI}/ConnectionTrackingConfiguration/UdpTimeout",
     "udp_timeout is not a value that the cloud takes", "one of 10 20 30"),
    ("an ENI twice", lambda a: a[INTERFACES]["NetworkInterfaceSets"]["NetworkInterfaceSet"].append(
     eni("eni-1", "10.0.0.6")), "InvalidDocument.DuplicateId", INTERFACES,
     "/NetworkInterfaceSets/NetworkInterfaceSet/1/NetworkInterfaceId", "the id is taken by", "an id of its own"),
)  # fmt: skip


def line_of(answer: Answers, pointer: str) -> int:
    """The line of a value in an answer printed one value a line: those before it, and the brackets, are counted."""
    marked = copy.deepcopy(answer)
    place: Any = marked
    keys = [int(key) if key.isdigit() else key for key in pointer.split("/")[1:]]
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = "MARK"
    lines = json.dumps(marked, indent=1).splitlines()
    return next(number for number, line in enumerate(lines, 1) if '"MARK"' in line)


@pytest.mark.parametrize("row", REFUSALS, ids=[row[0] for row in REFUSALS])
def test_answers_that_are_no_state_are_refused(row: tuple[Any, ...], tmp_path: Path) -> None:
    _, edit, code, file, pointer, message, expected = row
    answers = copy.deepcopy(BASE)
    edit(answers)
    problem = next(problem for problem in refused(tmp_path, answers) if problem.code == code)
    path = tmp_path / f"{file}.json"
    assert (problem.where.file, problem.where.pointer) == (str(path), pointer)
    assert message in problem.message
    assert expected in problem.expected
    if pointer:
        assert problem.where.line == line_of(json.loads(path.read_text(encoding="utf-8")), pointer)


def test_an_answer_about_one_group_beside_others_is_refused_naming_the_other_call(tmp_path: Path) -> None:
    problems = refused(tmp_path, {"x": attribute("sg-x"), **page("DescribeInstances", "Instances", "Instance")})
    assert (problems[0].code, problems[0].message) == (
        "InvalidSource.MissingAnswer", "the answer of DescribeSecurityGroups is missing",
    )  # fmt: skip
