r"""Many small values by name, in little more memory than their bytes.

Owns their layout in memory. Must not know what they mean.

A dict takes some 250 bytes for a name and a value of 30 bytes each; this takes 65. The entries are lines in a few
texts, chosen by the hash of the name: "\n", name, "\t", value, and "\n" at the end. What a line can't contain is
escaped, so no value can look like another entry. A look-up is a search in one text of some 32 lines (1 us), and a
change makes that text anew (2 us).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

LINES = 32  # of a text
WORTH_PACKING, LEVEL = 200, 1  # bytes; of zlib
PLAIN = re.compile(r"[\w./:-]+", re.ASCII)  # names that are written as they are
NEWLINE, TAB, ESCAPE = b"\n", b"\t", b"\\"


class Lines:
    """A mapping of names to bytes. One thread at a time may change it.

    `expected` is how many entries will come.
    """

    __slots__ = ("_count", "_texts")

    def __init__(self, expected: int = 0) -> None:
        self._texts: list[bytes] = [NEWLINE] * max(1, expected // LINES)
        self._count = 0

    def copy(self) -> Lines:
        """Return a copy that shares all texts with this one."""
        made = Lines()
        made._texts, made._count = self._texts.copy(), self._count
        return made

    def get(self, name: str) -> bytes | None:
        """Return the value of a name; None if it isn't there."""
        text = self._texts[hash(name) % len(self._texts)]
        key = _key(name)
        at = text.find(key)
        return None if at < 0 else _plain(text[at + len(key) : text.index(NEWLINE, at + len(key))])

    def put(self, name: str, value: bytes) -> None:
        """Set the value of a name."""
        if self._count >= 2 * LINES * len(self._texts):
            self._spread()
        place, key = hash(name) % len(self._texts), _key(name)
        text = self._texts[place]
        at = text.find(key)
        if at >= 0:
            text = text[:at] + text[text.index(NEWLINE, at + len(key)) :]
            self._count -= 1
        self._texts[place] = b"%b%b%b\n" % (text[:-1], key, _escape(value))
        self._count += 1

    def pop(self, name: str) -> bytes | None:
        """Remove a name, and return its value; None if it isn't there."""
        place, key = hash(name) % len(self._texts), _key(name)
        text = self._texts[place]
        at = text.find(key)
        if at < 0:
            return None
        end = text.index(NEWLINE, at + len(key))
        self._texts[place] = text[:at] + text[end:]
        self._count -= 1
        return _plain(text[at + len(key) : end])

    def _spread(self) -> None:
        """Double the number of texts.

        Some lines of each text stay; the others move on by the former number of texts.
        """
        count, further = len(self._texts), []
        for place, text in enumerate(self._texts):
            lines: tuple[list[bytes], list[bytes]] = [], []
            for line in _lines(text):
                lines[hash(_name(line.partition(TAB)[0])) % (2 * count) != place].append(line)
            self._texts[place], gone = (NEWLINE.join((b"", *some, b"")) if some else NEWLINE for some in lines)
            further.append(gone)
        self._texts += further

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Yield all entries, in no order that means anything."""
        for text in self._texts:
            for line in _lines(text):
                name, _, value = line.partition(TAB)
                yield _name(name), _plain(value)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __contains__(self, name: str) -> bool:
        return self._texts[hash(name) % len(self._texts)].find(_key(name)) >= 0

    def __len__(self) -> int:
        return self._count


def _lines(text: bytes) -> list[bytes]:
    return text[1:-1].split(NEWLINE) if len(text) > 1 else []


def _key(name: str) -> bytes:
    """Return how the line of an entry begins, with the end of the line before."""
    if PLAIN.fullmatch(name):
        return f"\n{name}\t".encode()
    return b"\n%b\t" % _escape(name.encode("utf-8", "surrogatepass")).replace(TAB, b"\\t")


def _name(line: bytes) -> str:
    return _plain(line.replace(b"\\t", TAB)).decode("utf-8", "surrogatepass")


def _escape(value: bytes) -> bytes:
    if ESCAPE in value:
        value = value.replace(ESCAPE, b"\\b")
    return value.replace(NEWLINE, b"\\n") if NEWLINE in value else value


def _plain(value: bytes) -> bytes:
    return value.replace(b"\\n", NEWLINE).replace(b"\\b", ESCAPE) if ESCAPE in value else value


# names that belong to one name, as one value


class Packed(bytes):
    """A list of names that is compressed."""

    __slots__ = ()


def pack_names(names: bytes) -> bytes:
    """Return a list of names in a smaller form. Later changes to it aren't compressed again."""
    return names if isinstance(names, Packed) or len(names) < WORTH_PACKING else Packed(zlib.compress(names, LEVEL))


def add_name(names: bytes, name: str) -> bytes:
    """Return a list of names with one more. The name must not be among them."""
    return _unpack_names(names) + _key(name)[1:]


def without(names: bytes, name: str) -> bytes:
    """Return a list of names without one of them.

    Raises:
        ValueError: The name isn't among them.
    """
    names, key = _unpack_names(names), _key(name)[1:]
    at = (TAB + names).index(TAB + key)
    return names[:at] + names[at + len(key) :]


def list_names(names: bytes) -> list[str]:
    """Return the names of a list."""
    names = _unpack_names(names)
    if ESCAPE in names:
        return [_name(one) for one in names.split(TAB)[:-1]]
    return names.decode("utf-8", "surrogatepass").split("\t")[:-1]


def _unpack_names(names: bytes) -> bytes:
    return zlib.decompress(names) if isinstance(names, Packed) else names
