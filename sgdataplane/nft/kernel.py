"""The kernel's door for nftables: runs transactions in one network namespace and says what a table holds.

Owns libnftables (the only file that loads it) and the meaning of its messages. Is given transactions.
Must not know clouds, or why a transaction is run.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, cached_property
from typing import Protocol, Self

from sgdataplane.errors import (
    BusyError,
    ExistsError,
    HostError,
    KernelError,
    NotFoundError,
    PrivilegeError,
    UnsupportedError,
)
from sgdataplane.host import netns, quiet
from sgdataplane.host.aside import call_aside
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.nft.counters import Counted, read_some
from sgdataplane.nft.ir import Table
from sgdataplane.nft.pace import Pace, measure
from sgdataplane.nft.snapshot import Inventory, read_inventory, read_trusted
from sgdataplane.nft.transaction import Operation, Transaction

NO_DNS, DRY_RUN = "no-dns", "dry-run"
DRY_RUN_MISSING = "dry run"
Line = tuple[str, Operation]
_SHOWN: set[str] = set()  # features that this kernel has, as checks have shown


class Kernel(Protocol):
    """One namespace's nftables. Errors are KernelError; an error means that nothing was changed."""

    def run(self, transaction: Transaction) -> None:
        """Make all its changes in one moment, or none. An empty one does nothing."""

    def check(self, transaction: Transaction, feature: str) -> None:
        """Have it judged, and change nothing. What this kernel has shown to have isn't judged again."""

    def inventory(self, name: str, family: str = "inet") -> Inventory:
        """The names that a table holds, its stamp, and the namespace's generation."""

    def trusted(self, table: Table) -> Inventory | None:
        """The inventory, if the table there is certainly this one but for its epoch and secret; else None. Cheap."""

    def counted(self, name: str, counters: Iterable[str]) -> dict[str, Counted]:
        """What these counters of the table have counted, as far as they are there."""

    def interfaces(self) -> frozenset[str]:
        """The namespace's interfaces."""

    def settle(self) -> None:
        """Return when every packet that was on its way through the rules at the call has left them."""

    def pace(self) -> Pace:
        """How fast it validates chains at a commit. KernelError or HostError if that can't be found out."""


class LibnftKernel:
    """The real kernel through a kept libnftables context, which stays bound to its namespace from any thread. It is
    made for the first transaction, which has to come while `namespace` leads there: most who look change nothing.

    `capabilities` names what this binding can do: "no-dns" (a malformed address is an error, never a look-up),
    "dry-run" (`check`). Debian 12's binding lacks the first.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        with _entered(namespace):
            self._netlink = Nfnetlink()

    @cached_property
    def _nft(self) -> _Library:
        with _entered(self.namespace):
            library = _open_library()
            library.cmd("list tables")  # the context opens its socket at its first command
        if NO_DNS in _capabilities(library):
            library.set_input_flags(NO_DNS)
        return library

    def open(self) -> None:
        """Make the context now, while `namespace` leads there."""
        assert self._nft is not None

    @property
    def capabilities(self) -> frozenset[str]:
        return _capabilities(self._nft)

    def close(self) -> None:
        """Whatever it has deleted need not be freed yet: the sockets are let go aside."""
        doors = [self._netlink, self.__dict__.pop("_nft", None)]  # the binding closes its own when nobody has it
        del self._netlink
        call_aside(lambda: _let_go(doors))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, transaction: Transaction) -> None:
        lines = list(transaction.lines())
        if not lines:
            return
        with _as_file("".join(f"{line}\n" for line, _ in lines)) as path:
            code, _, message = self._nft.cmd_from_file(path)
        if code != 0:
            raise _error_of(message, lines)

    def check(self, transaction: Transaction, feature: str) -> None:
        if feature in _SHOWN:
            return
        if DRY_RUN not in self.capabilities:
            raise UnsupportedError(DRY_RUN_MISSING, "python3-nftables 1.0.6 or newer")
        self._nft.set_dry_run(True)
        try:
            self.run(transaction)
        finally:
            self._nft.set_dry_run(False)
        _SHOWN.add(feature)

    def inventory(self, name: str, family: str = "inet") -> Inventory:
        try:
            return read_inventory(self._netlink, name, family)
        except OSError as error:
            raise _error_of(os.strerror(error.errno or 0), ()) from error

    def trusted(self, table: Table) -> Inventory | None:
        try:
            return read_trusted(self._netlink, table)
        except OSError as error:
            raise _error_of(os.strerror(error.errno or 0), ()) from error

    def counted(self, name: str, counters: Iterable[str]) -> dict[str, Counted]:
        found: dict[str, Counted] = {}
        with suppress(OSError):
            found.update(read_some(self._netlink, name, counters))
        return found

    def interfaces(self) -> frozenset[str]:
        with netns.inside(self.namespace):
            return frozenset(name for _, name in socket.if_nameindex())

    def settle(self) -> None:
        """Packets pass the rules under RCU's read lock."""
        quiet.wait()

    def pace(self) -> Pace:
        """Measured once a process, in namespaces of its own that nobody else sees."""
        return _measured_pace()


class _Library(Protocol):
    """What we use of Debian's binding, which has no annotations. Calls give (return code, output, errors)."""

    def cmd(self, cmdline: str) -> tuple[int, str, str]: ...

    def cmd_from_file(self, filename: str) -> tuple[int, str, str]: ...

    def set_input_flags(self, values: str) -> object: ...

    def set_dry_run(self, onoff: bool) -> object: ...


@cache
def _measured_pace() -> Pace:
    with ExitStack() as stack:
        deep, flat = stack.enter_context(_elsewhere()), stack.enter_context(_elsewhere())
        return measure(deep, flat)


def _elsewhere() -> LibnftKernel:
    """A door to a new namespace without a name, which ends with it."""
    with netns.nowhere():
        door = LibnftKernel(netns.OWN_NETNS)
        try:
            door.open()
        except BaseException:
            door.close()
            raise
        return door


def _let_go(doors: list[object]) -> None:
    while doors:
        door = doors.pop()
        if isinstance(door, Nfnetlink):
            door.close()


def _capabilities(library: _Library) -> frozenset[str]:
    methods = {NO_DNS: "set_input_flags", DRY_RUN: "set_dry_run"}
    return frozenset(name for name, method in methods.items() if hasattr(library, method))


def _open_library() -> _Library:
    try:
        import nftables  # noqa: PLC0415  (only who programs the kernel needs it)
    except ImportError as error:
        raise UnsupportedError("the nftables binding", "Debian's package python3-nftables") from error
    library: _Library = nftables.Nftables()
    return library


@contextmanager
def _entered(namespace: str) -> Iterator[None]:
    try:
        with netns.inside(namespace):
            yield
    except (HostError, PermissionError) as error:
        if isinstance(error, PermissionError) or isinstance(error.__cause__, PermissionError):
            raise PrivilegeError("CAP_SYS_ADMIN and CAP_NET_ADMIN, to change another network namespace") from error
        raise


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Path of a file in memory. From a file, unlike from a buffer, libnftables' errors name the right line."""
    fd = os.memfd_create("sgdataplane", os.MFD_CLOEXEC)
    try:
        with open(fd, "w", encoding="ascii", closefd=False) as file:
            file.write(text)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


_MESSAGE = re.compile(
    r"^(?:\S+?:(?P<line>\d+):(?P<first>\d+)-(?P<last>\d+): )?(?:\S+: )?Error: (?P<detail>.*)$", re.MULTILINE
)
_CAUSES: tuple[tuple[str, type[KernelError]], ...] = (
    (os.strerror(errno.ENOENT), NotFoundError),
    (os.strerror(errno.EEXIST), ExistsError),
    ("already exists", ExistsError),  # libnftables compares with what it has read
    (os.strerror(errno.EBUSY), BusyError),
)
_LONG = 160


def _error_of(message: str, lines: Sequence[Line]) -> KernelError:
    """The one place where libnftables' and netlink's words become ours: the first error, and the line it is about."""
    found = _MESSAGE.search(message)
    detail = found["detail"] if found else message.strip().partition("\n")[0]
    number = int(found["line"]) if found and found["line"] else 0
    line, operation = lines[number - 1] if 0 < number <= len(lines) else ("", None)
    if any(os.strerror(code) in detail for code in (errno.EPERM, errno.EACCES)):
        return PrivilegeError("CAP_NET_ADMIN")
    if os.strerror(errno.EOPNOTSUPP) in detail or os.strerror(errno.EAFNOSUPPORT) in detail:
        return UnsupportedError(line or detail, "a kernel that has it")
    cause = next((kind for words, kind in _CAUSES if words in detail), KernelError)
    shown = line if len(line) <= _LONG or not found else _cut(line, int(found["first"]), int(found["last"]))
    return cause(detail, operation=shown, origin=operation.origin if operation else "")


def _cut(line: str, first: int, last: int) -> str:
    """The head of a long line and the part of it that the error points at (columns count from 1)."""
    return f"{line[: _LONG // 2]} ... {line[first - 1 : last][:_LONG]} ..."
