"""`sgdp group` at an API whose store has the shop: names are taken, and what changes nothing says so."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from sgdataplane.cli.apiclient import DONE, outcome
from sgdataplane.cli.main import main
from tests.control.test_served import ROOT, Service
from tests.support.run.warmprocess import command, warm_programs


class Group(Protocol):
    def __call__(self, *words: str, code: int = 0) -> str: ...


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    store = tmp_path_factory.mktemp("shop") / "store"
    state = ROOT / "examples" / "shop.yaml"
    with warm_programs(tmp_path_factory.mktemp("warm")):
        imported = command("api", "import", str(state), "--store", str(store))
        subprocess.run(imported, cwd=ROOT, check=True, timeout=60)
        made = Service(store)
        yield made
        made.stop(kill=True)


@pytest.fixture
def group(shop: Service) -> Group:
    """Runs `sgdp group ...`; everything that it prints."""
    return verb_at(shop, "group")


@pytest.fixture
def call(shop: Service) -> Group:
    """The same of `sgdp call ...`."""
    return verb_at(shop, "call")


def verb_at(shop: Service, verb: str) -> Group:
    key = shop.keys["full"]
    given = {
        "SGDP_API": shop.url,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": key["access_key_id"],
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": key["access_key_secret"],
    }

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            command(verb, *words),
            cwd=ROOT,
            env=os.environ | given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    return run


def rules(group: Group, name: str) -> list[str]:
    found = json.loads(group("show", name, "--json"))
    return sorted(rule["SecurityGroupRuleId"] for rule in found["Permissions"]["Permission"])


BY_ANYONE = {
    "SGDP_API": "http://127.0.0.1:1",
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "k",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s",
}


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (
            {"SGDP_API": ""},
            2,
            "error: set SGDP_API: SGDP_API is a URL such as http://127.0.0.1:8080, and `sgdp api keys",
        ),
        (
            {"SGDP_API": "127.0.0.1:8080"},
            2,
            "error: SGDP_API: 127.0.0.1:8080 is not a URL such as http://127.0.0.1:8080",
        ),
        ({}, 5, "error: http://127.0.0.1:1: no answer: [Errno 111] Connection refused"),
    ],
    ids=["no variable", "no URL", "nobody answers"],
)
def test_where_there_is_no_api_is_no_fault_of_the_kernel(
    given: dict[str, str], code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**BY_ANYONE, **given}.items():
        monkeypatch.setenv(name, value)
    try:
        found = main(["group", "list"])
    except SystemExit as ended:
        found = int(str(ended.code))
    assert (found, words in capsys.readouterr().err) == (code, True)


@pytest.mark.parametrize(
    "words", [("--listen", "0.0.0.0:0"), ("--listen", "8080"), ("--tls-cert", "c.pem")], ids=" ".join
)
def test_where_the_api_cant_be_served_is_wrong_usage(words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["api", "--store", str(tmp_path / "store"), *words])
    assert ended.value.code == 2


def test_a_port_in_use_is_input_that_cant_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        listen = f"127.0.0.1:{door.getsockname()[1]}"
        assert main(["api", "--store", str(tmp_path / "store"), "--listen", listen]) == 5
    assert f"error: {listen}: can't listen there: Address already in use" in capsys.readouterr().err


SOMEWHERE = {"Enforced": [], "Lagging": ["this host"], "Failed": ["b"], "Unknown": []}


@pytest.mark.parametrize(
    ("made", "done", "waited", "text"),
    [
        (None, DONE, SOMEWHERE, "Stored, but not enforced on: this host, b."),
        ("sg-1", DONE, SOMEWHERE, "sg-1: Stored, but not enforced on: this host, b."),
        (None, DONE, {**SOMEWHERE, "Lagging": [], "Failed": [], "Enforced": ["a"]}, "done: in force at a"),
        (None, DONE, {**SOMEWHERE, "Lagging": [], "Failed": []}, "done: stored; nothing enforces it"),
        ("sg-1", DONE, {}, "sg-1"),
    ],
)
def test_it_is_said_where_a_change_is_not_enforced(
    made: str | None, done: str, waited: dict[str, list[str]], text: str
) -> None:
    assert outcome(made, done, waited) == text


@pytest.mark.parametrize(
    "words",
    [
        ("sg-db", "tcp/5433", "--from", "sg-web"),
        ("sg-db", "udp/5432", "--from", "sg-web"),
        ("sg-db", "tcp/5432", "--to", "sg-web"),
        ("sg-db", "tcp/5432", "--from", "sg-lb"),
        ("sg-db", "tcp/5432", "--from", "10.20.0.0/16"),
        ("sg-lb", "tcp/443", "--from", "::1/128"),
    ],
    ids=" ".join,
)
def test_a_rule_that_is_not_there_is_not_revoked(group: Group, words: tuple[str, ...]) -> None:
    before = rules(group, words[0])
    assert "no rule matched; nothing changed" in group("revoke", *words, code=1)
    assert json.loads(group("revoke", *words, "--json", code=1)) == {"changed": False}
    assert rules(group, words[0]) == before


def test_a_slip_in_the_priority_is_said_with_the_rule(group: Group) -> None:
    told = group("revoke", "sg-db", "tcp/5432", "--from", "sg-web", "--priority", "7", code=1)
    assert told.startswith("no rule matched; nothing changed (the same with another verdict or priority: sgr-from-web")


def test_a_rule_is_added_once_and_revoked_once(group: Group) -> None:
    rule = ("web servers", "icmp", "--from", "10.1.2.3/8")  # host bits are masked
    told = group("authorize", *rule)
    (made,) = set(rules(group, "sg-web")) - {"sgr-from-lb", "sgr-no-tcp-out", "sgr-to-db"}
    assert told == f"{made} is added: stored; nothing enforces it\n"
    assert group("authorize", *rule).startswith(f"{made} already says this; nothing changed")
    assert f"{made} is removed" in group("revoke", *rule)
    assert "no rule matched" in group("revoke", *rule, code=1)


def test_instances_are_named(group: Group) -> None:
    assert "i-lb1" not in group("show", "sg-db")
    group("join", "databases", "db1", code=5)  # it is in there already, as the API says
    group("join", "reachable by the office", "db1")
    assert "eni-db1 of i-db1 db1 (10.20.3.21)" in group("show", "sg-admin")
    group("leave", "reachable by the office", "db1")
    assert "db1" not in group("show", "sg-admin").replace("db2", "")
    assert "there is no instance db3; near: " in group("join", "databases", "db3", code=5)


def test_what_is_shown_has_names(group: Group) -> None:
    assert "sg-web web servers" in group("show", "databases")
    assert "pl-office office" in group("show", "sg-admin")
    told = group("authorize", "databases", "tcp/1", "--from", "nosuch", code=5)
    assert "there is no group nosuch; near: sg-admin reachable by the office, sg-db databases" in told


def test_a_group_as_the_console_makes_it_has_its_rules_and_the_default_vpc(group: Group, call: Group) -> None:
    group("create", "bastion", "--console-rules")
    made = json.loads(group("show", "bastion", "--json"))
    found = {(rule["IpProtocol"], rule["PortRange"]) for rule in made["Permissions"]["Permission"]}
    assert found == {("ICMP", "-1/-1"), *(("TCP", f"{port}/{port}") for port in (22, 80, 443, 3389))}
    (vpc,) = json.loads(call("--product", "vpc", "DescribeVpcs", "--IsDefault", "true"))["Vpcs"]["Vpc"]
    assert made["VpcId"] == vpc["VpcId"]


def test_any_call_is_signed_and_its_answer_printed(group: Group, call: Group) -> None:
    """Lists are numbered, as the API has them; a value may begin with dashes behind an equals sign."""
    permission = ("--Permissions.1.IpProtocol", "TCP", "--Permissions.1.PortRange=8443/8443")
    wanted = ("--SecurityGroupId", "sg-web", *permission, "--Permissions.1.SourceCidrIp", "192.0.2.0/24")
    made = json.loads(call("--wait", "AuthorizeSecurityGroup", *wanted, "--Permissions.1.Description=--new--"))
    assert made["wait"]["Enforced"] == []
    assert made["revision"] > 0
    answer = json.loads(call("DescribeSecurityGroupAttribute", "--SecurityGroupId", "sg-web"))
    (rule,) = [one for one in answer["Permissions"]["Permission"] if one["PortRange"] == "8443/8443"]
    assert rule["Description"] == "--new--"
    call("RevokeSecurityGroup", "--SecurityGroupId", "sg-web", "--SecurityGroupRuleId.1", rule["SecurityGroupRuleId"])
    assert "8443" not in group("show", "sg-web")
    assert "InvalidSecurityGroupId.NotFound" in call("DeleteSecurityGroup", "--SecurityGroupId=sg-none", code=5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("Describe Regions",), "is not the name of an action"),
        (("DescribeRegions", "sg-1"), "sg-1 is not a parameter: expected --SecurityGroupId sg-1"),
        (("DescribeRegions", "--A"), "--A has no value"),
        (("DescribeRegions", "--A", "1", "--A", "2"), "--A is given twice; elements of a list are numbered"),
        (("--product", "rds", "DescribeRegions"), "none of ecs, vpc"),
        (("DescribeRegions", "--\x1b[2J", "1"), "is not a parameter"),
    ],
)
def test_what_is_no_call_is_wrong_usage(call: Group, words: tuple[str, ...], said: str) -> None:
    told = call(*words, code=2)
    assert said in told
    assert "\x1b" not in told
