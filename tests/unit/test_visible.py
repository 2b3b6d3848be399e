"""What others wrote does nothing to a terminal, whatever it is; and nobody but visible.py decides that."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.errors import HostError, KernelError, Problem, Where
from sgdataplane.visible import MAX_MARKS, json_text, visible, visible_block, visible_lines, width

SOURCES = Path(__file__).resolve().parents[2] / "sgdataplane"
# Surrogates are among what hypothesis writes only where it is told so.
ANY = st.text(st.characters(codec=None, exclude_categories=()))
# Everything that a terminal may obey, that turns a line round, or that nobody sees: by category, as Unicode has them.
HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
OWN_WAYS = re.compile(r"isprintable|unicode_escape|backslashreplace|ensure_ascii")


def harm(text: str, allowed: str = "") -> set[str]:
    return {char for char in text if char not in allowed and unicodedata.category(char) in HARMFUL}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("eth0", "eth0"),
        ("Zürich 東京 Ελλάδα שלום", "Zürich 東京 Ελλάδα שלום"),
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("not healthy\rhealthy", "not healthy\\rhealthy"),
        ("a\nb\tc\x08\x7f\0", "a\\nb\\tc\\x08\\x7f\\x00"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("\u202egnp\u202c\u2066x\u2069\u200e\u200f\u061c", "\\u202egnp\\u202c\\u2066x\\u2069\\u200e\\u200f\\u061c"),
        ("a\u200bb\ufeffc\u00add\u2060", "a\\u200bb\\ufeffc\\xadd\\u2060"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\u3164\u115f\ufe0f\u2800\u034f", "\\u3164\\u115f\\ufe0f\\u2800\\u034f"),
        ("\U000e0041\U000e0100\ue000\U0010ffff", "\\U000e0041\\U000e0100\\ue000\\U0010ffff"),
        (b"\xff\x9bx".decode(errors="surrogateescape"), "\\xff\\x9bx"),
        ("\ud800", "\\ud800"),
        ("z" + "\u0301" * (MAX_MARKS + 2), "z" + "\u0301" * MAX_MARKS + "\\u0301" * 2),
    ],
    ids=ascii,
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY)
def test_nothing_harmful_is_left_in_a_line(text: str) -> None:
    assert harm(visible(text)) == set()
    assert visible(visible(text)) == visible(text)


@given(ANY)
def test_a_block_keeps_its_lines_and_tabs(text: str) -> None:
    assert harm(visible_block(text), "\n\t") == set()
    assert visible_block(text).count("\n") == text.count("\n")
    assert visible(visible_block(text)) == visible(text)


@settings(max_examples=25)
@given(st.recursive(ANY | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(ANY, inner)))
def test_json_has_the_same_data_and_nothing_harmful(value: object) -> None:
    for indent in (None, 2):
        text = json_text(value, indent=indent)
        assert harm(text, "\n") == set()
        assert json.loads(text) == value
        assert visible_block(text) == text  # the guard of a stream changes no document
    assert "\n" not in json_text(value)


def test_json_keeps_letters() -> None:
    assert json_text({"ü": "東\x1b\U000e0041"}) == '{"ü": "東\\u001b\\udb40\\udc41"}'


def test_lines_are_as_many_as_they_are() -> None:
    assert visible_lines("a\nb", "c\r") == "a\\nb\nc\\r"


@given(ANY, ANY)
def test_an_error_has_no_lines_but_ours(one: str, other: str) -> None:
    problem = Problem(Where(one, 3, other), "Code", one, other, one)
    assert len(str(problem).split("\n")) <= 4
    for error in (problem, HostError(one, other), KernelError(one, operation=other, origin=one)):
        assert harm(str(error), "\n") == set()
    assert "\n" not in str(HostError(one, other))


@pytest.mark.parametrize(("text", "columns"), [("eth0", 4), ("東京", 4), ("e\u0301", 1), ("Zürich", 6)])
def test_how_wide_a_text_is(text: str, columns: int) -> None:
    assert width(text) == columns


def test_nobody_else_decides_what_is_shown() -> None:
    assert list(own_ways()) == []


def own_ways() -> Iterator[str]:
    for path in sorted(SOURCES.rglob("*.py")):
        if path.name not in ("visible.py", "output.py"):  # the other one spells what a console's alphabet lacks
            for found in OWN_WAYS.finditer(path.read_text(encoding="utf-8")):
                yield f"{path.relative_to(SOURCES)}: {found[0]}"
