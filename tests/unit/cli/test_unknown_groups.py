"""`sgdp diff --fail-on-open` at rules whose remote is a group that the state doesn't have: who is in it isn't known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from tests.support.documents.schemas import assert_conforms
from tests.unit.statefile.terraform_documents import module, plan, resource

STATE = """\
version: 1
unknown_security_group_ids: [sg-far, sg-out]
vpcs: [{{vpc_id: vpc-a}}, {{vpc_id: vpc-b}}]
security_groups:
  - {{security_group_id: sg-db, vpc_id: vpc-a, inner_access_policy: Drop, rules: [{db}]}}
  - {{security_group_id: sg-web, vpc_id: vpc-a, inner_access_policy: Drop, rules: [{web}]}}
  - {{security_group_id: sg-b, vpc_id: vpc-b, inner_access_policy: Drop}}
{more}
network_interfaces:
  - {{network_interface_id: eni-db, vpc_id: vpc-a, private_ip_addresses: [10.0.0.1], security_group_ids: [{groups}]}}
{enis}
"""
USUAL = {"db": "", "web": "", "more": "", "groups": "sg-db", "enis": ""}
Fields = dict[str, str]


def rule(number: int, remote: str, more: str = "type: ingress, ip_protocol: tcp, port_range: 22/22") -> str:
    return f"{{security_group_rule_id: sgr-{number}, {remote}, {more}}}"


def port(number: int, block: str = "10.0.0.0/8") -> str:
    return rule(number, f"cidr_ip: {block}", f"type: ingress, ip_protocol: tcp, port_range: {number}/{number}")


FAR = rule(1, "source_security_group_id: sg-far")
OUT = rule(1, "dest_security_group_id: sg-far", "type: egress, ip_protocol: udp, port_range: 53/53")
CLOSED = rule(4, "cidr_ip: 0.0.0.0/0", "policy: drop, type: egress, ip_protocol: all, priority: 9")
STRONG, WEAK = (f"type: ingress, ip_protocol: tcp, port_range: 22/22, priority: {number}" for number in (1, 9))
DROP = "policy: drop, type: ingress, ip_protocol: tcp, port_range: 22/22, priority: 5"
NO_FAR, NO_OUT = (rule(2, f"source_security_group_id: {name}", DROP) for name in ("sg-far", "sg-out"))
NO_WEB = rule(2, "source_security_group_id: sg-web", DROP)
NO_BLOCK, ALL = rule(2, "cidr_ip: 10.9.0.0/16", DROP), rule(3, "cidr_ip: 10.0.0.0/8", WEAK)
FAR_STRONG, FAR_WEAK = (rule(1, "source_security_group_id: sg-far", each) for each in (STRONG, WEAK))
IS_KNOWN = "  - {security_group_id: sg-far, vpc_id: vpc-a, inner_access_policy: Drop}"


def run(folder: Path, before: Fields, after: Fields, *options: str) -> int:
    """The exit code of a comparison. A group that a state has isn't listed as unknown there."""
    paths = []
    for name, fields in (("old", before), ("new", before | after)):
        text = STATE.format(**USUAL | fields)
        text = text.replace("[sg-far, sg-out]", "[sg-out]") if "security_group_id: sg-far, vpc" in text else text
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(text, "utf-8")
    return main(["diff", *map(str, paths), *options])


WHO = "whoever is in group sg-far (the state doesn't have sg-far)"


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({}, {"db": FAR}, f"tcp/22 from {WHO} would be accepted at group sg-db, by sgr-1 of sg-db (priority 1)"),
        ({"db": CLOSED}, {"db": f"{CLOSED}, {OUT}"},
         f"udp/53 to {WHO} would be accepted at group sg-db, by sgr-1 of sg-db (priority 1)"),
        ({"db": f"{NO_FAR}, {ALL}"}, {"db": ALL},
         "tcp/22 from whoever is in group sg-far, if it is in 10.0.0.0/8, would be accepted at group sg-db, by sgr-3"),
        ({"db": rule(2, "dest_security_group_id: sg-far", "policy: drop, type: egress, ip_protocol: all")}, {"db": ""},
         f"all to {WHO} would be accepted at group sg-db, by default"),
        ({"db": f"{NO_BLOCK}, {FAR_WEAK}"}, {"db": FAR_WEAK},
         "tcp/22 from whoever is in group sg-far, if it is in 10.9.0.0/16, would be accepted at group sg-db, by sgr-1"),
        ({"db": f"{NO_OUT}, {FAR_WEAK}"}, {"db": f"{NO_OUT}, {FAR_STRONG}"},
         "tcp/22 from whoever is in groups sg-far + sg-out (the state doesn't have sg-far and sg-out) would be"),
        ({"db": f"{NO_WEB}, {FAR_WEAK}"}, {"db": FAR_WEAK},
         "tcp/22 from whoever is in groups sg-far + sg-web (the state doesn't have sg-far) would be accepted"),
        ({"db": FAR, "more": IS_KNOWN}, {"more": ""}, f"tcp/22 from {WHO} would be accepted at group sg-db, by sgr-1"),
        ({"db": f"{NO_FAR}, {ALL}"}, {"more": IS_KNOWN},
         "tcp/22 from whoever is in group sg-far, if it is in 10.0.0.0/8, would be accepted at group sg-db, by sgr-3"),
    ],
    ids=["a new rule", "a new rule of egress", "a drop goes", "a drop of egress goes", "a drop of a block goes",
         "a rule overtakes the drop of another group", "a drop of a known group goes", "the group goes",
         "the group comes"],
)  # fmt: skip
def test_what_changes_for_members_of_a_group_that_the_state_lacks_is_not_judged(
    before: Fields, after: Fields, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, before, after, "--fail-on-open") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"not judged: {text}" in said
    assert run(tmp_path, before, after, "--fail-on-any-open") == 1
    assert run(tmp_path, before, after) == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"db": FAR}, {"db": f"{FAR}, {port(80)}"}),
        ({"db": f"{FAR}, {port(80)}"}, {"db": FAR}),
        ({"db": FAR}, {"web": port(80)}),
        ({"db": FAR}, {"db": ""}),
        ({"db": FAR}, {"db": FAR.replace("sgr-1", "sgr-7")}),
        ({"db": ALL}, {"db": f"{ALL}, {NO_FAR}"}),
        ({"db": FAR}, {"enis": "  - {network_interface_id: eni-2, vpc_id: vpc-a, private_ip_addresses: [10.0.0.2],"
                               " security_group_ids: [sg-db]}"}),
        ({}, {"db": rule(1, "source_security_group_id: sg-b")}),
        ({}, {"db": rule(1, "source_security_group_id: sg-web")}),
    ],
    ids=["a rule beside it", "a rule beside it goes", "a rule elsewhere", "it goes", "another name", "a new drop",
         "an ENI joins", "a group of another VPC", "a group without members"],
)  # fmt: skip
def test_what_concerns_nobody_in_such_a_group_does_not_fail(
    before: Fields, after: Fields, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, before, after, "--fail-on-open") == 0
    assert "not judged" not in capsys.readouterr().out
    assert run(tmp_path, before, {"db": FAR.replace("22/22", "23/23")}, "--fail-on-open") == 1


def test_an_eni_that_joins_gets_what_the_group_gave_and_that_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So `--fail-on-any-open` fails, also at an ENI that nobody else reaches."""
    blocks = enumerate(("cidr_ip: 0.0.0.0/0", "ipv6_cidr_ip: '::/0'"), 2)
    closed = ", ".join(rule(n, block, "policy: drop, type: egress, ip_protocol: all") for n, block in blocks)
    before = {"db": f"{closed}, {FAR}", "web": closed, "groups": "sg-web"}
    assert run(tmp_path, before, {"groups": "sg-db"}, "--fail-on-open") == 0
    said = capsys.readouterr().out
    assert said.count(f"eni-db in group sg-db (new in it): tcp/22 from {WHO} would be accepted, by sgr-1") == 1
    assert "no change at any ENI; 2 would open for groups that aren't in the state\n" in said
    assert run(tmp_path, before, {"groups": "sg-db"}, "--fail-on-any-open") == 1
    assert run(tmp_path, before, {"groups": "sg-web"}, "--fail-on-any-open") == 0


def test_programs_are_told_the_rule_and_check_only_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, {}, {"db": FAR}, "--json", "--fail-on-open") == 1
    document = json.loads(capsys.readouterr().out)
    assert_conforms("diff", document)
    (found,) = document["not_judged"]
    assert found["code"] == "UnknownRemote"
    assert found["subject"] == {"security_group_id": "sg-db", "security_group_rule_id": "sgr-1"}
    assert document["would_open"] == []
    assert main(["check", str(tmp_path / "new.yaml"), "--fail-on", "high"]) == 0
    assert "warning  UnknownRemote  sg-db sgr-1: the state doesn't have sg-far" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "new.yaml"), "--fail-on", "warning"]) == 1


def test_more_groups_than_can_be_combined_are_judged_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sgdataplane.analyse.members.MAX_TOGETHER", 0)
    before, after = {"db": f"{NO_OUT}, {FAR_WEAK}"}, {"db": f"{NO_OUT}, {FAR_STRONG}"}
    assert run(tmp_path, before, after, "--fail-on-open") == 1
    assert "whoever is in groups sg-far + sg-out" in " ".join(capsys.readouterr().out.split())


def test_a_plan_that_names_a_group_that_terraform_does_not_manage_fails(tmp_path: Path) -> None:
    def planned(*made: dict[str, object]) -> str:
        """A plan that makes these, of a group that has such a rule already."""
        shared = {"cidr_ip": None, "source_security_group_id": "sg-far"}
        before = module(
            resource("alicloud_vpc.a"), resource("alicloud_security_group.a"),
            resource("alicloud_security_group_rule.known", **shared),
        )  # fmt: skip
        path = tmp_path / "plan.json"
        text = plan(module(*before["root_module"]["resources"], *made), {}, {"root_module": {}}, prior=before)
        path.write_text(text, "utf-8")
        return str(path)

    far = {"cidr_ip": None, "source_security_group_id": "sg-far", "port_range": "23/23"}
    assert main(["diff", planned(), "--fail-on-open"]) == 0
    block = resource("alicloud_security_group_rule.x", cidr_ip="10.0.0.0/8")
    assert main(["diff", planned(block), "--fail-on-open"]) == 0
    assert main(["diff", planned(resource("alicloud_security_group_rule.x", **far)), "--fail-on-open"]) == 1
