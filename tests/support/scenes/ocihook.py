"""The OCI hook as an engine runs it, for a process that stands for a container's first one.

Owns how it is run. Must not know what becomes of it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sgdataplane.cni.hook import main
from tests.support.probes.flood import DEADLINE
from tests.support.run.forked import Forked
from tests.support.scenes.agentbench import ROOT
from tests.support.scenes.attachbench import living_nowhere
from tests.support.scenes.pair import join


def bind(config: Path, pid: int, container: str = "c1", eni: str = "eni-a") -> subprocess.Popen[bytes]:
    """Begin to bind eth0 of that process."""
    state = {"ociVersion": "1.0.2", "id": container, "pid": pid, "annotations": {"sgdataplane/bind": eni}}
    return _begun(config, "bind", state)


def unbind(config: Path, container: str = "c1") -> int:
    return _begun(config, "unbind", {"id": container}).wait(DEADLINE)


def said_to(config: Path) -> Path:
    """The file with what it has said."""
    return config.with_name("hook.log")


def _begun(config: Path, step: str, state: dict[str, object]) -> subprocess.Popen[bytes]:
    with open(said_to(config), "ab") as log:
        process = Forked(main, ["--config", str(config), step], cwd=ROOT, stdin=subprocess.PIPE, stderr=log)
    assert process.stdin is not None
    process.stdin.write(json.dumps(state).encode())
    process.stdin.close()
    process.stdin = None
    return process


@contextmanager
def container(peer: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a namespace of its own that is joined to the peer."""
    with living_nowhere() as process:
        join({"peer": peer, "instance": f"/proc/{process.pid}/ns/net"})
        yield process
