"""Every page that code names is in the repository, with the section that is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "docs" / "spec"
# Where a page may lie that is named without a folder.
FOLDERS = (ROOT, SPEC, ROOT / "docs", ROOT / "docs" / "design", ROOT / "docs" / "reference")
PAGE = re.compile(r"(?<![\w./\"-])([\w-]+)\.md(?:,? sections? ([0-9A-Z]+(?:(?:, | and )[0-9A-Z]+)*))?")
HEADING = re.compile(r"^#+ ([0-9A-Z]+)\. ", re.MULTILINE)
MADE = {"scale", "results"}  # that programs write


def named(path: Path) -> Iterator[tuple[str, str]]:
    """The pages that a module's docstrings and comments name, each with the sections, as words."""
    for page, sections in PAGE.findall(path.read_text("utf-8")):
        if page not in MADE:
            yield page, sections


@cache
def sections_of(page: str) -> frozenset[str]:
    return frozenset(HEADING.findall((SPEC / f"{page}.md").read_text("utf-8")))


MODULES = sorted((ROOT / "sgdataplane").rglob("*.py"))


def faults(path: Path) -> list[str]:
    """What is wrong with the pages that a module names."""
    found = []
    for page, words in named(path):
        if not any((folder / f"{page}.md").is_file() for folder in FOLDERS):
            found.append(f"{page}.md isn't there")
        asked = re.findall("[0-9A-Z]+", words)
        found += [f"{page}.md has no section {one}" for one in asked if one not in sections_of(page)]
    return found


def test_pages_and_sections_that_modules_name_are_there() -> None:
    assert {str(path.relative_to(ROOT)): some for path in MODULES if (some := faults(path))} == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("See nowhere.md.", "nowhere.md isn't there"),
        ("(semantics.md, section 9)", "semantics.md has no section 9"),
        ("(state-format.md, sections A and E)", "state-format.md has no section E"),
    ],
)
def test_what_is_not_there_is_noticed(tmp_path: Path, text: str, fault: str) -> None:
    module = tmp_path / "module.py"
    module.write_text(f'"""Do something. {text}"""\n')
    assert faults(module) == [fault]


def test_modules_name_the_specification() -> None:
    """So that the first test doesn't pass because it finds nothing."""
    every = [entry for path in MODULES for entry in named(path)]
    assert sum(page == "semantics" and bool(sections) for page, sections in every) > 10
