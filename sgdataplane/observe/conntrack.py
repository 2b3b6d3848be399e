"""How full the conntrack table of a namespace is, and what the kernel did when it was: counts, and lines for people and
for logs.

Owns the shape of these ctnetlink messages (linux/netfilter/nfnetlink_conntrack.h). Is asked in a namespace.
Must not know policy, or who asks.

A new session that finds the table full is refused by the kernel before any of our hooks sees it, so that none of our
counters counts it; those that are in the table go on. The limit is the machine's, and holds for each namespace.
"""

from __future__ import annotations

import enum
import logging
import os
from collections import Counter
from dataclasses import asdict, dataclass

from sgdataplane.errors import HostError
from sgdataplane.host.modules import is_tracking
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind

CTNETLINK, CT_GET_STATS_CPU, CT_GET_STATS = 1, 4, 5  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
CTA_STATS_INSERT_FAILED, CTA_STATS_DROP, CTA_STATS_EARLY_DROP = 9, 10, 11
CTA_STATS_GLOBAL_ENTRIES, CTA_STATS_GLOBAL_MAX_ENTRIES = 1, 2
NEARLY_FULL = 0.9
LOGGER = "sgdataplane.conntrack"


class Condition(enum.Enum):
    """How a table is, as log lines name it. HAS_BEEN_FULL: there is room, but not for all that asked for it so far."""

    OK = "ok"
    HAS_BEEN_FULL = "has-been-full"
    NEARLY_FULL = "nearly-full"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class TableUse:
    """`entries` of at most `limit` (0: no limit). Since the namespace was made: `dropped` packets found no room for
    their session, or could not be tracked; `evicted` sessions without an answer made room for others; `insert_failed`
    lost a race to an equal session or were refused afterwards."""

    entries: int
    limit: int
    dropped: int
    evicted: int
    insert_failed: int

    @property
    def is_full(self) -> bool:
        return 0 < self.limit <= self.entries

    @property
    def is_nearly_full(self) -> bool:
        return 0 < self.limit * NEARLY_FULL <= self.entries

    @property
    def condition(self) -> Condition:
        if self.is_full:
            return Condition.FULL
        if self.is_nearly_full:
            return Condition.NEARLY_FULL
        return Condition.HAS_BEEN_FULL if self.dropped or self.evicted else Condition.OK

    @property
    def complaint(self) -> str:
        """What somebody should know, in one line; "" if all is well."""
        use = f"{self.entries} of {self.limit} sessions"
        so_far = f"{self.dropped} packets dropped, {self.evicted} unanswered sessions evicted so far"
        return {
            Condition.FULL: f"the conntrack table is full ({use}): new sessions are refused; {so_far}",
            Condition.NEARLY_FULL: f"the conntrack table is nearly full ({use}); {so_far}",
            Condition.HAS_BEEN_FULL: f"the conntrack table has been full (now {use}): {so_far}",
            Condition.OK: "",
        }[self.condition]

    def as_json(self) -> dict[str, int]:
        """The numbers by name."""
        return asdict(self)


class UseLog:
    """Logs how tables are: a line each time that the condition of one is another than when it was last told of. At
    first it is OK, which is no line."""

    def __init__(self) -> None:
        self._known: dict[str, Condition] = {}

    def note(self, where: str, use: TableUse) -> None:
        """`where` names the table to the reader. The record's `sentence` says the same to a person."""
        former = self._known.get(where, Condition.OK)
        self._known[where] = use.condition
        if use.condition is former:
            return
        level = logging.INFO if use.condition is Condition.OK else logging.WARNING
        numbers = " ".join(f"{name}={number}" for name, number in use.as_json().items())
        sentence = f"{where}: {use.complaint or 'the conntrack table has room'}"
        line = f"conntrack-table where={where} condition={use.condition.value} {numbers}"
        logging.getLogger(LOGGER).log(level, line, extra={"sentence": sentence})


def read_table_use() -> TableUse:
    """Of the calling thread's namespace; of no table, where the kernel tracks nothing yet. HostError if it refuses."""
    with Nfnetlink() as door:
        if not is_tracking(door):
            return TableUse(entries=0, limit=0, dropped=0, evicted=0, insert_failed=0)
        try:
            size = door.ask(message_kind(CTNETLINK, CT_GET_STATS))
            by_cpu = door.dump(message_kind(CTNETLINK, CT_GET_STATS_CPU))
        except OSError as error:
            raise HostError("conntrack statistics", os.strerror(error.errno or 0)) from error
    total: Counter[int] = Counter()
    for _, found in by_cpu:
        total.update({kind: _number(value) for kind, value in found.items()})
    return TableUse(
        entries=_number(size[CTA_STATS_GLOBAL_ENTRIES]),
        limit=_number(size.get(CTA_STATS_GLOBAL_MAX_ENTRIES, b"")),
        dropped=total[CTA_STATS_DROP],
        evicted=total[CTA_STATS_EARLY_DROP],
        insert_failed=total[CTA_STATS_INSERT_FAILED],
    )


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")
