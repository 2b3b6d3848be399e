"""`sgdp compile --prove`: the proof is reported beside the ruleset, and a wrong ruleset isn't printed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.compiler.compile import compile_policy
from sgdataplane.enforce import proven as pipeline
from sgdataplane.nft.ir import Table
from sgdataplane.policy.resolve import HostPolicy
from sgdataplane.statefile import load

STATE = Path(__file__).resolve().parents[2] / "golden/cases/20-groups-and-prefix-lists/state.yaml"
COMPILE = ("compile", str(STATE), "--stage", "ir")


def test_ruleset_is_the_same_and_the_proof_stands_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMPILE]) == 0
    plain = capsys.readouterr()
    assert main([*COMPILE, "--prove"]) == 0
    proven = capsys.readouterr()
    assert proven.out == plain.out
    assert plain.err == ""
    titles = re.findall(r"^# (instance .*)$", proven.out, re.MULTILINE)
    lines = proven.err.splitlines()
    assert len(titles) == len(lines) > 1
    for title, line in zip(titles, lines, strict=True):
        assert re.fullmatch(rf"{re.escape(title)}: proven: [1-9][\d,]* cells .* in \d+\.\d\d s", line)


def test_a_wrong_ruleset_is_refused_with_the_packet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(policy: HostPolicy, *rest: object, **named: object) -> Table:
        table = compile_policy(policy, *rest, **named)  # type: ignore[arg-type]
        maps = tuple(replace(m, elements=m.elements[1:]) if "members" in m.name else m for m in table.maps)
        return replace(table, maps=maps)

    monkeypatch.setattr(pipeline, "compile_policy", wrong)
    assert main([*COMPILE, "--prove"]) == 70
    said = capsys.readouterr()
    assert said.out.count("# instance") == said.err.count(": proven: "), "what isn't proven isn't printed"
    assert "the compiled ruleset is wrong, and was refused" in said.err
    assert re.search(r"^  packet:   \w+ at eth\d: protocol ", said.err, re.MULTILINE)
    assert re.search(r"^  expected: ", said.err, re.MULTILINE)
    assert main([*COMPILE]) == 0, "without the option nothing is compared"


def test_several_namespaces_are_no_text_that_could_be_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(STATE)]) == 5
    said = capsys.readouterr()
    assert said.out == ""
    assert "one text can't be loaded into several namespaces" in said.err
    assert "-o FOLDER" in said.err


def test_each_namespace_gets_a_file_which_is_the_text_of_its_eni(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, state = tmp_path / "rules", load(STATE).state
    assert main(["compile", str(STATE), "-o", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {f"{each.instance_id}.nft" for each in state.instances}
    for eni in state.network_interfaces:
        capsys.readouterr()
        assert main(["compile", str(STATE), "--eni", eni.network_interface_id]) == 0
        assert capsys.readouterr().out == (folder / f"{eni.instance_id}.nft").read_text()


def test_a_router_of_many_enis_is_one_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(STATE), "--placement", "host"]) == 0
    assert capsys.readouterr().out.count("delete table inet sgdataplane\n") == 1
    assert main(["compile", str(STATE), "--placement", "host", "-o", str(tmp_path)]) == 0
    assert len(list(tmp_path.iterdir())) == 1


def test_permissions_are_listed_for_each_eni_and_direction(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(STATE), "--stage", "policy"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if not line.startswith((" ", "instance "))]
    enis = load(STATE).state.network_interfaces
    assert sorted(titles) == sorted(
        f"{eni.network_interface_id} {way}" for eni in enis for way in ("ingress", "egress")
    )
