"""`sgdp check --sarif` is SARIF 2.1.0 by its schema, and says where each finding is and what Terraform calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sgdataplane.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
SCHEMA = json.loads((ROOT / "tests/support/documents/sarif/sarif-2.1.0.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
Json = dict[str, Any]


def sarif(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> list[Json]:
    """The results, after the document was held against the schema."""
    assert main(["check", *map(str, words), "--sarif"]) == code
    document = json.loads(capsys.readouterr().out)
    VALIDATOR.validate(document)
    (run,) = document["runs"]
    assert {each["ruleId"] for each in run["results"]} == {each["id"] for each in run["tool"]["driver"]["rules"]}
    results: list[Json] = run["results"]
    return results


def test_the_schema_can_refuse() -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({"version": "2.1.0", "runs": [{"tool": {"driver": {}}}]})


@pytest.mark.parametrize("state", ["web.yaml", "plan.json", "aws-plan.json", "openstack", "shop.yaml"])
def test_findings_of_each_format_are_valid(capsys: pytest.CaptureFixture[str], state: str) -> None:
    sarif(capsys, EXAMPLES / state)


def test_a_finding_is_at_the_line_of_its_rule(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = [each for each in sarif(capsys, EXAMPLES / "web.yaml") if each["ruleId"] == "WideOpenIngress"]
    (place,) = found["locations"]
    uri, line = place["physicalLocation"]["artifactLocation"]["uri"], place["physicalLocation"]["region"]["startLine"]
    assert "sgr-ports" in Path("/" + uri.lstrip("/")).read_text(encoding="utf-8").splitlines()[line - 1]
    assert found["level"] == "error"
    assert place["logicalLocations"] == [{"fullyQualifiedName": "sg-web sgr-ports"}]


def test_a_finding_of_a_plan_has_the_address_of_its_resource(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = [each for each in sarif(capsys, EXAMPLES / "aws-plan.json") if each["ruleId"] == "WideOpenIngress"]
    (place,) = found["locations"]
    name = "aws_vpc_security_group_ingress_rule.office[1]"
    assert place["logicalLocations"] == [{"fullyQualifiedName": name}]
    assert found["message"]["text"].startswith(f"{name}: the rule opens")


def test_the_same_finding_keeps_its_fingerprint_when_lines_move(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    moved = tmp_path / "web.yaml"
    moved.write_text("\n\n" + (EXAMPLES / "web.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    marks = [[e["partialFingerprints"] for e in sarif(capsys, path)] for path in (EXAMPLES / "web.yaml", moved)]
    assert marks[0] == marks[1]
    assert len(marks[0]) == len({str(mark) for mark in marks[0]})


def test_what_is_wrong_with_a_refused_state_is_valid_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = tmp_path / "a state.yaml"
    broken.write_text("version: 1\nvpcs:\n  - {vpc_id: vpc-a, colour: red}\n", encoding="utf-8")
    (found,) = sarif(capsys, broken, code=1)
    physical = found["locations"][0]["physicalLocation"]
    assert (found["ruleId"], physical["region"]) == ("InvalidDocument.UnknownKey", {"startLine": 3})
    assert physical["artifactLocation"]["uri"].endswith("/a%20state.yaml")


def test_hostile_keys_of_a_plan_are_made_visible(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = (EXAMPLES / "aws-plan.json").read_text(encoding="utf-8")
    hostile = tmp_path / "plan.json"
    hostile.write_text(plan.replace("office[1]", 'office[\\"\\u001b[31m\\u202e\\n](x)`\\"]'), encoding="utf-8")
    for words in (
        ["check", hostile],
        ["diff", hostile],
        ["diff", hostile, "--markdown"],
        ["check", hostile, "--sarif"],
    ):
        main(list(map(str, words)))
        captured = capsys.readouterr()
        assert "office" in captured.out
        assert not {"\x1b", "\u202e"} & set(captured.out + captured.err)
