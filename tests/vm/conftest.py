"""What tests share that run in a virtual machine of `make test-vm`, and nowhere else: they change the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.scenes.attachbench import DNS, WEB
from tests.support.scenes.bootedhost import pair_of
from tests.support.scenes.pair import Session
from tests.support.servers.booted import IN_A_VM, ThisMachine

SENT = Path("/root/trial-sent.json")  # what was sent before the machine was booted again


@pytest.fixture(scope="module")
def machine() -> ThisMachine:
    if IN_A_VM not in os.environ:
        pytest.skip("not in a virtual machine of make test-vm")
    return ThisMachine()


@pytest.fixture(scope="module")
def package() -> Path:
    return Path(os.environ["SGDP_DEB"])


@contextmanager
def both_sessions(machine: ThisMachine) -> Iterator[tuple[Session, Session]]:
    """From p to w, to the ports that states let in, one or the other: WEB, DNS."""
    pair = pair_of(machine)
    with Session(pair, WEB) as web, Session(pair, DNS) as dns:
        yield web, dns


def modules(machine: ThisMachine) -> set[str]:
    """Those that the kernel has loaded."""
    return {line.split()[0] for line in machine.run("lsmod").splitlines()[1:]}
