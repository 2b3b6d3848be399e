"""What tests share stands in floors: imports go down only, and the first page of each package lists its modules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[2] / "support"
MODULES = {path: path.relative_to(SUPPORT).parts for path in sorted(SUPPORT.glob("*/*.py"))}
NAME = re.compile(r"\btests\.support\.(\w+)")


def first_page(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""


FLOORS = re.findall(r"^    (\w+)  ", first_page(SUPPORT), re.MULTILINE)  # the highest one first


def upward(package: str, text: str) -> list[str]:
    """The packages above this one that a module imports, or starts by name."""
    return sorted({name for name in NAME.findall(text) if FLOORS.index(name) < FLOORS.index(package)})


def test_the_index_lists_each_package_and_all_modules_are_in_one() -> None:
    assert sorted(FLOORS) == sorted({package for package, _ in MODULES.values()})
    assert [path.name for path in SUPPORT.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(MODULES[path]))
def test_imports_go_down(path: Path) -> None:
    assert upward(MODULES[path][0], path.read_text("utf-8")) == []


def test_an_import_that_goes_up_is_found() -> None:
    assert upward("probes", "from tests.support.scenes.pair import Pair\n") == ["scenes"]
    assert upward("probes", 'command = ["-m", "tests.support.events.applier"]\n') == ["events"]
    assert upward("scenes", "from tests.support.probes.flood import Flood\n") == []


@pytest.mark.parametrize("package", FLOORS)
def test_the_first_page_lists_each_module(package: str) -> None:
    named = set(re.findall(r"\w+", first_page(SUPPORT / package)))
    assert sorted({Path(name).stem for folder, name in MODULES.values() if folder == package} - named) == ["__init__"]
