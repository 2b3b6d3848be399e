"""What tests of the kernel's door share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sgdataplane.host import netns
from tests.support.pair import Pair, made_pair


@pytest.fixture
def namespace(lab_name: str) -> Iterator[str]:
    """A network namespace of the test's own, empty."""
    netns.create(lab_name)
    yield lab_name
    netns.remove(lab_name)


@pytest.fixture
def pair(make_lab_name: Callable[[], str], placement: str) -> Iterator[Pair]:
    """Two namespaces joined by one link, or by a router."""
    with made_pair(make_lab_name, placement) as pair:
        yield pair
