"""Compile the table that marks the ARP packets of a router's own kernel, so that its fence lets them leave.

Owns its one chain. It is given the secret. It must not know who asks. ARP passes no hook of the policy. Only what the
kernel sends in this namespace passes this hook: neither packet sockets nor devices of other namespaces do.
"""

from __future__ import annotations

from sgdataplane.contract.fields import Hook
from sgdataplane.contract.sites import FENCE_PRIORITY
from sgdataplane.contract.tables import ARP, TABLE
from sgdataplane.nft.ir import ACCEPT, Chain, SetPacketMark, Table, rule


def compile_arp(secret: int) -> Table:
    """Return the table that marks a router's own ARP packets with the secret.

    It has no stamp: the stamp of the policy's table vouches for it.
    """
    marking = rule(SetPacketMark(secret), ACCEPT)
    return Table(TABLE, (Chain("output", (marking,), Hook("output", FENCE_PRIORITY)),), family=ARP)
