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

STATE = Path(__file__).resolve().parents[2] / "golden/cases/20-groups-and-prefix-lists/state.yaml"


def test_ruleset_is_the_same_and_the_proof_stands_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(STATE)]) == 0
    plain = capsys.readouterr()
    assert main(["compile", str(STATE), "--prove"]) == 0
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
    assert main(["compile", str(STATE), "--prove"]) == 70
    said = capsys.readouterr()
    assert said.out.count("# instance") == said.err.count(": proven: "), "what isn't proven isn't printed"
    assert "the compiled ruleset is wrong, and was refused" in said.err
    assert re.search(r"^  packet:   \w+ at eth\d: protocol ", said.err, re.MULTILINE)
    assert re.search(r"^  expected: ", said.err, re.MULTILINE)
    assert main(["compile", str(STATE)]) == 0, "without the option nothing is compared"
