"""Say where a table stands: its hooks, which interface is the ENI's at each of them, and the layout of marks.

Owns all that differs between the two placements, as data. It must not know chains.

    placement   side      hook         priority   the ENI's interface   sees
    instance    ingress   prerouting      -150    came by               after conntrack (-200), before DNAT
                egress    postrouting      150    leaves by             after SNAT (100), as on the wire
    host        egress    prerouting      -150    came by               what the instance sent, as it sent it
                ingress   postrouting      150    leaves by             what the instance is about to get
                          input            150    came by               what the router itself gets (timeouts.py)
                          output           150    leaves by             what the router itself sends (verdicts.py)

Host placement uses prerouting and postrouting too, and not forward. So the same chains judge what the router forwards,
what it receives from an instance itself, and what it sends to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sgdataplane.contract.fields import Field, Hook
from sgdataplane.contract.marks import MarkLayout
from sgdataplane.model.options import Placement
from sgdataplane.net.values import Direction, Family
from sgdataplane.policy.dimensions import LOCAL, PORT, PROTOCOL, REMOTE, SOURCE_PORT, Dimension

ARRIVING, LEAVING = Hook("prerouting", -150), Hook("postrouting", 150)
DELIVERY, ORIGIN = Hook("input", 150), Hook("output", 150)
FENCE_PRIORITY = 0  # the priority of the fence's hooks, which are of the netdev family
FIELDS = {ARRIVING: Field.IIFNAME, LEAVING: Field.OIFNAME}


@dataclass(frozen=True, slots=True)
class SessionEnds:
    """The fields of a session's conntrack entry that hold its opening packet's ends."""

    source: Mapping[Family, Field]
    destination: Mapping[Family, Field]
    others: Mapping[Dimension, Mapping[Family, Field]]
    """The fields of whatever else rules ask for."""


def _both(field: Field) -> Mapping[Family, Field]:
    """Return the same field for both families."""
    return dict.fromkeys(Family, field)


# These fields hold the opening packet as it came in, before the namespace translated any address.
AS_IT_CAME = SessionEnds(
    {Family.IPV4: Field.CT_ORIGINAL_IP_SADDR, Family.IPV6: Field.CT_ORIGINAL_IP6_SADDR},
    {Family.IPV4: Field.CT_ORIGINAL_IP_DADDR, Family.IPV6: Field.CT_ORIGINAL_IP6_DADDR},
    {
        PROTOCOL: _both(Field.CT_PROTOCOL),
        SOURCE_PORT: _both(Field.CT_ORIGINAL_SPORT),
        PORT: _both(Field.CT_ORIGINAL_DPORT),
    },
)
# These fields hold the opening packet as it left, after that: they are the reply that the entry expects, turned round.
AS_IT_LEFT = SessionEnds(
    {Family.IPV4: Field.CT_REPLY_IP_DADDR, Family.IPV6: Field.CT_REPLY_IP6_DADDR},
    {Family.IPV4: Field.CT_REPLY_IP_SADDR, Family.IPV6: Field.CT_REPLY_IP6_SADDR},
    {
        PROTOCOL: _both(Field.CT_PROTOCOL),
        SOURCE_PORT: _both(Field.CT_REPLY_DPORT),
        PORT: _both(Field.CT_REPLY_SPORT),
    },
)


@dataclass(frozen=True)
class Site:
    """One placement."""

    placement: Placement
    hooks: Mapping[Direction, Hook]
    """The hook at which each side's packets are judged."""
    marks: MarkLayout
    """The layout of the mark.

    It fits the largest instance types, which take 32 ENIs, or a host with a thousand ENIs of one VPC.
    """
    delivery: Hook | None = None
    """The hook that sets timeouts for sessions with the namespace itself, if not the one they arrive at."""
    origin: Hook | None = None
    """The hook that tells what the namespace itself sends from what others put into its stack, if there is one."""

    def interface(self, side: Direction) -> Field:
        """Return the field that tells which ENI a packet belongs to, at that side's hook."""
        return FIELDS[self.hooks[side]]

    def ends(self, side: Direction) -> SessionEnds:
        """Return the fields with the ends of sessions that this side judges.

        They hold the opening packet on the wire as the side's hook sees it.
        """
        return AS_IT_LEFT if self.is_leaving(side) else AS_IT_CAME

    def far(self, side: Direction, family: Family) -> Field:
        """Return the field with the address of such a session that isn't the ENI's."""
        return self.field(REMOTE, side, family)

    def field(self, dimension: Dimension, side: Direction, family: Family) -> Field:
        """Return the field of such a session that a rule asks for."""
        ends = self.ends(side)
        if dimension in (REMOTE, LOCAL):
            is_source = (dimension is REMOTE) is (side is Direction.INGRESS)
            return (ends.source if is_source else ends.destination)[family]
        return ends.others[dimension][family]

    def is_leaving(self, side: Direction) -> bool:
        """Return whether packets leave at that side's hook.

        There the outgoing interface is known, and the incoming one, if the packet came by any.
        """
        return self.hooks[side] == LEAVING


INSTANCE = Site(
    Placement.INSTANCE, {Direction.INGRESS: ARRIVING, Direction.EGRESS: LEAVING}, MarkLayout(6, max_links=32)
)
HOST = Site(
    Placement.HOST,
    {Direction.EGRESS: ARRIVING, Direction.INGRESS: LEAVING},
    MarkLayout(11, max_links=1500, is_spread=True),
    DELIVERY,
    ORIGIN,
)
SITES = {site.placement: site for site in (INSTANCE, HOST)}
