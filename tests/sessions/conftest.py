"""What the tests of sessions share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.sessions.causes import Cause

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """In host placement, trials of causes that differ from others only in the policy are slow: it is compiled alike."""
    for item in (item for item in items if item.path.parent == HERE):
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if "trial" in parameters:
            cause: Cause = parameters["trial"][0]
            if parameters["placement"] == "host" and not cause.in_both:
                item.add_marker(pytest.mark.slow)
