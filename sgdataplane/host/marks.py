"""Fields of sessions' marks, cleared in slices: one pass over the conntrack table of the calling thread's namespace.

Owns how much one slice may be, and when a pass is given up. Its input is fields, as masks, and values of theirs. Must
not know what a mark means.

A slice reads at most SLICE sessions, sends one message for each of them that has something to clear, all of them
together, and waits for one answer. So whatever shares a processor or a thread with it waits for one slice at most. The
kernel isn't asked to choose sessions by their marks: it would walk the table to the next one that it finds without a
pause, and keep the packets of that processor waiting meanwhile. It does so past the sessions of other namespaces.
"""

from __future__ import annotations

import errno
from collections.abc import Container, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Self

from sgdataplane.errors import HostError
from sgdataplane.host import sysctl
from sgdataplane.host.conntrack import CT_GET, CT_NEW, CTA_MARK, CTA_MARK_MASK, CTA_TUPLE_ORIG, CTA_ZONE, CTNETLINK
from sgdataplane.host.modules import COUNT, is_tracking
from sgdataplane.host.netlink import attribute, nest, parse_attributes, refusals_of, uint
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind

SLICE = 128  # sessions; the answers to as many refused messages fit into a socket's buffer
SPARE = 4096  # a table that grows while it is read may have so many more sessions than twice those of the beginning
SLABS = "/proc/slabinfo"
Entry = tuple[int, bytes]  # a family's number, attributes


def count_tracked() -> int:
    """Return how many sessions the calling thread's namespace has; 0 if the kernel tracks none yet."""
    try:
        return int(sysctl.read(COUNT))
    except (HostError, OSError, ValueError):
        return 0


def count_everywhere() -> int:
    """Return how many sessions all namespaces have together; 0 if the kernel doesn't say.

    A list of one namespace's sessions takes as long as if all of these were its own, and what one slice of that takes
    can't be bounded.
    """
    with suppress(OSError, ValueError, IndexError), open(SLABS, encoding="ascii") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("nf_conntrack ")), 0)
    return 0


class MarkPass:
    """A pass that visits each session once, and sets each field whose value is in `values` to 0.

    The mark's other bits stay, even if the kernel is writing them at the moment. The pass belongs to the namespace
    where it was made, whichever thread steps on.

    Attributes:
        seen: How many sessions were visited so far.
        cleared: How many fields were cleared so far.
        is_endless: Whether the pass was given up, since the list had no end. Root of a namespace could add sessions as
            fast as they are read.

    Raises:
        HostError: The kernel refuses.
    """

    def __init__(self, fields: Iterable[int], values: Container[int]) -> None:
        self.seen = self.cleared = 0
        self.is_endless = False
        self._masks, self._values = tuple(fields), values
        self._most = 2 * count_tracked() + SPARE
        self._reader, self._writer = Nfnetlink(), Nfnetlink()
        self._entries = self._list_entries()

    def _list_entries(self) -> Generator[Entry, None, None]:
        """Yield the namespace's sessions.

        If it has none, the kernel isn't asked: to list them it walks those of all namespaces.
        """
        if is_tracking(self._writer) and self._most > SPARE:
            yield from self._reader.entries(message_kind(CTNETLINK, CT_GET))

    def step(self) -> bool:
        """Do the next slice; False if there is none."""
        if self.seen > self._most:
            self.is_endless = True
            return False
        with refusals_of("conntrack table"):
            entries = list(islice(self._entries, SLICE))
            self.seen += len(entries)
            self._clear(entries)
        return bool(entries)

    def _clear(self, entries: Iterable[Entry]) -> None:
        changes = [(family, change) for family, data in entries if (change := self._change(data))]
        if changes:
            self._writer.tell_all(message_kind(CTNETLINK, CT_NEW), changes, (errno.ENOENT,))

    def _change(self, data: bytes) -> bytes:
        """Return the attributes that clear a session's mark; b"" if it is clear.

        They name the session by its tuple as the kernel gave it.
        """
        found = parse_attributes(data)
        stale = tuple(stale_fields(uint(found.get(CTA_MARK, b"")), self._masks, self._values))
        if not stale:
            return b""
        self.cleared += len(stale)
        mask = attribute(CTA_MARK_MASK, sum(stale).to_bytes(4, "big"))
        zone = attribute(CTA_ZONE, found[CTA_ZONE]) if CTA_ZONE in found else b""
        return nest(CTA_TUPLE_ORIG, [found[CTA_TUPLE_ORIG]]) + attribute(CTA_MARK, bytes(4)) + mask + zone

    def close(self) -> None:
        """Close the sockets, so that they don't keep the namespace alive any more."""
        self._entries.close()
        self._reader.close()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def stale_fields(mark: int, masks: Iterable[int], values: Container[int]) -> Iterator[int]:
    """Yield the masks of those fields of a mark whose value is one of these."""
    for mask in masks:
        value = (mark & mask) // (mask & -mask)  # shifted down by the mask's trailing zeros
        if value and value in values:
            yield mask


def clear_mark_fields(fields: Iterable[int], values: Container[int]) -> int:
    """Make one pass to its end; return how many fields were cleared."""
    with MarkPass(fields, values) as sweep:
        while sweep.step():
            pass
    return sweep.cleared
