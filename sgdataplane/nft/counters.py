"""What the named counters of a table have counted, and which of them its rules log.

Owns how counters are read. Is given a netlink socket of the namespace. Must not know what is counted. Reading delays
neither packets nor commits.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

from sgdataplane.contract.names import known, logged_counter
from sgdataplane.host.netlink import (
    MAX_ATTEMPTS,
    attribute,
    list_attributes,
    parse_attributes,
    text_of,
)
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.nft import uapi
from sgdataplane.nft.snapshot import MAX_OBJECTS, CrowdError, listed, objects, read_own_table
from sgdataplane.nft.uapi import number_of

COUNTS, LOGS = b"objref\0", b"log\0"  # kinds of expressions
SOME = 1000  # counters of others that are read past


@dataclass(frozen=True, slots=True)
class Counted:
    """What a counter has counted so far. `made` tells it from an earlier counter of the same name: it consists of the
    handles of table and counter, which the kernel gives only once while the machine runs."""

    packets: int
    bytes: int
    made: str = ""


def read_wanted(netlink: Nfnetlink, table: str, family: str, wanted: Collection[str]) -> dict[str, Counted]:
    """Those of these counters that are there, by name. However many others the table has, that takes no longer than
    with a few. OSError if the kernel refuses."""
    try:
        found = _read_counters(netlink, table, family, SOME + 2 * len(wanted))
    except CrowdError:
        return dict(read_some(netlink, table, wanted, family))
    return {name: counted for name, counted in found.items() if name in wanted}


def read_counters(netlink: Nfnetlink, table: str, family: str = "inet") -> dict[str, Counted]:
    """All counters of a table whose names could be ours, by name; none if there is no such table. OSError if the kernel
    refuses, or if there are more than we ever make."""
    try:
        return _read_counters(netlink, table, family, MAX_OBJECTS)
    except CrowdError:
        raise OSError(errno.EMFILE, f"table {table} has too many objects") from None


def _read_counters(netlink: Nfnetlink, table: str, family: str, most: int) -> dict[str, Counted]:
    """CrowdError if the table has more objects than `most`."""
    number = uapi.FAMILIES[family]
    found: dict[str, Counted] = {}
    handle = _table_handle(netlink, table, number)
    for entry in listed(netlink, uapi.GETOBJ, number, table, most):
        name = known(entry[uapi.OBJ_NAME])
        if name is not None and number_of(entry[uapi.OBJ_TYPE]) == uapi.OBJ_COUNTER:
            found[name] = _counted(entry, handle)
    return found


def read_packets(netlink: Nfnetlink, table: str, family: str = "inet") -> dict[str, int]:
    """The same as name -> packets."""
    return {name: counted.packets for name, counted in read_counters(netlink, table, family).items()}


def read_some(
    netlink: Nfnetlink, table: str, names: Iterable[str], family: str = "inet"
) -> Iterator[tuple[str, Counted]]:
    """Those of these counters that are there, asked for one by one, which is cheaper than to read all of a large table.
    OSError if the kernel refuses."""
    number = uapi.FAMILIES[family]
    handle = _table_handle(netlink, table, number)
    for name in names:
        asked = _asked(table) + attribute(uapi.OBJ_NAME, name.encode() + b"\0")
        with suppress(FileNotFoundError):
            yield name, _counted(netlink.ask(uapi.kind_of(uapi.GETOBJ), number, asked), handle)


def read_logged(netlink: Nfnetlink, table: str, family: str = "inet") -> frozenset[str]:
    """The counters that the table's rules log: each rule counts with the counter that it logs. None if there is no such
    table. OSError as above."""
    for _ in range(MAX_ATTEMPTS):
        with (
            suppress(InterruptedError),
            closing(objects(netlink, uapi.GETRULE, uapi.FAMILIES[family], table)) as found,
        ):
            rules = [data for data, _ in zip(found, range(MAX_OBJECTS), strict=False) if LOGS in data]
            return frozenset(name for data in rules for name in _logged_by(data))
    raise InterruptedError(errno.EINTR, f"rules changed during each of {MAX_ATTEMPTS} readings")


def _logged_by(rule: bytes) -> Iterator[str]:
    counted: set[str | None] = set()
    for _, one in list_attributes(parse_attributes(rule).get(uapi.RULE_EXPRESSIONS, b"")):
        expression = parse_attributes(one)
        kind, data = expression[uapi.EXPRESSION_NAME], parse_attributes(expression.get(uapi.EXPRESSION_DATA, b""))
        if kind == COUNTS:
            counted.add(known(data.get(uapi.OBJREF_NAME, b"")))
        elif kind == LOGS and (name := logged_counter(text_of(data.get(uapi.LOG_PREFIX, b"")))) in counted:
            yield str(name)


def _asked(table: str) -> bytes:
    return attribute(uapi.TABLE_NAME, table.encode() + b"\0") + attribute(
        uapi.OBJ_TYPE, struct.pack("!I", uapi.OBJ_COUNTER)
    )


def _table_handle(netlink: Nfnetlink, table: str, number: int) -> int:
    """0 if there is no such table."""
    return number_of(read_own_table(netlink, table, number).get(uapi.TABLE_HANDLE, b""))


def _counted(entry: dict[int, bytes], table: int) -> Counted:
    data = parse_attributes(entry[uapi.OBJ_DATA])
    made = f"{table}.{number_of(entry[uapi.OBJ_HANDLE])}"
    return Counted(number_of(data[uapi.COUNTER_PACKETS]), number_of(data[uapi.COUNTER_BYTES]), made)
