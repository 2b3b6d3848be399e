r"""Text that others wrote, made safe to show on a terminal, in a log or in JSON.

Owns which characters are shown as they are, and how all others are spelt. Imports nothing of ours. Must not know where
a text comes from, or where it goes.

Others choose the names of processes, interfaces, rules and instances. A terminal obeys control characters in such
names, and reorders a line that has bidirectional marks. So these are spelt: `\x1b`, `\n`, `\u202e`. So is everything
that nobody can see: other format characters, blanks other than the space, lone surrogates, code points that Unicode has
not assigned. Bytes that aren't UTF-8 arrive as surrogates (`surrogateescape`) and are spelt as the bytes they were.
Letters of all scripts stay, each with up to MAX_MARKS marks.

A spelt text has only plain characters, so making it visible again changes nothing.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache

MAX_MARKS = 8  # on one letter: languages need up to five, and a pile of marks would cover the lines above
_ODD = re.compile(r"[^\x20-\x7e]+")
_ODD_IN_BLOCK = re.compile(r"[^\x20-\x7e\n\t]+")
# Printable by their category, but invisible: Default_Ignorable_Code_Point, and the Braille pattern without dots.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def visible(text: str) -> str:
    """Return the text on one line, with whatever nobody can see or a terminal would obey spelt out."""
    return text if text.isascii() and text.isprintable() else _ODD.sub(_spell_run, text)


def visible_block(text: str) -> str:
    """Return a text of our own with several lines in that form; line breaks and tabs stay."""
    return _ODD_IN_BLOCK.sub(_spell_run, text)


def visible_lines(*lines: str) -> str:
    """Return these texts as lines, each on one line."""
    return "\n".join(map(visible, lines))


def json_text(value: object, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """Return the value as JSON. Letters stay as they are; whatever `visible` would spell is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    return _ODD_IN_BLOCK.sub(_spell_run_in_json, text)


def width(text: str) -> int:
    """Return the number of terminal columns that a visible text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _spell_run(found: re.Match[str]) -> str:
    return "".join([char if is_plain else _spell(char) for char, is_plain in _judge_run(found[0])])


def _spell_run_in_json(found: re.Match[str]) -> str:
    return "".join([char if is_plain else json.dumps(char)[1:-1] for char, is_plain in _judge_run(found[0])])


def _judge_run(run: str) -> list[tuple[str, bool]]:
    """Return each character, and whether it may be shown as it is."""
    found, marks = [], 0
    for char in run:
        marks = marks + 1 if _is_mark(char) else 0
        found.append((char, marks <= MAX_MARKS and _is_plain(char)))
    return found


@lru_cache(maxsize=1 << 12)
def _is_plain(char: str) -> bool:
    return char.isprintable() and not _UNSEEN.match(char)


@lru_cache(maxsize=1 << 12)
def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


def _spell(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
