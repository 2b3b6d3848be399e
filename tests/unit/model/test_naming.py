"""Which thing a name stands for."""

from __future__ import annotations

import pytest

from sgdataplane.errors import StateFileError
from sgdataplane.model.naming import MAX_GUESSED, Named, list_ids, look_up

THINGS = {"eni-a": ("i-a", "web"), "eni-b": ("i-b", "batch"), "eni-c": ("i-c", "batch"), "eni-d": ("", ""), "web": ()}


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("eni-a", ("eni-a",)),
        ("i-a", ("eni-a",)),
        ("web", ("web",)),  # its id: a name of another thing's doesn't count beside that
        ("batch", ("eni-b", "eni-c")),
        ("wep", ()),
        ("", ()),  # which nobody is called
    ],
)
def test_a_name_stands_for_what_is_called_so(name: str, ids: tuple[str, ...]) -> None:
    assert look_up(name, THINGS).ids == ids


def test_near_misses_are_ids_and_names_or_else_the_first_ids() -> None:
    assert look_up("bach", THINGS).near == ("batch",)
    assert look_up("zzz", THINGS).near == ("eni-a", "eni-b", "eni-c")
    many = {f"eni-{number:04}": () for number in range(MAX_GUESSED + 1)}
    assert look_up("eni-0007x", many).near == ("eni-0000", "eni-0001", "eni-0002")


def test_one_eni_is_meant_or_it_is_refused_in_characters_that_do_nothing() -> None:
    assert Named("web", ("eni-a",)).the_eni("unknown", "an ENI") == "eni-a"
    with pytest.raises(StateFileError) as caught:
        Named("w\x1b[2Jb", (), ("we\u202eb",)).the_eni("unknown", "an ENI")
    assert r"w\x1b[2Jb" in str(caught.value)
    assert r"expected: an ENI, such as we\u202eb" in str(caught.value)
    with pytest.raises(StateFileError, match="one of eni-a, eni-b"):
        Named("batch", ("eni-a", "eni-b")).the_eni("unknown", "an ENI")


def test_of_many_ids_the_first_are_listed() -> None:
    assert list_ids(tuple(map(str, range(12)))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
