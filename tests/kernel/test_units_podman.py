"""A podman container that is started anew, with the agent of the Debian package as systemd keeps it in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.bootedhost import AGENT, outcomes, status, write
from tests.support.scenes.pair import Session, join
from tests.support.servers.booted import Booted

BUSYBOX = Path("/bin/busybox")
HAS_ALL = shutil.which("podman") is not None and BUSYBOX.exists()
pytestmark = [
    pytest.mark.daemon,
    pytest.mark.slow,
    pytest.mark.optional,
    pytest.mark.skipif(not HAS_ALL, reason="needs podman, and busybox-static for an image"),
]
CONTAINER = "web"
PLACE = "/var/lib/containers"
STORAGE = f'[storage]\ndriver = "vfs"\ngraphroot = "{PLACE}/storage"\nrunroot = "/run/containers/storage"\n'
EVENTS = '[engine]\nevents_logger = "file"\n'  # podman finds none of its own in the journal of such a machine
IMAGE = "mkdir -p /root/tiny/{bin,proc,sys,dev,etc,run} && cp /bin/busybox /root/tiny/bin && tar -C /root/tiny -c ."
OPTIONS = ("--name", CONTAINER, "--network", "none", "--cgroups", "disabled")


@pytest.fixture
def container(host: Booted) -> Iterator[str]:
    """It runs, and is attached in the place of what the machine has attached already."""
    write(host, "/etc/containers/storage.conf", STORAGE)
    write(host, "/etc/containers/containers.conf", EVENTS)
    host.run("mount", "-t", "tmpfs", "tmpfs", PLACE)  # what the machine has there may be of another driver
    host.run("bash", "-c", f"{IMAGE} | podman import - tiny")
    host.run("podman", "run", "--detach", *OPTIONS, "tiny", "/bin/busybox", "sleep", "600")
    plug(host)
    host.run("sgdp", "detach", "--eni", "eni-a")
    host.run("sgdp", "attach", "--eni", "eni-a", "--container", CONTAINER, "--ifname", "eth0")
    wait_until(lambda: outcomes(host) == {"eni-a": "in force"})
    yield CONTAINER
    host.run("podman", "rm", "--force", "--time", "0", CONTAINER)
    host.run("systemctl", "stop", "podman.service")
    host.run("umount", "--lazy", PLACE)


def plug(host: Booted) -> dict[str, str]:
    """The container gets a link to the namespace that is named w."""
    pid = host.run("podman", "container", "inspect", "--format", "{{.State.Pid}}", CONTAINER).strip()
    pair = {"peer": str(host.path("/run/netns/w")), "instance": str(host.path(f"/proc/{pid}/ns/net"))}
    host.run("ip", "-n", "w", "link", "delete", "eth0", check=False)
    join(pair)
    return pair


def test_the_engine_listens_because_the_agent_wants_it(host: Booted) -> None:
    assert host.property("podman.socket", "ActiveState") == "active"


@pytest.mark.usefixtures("container")
def test_a_container_that_is_started_anew_is_bound_again_under_the_unit(host: Booted) -> None:
    before = status(host)["enis"][0]["since"]
    assert host.property(AGENT, "ProtectSystem") == "strict"
    host.run("podman", "restart", "--time", "0", CONTAINER)
    pair = plug(host)
    wait_until(lambda: outcomes(host) == {"eni-a": "in force"} and status(host)["enis"][0]["since"] != before)
    assert "inet sgdataplane" in nft(pair["instance"], "list tables")
    with Session(pair, WEB) as web, Session(pair, DNS) as dns:
        assert not dns.passes(beside=web)
    host.run("podman", "stop", "--time", "0", CONTAINER)
    wait_until(lambda: outcomes(host) == {"eni-a": "stopped"})
    host.run("systemctl", "restart", AGENT)  # while the container is down: it is found as it starts
    host.run("podman", "start", CONTAINER)
    wait_until(lambda: outcomes(host) == {"eni-a": "absent"})
