"""No answer waits for an acknowledgement: wherever the product makes a TCP socket, Nagle's algorithm is off.

asyncio turns it off itself, but only for sockets whose protocol is named: socket() and create_server() leave it 0.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.documents.sources import modules

# Probes and listeners of the lab send one message each; nothing follows that could wait.
PROBES = {"lab.exchange", "lab.listeners", "lab.watch"}


def delaying(tree: ast.AST) -> Iterator[int]:
    """The lines where a TCP socket is made that may delay what it sends."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = [call.lineno for call in ast.walk(function) if isinstance(call, ast.Call) and makes_tcp(call)]
        if lines and "TCP_NODELAY" not in ast.unparse(function):
            yield from lines


def makes_tcp(call: ast.Call) -> bool:
    called = ast.unparse(call.func)
    if called.endswith("create_server"):
        return "sock=" not in ast.unparse(call)
    if called not in ("socket", "socket.socket"):
        return False
    text = ast.unparse(call)
    return "SOCK_STREAM" in text and "AF_UNIX" not in text and "IPPROTO_TCP" not in text


def test_no_socket_delays_what_it_sends() -> None:
    found = {name: [*delaying(tree)] for name, tree in modules().items() if name not in PROBES}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("socket.create_server(('', 0))", True),
        ("loop.create_server(make, sock=listener)", False),
        ("socket.socket(family, socket.SOCK_STREAM)", True),
        ("socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)", True),
        ("socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)", False),
        ("socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)", False),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", False),
    ],
)
def test_what_is_found(text: str, is_found: bool) -> None:
    assert bool([*delaying(ast.parse(f"def f():\n    return {text}"))]) == is_found
