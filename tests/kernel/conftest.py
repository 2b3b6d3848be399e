"""What tests of the kernel's door share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.host import netns
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import WEB, state_of
from tests.support.scenes.bootedhost import built_packages, installed
from tests.support.scenes.workload import bench, dns, home, host_bench, make_netns, pair, process, web  # noqa: F401  # fixtures
from tests.support.servers.booted import IN_A_VM, Booted, ThisMachine, booted
from tests.support.servers.engines import overlaid


@pytest.fixture
def namespace(lab_name: str) -> Iterator[str]:
    """A network namespace of the test's own, empty."""
    netns.create(lab_name)
    yield lab_name
    netns.remove(lab_name)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentBench]:
    """It runs, and its state lets WEB in."""
    with agent_in(tmp_path, is_forked=True) as agent:
        agent.write(state_of(WEB))
        agent.start()
        yield agent


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Container engines are there, for the tests of a module."""
    with overlaid(tmp_path_factory.mktemp("layers")):
        yield


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Built now, unless SGDP_DEBS names those that are there, in the order of PACKAGES."""
    if given := os.environ.get("SGDP_DEBS"):
        return tuple(map(Path, given.split(":")))
    return built_packages(tmp_path_factory)


@pytest.fixture(scope="session")
def package(request: pytest.FixtureRequest) -> Path:
    """The agent's."""
    if given := os.environ.get("SGDP_DEB"):
        return Path(given)
    agent, *_ = request.getfixturevalue("packages")
    return Path(agent)


@pytest.fixture(scope="module")
def systemd_machine(tmp_path_factory: pytest.TempPathFactory, make_lab_name: Callable[[], str]) -> Iterator[Booted]:
    if IN_A_VM in os.environ:
        yield ThisMachine()
        return
    with booted(tmp_path_factory.mktemp("machine"), make_lab_name()) as machine:
        yield machine


@pytest.fixture
def host(systemd_machine: Booted, package: Path) -> Iterator[Booted]:
    """With the package and an attached ENI."""
    with installed(systemd_machine, package) as host:
        yield host
