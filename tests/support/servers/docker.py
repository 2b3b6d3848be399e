"""Docker's daemon in a network namespace of a test's own, with its bridge and its rules there, asked by its own client.

Owns how it is run, and how a command runs on its host. Must not know what becomes of its containers. The image is
busybox and nothing else.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.host import netns
from tests.support.documents.samples import ENVIRONMENT, Scene
from tests.support.probes.flood import wait_until
from tests.support.servers.booted import cgroup2
from tests.support.servers.engines import pack_image

# Its /run, and control groups of the second version alone, as runc wants them.
IN_A_PLACE = """
mount -t tmpfs tmpfs /run && umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec dockerd "$@"
"""
NEEDED = ("dockerd", "docker", "containerd", "runc", "iptables")
SLEEP = ("tiny", "/bin/busybox", "sleep", "600")


@dataclass(frozen=True)
class Docker:
    """`place`: the namespace that is the daemon's host."""

    path: Path
    place: str

    def __call__(self, *arguments: str, timeout_s: float = 60) -> str:
        """What the client prints. AssertionError with what it says if it fails."""
        command = ["docker", f"--host=unix://{self.path}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def pid(self, name: str) -> int:
        """0 while it doesn't run."""
        return int(self("inspect", "--format", "{{.State.Pid}}", name))

    def remove(self, *names: str) -> None:
        self("rm", "--force", *names)


@dataclass(frozen=True)
class OnHost:
    """Runs commands as a reader of a page does, on the machine that `docker` runs on."""

    scene: Scene
    docker: Docker

    def run(self, command: str) -> str:
        inside = ["nsenter", f"--net={netns.path_of(self.docker.place)}", f"--mount=/proc/{self.scene.holder}/ns/mnt"]
        home = self.scene.folder.parent
        path = f"{home / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
        places = {"PATH": path, "HOME": str(home), "DOCKER_HOST": f"unix://{self.docker.path}"}
        words = [*inside, "bash", "-c", f"cd {shlex.quote(str(self.scene.folder))} || exit\n{command}"]
        done = subprocess.run(
            words,
            env=ENVIRONMENT | places,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout


@contextmanager
def docker_in(folder: Path, place: str, settings: Mapping[str, object]) -> Iterator[Docker]:
    """Running, with an image named `tiny`. `settings`: its daemon.json."""
    docker = Docker(folder / "docker.sock", place)
    (folder / "daemon.json").write_text(json.dumps(settings), "utf-8")
    netns.create(place)
    process = _start(docker, folder)
    try:
        wait_until(lambda: process.poll() is not None or docker.path.exists())
        docker("import", str(pack_image(folder / "tiny.tar")), "tiny")
        yield docker
    except AssertionError:
        print((folder / "docker.log").read_text("utf-8"))
        raise
    finally:
        process.terminate()
        process.wait()
        wait_until(lambda: is_removed(cgroup2() / place))
        netns.remove(place)


def _start(docker: Docker, folder: Path) -> subprocess.Popen[bytes]:
    places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid", "config-file": "daemon.json"}
    options: Sequence[str] = [
        *(f"--{option}={folder / name}" for option, name in places.items()),
        f"--host=unix://{docker.path}",
        "--storage-driver=vfs",
        f"--cgroup-parent=/{docker.place}",
    ]
    inside = ["nsenter", f"--net={netns.path_of(docker.place)}", "unshare", "--mount"]
    with open(folder / "docker.log", "wb") as log:
        command = [*inside, "sh", "-c", IN_A_PLACE, "dockerd", *options]
        return subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))


def is_removed(folder: Path) -> bool:
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()
