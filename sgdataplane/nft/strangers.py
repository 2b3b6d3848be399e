"""What a table holds besides what it should, and the messages that take it away.

Owns that search. Is given a netlink socket of the namespace and the table as it should be. Must not know why.

Others made these objects, whose names may be any bytes. Sets are removed by the handles that the kernel gave them. It
looks for a handle by going through all objects of a kind, so chains and counters, of which there may be very many, are
removed by name: what it said is copied from one message to the other, as bytes, and is never text. (Of 20,000 counters
3.2 s of one processor by handle, 0.3 s by name.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing

from sgdataplane.host.netlink import attribute, parse_attributes
from sgdataplane.host.nfnetlink import Message, Nfnetlink, message_kind
from sgdataplane.nft import wire
from sgdataplane.nft.ir import Table
from sgdataplane.nft.messages import DELCHAIN, DELOBJ, DELRULE, DELSET, RULE_CHAIN
from sgdataplane.nft.snapshot import (
    CHAIN_NAME,
    FAMILIES,
    FLAG_ANONYMOUS,
    GETCHAIN,
    GETFLOWTABLE,
    GETOBJ,
    GETSET,
    MAX_OBJECTS,
    NAME_OF_TABLE,
    OBJ_NAME,
    OBJ_TYPE,
    SET_FLAGS,
    SET_NAME,
    SUBSYSTEM,
    CrowdError,
    objects,
)

DELFLOWTABLE = 24
SET_HANDLE, FLOWTABLE_NAME, FLOWTABLE_HANDLE = 16, 2, 5
CHAIN_FLAGS, CHAIN_BINDING = 10, 0x4  # of a chain that goes with its rule
Entry = dict[int, bytes]


def removals(netlink: Nfnetlink, table: Table) -> list[Message]:
    """For one batch. OSError if the kernel refuses to list, CrowdError if there is too much."""
    own = attribute(NAME_OF_TABLE, table.name.encode() + b"\0")
    family = FAMILIES[table.family]

    def delete(kind: int, parts: bytes) -> Message:
        return Message(message_kind(SUBSYSTEM, kind), family, own + parts)

    chains = list(_strangers(netlink, table, GETCHAIN, CHAIN_NAME, _bytes(chain.name for chain in table.chains)))
    sets = _strangers(netlink, table, GETSET, SET_NAME, _bytes(entry.name for entry in table.maps))
    flowtables = _strangers(netlink, table, GETFLOWTABLE, FLOWTABLE_NAME, ())
    # what refers to others first: rules, then maps with their elements, then the rest
    found = [delete(DELRULE, attribute(RULE_CHAIN, entry[CHAIN_NAME])) for entry in chains]
    found += [delete(DELSET, attribute(SET_HANDLE, entry[SET_HANDLE])) for entry in sets]
    found += [delete(DELCHAIN, attribute(CHAIN_NAME, entry[CHAIN_NAME])) for entry in chains]
    found += [
        delete(DELOBJ, attribute(OBJ_TYPE, entry[OBJ_TYPE]) + attribute(OBJ_NAME, entry[OBJ_NAME]))
        for entry in _objects(netlink, table)
    ]
    found += [delete(DELFLOWTABLE, attribute(FLOWTABLE_HANDLE, entry[FLOWTABLE_HANDLE])) for entry in flowtables]
    return found


def _bytes(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.encode() for name in names)


def _strangers(netlink: Nfnetlink, table: Table, message: int, name: int, known: Collection[bytes]) -> Iterator[Entry]:
    """Of one kind of objects those with other names, but for what goes with its rule."""
    for entry in _listed(netlink, table, message):
        is_bound = _number(entry, SET_FLAGS) & FLAG_ANONYMOUS if message == GETSET else 0
        is_bound |= _number(entry, CHAIN_FLAGS) & CHAIN_BINDING if message == GETCHAIN else 0
        if not is_bound and entry[name].rstrip(b"\0") not in known:
            yield entry


def _objects(netlink: Nfnetlink, table: Table) -> Iterator[Entry]:
    """Counters, timeouts and the like; of different kinds two may have one name."""
    known = {
        wire.COUNTER: _bytes(entry.name for entry in table.counters),
        wire.TIMEOUT: _bytes(entry.name for entry in table.timeouts),
    }
    for entry in _listed(netlink, table, GETOBJ):
        if entry[OBJ_NAME].rstrip(b"\0") not in known.get(_number(entry, OBJ_TYPE), ()):
            yield entry


def _listed(netlink: Nfnetlink, table: Table, message: int) -> Iterator[Entry]:
    with closing(objects(netlink, message, FAMILIES[table.family], table.name)) as found:
        for number, data in enumerate(found):
            if number >= MAX_OBJECTS:
                raise CrowdError
            yield parse_attributes(data)


def _number(entry: Entry, name: int) -> int:
    return int.from_bytes(entry.get(name, b""), "big")
