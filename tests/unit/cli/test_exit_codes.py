"""Every verb's exit code if its input can't be used: 5; only `check` says 1, the answer "no"."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.lab import record

FLOW = ("--eni", "eni-a", "--direction", "ingress", "--protocol", "tcp", "--port", "22", "--remote", "192.0.2.1")
# BAD: a file that isn't there, or holds what is no state, no configuration and no record of bindings. Nothing is asked
# of the kernel before these are read.
VERBS = (
    ("check", "BAD"),
    ("check", "BAD", "--json"),
    ("import", "BAD"),
    ("export", "BAD", "--to", "native"),
    ("compile", "BAD"),
    ("explain", "BAD", *FLOW),
    ("diff", "BAD", "BAD"),
    ("report", "BAD", "--html", "/dev/null"),
    ("lab", "up", "BAD", "--name", "nolab"),
    ("replay", "BAD", "--state", "BAD"),
    ("apply", "BAD"),
    ("attach", "--eni", "eni-a", "--pid", "1", "--ifname", "eth0", "--state", "BAD"),
    ("agent", "--once", "--config", "BAD"),
    ("status", "--config", "BAD"),
    ("counters", "--config", "BAD"),
)
LABS = (
    ("lab", "apply", "STATE"),
    ("lab", "status"),
    ("lab", "exec", "i-a", "--", "true"),
    ("lab", "probe", "--from", "i-a", "--to", "i-b", "--protocol", "icmp"),
    ("lab", "matrix"),
    ("sessions",),
    ("log",),
    ("trace", "--eni", "eni-a"),
)


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Root is asked for first; none of this gets as far as needing it. The folder of labs is one that we can read."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(record, "LABS_DIR", tmp_path / "labs")


@pytest.mark.parametrize("kind", ["missing", "refused"])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: " ".join(verb[:2]))
def test_input_that_cannot_be_used(
    verb: tuple[str, ...], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "input"
    if kind == "refused":
        bad.write_text("nonsense: [1]\n", encoding="utf-8")
    code = main([str(bad) if word == "BAD" else word for word in verb])
    out, err = capsys.readouterr()
    assert code == (1 if verb[0] == "check" else 5), out + err
    assert str(bad) in out + err
    assert "Traceback" not in err


@pytest.mark.parametrize("verb", LABS, ids=lambda verb: " ".join(verb[:2]))
def test_a_lab_that_is_not_there(verb: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state.yaml"
    state.write_text("version: 1\n", encoding="utf-8")
    at = 2 if verb[0] == "lab" else 1  # before what `exec` takes for its command
    words = [str(state) if word == "STATE" else word for word in verb]
    code = main([*words[:at], "--name", "nosuchlab", *words[at:]])
    assert code == 5
    assert "no lab of that name is running" in capsys.readouterr().err


@pytest.mark.kernel  # needs root: the folder has to belong to it
@pytest.mark.parametrize("verb", ["detach", "clear", "apply"])
def test_a_record_of_bindings_that_is_none(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bindings").mkdir()
    (tmp_path / "bindings" / "bindings.json").write_text("nonsense", encoding="utf-8")
    state = tmp_path / "state.yaml"
    state.write_text("version: 1\n", encoding="utf-8")
    arguments = {"detach": ["--eni", "eni-a"], "clear": [], "apply": [str(state)]}[verb]
    assert main([verb, *arguments, "--bindings", str(tmp_path / "bindings")]) == 5
    assert "InvalidBindings.Malformed" in capsys.readouterr().err
