"""Every code of a finding has its kind, and the severities that it is said to have."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from sgdataplane.policy.findings import KINDS, Severity
from tests.support.documents.sources import modules

MAKERS = ("Finding", "_make_finding", "note")


def makers() -> Iterator[tuple[str, set[Severity]]]:
    """The code that makes a finding, and the severities beside it; if there are none, those of the whole function."""
    for tree in modules().values():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for code, severity in calls(function):
                    yield code, set(severities(severity)) or set(severities(function))


def calls(function: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    """The first two arguments of each call of MAKERS whose first one is text."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in MAKERS and isinstance(node.args[0].value, str):
                yield node.args[0].value, node.args[1]


def severities(tree: ast.AST) -> Iterator[Severity]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in Severity.__members__:
            yield Severity[node.attr]


def test_every_code_has_its_kind_with_its_severities_and_no_kind_is_without_a_code() -> None:
    used: dict[str, set[Severity]] = defaultdict(set)
    for code, found in makers():
        used[code] |= found
    assert used == {code: set(kind.severities) for code, kind in KINDS.items()}
