"""The pages of docs that are made from the code say what the code says."""

from __future__ import annotations

import pytest

from tools.reference import PAGES, ROOT


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_the_code_says(name: str) -> None:
    page = ROOT / name
    is_current = page.is_file() and page.read_text(encoding="utf-8") == PAGES[name]()
    assert is_current, f"{name} is not what the code says: run `make docs`"
