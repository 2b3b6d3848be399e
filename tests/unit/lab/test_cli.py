from __future__ import annotations

import os

import pytest

from sgdataplane.cli.main import main


@pytest.mark.parametrize(
    "verb",
    [
        ("up", "state.yaml"),
        ("apply", "state.yaml"),
        ("status",),
        ("exec", "web", "--", "true"),
        ("probe", "--from", "a", "--to", "b", "--protocol", "icmp"),
        ("matrix",),
        ("probe", "a", "b", "icmp"),
        ("down",),
        ("down", "demo"),
        ("status", "demo"),
    ],
)
def test_verb_without_root_is_exit_4_and_says_what_to_run(
    verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["sgdp", "lab", *verb])
    assert main(["lab", *verb]) == 4
    assert f"run: sudo sgdp lab {' '.join(verb)}" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["down", "status"])
def test_a_lab_that_is_named_twice_is_named_the_same(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["lab", verb, "demo", "--name", "demo"]) == 4
    with pytest.raises(SystemExit) as ended:
        main(["lab", verb, "demo", "--name", "other"])
    assert ended.value.code == 2
    assert "--name other: NAME says demo; leave one out" in capsys.readouterr().err
