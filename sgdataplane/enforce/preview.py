"""The rules that would be put in force, without a host to put them in force on.

Owns which namespaces a state gives rules to, and what is random in force and fixed here. Must not know who shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sgdataplane.compiler.arp import compile_arp
from sgdataplane.compiler.compile import with_epoch
from sgdataplane.compiler.fence import PLACEHOLDER
from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.enforce.fence import fence_of
from sgdataplane.enforce.proven import Proven
from sgdataplane.host.routing import router_ifname
from sgdataplane.model.naming import eni_of
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState, Eni
from sgdataplane.nft.ir import Table
from sgdataplane.nft.text import render_table as nft_text
from sgdataplane.policy.resolve import interfaces_of


def tables(proven: Proven) -> tuple[Table, ...]:
    """Return the tables of policy and fence, and the one that marks a router's ARP.

    The secret mark is random where a policy is put in force. Here it is fixed, so that the same state gives the same
    bytes.
    """
    desired = proven.desired
    named = [uplink for uplink in desired.uplinks if not uplink.endswith("*")]  # no other interfaces are known here
    fence = fence_of(desired, tuple(desired.interfaces.values()), PLACEHOLDER, named)
    beside = (fence, compile_arp(PLACEHOLDER)) if desired.placement.is_outside else (fence,)
    return with_epoch(proven.table, FIRST_EPOCH, PLACEHOLDER), *beside


@dataclass(frozen=True, slots=True)
class NamespaceRules:
    """A namespace that gets rules."""

    name: str  # a name for a file
    title: str  # a title for people
    interfaces: Mapping[str, str]  # ENI id -> interface name there


def namespaces(state: CloudState, eni: str | None, placement: Placement) -> list[NamespaceRules]:
    """Return all namespaces; only that of `eni` if given.

    In host placement these are routers, on a host that has all ENIs of the state.
    """
    owners = state.judged_enis if eni is None else (state.eni[eni_of(state, eni)],)
    around = _around_router if placement.is_outside else _around_instance
    done, found = set[str](), list[NamespaceRules]()
    for owner in owners:
        if owner.network_interface_id not in done:
            found.append(around(state, owner))
            done.update(found[-1].interfaces)
    return found


def _around_instance(state: CloudState, eni: Eni) -> NamespaceRules:
    title = f"instance {eni.instance_id or '(none)'}"
    return _rules_of(eni.instance_id or eni.network_interface_id, title, interfaces_of(state, eni))


def _around_router(state: CloudState, eni: Eni) -> NamespaceRules:
    ids = [other.network_interface_id for other in state.judged_enis if other.vpc_id == eni.vpc_id]
    return _rules_of(eni.vpc_id, f"router of {eni.vpc_id}", {eni_id: router_ifname(eni_id) for eni_id in ids})


def _rules_of(name: str, title: str, interfaces: Mapping[str, str]) -> NamespaceRules:
    links = ", ".join(f"{ifname} = {eni}" for eni, ifname in interfaces.items())
    return NamespaceRules(name, f"{title}: {links}", interfaces)


def as_text(tables: Iterable[Table]) -> str:
    """Return the text that `nft -f` loads."""
    return "".join(map(nft_text, tables))
