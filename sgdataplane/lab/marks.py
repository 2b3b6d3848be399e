"""Marks on what comes to a host outside, so that it answers by the VPC that asked, even where two use one address.

Owns the one small table in the namespaces of hosts outside of several VPCs. Must not be used where policy is enforced.
The mark is copied to the kernel's own replies and to accepted TCP connections (fwmark_reflect, tcp_fwmark_accept), and
routing rules choose the interface by it (topology.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sgdataplane.lab.topology import FIRST_MARK
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import LibnftKernel
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

TABLE = "sgdp_lab"


@dataclass(frozen=True)
class MarkArrivals(Transaction):
    """Replaces the table: `meta mark` is no business of the product's, so it has no place in its ruleset's types."""

    ifnames: tuple[str, ...] = ()

    def lines(self) -> Iterator[tuple[str, Operation]]:
        table = f"inet {self.name}"
        rules = (
            f'add rule {table} arrive iifname "{ifname}" meta mark set {FIRST_MARK + index:#x}'
            for index, ifname in enumerate(self.ifnames)
        )
        operation = Operation(Verb.ADD, Kind.TABLE, Table(self.name))
        for line in (
            f"add table {table}",
            f"delete table {table}",
            f"add table {table}",
            f"add chain {table} arrive {{ type filter hook prerouting priority -300; }}",
            *rules,
        ):
            yield line, operation


def mark_arrivals(netns: str, ifnames: Sequence[str]) -> None:
    """Mark what comes in by the k-th of these interfaces with FIRST_MARK + k. KernelError if refused."""
    with LibnftKernel(netns) as kernel:
        kernel.run(MarkArrivals(TABLE, ifnames=tuple(ifnames)))
