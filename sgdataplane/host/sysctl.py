"""Kernel settings of the calling thread's network namespace.

Owns reads and writes under /proc/sys/net. Is given paths as parts, since interface names may hold dots.
Must not know labs or policy.
"""

from __future__ import annotations

from collections.abc import Mapping

from sgdataplane.errors import HostError

ROOT = "/proc/sys/net"


def read(path: str) -> str:
    """The value of e.g. `ipv4/ip_forward`, stripped."""
    try:
        with open(f"{ROOT}/{path}", encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise HostError(f"sysctl net/{path}", error.strerror or str(error)) from error


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
