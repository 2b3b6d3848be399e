"""No refusal is without a test: every code that the package can give is expected somewhere in this folder."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parents[2] / "sgdataplane" / "statefile"
CODE = re.compile(r"(Invalid|MissingParameter|NotSupported|LimitExceed)\w*\.\w+|Invalid\w+|\w+LimitExceed(ed)?(\.\w+)?")
# What the braces in a code's f-string stand for.
SIDES = ("Source", "Dest")
PLAIN_SUFFIXES = ("EmptyFolder", "NotAFile", "NotFound", "NotReadable", "Owner", "TooLarge", "Unreadable", "Writable")


def codes_in(path: Path) -> Iterator[str]:
    """Every string of a module that is a code, and every code that an f-string may become."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            texts = [node.value]
        elif isinstance(node, ast.JoinedStr):
            texts = list(expanded(node))
        else:
            continue
        yield from (text for text in texts if CODE.fullmatch(text))


def expanded(node: ast.JoinedStr) -> Iterator[str]:
    parts = [[part.value] if isinstance(part, ast.Constant) else values_of(ast.unparse(part)) for part in node.values]
    return ("".join(map(str, choice)) for choice in product(*parts))


def values_of(expression: str) -> tuple[str, ...]:
    if "side" in expression.lower():
        return SIDES
    return PLAIN_SUFFIXES if "code" in expression else ()


def test_every_code_that_the_package_gives_is_expected_by_a_test() -> None:
    given = {code for path in PACKAGE.glob("*.py") for code in codes_in(path)}
    tests = "\n".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))
    assert len(given) > 70
    assert sorted(code for code in given if f'"{code}"' not in tests) == []
