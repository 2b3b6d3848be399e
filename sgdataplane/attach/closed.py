"""ENIs that the state doesn't have, as ENIs to which nothing belongs: their interfaces pass nothing (but, inwards, what
always passes: neighbour discovery, MLD, a DHCP answer of the gateway).

Owns that stand-in. Must not know namespaces.

An interface that no policy knows passes no IP packet anyway. But the fence, which keeps in what is sent through packet
sockets, stands at ENIs' interfaces; so such an interface gets an ENI without addresses, with a MAC that no frame has,
in a group that accepts nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sgdataplane.model.state import CloudState, Eni, GroupType, SecurityGroup
from sgdataplane.net.values import Verdict

NO_MAC = "00:00:00:00:00:00"
NO_GROUP = SecurityGroup("(none)", "", GroupType.ENTERPRISE, Verdict.DROP)  # no id of a state has brackets


def with_closed(state: CloudState, eni_ids: Collection[str]) -> CloudState:
    """The state, with a stand-in for each of these that it hasn't."""
    missing = sorted(set(eni_ids) - state.eni.keys())
    if not missing:
        return state
    stand_ins = tuple(Eni(eni_id, "", NO_MAC, (), (NO_GROUP.security_group_id,)) for eni_id in missing)
    enis = sorted((*state.network_interfaces, *stand_ins), key=lambda eni: eni.network_interface_id)
    return replace(state, security_groups=(NO_GROUP, *state.security_groups), network_interfaces=tuple(enis))
