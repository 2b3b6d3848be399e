"""Find out who changed what in our tables, from the messages that the kernel sends about each nftables commit.

Owns the meaning of these messages. It is given them in order. It must not know namespaces, or which commits were
expected.

    NEWTABLE, DELRULE, NEWSETELEM, ...    one for each change
    NEWGEN                                the end of the commit, with its generation and the process that made it

The last message of a commit names the process that made it. So messages are kept as they came, and those of our own
commits are never read.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from sgdataplane.host.netlink import parse_attributes, text_of
from sgdataplane.host.nfnetlink import GENMSG, Nfnetlink
from sgdataplane.nft import uapi

NEW_FLOWTABLE = uapi.kind_of(uapi.NEWFLOWTABLE)
EVENT_GROUP = 7  # NFNLGRP_NFTABLES
# For each NFT_MSG_*: words, and the attribute that names what was changed, or what holds it (0: only the table).
TABLE_DELETED = "table deleted"
MEANINGS: dict[int, tuple[str, int]] = {
    uapi.NEWTABLE: ("table added", 0),
    uapi.DELTABLE: (TABLE_DELETED, 0),
    uapi.NEWCHAIN: ("chain added", 3),
    uapi.DELCHAIN: ("chain deleted", 3),
    uapi.NEWRULE: ("rule added", 2),
    uapi.DELRULE: ("rule deleted", 2),
    uapi.NEWSET: ("set added", 2),
    uapi.DELSET: ("set deleted", 2),
    uapi.NEWSETELEM: ("element added", 2),
    uapi.DELSETELEM: ("element deleted", 2),
    uapi.NEWOBJ: ("object added", 2),
    uapi.DELOBJ: ("object deleted", 2),
    uapi.NEWFLOWTABLE: ("flowtable added", 2),
    uapi.DELFLOWTABLE: ("flowtable deleted", 2),
}
MAX_KINDS = 200  # so many kinds of changes are kept for one commit
MAX_UNREAD = 1 << 20  # so many bytes of a commit are kept as they came
SHOWN_KINDS = 6


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit that changed the table."""

    number: int
    """The number of the namespace, as CommitReader.read() got it."""
    process: int
    """The number of the thread that made it, outside of all PID namespaces."""
    program: str
    """That thread's name."""
    changes: tuple[tuple[str, int], ...]
    """What changed, in words with a name, and how often."""
    generation: int = 0
    """Which commit of its namespace it was; 0 if that isn't known."""

    @property
    def summary(self) -> str:
        """The first few changes, for people. If the table was deleted, that alone."""
        if any(what == TABLE_DELETED for what, _ in self.changes):
            return TABLE_DELETED
        shown = [f"{what} ({count}x)" if count > 1 else what for what, count in self.changes[:SHOWN_KINDS]]
        more = len(self.changes) - len(shown)
        return ", ".join([*shown, *([f"and {more} more kinds"] if more else [])])


@dataclass
class _Unended:
    """A commit whose end hasn't come yet: messages as they came, and the changes that were counted already."""

    unread: list[tuple[int, bytes]] = field(default_factory=list)
    size: int = 0
    changes: Counter[str] = field(default_factory=Counter)


class CommitReader:
    """Puts commits together from messages, for each namespace by itself.

    Commits of the processes in `own` aren't reported.
    """

    def __init__(self, table: str, own: Collection[int] = ()) -> None:
        self._table, self._own = table, own
        self._open: dict[int, _Unended] = {}

    def read(self, number: int, kind: int, payload: bytes) -> Iterator[Commit]:
        """Take the next message of a namespace. Yield the commit at its end, if it changed the table."""
        if kind >> 8 != uapi.SUBSYSTEM:
            return
        message = kind & 0xFF
        if message == uapi.NEWGEN:
            yield from self._end_commit(number, self._open.pop(number, _Unended()), payload)
        elif message in MEANINGS and payload[0] in uapi.FAMILIES.values():
            entry = self._open.setdefault(number, _Unended())
            entry.unread.append((message, payload))
            entry.size += len(payload)
            if entry.size > MAX_UNREAD:
                self._count(entry)

    def _end_commit(self, number: int, entry: _Unended, payload: bytes) -> Iterator[Commit]:
        """Yield the commit that ends with this message, if it isn't our own and changed the table."""
        found = parse_attributes(payload[GENMSG.size :])
        (process,) = struct.unpack("!I", found[uapi.GEN_PROCESS])
        if process in self._own:
            return
        self._count(entry)
        if entry.changes:
            (generation,) = struct.unpack("!I", found[uapi.GEN_ID])
            program, changes = text_of(found[uapi.GEN_PROGRAM]), tuple(entry.changes.items())
            yield Commit(number, process, program, changes, generation)

    def _count(self, entry: _Unended) -> None:
        """Count the changes in what hasn't been read yet."""
        unread, entry.unread, entry.size = entry.unread, [], 0
        for message, payload in unread:
            found = parse_attributes(payload[GENMSG.size :])
            if text_of(found[uapi.TABLE_NAME]) != self._table:
                continue
            words = _words(message, found)
            if words in entry.changes or len(entry.changes) < MAX_KINDS or words == TABLE_DELETED:
                entry.changes[words] += 1

    def forget(self, numbers: Sequence[int] | None = None) -> None:
        """Drop unfinished commits of these namespaces, or of all (None).

        Call this when messages were lost, or when the namespaces are gone.
        """
        for number in tuple(self._open) if numbers is None else numbers:
            self._open.pop(number, None)


def _words(message: int, found: dict[int, bytes]) -> str:
    words, holder = MEANINGS[message]
    name = text_of(found[holder]) if holder in found else ""
    return f"{words}: {name}" if name else words


def own_process() -> int:
    """Return the calling thread's number in commits, which is the one outside of all PID namespaces.

    Raises:
        OSError: The kernel refuses.
    """
    return generation_and_process()[1]


def generation_and_process() -> tuple[int, int]:
    """Return the nftables generation of the calling thread's namespace, and the thread's number in commits.

    Raises:
        OSError: The kernel refuses.
    """
    with Nfnetlink() as netlink:
        found = netlink.ask(uapi.kind_of(uapi.GETGEN))
    return int.from_bytes(found[uapi.GEN_ID]), int.from_bytes(found[uapi.GEN_PROCESS])
