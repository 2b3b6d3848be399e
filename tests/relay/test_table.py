"""Many small values by name: the same as a dict says, and little memory."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.relay.digests import KnownDigests
from sgdataplane.relay.table import LINES, WORTH_PACKING, Lines, Packed, add_name, list_names, pack_names, without

# Names that begin and end like others, and all that lines are made of.
NAMES = st.one_of(
    st.sampled_from(["a", "aa", "a\t", "\ta", "a\n", "\n", "", "\\", "\\t", "\\n", "\\b", "a\\"]), st.text()
)
VALUES = st.one_of(st.binary(), st.sampled_from([b"\na\tx\n", b"\\n", b"\\b", b"\\\n", b"\n", b"\t", b""]))
ACTIONS = st.lists(st.tuples(NAMES, st.one_of(st.none(), VALUES)), max_size=60)


@settings(max_examples=200, database=None)
@given(ACTIONS)
def test_a_table_says_what_a_dict_says(actions: list[tuple[str, bytes | None]]) -> None:
    table, expected = Lines(), dict[str, bytes]()
    for name, value in actions:
        before, said = table.copy(), dict(expected)
        if value is None:
            assert table.pop(name) == expected.pop(name, None)
        else:
            table.put(name, value)
            expected[name] = value
        assert dict(table.items()) == expected
        assert dict(before.items()) == said, "a copy stays as it is"
        assert (len(table), table.get(name), name in table) == (len(expected), expected.get(name), name in expected)


def test_a_table_grows() -> None:
    numbers = range(20 * LINES)
    odd = {
        f"{number}{odd}": f"\t{number}\n\\".encode() for number, odd in zip(numbers, "\t\n\\é" * LINES, strict=False)
    }
    table, expected = Lines(), {f"eni-{number}": str(number).encode() for number in numbers} | odd
    for name, value in expected.items():
        table.put(name, value)
    assert dict(table.items()) == expected
    assert {*table} == expected.keys()
    assert all(table.get(name) == value for name, value in expected.items())


@settings(max_examples=200, database=None)
@given(st.lists(NAMES, unique=True, max_size=20), st.sets(st.integers(0, 20)))
def test_names_of_one_name_come_and_go(names: list[str], packed_at: set[int]) -> None:
    value = b""
    for number, name in enumerate(names):
        value = add_name(pack_names(value) if number in packed_at else value, name)
    value = pack_names(value)
    assert list_names(value) == names
    for name in [*names]:
        value = without(value, name)
        names.remove(name)
        assert list_names(value) == names


def test_many_names_are_packed_once() -> None:
    names = b""
    for number in range(WORTH_PACKING):
        names = add_name(names, f"eni-{number:017x}")
    small = pack_names(names)
    assert isinstance(small, Packed)
    assert len(small) < len(names) / 2
    assert pack_names(small) is small
    assert list_names(small) == list_names(names)


def test_an_entry_takes_little_more_than_its_bytes() -> None:
    names = [f"eni-{number:018}" for number in range(10_000)]
    tracemalloc.start()
    try:
        table = Lines(len(names))
        for name in names:
            table.put(name, bytes(30))
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size < (22 + 30 + 8) * len(names)


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
