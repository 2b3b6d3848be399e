"""Budgets of size: a file up to 400 lines, a function up to 50. The ten longest of each are printed (pytest -rP).

Docstrings don't count, so that nobody shortens an explanation to save a line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES, FUNCTION_LINES = 400, 50


def sources() -> Iterator[Path]:
    for folder in ("sgdataplane", "tests", "tools"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements of a tree, however deep they are, without their expressions, which have none."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        found = getattr(tree, field, ())
        for node in found if isinstance(found, list) else ():
            yield node
            yield from statements(node)


def docstring_lines(tree: ast.AST) -> int:
    """Count the lines of all docstrings in a tree, its own included; an attribute's text below it is one, too."""
    texts = (
        child.value
        for child in statements(tree)
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and isinstance(child.value.value, str)
    )
    return sum((text.end_lineno or text.lineno) - text.lineno + 1 for text in texts)


@cache
def sizes() -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Measure each file, and each function."""
    files, functions = [], []
    for path in sources():
        text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
        tree = ast.parse(text)
        files.append((len(text.splitlines()) - docstring_lines(tree), name))
        for node in statements(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring_lines(node)
                functions.append((lines, f"{name}:{node.lineno} {node.name}"))
    return files, functions


NESTED = '''
class A:
    def a():
        for x in y:
            def b(): """1"""
        else:
            async def c(): pass
    try:
        with x:
            def d(): pass
    except E:
        match x:
            case 1:
                def e(): pass
    else:
        def f(): pass
    finally:
        while x:
            def g(): """1
            2"""
'''


def test_a_statement_is_found_wherever_it_is() -> None:
    tree = ast.parse(NESTED)
    found = [node.name for node in statements(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert sorted(found) == ["a", "b", "c", "d", "e", "f", "g"]
    assert docstring_lines(tree) == 3


def over_budget(measured: list[tuple[int, str]], budget: int) -> list[tuple[int, str]]:
    """Prints the ten longest; returns those over the budget."""
    longest_first = sorted(measured, reverse=True)
    assert longest_first, "no source was found"
    for lines, name in longest_first[:10]:
        print(f"{lines:5} {name}")
    return [(lines, name) for lines, name in longest_first if lines > budget]


def test_no_file_is_over_its_budget() -> None:
    assert over_budget(sizes()[0], FILE_LINES) == []


def test_no_function_is_over_its_budget() -> None:
    assert over_budget(sizes()[1], FUNCTION_LINES) == []
