"""STATE: a file, a folder, a pipe or standard input, for every verb that takes a state."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.cli.main import build_parser, main
from sgdataplane.errors import StateFileError
from sgdataplane.statefile import source
from sgdataplane.statefile.load import load_owned
from sgdataplane.statefile.memory import Memory
from sgdataplane.statefile.source import STDIN
from tests.unit.cli.test_choices import STATE

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
EVERY_VERB = [
    ["check", "-"],
    ["compile", "-"],
    ["explain", "-", "--eni", "e", "--direction", "egress", "--protocol", "icmp", "--remote", "10.0.0.1"],
    ["diff", "-", "S"],
    ["diff", "S", "-"],
    ["report", "-", "--html", "F"],
    ["lab", "up", "-"],
    ["lab", "apply", "-"],
    ["replay", "C", "--state", "-"],
    ["replay", "C", "--state", "S", "--against", "-"],
    ["apply", "-"],
    ["attach", "--eni", "e", "--netns", "n", "--ifname", "i", "--state", "-"],
    ["import", "-"],
    ["export", "-", "--to", "native"],
]


def paths(arguments: argparse.Namespace) -> Iterator[Path]:
    return (value for value in vars(arguments).values() if isinstance(value, Path))


@pytest.mark.parametrize("verb", EVERY_VERB, ids=" ".join)
def test_every_verb_takes_standard_input_for_a_state(verb: list[str]) -> None:
    assert STDIN in paths(build_parser().parse_args(verb))


def test_a_file_of_that_name_can_still_be_named() -> None:
    assert list(paths(build_parser().parse_args(["check", "./-"]))) == [Path("./-")]


@pytest.mark.parametrize("text", [STATE, "version: 1\nvpcs: 1\n"], ids=["good", "bad"])
def test_standard_input_is_read_as_a_file_is(text: str, tmp_path: Path) -> None:
    path = tmp_path / "state.yaml"
    path.write_text(text, encoding="utf-8")
    found = []
    for place, given in ((path, ""), ("-", text)):
        command = [sys.executable, "-m", "sgdataplane", "check", str(place)]
        done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False, timeout=60)
        found.append((done.returncode, done.stdout, done.stderr.replace(str(path), str(STDIN))))
    assert found[0] == found[1]
    assert found[0][1] or "/vpcs" in found[0][2]


def test_a_named_pipe_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(STATE,))
    writer.start()
    try:
        assert main(["check", str(pipe)]) == 0
    finally:
        writer.join()
    assert "1 security group, 1 rule" in capsys.readouterr().out


def test_what_has_no_end_is_read_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(source, "MAX_FILE_BYTES", 1000)
    endless = tmp_path / "endless.yaml"
    endless.symlink_to("/dev/zero")
    assert main(["check", str(endless)]) == 1
    said = capsys.readouterr().err
    assert "InvalidSource.TooLarge" in said
    assert "1001" in said


def test_a_pipe_in_a_folder_is_no_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(STATE, encoding="utf-8")
    os.mkfifo(tmp_path / "b.yaml")
    assert main(["check", str(tmp_path)]) == 1
    assert "this is a pipe or a device" in capsys.readouterr().err


def test_standard_input_can_be_read_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["diff", "-", "-"])
    assert ended.value.code == 2
    assert "can be read only once" in capsys.readouterr().err


FLOW = ("i-a", "i-b", "tcp/22")


@pytest.mark.parametrize(
    "verb",
    [
        ("check",),
        ("compile", "--stage", "policy"),
        ("explain", *FLOW),
        ("explain", "--eni", "eni-a", "--direction", "ingress", "--port", "tcp/22", "--remote", "10.0.0.9"),
        ("export", "--to", "native"),
    ],
    ids=" ".join,
)
def test_the_environment_may_name_the_state(
    verb: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.yaml"
    path.write_text(STATE, encoding="utf-8")
    name, *words = verb
    assert main([name, str(path), *words]) == 0
    named = capsys.readouterr().out
    monkeypatch.setenv("SGDP_STATE", str(path))
    assert main(list(verb)) == 0
    assert capsys.readouterr().out == named
    monkeypatch.setenv("SGDP_STATE", str(tmp_path / "other.yaml"))
    assert main([name, str(path), *words]) == 0, "what is named wins"
    assert main(list(verb)) != 0
    monkeypatch.delenv("SGDP_STATE")
    with pytest.raises(SystemExit):
        main(list(verb))


def test_the_environment_may_name_the_state_that_another_is_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(STATE, encoding="utf-8")
    new.write_text(STATE.replace("policy: drop, ", ""), encoding="utf-8")
    assert main(["diff", str(old), str(new)]) == 0
    named = capsys.readouterr().out
    assert "opens" in named
    assert main(["diff", str(new)]) == 5
    assert "SGDP_STATE may name the first" in capsys.readouterr().err
    monkeypatch.setenv("SGDP_STATE", str(old))
    assert main(["diff", str(new)]) == 0
    assert capsys.readouterr().out == named
    plan = str(EXAMPLES / "plan.json")
    assert main(["diff", plan]) == 0
    of_plan = capsys.readouterr().out
    monkeypatch.delenv("SGDP_STATE")
    assert main(["diff", plan]) == 0
    assert capsys.readouterr().out == of_plan, "a plan has its own two states"


def test_expectations_are_held_against_the_state_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state.yaml").write_text(STATE, encoding="utf-8")
    rows = tmp_path / "rows.txt"
    rows.write_text(f"{FLOW[0]} -> {FLOW[1]} {FLOW[2]} accept\n", encoding="utf-8")
    monkeypatch.setenv("SGDP_STATE", str(tmp_path / "state.yaml"))
    assert main(["test", str(rows)]) == 0
    assert build_parser().parse_args(["replay", "x.pcap"]).capture == Path("x.pcap")
    assert "1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "has_option"),
    [
        (["check", "aws"], True),
        (["explain", "aws", "web", "db1", "tcp/5432"], True),
        (["diff", "aws", "aws"], True),
        (["suggest", "aws", "--capture", "shop-day.pcap"], False),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_rule_that_is_not_exact_is_refused_with_an_option_that_the_verb_has(
    verb: list[str], has_option: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    assert hasattr(build_parser().parse_args(verb), "inexact") is has_option
    assert main(verb) != 0
    cure = "--inexact widen" if has_option else "what `sgdp import` writes with --inexact widen"
    assert f"expected: {cure}, so that it accepts" in " ".join(capsys.readouterr().err.split())


def test_the_agent_says_so_as_well() -> None:
    with pytest.raises(StateFileError, match="`sgdp import`"):
        load_owned(EXAMPLES / "aws", None, profile="seed", memory=Memory())
