"""What Python 3.11 can't do, and newer ones can. `make test-debian12` runs everything there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("sgdataplane", "netns-lab", "tests", "tools")


def trees(*words: str) -> Iterator[tuple[Path, ast.Module]]:
    """Parse the files that have one of these words. To parse all of them takes seconds."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text("utf-8")
            if any(word in text for word in words):
                yield path, ast.parse(text)


def is_generic(found: ast.ClassDef) -> bool:
    return any(ast.unparse(base).startswith(("Generic[", "Protocol[")) for base in found.bases)


def is_frozen_with_slots(found: ast.ClassDef) -> bool:
    return any({"frozen=True", "slots=True"} <= set(options(mark)) for mark in found.decorator_list)


def options(mark: ast.expr) -> list[str]:
    """The options that a decorator is called with, as text."""
    return [f"{word.arg}={ast.unparse(word.value)}" for word in mark.keywords] if isinstance(mark, ast.Call) else []


def test_no_frozen_generic_class_with_slots_is_called_with_types() -> None:
    """`Kind[int](...)` notes its types at the new object, which such a class of 3.11 refuses with a TypeError. If the
    types stand at the name, `kind: Kind[int] = Kind(...)`, nothing is noted."""
    generic = trees("Generic[", "Protocol[")
    classes = [node for _, tree in generic for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    names = {found.name for found in classes if is_generic(found) and is_frozen_with_slots(found)}
    assert "TypedKind" in names
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in trees(*(f"{name}[" for name in names))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript)
        if ast.unparse(node.func.value) in names
    ]
    assert calls == []
