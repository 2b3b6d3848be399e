"""What an interface has, beside what its ENI has: where they differ, packets are dropped, and people should know why.

Owns the wording. Must not know what is done about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniReport, Outcome
from sgdataplane.host.links import InterfaceAddress, Link, Links
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.net.values import Address, Prefix

LINK_LOCAL = Prefix.parse("fe80::/10")


@dataclass(frozen=True, slots=True)
class Interfaces:
    """Those of one namespace with their addresses: read once, for all that is asked of them."""

    links: tuple[Link, ...]
    addresses: frozenset[InterfaceAddress]

    @classmethod
    def read(cls, links: Links) -> Self:
        found = links.links()
        return cls(found, links.addresses(found))


def mac_difference(link: Link, eni: Eni) -> str:
    """In words; "" if there is none."""
    if link.mac == eni.mac_address:
        return ""
    return f"its MAC is {link.mac or 'none'}, the ENI's is {eni.mac_address}: the fence drops what it sends"


def _address_differences(addresses: Collection[Address], eni: Eni) -> Iterator[str]:
    """A line for each address that one has and the other hasn't."""
    found = sorted(address for address in addresses if address not in LINK_LOCAL)
    for address in found:
        if not any(address in own for own in eni.own_prefixes):
            yield f"{address} is on the interface, but not the ENI's: packets from and to it are dropped"
    for address in eni.addresses:
        if address not in found:
            yield f"{address} is the ENI's, but not on the interface"


def warnings_of(link: Link, there: Interfaces, eni: Eni) -> tuple[str, ...]:
    """Why packets may be dropped that no rule drops. `there`: what is in its namespace."""
    addresses = [entry.address for entry in there.addresses if entry.ifname == link.ifname]
    found = (mac_difference(link, eni), _whose_part(link, there), *_address_differences(addresses, eni))
    return tuple(line for line in found if line)


def _whose_part(link: Link, there: Interfaces) -> str:
    """In words; "" if it is its own."""
    master = next((other for other in there.links if other.index == link.master), None)
    if master is None:
        return ""
    words = f"it is a part of {master.ifname} ({master.kind}), which no ENI is bound to and which takes what comes in"
    return f"{words}: that passes nothing, but what a bridge hands on to other ports isn't judged"


def look(there: Interfaces, state: CloudState, binding: Binding) -> EniReport:
    """What a workload's interface is like, now that the state is in force for it. `there`: what is in its namespace."""
    link = next((link for link in there.links if link.ifname == binding.ifname), None)
    eni = state.eni.get(binding.eni_id)
    if eni is None or link is None:
        return EniReport(binding, Outcome.CLOSED if eni is None else Outcome.ABSENT)
    return EniReport(binding, Outcome.IN_FORCE, warnings_of(link, there, eni))


def names_up(links: Iterable[Link]) -> set[str]:
    """Of the interfaces that are up. One that is down passes nothing, and may well be nobody's: the kernel gives each
    namespace tunl0, gre0, sit0 and the like, where it has such modules loaded."""
    return {link.ifname for link in links if link.is_up}
