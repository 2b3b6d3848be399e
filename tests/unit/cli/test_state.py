"""`sgdp check`, `import` and `export`: what they print, where, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgdataplane.cli.main import main
from sgdataplane.policy.findings import KINDS
from sgdataplane.statefile import load
from sgdataplane.statefile.schema import state_schema
from tests.support.documents.schemas import assert_conforms

GOOD = """\
version: 1
vpcs: [{vpc_id: vpc-a}]
security_groups:
  - {security_group_id: sg-a, vpc_id: vpc-a}
instances: [{instance_id: i-a}]
network_interfaces:
  - network_interface_id: eni-a
    instance_id: i-a
    vpc_id: vpc-a
    private_ip_addresses: [10.0.0.1]
    security_group_ids: [sg-a]
"""
ODD = GOOD.replace(
    "  - {security_group_id: sg-a, vpc_id: vpc-a}\n",
    "  - security_group_id: sg-a\n    vpc_id: vpc-a\n    rules:\n"
    "      - {security_group_rule_id: sgr-1, type: ingress, ip_protocol: tcp, port_range: 22/22, cidr_ip: 0.0.0.0/0}\n"
    "      - {security_group_rule_id: sgr-2, type: ingress, ip_protocol: tcp, port_range: 80/80,"
    " cidr_ip: 10.1.0.0/8}\n",
)
SHOP = Path(__file__).resolve().parents[3] / "examples" / "shop.yaml"
BAD = GOOD.replace("[sg-a]", "[sg-b]").replace("vpc_id: vpc-a\n", "vpc_id: vpc-b\n")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.yaml"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def printed(capsys: pytest.CaptureFixture[str]) -> Any:  # noqa: ANN401  # whatever the JSON holds
    document = json.loads(capsys.readouterr().out)
    assert_conforms("check", document)
    return document


def test_check_says_what_a_good_state_holds(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.write_text(GOOD, encoding="utf-8")
    assert run("check", state) == 0
    assert capsys.readouterr().out == "ok: 1 VPC, 1 security group, 0 rules, 1 instance, 1 ENI\n"


def test_check_lists_findings_the_gravest_first_in_columns(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.write_text(ODD, encoding="utf-8")
    assert run("check", state) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "high     WideOpenIngress  sg-a sgr-1: the rule opens SSH (22) to 0.0.0.0/0",
        f"                          -> {KINDS['WideOpenIngress'].advice}",
        "warning  MaskedHostBits   sg-a sgr-2: cidr_ip 10.1.0.0/8 has host bits; it is read as 10.0.0.0/8",
        f"                          -> {KINDS['MaskedHostBits'].advice}",
    ]


def test_advice_stands_below_the_first_finding_that_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", SHOP) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok:", "info", "->", "info", "info"]
    assert lines[2].strip() == f"-> {KINDS['TieDecidedByDrop'].advice}"


@pytest.mark.parametrize(("text", "code"), [(GOOD, 0), (ODD, 1)], ids=["nothing odd", "findings"])
def test_strict_makes_findings_a_no(text: str, code: int, state: Path) -> None:
    state.write_text(text, encoding="utf-8")
    assert run("check", state, "--strict") == code
    assert run("check", state, "--strict", "--json") == code


def test_check_json_of_a_good_state(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.write_text(ODD, encoding="utf-8")
    assert run("check", state, "--json") == 0
    ids = {"security_group_id": "sg-a"}
    assert printed(capsys) == {
        "ok": True,
        "errors": [],
        "findings": [
            {
                "code": "MaskedHostBits",
                "severity": "warning",
                "message": "cidr_ip 10.1.0.0/8 has host bits; it is read as 10.0.0.0/8",
                "advice": KINDS["MaskedHostBits"].advice,
                "subject": {**ids, "security_group_rule_id": "sgr-2"},
            },
            {
                "code": "WideOpenIngress",
                "severity": "high",
                "message": "the rule opens SSH (22) to 0.0.0.0/0",
                "advice": KINDS["WideOpenIngress"].advice,
                "subject": {**ids, "security_group_rule_id": "sgr-1"},
            },
        ],
    }


def test_check_json_of_a_refused_state(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.write_text(BAD, encoding="utf-8")
    assert run("check", state, "--json") == 1
    assert printed(capsys) == {
        "ok": False,
        "errors": [
            {
                "code": "InvalidVpcId.NotFound",
                "message": "the ENI's VPC is not in the state: vpc-b;"
                " expected the id of one of the vpcs, perhaps vpc-a",
                "where": {"file": str(state), "line": 9, "pointer": "/network_interfaces/0/vpc_id"},
            },
            {
                "code": "InvalidSecurityGroupId.NotFound",
                "message": "the security group is not in the state: sg-b;"
                " expected the id of one of the security groups, perhaps sg-a",
                "where": {"file": str(state), "line": 11, "pointer": "/network_interfaces/0/security_group_ids/0"},
            },
        ],
        "findings": [],
    }


def test_a_refused_state_is_one_block_a_problem_on_stderr(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.write_text(BAD, encoding="utf-8")
    assert run("check", state) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "error: InvalidVpcId.NotFound: the ENI's VPC is not in the state",
        f"  at:       {state}:9 /network_interfaces/0/vpc_id",
        "  value:    vpc-b",
        "  expected: the id of one of the vpcs, perhaps vpc-a",
        "error: InvalidSecurityGroupId.NotFound: the security group is not in the state",
        f"  at:       {state}:11 /network_interfaces/0/security_group_ids/0",
        "  value:    sg-b",
        "  expected: the id of one of the security groups, perhaps sg-a",
    ]


def test_check_names_a_quota_that_is_used_up(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = "".join(f"  - {{security_group_id: g{number}, vpc_id: vpc-a}}\n" for number in range(5))
    text = GOOD.replace("  - {security_group_id: sg-a, vpc_id: vpc-a}\n", groups).replace(
        "[sg-a]", "[g0, g1, g2, g3, g4]"
    )
    state.write_text(text, encoding="utf-8")
    assert run("check", state) == 0
    assert "warning  NearQuota  eni-a: 5 of 5 groups on the ENI (profile seed)" in capsys.readouterr().out
    assert run("check", state, "--strict", "--profile", "2026") == 0


@pytest.mark.parametrize(("profile", "code"), [("seed", 1), ("2026", 0), ("unlimited", 0)])
def test_quotas_follow_the_profile(profile: str, code: int, state: Path) -> None:
    groups = "".join(f"  - {{security_group_id: g{number}, vpc_id: vpc-a}}\n" for number in range(6))
    ids = ", ".join(f"g{number}" for number in range(6))
    text = GOOD.replace("  - {security_group_id: sg-a, vpc_id: vpc-a}\n", groups).replace("[sg-a]", f"[{ids}]")
    state.write_text(text, encoding="utf-8")
    assert run("check", state, "--profile", profile) == code


def test_an_unknown_profile_is_a_usage_error(state: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        run("check", state, "--profile", "2030")
    assert caught.value.code == 2


def test_a_state_goes_out_as_answers_and_comes_back_equal(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state.write_text(ODD, encoding="utf-8")
    answers, native = tmp_path / "answers", tmp_path / "native.yaml"
    assert run("export", state, "--to", "ecs", "-o", answers) == 0
    assert run("import", answers, "-o", native) == 0
    assert capsys.readouterr() == ("", "")
    assert load(native).state == load(state).state
    assert run("export", answers, "--to", "native") == 0
    assert capsys.readouterr().out == native.read_text(encoding="utf-8")


def test_import_prints_native_yaml_and_notes_on_stderr(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.write_text(ODD, encoding="utf-8")
    assert run("import", state) == 0
    out, err = capsys.readouterr()
    assert "port_range: 80/80, cidr_ip: 10.0.0.0/8" in out
    assert err.startswith("note: sg-a sgr-")
    assert err.endswith(": cidr_ip 10.1.0.0/8 has host bits; it is read as 10.0.0.0/8\n")


TFSTATE = {
    "version": 4,
    "resources": [
        {
            "type": "alicloud_security_group",
            "instances": [{"attributes": {"id": "sg-a", "vpc_id": "vpc-a", "security_group_type": "normal"}}],
        }
    ],
}


@pytest.mark.parametrize("name", ["terraform.tfstate", "state.json", "other"])
def test_a_terraform_state_is_known_by_its_content(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_text(json.dumps(TFSTATE), encoding="utf-8")
    assert run("import", path) == 0
    assert "security_group_id: sg-a" in capsys.readouterr().out
    assert run("check", path) == 0


def test_answers_are_not_written_without_a_folder(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.write_text(GOOD, encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        run("export", state, "--to", "ecs")
    assert caught.value.code == 2
    assert "--to ecs writes a folder of files: name it with -o" in capsys.readouterr().err


def test_answers_are_not_written_among_other_files(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state.write_text(GOOD, encoding="utf-8")
    assert run("export", state, "--to", "ecs", "-o", tmp_path) == 5
    assert "error: InvalidTarget.NotWritable: the folder isn't empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["state.yaml"]


@pytest.mark.parametrize("kind", ["ecs", "native"])
def test_a_place_that_can_not_be_written_is_refused(kind: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.write_text(GOOD, encoding="utf-8")
    assert run("export", state, "--to", kind, "-o", state / "inside") == 5
    assert "error: InvalidTarget.NotWritable: not a directory" in capsys.readouterr().err


def test_schema_prints_that_of_state_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out) == state_schema()


def test_schema_prints_what_a_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema", "lab-matrix") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "sgdp lab matrix --json"


def test_schema_refuses_another_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("schema", "stat")
    assert ended.value.code == 2
    assert "did you mean state?" in capsys.readouterr().err
