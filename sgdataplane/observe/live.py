"""The verdict of a namespace's table on one packet, and whether it is the table that should be there.

Owns the packet's fields as the kernel reads them at a hook, and which counter stands for which decision. Is given a
namespace, a packet and the table that should be there. Must not know who asks, or what the state's own answer is. Sends
nothing: `nft/interp.py` runs the table that was read. Tables of other programs are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sgdataplane.compiler.compile import with_stamp
from sgdataplane.contract.counters import counter_name, eni_counter, name_audited_at
from sgdataplane.contract.fields import DESTINATION, SOURCE, TCP_ACK, TCP_SYN, CtDirection, CtState, Field, Nfproto
from sgdataplane.contract.marks import FIRST_EPOCH
from sgdataplane.contract.sites import Site
from sgdataplane.contract.stamp import Stamp
from sgdataplane.contract.tables import TABLE
from sgdataplane.errors import InternalError
from sgdataplane.host import netns
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.model import always
from sgdataplane.model.decision import Decision
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ICMP, ICMPV6, TCP, Direction, Family, Verdict
from sgdataplane.nft.counters import read_packets
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Table, VerdictKind
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.readback import HeldTable, differences, read_table

OTHER_POLICY = "the policy that was applied is another one"
NFPROTO = {Family.IPV4: Nfproto.IPV4, Family.IPV6: Nfproto.IPV6}
ICMP_FIELDS = {(Family.IPV4, ICMP): Field.ICMP_TYPE, (Family.IPV6, ICMPV6): Field.ICMPV6_TYPE}


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """The answer of a namespace's table about one packet."""

    verdict: str
    """`accept` or `drop`; empty if that is unknown, and `problem` says why."""
    counters: tuple[str, ...] = ()
    """The counters that would count the packet, the one of the cause first; at an ENI in audit mode, its own first."""
    packets: int | None = None
    """How many packets the first of these has counted so far; None if that isn't known."""
    problem: str = ""
    differences: tuple[str, ...] = ()
    """What in the table isn't as it should be, a line each."""


def ask(namespace: str, ifname: str, site: Site, packet: Packet, wanted: Table | None) -> LiveAnswer:
    """Return what happens to an opening packet at the ENI on that interface.

    `wanted` is the table that should be there, at any epoch; None if that isn't known.

    Raises:
        HostError: There is no such namespace.
        OSError: The kernel refuses.
    """
    with netns.inside(namespace), Nfnetlink() as netlink:
        held = read_table(netlink, TABLE)
        counted = read_packets(netlink, TABLE)
    if held is None:
        return LiveAnswer("", problem="sgdataplane has no table there, so nothing is filtered")
    others = tuple(misfits(held, wanted, site)) if wanted is not None else ()
    if packet.direction.value not in held.table.chain or held.inventory.has_flags:
        return LiveAnswer(
            "", problem="the table judges nothing: it is dormant, or lacks a base chain", differences=others
        )
    try:
        verdict, counters = judge_packet(held.table, packet.direction.value, make_opening_fields(packet, ifname, site))
    except InternalError as error:  # others have changed the table; it isn't a bug of ours
        problem = f"the packet comes to a rule that can't be read ({error})"
        return LiveAnswer("", problem=problem, differences=others)
    packets = counted.get(counters[0]) if counters else None
    return LiveAnswer(verdict.value, tuple(counters), packets, differences=others)


def judge_packet(table: Table, chain: str, packet: Mapping[Field, Key]) -> tuple[VerdictKind, list[str]]:
    """Return what happens to a packet at the hook of that base chain, and its counters.

    All base chains at the hook are run, because others may have added some. InternalError as in `run`.
    """
    hook = table.chain[chain].hook
    here = [entry for entry in table.chains if entry.hook and hook and entry.hook.name == hook.name]
    counters: list[str] = []
    fields = dict(packet)
    for base in sorted(here, key=lambda entry: entry.hook.priority if entry.hook else 0):
        outcome = run(table, base.name, fields)
        counters += outcome.counters
        if outcome.verdict is VerdictKind.DROP:
            return VerdictKind.DROP, counters
        fields[Field.PACKET_MARK] = outcome.packet_mark
        if Field.CT_MARK in fields:
            fields[Field.CT_MARK] = outcome.mark
    return VerdictKind.ACCEPT, counters


def misfits(held: HeldTable, wanted: Table, site: Site) -> list[str]:
    """Return what isn't as it should be, a line each. Epochs and secret are taken from the namespace."""
    stamp = held.inventory.stamp
    found = list(held.odd)
    if stamp is None:
        found.append("the table has no stamp: no apply has finished there")
    elif stamp.digest != stamp_of(wanted).digest:
        found.append(OTHER_POLICY)
    if stamp is None or not all(FIRST_EPOCH <= epoch <= site.marks.last_epoch for epoch in stamp.every_epoch):
        stamp = Stamp(FIRST_EPOCH, "")
    return [*found, *differences(with_stamp(wanted, stamp), held.table)]


def counters_of(decision: Decision, ifname: str) -> tuple[str, ...]:
    """Return the counters that count a packet with that decision at that interface's ENI, in order."""
    if decision.would is not None:
        return name_audited_at(ifname, decision.would), counter_name(decision)
    dropped = (eni_counter(decision.direction, ifname),) if decision.verdict is Verdict.DROP else ()
    return (counter_name(decision), *dropped)


def make_opening_fields(packet: Packet, ifname: str, site: Site) -> dict[Field, Key]:
    """Return the packet's fields at the hook of its direction, as the first packet of its session."""
    far, near = (SOURCE, DESTINATION) if packet.direction is Direction.INGRESS else (DESTINATION, SOURCE)
    family = packet.family
    fields: dict[Field, Key] = {
        site.interface(packet.direction): ifname,
        Field.NFPROTO: NFPROTO[family],
        far[family]: packet.remote.value,
        near[family]: packet.local.value,
        Field.L4PROTO: packet.protocol,
        Field.CT_STATE: CtState.NEW,
        Field.CT_DIRECTION: CtDirection.ORIGINAL,
        Field.CT_MARK: 0,
    }
    if packet.port is not None and packet.source_port is not None:
        fields |= {Field.TH_SPORT: packet.source_port, Field.TH_DPORT: packet.port}
    if packet.protocol == TCP:
        fields[Field.TCP_FLAGS] = TCP_SYN if packet.is_syn else TCP_ACK
    fields |= {Field.IP_FRAGMENT: 0} if family is Family.IPV4 else {Field.IP6_HOPLIMIT: packet.hop_limit}
    if packet.icmp_type is not None and (family, packet.protocol) in ICMP_FIELDS:
        fields[ICMP_FIELDS[family, packet.protocol]] = packet.icmp_type
    if always.is_discovery_type(packet):  # the kernel leaves these untracked
        fields[Field.CT_STATE] = CtState.UNTRACKED
        del fields[Field.CT_DIRECTION], fields[Field.CT_MARK]
    return fields
