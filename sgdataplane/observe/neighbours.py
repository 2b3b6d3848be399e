"""How full the machine's tables of neighbours are, one a family for all namespaces, and lines about it for people.

Owns the shape of these messages (linux/neighbour.h). Must not know policy, or who asks.

Once a table has `gc_thresh3` entries that the kernel found out by itself, it refuses new ones: packets to whoever would
be new fail at their sender or router, and none of our counters has them. Permanent entries, as routers and labs have
them, aren't counted by that limit; but the kernel only tells how many there are in all, so those of named namespaces
are taken off.
"""

from __future__ import annotations

import os
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.links import FAMILIES
from sgdataplane.host.neighbours import PERMANENT
from sgdataplane.host.rtnetlink import Rtnetlink

THRESHOLD, CONFIG, STATISTICS = 4, 5, 7  # NDTA_THRESH3, NDTA_CONFIG, NDTA_STATS
ENTRIES = struct.Struct("=xxxxI")  # in struct ndt_config
REFUSED = struct.Struct("=80xQ")  # in struct ndt_stats: ndts_table_fulls
NEARLY_FULL = 0.75


@dataclass(frozen=True, slots=True)
class NeighbourUse:
    """Of one family: `entries` of at most `limit`. `refused`: how many new ones found no room, since the machine was
    started."""

    family: str
    entries: int
    limit: int
    refused: int

    @property
    def is_nearly_full(self) -> bool:
        return self.entries >= self.limit * NEARLY_FULL

    @property
    def complaint(self) -> str:
        """What somebody should know, in one line; "" if all is well."""
        if not self.is_nearly_full:
            return ""
        name = f"net.{self.family}.neigh.default.gc_thresh3"
        use = f"{self.entries} of {self.limit} entries, {self.refused} refused so far"
        return (
            f"the machine's table of {self.family} neighbours is nearly full ({use}): then new ones fail; raise {name}"
        )


def read_neighbour_uses() -> tuple[NeighbourUse, ...]:
    """Of the machine, less what is permanent in namespaces that have a name. HostError if the kernel refuses."""
    uses, told = _read(), _permanent()
    return tuple(replace(use, entries=max(0, use.entries - told[use.family])) for use in uses)


def read_complaints() -> tuple[str, ...]:
    """What somebody should know, in a line each; nothing where the kernel refuses."""
    try:
        if not any(use.complaint for use in _read()):  # permanent ones included: far cheaper to read
            return ()
        return tuple(use.complaint for use in read_neighbour_uses() if use.complaint)
    except HostError:
        return ()


def _read() -> tuple[NeighbourUse, ...]:
    try:
        with Rtnetlink() as door:
            return tuple(_uses(door))
    except OSError as error:
        raise HostError("tables of neighbours", os.strerror(error.errno or 0)) from error


def _uses(door: Rtnetlink) -> Iterator[NeighbourUse]:
    """Other messages are about the settings of interfaces."""
    for (family, *_), found in door.neighbour_tables():
        if CONFIG in found and family in FAMILIES:
            (entries,), limit = ENTRIES.unpack_from(found[CONFIG]), int.from_bytes(found[THRESHOLD], sys.byteorder)
            (refused,) = REFUSED.unpack_from(found[STATISTICS])
            yield NeighbourUse(FAMILIES[family].value, entries, limit, refused)


def _permanent() -> Counter[str]:
    """By family, in all namespaces that have a name. One may end meanwhile."""
    found: Counter[str] = Counter()
    for name in netns.list_names():
        try:
            with netns.inside(name), Rtnetlink() as door:
                for (family, _, state, _, _), _ in door.neighbours():
                    if state & PERMANENT and family in FAMILIES:
                        found[FAMILIES[family].value] += 1
        except (HostError, OSError):
            continue
    return found
