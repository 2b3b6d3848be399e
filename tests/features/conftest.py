"""One scene of each kind for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sgdataplane.host import netns
from tests.features.passage import Passage, made_passage
from tests.features.upper import Scene, made_scene
from tests.support.scenes.workload import home, host_bench, make_netns  # noqa: F401  # fixtures


@pytest.fixture
def passage(make_lab_name: Callable[[], str], placement: str) -> Iterator[Passage]:
    with made_passage(make_lab_name, placement) as made:
        yield made


@pytest.fixture
def scene(make_lab_name: Callable[[], str], placement: str) -> Iterator[Scene]:
    with made_scene(make_lab_name, placement) as made:
        yield made


@pytest.fixture
def elsewhere(make_lab_name: Callable[[], str]) -> Iterator[str]:
    """A namespace for devices that are moved out of the instance's."""
    name = make_lab_name()
    netns.create(name)
    yield name
    netns.remove(name)
