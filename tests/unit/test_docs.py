"""What the documents name is there: files that they link to, paths, functions and packages of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.documents.sources import modules
from tests.unit.test_layers import GROUND, MAY_IMPORT

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
DESIGN = ROOT / "sgdataplane" / "DESIGN.md"
DESIGNS = sorted((ROOT / "docs" / "design").glob("*.md"))
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
PAGES = [
    DESIGN,
    *DESIGNS,
    *DECISIONS,
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
    *sorted((ROOT / "docs" / "measurements").glob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "SECURITY", "CONTRIBUTING", "CODE_OF_CONDUCT", "systemd/README")),
    ROOT / "examples" / "README.md",
    TESTS / "README.md",
    *(ROOT / "netns-lab" / name / "README.md" for name in (".", "scenarios", "bench")),
    ROOT / "sgdataplane" / "schemas" / "README.md",
]
MAX_LINES = 150
# Where a path that a document names may begin.
BASES = (
    ".",
    "sgdataplane",
    "sgdataplane/statefile",
    "netns-lab",
    "examples",
    "tests",
    *(f"tests/{p.name}" for p in TESTS.iterdir()),
)
ERROR_CODE = re.compile(r"`(Invalid\w+(?:\.\w+)+)")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\((?!https?:)([^)#]*#[^)]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
PATH = re.compile(r"`((?:[\w.-]+/)*\w+\.py|(?:tests|docs|netns-lab|sgdataplane|systemd|tools)/[\w./-]+)[`:]")
MODULE = re.compile(r"`python -m ([\w.]+)")
IN_THE_CODE = re.compile(r"^\*\*In the code\.\*\* (.*?)\n\n", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"`(\w+)(?:\(\))?`")
CALL = re.compile(r"`(?:[\w.]+\.)?(\w+)\(\)`")


def named(pattern: re.Pattern[str], page: Path) -> Iterator[str]:
    yield from sorted(set(pattern.findall(page.read_text(encoding="utf-8"))))


def is_there(path: str) -> bool:
    return any((ROOT / base / path).exists() for base in BASES)


@cache
def functions() -> frozenset[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for tree in modules().values() for node in ast.walk(tree) if isinstance(node, kinds))


@cache
def texts() -> frozenset[str]:
    """The texts in the code."""
    return frozenset(
        node.value
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert [link for link in named(LINK, page) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_into_a_page_leads_to_a_heading(page: Path) -> None:
    parts = (link.partition("#") for link in named(ANCHOR, page))
    assert [
        (path, anchor) for path, _, anchor in parts if anchor not in anchors(page.parent / path if path else page)
    ] == []


def anchors(page: Path) -> set[str]:
    """Of its headings, as hosts of repositories make them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in named(HEADING, page)}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_path_is_there(page: Path) -> None:
    assert [path for path in named(PATH, page) if not is_there(path)] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_program_is_there(page: Path) -> None:
    modules = (name.replace(".", "/") for name in named(MODULE, page))
    assert [name for name in modules if not (is_there(f"{name}.py") or is_there(f"{name}/__main__.py"))] == []


@pytest.mark.parametrize("page", [DESIGN, *DESIGNS, *DECISIONS], ids=ids)
def test_every_function_is_there(page: Path) -> None:
    kernels = {"poll"}  # not ours
    assert [name for name in named(CALL, page) if name not in functions() | kernels] == []


@pytest.mark.parametrize("page", DESIGNS, ids=ids)
def test_every_part_says_where_it_is_in_the_code(page: Path) -> None:
    found = IN_THE_CODE.search(page.read_text(encoding="utf-8"))
    assert found
    packages = {*MAY_IMPORT, *GROUND, "lab"}
    assert [name for name in NAME.findall(found[1]) if name not in functions() | constants() | packages] == []


@cache
def constants() -> frozenset[str]:
    """Assigned in some module of ours."""
    return frozenset(node.id for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.Name))


@pytest.mark.parametrize("page", [DESIGN, *DESIGNS], ids=ids)
def test_a_page_of_the_design_is_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_every_part_is_in_the_map_and_every_package_among_the_layers() -> None:
    text = DESIGN.read_text(encoding="utf-8")
    assert [page.name for page in DESIGNS if f"(../docs/design/{page.name})" not in text] == []
    layers = text.partition("## Layers")[2].partition("\n## ")[0]
    packages = {*GROUND, *MAY_IMPORT, "lab"} - {"__main__", "__init__", "config"}
    assert sorted(name for name in packages if f"`{name}`" not in layers) == []


@pytest.mark.parametrize("page", DECISIONS, ids=ids)
def test_every_decision_says_when_and_what(page: Path) -> None:
    if page.name != "README.md":
        text = page.read_text(encoding="utf-8")
        assert re.search(r"^\d{4}-\d\d-\d\d", text.splitlines()[2]), page.name
        assert "\n## Chosen\n" in text
