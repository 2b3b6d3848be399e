"""Who is warned of: a process of a workload with CAP_NET_ADMIN in the machine's own user namespace, which reaches other
workloads' links (docs/design/ends.md). `sgdp attach` and `sgdp status` say so, and of no other process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sgdataplane.host import netns
from sgdataplane.host.capabilities import find_net_admins
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import AgentBench, agent_in
from tests.support.scenes.attachbench import WEB, Bench, state_of
from tests.support.scenes.pair import join

pytestmark = [pytest.mark.kernel, pytest.mark.daemon]
# What the workload's process is run by, and what is said of it: with the capability, with none that it could get back,
# as a user who may get it back by a program of root's, and with all of them in a user namespace of its own.
WITHOUT = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
APART = ("unshare", "--user", "--map-root-user", "--net")
WORKLOADS: dict[str, tuple[tuple[str, ...], str]] = {
    "root": ((), "has CAP_NET_ADMIN"),
    "a user": (NOBODY, "may gain CAP_NET_ADMIN"),
    "root without it": (WITHOUT, ""),
    "root of a namespace of its own": (APART, ""),
}


@contextmanager
def workload(prefix: tuple[str, ...], peer: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a network namespace that has no name, joined to the peer, run by that."""
    with netns.nowhere():
        own = netns.inode_of(netns.OWN_NETNS)
        process = subprocess.Popen([*prefix, "sleep", "600"])
    try:
        place = f"/proc/{process.pid}/ns/net"
        wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text("ascii") == "sleep\n")
        assert (netns.inode_of(place) == own) == (prefix != APART)
        join({"peer": peer, "instance": place})
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def peer(make_lab_name: Callable[[], str]) -> Iterator[str]:
    name = make_lab_name()
    netns.create(name)
    yield name
    netns.remove(name)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentBench]:
    with agent_in(tmp_path, is_forked=True) as agent:
        agent.write(state_of(WEB))
        yield agent


@pytest.mark.parametrize(("prefix", "words"), WORKLOADS.values(), ids=WORKLOADS)
def test_attach_and_status_warn_of_whoever_reaches_other_workloads_links(
    prefix: tuple[str, ...], words: str, peer: str, agent: AgentBench, capsys: pytest.CaptureFixture[str]
) -> None:
    with workload(prefix, peer) as process:
        bench = Bench({"peer": peer, "instance": ""}, process.pid, agent.folder, str)
        assert bench.attach() == 0
        attached = capsys.readouterr().err
        agent.start()
        (eni,) = agent.status()["enis"]
    for told in (attached, " ".join(eni["warnings"])):
        if words:
            assert f"process {process.pid} there {words} in the machine's user namespace" in told
            assert "run the workload in a user namespace of its own, or without CAP_NET_ADMIN" in told
        else:
            assert "CAP_NET_ADMIN" not in told
    assert eni["outcome"] == "in force"


def test_the_surest_of_several_processes_is_named_and_the_search_is_bounded(peer: str) -> None:
    with workload(NOBODY, peer) as user:
        place = f"/proc/{user.pid}/ns/net"
        inode = netns.inode_of(place)
        assert not find_net_admins({inode})[inode].is_sure
        with netns.inside(place):
            root = subprocess.Popen(["sleep", "600"])
        try:
            found = find_net_admins({inode})[inode]
            assert (found.pid, found.is_sure) == (root.pid, True)
            assert find_net_admins({inode}, most=0) == {}
        finally:
            root.kill()
            root.wait()


def test_a_process_that_only_visits_the_namespace_is_not_named(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = "import sys; from sgdataplane.host import netns\nwith netns.inside(sys.argv[1]): input()\ninput()"
    inode = netns.inode_of(peer)
    with subprocess.Popen([sys.executable, "-c", visit, peer], stdin=subprocess.PIPE, text=True) as visitor:
        assert visitor.stdin is not None
        orders = visitor.stdin

        def is_there() -> bool:
            return netns.inode_of(f"/proc/{visitor.pid}/ns/net") == inode

        def leave(_seconds: float) -> None:
            if is_there():
                print(file=orders, flush=True)
                wait_until(lambda: not is_there())

        wait_until(is_there)
        assert find_net_admins({inode})[inode].pid == visitor.pid  # the control: it stays
        monkeypatch.setattr("sgdataplane.host.capabilities.sleep", leave)
        assert find_net_admins({inode}) == {}
        visitor.kill()
