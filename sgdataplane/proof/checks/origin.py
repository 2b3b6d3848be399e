"""Check that a router's table tells what the router itself sends from what others put into its stack.

Owns what the base chain at the output hook must do with any packet. It is given the table and what it must do. It must
not know how the chain is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from sgdataplane.contract.counters import INJECTED, eni_counter, name_fixed_counter
from sgdataplane.contract.fields import Field
from sgdataplane.contract.tables import LOOPBACK, SENT
from sgdataplane.errors import InternalError
from sgdataplane.net.values import Direction
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Match, Table, Verdict, VerdictKind
from sgdataplane.proof.spec.axes import representatives
from sgdataplane.proof.spec.specification import Namespace

ASKED = (Field.OIFNAME, Field.SOCKET_CLASS, Field.PACKET_MARK)
CLASSES: tuple[Mapping[Field, Key], ...] = ({}, {Field.SOCKET_CLASS: 0}, {Field.SOCKET_CLASS: 0x10001})


def wrong_origin(namespace: Namespace, table: Table) -> str:
    """Return what is wrong with the chain for packets that the namespace itself sends; "" if nothing is."""
    if namespace.wanted.site.origin is None:
        return ""
    statements = [statement for entry in table.chain_of(SENT).rules for statement in entry.statements]
    known = [s for s in statements if isinstance(s, Verdict) or (isinstance(s, Match) and s.field in ASKED)]
    if known != statements:
        return f"chain {SENT} asks or does more than it should"
    try:
        return next((f"chain {SENT} is wrong about {packet}" for packet in _packets(namespace, table)), "")
    except InternalError as error:  # what it needs is missing
        return str(error)


def _packets(namespace: Namespace, table: Table) -> Iterator[dict[Field, Key]]:
    """Yield packets with which the chain does something else than it should."""
    marks = {0, namespace.secret, namespace.secret ^ 1}
    matches = [s for entry in table.chain_of(SENT).rules for s in entry.statements if isinstance(s, Match)]
    asked = {str(item.first) for match in matches if match.field is Field.OIFNAME for item in match.ranges}
    some = representatives({LOOPBACK, *asked, *list(namespace.enis)[:1]})  # all others are like these
    for ifname, of_socket, mark in product(some, CLASSES, sorted(marks)):
        packet = {Field.OIFNAME: ifname, Field.PACKET_MARK: mark, **of_socket}
        found = run(table, SENT, packet)
        is_own = ifname == LOOPBACK or bool(of_socket) or (namespace.secret != 0 and mark == namespace.secret)
        dropped = [eni_counter(Direction.INGRESS, ifname)] if ifname in namespace.enis else []
        counters = [] if is_own else [name_fixed_counter(Direction.INGRESS, INJECTED), *dropped]
        verdict = VerdictKind.ACCEPT if is_own else VerdictKind.DROP
        if (found.verdict, list(found.counters), found.packet_mark) != (verdict, counters, mark):
            yield packet
