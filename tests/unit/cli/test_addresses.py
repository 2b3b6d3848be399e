"""What `check` and `diff` say of a Terraform plan names its resources, whatever ids these have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.model.semantics import decide
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import TCP, Address, Direction
from sgdataplane.statefile import load_plan
from sgdataplane.statefile.addressed import with_addresses

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
AWS, ALI = EXAMPLES / "aws-plan.json", EXAMPLES / "plan.json"
RULE, GROUP = "aws_vpc_security_group_ingress_rule.office[1]", "module.shop.aws_security_group.db"


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    main(list(map(str, words)))
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [["check", AWS], ["diff", AWS]])
def test_rules_and_groups_have_the_names_of_their_resources(
    capsys: pytest.CaptureFixture[str], words: list[object]
) -> None:
    text = "".join(said(capsys, *words).split())
    assert RULE in text
    assert GROUP in text
    assert "sg-0db" not in text


def test_interfaces_have_the_names_of_their_instances(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ingress of aws_instance.db" in said(capsys, "diff", AWS)
    assert "ingress of alicloud_instance.web" in said(capsys, "diff", ALI)


def test_a_comment_has_them_too(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "diff", AWS, "--markdown").replace("\\", "")
    assert f"{RULE} of {GROUP} (priority 1)" in text


@pytest.mark.parametrize("verb", ["check", "diff"])
def test_json_keeps_the_ids_and_has_their_addresses_beside_them(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    document = json.loads(said(capsys, verb, AWS, "--json"))
    assert document["addresses"]["sg-0db"] == GROUP
    assert document["addresses"]["sg-0db/sgr-0one"] == "aws_vpc_security_group_ingress_rule.office[0]"


def test_no_verdict_changes_by_the_names() -> None:
    for loaded in load_plan(AWS):
        named = with_addresses(loaded)
        for port in (22, 5432):
            for far in ("192.0.2.1", "203.0.113.9"):
                asked = [
                    Packet(eni, Direction.INGRESS, Address.parse(far), Address.parse("10.0.0.21"), TCP, port, 40000)
                    for eni in ("eni-0db", "aws_instance.db")
                ]
                assert decide(loaded.state, asked[0]).verdict is decide(named.state, asked[1]).verdict
