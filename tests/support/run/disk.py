"""A tiny disk that can be filled, or made one that nobody can write to.

Owns that file system. Must not know who writes to it.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

FILLING = ".last-good.yaml.filling"  # as the agent names what it writes


class Disk:
    """A tiny file system in the mount namespace of the tests. `spoil` makes it one that can't be written to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filling = folder, folder / FILLING

    def spoil(self, how: str) -> None:
        if how == "read-only":
            self._remount("ro")
        else:
            with suppress(OSError), open(self._filling, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(512))
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):  # control
                (self.folder / "more").write_bytes(bytes(1 << 16))
            (self.folder / "more").unlink()

    def mend(self, how: str) -> None:
        if how == "read-only":
            self._remount("rw")
        else:
            self._filling.unlink()

    def _remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", self.folder], check=True)


@contextmanager
def tiny_disk(folder: Path, size: str = "64k") -> Iterator[Disk]:
    """Mounted there while the block runs."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "disk", folder], check=True)
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)
