"""containerd with its service for Kubernetes (CRI), in a network namespace of a test's own, asked as the kubelet does.

Owns how it is run, and the calls, as far as tests make them. Must not know which plugins its network has. Requests are
encoded by hand from the numbers of the API's fields (kubernetes/cri-api, runtime/v1): it has hundreds, and these are
few.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from sgdataplane.host import netns
from tests.support.probes.flood import wait_until
from tests.support.servers.engines import pack_image

NEEDED = ("containerd", "ctr", "runc", "bridge", "host-local", "loopback")
IMAGE = "docker.io/library/tiny:latest"
SLEEP = ("/bin/busybox", "sleep", "600")
CALL_S = 60
SOCKETS = Path("/run/containerd")  # wherever its state is
# Its sockets, and control groups of the second version alone. Namespaces that it names are seen outside, too.
IN_A_PLACE = """
mkdir -p /run/containerd && mount -t tmpfs tmpfs /run/containerd
umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec containerd "$@"
"""
CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  disable_cgroup = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folder}/bin"
    conf_dir = "{folder}/net.d"
"""
Fields: TypeAlias = Mapping[int, Any]  # number -> text, number, message, or a list of them


def encoded(fields: Fields) -> bytes:
    """A message of protobuf. A sequence is a repeated field."""
    found = bytearray()
    for number, value in fields.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            found += _encoded(number, one)
    return bytes(found)


def _encoded(number: int, value: object) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    assert isinstance(value, (str, Mapping))
    octets = value.encode() if isinstance(value, str) else encoded(value)
    return _varint(number << 3 | 2) + _varint(len(octets)) + octets


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _identifier(answer: bytes) -> str:
    """The only field of these answers: an id of 64 digits."""
    assert answer[:2] == b"\x0a\x40", answer
    return answer[2:66].decode("ascii")


@dataclass
class Pod:
    """`number`: of its life; Kubernetes makes a pod anew with another one."""

    annotations: Mapping[str, str]
    number: int
    id: str = ""
    containers: list[str] = field(default_factory=list)

    @property
    def config(self) -> Fields:
        """PodSandboxConfig."""
        entries = [{1: key, 2: value} for key, value in self.annotations.items()]
        name = {1: "web", 2: f"uid-{self.number}", 3: "default", 4: self.number}
        return {1: name, 2: "web", 7: entries}


class Containerd:
    """`place`: the namespace that is its host."""

    def __init__(self, folder: Path, place: str) -> None:
        self.folder, self.place = folder, place
        self.path = folder / "c.sock"
        self._channel: grpc.Channel | None = None

    def ask(self, method: str, fields: Fields) -> bytes:
        if self._channel is None:
            self._channel = grpc.insecure_channel(f"unix://{self.path}")
        call = self._channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        answer: bytes = call(encoded(fields), timeout=CALL_S)
        return answer

    def run_pod(self, pod: Pod) -> None:
        """With its network, and the process that holds it. grpc.RpcError if that fails."""
        pod.id = _identifier(self.ask("RunPodSandbox", {1: pod.config}))

    def run_container(self, pod: Pod, command: Sequence[str], out: Path) -> str:
        """It has the folder at /out."""
        name = {1: "app", 2: len(pod.containers)}
        config: Fields = {1: name, 2: {1: IMAGE}, 3: [*command], 7: [{1: "/out", 2: str(out)}]}
        made = _identifier(self.ask("CreateContainer", {1: pod.id, 2: config, 3: pod.config}))
        pod.containers.append(made)
        self.ask("StartContainer", {1: made})
        return made

    def stop_container(self, container: str) -> None:
        self.ask("StopContainer", {1: container})

    def remove_pod(self, pod: Pod) -> None:
        self.ask("StopPodSandbox", {1: pod.id})
        self.ask("RemovePodSandbox", {1: pod.id})

    def pid(self, container: str) -> int:
        """Of the first process of a container, or of a pod's own."""
        rows = [line.split() for line in self.ctr("tasks", "ls").splitlines()[1:]]
        return next(int(row[1]) for row in rows if row[0] == container)

    def ctr(self, *arguments: str) -> str:
        command = ["ctr", f"--address={self.path}", "--namespace=k8s.io", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_S, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def end_all(self) -> None:
        """Whatever a test that failed has left: it would outlive containerd."""
        for row in self.ctr("tasks", "ls", "--quiet").split():
            self.ctr("tasks", "rm", "--force", row)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()


@contextmanager
def containerd_in(folder: Path, place: str) -> Iterator[Containerd]:
    """Running, with an image, in that namespace, which is there. The network's files are in `net.d`, and its plugins in
    `bin`."""
    found = Containerd(folder, place)
    (folder / "config.toml").write_text(CONFIG.format(folder=folder, image=IMAGE), "utf-8")
    inside = ["nsenter", f"--net={netns.path_of(place)}", "unshare", "--mount", "--propagation", "unchanged"]
    command = [*inside, "sh", "-c", IN_A_PLACE, "containerd", "--config", str(folder / "config.toml")]
    with open(folder / "containerd.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
    try:
        wait_until(lambda: process.poll() is not None or found.path.exists())
        found.ctr("images", "import", str(_archive(folder)))
        yield found
    except (AssertionError, grpc.RpcError):
        print((folder / "containerd.log").read_text("utf-8"))
        raise
    finally:
        found.close()
        found.end_all()
        process.terminate()
        process.wait()
        with suppress(OSError):  # the machine's own is in use
            SOCKETS.rmdir()


def _archive(folder: Path) -> Path:
    """The image as `docker save` writes it."""
    layer = pack_image(folder / "layer.tar").read_bytes()
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    settings = {"Entrypoint": SLEEP, "Env": ["PATH=/bin"]}
    about = {"architecture": _architecture(), "os": "linux", "config": settings}
    config = json.dumps(about | {"rootfs": {"type": "layers", "diff_ids": [digest]}}).encode()
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    file = folder / "image.tar"
    with tarfile.open(file, "w") as archive:
        contents = {"config.json": config, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file


def _architecture() -> str:
    """As Go has it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
