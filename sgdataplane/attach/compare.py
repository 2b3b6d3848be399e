"""What an interface has, beside what its ENI has: where they differ, packets are dropped, and people should know why.

Owns the wording. Is given plain values. Must not know namespaces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sgdataplane.host.links import Link
from sgdataplane.model.state import Eni
from sgdataplane.net.values import Address, Prefix

LINK_LOCAL = Prefix.parse("fe80::/10")


def mac_difference(link: Link, eni: Eni) -> str:
    """In words; "" if there is none."""
    if link.mac == eni.mac_address:
        return ""
    return f"its MAC is {link.mac or 'none'}, the ENI's is {eni.mac_address}: the fence drops what it sends"


def address_differences(addresses: Collection[Address], eni: Eni) -> Iterator[str]:
    """A line for each address that one has and the other hasn't."""
    found = sorted(address for address in addresses if address not in LINK_LOCAL)
    for address in found:
        if not any(address in own for own in eni.own_prefixes):
            yield f"{address} is on the interface, but not the ENI's: packets from and to it are dropped"
    for address in eni.addresses:
        if address not in found:
            yield f"{address} is the ENI's, but not on the interface"
