"""The product's own source, parsed: what tests that judge the code read.

Owns that each process parses it once. Must not know what is judged.
"""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path

PRODUCT = Path(__file__).resolve().parents[3] / "sgdataplane"


@cache
def module_paths() -> dict[str, Path]:
    """Each module, by its name without "sgdataplane."."""
    names = {path: ".".join(path.relative_to(PRODUCT).with_suffix("").parts) for path in sorted(PRODUCT.rglob("*.py"))}
    return {name.removesuffix(".__init__") or name: path for path, name in names.items()}


@cache
def module_tree(name: str) -> ast.Module:
    return ast.parse(module_paths()[name].read_text(encoding="utf-8"))


def modules() -> dict[str, ast.Module]:
    """The syntax tree of every module, by its name without "sgdataplane."."""
    return dict(_every_tree())


@cache
def _every_tree() -> dict[str, ast.Module]:
    """Parse all modules without collections, which would take longer, and keep the trees out of later ones."""
    gc.disable()
    try:
        return {name: module_tree(name) for name in module_paths()}
    finally:
        gc.freeze()
        gc.enable()
