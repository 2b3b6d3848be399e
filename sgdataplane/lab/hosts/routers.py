"""The links between routers of a VPC on several hosts, in host placement.

Each router has an uplink, and routes to ENIs elsewhere.

Owns what an operator of such hosts does: the agent makes a router and puts host ends into it, but no uplink and no
route to other hosts. Must not know policy.

A router exists once the agent has enforced a policy in it; until then, there is nothing to join.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sgdataplane.host.links import RTPROT_STATIC, InterfaceAddress, Links, Route, sync
from sgdataplane.lab.hosts import wires
from sgdataplane.lab.hosts.guests import Guest
from sgdataplane.lab.hosts.sandbox import HostNamespace
from sgdataplane.lab.hosts.wires import UPLINK
from sgdataplane.lab.topology import LENGTHS, host_addresses
from sgdataplane.net.values import Prefix


def join_all(fabric: HostNamespace, guests: Iterable[Guest]) -> None:
    """Join the routers that exist on these workloads' hosts, and route each workload's addresses to its host.

    Only what differs is changed.

    Raises:
        HostError: The kernel refuses.
    """
    found = [guest for guest in guests if guest.host.placement.is_outside]
    here = {(guest.vpc_id, guest.host.number): guest for guest in found if Path(guest.router).exists()}
    for guest in here.values():
        away = (one for one in found if one.vpc_id == guest.vpc_id and one.host.number != guest.host.number)
        _join(fabric, guest, frozenset(route for one in away for route in _routes_to(one)))


def _join(fabric: HostNamespace, guest: Guest, wanted: frozenset[Route]) -> None:
    """Give a router its uplink, if it has none, and exactly these routes."""
    with Links(guest.router, RTPROT_STATIC) as links:
        if links.link(UPLINK) is None:
            number = guest.host.number
            wires.add_port(fabric, guest.segment, f"h{number}v{guest.segment}", guest.router, UPLINK)
            for family, address in host_addresses(number).items():
                links.add_address(InterfaceAddress(UPLINK, address, LENGTHS[family]))
            links.set_up(UPLINK)
        sync(links.routes(), wanted, links.add_route, links.delete_route)


def _routes_to(guest: Guest) -> Iterable[Route]:
    """Return the routes to a workload, by way of its host's router."""
    at = host_addresses(guest.host.number)
    return (Route(UPLINK, Prefix.of(address), at[address.family]) for address in guest.plug.addresses)
