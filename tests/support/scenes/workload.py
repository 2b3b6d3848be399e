"""Fixtures of a workload and its peer, for the folders whose conftest imports them.

from tests.support.scenes.workload import bench, dns, pair, process, web  # noqa: F401  # fixtures
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.host import netns
from tests.support.scenes.attachbench import DNS, WEB, Bench, living_nowhere
from tests.support.scenes.attachhost import attached_pair
from tests.support.scenes.pair import Pair, Session, join, made_pair


@pytest.fixture
def pair(make_lab_name: Callable[[], str], placement: str) -> Iterator[Pair]:
    """Two namespaces joined by one link, or by a router."""
    with made_pair(make_lab_name, placement) as pair:
        yield pair


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A workload: a process in a namespace without a name, as a container's is."""
    with living_nowhere() as process:
        yield process


@pytest.fixture
def bench(
    make_lab_name: Callable[[], str],
    process: subprocess.Popen[bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Bench]:
    """The workload, joined by a link to a peer; `bench.attach()` attaches it."""
    peer = make_lab_name()
    netns.create(peer)
    pair = {"peer": peer, "instance": f"/proc/{process.pid}/ns/net"}
    join(pair)
    yield Bench(pair, process.pid, tmp_path, lambda: capsys.readouterr().out)
    netns.remove(peer)


@pytest.fixture
def home(make_netns: Callable[[], str]) -> str:
    """A namespace that stands for the machine's own: the host ends of workloads' links are in it at first."""
    return make_netns()


@pytest.fixture
def host_bench(home: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    """Two workloads, attached; the host ends of their links are at home."""
    with attached_pair(home, tmp_path, lambda: capsys.readouterr().out) as bench:
        yield bench


@pytest.fixture
def make_netns(make_lab_name: Callable[[], str]) -> Iterator[Callable[[], str]]:
    """Makes named namespaces, and removes them."""
    names: list[str] = []

    def make() -> str:
        names.append(make_lab_name())
        netns.create(names[-1])
        return names[-1]

    yield make
    for name in names:
        netns.remove(name)


@pytest.fixture
def web(bench: Bench) -> Iterator[Session]:
    """A session of `bench` to the port that states mostly let in."""
    with Session(bench.pair, WEB) as web:
        yield web


@pytest.fixture
def dns(bench: Bench) -> Iterator[Session]:
    """A session of `bench` to a port that states mostly refuse."""
    with Session(bench.pair, DNS) as dns:
        yield dns
