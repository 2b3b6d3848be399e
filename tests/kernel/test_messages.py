"""What we tell the kernel in its own words is what libnftables would have told it, if it had read our text.

That library, by its official Python binding, is the reference: it shares nothing with messages.py and encode.py but the
kernel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdataplane.contract.fields import CtDirection, CtState, Field, Hook, KeyType, Nfproto
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.host.netlink import list_attributes, parse_attributes
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind
from sgdataplane.lab.replay.wire import ReplayTable
from sgdataplane.lab.watch import WatchTable
from sgdataplane.model.options import Placement
from sgdataplane.nft.ir import (
    ACCEPT,
    DROP,
    MEMBER,
    Chain,
    Count,
    Counter,
    Exceeds,
    InSet,
    Log,
    Map,
    MapCount,
    MapPriority,
    Match,
    Range,
    Rule,
    SetMark,
    SetPacketMark,
    SetPriority,
    SetTimeout,
    Table,
    Timeout,
    VerdictMap,
    goto,
    rule,
)
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.nft.text import render_table
from sgdataplane.nft.tracing import MarkingTable
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.uapi import FAMILIES, SUBSYSTEM
from tests.support.kernel.nft import listing, load_text, nft
from tests.support.models.doors import GOLDEN, Both, check_generated, check_golden

pytestmark = pytest.mark.kernel
GETRULE, GETSET = 7, 10
AT_MOST, AT_LEAST = (number.to_bytes(4, "big") for number in (3, 5))  # NFT_CMP_LTE, NFT_CMP_GTE


@pytest.fixture
def both(make_lab_name: Callable[[], str]) -> Iterator[Both]:
    """Load a table by both ways, each where nothing is; fail if one can tell them apart."""
    ours, theirs, peer = make_lab_name(), make_lab_name(), make_lab_name()
    netns.create(peer)
    for number, name in enumerate((ours, theirs)):
        netns.create(name)
        with Links(peer) as links:
            for ifname in ("eth0", "eth1"):
                links.add_veth(f"p{number}{ifname}", name, ifname, "")

    def load_both(table: Table) -> None:
        load_text(theirs, render_table(table))
        load_by_netlink(ours, table)
        assert printed(ours, table) == printed(theirs, table)
        assert instructions(ours, table) == instructions(theirs, table)
        assert shapes(ours, table) == shapes(theirs, table)
        nft(theirs, f"delete table {table.family} {table.name}")
        nft(ours, f"delete table {table.family} {table.name}")

    yield load_both
    for name in (ours, theirs, peer):
        netns.remove(name)


def printed(namespace: str, table: Table) -> str:
    """As nft prints it. Numbers are decimal: which base it has for those of a field that it knows no name of depends on
    its version, and on its own notes on a set."""
    return re.sub(r"\b0x[0-9a-f]+", lambda found: str(int(found[0], 16)), listing(namespace, table.name, table.family))


def load_by_netlink(namespace: str, table: Table) -> None:
    closings = (Operation(Verb.ADD, Kind.POLICY, chain) for chain in table.chains if chain.hook is not None)
    made = [
        Operation(Verb.ADD, Kind.TABLE, table),
        *(Operation(Verb.ADD, Kind.TIMEOUT, entry) for entry in table.timeouts),
        *(Operation(Verb.ADD, Kind.COUNTER, entry) for entry in table.counters),
        *(Operation(Verb.ADD, Kind.CHAIN, chain) for chain in table.chains),
        *closings,
        *(Operation(Verb.ADD, kind, entry) for entry in table.maps for kind in (Kind.MAP, Kind.ELEMENTS)),
        *(Operation(Verb.ADD, Kind.RULES, chain) for chain in table.chains),
    ]
    with NetlinkKernel(namespace) as kernel:
        kernel.run(Transaction.of(table, made))


def instructions(namespace: str, table: Table) -> dict[bytes, list[list[tuple[bytes, dict[int, bytes]]]]]:
    """By chain, the rules' expressions; and their comments."""
    found: dict[bytes, list[list[tuple[bytes, dict[int, bytes]]]]] = {}
    with netns.inside(namespace), Nfnetlink() as door:
        for of, entry in door.dump(message_kind(SUBSYSTEM, GETRULE), FAMILIES[table.family]):
            if of == FAMILIES[table.family]:
                parts = (parse_attributes(part) for _, part in list_attributes(entry.get(4, b"")))
                said = [(part[1], _unnumbered(parse_attributes(part.get(2, b"")))) for part in parts]
                found.setdefault(entry[2], []).append([*_within(said), (b"comment", {7: entry.get(7, b"")})])
    return found


def shapes(namespace: str, table: Table) -> list[tuple[bytes, ...]]:
    """Of all sets and maps: name, flags, types and lengths."""
    with netns.inside(namespace), Nfnetlink() as door:
        found = door.dump(message_kind(SUBSYSTEM, GETSET), FAMILIES[table.family])
    entries = (_unnumbered(entry) for _, entry in found)
    return sorted(tuple(entry.get(number, b"") for number in (2, 3, 4, 5, 6, 7)) for entry in entries)


def _within(said: list[tuple[bytes, dict[int, bytes]]]) -> list[tuple[bytes, dict[int, bytes]]]:
    """libnftables before 1.1 has a range as two comparisons, which is the same."""
    found: list[tuple[bytes, dict[int, bytes]]] = []
    for kind, parts in said:
        is_end = kind == b"cmp\0" and parts.get(2) == AT_MOST and found and found[-1][0] == b"cmp\0"
        if is_end and found[-1][1].get(2) == AT_LEAST and found[-1][1][1] == parts[1]:
            found[-1] = (b"range\0", {1: parts[1], 2: bytes(4), 3: found[-1][1][3], 4: parts[3]})
        else:
            found.append((kind, parts))
    return found


def _unnumbered(attributes: dict[int, bytes]) -> dict[int, bytes]:
    """Sets without a name are numbered as they come, in an order that differs between versions of libnftables."""
    return {kind: re.sub(rb"\A__(set|map)\d+\0\Z", rb"__\1\0", value) for kind, value in attributes.items()}


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
def test_goldens(both: Both, case: Path) -> None:
    check_golden(both, case)


@pytest.mark.parametrize("count", [4, pytest.param(12, marks=pytest.mark.slow)])
def test_generated_states(both: Both, placement: str, count: int) -> None:
    check_generated(both, Placement(placement), 1, count)


V4, V6 = (Range.of(int(family)) for family in (Nfproto.IPV4, Nfproto.IPV6))
TCP = Match(Field.L4PROTO, (Range.of(6),))
# Every statement and field, also as the compiler doesn't write them today.
RULES: dict[str, tuple[Rule, ...]] = {
    "inet": (
        rule(Match(Field.IIFNAME, (Range.of("eth0"),)), Match(Field.OIFNAME, (Range.of("up*"),), negate=True), DROP),
        rule(Match(Field.IIFNAME, (Range.of("eth0"), Range.of("lo"))), DROP),
        rule(Match(Field.NFPROTO, (V4,)), Match(Field.IP_SADDR, (Range(1 << 24, (2 << 24) - 1),)), DROP),
        rule(Match(Field.IP_SADDR, (Range(5, 9), Range(11, 19), Range.of((1 << 32) - 1)), negate=True), DROP),
        rule(Match(Field.IP_DADDR, (Range(5, 9),), negate=True), ACCEPT, comment="a comment, of words"),
        rule(Match(Field.IP_SADDR, (Range.of(5),)), Match(Field.IP_DADDR, (Range.of(6),)), DROP),
        rule(Match(Field.IP6_SADDR, (Range(1 << 100, 1 << 101), Range.of(7))), DROP),
        rule(Match(Field.IP6_DADDR, (Range.of(7),)), Match(Field.IP6_HOPLIMIT, (Range.of(255),)), DROP),
        rule(Match(Field.IP_FRAGMENT, (Range.of(0),), negate=True, mask=0x3FFF), DROP),
        rule(TCP, Match(Field.TH_SPORT, (Range.of(5),)), Match(Field.TH_DPORT, (Range.of(6),)), DROP),
        rule(TCP, Match(Field.TH_DPORT, (Range.of(5),)), Match(Field.TH_SPORT, (Range.of(6),)), DROP),
        rule(TCP, Match(Field.TH_DPORT, (Range(5, 99),)), Match(Field.TH_SPORT, (Range.of(6),)), DROP),
        rule(TCP, Match(Field.TH_DPORT, (Range(0, 99), Range(200, 65535))), DROP),
        rule(TCP, Match(Field.TCP_FLAGS, (Range.of(2),), negate=True, mask=0x17), DROP),
        rule(Match(Field.TCP_FLAGS, (Range.of(1), Range.of(2)), mask=0x17), DROP),
        rule(Match(Field.ICMP_TYPE, (Range.of(3), Range(11, 12))), DROP),
        rule(Match(Field.ICMPV6_TYPE, (Range.of(135),)), Match(Field.ND_TARGET, (Range.of(1), Range.of(2))), DROP),
        rule(Match(Field.ICMPV6_TYPE, (Range(133, 137),)), DROP),
        rule(Match(Field.CT_STATE, (Range.of(CtState.NEW), Range.of(CtState.RELATED))), DROP),
        rule(Match(Field.CT_STATE, (Range.of(CtState.UNTRACKED),)), DROP),
        rule(Match(Field.CT_DIRECTION, (Range.of(CtDirection.REPLY),)), DROP),
        rule(Match(Field.CT_MARK, (Range.of(5),), mask=0xFFFF), DROP),
        rule(Match(Field.CT_MARK, (Range.of(5), Range.of(6))), DROP),
        rule(Match(Field.PACKET_MARK, (Range.of(5),)), Match(Field.ROUTE_REALM, (Range.of(2),), negate=True), DROP),
        rule(Match(Field.PROTOCOL, (Range.of(0x0800),)), DROP),
        rule(VerdictMap(Field.IIFNAME, name="by-name"), goto("next")),
        rule(VerdictMap(Field.IP_SADDR, ((Range(0, 9), DROP), (Range(10, (1 << 32) - 1), goto("next"))))),
        rule(TCP, VerdictMap(Field.TH_DPORT, ((Range.of(1), DROP), (Range.of(2), goto("next"))))),
        rule(SetMark(0xFFFF0000, 5), SetPacketMark(7), SetMark(0, 9), SetTimeout("tcp-ip"), DROP),
        rule(SetPriority(0), SetPriority(0x80000001), SetPriority(0x1FFFF)),
        rule(MapPriority(Field.CT_ORIGINAL_IP_SADDR, "kin-v4")),
        rule(MapPriority(Field.CT_REPLY_IP6_SADDR, "kin-v6"), DROP),
        rule(MapPriority(Field.IP_SADDR, "kin-v4"), MapPriority(Field.PACKET_PRIORITY, "ranks"), goto("next")),
        rule(VerdictMap(Field.PACKET_PRIORITY, name="winners")),
        rule(Match(Field.PACKET_PRIORITY, (Range.of(0),)), goto("next")),
        rule(Match(Field.PACKET_PRIORITY, (Range(1, 0x1FFFF),)), goto("next")),
        rule(Match(Field.PACKET_PRIORITY, (Range(0, 0x80000000),), negate=True), goto("next")),
        rule(Match(Field.PACKET_PRIORITY, (Range.of(1), Range.of(0x20000))), goto("next")),
        rule(Match(Field.PACKET_PRIORITY, (Range(0, 5), Range(0x20000, 0xFFFFFFFF)), negate=True), goto("next")),
        rule(VerdictMap(Field.PACKET_PRIORITY, ((Range.of(1), DROP), (Range.of(0x20000), goto("next"))))),
        rule(VerdictMap(Field.PACKET_PRIORITY, ((Range(1, 5), DROP), (Range(0x20000, 0x30000), goto("next"))))),
        rule(Match(Field.CT_MARK, (Range(1, 0x1FFFF),)), DROP),
        rule(InSet(Field.CT_MARK, Field.IIFNAME, "marks"), ACCEPT),
        rule(InSet(Field.CT_MARK, Field.OIFNAME, "marks", negate=True, mask=0x7FF0000), ACCEPT),
        rule(
            InSet(Field.IP_SADDR, Field.IIFNAME, "own-v4"),
            InSet(Field.IP_DADDR, Field.OIFNAME, "own-v4", negate=True),
            DROP,
        ),
        rule(InSet(Field.CT_ORIGINAL_IP_SADDR, Field.IIFNAME, "own-v4"), SetMark(0, 9), goto("next")),
        rule(Match(Field.NFPROTO, (V6,)), InSet(Field.IP6_DADDR, Field.OIFNAME, "own-v6", negate=True), DROP),
        rule(Log("counted", 5160, 100)),
        rule(MapCount(Field.IIFNAME, "counters"), DROP),
        rule(Match(Field.NFPROTO, (Range.of(2),)), MapCount(Field.IP_SADDR, "counters-v4")),
    ),
    "netdev": (
        rule(Match(Field.ETHER_SADDR, (Range.of(1 << 41),), negate=True), DROP),
        rule(Match(Field.ETHER_TYPE, (Range.of(0x0800), Range.of(0x86DD))), DROP),
        rule(Match(Field.IP_SADDR, (Range(1, 9),)), DROP),
        rule(Match(Field.PROTOCOL, (Range.of(0x0800),)), Match(Field.IP_SADDR, (Range.of(9),), negate=True), DROP),
        rule(Match(Field.IP6_SADDR, (Range.of(9),)), Match(Field.L4PROTO, (Range.of(17),)), DROP),
        rule(
            Match(Field.PROTOCOL, (Range.of(0x0806),)),
            Match(Field.ARP_HTYPE, (Range.of(1),)),
            Match(Field.ARP_PTYPE, (Range.of(0x0800),)),
            Match(Field.ARP_HLEN, (Range.of(6),)),
            Match(Field.ARP_PLEN, (Range.of(4),)),
            Match(Field.ARP_OPERATION, (Range.of(1), Range.of(2))),
            Match(Field.ARP_SENDER_MAC, (Range.of(5),)),
            Match(Field.ARP_SENDER_IP, (Range.of(5), Range.of(0))),
            DROP,
        ),
        rule(Match(Field.ARP_SENDER_IP, (Range.of(5),)), DROP),
        rule(Match(Field.ARP_TARGET_IP, (Range(5, 9), Range.of(11)), negate=True), DROP),
        rule(Match(Field.IP6_FRAGMENT, (Range.of(1),)), Exceeds(1000, 500), DROP),
        rule(Match(Field.PROTOCOL, (Range.of(0x86DD),)), Match(Field.IP6_FRAGMENT, (Range.of(1),)), DROP),
        rule(Match(Field.IP_FRAGMENT, (Range.of(0),), negate=True, mask=0x3FFF), Exceeds(1_500_000, 9000, True), DROP),
    ),
}
MAPS = (
    Map("applied", KeyType.MARK, ((0, 7), (1, 0xFFFFFFFF)), "what is in force", holds=KeyType.MARK),
    Map("counters", KeyType.IFNAME, (("eth0", Count("counted")), ("eth1", Count("other"))), holds=KeyType.COUNTER),
    Map("counters-v4", KeyType.IPV4, ((5, Count("other")),), "by source", holds=KeyType.COUNTER),
    Map("by-name", KeyType.IFNAME, (("eth0", goto("next")), ("a.b-c_d", DROP))),
    Map("by-v4", KeyType.IPV4, tuple((number, goto("next")) for number in range(0, 70_000, 67))),
    Map("by-v6", KeyType.IPV6, ((1, DROP), (1 << 127, goto("next")))),
    Map("kin-v4", KeyType.IPV4, tuple((n, 0x80000000 | n) for n in range(0, 70_000, 67)), holds=KeyType.CLASSID),
    Map("kin-v6", KeyType.IPV6, ((1, 0x80000001), (1 << 127, 0x80000000)), "what it's for", holds=KeyType.CLASSID),
    Map("ranks", KeyType.CLASSID, ((0, 1), (0x80000000, 0x1FFFF), (0x80000001, 0)), holds=KeyType.CLASSID),
    Map("winners", KeyType.CLASSID, ((0, DROP), (0x1FFFF, goto("next")))),
    *(
        Map(
            name, kind, tuple(((n, ifname), MEMBER) for n in (1, last) for ifname in ("a.b", "e1")), "", KeyType.NOTHING
        )
        for name, kind, last in (
            ("marks", KeyType.MARK_IFNAME, 0x1234 << 16),
            ("own-v4", KeyType.IPV4_IFNAME, 10 << 24),
            ("own-v6", KeyType.IPV6_IFNAME, 1 << 125),
        )
    ),
)


@pytest.mark.parametrize("family", RULES)
def test_every_statement(both: Both, family: str) -> None:
    hook = Hook("prerouting", -150) if family == "inet" else Hook("ingress", 0, "eth0")
    first = Chain("first", (), hook)
    timeouts = (
        Timeout("tcp-ip", "tcp", "ip", (("established", 300), ("close", 5), ("time_wait", 5))),
        Timeout("udp-ip6", "udp", "ip6", (("unreplied", 9), ("replied", 8))),
    )
    chains = (first, Chain("next", (rule(DROP),), comment="where all ends"), Chain("rules", RULES[family]))
    counters = (Counter("counted", "packets that were logged"), Counter("other"))
    both(Table("t", chains, MAPS, counters, timeouts if family == "inet" else (), family))


LOG = "group 7 snaplen 256 queue-threshold 1"
NODE = (
    "add chain inet t silence { type filter hook output priority -450; }",
    "add rule inet t silence meta priority 0x53475250 {} accept",
    'add rule inet t silence oifname "lo" accept',
    "add rule inet t silence icmpv6 type 133-137 accept",
    "add rule inet t silence drop",
)
BLIND = (
    "add chain inet t blindness { type filter hook prerouting priority -300; }",
    "add rule inet t blindness notrack",
)
DELIVERED = (
    "add chain inet t delivered { type filter hook input priority 200; }",
    "add rule inet t delivered ct state established",
    f'add rule inet t delivered iifname != "lo" log {LOG}',
)
LOOKS = tuple(
    line
    for hook, priority, name in (("prerouting", -160, "iifname"), ("postrouting", 140, "oifname"))
    for line in (
        f"add chain inet t {hook} {{ type filter hook {hook} priority {priority}; }}",
        f'add rule inet t {hook} {name} != "lo" ct state invalid log prefix "invalid" {LOG}',
        f'add rule inet t {hook} {name} != "lo" ct state & invalid == 0 log {LOG}',
    )
)
OTHERS: dict[str, tuple[Transaction, tuple[str, ...]]] = {
    "trace": (
        MarkingTable.make(Table("t", (Chain("c", (rule(TCP),), Hook("input", 1)),)), 9),
        (
            "add chain inet t c { type filter hook input priority 1; }",
            "add rule inet t c meta l4proto 6 limit rate 9/second burst 9 packets meta nftrace set 1",
        ),
    ),
    "watch": (
        WatchTable("t", group=7),
        (
            "add chain inet t passed { type filter hook prerouting priority -140; }",
            f"add rule inet t passed log {LOG}",
            "add chain inet t coming { type filter hook postrouting priority 140; }",
            f"add rule inet t coming log {LOG}",
        ),
    ),
    "replay-node": (
        ReplayTable("t", group=7),
        (*(line.replace("{} accept", "notrack accept") for line in NODE), *BLIND, *DELIVERED),
    ),
    "replay-router": (ReplayTable("t", group=7, is_node=False, judges=True), LOOKS),
    "replay-both": (
        ReplayTable("t", group=7, judges=True),
        (*(line.replace("{} accept", "accept") for line in NODE), *DELIVERED, *LOOKS),
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_tables_beside_the_policys(make_lab_name: Callable[[], str], what: str) -> None:
    ours, theirs = make_lab_name(), make_lab_name()
    for name in (ours, theirs):
        netns.create(name)
    made, lines = OTHERS[what]
    try:
        nft(theirs, "add table inet t", *lines)
        with NetlinkKernel(ours) as kernel:
            kernel.run(made)
            assert instructions(ours, Table("t")) == instructions(theirs, Table("t"))
            head = "table inet t {"  # and who its owner is
            assert listing(ours, "t").partition(f"\n\n{head}")[0] == listing(theirs, "t")
    finally:
        for name in (ours, theirs):
            netns.remove(name)


def test_elements_that_go_by_themselves(both: Both, make_lab_name: Callable[[], str]) -> None:
    entry = Map("adopting", KeyType.IFNAME, (("eth0", DROP),), lifetime=1500)
    both(Table("t", maps=(Map("adopting", KeyType.IFNAME, (), lifetime=1500),)))
    name = make_lab_name()
    netns.create(name)
    try:
        load_by_netlink(name, Table("t", maps=(entry,)))
        assert re.search(r'"eth0" timeout 1s500ms expires (1s)?\d+ms : drop', nft(name, "list table inet t"))
    finally:
        netns.remove(name)
