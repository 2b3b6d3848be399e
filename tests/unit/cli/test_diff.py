"""`sgdp diff`: what it prints, where, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from tests.support.documents.schemas import assert_conforms
from tests.unit.statefile.terraform_documents import module, plan, resource

OLD = """\
version: 1
vpcs: [{vpc_id: vpc-a}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    rules:
      - {security_group_rule_id: sgr-ssh, type: ingress, ip_protocol: tcp, port_range: 22/22, cidr_ip: 10.9.0.0/16}
instances: [{instance_id: i-a}, {instance_id: i-b}]
network_interfaces:
  - network_interface_id: eni-a
    instance_id: i-a
    vpc_id: vpc-a
    private_ip_addresses: [10.0.0.1]
    security_group_ids: [sg-a]
  - network_interface_id: eni-b
    instance_id: i-b
    vpc_id: vpc-a
    private_ip_addresses: [10.0.0.2]
    security_group_ids: [sg-a]
"""
NARROWER = OLD.replace("10.9.0.0/16", "10.9.0.0/17")
OPEN = OLD.replace("10.9.0.0/16", "0.0.0.0/0")
DECISION = {"reason": "default", "security_group_id": None, "security_group_rule_id": None, "priority": None}


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(OLD, encoding="utf-8")
    return old, new


def run(*arguments: object) -> int:
    return main(["diff", *(str(argument) for argument in arguments)])


def test_enis_with_the_same_changes_stand_together(
    paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    paths[1].write_text(NARROWER, encoding="utf-8")
    assert run(*paths, "--fail-on-open") == 0
    assert capsys.readouterr().out.splitlines() == [
        "ingress of eni-a, eni-b",
        "  VERDICT  PROTOCOL  PORTS  REMOTE         BEFORE                        AFTER",
        "  closes   tcp          22  10.9.128.0/17  sgr-ssh of sg-a (priority 1)  default",
        "2 changes at 2 ENIs: 0 open, 2 close",
    ]


def test_nothing_changes(paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    paths[1].write_text(OLD.replace("sgr-ssh", "sgr-other"), encoding="utf-8")
    assert run(*paths, "--fail-on-open") == 0
    assert capsys.readouterr().out == "no traffic changes its verdict\n"


def test_json_holds_a_row_and_conforms(paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    paths[1].write_text(NARROWER, encoding="utf-8")
    assert run(*paths, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert_conforms("diff", document)
    ids = {"security_group_id": "sg-a", "security_group_rule_id": "sgr-ssh", "priority": 1}
    assert document["changes"][0] == {
        "eni": "eni-a",
        "direction": "ingress",
        "family": "ipv4",
        "remote": "10.9.128.0-10.9.255.255",
        "protocol": "tcp",
        "ports": "22-22",
        "source_ports": None,
        "local": None,
        "before": {"verdict": "accept", "reason": "rule", **ids},
        "after": {"verdict": "drop", **DECISION},
    }
    assert (document["added"], document["removed"], document["opened_to_internet"]) == ([], [], [])


@pytest.mark.parametrize("new", [OLD, OPEN], ids=["empty", "many"])
def test_json_conforms(new: str, paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    paths[1].write_text(new, encoding="utf-8")
    assert run(*paths, "--json") == 0
    assert_conforms("diff", json.loads(capsys.readouterr().out))


def test_an_eni_that_comes_into_audit_mode_opens_what_its_rules_refuse(
    paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    audited = OLD.replace("    instance_id: i-a\n", "    instance_id: i-a\n    mode: audit\n")
    assert audited != OLD
    paths[1].write_text(audited, encoding="utf-8")
    assert run(*paths, "--fail-on-open") == 1
    assert "at eni-a\n" in capsys.readouterr().out
    assert run(*paths, "--json") == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert {change["eni"] for change in changes} == {"eni-a"}
    assert {change["after"]["reason"] for change in changes} == {"audited"}
    assert run(*reversed(paths), "--fail-on-open") == 0


def test_what_opens_to_the_internet_fails_where_that_is_asked_for(
    paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    paths[1].write_text(OPEN, encoding="utf-8")
    assert run(*paths) == 0
    assert run(*paths, "--fail-on-open") == 1
    assert "opens to the internet: tcp 22 over ipv4, at eni-a, eni-b" in capsys.readouterr().out.splitlines()
    assert run(*paths, "--fail-on-open", "--json") == 1
    exposed = json.loads(capsys.readouterr().out)["opened_to_internet"]
    assert exposed[0] == {"eni": "eni-a", "family": "ipv4", "protocol": "tcp", "ports": "22-22"}
    assert run(*reversed(paths), "--fail-on-open") == 0


def test_an_eni_of_one_state_only_is_named(paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    paths[1].write_text(OLD[: OLD.index("  - network_interface_id: eni-b")], encoding="utf-8")
    assert run(*paths) == 0
    out = capsys.readouterr().out.splitlines()
    assert "ingress of eni-b (only in OLD)" in out
    assert "only in OLD: eni-b" in out


def test_all_that_is_wrong_in_either_state_is_told(
    paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in paths:
        path.write_text(OLD.replace("22/22", "0/22"), encoding="utf-8")
    assert run(*paths) == 5
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [path.name in captured.err for path in paths] == [True, True]


def test_a_terraform_plan_alone_is_compared_with_the_state_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = module(resource("alicloud_vpc.a"), resource("alicloud_security_group.a"), resource("alicloud_instance.a"))
    rule = resource("alicloud_security_group_rule.ssh")
    hidden = resource("alicloud_security_group_rule.hidden", cidr_ip=None)
    after = module(*before["root_module"]["resources"], rule, hidden)
    unknown = {hidden["address"]: {"cidr_ip": True}, rule["address"]: {"nic_type": True}}
    path = tmp_path / "plan.json"
    path.write_text(plan(after, unknown, {}, prior=before), encoding="utf-8")
    assert run(path) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[2].split()[:4] == ["opens", "tcp", "22", "10.0.0.0/8"]
    name = "alicloud_security_group_rule.hidden"
    assert f"not judged: cidr_ip of {name} is known only after apply, so the rule is left out" in said.out.splitlines()
    assert run(path, "--fail-on-open") == 1
    path.write_text(OLD, encoding="utf-8")
    assert run(path) == 5
    assert "InvalidSource.NotAPlan: not a Terraform plan" in capsys.readouterr().err


def test_markdown_has_what_opens_to_the_internet_first(
    paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for path, text in zip(paths, (OLD, OPEN), strict=True):
        path.write_text(text.replace("sgr-ssh", "sgr_ssh_"), encoding="utf-8")
    assert run(*paths, "--markdown", "--fail-on-open", "--strict-syn") == 1
    assert capsys.readouterr().out.splitlines() == [
        "### Traffic changes its verdict",
        "",
        "6 changes at 2 ENIs: 6 open, 0 close",
        "",
        r"Options: strict\_syn = on",
        "",
        "> [!CAUTION]",
        "> Opens to the internet: **tcp 22 over ipv4**, at `eni-a`, `eni-b`",
        "",
        "**ingress** of `eni-a`, `eni-b`",
        "",
        "| verdict | protocol | ports | remote | before | after |",
        "|---|---|---|---|---|---|",
        *(
            rf"| opens | tcp | 22 | {remote} | default | sgr\_ssh\_ of sg-a (priority 1) |"
            for remote in ("0.0.0.0-10.0.0.0", "10.0.0.3-10.8.255.255", "10.10.0.0-255.255.255.255")
        ),
    ]


def test_markdown_says_when_nothing_changes(paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    paths[1].write_text(OLD, encoding="utf-8")
    assert run(*paths, "--markdown") == 0
    assert capsys.readouterr().out == "### No traffic changes its verdict\n"


def test_markdown_is_never_longer_than_a_comment(
    paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgdataplane.cli.diff.MAX_MARKDOWN", 100)
    paths[1].write_text(NARROWER, encoding="utf-8")
    assert run(*paths, "--markdown") == 0
    assert "1 more row would make this too long; `sgdp diff` prints them." in capsys.readouterr().out
