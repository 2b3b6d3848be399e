"""A sandbox: what runs there ends with its maker, whatever ends that, and nothing of it is seen outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.lab.hosts.sandbox import SHARED, HostNamespace, Sandbox
from tests.support.probes.flood import wait_until

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).resolve().parents[2]
# Makes a room, with a process there that has left its parent, and says who they are.
MAKER = """
import subprocess, sys, time
from sgdataplane.lab.hosts.sandbox import Sandbox
with Sandbox() as sandbox:
    namespace = sandbox.make_namespace("one")
    sandbox.run(["ip", "netns", "add", "workload"], namespace)
    sandbox.run(["sh", "-c", "setsid sleep 600 > /dev/null 2>&1 &"], namespace)
    print(sandbox.namespace.pid, namespace.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def test_rooms_have_namespaces_of_their_own_and_share_one_folder(sandbox: Sandbox) -> None:
    before = netns.list_names()
    namespaces = [sandbox.make_namespace(name) for name in ("one", "two")]
    for namespace in namespaces:
        sandbox.run(["ip", "netns", "add", "same"], namespace)
        sandbox.run(["touch", f"/run/sgdataplane/{namespace.name}", str(SHARED / namespace.name)], namespace)
    inodes = {
        netns.inode_of(name)
        for namespace in namespaces
        for name in (namespace.netns, namespace.get_namespace_path("same"))
    }
    assert len(inodes | {netns.inode_of(sandbox.namespace.netns), netns.inode_of(netns.OWN_NETNS)}) == 6
    assert [os.listdir(namespace.path("/run/sgdataplane")) for namespace in namespaces] == [["one"], ["two"]]
    assert set(os.listdir(namespaces[0].path(SHARED))) == {"one", "two"}
    assert [sandbox.run(["hostname"], namespace) for namespace in namespaces] == ["one\n", "two\n"]
    assert socket.gethostname() not in ("one", "two")
    assert netns.list_names() == before
    assert not SHARED.exists()


def test_loopback_is_up_and_sys_shows_the_rooms_interfaces(sandbox: Sandbox) -> None:
    namespace = sandbox.make_namespace("one")
    with Links(namespace.netns) as links:
        assert [(link.ifname, link.is_up) for link in links.links() if link.ifname == "lo"] == [("lo", True)]
        links.add_bridge("only0")
    assert "only0" in sandbox.run(["ls", "/sys/class/net"], namespace)
    assert "only0" not in sandbox.run(["ls", "/sys/class/net"])


def test_a_process_is_seen_by_its_own_number_and_can_be_killed(sandbox: Sandbox) -> None:
    process = sandbox.start(["sleep", "600"], sandbox.make_namespace("one"))
    wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text("ascii") == "sleep\n")
    process.kill()
    assert process.wait(20) == -signal.SIGKILL


def test_a_command_that_fails_says_why(sandbox: Sandbox) -> None:
    assert sandbox.run(["echo", "said"]) == "said\n"
    with pytest.raises(HostError, match="no such thing"):
        sandbox.run(["sh", "-c", "echo no such thing >&2; exit 3"])
    with pytest.raises(HostError, match="not done in"):
        sandbox.run(["sleep", "600"], seconds=0.05)


def test_nothing_is_left_when_the_block_ends() -> None:
    with Sandbox() as sandbox:
        pids = _children_of(sandbox.namespace, sandbox.make_namespace("one"))
    wait_until(lambda: not any(map(_is_there, pids)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_is_left_when_the_maker_is_killed(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", MAKER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        sandbox, namespace = (HostNamespace("", int(word)) for word in maker.stdout.readline().split())
        pids = _children_of(sandbox, namespace)
        assert len(pids) == 4, "the first process, the room's, the one that left its parent, and the one outside"
        maker.send_signal(number)
    wait_until(lambda: not any(map(_is_there, pids)))


def test_when_the_first_process_is_killed_all_others_are() -> None:
    with Sandbox() as sandbox:
        process = sandbox.start(["sleep", "600"], sandbox.make_namespace("one"))
        os.kill(sandbox.namespace.pid, signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL


def _children_of(sandbox: HostNamespace, namespace: HostNamespace) -> set[int]:
    """All processes in the sandbox's PID namespace, as we see them, and the one that waits for the first."""
    theirs = _pids_of(sandbox.pid)
    found = {int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _pids_of(int(entry)) == theirs}
    assert {sandbox.pid, namespace.pid} <= found
    return found | {int(Path(f"/proc/{sandbox.pid}/stat").read_text("ascii").rpartition(")")[2].split()[1])}


def _pids_of(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def _is_there(pid: int) -> bool:
    """Unless it is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
