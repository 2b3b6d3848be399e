"""Read what the named counters of a table have counted, and which of them its rules log.

Owns how counters are read. It is given a netlink socket of the namespace. It must not know what is counted. Reading
delays neither packets nor commits.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

from sgdataplane.contract.names import find_logged_counter, recognize
from sgdataplane.host.netlink import (
    MAX_ATTEMPTS,
    attribute,
    list_attributes,
    parse_attributes,
    text_of,
)
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.nft import uapi
from sgdataplane.nft.snapshot import MAX_OBJECTS, CrowdError, list_objects, objects, read_own_table
from sgdataplane.nft.uapi import number_of

COUNTS, LOGS = b"objref\0", b"log\0"  # the names of these expressions
SOME = 1000  # so many counters that nobody asked for are read past


@dataclass(frozen=True, slots=True)
class Counted:
    """What a counter has counted so far."""

    packets: int
    bytes: int
    made: str = ""
    """Tells it from an earlier counter of the same name: the handles of table and counter.

    The kernel gives each handle only once while the machine runs.
    """


def read_wanted(netlink: Nfnetlink, table: str, family: str, wanted: Collection[str]) -> dict[str, Counted]:
    """Return those of these counters that exist, by name.

    It takes no longer with many other counters in the table than with a few.

    Raises:
        OSError: The kernel refuses.
    """
    try:
        found = _read_counters(netlink, table, family, SOME + 2 * len(wanted))
    except CrowdError:
        return dict(read_some(netlink, table, wanted, family))
    return {name: counted for name, counted in found.items() if name in wanted}


def read_counters(netlink: Nfnetlink, table: str, family: str = "inet") -> dict[str, Counted]:
    """Return all counters of a table whose names could be ours, by name; none if there is no such table.

    Raises:
        OSError: The kernel refuses, or there are more than we ever make.
    """
    try:
        return _read_counters(netlink, table, family, MAX_OBJECTS)
    except CrowdError:
        raise OSError(errno.EMFILE, f"table {table} has too many objects") from None


def _read_counters(netlink: Nfnetlink, table: str, family: str, most: int) -> dict[str, Counted]:
    """Read the counters of a table.

    Raises:
        CrowdError: The table has more objects than `most`.
    """
    number = uapi.FAMILIES[family]
    found: dict[str, Counted] = {}
    handle = _table_handle(netlink, table, number)
    for entry in list_objects(netlink, uapi.GETOBJ, number, table, most):
        name = recognize(entry[uapi.OBJ_NAME])
        if name is not None and number_of(entry[uapi.OBJ_TYPE]) == uapi.OBJ_COUNTER:
            found[name] = _decode_counted(entry, handle)
    return found


def read_packets(netlink: Nfnetlink, table: str, family: str = "inet") -> dict[str, int]:
    """Return how many packets each counter of read_counters() has counted."""
    return {name: counted.packets for name, counted in read_counters(netlink, table, family).items()}


def read_some(
    netlink: Nfnetlink, table: str, names: Iterable[str], family: str = "inet"
) -> Iterator[tuple[str, Counted]]:
    """Yield those of these counters that exist, with their names. Each is asked for by itself.

    This is cheaper than to read all of a large table.

    Raises:
        OSError: The kernel refuses.
    """
    number = uapi.FAMILIES[family]
    handle = _table_handle(netlink, table, number)
    for name in names:
        asked = _encode_request(table) + attribute(uapi.OBJ_NAME, name.encode() + b"\0")
        with suppress(FileNotFoundError):
            yield name, _decode_counted(netlink.ask(uapi.kind_of(uapi.GETOBJ), number, asked), handle)


def read_logged(netlink: Nfnetlink, table: str, family: str = "inet") -> frozenset[str]:
    """Return the counters that the table's rules log; none if there is no such table.

    Each rule counts with the counter that it logs.

    Raises:
        OSError: The kernel refuses, or the rules changed during each attempt to read them.
    """
    for _ in range(MAX_ATTEMPTS):
        with (
            suppress(InterruptedError),
            closing(objects(netlink, uapi.GETRULE, uapi.FAMILIES[family], table)) as found,
        ):
            rules = [data for data, _ in zip(found, range(MAX_OBJECTS), strict=False) if LOGS in data]
            return frozenset(name for data in rules for name in _find_logged_counters(data))
    raise InterruptedError(errno.EINTR, f"rules changed during each of {MAX_ATTEMPTS} readings")


def _find_logged_counters(rule: bytes) -> Iterator[str]:
    """Yield the counter that a rule logs, if the rule counts with it, too."""
    counted: set[str | None] = set()
    for _, one in list_attributes(parse_attributes(rule).get(uapi.RULE_EXPRESSIONS, b"")):
        expression = parse_attributes(one)
        kind, data = expression[uapi.EXPRESSION_NAME], parse_attributes(expression.get(uapi.EXPRESSION_DATA, b""))
        if kind == COUNTS:
            counted.add(recognize(data.get(uapi.OBJREF_NAME, b"")))
        elif kind == LOGS and (name := find_logged_counter(text_of(data.get(uapi.LOG_PREFIX, b"")))) in counted:
            yield str(name)


def _encode_request(table: str) -> bytes:
    return attribute(uapi.TABLE_NAME, table.encode() + b"\0") + attribute(
        uapi.OBJ_TYPE, struct.pack("!I", uapi.OBJ_COUNTER)
    )


def _table_handle(netlink: Nfnetlink, table: str, number: int) -> int:
    """Return the handle of a table; 0 if there is no such table."""
    return number_of(read_own_table(netlink, table, number).get(uapi.TABLE_HANDLE, b""))


def _decode_counted(entry: dict[int, bytes], table: int) -> Counted:
    data = parse_attributes(entry[uapi.OBJ_DATA])
    made = f"{table}.{number_of(entry[uapi.OBJ_HANDLE])}"
    return Counted(number_of(data[uapi.COUNTER_PACKETS]), number_of(data[uapi.COUNTER_BYTES]), made)
