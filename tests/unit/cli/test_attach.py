"""`sgdp attach`, `detach`, `apply`, `clear`: which arguments are refused, and that root is needed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sgdataplane.attach.registry import Registry
from sgdataplane.cli import policies
from sgdataplane.cli.attach import _next_step
from sgdataplane.cli.main import main
from sgdataplane.daemon.config import Config

WHO = ("--eni", "eni-a", "--ifname", "eth0")


UNDOING = [("policies",), ("rollback", "1"), ("resume",)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("attach", *WHO), "one of the arguments --netns --pid --container is required"),
        (("attach", *WHO, "--pid", "1", "--container", "web"), "not allowed with argument --pid"),
        (("attach", *WHO, "--pid", "0"), "'0' is not a process id"),
        (("attach", *WHO, "--pid", "self"), "'self' is not a process id"),
        (("attach", "--eni", "eni-a", "--pid", "1"), "--ifname"),
        (("attach", *WHO, "--pid", "1", "--set-mac"), "--set-mac needs --state"),
        (("detach",), "--eni"),
        (("apply",), "STATE"),
        (("apply", "state.yaml", "--uplink", "up0"), "--uplink needs --placement host"),
        (("apply", "state.yaml", "--placement", "cloud"), "invalid choice: 'cloud'"),
        (("apply", "state.yaml", "--dry-run", "--diff"), "not allowed with argument --dry-run"),
        (("apply", "state.yaml", "--json", "--confirm", "60s"), "--json prints what apply did"),
        (("apply", "state.yaml", "--confirm", "soon"), "'soon' is not a number and s, m, h, d or w"),
        (("apply", "state.yaml", "--confirm", "2d"), "'2d' is more than 1d"),
        (("rollback",), "N"),
        (("rollback", "0"), "'0' is not a number from 1 up"),
        (("rollback", "1", "--for", "31d"), "'31d' is more than 30d"),
        (("policies", "-o", "old.yaml"), "-o needs N"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_arguments_that_cannot_be_are_usage_errors(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_without_an_agent_a_rollback_says_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(policies, "require_root", lambda _: None)
    config = tmp_path / "agent.toml"
    config.write_text(f'socket = "{tmp_path}/none.sock"\n', "utf-8")
    assert main(["rollback", "3", "--config", str(config)]) == 3
    assert "run `sgdp policies 3 -o FILE`, then `sgdp apply FILE`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [("attach", *WHO, "--pid", "1"), ("detach", "--eni", "eni-a"), ("apply", "state.yaml"), ("clear",), *UNDOING],
    ids=lambda value: value[0],
)
def test_who_is_not_root_is_told(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(arguments) == 4
    assert "run: sudo sgdp" in capsys.readouterr().err


@pytest.mark.kernel  # needs root: the folder has to belong to it
def test_that_nothing_is_attached_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    state = tmp_path / "state.yaml"
    state.write_text("version: 1\nvpcs: []\n")
    folder = ("--bindings", str(tmp_path / "attached"))
    assert main(["apply", str(state), *folder]) == 0
    assert f"no ENI is attached (in {tmp_path / 'attached' / 'bindings.json'})" in capsys.readouterr().out
    assert main(["clear", *folder]) == 0
    assert "nothing was attached here" in capsys.readouterr().out
    assert main(["detach", "--eni", "eni-a", *folder]) == 5
    assert "no ENI is attached here" in capsys.readouterr().err


def test_what_comes_next_depends_on_whether_an_agent_runs(tmp_path: Path) -> None:
    folder = tmp_path / "attached"
    config, registry = Config(socket=tmp_path / "agent.sock", bindings=folder), Registry(folder)
    apply = "Not enforced yet. Run `sgdp apply STATE`, or start the agent."
    with socket.socket(socket.AF_UNIX) as listener:
        assert _next_step(registry, config) == apply
        listener.bind(str(config.socket))
        listener.listen()
        assert _next_step(registry, config) == "The agent puts its policy in force now; `sgdp status` shows it."
        assert _next_step(Registry(tmp_path / "other"), config) == apply
    assert config.socket.exists()
    assert _next_step(registry, config) == apply, "an agent that was killed has left its socket"
