"""Virtual machines with Debian's kernels: what each is made of, made once and kept, and one run of a job in one.

Owns trees, kernels and images in a cache folder, and starting and ending a machine. Is given a job. Must not know what
the job tests.

    <cache>/<release>/tree     Debian's files (tools/vm/tree.sh)
    <cache>/<release>/uml      a user-mode kernel from the release's own source package (tools/vm/kernel.sh)
    <cache>/<release>/image    a disk with both, this repository and its set-up (tools/vm/image.sh)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal

from tests.vm import races

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools" / "vm"
NEEDED = ("mmdebstrap", "qemu-system-x86", "e2fsprogs")  # Debian's packages
MEMORY_MB = 3072
CONSOLE, LOG, EXIT = "console.log", "log", "exit"
ALIVE_S = 60.0  # a machine that is told to end
# A user-mode kernel maps pages of its processes one by one in the host. With the default, 65,530 mappings, 6.1's kernel
# kills a child of a process of 400 MB that forks, as it then maps all pages at once.
MAPPINGS, MAX_MAPPINGS = Path("/proc/sys/vm/max_map_count"), 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """`uml`: a kernel built from Debian's source as a process of this machine. `cloud`: Debian's own binary, in qemu,
    with systemd as process 1. `race`: the same, with a debugger that forces races between its two processors."""

    name: str
    release: str
    kind: Literal["uml", "cloud", "race"]


# In the order in which they start: what takes longest comes first.
MACHINES = (
    Machine("6.12-uml", "trixie", "uml"),
    Machine("6.1-uml", "bookworm", "uml"),
    Machine("6.12-cloud", "trixie", "cloud"),
    Machine("6.1-cloud", "bookworm", "cloud"),
    Machine("6.12-race", "trixie", "race"),
    Machine("6.1-race", "bookworm", "race"),
)


@dataclass(frozen=True, slots=True)
class Cache:
    """What virtual machines are made of, kept from one run to the next. To have newer packages, remove the folder."""

    folder: Path

    def of(self, release: str, part: str) -> Path:
        return self.folder / release / part

    def is_ready(self, release: str) -> bool:
        """Whether nothing has to be made for this release."""
        return all(self._is_current(release, part) for part in PARTS)

    def prepare(self, release: str) -> None:
        """Make what is missing or was made from other files than the present ones: half an hour, the first time."""
        self.of(release, "").mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            if not self._is_current(release, part):
                print(f"{release}: making its {part}", flush=True)
                self._make(release, part)
                self._key_file(release, part).write_text(key_of(part), "ascii")

    def _make(self, release: str, part: str) -> None:
        tree, uml, image = (self.of(release, name) for name in ("tree", "uml", "image"))
        commands = {
            "tree": ("tree.sh", release, tree),
            "uml": ("kernel.sh", tree, uml),
            "image": ("image.sh", tree, uml, image),
        }
        script, *arguments = map(str, commands[part])
        if part == "tree":
            shutil.rmtree(tree, ignore_errors=True)
        subprocess.run([str(TOOLS / script), *arguments], check=True)

    def _is_current(self, release: str, part: str) -> bool:
        key = self._key_file(release, part)
        return self.of(release, part).exists() and key.exists() and key.read_text("ascii") == key_of(part)

    def _key_file(self, release: str, part: str) -> Path:
        return self.of(release, f"{part}.key")


# Each part in the order in which they are made, and the files that say what it is.
TREE_FILES = ("tools/vm/tree.sh", "tools/setup.sh")
KERNEL_FILES = ("tools/vm/kernel.sh", "tools/vm/uml.config")
IMAGE_FILES = ("tools/vm/image.sh", "tools/vm/guest", "tools/vm/sgdp-guest.service", "requirements.lock")
PARTS = {"tree": TREE_FILES, "uml": KERNEL_FILES, "image": (*TREE_FILES, *KERNEL_FILES, *IMAGE_FILES)}


def key_of(part: str) -> str:
    """Says of what files a part is made."""
    return hashlib.sha256(b"".join((ROOT / source).read_bytes() for source in PARTS[part])).hexdigest()


def install_packages() -> None:
    """Debian's packages that anything is made or run with, where they are missing."""
    if not all(_is_installed(name) for name in NEEDED):
        apt = ["apt-get", "--quiet", "--quiet", "-o", "DPkg::Lock::Timeout=300"]
        subprocess.run([*apt, "update"], check=True)
        subprocess.run([*apt, "install", "--yes", "--no-install-recommends", *NEEDED], check=True)


def _is_installed(package: str) -> bool:
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, check=False, capture_output=True, text=True).stdout == "installed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`code`: the job's exit code, None if it didn't come to its end. `seconds`: what the machine took."""

    code: int | None
    results: Path
    seconds: float


@contextmanager
def many_mappings() -> Iterator[None]:
    """User-mode kernels that run meanwhile may have large processes. Nothing changes where the host doesn't let us."""
    before = MAPPINGS.read_text("ascii")
    with suppress(OSError):
        MAPPINGS.write_text(str(max(MAX_MAPPINGS, int(before))), "ascii")
    try:
        yield
    finally:
        with suppress(OSError):
            MAPPINGS.write_text(before, "ascii")


def write_job(folder: Path, script: str) -> None:
    """The folder of a job: the last commit, and the command. What was there is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "results").mkdir(parents=True)
    clone = ["git", "clone", "--quiet", "--bare", "--depth", "1", f"file://{ROOT}", str(folder / "repository")]
    subprocess.run(clone, check=True)
    (folder / "run").write_text(script, "utf-8")


def run(machine: Machine, cache: Cache, job: Path, seconds: float) -> Outcome:
    """Boot it with that job, and wait until it has turned itself off, or for so long. What it says is in CONSOLE."""
    runs = {"uml": _run_uml, "cloud": _run_cloud, "race": _run_race}
    begin = time.monotonic()
    runs[machine.kind](machine, cache, job, seconds)
    found = job / "results" / EXIT
    code = int(found.read_text("ascii")) if found.exists() else None
    return Outcome(code, job / "results", time.monotonic() - begin)


def _run_uml(machine: Machine, cache: Cache, job: Path, seconds: float) -> None:
    """On one processor of the host: that kernel and each of its processes are processes of the host, of which one waits
    for the other. To wake one on another processor takes four times as long."""
    layer = job / "layer"  # what it writes on its disk
    command = [
        *("taskset", "--cpu-list", str(_processor_of(machine))),
        *(str(cache.of(machine.release, "uml") / "linux"), f"mem={MEMORY_MB}M", "quiet"),
        *(f"ubd0={layer},{cache.of(machine.release, 'image')}", "root=/dev/ubda", "rw"),
        *("init=/usr/local/sbin/sgdp-guest", f"sgdp-job={job}", "ssl=null", "con=null", "con0=null,fd:1"),
    ]
    _run(command, job, seconds, os.environ | {"TMPDIR": "/dev/shm"})  # its memory is a file there
    layer.unlink(missing_ok=True)


def _processor_of(machine: Machine) -> int:
    """Machines that run side by side have different ones, if there are enough."""
    processors = sorted(os.sched_getaffinity(0))
    return processors[MACHINES.index(machine) % len(processors)]


def _run_race(machine: Machine, cache: Cache, job: Path, seconds: float) -> None:
    """Functions are where the console says that they are, and the machine stops a thousand times: that nothing waits
    for its disk then, its writes may be lost."""
    stub, over = job / "stub", Event()
    door = ("-chardev", f"socket,id=stub,path={stub},server=on,wait=off", "-gdb", "chardev:stub")
    begin = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        tallies = pool.submit(races.force_all, stub, races.Console(job / CONSOLE, over), len(races.WAYS))
        try:
            _run_cloud(machine, cache, job, seconds, door)
        finally:
            over.set()
        stub.unlink(missing_ok=True)
        races.write(tallies.result(), job / "results" / "races.xml", time.monotonic() - begin)


def _run_cloud(machine: Machine, cache: Cache, job: Path, seconds: float, door: Sequence[str] = ()) -> None:
    """`door`: options of qemu for a debugger."""
    tree = cache.of(machine.release, "tree")
    disk = job.parent / f"{job.name}.disk"
    _make_disk(job, disk)
    (kernel,) = (tree / "boot").glob("vmlinuz-*")
    (initrd,) = (tree / "boot").glob("initrd.img-*")
    # The image is only read, also by user-mode kernels that run meanwhile and hold its lock.
    image = f"file={cache.of(machine.release, 'image')},file.locking=off"
    fast = ",cache=unsafe" if door else ""
    command = [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", accelerator(kernel), "-cpu", "max", "-smp", "2"),
        *("-m", str(MEMORY_MB), "-nic", "none", "-nographic", "-kernel", str(kernel), "-initrd", str(initrd)),
        *("-append", "root=/dev/vda rw console=ttyS0 quiet"),
        *("-drive", f"{image},if=virtio,format=raw,snapshot=on{fast}"),
        *("-drive", f"file={disk},if=virtio,format=raw{fast}"),
        *door,
    ]
    _run(command, job, seconds, os.environ | {"TMPDIR": str(job)})  # what it writes on its disk
    # A machine that was ended from outside has left a journal; 1 says that something was put right.
    subprocess.run(["e2fsck", "-fy", str(disk)], check=False, capture_output=True)
    shutil.rmtree(job / "results")
    subprocess.run(["debugfs", "-R", f"rdump /results {job}", disk], check=True, capture_output=True)
    disk.unlink()


def _make_disk(job: Path, disk: Path) -> None:
    disk.unlink(missing_ok=True)
    with open(disk, "wb") as file:
        file.truncate(1 << 30)
    line = ["mke2fs", "-q", "-t", "ext4", "-F", "-O", "^metadata_csum_seed,^orphan_file", "-d", str(job), str(disk)]
    subprocess.run(line, check=True)


def accelerator(kernel: Path) -> str:
    """`kvm` where it boots a kernel, else `tcg`: that the device is there says nothing."""
    bare = ["-machine", "q35", "-accel", "kvm", "-cpu", "max", "-m", "512", "-nic", "none", "-nographic", "-no-reboot"]
    boots = ["-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    command = ["timeout", "20", "qemu-system-x86_64", *bare, *boots]
    said = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return "kvm" if b"Kernel panic" in said.stdout else "tcg"


def _run(command: Sequence[str], job: Path, seconds: float, environment: dict[str, str]) -> None:
    with open(job / CONSOLE, "wb") as console, _started(command, console.fileno(), environment) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            console.write(f"\nended from outside after {seconds:g} s\n".encode())


@contextmanager
def _started(command: Sequence[str], output: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """In a process group of its own (a user-mode kernel is many processes), which ends with the block, and with us."""
    line = ["setpriv", "--pdeathsig", "TERM", *command]
    process = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(ALIVE_S)
