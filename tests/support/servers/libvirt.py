"""libvirt's daemon with its driver for containers (LXC), in a network namespace of a test's own.

Owns how it is run, and how domains are described. Must not know what becomes of them. A domain's root is busybox and
nothing else.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from sgdataplane.host import netns
from tests.support.probes.flood import wait_until
from tests.support.servers.engines import pack_image

NEEDED = ("libvirtd", "virsh")
# Its /run but for the named namespaces, and its folders below /var; control groups of the first version if there are
# any, since the driver doesn't start where both are. QEMU's driver, if it is unpacked, would end the daemon, for want
# of a user. $1 is an empty folder.
IN_A_PLACE = """
mount --rbind /run/netns "$1" && mount -t tmpfs tmpfs /run && mkdir /run/netns && mount --rbind "$1" /run/netns
for folder in /var/lib /var/cache /var/log; do mount -t tmpfs tmpfs $folder; done
umount /sys/fs/cgroup/unified 2> /dev/null
mkdir /run/drivers && ln -s /usr/lib/*/libvirt/connection-driver/* /run/drivers
rm -f /run/drivers/libvirt_driver_qemu.so
export LIBVIRT_DRIVER_DIR=/run/drivers
exec libvirtd -f "$2"
"""
CGROUPS = Path("/sys/fs/cgroup")
SETTINGS = 'unix_sock_group = "root"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n'
DOMAIN = """
<domain type='lxc' xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <os>
    <type>exe</type>
    <init>/bin/busybox</init><initarg>sh</initarg><initarg>-c</initarg><initarg>{script}</initarg>
  </os>
  <devices>
    <filesystem type='mount'><source dir='{root}'/><target dir='/'/></filesystem>
    <filesystem type='mount'><source dir='{out}'/><target dir='/out'/></filesystem>
    <console type='pty'/>
    {devices}
  </devices>
  {more}
</domain>
"""
SHARED = "<lxc:namespace><lxc:sharenet type='netns' value='{}'/></lxc:namespace>"
BRIDGED = """<interface type='bridge'>
  <source bridge='{bridge}'/><mac address='{mac}'/><guest dev='eth0'/><ip address='{address}' prefix='24'/>
</interface>"""


def can_limit_memory() -> bool:
    """Whether groups of processes can be limited here, which the driver insists on."""
    second = CGROUPS / "cgroup.subtree_control"
    return (CGROUPS / "memory").exists() or (second.exists() and "memory" in second.read_text("ascii").split())


@dataclass(frozen=True)
class Libvirt:
    """`process`: the daemon. `out`: a folder that domains have at /out."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def __call__(self, *arguments: str) -> str:
        """What its client prints."""
        command = ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", "virsh", "--connect", "lxc:///", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def define(self, name: str, script: str, *, devices: str = "", more: str = "") -> None:
        file, root = self.folder / f"{name}.xml", self.folder / "root"
        text = DOMAIN.format(name=name, script=escape(script), root=root, out=self.out, devices=devices, more=more)
        file.write_text(text, "utf-8")
        self("define", str(file))

    def start(self, name: str) -> int:
        """The number of its first process, which runs."""
        (self.out / "start").unlink(missing_ok=True)
        self("start", name)
        controller = int(Path(f"/proc/{self.process.pid}/root/run/libvirt/lxc/{name}.pid").read_text("ascii"))
        (first,) = Path(f"/proc/{controller}/task/{controller}/children").read_text("ascii").split()
        return int(first)

    def destroy_all(self) -> None:
        for name in self("list", "--name").split():
            self("destroy", name)
        for name in self("list", "--all", "--name").split():
            self("undefine", name)


@contextmanager
def libvirt_in(folder: Path, place: str) -> Iterator[Libvirt]:
    """Running in that namespace, which is there."""
    for name in ("root", "out", "netns"):
        (folder / name).mkdir()
    subprocess.run(["tar", "-C", str(folder / "root"), "-xf", str(pack_image(folder / "tiny.tar"))], check=True)
    (folder / "libvirtd.conf").write_text(SETTINGS, "utf-8")
    inside = ["nsenter", f"--net={netns.path_of(place)}", "unshare", "--mount", "--propagation", "unchanged"]
    command = [*inside, "sh", "-c", IN_A_PLACE, "libvirtd", str(folder / "netns"), str(folder / "libvirtd.conf")]
    with open(folder / "libvirtd.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
    found = Libvirt(folder, process)
    try:
        wait_until(
            lambda: process.poll() is not None or Path(f"/proc/{process.pid}/root/run/libvirt/libvirt-sock").exists()
        )
        yield found
    except AssertionError:
        print((folder / "libvirtd.log").read_text("utf-8"))
        raise
    finally:
        if process.poll() is None:
            found.destroy_all()
        process.terminate()
        process.wait()
        for group in (*CGROUPS.glob("machine"), *CGROUPS.glob("*/machine")):
            with suppress(OSError):  # somebody else's
                group.rmdir()
