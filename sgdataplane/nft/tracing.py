"""Read what the kernel reports about a traced packet: which rules of which chains it met.

Owns the numbers of these messages (linux/netfilter/nf_tables.h, NFTA_TRACE_*), and the table that marks packets to be
traced. It is given payloads, and a netlink socket of the namespace. It must not know what chains are for.

The kernel reports a rule, with its verdict, if all its conditions held. The first message of each base chain has the
packet's headers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sgdataplane.host.netlink import attribute, list_attributes, parse_attributes, text_of
from sgdataplane.host.nfnetlink import GENMSG, Nfnetlink
from sgdataplane.nft import uapi, wire
from sgdataplane.nft.ir import Table
from sgdataplane.nft.messages import Messages, Writer
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.uapi import number_of

TRACE_GROUP = 9  # NFNLGRP_NFTRACE
MESSAGE = 17  # NFT_MSG_TRACE
NFTRACE = 12  # NFT_META_NFTRACE
TABLE, CHAIN, HANDLE, TYPE, VERDICT, ID = 1, 2, 3, 4, 5, 6
NETWORK, TRANSPORT, IIF, OIF, NFPROTO, POLICY = 8, 9, 10, 12, 15, 16
BY_POLICY, BY_RETURN, BY_RULE = 1, 2, 3  # NFT_TRACETYPE_*: by the chain's policy, by a return, by a rule
CODES = {0: "drop", 1: "accept", -1: "continue", -3: "jump", -4: "goto", -5: "return"}
FAMILY_NAMES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}  # NFPROTO_*


@dataclass(frozen=True)
class MarkingTable(Transaction):
    """Makes a table of base chains whose rules mark packets to be traced.

    No policy needs `nftrace`, so the IR has no statement for it.
    """

    table: Table = field(default_factory=lambda: Table(""))
    limit: int = 1
    """At most so many packets a second are marked."""

    @classmethod
    def make(cls, table: Table, limit: int) -> MarkingTable:
        """Make the transaction for a table."""
        return cls(table.name, family=table.family, table=table, limit=limit)

    def requests(self) -> Iterator[tuple[Messages, Operation]]:
        """Yield the messages that make the table.

        It belongs to the process that makes it and ends with it (flag `owner`, Linux 5.12).
        """
        operation, writer = Operation(Verb.ADD, Kind.TABLE, self.table), Writer()
        yield writer.add_table(self.table, uapi.TABLE_OWNER), operation
        for chain in self.table.chains:
            yield writer.add_chain(self.table, chain), operation
            for entry in chain.rules:
                yield writer.add_rule(self.table, chain.name, entry, encode_marking(self.limit)), operation


@dataclass(frozen=True, slots=True)
class Event:
    """One rule that a packet met, or a chain's policy."""

    number: int
    """Tells packets apart while they are on their way; later packets may have the same one."""
    family: str
    table: str
    chain: str
    handle: int
    """The rule's handle; 0 for the chain's policy."""
    verdict: str
    """Drop, accept, continue, jump, goto or return, in small letters."""
    target: str = ""
    """The chain that the packet goes to."""
    iif: int = 0
    """The number of the interface that it came by; 0 if none."""
    oif: int = 0
    """The number of the interface that it leaves by; 0 if none."""
    network: bytes = field(default=b"", repr=False)
    """The network header. Only the first event of a base chain has headers."""
    transport: bytes = field(default=b"", repr=False)


def encode_marking(limit: int) -> bytes:
    """Return the instructions that mark up to `limit` packets a second to be traced."""
    return wire.limit(limit, limit) + wire.constant(b"\1") + wire.set_meta(NFTRACE)


def parse_event(kind: int, payload: bytes) -> Event | None:
    """Return the event in a message; None if the message is about something else, or about the end of a chain.

    Linux 6.1 reports a rule that returns as BY_RETURN, like the end of a chain, which has no rule. Later kernels report
    it as BY_RULE.
    """
    if kind != uapi.kind_of(MESSAGE):
        return None
    found = parse_attributes(payload[GENMSG.size :])
    how, handle = number_of(found.get(TYPE, b"")), number_of(found.get(HANDLE, b""))
    if how not in (BY_RULE, BY_POLICY) and not (how == BY_RETURN and handle):
        return None
    verdict = parse_attributes(found.get(VERDICT, b""))
    code = int.from_bytes(
        found[POLICY] if how == BY_POLICY else verdict.get(uapi.VERDICT_CODE, b""), "big", signed=True
    )
    return Event(
        number_of(found[ID]),
        FAMILY_NAMES.get(payload[0], str(payload[0])),
        text_of(found[TABLE]),
        text_of(found[CHAIN]),
        handle,
        CODES.get(code, str(code)),
        text_of(verdict.get(uapi.VERDICT_CHAIN, b"")),
        number_of(found.get(IIF, b"")),
        number_of(found.get(OIF, b"")),
        found.get(NETWORK, b""),
        found.get(TRANSPORT, b""),
    )


def counters_of_rules(netlink: Nfnetlink, family: str, table: str, chain: str) -> Mapping[int, str]:
    """Return the named counter that each rule of one chain counts in, by handle; "" if it counts in none.

    Raises:
        OSError: The kernel refuses, or there is no such chain.
    """
    asked = attribute(uapi.TABLE_NAME, table.encode() + b"\0") + attribute(uapi.RULE_CHAIN, chain.encode() + b"\0")
    found = {}
    for _, entry in netlink.dump(uapi.kind_of(uapi.GETRULE), uapi.FAMILIES[family], asked):
        handle = number_of(entry[uapi.RULE_HANDLE])
        found[handle] = ""
        for _, part in list_attributes(entry.get(uapi.RULE_EXPRESSIONS, b"")):
            expression = parse_attributes(part)
            if text_of(expression[uapi.EXPRESSION_NAME]) == "objref":
                name = parse_attributes(expression[uapi.EXPRESSION_DATA]).get(uapi.OBJREF_NAME)
                found[handle] = text_of(name or b"")
    return found
