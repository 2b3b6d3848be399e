"""Elements in pages are a sequence like any other, and cheap to compare."""

from __future__ import annotations

from sgdataplane.nft.ir import Elements, MapPage, Paged, goto
from sgdataplane.nft.pages import find_missing, values

A, B = goto("a"), goto("b")
ELEMENTS = tuple((key, A if key % 3 else B) for key in range(20))


def _page(key: object) -> int:
    assert isinstance(key, int)
    return key % 4


def paged(elements: Elements, known: Paged | None = None) -> Paged:
    """Four pages; those of `known` that are equal are used again."""
    numbers = {_page(key) for key, _ in elements}
    made = {n: MapPage(tuple(sorted(e for e in elements if _page(e[0]) == n))) for n in numbers}
    old = known.pages if known is not None else {}
    return Paged({n: old[n] if n in old and old[n] == page else page for n, page in made.items()})


def test_it_is_a_sequence_sorted_by_key() -> None:
    found = paged(ELEMENTS[::-1])
    assert (tuple(found), len(found), found[3], found[1:4]) == (ELEMENTS, 20, ELEMENTS[3], ELEMENTS[1:4])
    assert found == ELEMENTS
    assert hash(found) == hash(ELEMENTS)
    assert found != ELEMENTS[1:]


def test_differences_are_those_of_plain_elements() -> None:
    before = paged(ELEMENTS)
    changed = (*ELEMENTS[2:7], (7, B), *ELEMENTS[8:], (40, A))
    for after in (paged(changed), paged(changed, before)):
        assert find_missing(after, before) == find_missing(changed, ELEMENTS) == ((7, B), (40, A))
        assert find_missing(before, after) == find_missing(ELEMENTS, changed) == (ELEMENTS[0], ELEMENTS[1], (7, A))
        assert find_missing(after, after) == ()


def test_digest_follows_from_the_elements_alone() -> None:
    before = paged(ELEMENTS)
    assert paged(ELEMENTS[::-1]).digest == before.digest
    assert paged(ELEMENTS[1:], before).digest == paged(ELEMENTS[1:]).digest != before.digest
    assert paged(((0, A), *ELEMENTS[1:])).digest != before.digest


def test_values_are_each_of_them() -> None:
    assert set(values(paged(ELEMENTS))) == set(values(ELEMENTS)) == {A, B}
