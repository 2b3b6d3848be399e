"""A layered mapping is what a dict would be after the same changes, and no former one ever changes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sgdataplane.store import layered
from sgdataplane.store.layered import Layered

KEYS = st.integers(0, 12)
STEPS = st.lists(st.tuples(st.dictionaries(KEYS, st.integers(), max_size=4), st.sets(KEYS, max_size=3), st.booleans()))


@settings(max_examples=400, database=None)
@given(st.dictionaries(KEYS, st.integers(), max_size=12), STEPS, st.integers(0, 8))
def test_it_is_what_a_dict_would_be(
    first: dict[int, int], steps: list[tuple[dict[int, int], set[int], bool]], most: int
) -> None:
    kept = layered.MAX_CHANGES
    layered.MAX_CHANGES = most
    try:
        expected, found = dict(first), Layered(first)
        everything = [(list(expected.items()), found)]
        for puts, deletes, is_read in steps:
            expected = {key: value for key, value in expected.items() if key not in deletes}
            expected.update(puts)
            found = found.after(puts, deletes)
            assert len(found) == len(expected)
            assert [found.get(key) for key in range(13)] == [expected.get(key) for key in range(13)]
            assert [key in found for key in range(13)] == [key in expected for key in range(13)]
            assert not is_read or list(found) == list(expected)
            everything.append((list(expected.items()), found))
        for items, one in everything:
            assert list(one.items()) == items
            assert (list(one.keys()), list(one.values())) == ([key for key, _ in items], [value for _, value in items])
            assert (one == dict(items), len(one)) == (True, len(items))
    finally:
        layered.MAX_CHANGES = kept
