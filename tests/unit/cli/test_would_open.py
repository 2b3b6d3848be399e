"""`sgdp diff --fail-on-open` at groups without ENIs, and what a plan doesn't know yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from tests.support.documents.schemas import assert_conforms
from tests.unit.statefile.terraform_documents import Attributes, module, plan, refers, resource

STATE = """\
version: 1
vpcs: [{{vpc_id: vpc-a}}]
prefix_lists: [{{prefix_list_id: pl-a, address_family: ipv4, max_entries: 5, entries: [{entries}]}}]
port_lists: [{{port_list_id: prl-a, max_entries: 5, entries: [{{port_range: {ports}}}]}}]
security_groups:
  - {{security_group_id: sg-empty, vpc_id: vpc-a, {kind}, rules: [{empty}]}}
  - {{security_group_id: sg-other, vpc_id: vpc-a, {kind}, rules: [{other}]}}
  - {{security_group_id: sg-db, vpc_id: vpc-a, {kind}, rules: [{db}]}}
  - {{security_group_id: sg-lists, vpc_id: vpc-a, {kind}, rules: [
      {{security_group_rule_id: sgr-l, type: ingress, ip_protocol: tcp, port_list_id: prl-a, prefix_list_id: pl-a}}]}}
instances: [{{instance_id: i-db}}, {{instance_id: i-both}}]
network_interfaces:
  - {{network_interface_id: eni-db, instance_id: i-db, vpc_id: vpc-a, private_ip_addresses: [10.0.0.1],
     security_group_ids: [sg-db]}}
  - {{network_interface_id: eni-both, instance_id: i-both, vpc_id: vpc-a, private_ip_addresses: [10.0.0.2],
     security_group_ids: [sg-db, sg-other]}}
"""
USUAL = {
    "entries": "{cidr: 192.0.2.0/24}", "ports": "22/22", "kind": "inner_access_policy: Drop", "empty": "", "other": "",
    "db": "",
}  # fmt: skip
ADVANCED = {"kind": "security_group_type: enterprise"}


def rule(number: int, remote: str, kind: str = "type: ingress, ip_protocol: tcp, port_range: 22/22") -> str:
    return f"{{security_group_rule_id: sgr-{number}, {kind}, {remote}}}"


ALL = rule(1, "cidr_ip: 0.0.0.0/0", "type: ingress, ip_protocol: all")


def files(folder: Path, before: dict[str, str], after: dict[str, str]) -> tuple[Path, Path]:
    old, new = folder / "old.yaml", folder / "new.yaml"
    old.write_text(STATE.format(**USUAL | before), "utf-8")
    new.write_text(STATE.format(**USUAL | before | after), "utf-8")
    return old, new


def run(*arguments: object) -> int:
    return main(["diff", *map(str, arguments)])


EMPTY = "group sg-empty (no ENI yet)"


@pytest.mark.parametrize(
    ("before", "after", "text", "code"),
    [
        ({}, {"empty": ALL}, f"{EMPTY}: all from 0.0.0.0/0 would be accepted, by sgr-1 of sg-empty (priority 1)", 1),
        ({}, {"empty": rule(1, "ipv6_cidr_ip: '::/0'")}, f"{EMPTY}: tcp/22 from ::/0 would be accepted", 1),
        ({}, {"empty": rule(1, "cidr_ip: 10.0.0.0/8")}, f"{EMPTY}: tcp/22 from 10.0.0.0/8 would be accepted", 0),
        ({}, {"entries": "{cidr: 0.0.0.0/0}"}, "group sg-lists (no ENI yet): tcp/22 from 0.0.0.0-192.0.1.255 would", 1),
        ({"entries": "{cidr: 0.0.0.0/0}"}, {"ports": "22/23"}, "group sg-lists (no ENI yet): tcp/23 from 0.0.0.0/", 1),
        ({}, {"db": rule(1, "source_security_group_id: sg-empty")},
         "group sg-db (any further ENI): tcp/22 from an ENI that joins group sg-empty (ipv4) would be accepted", 0),
        (ADVANCED, {"empty": rule(1, "cidr_ip: 0.0.0.0/0", "type: egress, ip_protocol: all")},
         f"{EMPTY}: all to 0.0.0.0/0 would be accepted", 0),
        ({}, {"kind": "inner_access_policy: Accept"},
         f"{EMPTY}: all from an ENI that joins group sg-empty (ipv4) would be accepted, by the inner", 0),
        ({"other": rule(9, "cidr_ip: 0.0.0.0/0, policy: drop")}, {"db": rule(1, "cidr_ip: 10.0.0.0/8, priority: 5"),
          "other": rule(9, "cidr_ip: 10.9.0.0/16, policy: drop")}, "", 0),
    ],
    ids=["all", "ipv6", "a private block", "a prefix list", "a port list", "a group as remote", "egress",
         "inner accept", "a real ENI"],
)  # fmt: skip
def test_what_opens_in_a_group_without_enis_is_told(  # noqa: PLR0917  # what parametrize gives
    before: dict[str, str], after: dict[str, str], text: str, code: int, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    old, new = files(tmp_path, before, after)
    assert run(old, new, "--fail-on-open") == code
    said = capsys.readouterr().out
    assert any(line.startswith(text) for line in said.splitlines()), said
    assert ("opens to the internet" in said) is bool(code)
    assert run(old, new) == 0
    assert run(old, new, "--fail-on-any-open") == 1
    capsys.readouterr()
    assert run(old, old, "--fail-on-open", "--fail-on-any-open") == 0
    assert capsys.readouterr().out == "no traffic changes its verdict\n"


def test_a_new_group_is_told_as_one_that_nothing_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = files(tmp_path, {}, {})
    text = new.read_text("utf-8")
    at = text.index("  - {security_group_id: sg-empty")
    made = f"  - {{security_group_id: sg-made, vpc_id: vpc-a, rules: [{ALL}]}}\n"
    new.write_text(text[:at] + made + text[at:], "utf-8")
    assert run(old, new, "--fail-on-open") == 1
    said = capsys.readouterr().out
    assert "group sg-made (no ENI yet): all from 0.0.0.0/0 would be accepted, by sgr-1 of sg-made" in said
    assert "group sg-made (no ENI yet): all to 0.0.0.0/0 would be accepted, by default" in said
    assert "opens to the internet: all over ipv4, at group sg-made (no ENI yet)" in said


def test_a_combination_that_an_eni_has_is_judged_as_well_as_each_group_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """sg-other drops before sg-db accepts, so eni-both stays closed, but an ENI in sg-db alone doesn't."""
    before = {"other": rule(9, "cidr_ip: 0.0.0.0/0, policy: drop"), "db": ""}
    old, new = files(tmp_path, before, {"db": rule(1, "cidr_ip: 0.0.0.0/0, priority: 5")})
    texts = [path.read_text("utf-8").replace("security_group_ids: [sg-db]", "security_group_ids: [sg-lists]")
             for path in (old, new)]  # fmt: skip
    old.write_text(texts[0], "utf-8")
    new.write_text(texts[1], "utf-8")
    assert run(old, new, "--fail-on-open") == 1
    said = capsys.readouterr().out
    assert "opens to the internet: tcp 22 over ipv4, at group sg-db (no ENI is in it alone)" in said
    assert "sg-db + sg-other" not in said


def test_json_and_markdown_tell_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = files(tmp_path, {}, {"empty": ALL, "db": rule(2, "source_security_group_id: sg-empty")})
    assert run(*paths, "--json", "--fail-on-open") == 1
    document = json.loads(capsys.readouterr().out)
    assert_conforms("diff", document)
    place = {"security_group_ids": ["sg-empty"], "nic_type": "intranet", "interface": None}
    row = {"family": "ipv4", "protocol": "all", "ports": None}
    assert document["would_open_to_internet"] == [{**place, **row}]
    members = [row["remote_member"] for row in document["would_open"] if row["remote_member"]]
    assert {"security_group_ids": ["sg-empty"], "interface": None} in members
    assert document["changes"] == []
    assert run(*paths, "--markdown", "--fail-on-open") == 1
    said = capsys.readouterr().out
    assert "> Opens to the internet: **all over ipv4**, at `group sg-empty (no ENI yet)`" in said
    assert "- group sg-empty (no ENI yet): all from 0.0.0.0/0 would be accepted, by sgr-1 of sg-empty" in said


# Terraform plans

BEFORE = module(resource("alicloud_vpc.a"), resource("alicloud_security_group.a"))
GROUP_A = "alicloud_security_group.a"
OPEN = resource("alicloud_security_group_rule.ssh", cidr_ip="0.0.0.0/0")
NEW: Attributes = {"private_ip": True}


def planned(folder: Path, *made: Attributes, unknown: Attributes, before: Attributes = BEFORE) -> Path:
    path = folder / "plan.json"
    after = module(*before["root_module"]["resources"], *made)
    references = [refers(name, private_ip=["data.x.y.ip"], security_groups=["data.x.y.ids"]) for name in unknown]
    path.write_text(plan(after, unknown, {"root_module": {"resources": references}}, prior=before), "utf-8")
    return path


def test_an_instance_whose_address_is_not_known_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its group was open before, but nobody was in it. With a group that isn't open, the gate lets the plan pass."""
    name = "alicloud_instance.new"
    instance = resource(name, private_ip=None)
    before = module(*BEFORE["root_module"]["resources"], OPEN)
    path = planned(tmp_path, instance, unknown={name: NEW}, before=before)
    assert run(path, "--fail-on-open") == 1
    said = capsys.readouterr().out
    place = f"{name} in group {GROUP_A} (its address isn't known yet)"
    assert f"opens to the internet: tcp 22 over ipv4, at {place}" in said
    assert run(planned(tmp_path, instance, unknown={name: NEW}), "--fail-on-open") == 0
    assert f"{place}: all to 0.0.0.0/0 would" in capsys.readouterr().out


def test_a_plan_that_makes_a_group_with_an_open_port_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group = resource("alicloud_security_group.new", id="sg-new")
    ssh = resource("alicloud_security_group_rule.new", security_group_id="sg-new", cidr_ip="0.0.0.0/0")
    name = "alicloud_instance.new"
    instance = resource(name, private_ip=None, security_groups=["sg-new"])
    assert run(planned(tmp_path, group, ssh, instance, unknown={name: NEW}), "--fail-on-open") == 1
    said = capsys.readouterr().out
    place = "group alicloud_security_group.new (no ENI yet)"
    assert f"opens to the internet: tcp 22 over ipv4, at {place}" in said.replace(f"{name} in ", "")


@pytest.mark.parametrize(
    ("made", "unknown", "text"),
    [
        (resource("alicloud_security_group_rule.x", cidr_ip=None), {"cidr_ip": True}, "cidr_ip of"),
        (resource("alicloud_security_group_rule.x", security_group_id=None), {"security_group_id": True}, "securit"),
        (resource("alicloud_security_group_rule.x", cidr_ip=None, policy="drop"), {"cidr_ip": True}, "cidr_ip of"),
        (resource("alicloud_instance.x", security_groups=None), {"security_groups": True}, "security_groups of"),
        (resource("alicloud_instance.x", private_ip=None, security_groups=["sg-ext"]), NEW, "alicloud_instance.x has"),
        (resource("alicloud_security_group_rule.x", security_group_id="sg-ext", cidr_ip="0.0.0.0/0"), {}, "1 rule of"),
    ],
    ids=["a block", "a group", "what is dropped", "an ENI's groups", "an ENI's group elsewhere", "a group elsewhere"],
)  # fmt: skip
def test_what_cannot_be_judged_is_told_and_fails(
    made: Attributes, unknown: Attributes, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = planned(tmp_path, made, unknown={made["address"]: unknown})
    assert run(path) == 0
    said = capsys.readouterr().out
    assert any(line.startswith(f"not judged: {text}") for line in said.splitlines()), said
    assert "no traffic changes" not in said
    assert run(path, "--fail-on-open") == 1
    assert run(path, "--markdown", "--fail-on-open") == 1
    assert "> Not judged: " in capsys.readouterr().out
    assert run(path, "--json", "--fail-on-open") == 1
    document = json.loads(capsys.readouterr().out)
    assert_conforms("diff", document)
    assert len(document["not_judged"]) == 1
    assert main(["check", str(path), "--fail-on", "high"]) == 1
    assert run(planned(tmp_path, unknown={}), "--fail-on-open") == 0


def test_rules_of_a_group_elsewhere_that_stay_as_they_are_do_not_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = resource("alicloud_security_group_rule.x", security_group_id="sg-ext", cidr_ip="0.0.0.0/0")
    before = module(*BEFORE["root_module"]["resources"], elsewhere)
    assert run(planned(tmp_path, unknown={}, before=before), "--fail-on-open") == 0
    assert capsys.readouterr().out == "no traffic changes its verdict\n"


def test_check_judges_an_interface_without_an_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the state, sg-a has only an ENI that another group keeps closed."""
    guard = resource("alicloud_security_group.guard", id="sg-guard")
    dropped = {"security_group_id": "sg-guard", "cidr_ip": "0.0.0.0/0", "policy": "drop"}
    drop = resource("alicloud_security_group_rule.drop", **dropped)
    closed = resource("alicloud_instance.closed", security_groups=["sg-a", "sg-guard"])
    instance = resource("alicloud_instance.new", private_ip=None)
    before = module(*BEFORE["root_module"]["resources"], OPEN, guard, drop, closed)
    path = planned(tmp_path, unknown={}, before=before)
    assert main(["check", str(path), "--fail-on", "high"]) == 0
    path = planned(tmp_path, instance, unknown={"alicloud_instance.new": NEW}, before=before)
    assert main(["check", str(path), "--fail-on", "high"]) == 1
    assert "WideOpenIngress" in capsys.readouterr().out
