"""Marks on what comes to a host outside, so that it answers by the VPC that asked, even where two use one address.

Owns the one small table in the namespaces of hosts outside of several VPCs. Must not be used where policy is enforced.
The mark is copied to the kernel's own replies and to accepted TCP connections (fwmark_reflect, tcp_fwmark_accept), and
routing rules choose the interface by it (topology.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from sgdataplane.contract.fields import Field, Hook
from sgdataplane.lab.topology import FIRST_MARK
from sgdataplane.nft.ir import Chain, Match, Range, SetPacketMark, Table, rule
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

TABLE = Table("sgdp_lab")


def mark_arrivals(netns: str, ifnames: Sequence[str]) -> None:
    """Mark what comes in by the k-th of these interfaces with FIRST_MARK + k. KernelError if refused."""
    rules = (
        rule(Match(Field.IIFNAME, (Range.of(ifname),)), SetPacketMark(FIRST_MARK + index))
        for index, ifname in enumerate(ifnames)
    )
    chain = Chain("arrive", tuple(rules), Hook("prerouting", -300))
    anew = [Operation(verb, Kind.TABLE, TABLE) for verb in (Verb.ADD, Verb.DELETE, Verb.ADD)]
    filled = [Operation(Verb.ADD, kind, chain) for kind in (Kind.CHAIN, Kind.RULES)]
    with NetlinkKernel(netns) as kernel:
        kernel.run(Transaction.of(TABLE, [*anew, *filled]))
