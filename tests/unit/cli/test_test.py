"""`sgdp test`: what it prints, the exit code, JSON and JUnit, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sgdataplane.cli.main import main
from tests.support.documents.schemas import assert_conforms

STATE = """\
version: 1
vpcs: [{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}]
security_groups:
  - security_group_id: sg-db
    vpc_id: vpc-a
    inner_access_policy: Drop
    rules:
      - {security_group_rule_id: sgr-pg, type: ingress, ip_protocol: tcp, port_range: 5432/5432,
         source_security_group_id: sg-web}
  - {security_group_id: sg-web, vpc_id: vpc-a, inner_access_policy: Drop}
instances: [{instance_id: i-web, instance_name: web}, {instance_id: i-db, instance_name: db}]
network_interfaces:
  - {network_interface_id: eni-web, instance_id: i-web, vpc_id: vpc-a, private_ip_addresses: [10.0.0.1],
     security_group_ids: [sg-web]}
  - {network_interface_id: eni-db, instance_id: i-db, vpc_id: vpc-a, private_ip_addresses: [10.0.0.2],
     security_group_ids: [sg-db]}
"""
RIGHT = """\
# who reaches the database
web -> db  tcp/5432 accept sgr-pg    # its rule
web -> db tcp/22,icmp drop default

203.0.113.9 -> 10.0.0.2 tcp/5432 drop
eni-db -> web tcp/22 drop
"""
WRONG = "web -> db tcp/5432 drop\nweb -> db tcp/22 accept\nweb -> db tcp/5432 accept sgr-other\n"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.yaml"
    path.write_text(STATE, encoding="utf-8")
    return path


def expectations(folder: Path, text: str, name: str = "expect.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    return main(["test", *map(str, arguments)])


def test_expectations_that_hold_are_counted(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(expectations(tmp_path, RIGHT), "--state", state) == 0
    assert capsys.readouterr().out == "4 expectations: 4 hold, 0 fail\n"


def test_each_that_fails_has_its_place_and_reason(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = expectations(tmp_path, WRONG)
    assert run(path, expectations(tmp_path, RIGHT, "more.txt"), "--state", state) == 1
    probe = "i-web 10.0.0.1 -> i-db 10.0.0.2"
    assert capsys.readouterr().out.splitlines() == [
        f"fails  {path}:1: web -> db tcp/5432 drop",
        f"       {probe} tcp/5432: expected drop, but the policy says accept, by sgr-pg of sg-db (priority 1)",
        f"fails  {path}:2: web -> db tcp/22 accept",
        f"       {probe} tcp/22: expected accept, but the policy says drop at ingress, by default",
        f"fails  {path}:3: web -> db tcp/5432 accept sgr-other",
        f"       {probe} tcp/5432: expected accept by sgr-other, but sgr-pg of sg-db (priority 1) decides",
        "7 expectations: 4 hold, 3 fail",
    ]


@pytest.mark.parametrize(("text", "code"), [(RIGHT, 0), (WRONG, 1)])
def test_json_conforms(text: str, code: int, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(expectations(tmp_path, text), "--state", state, "--json") == code
    document = json.loads(capsys.readouterr().out)
    assert_conforms("test", document)
    assert (document["ok"], document["live"]) == (code == 0, False)
    assert document["results"][0]["cells"][0]["security_group_rule_id"] == "sgr-pg"


def test_junit_has_a_suite_a_file_and_a_case_an_expectation(state: Path, tmp_path: Path) -> None:
    paths = expectations(tmp_path, WRONG), expectations(tmp_path, RIGHT, "more.txt")
    junit = tmp_path / "results.xml"
    assert run(*paths, "--state", state, "--junit", junit) == 1
    root = ET.parse(junit).getroot()
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in root] == [
        (str(paths[0]), "3", "3"),
        (str(paths[1]), "4", "0"),
    ]
    first, *_ = root.iter("testcase")
    assert (first.get("name"), first.get("line")) == ("web -> db tcp/5432 drop", "1")
    failure = first.find("failure")
    assert failure is not None
    assert "the policy says accept" in str(failure.text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web => db tcp/22 drop", "Malformed: not an expectation"),
        ("web -> db tcp/22 reject", "Malformed: reject is neither accept nor drop"),
        ("web -> db 22 drop", "Service: '22' alone could be a port (tcp/22 or udp/22) or a protocol (proto/22)"),
        ("web -> other tcp/22 drop", "End: the state has no such instance, ENI or address"),
        ("web -> web tcp/22 drop", "End: both ends are the same, and what it sends to itself passes no ENI"),
        ("# nothing\n\n", "Empty: the file has no expectation"),
        ("web -> db tcp/22 drop\n" * 20_001, "TooLarge: too large"),
    ],
)
def test_what_is_no_expectation_is_refused(
    text: str, said: str, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(expectations(tmp_path, text), "--state", state) == 5
    code, message = said.split(": ", 1)
    shown = capsys.readouterr()
    assert f"error: InvalidExpectation.{code}: " in shown.err
    assert message in shown.err
    assert shown.out == ""


def test_all_that_is_wrong_in_all_files_is_said_at_once(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    octets = tmp_path / "octets.txt"
    octets.write_bytes(b"\xff")
    first, missing = expectations(tmp_path, "a\nb\n"), tmp_path / "missing.txt"
    assert run(first, missing, octets, "--state", state) == 5
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert [line.split(":")[1].strip() for line in errors] == [
        "InvalidExpectation.Malformed",
        "InvalidExpectation.Malformed",
        "InvalidExpectation.Unreadable",
        "InvalidExpectation.NotUtf8",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--state is needed, unless --live names a running lab"),
        (["--live", "lab", "--state", "x"], "--live lab: that lab has a state already; leave --state out"),
        (["--live", "lab", "--strict-syn"], "--live lab: that lab has its own policy options; leave --strict-syn out"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(expectations(tmp_path, RIGHT), *options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
