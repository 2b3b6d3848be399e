"""The tables of a replay: they keep nodes silent, and log what gets where.

Owns their rules. Is given a group of log messages. Must not know packets. Each goes when its process does, and is none
of the product's: `log` has no place in its ruleset's types.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sgdataplane.nft.ir import Table
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb

COPIED = 256  # octets of a packet: headers, and some of what is behind them
OURS = 0x53475250  # the priority of sockets by which ours are known; it ends with the namespace
INVALID = b"invalid"


@dataclass(frozen=True)
class ReplayTable(Transaction):
    """`is_node`: not a router. `judges`: policy is enforced here."""

    group: int = 0
    is_node: bool = True
    judges: bool = False

    def lines(self) -> Iterator[tuple[str, Operation]]:
        operation = Operation(Verb.ADD, Kind.TABLE, Table(self.name))
        table, log = f"inet {self.name}", f"group {self.group} snaplen {COPIED} queue-threshold 1"
        yield f"add table {table} {{ flags owner; }}", operation
        rules = (self._node(log) if self.is_node else ()), (_looks(log) if self.judges else ())
        for chain, hook, priority, texts in (entry for group in rules for entry in group):
            yield f"add chain {table} {chain} {{ type filter hook {hook} priority {priority}; }}", operation
            for text in texts:
                yield f"add rule {table} {chain} {text}", operation

    def _node(self, log: str) -> Iterator[tuple[str, str, int, tuple[str, ...]]]:
        """Silence but for our sockets, and what is delivered. Where no policy is, conntrack has no say, and fragments
        are sent as they are: what is untracked isn't put together. That what comes is put together takes a rule that
        asks conntrack something."""
        tracked = "" if self.judges else "notrack "
        ours = f"meta priority {OURS:#x} {tracked}accept"
        yield "silence", "output", -450, (ours, 'oifname "lo" accept', "icmpv6 type 133-137 accept", "drop")
        if not self.judges:
            yield "blindness", "prerouting", -300, ("notrack",)
        yield "delivered", "input", 200, ("ct state established", f'iifname != "lo" log {log}')


def _looks(log: str) -> Iterator[tuple[str, str, int, tuple[str, ...]]]:
    """Just before both policies, with conntrack's word."""
    for hook, priority, name in (("prerouting", -160, "iifname"), ("postrouting", 140, "oifname")):
        said = f'{name} != "lo" ct state invalid log prefix "{INVALID.decode()}" {log}'
        yield hook, hook, priority, (said, f'{name} != "lo" ct state != invalid log {log}')
