"""The cloud's official SDKs drive real packets: what they ask for is what packets obey, once SgdpWait says so.

Each SDK goes through the life of a group: create, rules, instances, secondary ENIs, change, clone, revoke, delete. The
lab follows the API, and after each step packets show it, both ways: what passes and what doesn't, on one path.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.lab import manage, matrix
from sgdataplane.lab.expectations import one_probe
from sgdataplane.lab.manage import down
from tests.support.probes.flood import wait_until
from tests.support.run.forked import forked_sgdp
from tests.support.servers.sdks import Driver, RefusedError, command_of, driver

pytestmark = [pytest.mark.traffic, pytest.mark.optional]  # an SDK isn't there without a network (`make sdks`)
ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ("drive_today.py", "drive_yesterday.py", "drive_today.cjs")
WAIT_S = 3  # an SDK itself waits no longer than 10 s for an answer
SQL, WEB = "tcp/5432", "tcp/443"


@dataclass
class World:
    """One SDK at an API with a lab behind it."""

    ask: Driver
    lab: str

    def __call__(self, action: str, **parameters: object) -> dict[str, Any]:
        return dict(self.ask(action, **parameters))

    def text(self, action: str, name: str, **parameters: object) -> str:
        return str(self.ask(action, **parameters)[name])

    def settle(self) -> None:
        """Until the API says that everything asked for is in force."""
        answer: Mapping[str, Any] = {}

        def has_settled() -> bool:
            nonlocal answer
            answer = self.ask("SgdpWait", Timeout=WAIT_S)
            return not answer["Lagging"]

        wait_until(has_settled)
        assert (answer["Lagging"], answer["Failed"], answer["Unknown"]) == ([], [], []), answer
        assert answer["Enforced"] == [f"lab {self.lab}"]

    def packets(self, sender: str, receiver: str, what: str) -> str:
        """What packets show, which is also what the policy says."""
        with manage.watch(self.lab) as lab:
            (result,) = matrix.probe_all(lab, [one_probe(lab, sender, receiver, what)])
        assert result.observed.verdict == result.expected.verdict, result
        return str(result.observed.verdict)


@contextmanager
def served(lab: str, folder: Path, placement: str) -> Iterator[tuple[str, str, str]]:
    """`sgdp api`, followed by a lab: where it listens, and a key with its secret."""
    command = (sys.executable, "-m", "sgdataplane", "api")
    store = ("--store", str(folder / "store"))
    made = subprocess.run(
        [*command, "keys", "create", *store, "--json"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    key = json.loads(made.stdout)
    where = ("--listen", "127.0.0.1:0", "--lab", lab, "--placement", placement)
    with subprocess.Popen(
        [*command, *store, *where], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as api:
        try:
            line = str(api.stderr and api.stderr.readline())
            found = re.search(r"http://(127\.0\.0\.1:\d+)", line)
            assert found, line
            yield found[1], key["access_key_id"], key["access_key_secret"]
            api.terminate()
            assert api.wait(60) == 0
        finally:
            api.kill()


WORLDS = [(client, "instance") for client in CLIENTS] + [(CLIENTS[0], "host")]
# tests/http has each SDK at an API without a lab; here, one of each language.
SLOW = (("drive_yesterday.py", "instance"), ("drive_today.py", "instance"))
MARKED = [pytest.param(one, marks=[pytest.mark.slow] if one in SLOW else [], id="-".join(one)) for one in WORLDS]


@pytest.fixture(params=MARKED)
def world(request: pytest.FixtureRequest, make_lab_name: Callable[[], str], tmp_path: Path) -> Iterator[World]:
    client, placement = request.param
    lab = make_lab_name()
    try:
        with served(lab, tmp_path, placement) as door, driver(client, *door) as ask:
            yield World(ask, lab)
    finally:
        down(lab)


def test_an_official_sdk_drives_packets(world: World) -> None:
    """Each step is held to packets."""
    vpc = str(world("CreateVpc", CidrBlock="10.0.0.0/16")["VpcId"])
    switch = str(world("CreateVSwitch", VpcId=vpc, CidrBlock="10.0.1.0/24", ZoneId="cn-hangzhou-a")["VSwitchId"])
    web, db = (world.text("CreateSecurityGroup", "SecurityGroupId", VpcId=vpc) for _ in range(2))
    for name, group in (("web1", web), ("db1", db)):
        world("RunInstances", VSwitchId=switch, SecurityGroupId=group, InstanceName=name)
    world.settle()
    assert world.packets("web1", "db1", SQL) == "drop"
    rules_change(world, web, db)
    db1 = members_change(world, web)
    interfaces_change(world, web, db, switch, db1)
    modes_change(world, db1)
    world("DeleteInstance", InstanceId=db1)
    world.settle()
    with manage.watch(world.lab) as lab:
        assert [node.alias for node in lab.topology.nodes if node.is_instance] == ["web1"]


def rules_change(world: World, web: str, db: str) -> None:
    rule = {"IpProtocol": "TCP", "PortRange": "5432/5432", "SourceGroupId": web}
    world("AuthorizeSecurityGroup", SecurityGroupId=db, Permissions=[rule])
    world.settle()
    assert world.packets("web1", "db1", SQL) == "accept"
    assert world.packets("db1", "web1", SQL) == "drop"
    found = world("DescribeSecurityGroupAttribute", SecurityGroupId=db)
    (told,) = found["Permissions"]["Permission"]
    assert (told["IpProtocol"], told["PortRange"], told["SourceGroupId"]) == ("TCP", "5432/5432", web)
    given = told["SecurityGroupRuleId"]
    world("ModifySecurityGroupRule", SecurityGroupId=db, SecurityGroupRuleId=given, PortRange="443/443")
    world.settle()
    assert (world.packets("web1", "db1", SQL), world.packets("web1", "db1", WEB)) == ("drop", "accept")


def members_change(world: World, web: str) -> str:
    """The instance joins the group of the other one, whose members reach each other, and leaves it."""
    (found,) = world("DescribeInstances", InstanceName="db1")["Instances"]["Instance"]
    db1 = str(found["InstanceId"])
    world("JoinSecurityGroup", InstanceId=db1, SecurityGroupId=web)
    world.settle()
    assert world.packets("web1", "db1", SQL) == "accept"
    world("LeaveSecurityGroup", InstanceId=db1, SecurityGroupId=web)
    world.settle()
    assert world.packets("web1", "db1", SQL) == "drop"
    return db1


def modes_change(world: World, db1: str) -> None:
    """A tag puts the ENI into audit mode, and without it the ENI is enforced again."""
    (first,) = world("DescribeNetworkInterfaces", InstanceId=db1)["NetworkInterfaceSets"]["NetworkInterfaceSet"]
    eni = {"ResourceType": "eni", "ResourceId": [first["NetworkInterfaceId"]]}
    assert world.packets("web1", "db1", SQL) == "drop"
    world("TagResources", **eni, Tag=[{"Key": "sgdp:mode", "Value": "audit"}])
    world.settle()
    assert world.packets("web1", "db1", SQL) == "accept"
    world("UntagResources", **eni, TagKey=["sgdp:mode"])
    world.settle()
    assert world.packets("web1", "db1", SQL) == "drop"


def interfaces_change(world: World, web: str, db: str, switch: str, db1: str) -> None:
    """A clone of the group has a secondary ENI of the same instance: what changes for it changes nothing else."""
    copy = world.text("SgdpCloneSecurityGroup", "SecurityGroupId", SecurityGroupId=db)
    eni = world.text("CreateNetworkInterface", "NetworkInterfaceId", VSwitchId=switch, SecurityGroupId=copy)
    world("AttachNetworkInterface", NetworkInterfaceId=eni, InstanceId=db1)
    world.settle()
    (second,) = world("DescribeNetworkInterfaces", InstanceId=db1, Type="Secondary")["NetworkInterfaceSets"][
        "NetworkInterfaceSet"
    ]
    assert world.packets("web1", second["PrivateIpAddress"], WEB) == "accept"
    world("RevokeSecurityGroup", SecurityGroupId=copy, IpProtocol="tcp", PortRange="443/443", SourceGroupId=web)
    world.settle()
    assert world.packets("web1", second["PrivateIpAddress"], WEB) == "drop"
    assert world.packets("web1", "db1", WEB) == "accept"
    with pytest.raises(RefusedError) as refused:
        world("DeleteSecurityGroup", SecurityGroupId=copy)
    assert refused.value.code == "DependencyViolation"
    world("DetachNetworkInterface", NetworkInterfaceId=eni, InstanceId=db1)
    world("DeleteNetworkInterface", NetworkInterfaceId=eni)
    world("DeleteSecurityGroup", SecurityGroupId=copy)


def test_groups_are_changed_on_the_command_line(make_lab_name: Callable[[], str], tmp_path: Path) -> None:
    """Each verb, on groups that their names mean; what is refused has exit code 5 and changes nothing."""
    lab = make_lab_name()
    with served(lab, tmp_path, "instance") as (endpoint, key, secret):
        given = {
            "SGDP_API": f"http://{endpoint}",
            "ALIBABA_CLOUD_ACCESS_KEY_ID": key,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret,
        }

        def sgdp(*words: str, code: int = 0) -> str:
            around = {"cwd": ROOT, "env": os.environ | given, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            with forked_sgdp("group", *words, **around) as process:
                told = process.communicate(timeout=60)[0].decode()
            assert process.returncode == code, told
            return told

        for name in ("web", "db"):
            assert f"in force at lab {lab}" in sgdp("create", name)
        sgdp("authorize", "db", "tcp/5432", "--from", "web", "--priority", "7")
        sgdp("authorize", "db", "all", "--to", "0.0.0.0/0", "--drop", "--no-wait")
        (web,) = [
            group
            for group in json.loads(sgdp("list", "--json"))["SecurityGroups"]
            if group["SecurityGroupName"] == "web"
        ]
        rules = json.loads(sgdp("show", "db", "--json"))["Permissions"]["Permission"]
        assert {(rule["Direction"], rule["Policy"], rule["SourceGroupId"], rule["Priority"]) for rule in rules} == {
            ("egress", "Drop", "", "1"),
            ("ingress", "Accept", web["SecurityGroupId"], "7"),
        }
        assert "there is no group wep" in sgdp("authorize", "db", "tcp/1", "--from", "wep", code=5)
        assert "DependencyViolation" in sgdp("delete", "web", code=5)
        sgdp("clone", "db", "--name", "db2")
        for name in ("db", "db2"):
            typo = ("revoke", name, "tcp/5432", "--from", "web", "--drop", "--priority", "7")
            assert "no rule matched; nothing changed" in sgdp(*typo, code=1)
            sgdp("revoke", name, "tcp/5432", "--from", "web", "--priority", "7")
        sgdp("delete", "web")
        assert "any" in sgdp("show", "db2")
    down(lab)


def test_the_demo_shows_what_the_page_shows(make_lab_name: Callable[[], str]) -> None:
    """`make demo-api`: what its page says, but for ids; and README in part."""
    (python, *_), _ = command_of("drive_today.py")
    command = [str(ROOT / "tools" / "demo-api.sh"), python]
    given = {**os.environ, "SGDP_LAB": make_lab_name()}
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=300, check=True)
    found = done.stdout
    assert "grep" not in done.stderr
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    shown = page.partition("# make demo-api\n")[2].partition("```")[0]
    assert without_ids(found) == without_ids(shown)
    short = (ROOT / "README.md").read_text("utf-8").partition("demo-api\n...\n")[2].partition("```")[0]
    some, rest = [line for line in short.splitlines() if line != "..."], iter(found.splitlines())
    assert len(some) > 1
    assert all(line in rest for line in some), "in this order"


def without_ids(text: str) -> list[str]:
    """Its lines, with a word in place of what is random."""
    return [re.sub(r"\b(i|sg|sgr)-[0-9a-z]{17}\b", r"\1-ID", line) for line in text.strip().splitlines()]
