"""What a person can do about a text that isn't YAML: the line, where in it the parser gave up, and the likely cure.

Owns these guesses. Is given a text and the parser's words. Must not know what a state is. Anybody may have written the
text: it is examined line by line, and what is shown of it is made visible and cut.
"""

from __future__ import annotations

import re

from sgdataplane.visible import visible, width

MAX_SHOWN = 100  # characters of a line
MAX_LOOKED_AT = 2_000  # characters of a line, for a guess
LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
INDENT = re.compile(r"[ \t]*")
# The beginnings of values that must be quoted.
ODD_VALUE = re.compile(r"(?:::|[@`%&*!|>])[^\s,\]}]*|::")
KEY = re.compile(r"^(?P<indent> *)(?P<dashes>(?:- +)*)[^\s#:][^:]*:(?: |$)")
IN_FLOW = "expected ',' or"


def yaml_lines(text: str) -> list[str]:
    """Return the lines of a text, as YAML counts them; an empty last one doesn't count."""
    lines = LINE_BREAK.split(text)
    return lines[:-1] if lines[-1] == "" else lines


def excerpt_of(lines: list[str], line: int, column: int) -> tuple[str, int]:
    """Return one line as it is shown, and the column of the caret below it; all are counted from 0."""
    if line >= len(lines):
        return ("", 0) if not lines else excerpt_of(lines, len(lines) - 1, len(lines[-1]))
    found, start = lines[line], max(0, column - MAX_SHOWN // 2)
    before, after = visible(found[start:column]), visible(found[column : start + MAX_SHOWN])
    lead = "..." if start else ""
    return f"{lead}{before}{after}", len(lead) + width(before)


def cure_of(problem: str, lines: list[str], line: int, column: int) -> str:
    """Return what to do about a fault, as far as it can be guessed; "" if it can't."""
    here = lines[line][:MAX_LOOKED_AT] if line < len(lines) else ""
    indent = INDENT.match(here)
    if indent is not None and "\t" in indent[0]:
        return "spaces in place of the tab: YAML takes no tabs before a key"
    odd = ODD_VALUE.match(here[column:])
    if odd is not None:
        return f"quote it: '{visible(odd[0])}'"
    if "mapping values are not allowed" in problem:
        if ": " in here[:column].strip().removeprefix("- "):
            return "quotes around a text that has a colon and a blank in it"
        return guess_indent(lines, line)
    if "did not find expected key" in problem or "'-' indicator" in problem:
        return guess_indent(lines, line)
    if IN_FLOW in problem:
        return "a comma before this, or the bracket that closes the list; quotes around a text with a colon and a blank"
    if "end of stream" in problem:
        return "the quote that closes the text"
    return ""


def guess_indent(lines: list[str], line: int) -> str:
    """Return where the line should begin: the column of a key above it that is nearest to its own."""
    own = len(INDENT.match(lines[line])[0]) if line < len(lines) else 0  # type: ignore[index]  # it matches anything
    above = [column for before in lines[max(0, line - 50) : line] for column in columns_of(before)]
    if not above:
        return ""
    best = min(above[::-1], key=lambda column: abs(column - own))
    return f"{best} blanks before this line, as before the keys beside it" if best != own else ""


def columns_of(line: str) -> tuple[int, ...]:
    """Return the columns at which a line has a key or a dash that others may stand below."""
    found = KEY.match(line[:MAX_LOOKED_AT])
    if found is None:
        return ()
    indent, dashes = len(found["indent"]), len(found["dashes"])
    return (indent, indent + dashes) if dashes else (indent,)
