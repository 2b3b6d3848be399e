"""Kernel settings of the calling thread's network namespace.

Owns reads and writes under /proc/sys/net. Its input is paths with slashes, since interface names may contain dots. Must
not know labs or policy.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from sgdataplane.errors import HostError
from sgdataplane.host import ownproc

ROOT = "/proc/sys/net"
MAX_BYTES = 4096  # of a value: the kernel returns a page at most


def read(path: str) -> str:
    """Return the value of a setting such as `ipv4/ip_forward`, stripped."""
    with _report_errors(path):
        return _read(path)


def read_number(path: str) -> int:
    """Return the value of a setting that is a whole number."""
    return _number(path, read(path))


def read_numbers(folder: str, names: Collection[str]) -> dict[str, int]:
    """Return the values of settings in one folder that are whole numbers, by name."""
    with _report_errors(folder):
        handle = ownproc.open_file(_place(folder), os.O_RDONLY | os.O_DIRECTORY, len(names))
    try:
        return {name: _number(f"{folder}/{name}", _read_in(handle, folder, name)) for name in names}
    finally:
        os.close(handle)


def _read_in(handle: int, folder: str, name: str) -> str:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=handle)
        try:
            return os.read(fd, MAX_BYTES).decode("ascii").strip()
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"sysctl net/{folder}/{name}", error.strerror or str(error)) from error


def number_if_there(path: str) -> int | None:
    """Return the value of a setting that is a whole number; None if the kernel has no such setting."""
    with _report_errors(path):
        try:
            text = _read(path)
        except FileNotFoundError:
            return None
    return _number(path, text)


def _number(path: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise HostError(f"sysctl net/{path}", f"expected a whole number, found {text!r}") from error


def _read(path: str) -> str:
    with _open(path, os.O_RDONLY) as fd:
        return os.read(fd, MAX_BYTES).decode("ascii").strip()


def write(path: str, value: str) -> None:
    """Set one setting in the calling thread's namespace."""
    with _report_errors(f"{path}={value}"), _open(path, os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, value.encode("ascii"))


def write_all(settings: Mapping[str, str]) -> None:
    """Set several settings, in the order given."""
    for path, value in settings.items():
        write(path, value)


def _place(path: str) -> str:
    return f"{ROOT.removeprefix('/proc/')}/{path}"


@contextmanager
def _open(path: str, flags: int) -> Iterator[int]:
    fd = ownproc.open_file(_place(path), flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _report_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(f"sysctl net/{what}", error.strerror or str(error)) from error
