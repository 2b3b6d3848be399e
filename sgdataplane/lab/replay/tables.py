"""The tables of a replay: they keep nodes silent, and log what gets where.

Owns their rules. Is given a group of log messages. Must not know packets. Each goes when its process does, and is none
of the product's: these logs have no place in its ruleset's types.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sgdataplane.contract.fields import CtState, Field, Hook
from sgdataplane.nft import wire
from sgdataplane.nft.ir import ACCEPT, DROP, Chain, Match, Range, Rule, Table, rule
from sgdataplane.nft.messages import Messages, Writer
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.uapi import TABLE_OWNER

COPIED = 256  # octets of a packet: headers, and some of what is behind them
OURS = 0x53475250  # the priority of sockets by which ours are known; it ends with the namespace
INVALID = b"invalid"
PRIORITY = 2  # NFT_META_PRIORITY
NEIGHBOURS = Match(Field.ICMPV6_TYPE, (Range(133, 137),))
Said = tuple[Rule, bytes]  # a rule, and instructions behind its own


@dataclass(frozen=True)
class ReplayTable(Transaction):
    """`is_node`: not a router. `judges`: policy is enforced here."""

    group: int = 0
    is_node: bool = True
    judges: bool = False

    def requests(self) -> Iterator[tuple[Messages, Operation]]:
        table, writer = Table(self.name), Writer()
        operation = Operation(Verb.ADD, Kind.TABLE, table)
        yield writer.add_table(table, TABLE_OWNER), operation
        node, looks = self._node() if self.is_node else (), self._looks() if self.judges else ()
        for chain, hook, said in (*node, *looks):
            yield writer.add_chain(table, Chain(chain, (), hook)), operation
            for entry, more in said:
                yield writer.add_rule(table, chain, entry, more), operation

    def _node(self) -> Iterator[tuple[str, Hook, tuple[Said, ...]]]:
        """Silence but for our sockets, and what is delivered. Where no policy is, conntrack has no say, and fragments
        are sent as they are: what is untracked isn't put together. That what comes is put together takes a rule that
        asks conntrack something."""
        is_ours = wire.meta(PRIORITY) + wire.compare(struct.pack("=I", OURS))
        ours = is_ours + (b"" if self.judges else wire.untracked()) + wire.decide(ACCEPT)
        silence = ((rule(), ours), (rule(_of("lo"), ACCEPT), b""), (rule(NEIGHBOURS, ACCEPT), b""), (rule(DROP), b""))
        yield "silence", Hook("output", -450), silence
        if not self.judges:
            yield "blindness", Hook("prerouting", -300), ((rule(), wire.untracked()),)
        delivered = rule(_other_than_lo(Field.IIFNAME)), self._log()
        yield "delivered", Hook("input", 200), ((rule(_is(CtState.ESTABLISHED)), b""), delivered)

    def _looks(self) -> Iterator[tuple[str, Hook, tuple[Said, ...]]]:
        """Just before both policies, with conntrack's word."""
        for hook, field in ((Hook("prerouting", -160), Field.IIFNAME), (Hook("postrouting", 140), Field.OIFNAME)):
            other = _other_than_lo(field)
            invalid = rule(other, _is(CtState.INVALID)), self._log(INVALID.decode())
            yield hook.name, hook, (invalid, (rule(other, _is(CtState.INVALID, negate=True)), self._log()))

    def _log(self, prefix: str = "") -> bytes:
        return wire.log(self.group, COPIED, prefix, at_once=True)


def _of(ifname: str) -> Match:
    return Match(Field.OIFNAME, (Range.of(ifname),))


def _other_than_lo(field: Field) -> Match:
    return Match(field, (Range.of("lo"),), negate=True)


def _is(state: CtState, *, negate: bool = False) -> Match:
    return Match(Field.CT_STATE, (Range.of(state),), negate)
