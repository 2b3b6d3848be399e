"""What `.github` says of the repository is true: commands and files that it names exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sgdataplane.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
FILE = re.compile(r"(?:\.?[\w-]+/)*[\w.-]*(?:\.sh|\.md|\.toml|\.ci/run)\b")
TARGET = re.compile(r"^([a-z0-9-]+):", re.MULTILINE)


def read(path: Path) -> Any:  # noqa: ANN401  # whatever it holds
    return yaml.safe_load(path.read_text("utf-8"))


def steps(*names: str) -> Iterator[dict[str, Any]]:
    """The steps of all jobs of these workflows; of all of them if none is named."""
    paths = [GITHUB / "workflows" / f"{name}.yml" for name in names] or sorted((GITHUB / "workflows").glob("*.yml"))
    for path in paths:
        for job in read(path)["jobs"].values():
            yield from job["steps"]


def test_the_workflow_runs_what_has_to_pass() -> None:
    assert ".ci/run" in [step.get("run") for step in steps("ci")]


def test_the_workflow_calls_what_is_there() -> None:
    commands = "\n".join(step["run"] for step in steps() if "run" in step)
    targets = TARGET.findall((ROOT / "Makefile").read_text("utf-8"))
    assert set(re.findall(r"\bmake ([a-z-]+)", commands.replace("git make", ""))) <= set(targets)
    named = [name for name in FILE.findall(commands) if not name.startswith("build/")]  # what the steps make
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_each_action_of_others_is_pinned_by_its_commit() -> None:
    """A tag may be moved. The version stands behind it, for people and for dependabot."""
    lines = [line for path in (*(GITHUB / "workflows").glob("*.yml"), ROOT / "action.yml") for line in lines_of(path)]
    assert lines
    assert [line for line in lines if not re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []


def lines_of(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if re.match(r"\s*(- )?uses:", line)]


@pytest.mark.parametrize("path", [*FORMS, GITHUB / "pull_request_template.md"], ids=lambda path: path.name)
def test_files_and_verbs_that_people_are_asked_about_are_there(path: Path) -> None:
    text = path.read_text("utf-8")
    assert [name for name in FILE.findall(text) if not (ROOT / name).is_file()] == []
    verbs = {verb for words in VERBS.values() for verb in words} | {"--version"}
    assert set(re.findall(r"`sgdp (\S+?)[ `]", text)) <= verbs


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_each_form_asks_for_something(path: Path) -> None:
    form = read(path)
    assert form["name"]
    assert form["description"]
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0
    assert any(part.get("validations", {}).get("required") for part in form["body"])


def test_dependabot_looks_at_actions_and_python() -> None:
    updates = read(GITHUB / "dependabot.yml")["updates"]
    assert {entry["package-ecosystem"] for entry in updates} == {"github-actions", "pip"}
