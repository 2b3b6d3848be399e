"""What tests of attacks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.host import netns
from sgdataplane.host.links import Links
from tests.hostile.scene import Canary
from tests.support.inputs.builders import mac_of
from tests.support.scenes.agentbench import warm_agents
from tests.support.scenes.attachbench import Bench
from tests.support.scenes.workload import home, host_bench, make_netns  # noqa: F401  # fixtures


@pytest.fixture(scope="module", autouse=True)
def _warm_agents() -> Iterator[None]:
    with warm_agents():
        yield


@pytest.fixture
def namespace(make_lab_name: Callable[[], str]) -> Iterator[str]:
    """A workload's, with the interface of its ENI."""
    name, peer = make_lab_name(), make_lab_name()
    netns.create(name)
    netns.create(peer)
    with Links(peer) as links:
        links.add_veth("peer", name, "eth0", mac_of("eni-a"))
    yield name
    netns.remove(name)
    netns.remove(peer)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    found = Canary(tmp_path / "canary")
    yield found
    found.close()


@pytest.fixture
def bench(host_bench: Bench) -> Bench:  # noqa: F811
    """Root of `bench.place` is hostile, the other workload is a neighbour."""
    return host_bench
