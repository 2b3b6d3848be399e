"""What tests share that run in a virtual machine of `make test-vm`, and nowhere else: they change the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.inputs.builders import mac_of
from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.pair import Pair, Session, switch_on
from tests.support.servers.booted import IN_A_VM, ThisMachine

PAIR: Pair = {"peer": "/proc/1/root/run/netns/p", "instance": "/proc/1/root/run/netns/w"}


@pytest.fixture(scope="module")
def machine() -> ThisMachine:
    if IN_A_VM not in os.environ:
        pytest.skip("not in a virtual machine of make test-vm")
    return ThisMachine()


@pytest.fixture(scope="module")
def package() -> Path:
    return Path(os.environ["SGDP_DEB"])


def make_workload(machine: ThisMachine) -> None:
    """The namespace w, whose eth0 is joined by a link to the namespace p."""
    for name in ("p", "w"):
        machine.run("ip", "netns", "add", name)
    peer = ("peer", "eth0", "netns", "w", "address", mac_of("eni-a"))
    machine.run("ip", "-n", "p", "link", "add", "eth0", "type", "veth", *peer)
    switch_on(PAIR)


@contextmanager
def both_sessions() -> Iterator[tuple[Session, Session]]:
    """From p to w, to the ports that states let in, one or the other: WEB, DNS."""
    with Session(PAIR, WEB) as web, Session(PAIR, DNS) as dns:
        yield web, dns


def modules(machine: ThisMachine) -> set[str]:
    """Those that the kernel has loaded."""
    return {line.split()[0] for line in machine.run("lsmod").splitlines()[1:]}
