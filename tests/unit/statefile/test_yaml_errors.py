"""A text that isn't YAML is refused with its line, a caret at the place, and the likely cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.errors import Problem, StateFileError
from sgdataplane.statefile import load


def refused(folder: Path, text: str, name: str = "state.yaml") -> Problem:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StateFileError) as caught:
        load(path)
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "at", "cure"),
    [
        ("a: {ipv6_cidr_ip: ::/0}\n", "::/0}", "quote it: '::/0'"),
        ("a: {x: 2001:db8::/32, y: ::1}\n", "::1}", "quote it: '::1'"),
        ("a: [::]\n", "::]", "quote it: '::'"),
        ("a: @x\n", "@x", "quote it: '@x'"),
        ("a:\n  b: 1\n c: 2\n", "c: 2", "2 blanks before this line"),
        ("a:\n  - b: 1\n    c: 1\n   d: 2\n", "d: 2", "4 blanks before this line"),
        ("a:\n  - x: 1\n     y: 2\n", ": 2", "4 blanks before this line"),
        ("a:\n\tb: 1\n", "\\tb: 1", "spaces in place of the tab"),
        ("a: b: c\n", ": c", "quotes around a text"),
        ("a: {b: 1 c: 2}\n", ": 2}", "a comma before this"),
        ('a: "x\n', "", "the quote that closes the text"),
    ],
)
def test_the_caret_is_at_the_place_and_the_cure_is_named(tmp_path: Path, text: str, at: str, cure: str) -> None:
    problem = refused(tmp_path, text)
    line, column = problem.excerpt
    assert line[column:] == at
    assert cure in problem.expected
    shown = str(problem).splitlines()
    caret = next(number for number, each in enumerate(shown) if each.strip() == "^")
    assert shown[caret].index("^") == len("  line:     ") + column
    assert shown[caret - 1] == f"  line:     {line}"


def test_cures_hold(tmp_path: Path) -> None:
    """What is told to do, done: the text is YAML then (and refused for its keys)."""
    for text in ("a: {ipv6_cidr_ip: '::/0'}\n", "a:\n  b: 1\n  c: 2\n", "a:\n  - x: 1\n    y: 2\n"):
        assert refused(tmp_path, text).code == "InvalidDocument.UnknownKey"


def test_a_line_of_others_is_made_visible_and_cut(tmp_path: Path) -> None:
    problem = refused(tmp_path, 'a: {x: "\u202e", y: ::/0}\n')
    assert "\u202e" not in str(problem)
    far = refused(tmp_path, "a: [" + "x, " * 5000 + "::/0]\n")
    line, column = far.excerpt
    assert len(line) < 120
    assert line[column:] == "::/0]"
    assert line.startswith("...")


def test_a_line_full_of_blanks_or_dashes_costs_little(tmp_path: Path) -> None:
    for filler in (" ", "- ", ":", "\t", "a: "):
        problem = refused(tmp_path, "a:\n  b: 1\n" + filler * 100_000 + "x: {\n c: ::\n")
        assert len(str(problem)) < 2000


def test_json_shows_its_line_as_well(tmp_path: Path) -> None:
    line, column = refused(tmp_path, '{"a": 1,\n "b" 2}', "state.json").excerpt
    assert line[column:] == "2}"
