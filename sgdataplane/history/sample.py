"""The log of a namespace's new sessions: a table of history's own, beside the policy.

Owns that table. Is given where the policy stands, and the interfaces. Must not know who reads the log.

    opened   one base chain for each hook of the policy, one priority behind it: so it sees what the policy accepted.
             A packet that opens a session isn't confirmed yet, so established sessions end at the first condition.
             The packet is counted for its interface; up to `per_second` of these packets are logged.

The kernel removes the table when the process that made it ends, however it ends (flag `owner`, Linux 5.12). It has no
verdicts, and nothing in it belongs to the policy's table.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sgdataplane.contract import names
from sgdataplane.contract.counters import HISTORY_GROUP
from sgdataplane.contract.fields import CtState, Field, Hook, KeyType
from sgdataplane.contract.sites import Site
from sgdataplane.net.values import Direction
from sgdataplane.nft import uapi, wire
from sgdataplane.nft.ir import LOGGED_BYTES, Chain, Count, Counter, Map, Table, is_value, rule
from sgdataplane.nft.messages import Messages, Writer
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

NAME = "sgdataplane-history"
CT_STATUS, CONFIRMED = 2, 1 << 3  # NFT_CT_STATUS, IPS_CONFIRMED
META = {Field.IIFNAME: 6, Field.OIFNAME: 7}  # NFT_META_*
WORD = struct.Struct("=I")


def name_opened_counter(side: Direction, ifname: str) -> str:
    """Return the counter of sessions that were opened to (ingress) or from (egress) the ENI at that interface."""
    return names.identifier("opened", side.value, ifname)


def is_own(counter: str) -> bool:
    """Return whether it is a counter of history's own table, which ends with the process that made it."""
    return counter.startswith("opened.")


def make_sampling_table(site: Site, ifnames: Iterable[str], per_second: int) -> SamplingTable:
    """Return the table for these interfaces, with a name that no other one has."""
    ordered = sorted(ifnames)
    maps = tuple(_map_of(side, ordered) for side in Direction)
    counters = tuple(Counter(name_opened_counter(side, ifname)) for side in Direction for ifname in ordered)
    chains = tuple(_chain_of(site, side) for side in Direction)
    table = Table(f"{NAME}-{os.urandom(4).hex()}", chains, maps, counters)
    return SamplingTable(table.name, table=table, site=site, per_second=per_second)


def _map_of(side: Direction, ifnames: Iterable[str]) -> Map:
    """Return the map from a side's interfaces to their counters."""
    elements = tuple((ifname, Count(name_opened_counter(side, ifname))) for ifname in ifnames)
    return Map(f"opened.{side.value}", KeyType.IFNAME, elements, holds=KeyType.COUNTER)


def _chain_of(site: Site, side: Direction) -> Chain:
    hook = site.hooks[side]
    return Chain(side.value, (rule(is_value(Field.CT_STATE, CtState.NEW)),), Hook(hook.name, hook.priority + 1))


@dataclass(frozen=True)
class SamplingTable(Transaction):
    """The transaction that makes the table.

    No policy asks whether a session is confirmed, so the IR has no condition for it; it is written here as
    instructions.
    """

    table: Table = field(default_factory=lambda: Table(""))
    site: Site = field(default=None)  # type: ignore[assignment]
    per_second: int = 1

    def requests(self) -> Iterator[tuple[Messages, Operation]]:
        """Yield the messages that make the table, and what they are about."""
        operation, writer, table = Operation(Verb.ADD, Kind.TABLE, self.table), Writer(is_keeping=False), self.table
        yield writer.add_table(table, uapi.TABLE_OWNER), operation
        for counter in table.counters:
            yield writer.add_counter(table, counter), operation
        for entry in table.maps:
            yield writer.add_map(table, entry), operation
            for elements in writer.add_elements(table, entry):
                yield elements, operation
        for side, chain in zip(Direction, table.chains, strict=True):
            yield writer.add_chain(table, chain), operation
            for one in chain.rules:
                yield writer.add_rule(table, chain.name, one, self._instructions(side)), operation

    def _instructions(self, side: Direction) -> bytes:
        """Return what follows the condition of a rule.

        A packet must not be confirmed yet; it is counted for its interface, if that is an ENI's; and it is logged.
        """
        is_first = wire.ct(CT_STATUS) + wire.mask_register(WORD.pack(CONFIRMED), bytes(4)) + wire.compare(bytes(4))
        counted = wire.meta(META[self.site.interface(side)]) + wire.refer_by(f"opened.{side.value}")
        logged = wire.log(HISTORY_GROUP, LOGGED_BYTES, names.log_prefix(f"opened.{side.value}"), at_once=True)
        return is_first + counted + wire.limit(self.per_second, self.per_second) + logged
