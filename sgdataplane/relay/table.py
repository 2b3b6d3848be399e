r"""Many small values by name, in large texts that lie on disk.

Owns their layout. Must not know what they mean.

The entries are lines in texts, chosen by the hash of the name: "\n", name, "\t", value, and "\n" at the end. What a
line can't contain is escaped, so no value can look like another entry. A look-up is a search in one text of some 12 KB,
and a change makes that text anew. A table grows by one text at a time (linear hashing), so that no change takes long.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from sgdataplane.relay.spill import SpillFile, Text

TEXT = 1 << 14  # bytes of a text, on average at most
PARTS, RUN = 256, 12 << 10  # of a new table; bytes of a part that are written at once, into the place of a text
PLAIN = re.compile(r"[\w./:-]+", re.ASCII)  # names that are written as they are
NEWLINE, TAB, ROW, ESCAPE = b"\n", b"\t", b"\r", b"\\"  # `ROW` ends one


class Lines:
    """A mapping of names to bytes. One thread at a time may change it.

    `texts` are the texts of a new table, as many as a power of two: `count` entries of `size` bytes in all.
    """

    __slots__ = ("_count", "_file", "_size", "_texts")

    def __init__(self, file: SpillFile, texts: Iterable[Text] = (NEWLINE,), count: int = 0, size: int = 0) -> None:
        self._file, self._texts = file, [*texts]
        self._count, self._size = count, size

    def copy(self) -> Lines:
        """Return a copy that shares all texts with this one."""
        return Lines(self._file, self._texts, self._count, self._size)

    def get(self, name: str) -> bytes | None:
        """Return the value of a name; None if it isn't there."""
        text, key = self._file.read(self._texts[self._place(name)]), _key(name)
        at = text.find(key)
        return None if at < 0 else _plain(text[at + len(key) : text.index(NEWLINE, at + len(key))])

    def change(self, values: Mapping[str, bytes | None]) -> None:
        """Set the values of names, and remove the names whose value is None. Each text is made anew once."""
        names = defaultdict[int, list[str]](list)
        for name in values:
            names[self._place(name)].append(name)
        for place, some in names.items():
            self._change_text(place, {name: values[name] for name in some})
        while self._size > TEXT * len(self._texts):
            self._split()

    def _change_text(self, place: int, values: Mapping[str, bytes | None]) -> None:
        before = text = self._file.read(self._texts[place])
        for name, value in values.items():
            key = _key(name)
            rest = _cut(text, key)
            self._count += (value is not None) - (rest is not text)
            text = rest if value is None else b"%b%b%b\n" % (rest[:-1], key, _escape(value))
        if text is not before:
            self._texts[place] = self._file.keep(text)
            self._size += len(text) - len(before)

    def _place(self, name: str) -> int:
        """Return the number of the text that a name is in."""
        count = len(self._texts)
        span = 1 << count.bit_length()
        place = hash(name) % span
        return place if place < count else place - span // 2

    def _split(self) -> None:
        """Add a text, which takes over half of the lines of the one whose turn it is."""
        new = len(self._texts)
        span = 1 << new.bit_length()
        place = new - span // 2
        lines: tuple[list[bytes], list[bytes]] = [], []
        for line in _lines(self._file.read(self._texts[place])):
            lines[hash(read_name(line.partition(TAB)[0])) % span == new].append(line)
        self._texts[place], moved = (self._file.keep(_join(some)) for some in lines)
        self._texts.append(moved)

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Yield all entries, in no order that means anything."""
        for text in self._texts:
            for line in _lines(self._file.read(text)):
                name, _, value = line.partition(TAB)
                yield read_name(name), _plain(value)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __contains__(self, name: str) -> bool:
        return self._file.read(self._texts[self._place(name)]).find(_key(name)) >= 0

    def __len__(self) -> int:
        return self._count


class LinesLoader:
    """Makes a table of entries that come in any order, in a few megabytes of memory.

    The lines are written in parts, by the hashes of their names. Then each part is read once, and makes the texts that
    have these names.
    """

    def __init__(self, file: SpillFile) -> None:
        self._file = file
        self._written: list[list[Text]] = [[] for _ in range(PARTS)]
        self._unwritten = [bytearray() for _ in range(PARTS)]
        self._size = 0  # bytes of all lines

    def add(self, name: str, value: bytes) -> None:
        """Add a value to what a name has, unless it has it."""
        part = hash(name) % PARTS
        lines = self._unwritten[part]
        line = b"%b%b\n" % (_key(name)[1:], _escape(value))
        self._size += len(line)
        lines += line
        if len(lines) >= RUN:
            self._written[part].append(self._file.keep(bytes(lines)))
            lines.clear()

    def build(self) -> Lines:
        """Return the table of all that was added. The size of all parts together tells how many texts each makes."""
        count = PARTS << (self._size // PARTS // TEXT).bit_length()
        texts: list[Text] = [NEWLINE] * count
        entries = size = 0
        for values in map(self._take, range(PARTS)):
            lines = defaultdict[int, list[bytes]](list)
            for key, value in values.items():
                lines[hash(read_name(key)) % count].append(b"%b\t%b" % (key, value))
            for place, some in lines.items():
                text = _join(some)
                texts[place] = self._file.keep(text)
                entries, size = entries + len(some), size + len(text)
        return Lines(self._file, texts, entries, size)

    def _take(self, part: int) -> dict[bytes, bytes]:
        """Return the entries of a part, as they are in lines, and forget them here."""
        values = defaultdict[bytes, list[bytes]](list)
        for lines in (*map(self._file.read, self._written[part]), bytes(self._unwritten[part])):
            for line in lines.split(NEWLINE)[:-1]:
                key, _, value = line.partition(TAB)
                values[key].append(value)
        self._written[part] = []
        self._unwritten[part].clear()
        return {key: b"".join(dict.fromkeys(some)) for key, some in values.items()}


def _cut(text: bytes, key: bytes) -> bytes:
    """Return a text without the line of an entry; the text itself if it has none."""
    at = text.find(key)
    return text if at < 0 else text[:at] + text[text.index(NEWLINE, at + len(key)) :]


def _join(lines: list[bytes]) -> bytes:
    return NEWLINE.join((b"", *lines, b"")) if lines else NEWLINE


def _lines(text: bytes) -> list[bytes]:
    return text[1:-1].split(NEWLINE) if len(text) > 1 else []


def _key(name: str) -> bytes:
    """Return how the line of an entry begins, with the end of the line before."""
    return b"\n%b\t" % write_name(name)


def write_name(name: str) -> bytes:
    """Return a name as it is in a line, without tabs and ends of rows."""
    if PLAIN.fullmatch(name):
        return name.encode()
    return _escape(name.encode("utf-8", "surrogatepass")).replace(TAB, b"\\t").replace(ROW, b"\\r")


def read_name(field: bytes) -> str:
    """Return the name that was written so."""
    return _plain(field.replace(b"\\t", TAB).replace(b"\\r", ROW)).decode("utf-8", "surrogatepass")


def _escape(value: bytes) -> bytes:
    if ESCAPE in value:
        value = value.replace(ESCAPE, b"\\b")
    return value.replace(NEWLINE, b"\\n") if NEWLINE in value else value


def _plain(value: bytes) -> bytes:
    return value.replace(b"\\n", NEWLINE).replace(b"\\b", ESCAPE) if ESCAPE in value else value
