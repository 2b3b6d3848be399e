"""One lab for each module; what a test opens in it is closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.edges.scene import Scene
from tests.edges.scene import scene as running_scene
from tests.support.probes.probers import forked_probers  # noqa: F401  # a fixture


@pytest.fixture(scope="module")
def module_scene(make_lab_name: Callable[[], str], placement: str) -> Iterator[Scene]:
    with running_scene(make_lab_name(), placement) as running:
        yield running


@pytest.fixture
def scene(module_scene: Scene) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield replace(module_scene, stack=stack)
