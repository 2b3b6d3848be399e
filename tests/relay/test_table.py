"""Many small values by name: the same as a dict says, and little memory."""

from __future__ import annotations

import tracemalloc
from collections import defaultdict
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.relay import table as layout
from sgdataplane.relay.digests import KnownDigests
from sgdataplane.relay.spill import SpilledText, SpillFile
from sgdataplane.relay.table import Lines, LinesLoader
from tests.support.run.spilling import size_of, tiny_texts, uncached

# Names that begin and end like others, and all that lines are made of.
NAMES = st.one_of(
    st.sampled_from(["a", "aa", "a\t", "\ta", "a\n", "\n", "\r", "", "\\", "\\t", "\\n", "\\b", "a\\"]), st.text()
)
VALUES = st.one_of(st.binary(), st.sampled_from([b"\na\tx\n", b"\\n", b"\\b", b"\\\n", b"\n", b"\t", b""]))
ACTIONS = st.lists(st.tuples(NAMES, st.one_of(st.none(), VALUES)), max_size=60)


def check(table: Lines, expected: dict[str, bytes]) -> None:
    assert dict(table.items()) == expected
    assert [*table] == [name for name, _ in table.items()]
    assert len(table) == len(expected)
    for name, value in expected.items():
        assert (table.get(name), name in table) == (value, True)


def apply(expected: dict[str, bytes], changed: Mapping[str, bytes | None]) -> None:
    for name, value in changed.items():
        expected.pop(name, None)
        if value is not None:
            expected[name] = value


@settings(max_examples=200, database=None)
@given(ACTIONS)
def test_a_table_says_what_a_dict_says(actions: list[tuple[str, bytes | None]]) -> None:
    with tiny_texts():
        table, expected = Lines(SpillFile()), dict[str, bytes]()
        for name, value in actions:
            before, said = table.copy(), dict(expected)
            table.change({name: value})
            apply(expected, {name: value})
            check(table, expected)
            assert (table.get(name), name in table) == (expected.get(name), name in expected)
            check(before, said)


@settings(max_examples=200, database=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=60), ACTIONS)
def test_a_table_is_read_in_any_order_and_goes_on(
    entries: list[tuple[str, bytes]], actions: list[tuple[str, bytes | None]]
) -> None:
    """Different values of one name follow each other, and several names change at once."""
    with tiny_texts():
        loader, values = LinesLoader(SpillFile()), defaultdict[str, dict[bytes, None]](dict)
        for name, value in entries:
            loader.add(name, value)
            values[name][value] = None
        table, expected = loader.build(), {name: b"".join(some) for name, some in values.items()}
        check(table, expected)
        for start in range(0, len(actions), 7):
            changed = dict(actions[start : start + 7])
            table.change(changed)
            apply(expected, changed)
            check(table, expected)


def test_a_table_grows() -> None:
    """One text after the other, which takes over what belongs to it."""
    numbers = range(2_000)
    odd = {f"{number}{odd}": f"\t{number}\n\\".encode() for number, odd in zip(numbers, "\t\n\\é" * 500, strict=True)}
    expected = {f"eni-{number}": str(number).encode() for number in numbers} | odd
    with tiny_texts():
        file = SpillFile()
        grown, loader = Lines(file), LinesLoader(file)
        for name, value in expected.items():
            grown.change({name: value})
            loader.add(name, value)
        check(grown, expected)
        check(loader.build(), expected)
        longest = max(map(len, map(file.read, grown._texts)))
        assert longest < 6 * layout.TEXT, "all names would be in one text otherwise"


@pytest.mark.parametrize("part", [0, 1])
def test_one_large_value_makes_no_small_texts(part: int) -> None:
    """They would stay in memory. The value is as large as that of a group with many members."""
    file = SpillFile()
    loader = LinesLoader(file)
    large = next(name for name in map(str, range(100_000)) if hash(name) % layout.PARTS == part)
    loader.add(large, bytes(4 << 20))
    for number in range(20_000):
        loader.add(f"eni-{number:018}", bytes(90))
    texts = loader.build()._texts
    assert sum(isinstance(text, SpilledText) for text in texts) > 0.9 * len(texts)


def test_an_entry_takes_hardly_any_memory() -> None:
    names = [f"eni-{number:018}" for number in range(20_000)]
    with uncached():
        file = SpillFile()
    tracemalloc.start()
    try:
        loader = LinesLoader(file)
        for name in names:
            loader.add(name, bytes(90))
        table = loader.build()
        del loader
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(table) == len(names)
    assert size_of(file) > 110 * len(names), "that is where they are"
    assert size < 8 * len(names)


def test_a_digest_is_known_until_its_object_changes_or_another_takes_its_place() -> None:
    known = KnownDigests(places=8)
    digests = {(f"vpc/{number}", seen): bytes([number] * 16) for number in range(40) for seen in ((), ("sg-1",), True)}
    for (path, seen), digest in digests.items():
        assert known.get(path, seen) is None
        known.put(path, seen, digest)
        assert known.get(path, seen) == digest
    assert 1 <= sum(known.get(*key) is not None for key in digests) <= 8
    assert all(known.get(*key) in (None, digest) for key, digest in digests.items())
    for path, _ in digests:
        known.forget(path)
    assert all(known.get(*key) is None for key in digests)
