"""Flowtables of somebody else's, and which sessions they carry.

Owns the table's text, and the look at what the kernel says of it. Must not know what a test expects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sgdataplane.host import netns
from sgdataplane.host.conntrack import list_tracked
from tests.support.kernel.nft import nft

PORTS = (5000, 5009)  # whose sessions it takes over
TABLE = "theirs"


def carry(namespace: str, devices: Iterable[str], first: int = PORTS[0], last: int = PORTS[1]) -> None:
    """A table with a flowtable on these devices, to which it gives all sessions to these ports, and a counter of what
    is forwarded otherwise."""
    ports, known = f"{first}-{last}", "meta l4proto { tcp, udp }"
    nft(
        namespace,
        f"add table inet {TABLE}",
        f"add flowtable inet {TABLE} f {{ hook ingress priority 0 ; devices = {{ {', '.join(devices)} }} ; }}",
        f"add counter inet {TABLE} forwarded",
        f"add chain inet {TABLE} forward {{ type filter hook forward priority 10 ; }}",
        f'add rule inet {TABLE} forward {known} counter name "forwarded"',
        f"add rule inet {TABLE} forward {known} th dport {ports} flow add @f",
        f"add rule inet {TABLE} forward {known} th sport {ports} flow add @f",
    )


def forwarded(namespace: str) -> int:
    """Packets of TCP and UDP that met the hook of what is forwarded."""
    found = re.search(r"packets (\d+)", nft(namespace, f"list counter inet {TABLE} forwarded"))
    assert found is not None
    return int(found[1])


def carried(namespace: str) -> set[int]:
    """The ports that sessions were opened to which a flowtable carries now."""
    with netns.inside(namespace):
        return {entry.original.port for entry in list_tracked() if entry.is_carried}
