"""Renew the policy's stamp: its table is still what the stamp says, at another generation of the namespace.

Owns the transaction that says so. It must not know why somebody commits.
"""

from __future__ import annotations

from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.stamp import GENERATION_KEY, STAMP_MAP, next_generation
from sgdataplane.contract.tables import TABLE
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.nft import uapi
from sgdataplane.nft.ir import Map
from sgdataplane.nft.snapshot import read_stamp
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb


def restamp(generation: int) -> Transaction:
    """Return the transaction by which the policy's stamp is valid at this generation."""
    stamp = Map(STAMP_MAP, KeyType.MARK, ((GENERATION_KEY, generation),), holds=KeyType.MARK)
    return Transaction(TABLE, tuple(Operation(verb, Kind.ELEMENTS, stamp) for verb in (Verb.DELETE, Verb.ADD)))


def keep_stamp(netlink: Nfnetlink, generation: int) -> Transaction:
    """Return what keeps the stamp valid over one commit that doesn't touch the policy's table.

    It is empty if the stamp isn't valid at this generation, since somebody else has committed, or there is no such
    table.

    Raises:
        OSError: The kernel refuses.
    """
    stamp = read_stamp(netlink, TABLE, uapi.FAMILIES["inet"])
    is_valid = stamp is not None and stamp.generation == generation
    return restamp(next_generation(generation)) if is_valid else Transaction(TABLE)
