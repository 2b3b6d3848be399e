"""One browser for the tests of a module: it ends with them, as other tests look at what is left running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.documents.browser import Browser, browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found
