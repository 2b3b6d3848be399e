"""What the named counters of a table have counted.

Owns the numbers of counters in nf_tables' messages (linux/netfilter/nf_tables.h). Is given a netlink socket of the
namespace. Must not know what is counted. Reading holds up neither packets nor commits.
"""

from __future__ import annotations

import struct

from sgdataplane.host.nfnetlink import Nfnetlink, attribute, message_kind, parse_attributes, text_of
from sgdataplane.nft.snapshot import FAMILIES, GETOBJ, OBJ_COUNTER, OBJ_NAME, SUBSYSTEM

OBJ_TABLE, OBJ_TYPE, OBJ_DATA, COUNTER_PACKETS = 1, 3, 4, 2  # NFTA_OBJ_*, NFTA_COUNTER_PACKETS


def read_packets(netlink: Nfnetlink, table: str, family: str = "inet") -> dict[str, int]:
    """Name -> packets, of all counters of that table; none if there is no such table. OSError if the kernel refuses."""
    number = FAMILIES[family]
    asked = attribute(OBJ_TABLE, table.encode() + b"\0") + attribute(OBJ_TYPE, struct.pack("!I", OBJ_COUNTER))
    found: dict[str, int] = {}
    for of_family, entry in netlink.dump(message_kind(SUBSYSTEM, GETOBJ), number, asked):
        is_of_table = of_family == number and text_of(entry[OBJ_TABLE]) == table
        if is_of_table and int.from_bytes(entry[OBJ_TYPE], "big") == OBJ_COUNTER:
            packets = parse_attributes(entry[OBJ_DATA])[COUNTER_PACKETS]
            found[text_of(entry[OBJ_NAME])] = int.from_bytes(packets, "big")
    return found
