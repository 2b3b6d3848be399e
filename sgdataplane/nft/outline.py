"""How a table of ours is recognized: by its stamp, and by the interfaces that it knows.

Owns what of a table that takes. Must not know kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.stamp import STAMP_MAP, Stamp
from sgdataplane.nft.ir import Table


def stamp_of(table: Table) -> Stamp:
    """The stamp of a compiled table. KeyError or ValueError if it has none."""
    stamp = Stamp.of(table.elements_of(STAMP_MAP))
    if stamp is None:
        raise ValueError(f"table {table.name} has no whole stamp")
    return stamp


@dataclass(frozen=True, slots=True)
class Outline:
    """As much of a table as is needed to recognize it in the kernel. `ifnames`, `expiring`: as in Inventory. `table`:
    all of it, if somebody asks."""

    name: str
    family: str
    digest: str
    ifnames: frozenset[str]
    expiring: tuple[str, ...]
    table: Callable[[], Table]

    @classmethod
    def of(cls, table: Table) -> Outline:
        """KeyError or ValueError if it has no stamp."""
        by_ifname = [entry for entry in table.maps if entry.key_type is KeyType.IFNAME]
        staying = (str(key) for entry in by_ifname if not entry.lifetime for key, _ in entry.elements)
        expiring = tuple(entry.name for entry in by_ifname if entry.lifetime)
        return cls(table.name, table.family, stamp_of(table).digest, frozenset(staying), expiring, lambda: table)
