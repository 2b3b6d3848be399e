"""Whatever the product prints goes through terminal/output.py, and whatever the agent logs through daemon/logs.py."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.documents.sources import modules

PRINTER = "terminal.output"
STREAMS = ("stdout", "stderr", "__stdout__", "__stderr__")
HARMLESS = ("flush", "fileno", "isatty")
HANDLERS = {"StreamHandler": "daemon.logs", "basicConfig": "", "print_exception": "cli.main"}  # who may have it


def breaches(module: str, tree: ast.AST) -> Iterator[str]:
    """What prints elsewhere. Streams may be flushed, and asked for their number, and no more."""
    if module == PRINTER:
        return
    harmless = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in HARMLESS}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                yield f"{module} prints"
            case ast.Attribute(value=ast.Name(id="sys"), attr=stream) if stream in STREAMS and id(node) not in harmless:
                yield f"{module} has sys.{stream}"
            case ast.ImportFrom(module="sys", names=names) if any(alias.name in STREAMS for alias in names):
                yield f"{module} imports a stream"
            case ast.Attribute(attr=handler) if module != HANDLERS.get(handler, module):
                yield f"{module} has {handler}"


def test_nobody_else_prints() -> None:
    assert sorted({breach for module, tree in modules().items() for breach in breaches(module, tree)}) == []


@pytest.mark.parametrize(
    "text",
    [
        "print('x')",
        "import sys\nsys.stdout.write('x')",
        "import sys\nsys.stderr.buffer.write(b'x')",
        "import sys\nf(sys.__stdout__)",
        "from sys import stdout",
        "import logging\nlogging.StreamHandler()",
        "import traceback\ntraceback.print_exception(e)",
    ],
)
def test_a_breach_is_found(text: str) -> None:
    assert list(breaches("cli.state", ast.parse(text)))


def test_streams_may_be_flushed() -> None:
    assert list(breaches("cli.state", ast.parse("import sys\nsys.stdout.flush()\nsys.stdout.fileno()"))) == []
