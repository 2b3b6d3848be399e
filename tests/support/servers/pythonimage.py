"""A base for images, made of this machine's files: its Python with pip, some of our packages, and busybox's shell.

Owns what is in it. Stands for an image such as python:3.13-slim, where no registry can be asked. Must not know what is
built on it.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.servers.engines import BUSYBOX
from tools.vendor import files_of, needed

PYTHON = Path("/usr/bin/python3").resolve()
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = Path("/usr/lib") / VERSION
PACKAGES = Path("/usr/local/lib") / VERSION / "dist-packages"  # where Debian's Python looks
# EXTERNALLY-MANAGED forbids pip to install; images of Python don't have it.
LEFT_OUT = {"__pycache__", "EXTERNALLY-MANAGED", "ensurepip", "idlelib", "pydoc_data", "test", "tkinter"}
TOOLS = ("sh", "cat", "chmod", "chown", "ls", "mkdir")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian's pip reads them when it starts
LOADER = Path("/lib64/ld-linux-x86-64.so.2")


def pack_python_image(file: Path, requirements: list[str]) -> Path:
    """An archive of a root. pip finds all that these requirements need there already, so it fetches nothing."""
    packages = list(_packages(["pip", *requirements]))
    library = [path for path in LIBRARY.rglob("*") if path.is_file() and LEFT_OUT.isdisjoint(path.parts)]
    compiled = [path for path in (*library, *(source for source, _ in packages)) if ".so" in path.suffixes]
    with tarfile.open(file, "w") as archive:
        for name in ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/local/bin", "var/lib"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(entry)
        archive.add(BUSYBOX, "bin/busybox")
        for tool in TOOLS:
            entry = tarfile.TarInfo(f"bin/{tool}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
        files = {path: path.resolve() for path in (AUTHORITIES, *library, *_shared_objects([PYTHON, *compiled]))}
        files |= {PACKAGES / name: source for source, name in packages} | {Path("/usr/bin/python3"): PYTHON}
        for path, source in files.items():  # docker takes no name twice
            archive.add(source, str(path).lstrip("/"))
    return file


def _packages(requirements: list[str]) -> Iterator[tuple[Path, str]]:
    """The files of what these need, and their names."""
    for package in needed(requirements).values():
        for name in files_of(package):
            yield Path(str(package.locate_file(name))), name


def _shared_objects(programs: Iterable[Path]) -> list[Path]:
    """What the loader loads for them, by the names that it looks for; and the loader."""
    found = {LOADER}
    for program in programs:
        done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True)
        words = (line.partition("=>")[2].split() for line in done.stdout.splitlines() if "=> /" in line)
        found.update(Path(first) for first, *_ in words)
    return sorted(found)
