from __future__ import annotations

import pytest

from sgdataplane.host.links import sync


@pytest.mark.parametrize(
    ("current", "wanted", "added", "deleted"),
    [
        ("", "", "", ""),
        ("abc", "abc", "", ""),
        ("", "cab", "abc", ""),
        ("cab", "", "", "abc"),
        ("ab", "bc", "c", "a"),
    ],
)
def test_sync_deletes_what_is_not_wanted_then_adds_what_is_missing(
    current: str, wanted: str, added: str, deleted: str
) -> None:
    done: list[str] = []
    count = sync(current, wanted, lambda entry: done.append(f"+{entry}"), lambda entry: done.append(f"-{entry}"))
    assert done == [f"-{entry}" for entry in deleted] + [f"+{entry}" for entry in added]
    assert count == len(done)
