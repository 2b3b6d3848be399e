"""Every code of a finding has its advice, and its line in DESIGN.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sgdataplane.policy.findings import ADVICE

ROOT = Path(__file__).resolve().parents[3] / "sgdataplane"
MAKERS = ("Finding", "_finding", "note")


def codes_used() -> Iterator[str]:
    """The first argument of whatever makes a finding."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in MAKERS and isinstance(node.args[0].value, str):
                    yield node.args[0].value


def test_every_code_has_its_advice_and_no_advice_is_without_a_code() -> None:
    assert set(codes_used()) == set(ADVICE)


def test_every_code_is_documented() -> None:
    text = (ROOT / "DESIGN.md").read_text(encoding="utf-8").partition("Findings\n")[2]
    assert sorted(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)[: len(ADVICE)]) == sorted(ADVICE)
