"""A table that is wider than the terminal, laid out so that it fits: cells of wide columns go on in further lines.

Owns the columns' widths, and the use of rich, which breaks the cells. rich is imported here alone, and only for such a
table (it costs 90 ms). Is given spans, which are text with the name of a style, and gives back lines of spans. Must not
know terminals or colours: nothing in a text means anything to rich, and what it returns goes through output.py like
every other text.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TypeAlias

from rich.console import Console
from rich.style import Style
from rich.text import Text

from sgdataplane.visible import width

Span: TypeAlias = tuple[str, str]  # text, and its style's name or ""
Cell: TypeAlias = tuple[Span, ...]
GAP = "  "  # between two columns


def lay_out(head: Sequence[Cell], rows: Iterable[Sequence[Cell]], right: Sequence[bool], space: int) -> Iterator[Cell]:
    """Yield the lines of a table that is at most `space` columns wide; `right` says which columns are right-aligned."""
    table = [head, *rows]
    widths = _widths(list(zip(*table, strict=True)), space - len(GAP) * (len(head) - 1))
    console = Console(file=io.StringIO(), width=space, color_system=None, _environ={})
    for row in table:
        broken = [_broken(cell, columns, console) for cell, columns in zip(row, widths, strict=True)]
        for parts in zip_longest(*broken, fillvalue=()):
            yield tuple(_pad(parts, widths, right))


def _pad(parts: Sequence[Cell], widths: Sequence[int], right: Sequence[bool]) -> Iterator[Span]:
    for number, (part, columns, to_right) in enumerate(zip(parts, widths, right, strict=True)):
        padding = (" " * (columns - _width(part)), "")
        if number:
            yield GAP, ""
        yield from (padding, *part) if to_right else (*part, padding)


def _widths(columns: Sequence[Sequence[Cell]], space: int) -> list[int]:
    """Return the columns' widths.

    The widest columns give way, and no word is broken that is shorter than the broken ones.
    """
    widths = [max(map(_width, column)) for column in columns]
    words = [max(max(map(width, _plain(cell).split(" "))) for cell in column) for column in columns]
    longest = next(most for most in range(max(words), -1, -1) if sum(min(word, most) for word in words) <= space)
    while sum(widths) > space:
        wide = [number for number, columns_ in enumerate(widths) if columns_ > min(words[number], longest)]
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _plain(cell: Cell) -> str:
    return "".join(text for text, _ in cell)


def _width(cell: Cell) -> int:
    return sum(width(text) for text, _ in cell)


def _broken(cell: Cell, columns: int, console: Console) -> list[Cell]:
    """Return the lines of a cell, none wider than its column."""
    if _width(cell) <= columns:
        return [cell]
    text = Text()
    for words, name in cell:
        text.append(words, Style(meta={"name": name}) if name else None)
    return [_spans(line, console) for line in text.wrap(console, columns, overflow="fold")]


def _spans(line: Text, console: Console) -> Cell:
    """Return the line without the space at its end, which is where it was broken."""
    line.rstrip()
    return tuple((segment.text, _name(segment.style)) for segment in line.render(console))


def _name(style: object) -> str:
    return str(style.meta.get("name", "")) if isinstance(style, Style) else ""
