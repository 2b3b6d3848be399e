"""What tests of the kernel's door share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sgdataplane.host import netns


@pytest.fixture
def namespace(lab_name: str) -> Iterator[str]:
    """A network namespace of the test's own, empty."""
    netns.create(lab_name)
    yield lab_name
    netns.remove(lab_name)
