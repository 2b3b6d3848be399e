"""Which traffic of an ENI its rules judge at all: the rest is refused or passes whatever they say.

Owns the addresses that matter. Is given an ENI. Must not know rules. As `decide()` says before it asks any rule; what
it tells by ports or ICMP types (DHCP, discovery), by MAC or by TCP flags is not left out here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sgdataplane.analyse.order import LOCAL_AT
from sgdataplane.analyse.regions import WHOLE, Block, Region, addresses
from sgdataplane.analyse.rows import Row, at
from sgdataplane.model import always
from sgdataplane.model.options import Options
from sgdataplane.model.state import Eni
from sgdataplane.net.ranges import Ranges, minus, united
from sgdataplane.net.values import UDP, Direction, Family, Prefix
from sgdataplane.policy.dimensions import PORT, PROTOCOL, REMOTE, SOURCE_PORT


class Scope(NamedTuple):
    """Traffic with one of these far addresses and one of these local ones."""

    far: Ranges
    local: Ranges

    def region(self, family: Family) -> Region:
        shape = list(WHOLE[family])
        shape[LOCAL_AT] = self.local
        return (Block((self.far, *shape)),) if self.far and self.local else ()


NOTHING = Scope((), ())


def scope_of(eni: Eni, direction: Direction, family: Family, options: Options) -> Scope:
    """Ingress: from others, to the ENI or to what it shares with others (multicast). Egress: from the ENI's addresses,
    to all but the metadata service."""
    if direction is Direction.INGRESS:
        local = _ranges((*eni.own_prefixes, *always.SHARED[family]), family)
        return Scope(minus(addresses(family), _ranges(eni.private_prefixes, family)), local)
    return Scope(minus(addresses(family), _ranges(options.metadata, family)), _ranges(eni.own_prefixes, family))


def _ranges(prefixes: Iterable[Prefix], family: Family) -> Ranges:
    return united((prefix.first, prefix.last) for prefix in prefixes if prefix.family is family)


def is_all_dhcp(row: Row, direction: Direction, family: Family, options: Options) -> bool:
    """Whether all traffic of a row is DHCP, which rules don't judge."""
    client, server, everyone = always.DHCP[family]
    is_sent = direction is Direction.EGRESS
    source_port, port = (client, server) if is_sent else (server, client)
    known = _ranges((Prefix.of(a) for a in (*options.gateways, *((everyone,) if is_sent else ()))), family)
    wanted = {PROTOCOL: UDP, SOURCE_PORT: source_port, PORT: port}
    is_dhcp = all(at(row, dimension) == (number, number) for dimension, number in wanted.items())
    return is_dhcp and not minus((at(row, REMOTE),), known)
