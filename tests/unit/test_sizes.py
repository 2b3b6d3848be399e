"""Budgets of size: a file up to 400 lines, a function up to 50. The ten longest of each are printed (pytest -rP).

Docstrings don't count, so that nobody shortens an explanation to save a line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES, FUNCTION_LINES = 400, 50


def sources() -> Iterator[Path]:
    for folder in ("sgdataplane", "tests", "tools"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def docstring_lines(node: ast.AST) -> int:
    """Count the lines of all docstrings in a tree, its own included; an attribute's text below it is one, too."""
    texts = (
        child.value
        for child in ast.walk(node)
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and isinstance(child.value.value, str)
    )
    return sum((text.end_lineno or text.lineno) - text.lineno + 1 for text in texts)


def file_sizes() -> Iterator[tuple[int, str]]:
    for path in sources():
        text = path.read_text(encoding="utf-8")
        yield len(text.splitlines()) - docstring_lines(ast.parse(text)), str(path.relative_to(ROOT))


def function_sizes() -> Iterator[tuple[int, str]]:
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring_lines(node)
                yield lines, f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def over_budget(sizes: Iterator[tuple[int, str]], budget: int) -> list[tuple[int, str]]:
    """Prints the ten longest; returns those over the budget."""
    longest_first = sorted(sizes, reverse=True)
    assert longest_first, "no source was found"
    for lines, name in longest_first[:10]:
        print(f"{lines:5} {name}")
    return [(lines, name) for lines, name in longest_first if lines > budget]


def test_no_file_is_over_its_budget() -> None:
    assert over_budget(file_sizes(), FILE_LINES) == []


def test_no_function_is_over_its_budget() -> None:
    assert over_budget(function_sizes(), FUNCTION_LINES) == []
