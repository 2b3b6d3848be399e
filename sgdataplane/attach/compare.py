"""The comparison of a bound interface with its ENI, and the stand-in for an ENI whose policy the state doesn't have.

Owns the wording of the differences through which packets are dropped, and the stand-in. Must not know namespaces, or
what is done about it.

An interface that no policy knows passes no IP packet. But the fence, which stops what is sent through packet sockets,
is attached to ENIs' interfaces only. So the interface gets an ENI without addresses, with a MAC that no frame has, in a
group that accepts nothing. Only what always passes still comes in: neighbour discovery, MLD, and DHCP answers of the
gateway.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport
from sgdataplane.host.linkentry import Link
from sgdataplane.host.links import InterfaceAddress, Links
from sgdataplane.model.naming import list_ids, look_up, names_of_enis
from sgdataplane.model.state import CloudState, Eni, GroupType, SecurityGroup
from sgdataplane.net.values import Address, Prefix, Verdict

LINK_LOCAL = Prefix.parse("fe80::/10")


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The interfaces of one namespace and their addresses, read once for all questions."""

    links: tuple[Link, ...]
    addresses: frozenset[InterfaceAddress]

    @classmethod
    def read(cls, links: Links) -> Self:
        """Read the interfaces of the namespace that `links` is in."""
        found = links.links()
        return cls(found, links.addresses(found))


def mac_difference(link: Link, eni: Eni) -> str:
    """Return how the interface's MAC differs from the ENI's, in words; "" if it doesn't."""
    if link.mac == eni.mac_address:
        return ""
    return f"its MAC is {link.mac or 'none'}, the ENI's is {eni.mac_address}: the fence drops what it sends"


def _address_differences(addresses: Collection[Address], eni: Eni) -> Iterator[str]:
    """Yield a line for each address that only one of the two has."""
    found = sorted(address for address in addresses if address not in LINK_LOCAL)
    for address in found:
        if not any(address in own for own in eni.own_prefixes):
            yield f"{address} is on the interface, but not the ENI's: packets from and to it are dropped"
    for address in eni.addresses:
        if address not in found:
            yield f"{address} is the ENI's, but not on the interface"


def warnings_of(link: Link, there: Interfaces, eni: Eni, *, is_judged_there: bool = True) -> tuple[str, ...]:
    """Return why packets may be dropped that no rule drops.

    `there` is what the interface's namespace has; `is_judged_there` is whether the policy is or may be enforced in it.
    """
    addresses = [entry.address for entry in there.addresses if entry.ifname == link.ifname]
    master = _master_of(link, there) if is_judged_there else ""
    found = (mac_difference(link, eni), master, *_address_differences(addresses, eni))
    return tuple(line for line in found if line)


def _master_of(link: Link, there: Interfaces) -> str:
    """Return a warning if the interface is part of another one; else ""."""
    master = next((other for other in there.links if other.index == link.master), None)
    if master is None:
        return ""
    name = master.ifname
    return (
        f"it is a port of {name} ({master.kind}), which takes its packets. In instance placement, what comes in at "
        f"{name} is dropped unless {name} has an ENI of its own, and what a bridge forwards to its other ports isn't "
        "judged"
    )


def look(there: Interfaces, state: CloudState, binding: Binding) -> EniReport:
    """Report on a workload's interface, now that the state is in force for it.

    `there` is what the interface's namespace has.
    """
    link = next((link for link in there.links if link.ifname == binding.ifname), None)
    eni = find_known_eni(state, binding.eni_id)
    if eni is None:
        return EniReport(binding, EniOutcome.CLOSED, _guess_eni(state, binding.eni_id))
    if link is None:
        return absent(there.links, eni, binding)
    warnings = warnings_of(link, there, eni, is_judged_there=binding.host_end is None)
    outcome = EniOutcome.MISADDRESSED if _is_misaddressed(link, there, eni) else choose_obeying_outcome(eni)
    return EniReport(binding, outcome, warnings)


def choose_obeying_outcome(eni: Eni) -> EniOutcome:
    """Return the outcome of an ENI whose interface obeys its policy."""
    return EniOutcome.AUDITING if eni.is_audited else EniOutcome.IN_FORCE


def _is_misaddressed(link: Link, there: Interfaces, eni: Eni) -> bool:
    """Whether the interface has addresses of a family of the ENI's, and none of them is the ENI's.

    An interface without any address may lead to a guest that has the ENI's.
    """
    found = [
        entry.address for entry in there.addresses if entry.ifname == link.ifname and entry.address not in LINK_LOCAL
    ]
    for family in {address.family for address in eni.addresses}:
        mine = [address for address in found if address.family is family]
        if mine and not any(address in own for address in mine for own in eni.own_prefixes):
            return True
    return False


def _guess_eni(state: CloudState, eni_id: str) -> tuple[str, ...]:
    """Return a warning if that isn't an ENI's id, but an instance's id or name. Else it is empty.

    This happens if it was attached before the state was known.
    """
    real = {eni: names for eni, names in names_of_enis(state).items() if eni != eni_id}
    meant = look_up(eni_id, real).ids
    undo = f"`sgdp detach --eni {eni_id}`, then attach that"
    return (f"{eni_id} is an instance's name or id, and its ENI is {list_ids(meant)}: {undo}",) if meant else ()


def absent(links: Iterable[Link], eni: Eni | None, binding: Binding) -> EniReport:
    """Report on an interface that isn't there. If another one has its MAC, it was probably renamed."""
    heirs = [link.ifname for link in links if eni is not None and link.mac == eni.mac_address]
    renamed = (
        f"{', '.join(heirs)} has the MAC of {binding.eni_id}; if that is the interface under another name, rename it "
        "back, or detach the ENI and attach it there"
    )
    return EniReport(binding, EniOutcome.ABSENT, (renamed,) if heirs else ())


def names_up(links: Iterable[Link]) -> set[str]:
    """Return the names of the interfaces that are up.

    One that is down passes nothing. It may be one of tunl0, gre0, sit0 and the like, which the kernel adds to each
    namespace if such modules are loaded.
    """
    return {link.ifname for link in links if link.is_up}


NO_MAC = "00:00:00:00:00:00"
NO_GROUP = SecurityGroup("(none)", "", GroupType.ENTERPRISE, Verdict.DROP)  # no id of a state has brackets


def with_closed(state: CloudState, eni_ids: Collection[str]) -> CloudState:
    """Return the state with a stand-in for each of these ENIs whose policy it doesn't have.

    An ENI that is only a member stays a member, under another id, because another host may have an ENI with its
    address.
    """
    missing = {eni_id for eni_id in eni_ids if not _has_policy(state.eni.get(eni_id))}
    if not missing:
        return state
    stand_ins = (Eni(eni_id, "", NO_MAC, (), (NO_GROUP.security_group_id,)) for eni_id in missing)
    known = (_beside(eni) if eni.network_interface_id in missing else eni for eni in state.network_interfaces)
    enis = sorted((*known, *stand_ins), key=lambda eni: eni.network_interface_id)
    return replace(state, security_groups=(NO_GROUP, *state.security_groups), network_interfaces=tuple(enis))


def _beside(member: Eni) -> Eni:
    return replace(member, network_interface_id=f"({member.network_interface_id})")  # no id of a state has brackets


def _has_policy(eni: Eni | None) -> bool:
    return eni is not None and not eni.member_only


def find_known_eni(state: CloudState, eni_id: str) -> Eni | None:
    """Return the ENI; None if the state doesn't have its policy, or only a stand-in for it."""
    eni = state.eni.get(eni_id)
    return None if eni is None or eni.member_only or eni.security_group_ids == (NO_GROUP.security_group_id,) else eni
