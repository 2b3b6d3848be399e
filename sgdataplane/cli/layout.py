"""A table that is wider than the terminal, laid out so that it fits: cells of wide columns go on in further lines.

Owns the use of rich, which is imported here alone, and only for such a table (it costs 90 ms). Is given spans, which
are text with the name of a style, and gives back lines of spans. Must not know terminals or colours: nothing in a text
means anything to rich, and what it returns goes through output.py like every other text.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

Span: TypeAlias = tuple[str, str]  # text, and its style's name or ""
Cell: TypeAlias = Sequence[Span]
GAP = 2  # spaces between two columns


def laid_out(head: Sequence[Cell], rows: Iterable[Sequence[Cell]], right: Sequence[bool], space: int) -> Iterator[Cell]:
    """The lines of a table that is at most `space` columns wide. `right`: which columns are aligned to the right."""
    texts = [[_text(cell) for cell in row] for row in (head, *rows)]
    widths = _widths(list(zip(*texts, strict=True)), space - GAP * (len(head) - 1))
    table = Table(box=None, show_edge=False, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
    for is_right, width in zip(right, widths, strict=True):
        table.add_column(justify="right" if is_right else "left", overflow="fold", width=width)
    for row in texts:
        table.add_row(*row)
    console = Console(file=io.StringIO(), width=space, color_system=None, _environ={})
    for line in console.render_lines(table, pad=False):
        yield [(segment.text, _name(segment.style)) for segment in line]


def _widths(columns: Sequence[Sequence[Text]], space: int) -> list[int]:
    """The columns' widths: the widest ones give way, and no word is broken that is shorter than the broken ones."""
    widths = [max(text.cell_len for text in column) for column in columns]
    words = [max(cell_len(word) for text in column for word in text.plain.split(" ")) for column in columns]
    longest = next(most for most in range(max(words), -1, -1) if sum(min(word, most) for word in words) <= space)
    while sum(widths) > space:
        wide = [number for number, width in enumerate(widths) if width > min(words[number], longest)]
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _text(cell: Cell) -> Text:
    text = Text()
    for words, name in cell:
        text.append(words, Style(meta={"name": name}) if name else None)
    return text


def _name(style: Style | None) -> str:
    return "" if style is None else str(style.meta.get("name", ""))
