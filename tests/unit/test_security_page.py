"""SECURITY.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "SECURITY.md").read_text("utf-8")


def test_every_threat_names_a_test_that_exists() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)`", row.split("|")[-2])
        assert named, row
        assert [name for name in named if not (TESTS / name).is_file()] == [], row
