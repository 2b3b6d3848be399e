"""Tables that log packets to an nflog group of a lab's own, and how such a group is found.

Owns the form of these tables. Must not know what they log. They are not part of the product: its rulesets have no type
for these logs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from sgdataplane.contract.fields import Hook
from sgdataplane.errors import HostError
from sgdataplane.host.nflog import Nflog
from sgdataplane.nft import wire
from sgdataplane.nft.ir import Chain, Rule, Table
from sgdataplane.nft.messages import Messages, Writer
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.uapi import TABLE_OWNER

PREROUTING, LOCAL_IN, POSTROUTING = 0, 1, 4  # NF_INET_*, Logged.hook
COPIED = 256  # octets of a packet: its headers, and our token behind them
TRIES = 100
RawRule = tuple[Rule, bytes]  # a rule, and instructions behind its own


def open_log() -> Nflog:
    """Listen to a group that nobody else has, in the namespace that the calling thread is in.

    Errors as in Nflog.
    """
    for _ in range(TRIES):
        with suppress(HostError):  # another process listens to that group
            return Nflog(_random_group())
    return Nflog(_random_group())


def _random_group() -> int:
    return 1 + int.from_bytes(os.urandom(2), "big") % 0xFFFF


@dataclass(frozen=True)
class LogTable(Transaction):
    """A table that logs to a group. It disappears with the socket that made it."""

    group: int = 0

    def chains(self) -> Iterator[tuple[str, Hook, tuple[RawRule, ...]]]:
        """Yield the chains with their rules."""
        raise NotImplementedError

    def log(self, prefix: str = "") -> bytes:
        """Return the instructions that log a packet with this prefix."""
        return wire.log(self.group, COPIED, prefix, at_once=True)

    def requests(self) -> Iterator[tuple[Messages, Operation]]:
        """Yield the messages that make the table, its chains and their rules."""
        table, writer = Table(self.name), Writer()
        operation = Operation(Verb.ADD, Kind.TABLE, table)
        yield writer.add_table(table, TABLE_OWNER), operation
        for name, hook, rules in self.chains():
            yield writer.add_chain(table, Chain(name, (), hook)), operation
            for entry, more in rules:
                yield writer.add_rule(table, name, entry, more), operation
