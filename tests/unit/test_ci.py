"""What CONTRIBUTING.md says of CI is what the workflows run, and `make mutants` names files that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = re.compile(r"(?:make (?!setup)[a-z-]+|\.ci/run|python -m tools\.[a-z]+|tests/packages)\b")
OTHERS = {"CodeQL": "codeql-action"}  # in the page -> in a workflow


def paragraph() -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (found,) = [part for part in text.split("\n\n") if "CI runs" in part]
    return found


def test_the_page_for_contributors_says_all_that_ci_runs() -> None:
    workflows = "".join(path.read_text(encoding="utf-8") for path in (ROOT / ".github/workflows").glob("*.yml"))
    steps = "\n".join(line for line in workflows.splitlines() if " run: " in line)
    assert set(RUN.findall(steps)) == set(RUN.findall(paragraph()))
    assert [name for name, action in OTHERS.items() if (name in paragraph()) != (action in workflows)] == []


def test_mutants_are_made_of_files_that_there_are() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    named = [*settings["only_mutate"], *settings["pytest_add_cli_args_test_selection"], *settings["also_copy"]]
    assert [name for name in named if not (ROOT / name).exists()] == []
