"""SECURITY.md and the comparison of placements name tests that are there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
PAGE = (ROOT / "SECURITY.md").read_text("utf-8")
NAME = re.compile(r"`([\w/]+\.py)`")


def rows_of(text: str) -> list[str]:
    """Of its only table, without the head."""
    return [line for line in text.splitlines() if line.startswith("|")][2:]


def missing(names: Iterable[str], *folders: str) -> list[str]:
    """Those that are no test, in none of these folders."""
    return [name for name in names if not any((TESTS / folder / name).is_file() for folder in folders)]


def test_every_threat_names_a_test_that_exists() -> None:
    rows = rows_of(PAGE)
    assert len(rows) > 20
    for row in rows:
        named = NAME.findall(row.split("|")[-2])
        assert named, row
        assert missing(named, "") == [], row


POINTS = re.split(r"^- ", PAGE.partition("## What stays possible")[2], flags=re.MULTILINE)[1:]


def test_there_are_points() -> None:
    assert len(POINTS) > 10


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.split("\n")[0][:50])
def test_what_stays_possible_names_a_test_or_a_page(point: str) -> None:
    named = NAME.findall(point)
    assert missing(named, "") == []
    assert named or "](docs/" in point


def test_the_comparison_names_tests_that_exist() -> None:
    """Without a folder, they are in `fence`, as the page says."""
    page = (ROOT / "docs/design/hostile.md").read_text("utf-8")
    rows = rows_of(page)
    assert len(rows) > 10
    for row in rows:
        assert missing(NAME.findall(row), "", "fence") == [], row
