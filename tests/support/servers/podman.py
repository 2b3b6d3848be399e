"""Podman with storage, images and a socket of a test's own, and a network of netavark on a bridge of the test's.

Owns how it is run. Must not know what becomes of its containers. The image is busybox and nothing else, made here.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sgdataplane.attach.containers import VARIABLES
from tests.support.probes.flood import wait_until
from tests.support.servers.engine import only
from tests.support.servers.engines import pack_image

# crun starts no container where cgroups are of both versions; here it sees the second one alone.
OF_ONE_KIND = 'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
LOCALLY = ("env", "--unset", VARIABLES["podman"], "podman")  # not by its socket
# Netavark keeps the addresses in use in one place for all storages.
LEASES = Path("/run/containers/networks")
OWN_LEASES = f'mkdir -p {LEASES} && mount --bind "$LEASES" {LEASES} && '
IN_A_PLACE = ("unshare", "--mount", "sh", "-c", OF_ONE_KIND, "podman", *LOCALLY)


def podman(*arguments: str, prefix: Sequence[str] = LOCALLY) -> str:
    command = [*prefix, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def naming(folder: Path) -> tuple[str, ...]:
    """What runs podman with networks of netavark. Namespaces that it names are seen here, too."""
    place = ("unshare", "--mount", "--propagation", "unchanged", "sh", "-c", OWN_LEASES + OF_ONE_KIND, "podman")
    (folder / "leases").mkdir(exist_ok=True)
    return ("env", f"LEASES={folder / 'leases'}", *place, *LOCALLY)


@contextmanager
def stored_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its storage is in that folder, with an image named `tiny`, and it listens there."""
    places = {"driver": "vfs", "graphroot": str(folder / "graph"), "runroot": str(folder / "run")}
    _write(folder / "storage.conf", {"storage": places})
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
    monkeypatch.setenv("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
    podman("import", str(pack_image(folder / "tiny.tar")), "tiny")
    listen = folder / "podman.sock"
    only(monkeypatch, folder, podman=listen)
    with subprocess.Popen([*LOCALLY, "system", "service", "--time=0", f"unix://{listen}"]) as service:
        try:
            wait_until(listen.exists)
            yield
        finally:
            service.kill()


def configure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Networks and hooks of the test's own; the folder of the hooks. Netavark writes no rules."""
    hooks = folder / "hooks.d"
    hooks.mkdir()
    network = {"network_config_dir": str(folder / "networks"), "firewall_driver": "none"}
    engine = {"hooks_dir": [str(hooks)], "events_logger": "file"}
    _write(folder / "containers.conf", {"network": network, "engine": engine})
    monkeypatch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
    return hooks


def _write(path: Path, sections: Mapping[str, Mapping[str, object]]) -> None:
    lines = [
        line
        for section, values in sections.items()
        for line in (f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()))
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
