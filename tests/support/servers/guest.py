"""A virtual machine under libvirt's QEMU driver, in a network namespace: Debian's kernel, and busybox.

Owns how it is made, run and ended. Must not know what may reach it. QEMU interprets the guest's code, so this needs no
KVM; a boot takes 10 to 30 s. The driver runs in one process with it (`virt-qemu-run`), which no daemon knows of.
"""

from __future__ import annotations

import lzma
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sgdataplane.host import netns
from tests.support.probes.flood import wait_until
from tests.support.servers.engines import BUSYBOX, TREE

NEEDED = ("virt-qemu-run", "qemu-system-x86_64")
MODULES = ("net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net")
READY = "GUEST-READY"
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /www
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
for module in failover net_failover virtio_net; do $b insmod /$module.ko; done
$b ip link set eth0 up
$b ip address add {address}/32 dev eth0
$b ip route add 169.254.1.1 dev eth0
$b ip route add default via 169.254.1.1
echo hello > /www/index.html
for port in {ports}; do $b httpd -p $port -h /www; done
echo {ready}
exec $b sleep 600
"""
DOMAIN = """
<domain type='qemu'>
  <name>web</name>
  <memory unit='MiB'>192</memory>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>console=ttyS0 panic=1 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <interface type='bridge'><source bridge='{bridge}'/><mac address='{mac}'/><model type='virtio'/></interface>
    <serial type='file'><source path='{console}'/></serial>
  </devices>
</domain>
"""
SETTINGS = 'user = "root"\\ngroup = "root"\\ncgroup_controllers = []\\nnamespaces = []\\nstdio_handler = "file"\\n'
# Its /run and its folders below /var; the user that the package would make. $1 is a folder, where files are copied to.
IN_A_PLACE = f"""
for folder in /run /var/lib /var/cache /var/log; do mount -t tmpfs tmpfs $folder; done
for file in passwd group; do cp /etc/$file "$1/$file"; mount --bind "$1/$file" /etc/$file; done
echo libvirt-qemu:x:64055:64055::/:/bin/false >> /etc/passwd
printf '%s\\n' libvirt-qemu:x:64055: kvm:x:64056: >> /etc/group
umount /sys/fs/cgroup/unified 2> /dev/null
mkdir -p /run/vm/etc && printf '{SETTINGS}security_driver = "none"\\n' > /run/vm/etc/qemu.conf
exec virt-qemu-run --root /run/vm "$1/web.xml"
"""


def kernels() -> list[Path]:
    """Debian's, if it is unpacked."""
    return sorted((TREE / "boot").glob("vmlinuz-*"))


@dataclass(frozen=True)
class Guest:
    """At that bridge of the namespace. It serves HTTP on these ports, and routes by the router of host placement."""

    folder: Path
    place: str
    bridge: str
    mac: str
    address: str
    ports: tuple[int, ...]

    @contextmanager
    def running(self) -> Iterator[None]:
        console = self.folder / "console"
        console.unlink(missing_ok=True)
        names = {"kernel": kernels()[-1], "initrd": _initrd(self), "console": console}
        text = DOMAIN.format(bridge=self.bridge, mac=self.mac, **names)
        (self.folder / "web.xml").write_text(text, "utf-8")
        inside = ["nsenter", f"--net={netns.path_of(self.place)}", "unshare", "--mount"]
        with open(self.folder / "guest.log", "wb") as log:
            command = [*inside, "sh", "-c", IN_A_PLACE, "guest", str(self.folder)]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        try:
            for _ in range(6):  # a boot may take longer than others wait for anything
                wait_until(lambda: process.poll() is not None or _is_ready(console), must=False)
            assert _is_ready(console), (self.folder / "guest.log").read_text("utf-8")
            yield
        finally:
            process.terminate()
            process.wait()


def _is_ready(console: Path) -> bool:
    return console.exists() and READY in console.read_text("utf-8", errors="replace")


def _initrd(guest: Guest) -> Path:
    root, file = guest.folder / "guest", guest.folder / "initrd"
    (root / "bin").mkdir(parents=True, exist_ok=True)
    (root / "bin" / "busybox").write_bytes(BUSYBOX.read_bytes())
    script = INIT.format(address=guest.address, ports=" ".join(map(str, guest.ports)), ready=READY)
    (root / "init").write_text(script, "utf-8")
    for program in (root / "init", root / "bin" / "busybox"):
        program.chmod(0o755)
    (modules,) = (TREE / "usr" / "lib" / "modules").glob("*/kernel")
    for name in MODULES:
        packed = (modules / f"{name}.ko.xz").read_bytes()
        (root / f"{Path(name).name}.ko").write_bytes(lzma.decompress(packed))
    with open(file, "wb") as written:
        pack = f"cd {root} && find . | {BUSYBOX} cpio -o -H newc"
        subprocess.run(["sh", "-c", pack], stdout=written, stderr=subprocess.DEVNULL, check=True)
    return file
