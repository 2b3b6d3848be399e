"""A table read back from the kernel is the table that was loaded; what others change in it is seen, and what they write
is read for what it does, or not at all."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.compiler.compile import with_epoch
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Desired, Settings, remove
from sgdataplane.errors import InternalError
from sgdataplane.host import netns
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.state import CloudState, ConnectionTracking
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Table
from sgdataplane.nft.readback import HeldTable, differences, read_table
from sgdataplane.nft.text import rule_text
from tests.support.inputs import gen
from tests.support.inputs.builders import make_eni, make_group, make_packet, make_state
from tests.support.inputs.building import enforce, table_of
from tests.support.kernel.nft import nft
from tests.support.models import wire

pytestmark = pytest.mark.kernel
PLAIN = Settings(adoption_window=0, prove=False)
STATES, PACKETS = 8, 40


def held_in(namespace: str) -> HeldTable:
    with netns.inside(namespace), Nfnetlink() as door:
        held = read_table(door, TABLE)
    assert held is not None
    return held


def wanted(desired: Desired, held: HeldTable) -> Table:
    stamp = held.inventory.stamp
    assert stamp is not None
    return with_epoch(table_of(desired), stamp.epoch, stamp.secret)


def test_what_was_loaded_is_read_back(namespace: str, placement: str) -> None:
    where = Placement(placement)
    uplinks = ("up*",) if where is Placement.HOST else ()
    seen: set[str] = set()

    @seed(720)
    @settings(max_examples=STATES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 1 << 32))
    def is_same(state: CloudState, options: Options, packet_seed: int) -> None:
        vpc_id = state.network_interfaces[0].vpc_id
        enis = [eni.network_interface_id for eni in state.network_interfaces if eni.vpc_id == vpc_id]
        interfaces = {eni_id: f"eth{number}" for number, eni_id in enumerate(enis)}
        desired = Desired(state, interfaces, options, where, uplinks)
        enforce(namespace, desired, settings=PLAIN)
        held = held_in(namespace)
        remove(namespace)
        table = wanted(desired, held)
        assert (held.odd, list(differences(table, held.table))) == ((), [])
        for packet in gen.packets(state, random.Random(packet_seed), PACKETS):
            if packet.eni_id in interfaces:
                fields = wire.opening(packet, interfaces[packet.eni_id], where)
                theirs, ours = (run(each, packet.direction.value, fields) for each in (held.table, table))
                assert theirs == ours, packet
                seen.add(theirs.verdict.value)

    is_same()
    assert seen == {"accept", "drop"}


STATE = make_state(
    [make_group("sg-a", ["ingress tcp 22/22 from sg-b", "ingress udp 53/60 from 192.0.2.0/25"]), make_group("sg-b")],
    [
        make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-a", connection_tracking=ConnectionTracking(udp_timeout=60)),
        make_eni("eni-b", "10.0.0.2", "sg-b"),
    ],
)
DESIRED = Desired(STATE, {"eni-a": "eth0"})
T = f"inet {TABLE}"
# What others do, and a word of each line that tells of it.
TAMPERED = [
    (f"insert rule {T} ingress accept", ["chain ingress has"]),
    (f"add rule {T} egress-entry accept", ["chain egress-entry has"]),
    (f"flush chain {T} ingress", ["chain ingress has"]),
    (f"add chain {T} mine; add rule {T} mine drop", ["chain mine is not ours"]),
    (f"add counter {T} mine", ["counter mine is not ours"]),
    (f"add map {T} mine {{ type ipv4_addr : verdict; }}", ["map mine is not ours"]),
    (f"add map {T} mine {{ type ipv4_addr : verdict; flags interval; }}", ["map mine, of a kind"]),
    (f"add set {T} mine {{ type ipv4_addr; }}", ["set mine is not ours"]),
    (f"flush map {T} ingress-enis", ["map ingress-enis has"]),
    (f"delete element {T} applied {{ 0x00000000 }}", ["map applied has"]),
    (f"add chain {T} ingress {{ policy accept; }}", ["chain ingress: its policy", "chain ingress has"]),
    (f"insert rule {T} ingress counter", ["chain ingress: a rule with `counter`", "chain ingress has"]),
    (f"insert rule {T} ingress limit rate 1/second drop", ["can't be read: limit", "chain ingress has"]),
    (f"add table {T} {{ flags dormant; }}", ["the table has flags"]),
]


@pytest.mark.parametrize(("commands", "lines"), TAMPERED, ids=[entry[0] for entry in TAMPERED])
def test_what_others_change_is_seen(namespace: str, commands: str, lines: list[str]) -> None:
    enforce(namespace, DESIRED, settings=PLAIN)
    before = held_in(namespace)
    table = wanted(DESIRED, before)
    assert (before.odd, list(differences(table, before.table))) == ((), [])
    nft(namespace, commands)
    held = held_in(namespace)
    found = [*held.odd, *differences(table, held.table)]
    assert len(found) == len(lines), found
    for line, word in zip(found, lines, strict=True):
        assert word in line


LOGGED = 'limit rate 9/second burst 9 packets log prefix "sgdp x" group 7 snaplen 256'
MAPS = {
    "kin": "ipv4_addr : classid",
    "ranks": "classid : classid",
    "winners": "classid : verdict",
    "marks": "classid : mark",
}
# Another's rule, and how it reads in our words; None: only that it can't be read, and why.
FOREIGN: list[tuple[str, str | None]] = [
    ("tcp dport 22 accept", "meta l4proto 6 th dport 22 accept"),
    ("udp sport 5-9 udp dport 53 drop", "meta l4proto 17 th sport 5-9 th dport 53 drop"),
    ("tcp sport 7 tcp dport 22 accept", "meta l4proto 6 th sport 7 th dport 22 accept"),
    ("ip saddr 10.0.0.0/8 drop", "meta nfproto ipv4 ip saddr 10.0.0.0-10.255.255.255 drop"),
    ("ip saddr 10.16.0.0/12 drop", "meta nfproto ipv4 ip saddr & 0xfff00000 == 10.16.0.0 drop"),
    ("ip6 daddr fe80::/16 drop", "meta nfproto ipv6 ip6 daddr fe80::-fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff drop"),
    ("ip daddr { 10.0.0.1, 10.0.0.3-10.0.0.9 }", "meta nfproto ipv4 ip daddr { 10.0.0.1, 10.0.0.3-10.0.0.9 }"),
    ("ip daddr >= 255.0.0.0 drop", "meta nfproto ipv4 ip daddr 255.0.0.0-255.255.255.255 drop"),
    ("tcp dport > 1023 tcp dport <= 2000 drop", "meta l4proto 6 th dport 1024-2000 drop"),
    ("tcp dport < 1024 drop", "meta l4proto 6 th dport 0-1023 drop"),
    ("tcp dport { 22, 80, 443 } accept", "meta l4proto 6 th dport { 22, 80, 443 } accept"),
    ("tcp dport != { 22, 80 } accept", "meta l4proto 6 th dport != { 22, 80 } accept"),
    ("tcp dport != 22-80 accept", "meta l4proto 6 th dport != 22-80 accept"),
    ("tcp dport vmap { 22 : accept, 80-90 : drop }", "meta l4proto 6 th dport vmap { 22 : accept, 80-90 : drop }"),
    ('iifname "eth*" accept', 'iifname "eth*" accept'),
    ('iifname != "lo" accept', 'iifname != "lo" accept'),
    ("ct state != new accept", "ct state != new accept"),
    ("ct state established,related accept", "ct state established,related accept"),
    ("ct mark 7 accept", "ct mark 0x00000007 accept"),
    ("ct mark set 7", "ct mark set ct mark & 0x00000000 | 0x00000007"),
    ("meta mark set 7 return", "meta mark set 0x00000007 return"),
    ("icmp type 8 accept", "meta nfproto ipv4 meta l4proto 1 icmp type 8 accept"),
    ("ip saddr . tcp dport { 10.0.0.1 . 22 } accept", None),
    ("ip saddr . ip daddr vmap { 10.0.0.1 . 10.0.0.2 : accept }", None),
    ("limit rate 1/second accept", None),
    ("limit rate 1/second", None),
    (LOGGED, LOGGED),
    (LOGGED.replace("sgdp ", ""), None),
    ("tcp dport 22 limit rate 1/second accept", None),
    ("ip ttl 1 drop", None),
    ("@nh,0,8 1 drop", None),
    ("meta skuid 0 accept", None),
    ("ct original ip saddr 10.0.0.1 drop", "ct original ip saddr 10.0.0.1 drop"),
    ("ct reply packets 1 drop", None),
    ("ct mark set meta mark", None),
    ("meta mark 1-5 drop", "meta mark 0x00000001-0x00000005 drop"),
    ("meta priority set 1", "meta priority set 0:1"),
    ("meta priority set none accept", "meta priority set none accept"),
    ("meta priority set ip saddr map @kin", "meta nfproto ipv4 meta priority set ip saddr map @kin"),
    ("meta priority set meta priority map @ranks drop", "meta priority set meta priority map @ranks drop"),
    ("meta priority none goto c0", "meta priority none goto c0"),
    ("meta priority 0:1-1:ffff drop", "meta priority 0:1-1:ffff drop"),
    ("meta priority != 0:1-1:ffff drop", "meta priority != 0:1-1:ffff drop"),
    ("meta priority > 0:5 drop", "meta priority 0:6-ffff:ffff drop"),
    ("meta priority { 0:1, 2:5 } drop", "meta priority { 0:1, 2:5 } drop"),
    ("meta priority != { 0:1-0:9, 2:5 } drop", "meta priority != { 0:1-0:9, 2:5 } drop"),
    ("meta priority vmap { 0:1 : drop, 2:5 : accept }", "meta priority vmap { 0:1 : drop, 2:5 : accept }"),
    ("meta priority vmap { 0:1-0:9 : drop, 2:5 : accept }", "meta priority vmap { 0:1-0:9 : drop, 2:5 : accept }"),
    ("meta priority vmap @winners", "meta priority vmap @winners"),
    ("meta priority set ip saddr map { 10.0.0.1 : 0:1 }", None),
    ("meta mark set meta priority map @marks", None),
    ("ct mark set meta priority map @marks accept", None),
    ("tcp option maxseg size set 1400", None),
    ("reject", None),
    ("fib saddr type local drop", None),
    ("notrack", None),
]


def test_others_rules_are_read_for_what_they_do_or_not_at_all(namespace: str) -> None:
    lines = [f"add rule {T} c{number} {text}" for number, (text, _) in enumerate(FOREIGN)]
    chains = [f"add chain {T} c{number}" for number in range(len(FOREIGN))]
    maps = [f"add map {T} {name} {{ type {types}; }}" for name, types in MAPS.items()]
    nft(namespace, f"add table {T}", *chains, *maps, *lines)
    held = held_in(namespace)
    readings: dict[str, str | None] = {}
    for number, (text, _) in enumerate(FOREIGN):
        (entry,) = held.table.chain[f"c{number}"].rules
        is_unreadable = any(line.startswith(f"chain c{number}: ") for line in held.odd)
        readings[text] = None if is_unreadable else rule_text(entry)
    assert readings == dict(FOREIGN)


def test_a_rule_that_can_not_be_read_matters_only_to_packets_that_come_to_it(namespace: str) -> None:
    base = f"add chain {T} ingress {{ type filter hook prerouting priority 0; policy drop; }}"
    rules = [f"add rule {T} ingress tcp dport 22 limit rate 1/second drop", f"add rule {T} ingress accept"]
    nft(namespace, f"add table {T}", base, *rules)
    table = held_in(namespace).table
    packets = {port: wire.opening(make_packet(f"ingress tcp/{port} 8.8.8.8"), "eth0") for port in (22, 23)}
    assert run(table, "ingress", packets[23]).verdict.value == "accept"
    with pytest.raises(InternalError, match="limit"):
        run(table, "ingress", packets[22])


def test_no_table_is_none(namespace: str) -> None:
    with netns.inside(namespace), Nfnetlink() as door:
        assert read_table(door, TABLE) is None
