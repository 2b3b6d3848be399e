"""One bench for each module; what a test opens in it is closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from sgdataplane.host import netns
from tests.fence.bench import Bench, bench, unfenced
from tests.fence.hostbench import HostBench, host_bench
from tests.support.scenes import labs
from tests.support.scenes.pair import Pair, made_pair


@pytest.fixture(scope="module")
def module_bench(make_lab_name: Callable[[], str]) -> Iterator[Bench]:
    with bench(make_lab_name()) as made:
        yield made


@pytest.fixture
def fenced(module_bench: Bench) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield replace(module_bench, stack=stack)


@pytest.fixture(scope="module")
def hosted(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    """Policy and fence in the router."""
    with host_bench(make_lab_name()) as made:
        yield made


@pytest.fixture(scope="module")
def open_host(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    """The same without either: the control, in which only the kernel stops a packet."""
    with host_bench(make_lab_name(), labs.no_policy) as made:
        yield made


@pytest.fixture(scope="module")
def unfenced_host(make_lab_name: Callable[[], str]) -> Iterator[HostBench]:
    """The policy alone: the control for what only the fence stops."""
    with host_bench(make_lab_name(), unfenced) as made:
        yield made


@pytest.fixture
def namespace(lab_name: str) -> Iterator[str]:
    """A network namespace of the test's own, empty."""
    netns.create(lab_name)
    yield lab_name
    netns.remove(lab_name)


@pytest.fixture
def pair(make_lab_name: Callable[[], str]) -> Iterator[Pair]:
    """Two namespaces joined by one link."""
    with made_pair(make_lab_name) as pair:
        yield pair


@pytest.fixture
def either_pair(make_lab_name: Callable[[], str], placement: str) -> Iterator[Pair]:
    """The same, or with a router between them where policy is enforced."""
    with made_pair(make_lab_name, placement) as pair:
        yield pair
