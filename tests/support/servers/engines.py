"""Real container engines: the files of Debian's packages (tools/setup-engines.sh), over this machine's.

Owns where they are, and how a test's process gets to see them. Must not know how any of them is used.

Nothing is installed. While the fixture `engines` is in use, /usr and /etc of this process's own mount namespace
(tests/support/run/isolation.py) are overlays: the files of the packages over the machine's, and what is written is gone
afterwards.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("SGDP_ENGINES") or "/var/tmp/sgdataplane-engines")
TREE = FOLDER / "tree"
OVERLAID = ("usr", "etc")
BUSYBOX = Path("/bin/busybox")
PROGRAMS = ("usr/bin", "usr/sbin", "usr/lib/podman", "usr/lib/cni")


def missing(*names: str) -> tuple[str, ...]:
    """Those of the programs that aren't there."""
    return tuple(name for name in names if not any(_places(name)))


def _places(name: str) -> Iterator[bool]:
    yield shutil.which(name) is not None
    yield from ((root / folder / name).exists() for root in (Path("/"), TREE) for folder in PROGRAMS)


def needs(*names: str) -> pytest.MarkDecorator:
    """Skips where they aren't, which `--fail-on-skip` doesn't let pass."""
    absent = ", ".join(missing(*names, "busybox"))
    return pytest.mark.skipif(bool(absent), reason=f"needs {absent}: tools/setup-engines.sh {FOLDER}")


@contextmanager
def overlaid(layers: Path) -> Iterator[None]:
    """`layers`: an empty folder, for what is written meanwhile."""
    with ExitStack() as stack:
        subprocess.run(["mount", "-t", "tmpfs", "layers", str(layers)], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", str(layers)], check=True)
        for name in OVERLAID if TREE.exists() else ():
            upper, work = layers / name / "upper", layers / name / "work"
            upper.mkdir(parents=True)
            work.mkdir()
            options = f"lowerdir={TREE / name}:/{name},upperdir={upper},workdir={work}"
            subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, f"/{name}"], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", f"/{name}"], check=True)
        yield


def pack_image(file: Path) -> Path:
    """An archive of a root with busybox and nothing else."""
    with tarfile.open(file, "w") as archive:
        archive.add(BUSYBOX, "bin/busybox")
        for name in ("proc", "sys", "dev", "etc", "run", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
    return file


def not_on_debian12(why: str) -> list[pytest.MarkDecorator]:
    """Marks that skip there, which is let pass; none elsewhere."""
    if platform.freedesktop_os_release().get("VERSION_ID") != "12":
        return []
    return [pytest.mark.optional, pytest.mark.skip(reason=f"Debian 12: {why}")]
