"""Kernel settings of the calling thread's network namespace.

Owns reads and writes under /proc/sys/net. Is given paths with slashes, since interface names may contain dots.
Must not know labs or policy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from sgdataplane.errors import HostError

ROOT = "/proc/sys/net"
MAX_BYTES = 4096  # of a value: the kernel returns a page at most


def read(path: str) -> str:
    """The value of e.g. `ipv4/ip_forward`, stripped."""
    try:
        fd = os.open(f"{ROOT}/{path}", os.O_RDONLY | os.O_CLOEXEC)  # open() takes twice as long
        try:
            return os.read(fd, MAX_BYTES).decode("ascii").strip()
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"sysctl net/{path}", error.strerror or str(error)) from error


def read_number(path: str) -> int:
    """The value of a setting that is a whole number."""
    text = read(path)
    try:
        return int(text)
    except ValueError as error:
        raise HostError(f"sysctl net/{path}", f"expected a whole number, found {text!r}") from error


def write(path: str, value: str) -> None:
    """Set one setting in the calling thread's namespace."""
    try:
        with open(f"{ROOT}/{path}", "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise HostError(f"sysctl net/{path}={value}", error.strerror or str(error)) from error


def write_all(settings: Mapping[str, str]) -> None:
    """Set several, in the order given."""
    for path, value in settings.items():
        write(path, value)
