"""The use of two tables of the kernel: sessions, by namespace, and neighbours, of the whole machine by family.

Owns the shape of these messages (linux/netfilter/nfnetlink_conntrack.h, linux/neighbour.h), and the lines about them
for people and for logs. Must not know policy, or who asks.

If the conntrack table is full, the kernel refuses a new session before any of our hooks sees it, so none of our
counters counts it. Sessions in the table go on. The limit is the machine's, and applies to each namespace.

Once a neighbour table has `gc_thresh3` entries that the kernel learnt by itself, it refuses new ones. Packets to a new
neighbour then fail at their sender or router, and none of our counters counts them. Permanent entries, such as routers'
and labs', don't count towards the limit. But the kernel only reports the sum, so those of named namespaces are
subtracted.
"""

from __future__ import annotations

import enum
import logging
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.links import FAMILIES
from sgdataplane.host.modules import is_tracking
from sgdataplane.host.neighbours import PERMANENT
from sgdataplane.host.netlink import refusals_of, uint
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind
from sgdataplane.host.rtnetlink import Rtnetlink
from sgdataplane.model.words import pluralize

CTNETLINK, CT_GET_STATS_CPU, CT_GET_STATS = 1, 4, 5  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
CTA_STATS_INSERT_FAILED, CTA_STATS_DROP, CTA_STATS_EARLY_DROP = 9, 10, 11
CTA_STATS_GLOBAL_ENTRIES, CTA_STATS_GLOBAL_MAX_ENTRIES = 1, 2
SESSIONS_NEARLY_FULL = 0.9
LOGGER = "sgdataplane.conntrack"


class Fullness(enum.Enum):
    """How full a table is, as log lines name it."""

    OK = "ok"
    HAS_BEEN_FULL = "has-been-full"
    """There is room now, but some sessions found none."""
    NEARLY_FULL = "nearly-full"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class TableUse:
    """The use of a namespace's conntrack table. All but the first two count since the namespace was made."""

    entries: int
    """Sessions in the table."""
    limit: int
    """How many there may be; 0 for no limit."""
    dropped: int
    """Packets that found no room for their session, or could not be tracked."""
    evicted: int
    """Unanswered sessions that made room for others."""
    insert_failed: int
    """Entries that lost a race to an equal session or were refused afterwards."""

    @property
    def is_full(self) -> bool:
        """Whether no new session finds room."""
        return 0 < self.limit <= self.entries

    @property
    def is_nearly_full(self) -> bool:
        """Whether at least SESSIONS_NEARLY_FULL of the table is used."""
        return 0 < self.limit * SESSIONS_NEARLY_FULL <= self.entries

    @property
    def condition(self) -> Fullness:
        """How full the table is, in one word."""
        if self.is_full:
            return Fullness.FULL
        if self.is_nearly_full:
            return Fullness.NEARLY_FULL
        return Fullness.HAS_BEEN_FULL if self.dropped or self.evicted else Fullness.OK

    @property
    def warning(self) -> str:
        """One line for people; empty if all is well."""
        use = f"{self.entries} of {self.limit} sessions"
        dropped, evicted = pluralize(self.dropped, "packet"), pluralize(self.evicted, "unanswered session")
        so_far = f"{dropped} dropped, {evicted} evicted so far"
        return {
            Fullness.FULL: f"the conntrack table is full ({use}): new sessions are refused; {so_far}",
            Fullness.NEARLY_FULL: f"the conntrack table is nearly full ({use}); {so_far}",
            Fullness.HAS_BEEN_FULL: f"the conntrack table has been full (now {use}): {so_far}",
            Fullness.OK: "",
        }[self.condition]

    def as_json(self) -> dict[str, int]:
        """Return the numbers by name."""
        return asdict(self)


class UseLog:
    """A log that gets a line each time that a table's condition changes.

    At first it is OK, which isn't logged.
    """

    def __init__(self) -> None:
        self._known: dict[str, Fullness] = {}

    def note(self, where: str, use: TableUse) -> None:
        """Log the table's condition if it has changed.

        `where` names the table to the reader. The record's `sentence` says the same in words.
        """
        previous = self._known.get(where, Fullness.OK)
        self._known[where] = use.condition
        if use.condition is previous:
            return
        level = logging.INFO if use.condition is Fullness.OK else logging.WARNING
        numbers = " ".join(f"{name}={number}" for name, number in use.as_json().items())
        sentence = f"{where}: {use.warning or 'the conntrack table has room'}"
        line = f"conntrack-table where={where} condition={use.condition.value} {numbers}"
        logging.getLogger(LOGGER).log(level, line, extra={"sentence": sentence})


def read_table_use() -> TableUse:
    """Read the use of the calling thread's namespace; all zeros if the kernel tracks nothing yet.

    Raises:
        HostError: The kernel refuses.
    """
    with Nfnetlink() as netlink:
        if not is_tracking(netlink):
            return TableUse(entries=0, limit=0, dropped=0, evicted=0, insert_failed=0)
        with refusals_of("conntrack statistics"):
            size = netlink.ask(message_kind(CTNETLINK, CT_GET_STATS))
            by_cpu = netlink.dump(message_kind(CTNETLINK, CT_GET_STATS_CPU))
    total: Counter[int] = Counter()
    for _, found in by_cpu:
        total.update({kind: uint(value) for kind, value in found.items()})
    return TableUse(
        entries=uint(size[CTA_STATS_GLOBAL_ENTRIES]),
        limit=uint(size.get(CTA_STATS_GLOBAL_MAX_ENTRIES, b"")),
        dropped=total[CTA_STATS_DROP],
        evicted=total[CTA_STATS_EARLY_DROP],
        insert_failed=total[CTA_STATS_INSERT_FAILED],
    )


THRESHOLD, CONFIG, STATISTICS = 4, 5, 7  # NDTA_THRESH3, NDTA_CONFIG, NDTA_STATS
ENTRIES = struct.Struct("=xxxxI")  # in struct ndt_config
REFUSED = struct.Struct("=80xQ")  # in struct ndt_stats: ndts_table_fulls
NEIGHBOURS_NEARLY_FULL = 0.75


@dataclass(frozen=True, slots=True)
class NeighbourUse:
    """The use of one family's table."""

    family: str
    entries: int
    limit: int
    refused: int
    """How many new entries found no room since boot."""

    @property
    def is_nearly_full(self) -> bool:
        """Whether at least NEIGHBOURS_NEARLY_FULL of the table is used."""
        return self.entries >= self.limit * NEIGHBOURS_NEARLY_FULL

    @property
    def warning(self) -> str:
        """One line for people; empty if all is well."""
        if not self.is_nearly_full:
            return ""
        name = f"net.{self.family}.neigh.default.gc_thresh3"
        use = f"{self.entries} of {self.limit} entries, {self.refused} refused so far"
        return (
            f"the machine's table of {self.family} neighbours is nearly full ({use}): new ones will fail; raise {name}"
        )


def read_neighbour_uses() -> tuple[NeighbourUse, ...]:
    """Read the use of the machine's tables, less the permanent entries in named namespaces.

    Raises:
        HostError: The kernel refuses.
    """
    uses, permanent = _read(), _permanent()
    return tuple(replace(use, entries=max(0, use.entries - permanent[use.family])) for use in uses)


def read_warnings() -> tuple[str, ...]:
    """Return one line for people for each table that is nearly full; none if the kernel refuses."""
    try:
        if not any(use.warning for use in _read()):  # includes permanent entries, and is far cheaper
            return ()
        return tuple(use.warning for use in read_neighbour_uses() if use.warning)
    except HostError:
        return ()


def _read() -> tuple[NeighbourUse, ...]:
    with refusals_of("tables of neighbours"), Rtnetlink() as netlink:
        return tuple(_uses(netlink))


def _uses(netlink: Rtnetlink) -> Iterator[NeighbourUse]:
    """Yield the tables among the messages; the others are about the settings of interfaces."""
    for (family, *_), found in netlink.neighbour_tables():
        if CONFIG in found and family in FAMILIES:
            (entries,), limit = ENTRIES.unpack_from(found[CONFIG]), int.from_bytes(found[THRESHOLD], sys.byteorder)
            (refused,) = REFUSED.unpack_from(found[STATISTICS])
            yield NeighbourUse(FAMILIES[family].value, entries, limit, refused)


def _permanent() -> Counter[str]:
    """Count the permanent entries in all named namespaces, by family. A namespace may end meanwhile."""
    found: Counter[str] = Counter()
    for name in netns.list_names():
        try:
            with netns.inside(name), Rtnetlink() as netlink:
                for (family, _, state, _, _), _ in netlink.neighbours():
                    if state & PERMANENT and family in FAMILIES:
                        found[FAMILIES[family].value] += 1
        except (HostError, OSError):
            continue
    return found
