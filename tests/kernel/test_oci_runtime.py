"""Our OCI runtime under an engine that makes the interface after the hooks and before the first process, as docker does
from version 28 on: here runc itself, in the same order.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sgdataplane.attach.registry import Registry
from tests.support.events.restarts import Arrivals, open_for, streaming, wait_for
from tests.support.probes.flood import wait_until
from tests.support.scenes.agentbench import ROOT, AgentBench
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.pair import join
from tests.support.servers.booted import cgroup2
from tests.support.servers.cnidriver import install
from tests.support.servers.docker import is_removed
from tests.support.servers.engines import needs, pack_image
from tests.support.servers.podman import OF_ONE_KIND

pytestmark = [pytest.mark.kernel, pytest.mark.daemon, pytest.mark.usefixtures("engines"), needs("runc")]


class Runc:
    """One container, which sleeps."""

    def __init__(self, folder: Path, name: str, own: tuple[str, ...]) -> None:
        self._folder, self._name, self._own = folder, name, own
        root = folder / "bundle" / "rootfs"
        root.mkdir(parents=True)
        subprocess.run(["tar", "-C", str(root), "-xf", str(pack_image(folder / "tiny.tar"))], check=True)
        subprocess.run(["runc", "spec"], cwd=root.parent, check=True)
        file = root.parent / "config.json"
        description = json.loads(file.read_text("utf-8"))
        description["process"] |= {"terminal": False, "args": ["/bin/busybox", "sleep", "600"]}
        description["linux"]["cgroupsPath"] = f"/{name}"
        description["annotations"] = {"sgdataplane/bind": "eni-a"}
        file.write_text(json.dumps(description), "utf-8")

    def __call__(self, *arguments: str) -> None:
        ours = [sys.executable, "-m", "sgdataplane.cni.runtime", *self._own, "--root", str(self._folder / "state")]
        place = ["unshare", "--mount", "sh", "-c", OF_ONE_KIND, "runc", *ours]
        log = self._folder / "said"
        with open(log, "ab") as file:
            done = subprocess.run([*place, *arguments], cwd=ROOT, stdout=file, stderr=file, timeout=60, check=False)
        assert done.returncode == 0, log.read_text("utf-8")

    def create(self) -> int:
        """Its process, which waits for `start`."""
        pid = self._folder / "pid"
        self("create", "--bundle", str(self._folder / "bundle"), "--pid-file", str(pid), self._name)
        return int(pid.read_text("ascii"))

    def start(self) -> None:
        self("start", self._name)

    def delete(self) -> None:
        self("delete", "--force", self._name)
        wait_until(lambda: is_removed(cgroup2() / self._name))


@pytest.fixture
def runc(agent: AgentBench, lab_name: str) -> Runc:
    install(agent.folder, "sgdataplane-oci", sys.executable, "-m", "sgdataplane.cni.hook")
    own = ("--hook", str(agent.folder / "sgdataplane-oci"), "--config", str(agent.config))
    return Runc(agent.folder, lab_name, own)


def test_an_interface_that_comes_after_the_hook_is_closed_from_its_first_packet_on(
    runc: Runc, agent: AgentBench, namespace: str
) -> None:
    pid = runc.create()
    try:
        assert agent.outcomes() == {"eni-a": "absent"}
        pair = {"peer": namespace, "instance": f"/proc/{pid}/ns/net"}
        with Arrivals(pair["instance"]) as arrivals, streaming(pair["peer"]) as stream:
            join(pair)
            assert open_for(stream, arrivals) == 0
            wait_until(lambda: agent.outcomes() == {"eni-a": "in force"})
            runc.start()
            wait_for(len(arrivals.got[WEB]) + 100, arrivals, WEB)
            assert arrivals.got[DNS] == []
            assert len(stream.sent[DNS]) > 100
    finally:
        runc.delete()
    assert Registry(agent.folder / "attached").load() == ()


def test_without_the_annotation_the_same_packets_come(runc: Runc, agent: AgentBench, namespace: str) -> None:
    """The positive control of the test before."""
    file = agent.folder / "bundle" / "config.json"
    file.write_text(file.read_text("utf-8").replace("sgdataplane/bind", "x"), "utf-8")
    pid = runc.create()
    try:
        pair = {"peer": namespace, "instance": f"/proc/{pid}/ns/net"}
        with Arrivals(pair["instance"]) as arrivals, streaming(pair["peer"]):
            join(pair)
            wait_for(100, arrivals, DNS)
    finally:
        runc.delete()
