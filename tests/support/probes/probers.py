"""Probes of labs whose processes fork from the tests' own instead of a new interpreter (tests/support/run/forked.py).

Owns what stands for `start_python` of sgdataplane/lab/fleet.py. Must not know what is probed.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from sgdataplane.lab import fleet
from sgdataplane.lab.prober import Prober, start_nodes
from tests.support.probes.crafter import Crafter
from tests.support.run.forked import Forked

KINDS = {"sgdataplane.lab.prober": Prober, "tests.support.probes.crafter": Crafter}


start_python = fleet.start_python


def _start(module: str, argument: str, **more: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401  # Popen's own
    if module not in KINDS:
        return start_python(module, argument, **more)
    return Forked(partial(_main, KINDS[module]), [argument], start_new_session=True, **more)


def _main(kind: type[Prober]) -> int:
    start_nodes(socket.socket(fileno=int(sys.argv[1])), kind)
    return 0


@pytest.fixture(scope="module", autouse=True)
def forked_probers() -> Iterator[None]:
    """For the tests of the folders whose conftest.py imports it, as far as they probe from this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "start_python", _start)
        yield
