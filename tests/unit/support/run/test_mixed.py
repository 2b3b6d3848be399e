"""The folders of the suite are mixed, and the short modules end the run."""

from __future__ import annotations

from pathlib import Path

from tests.support.run.mixed import turns_of

ROOT = Path("/tests")


def in_turn(*names: str) -> list[str]:
    turns = turns_of([ROOT / name for name in names], ROOT)
    return [str(module.relative_to(ROOT)) for module in sorted(turns, key=lambda module: turns[module])]


def test_folders_take_turns_in_proportion() -> None:
    waiting, computing = [f"kernel/{name}" for name in "abcd"], ["property/a", "property/b"]
    assert in_turn(*waiting, *computing) == ["kernel/a", "property/a", "kernel/b", "kernel/c", "property/b", "kernel/d"]


def test_modules_of_one_folder_keep_their_order() -> None:
    assert in_turn("kernel/b", "kernel/c", "kernel/a") == ["kernel/b", "kernel/c", "kernel/a"]


def test_short_ones_are_the_last() -> None:
    assert in_turn("traffic/a", "traffic/b", *(f"unit/{number}" for number in range(9)))[-3:] == [
        "unit/6",
        "unit/7",
        "unit/8",
    ]


def test_a_module_from_elsewhere_has_its_turn() -> None:
    elsewhere = Path("/elsewhere/test_a.py")
    assert set(turns_of([elsewhere, ROOT / "unit/a"], ROOT)) == {elsewhere, ROOT / "unit/a"}
