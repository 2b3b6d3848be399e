"""Recognize a table of ours by its stamp, and by the interfaces that it knows.

Owns which parts of a table that takes. It must not know kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.stamp import STAMP_MAP, Stamp
from sgdataplane.nft.ir import Table


def stamp_of(table: Table) -> Stamp:
    """Return the stamp of a compiled table.

    Raises:
        KeyError: There is no map for it.
        ValueError: It isn't whole.
    """
    stamp = Stamp.of(table.elements_of(STAMP_MAP))
    if stamp is None:
        raise ValueError(f"table {table.name} has no whole stamp")
    return stamp


@dataclass(frozen=True, slots=True)
class Outline:
    """As much of a table as is needed to recognize it in the kernel."""

    name: str
    family: str
    digest: str
    """The digest in its stamp."""
    ifnames: frozenset[str]
    """The keys of maps by interface whose elements stay, as in Inventory."""
    expiring: tuple[str, ...]
    """The names of maps by interface whose elements expire, as in Inventory."""
    table: Callable[[], Table]
    """Returns the whole table, if somebody asks."""

    @classmethod
    def of(cls, table: Table) -> Outline:
        """Make the outline of a table.

        Raises:
            KeyError: It has no map for the stamp.
            ValueError: The stamp isn't whole.
        """
        by_ifname = [entry for entry in table.maps if entry.key_type is KeyType.IFNAME]
        staying = (str(key) for entry in by_ifname if not entry.lifetime for key, _ in entry.elements)
        expiring = tuple(entry.name for entry in by_ifname if entry.lifetime)
        return cls(table.name, table.family, stamp_of(table).digest, frozenset(staying), expiring, lambda: table)
