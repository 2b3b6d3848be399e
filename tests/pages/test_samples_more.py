"""The other half of the pages of test_samples.py, so that two workers share what takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.test_samples import RUN, check, sgdp, with_marks  # noqa: F401  # a fixture


@pytest.mark.parametrize("page", [with_marks(page) for page in RUN[1::2]])
def test_a_page_shows_what_is_printed(page: Path, tmp_path: Path, sgdp: str, update_golden: bool) -> None:  # noqa: F811
    check(page, tmp_path, sgdp, update_golden=update_golden)
