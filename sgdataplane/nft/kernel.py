"""Run nftables transactions in one network namespace, and read what a table holds there.

Owns the socket, the meaning of the kernel's refusals, and the search for objects that a table should not hold. It is
given transactions. It must not know clouds, or why a transaction is run.

It speaks netlink itself, and doesn't load libnftables. Before that library does anything, it reads and trusts whatever
is in the namespace, other tables too. An object that root of the namespace has made can crash it (1.1.3: a set notes
the type of its keys as an index that isn't checked), and a name that becomes part of its input is a program.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from itertools import zip_longest
from typing import NamedTuple, Protocol, Self

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
from sgdataplane.host.netlink import MAX_ATTEMPTS, attribute
from sgdataplane.host.nfnetlink import BatchError, BatchMessage, Nfnetlink
from sgdataplane.nft import uapi
from sgdataplane.nft.counters import Counted, read_counters, read_some
from sgdataplane.nft.elements import key_at
from sgdataplane.nft.encode import map_key_bytes
from sgdataplane.nft.faults import looks_again
from sgdataplane.nft.ir import Map, Table
from sgdataplane.nft.outline import Outline
from sgdataplane.nft.snapshot import (
    CrowdError,
    Inventory,
    list_objects,
    read_generation,
    read_inventory,
    read_trusted,
    read_vouched,
    tables_named,
)
from sgdataplane.nft.stamps import keep_stamp
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.uapi import number_of
from sgdataplane.nft.validation import Pace, measure

Entry = dict[int, bytes]


def encode_removals(netlink: Nfnetlink, table: Table) -> list[BatchMessage]:
    """Return the messages, for one batch, that delete what the kernel's table has and this one has not.

    Others made these objects, and their names may be any bytes. Sets are deleted by the handles that the kernel gave
    them. It looks for a handle by going through all objects of a kind. So chains and counters, of which there may be
    very many, are deleted by name: the bytes are copied from one message to the other and never become text.

    Raises:
        OSError: The kernel refuses to list objects.
        CrowdError: There are too many objects.
    """
    own = attribute(uapi.TABLE_NAME, table.name.encode() + b"\0")
    family = uapi.FAMILIES[table.family]

    def delete(kind: int, parts: bytes) -> BatchMessage:
        return BatchMessage(uapi.kind_of(kind), family, own + parts)

    chains = list(
        _foreign_objects(netlink, table, uapi.GETCHAIN, uapi.CHAIN_NAME, _bytes(chain.name for chain in table.chains))
    )
    sets = _foreign_objects(netlink, table, uapi.GETSET, uapi.SET_NAME, _bytes(entry.name for entry in table.maps))
    flowtables = _foreign_objects(netlink, table, uapi.GETFLOWTABLE, uapi.FLOWTABLE_NAME, ())
    # objects that refer to others go first: rules, then maps with their elements, then the rest
    found = [delete(uapi.DELRULE, attribute(uapi.RULE_CHAIN, entry[uapi.CHAIN_NAME])) for entry in chains]
    found += [delete(uapi.DELSET, attribute(uapi.SET_HANDLE, entry[uapi.SET_HANDLE])) for entry in sets]
    found += [delete(uapi.DELCHAIN, attribute(uapi.CHAIN_NAME, entry[uapi.CHAIN_NAME])) for entry in chains]
    found += [
        delete(
            uapi.DELOBJ, attribute(uapi.OBJ_TYPE, entry[uapi.OBJ_TYPE]) + attribute(uapi.OBJ_NAME, entry[uapi.OBJ_NAME])
        )
        for entry in _objects(netlink, table)
    ]
    found += [
        delete(uapi.DELFLOWTABLE, attribute(uapi.FLOWTABLE_HANDLE, entry[uapi.FLOWTABLE_HANDLE]))
        for entry in flowtables
    ]
    return found


def _bytes(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.encode() for name in names)


def _foreign_objects(
    netlink: Nfnetlink, table: Table, message: int, name: int, known: Collection[bytes]
) -> Iterator[Entry]:
    """Yield the objects of one kind that have names which the table doesn't have.

    Objects that go with their rule are left out.
    """
    for entry in list_objects(netlink, message, uapi.FAMILIES[table.family], table.name):
        is_bound = number_of(entry.get(uapi.SET_FLAGS, b"")) & uapi.SET_ANONYMOUS if message == uapi.GETSET else 0
        is_bound |= number_of(entry.get(uapi.CHAIN_FLAGS, b"")) & uapi.CHAIN_BINDING if message == uapi.GETCHAIN else 0
        if not is_bound and entry[name].rstrip(b"\0") not in known:
            yield entry


def _objects(netlink: Nfnetlink, table: Table) -> Iterator[Entry]:
    """Yield foreign counters, timeouts and the like. Two of different kinds may have one name."""
    known = {
        uapi.OBJ_COUNTER: _bytes(entry.name for entry in table.counters),
        uapi.OBJ_TIMEOUT: _bytes(entry.name for entry in table.timeouts),
    }
    for entry in list_objects(netlink, uapi.GETOBJ, uapi.FAMILIES[table.family], table.name):
        if entry[uapi.OBJ_NAME].rstrip(b"\0") not in known.get(number_of(entry[uapi.OBJ_TYPE]), ()):
            yield entry


_SHOWN: set[str] = set()  # features that this kernel has, as checks have shown
FEW = 500  # up to so many counters are asked for one by one


Commit = tuple[Transaction, ...]


class Kernel(Protocol):
    """The nftables of one namespace. Errors are KernelError; an error means that nothing was changed."""

    def run(self, *transactions: Transaction) -> None:
        """Make all changes in one moment, or none of them, in one commit. Empty transactions do nothing."""

    def run_each(self, commits: Sequence[Commit]) -> Iterator[Commit]:
        """Run the commits one after the other, and yield each once it is done."""

    def check(self, transaction: Transaction, feature: str) -> None:
        """Let the kernel check the transaction, and change nothing.

        A feature that the kernel has shown once isn't checked again.
        """

    def inventory(self, name: str, family: str = "inet", most: int | None = None) -> Inventory:
        """Return the names of a table's objects, its stamp, and the namespace's generation.

        `most` is how many objects of a kind there should be; a table with more is crowded.
        """

    def read_trusted(self, outline: Outline) -> Inventory | None:
        """Return the inventory if the kernel certainly has this table, whatever its epoch and secret; else None.

        The cost doesn't depend on the table's size.
        """

    def read_vouched(self, table: Table) -> Inventory | None:
        """Return the inventory if this table's digest and base chains are in the kernel; else None.

        It is for a table beside one whose stamp vouches for both.
        """

    def read_counters(self, name: str, counters: Iterable[str]) -> dict[str, Counted]:
        """Return what those of these counters that exist have counted."""

    def interfaces(self) -> frozenset[str]:
        """Return the names of the namespace's interfaces."""

    def settle(self) -> None:
        """Wait until all packets that are now on their way through the rules have left them."""

    def may_miss(self) -> bool:
        """Return whether a look-up during a commit may find neither element of a key that gets another value."""

    def pace(self) -> Pace:
        """Return how fast the kernel validates chains at a commit.

        Raises:
            KernelError: That can't be measured.
            HostError: No namespace can be made to measure it in.
        """


class NetlinkKernel:
    """The real kernel, through a socket that belongs to its namespace whichever thread uses it."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._ahead: tuple[Commit, Callable[[], _Batch]] | None = None  # the next commit, which is being encoded
        with _enter(namespace):
            self._netlink = Nfnetlink()

    def close(self) -> None:
        """Close the socket. What the socket owns goes with it."""
        self._netlink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._netlink.keep()
        else:
            self.close()

    def run(self, *transactions: Transaction) -> None:
        """Make all changes in one commit, as Kernel says."""
        if any(operation.verb is Verb.PRUNE for entry in transactions for operation in entry.operations):
            self._run_at_once(lambda _: transactions)  # what is to go is listed before the commit
        else:
            self._commit(transactions)

    def run_beside(self, *transactions: Transaction) -> None:
        """Make all changes to other tables than the policy's, whose stamp stays valid if it is."""
        self._run_at_once(lambda generation: (*transactions, keep_stamp(self._netlink, generation)))

    def run_each(self, commits: Sequence[Commit]) -> Iterator[Commit]:
        """Run the commits one after the other, as Kernel says.

        While the kernel works on one, another thread encodes the next one.
        """
        with ThreadPoolExecutor(1, "encoding") as pool:
            for commit, following in zip_longest(commits, commits[1:], fillvalue=()):
                ahead = _begin_encoding(pool, partial(self._encode, following)) if following else None
                self.run(*commit)
                self._ahead = ahead and (following, ahead)
                yield commit

    def check(self, transaction: Transaction, feature: str) -> None:
        """Let the kernel check the transaction, as Kernel says."""
        if feature not in _SHOWN:
            self._commit([transaction], is_trial=True)
            _SHOWN.add(feature)

    def _run_at_once(self, made_at: Callable[[int], Sequence[Transaction]]) -> None:
        """Commit what is to be done at a generation. Do it again if somebody else commits meanwhile."""
        for _ in range(MAX_ATTEMPTS):
            try:
                generation = read_generation(self._netlink)
                self._commit(made_at(generation), generation)
            except BatchError as error:
                if error.errno != errno.ERESTART:
                    raise
            except InterruptedError:
                continue
            else:
                return
        raise KernelError(f"nftables changed during each of {MAX_ATTEMPTS} attempts")

    def _commit(
        self, transactions: Sequence[Transaction], generation: int | None = None, *, is_trial: bool = False
    ) -> None:
        """Commit the transactions. With a `generation`, fail if anybody has committed since that one."""
        (known, encoded), self._ahead = self._ahead or ((), None), None
        made = encoded() if encoded is not None and known == tuple(transactions) else self._encode(transactions)
        if not made.messages:
            return
        try:
            self._netlink.commit(uapi.SUBSYSTEM, made.messages, generation, is_trial=is_trial)
        except BatchError as error:
            if error.errno == errno.ERESTART and generation is not None:
                raise
            if error.index < 0:
                raise _error_of(error) from error
            raise _refusal(error, made.lines[error.index], made.messages) from error
        except OSError as error:
            raise _error_of(error) from error

    def _encode(self, transactions: Sequence[Transaction]) -> _Batch:
        """Return the messages of all transactions, packed."""
        made = _Batch([], [])
        for transaction in transactions:
            for number, (some, operation) in enumerate(transaction.requests()):
                found = self._others(operation) if operation.verb is Verb.PRUNE else some
                for message in found:
                    message.pack()
                made.messages.extend(found)
                made.lines.extend([(transaction, number)] * len(found))
        return made

    def _others(self, operation: Operation) -> list[BatchMessage]:
        """Return the messages that delete what the kernel's table has and the operation's table has not."""
        assert isinstance(operation.subject, Table)
        try:
            return encode_removals(self._netlink, operation.subject)
        except CrowdError:
            raise KernelError(f"table {operation.subject.name} has too many objects") from None
        except InterruptedError:
            raise
        except OSError as error:
            raise _error_of(error) from error

    def inventory(self, name: str, family: str = "inet", most: int | None = None) -> Inventory:
        """Read the inventory, as Kernel says."""
        with _map_errors():
            return read_inventory(self._netlink, name, family, most)

    def tables(self, prefix: str) -> tuple[str, ...]:
        """Return the names of inet tables that begin with this prefix."""
        with _map_errors():
            return tables_named(self._netlink, prefix)

    def read_trusted(self, outline: Outline) -> Inventory | None:
        """Read the stamp, as Kernel says."""
        with _map_errors():
            return read_trusted(self._netlink, outline)

    def read_vouched(self, table: Table) -> Inventory | None:
        """Read stamp and base chains, as Kernel says."""
        with _map_errors():
            return read_vouched(self._netlink, table)

    def read_counters(self, name: str, counters: Iterable[str]) -> dict[str, Counted]:
        """Read counters, as Kernel says. If the kernel refuses, none are returned."""
        wanted, found = frozenset(counters), dict[str, Counted]()
        with suppress(OSError):
            if len(wanted) <= FEW:
                found.update(read_some(self._netlink, name, wanted))
            else:
                everything = read_counters(self._netlink, name)
                found.update({entry: counted for entry, counted in everything.items() if entry in wanted})
        return found

    def interfaces(self) -> frozenset[str]:
        """Return the names of the namespace's interfaces."""
        with netns.inside(self.namespace):
            return frozenset(name for _, name in socket.if_nameindex())

    def settle(self) -> None:
        """Wait for packets on their way.

        They pass the rules under RCU's read lock, so a grace period is enough.
        """
        quiet.wait()

    def may_miss(self) -> bool:
        """Return whether a look-up may miss. A kernel that doesn't say what it does may."""
        return not looks_again()

    def pace(self) -> Pace:
        """Measure the pace once in a process, in two new namespaces that nobody else sees."""
        return _measure_pace()


class _Batch(NamedTuple):
    """The messages of a commit, each with the line of its text that it is for."""

    messages: list[BatchMessage]
    lines: list[_Line]


def _begin_encoding(pool: ThreadPoolExecutor, encode: Callable[[], _Batch]) -> Callable[[], _Batch]:
    """Begin to encode in the pool's thread, if there is memory for one. Return what waits for the result."""
    try:
        return pool.submit(encode).result
    except RuntimeError:
        return encode


@cache
def _measure_pace() -> Pace:
    with ExitStack() as stack:
        deep, flat = stack.enter_context(_elsewhere()), stack.enter_context(_elsewhere())
        return measure(deep, flat)


def _elsewhere() -> NetlinkKernel:
    """Open the nftables of a new namespace without a name, which ends with its socket."""
    with netns.nowhere():
        return NetlinkKernel(netns.OWN_NETNS)


@contextmanager
def _enter(namespace: str) -> Iterator[None]:
    """Run inside of a namespace. Without the rights for that, PrivilegeError says which ones are needed."""
    try:
        with netns.inside(namespace):
            yield
    except (HostError, PermissionError) as error:
        if isinstance(error, PermissionError) or isinstance(error.__cause__, PermissionError):
            raise PrivilegeError("CAP_SYS_ADMIN and CAP_NET_ADMIN, to change another network namespace") from error
        raise


# this is the one place where netlink's errors become ours

_CAUSES: dict[int, type[KernelError]] = {
    errno.ENOENT: NotFoundError,
    errno.EEXIST: ExistsError,
    errno.EBUSY: BusyError,
}
_LONG = 160
_Line = tuple[Transaction, int]  # a line of a transaction's text, by its number


@contextmanager
def _map_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _error_of(error) from error


def _error_of(error: OSError, line: str = "", origin: str = "") -> KernelError:
    """Return our error for one of netlink's."""
    code = error.errno or 0
    detail = os.strerror(code) if code else str(error)
    if code in (errno.EPERM, errno.EACCES):
        return PrivilegeError("CAP_NET_ADMIN")
    if code in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
        return UnsupportedError(line or detail, "a kernel that has it")
    return _CAUSES.get(code, KernelError)(detail, operation=line, origin=origin)


def _refusal(error: BatchError, refused: _Line, messages: Sequence[BatchMessage]) -> KernelError:
    """Return the error for a batch that the kernel refused, with the line that it is about."""
    transaction, number = refused
    if error.errno == errno.EPERM:  # the kernel refuses the whole batch to a process that may change nothing there
        return KernelError(
            f"table {transaction.name} belongs to a process there, which alone may change it (flag owner)"
        )
    found = next((entry for at, entry in enumerate(transaction.lines()) if at == number), None)
    if found is None:  # such a message has no text
        return _error_of(error)
    line, operation = found
    if isinstance(operation.subject, Map) and operation.kind is Kind.ELEMENTS and error.offset >= 0:
        line = _element_line(transaction, operation, operation.subject, key_at(messages[error.index], error.offset))
    shown = line if len(line) <= _LONG else f"{line[:_LONG]} ..."
    return _error_of(error, shown, operation.origin)


def _element_line(transaction: Transaction, operation: Operation, entry: Map, data: bytes) -> str:
    """Return the line of that element alone, or of all elements if it isn't found."""
    found = tuple(element for element in entry.elements if map_key_bytes(entry.key_type, element[0]) == data)
    only = replace(operation, subject=replace(entry, elements=found or entry.elements))
    return next(line for line, _ in replace(transaction, operations=(only,)).lines())
