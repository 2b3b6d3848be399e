"""What was changed in our tables, by whom: from the messages that the kernel sends of each nftables commit.

Owns the meaning of these messages (linux/netfilter/nf_tables.h). Is given them in order. Must not know namespaces, or
which commits were meant to be.

    NEWTABLE, DELRULE, NEWSETELEM, ...    one a change
    NEWGEN                                the end of the commit: its generation, the process that made it
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sgdataplane.host.netlink import parse_attributes, text_of
from sgdataplane.host.nfnetlink import GENMSG, Nfnetlink, message_kind
from sgdataplane.nft.snapshot import FAMILIES, GETGEN, SUBSYSTEM

NEW_FLOWTABLE = SUBSYSTEM << 8 | 22  # NFT_MSG_NEWFLOWTABLE, as a message's type
EVENT_GROUP = 7  # NFNLGRP_NFTABLES
NEWGEN, GEN_PROCESS, GEN_PROGRAM = 15, 2, 3
TABLE_NAME = 1  # every object's first attribute is its table's name
# NFT_MSG_* -> words, and the attribute that names what was changed or holds it (0: nothing but the table)
TABLE_DELETED = "table deleted"
MEANINGS: dict[int, tuple[str, int]] = {
    0: ("table added", 0),
    2: (TABLE_DELETED, 0),
    3: ("chain added", 3),
    5: ("chain deleted", 3),
    6: ("rule added", 2),
    8: ("rule deleted", 2),
    9: ("set added", 2),
    11: ("set deleted", 2),
    12: ("element added", 2),
    14: ("element deleted", 2),
    18: ("object added", 2),
    20: ("object deleted", 2),
    22: ("flowtable added", 2),
    24: ("flowtable deleted", 2),
}
MAX_KINDS = 200  # of changes kept of one commit
SHOWN_KINDS = 6


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit that changed such a table. `process` is its thread's number as the kernel counts them, `program` what
    that one is called. `changes`: words and name -> how often."""

    number: int
    process: int
    program: str
    changes: tuple[tuple[str, int], ...]

    @property
    def summary(self) -> str:
        """The first few of the changes, for people; of a table that went, that alone."""
        if any(what == TABLE_DELETED for what, _ in self.changes):
            return TABLE_DELETED
        shown = [f"{what} ({count}x)" if count > 1 else what for what, count in self.changes[:SHOWN_KINDS]]
        more = len(self.changes) - len(shown)
        return ", ".join([*shown, *([f"and {more} more kinds"] if more else [])])


class CommitReader:
    """Puts commits together, of each namespace for itself."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._open: dict[int, Counter[str]] = {}

    def read(self, number: int, kind: int, payload: bytes) -> Iterator[Commit]:
        """The next message of that namespace; the commit, if it is the end of one that changed such a table."""
        if kind >> 8 != SUBSYSTEM:
            return
        found = parse_attributes(payload[GENMSG.size :])
        message = kind & 0xFF
        if message == NEWGEN:
            changes = self._open.pop(number, None)
            if changes:
                (process,) = struct.unpack("!I", found[GEN_PROCESS])
                yield Commit(number, process, text_of(found[GEN_PROGRAM]), tuple(changes.items()))
        elif message in MEANINGS and payload[0] in FAMILIES.values() and text_of(found[TABLE_NAME]) == self._table:
            changes = self._open.setdefault(number, Counter())
            words = _words(message, found)
            if words in changes or len(changes) < MAX_KINDS or words == TABLE_DELETED:
                changes[words] += 1

    def forget(self, numbers: Sequence[int] | None = None) -> None:
        """Drop what is not whole of these namespaces (None: of all): some of it was lost, or they have ended."""
        for number in tuple(self._open) if numbers is None else numbers:
            self._open.pop(number, None)


def _words(message: int, found: dict[int, bytes]) -> str:
    words, holder = MEANINGS[message]
    name = text_of(found[holder]) if holder in found else ""
    return f"{words}: {name}" if name else words


def own_process() -> int:
    """What the kernel calls the calling thread in commits: its number outside of all PID namespaces. OSError."""
    with Nfnetlink() as door:
        (process,) = struct.unpack("!I", door.ask(message_kind(SUBSYSTEM, GETGEN))[GEN_PROCESS])
        return int(process)
