"""A systemd that is process 1 of a machine of its own: this machine's files, with what is written kept apart, and
namespaces of every kind but the user's.

Owns booting and ending it, and running commands in it. Must not know what is installed.

    files       an overlay over a tree (this machine's root unless another is given); what is written is in a tmpfs, and
                is there again at the next boot
    /run, /tmp  its own, new at each boot; /dev holds the usual nodes, /sys can't be written, so no udev runs
    cgroups     a version 2 tree of its own, without controllers where the machine has them in version 1
    network     its own, with nothing but a loopback
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sgdataplane.lab.waiting import scale_timeout
from tests.support.probes.flood import wait_until

IN_A_VM = "SGDP_VM"  # in the environment: this machine is a virtual one, made for the tests
COMMAND_S = scale_timeout(120)
CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
# $1 the tree, $2 the folder for layers, $3 the cgroup. If we are in a chroot, nsenter(1) leaves it: process 1 has to be
# at its namespace's own root.
ENTER = r"""
set -eu
echo $$ > "$3/cgroup.procs"
exec unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child --propagation private \
    sh -euc 'exec 3<"$2" 4<"$3" nsenter --mount=/proc/self/ns/mnt sh -euc "$1"' enter "$0" "$1" "$2"
"""
BOOT = r"""
cd /proc/self/fd/4
mkdir -p upper work root
mount -t overlay overlay -o lowerdir=/proc/self/fd/3,upperdir=upper,workdir=work root
cd root
mkdir -p proc sys dev run tmp
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do cp -a "/dev/$node" dev/; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
for unit in systemd-networkd.service ifupdown-pre.service networking.service systemd-timesyncd.service; do
    ln -sfn /dev/null "etc/systemd/system/$unit"
done
rm -f usr/sbin/policy-rc.d
hostname booted
pivot_root . mnt
exec env -i container=booted PATH=/usr/sbin:/usr/bin:/sbin:/bin SGDP_TEST_RUN="$SGDP_TEST_RUN" sh -c '
    umount --lazy /mnt
    mount --make-rshared /
    exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal
' < /dev/null 3<&- 4<&-
"""


class Booted:
    """`folder` is a place of its own for layers; `name` one that nothing else on the machine has."""

    def __init__(self, folder: Path, name: str, tree: Path = Path("/")) -> None:
        self._folder, self._tree = folder, tree
        self._cgroup = cgroup2() / name
        self._starter: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def boot(self) -> None:
        """Returns when it has come up, be it with units that failed."""
        self._cgroup.mkdir()
        places = map(str, (self._tree, self._folder, self._cgroup))
        self._starter = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "sh", "-c", ENTER, BOOT, *places])
        wait_until(self._is_there)
        self.run("systemctl", "is-system-running", "--wait", check=False)  # degraded will do

    def _is_there(self) -> bool:
        assert self._starter is not None
        assert self._starter.poll() is None, "it ended while it came up"
        children = Path(f"/proc/{self._starter.pid}/task/{self._starter.pid}/children").read_text("ascii").split()
        self.pid = int(children[0]) if children else 0
        is_systemd = self.pid and Path(f"/proc/{self.pid}/comm").read_text("ascii") == "systemd\n"
        return bool(is_systemd) and self.path("/run/systemd/private").exists()

    def run(self, *command: object, check: bool = True) -> str:
        """What the command prints, errors included, run in there."""
        inside = ["nsenter", "--target", str(self.pid), *NAMESPACES, "--root"]
        line = [*inside, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", *map(str, command)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0 or not check, f"{command}: exit code {done.returncode}: {said}"
        return said

    def property(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def path(self, inside: str) -> Path:
        """The file of that path in there, from here."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def inside(self, work: Callable[[], object]) -> None:
        """Call it where paths are the machine's. A thread that ends does it, since a thread can't come back."""
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self._join, work).result()

    def _join(self, work: Callable[[], object]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{self.pid}/ns/mnt", "rb") as there:
            for refused in (libc.unshare(CLONE_FS), libc.setns(there.fileno(), CLONE_NEWNS)):
                assert not refused, os.strerror(ctypes.get_errno())
        work()

    def end(self) -> None:
        """At once, as when the power fails; what was written stays for the next boot."""
        if self._starter is not None:
            self._starter.kill()
            self._starter.wait()
        self._starter = None
        wait_until(self._is_cgroup_gone)

    def _is_cgroup_gone(self) -> bool:
        """Empty ones can be removed, from the leaves."""
        with suppress(OSError):
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                Path(folder).rmdir()
        return not self._cgroup.exists()


class ThisMachine(Booted):
    """A virtual machine that runs nothing but tests, with systemd as process 1 (tests/vm)."""

    def __init__(self) -> None:
        super().__init__(Path("/"), "")
        self.pid = 1

    def boot(self) -> None:
        pytest.skip("a test can't boot the machine that it runs on; tests/vm/test_after_reboot.py runs after a reboot")

    end = boot


def cgroup2() -> Path:
    """Where the machine has version 2 mounted, at the cgroup that we are in."""
    rows = [line.split() for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()]
    return next(Path(row[4]) for row in rows if "cgroup2" in row[row.index("-") :])


@contextmanager
def booted(folder: Path, name: str, tree: Path = Path("/")) -> Iterator[Booted]:
    """Booted, and ended with the block. `folder` gets a tmpfs, since layers may not lie in the tree."""
    subprocess.run(["mount", "-t", "tmpfs", "layers", folder], check=True)
    machine = Booted(folder, name, tree)
    try:
        machine.boot()
        yield machine
    finally:
        machine.end()
        subprocess.run(["umount", "--lazy", folder], check=True)
