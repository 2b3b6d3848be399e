"""The fence, frame by frame, and what its names and its stamp depend on. tests/fence sends real frames."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdataplane.compiler.compile import compile_policy, with_epoch
from sgdataplane.compiler.fence import PLACEHOLDER, compile_fence
from sgdataplane.compiler.skeleton import make_stamp_map
from sgdataplane.contract.counters import FENCE_CAUSES
from sgdataplane.contract.fields import CtDirection, CtState, Field, Hook
from sgdataplane.contract.stamp import Stamp
from sgdataplane.contract.tables import pass_name
from sgdataplane.model.options import DEFAULTS, Placement
from sgdataplane.net.values import Address, Direction, link_local
from sgdataplane.nft.inflight import has_nameless_set
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, Table
from sgdataplane.nft.outline import stamp_of
from sgdataplane.nft.text import add_chain, render_table
from sgdataplane.policy.resolve import resolve
from tests.support.inputs.builders import make_eni, make_group, make_state

SECRET, MAC = 0xABCDEF01, 0x00163E000001
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ENI = make_eni("eni-a", "10.0.0.1 10.0.16.0/28 2001:db8::1", "sg-a", mac_address="00:16:3e:00:00:01")
POLICY = resolve(make_state([make_group("sg-a")], [ENI]), {"eni-a": "eth0"}, DEFAULTS, ("docker0",))
FENCE = compile_fence({"eth0": ENI}, DEFAULTS, SECRET)
LINK = str(link_local(ENI.mac_address))


def ip(text: str) -> int:
    return Address.parse(text).value


def frame(kind: int, **fields: Key) -> dict[Field, Key]:
    base: dict[Field, Key] = {Field.ETHER_SADDR: MAC, Field.ETHER_TYPE: kind, Field.PROTOCOL: kind}
    base |= {Field.IIFNAME: "eth0", Field.OIFNAME: "eth0"}
    return base | {Field[name.upper()]: value for name, value in fields.items()}


def arp(**fields: Key) -> dict[Field, Key]:
    own = ip("10.0.0.1")
    sender: dict[str, Key] = {"arp_sender_mac": MAC, "arp_sender_ip": own, "arp_target_ip": own}
    shape: dict[str, Key] = {"arp_htype": 1, "arp_ptype": IPV4, "arp_hlen": 6, "arp_plen": 4, "arp_operation": 1}
    return frame(ARP, **(shape | sender | fields))


def dhcp(**fields: Key) -> dict[Field, Key]:
    shape: dict[str, Key] = {"ip_saddr": 0, "ip_daddr": ip("255.255.255.255"), "ip_fragment": 0, "l4proto": 17}
    return frame(IPV4, **(shape | {"th_sport": 68, "th_dport": 67} | fields))


APPROVED: dict[str, Key] = {"packet_mark": SECRET, "route_realm": 0}
ROWS: list[tuple[str, dict[Field, Key], str]] = [
    ("approved", frame(IPV4, **APPROVED), ""),
    ("approved6", frame(IPV6, **APPROVED), ""),
    ("approved-but-another's-mac", frame(IPV4, **APPROVED, ether_saddr=MAC + 1), "other-mac"),
    ("approved-and-then-labelled", frame(0x8847, **APPROVED), "other"),
    ("approved-and-then-tagged", frame(0x8100, **APPROVED, protocol=IPV4), "tagged"),
    ("approved-and-then-labelled-as-ip", frame(0x8847, **APPROVED, protocol=IPV4), "other"),
    ("marked-but-not-routed", frame(IPV4, packet_mark=SECRET), "unapproved"),
    ("routed-but-not-marked", frame(IPV4, route_realm=0), "unapproved"),
    ("other-mark", frame(IPV6, packet_mark=SECRET ^ 1, route_realm=0), "unapproved"),
    ("own-arp", arp(), ""),
    ("arp-of-a-delegated-prefix", arp(arp_sender_ip=ip("10.0.16.3")), ""),
    ("arp-probe", arp(arp_sender_ip=0), ""),
    ("arp-probe-for-another's", arp(arp_sender_ip=0, arp_target_ip=ip("10.0.0.2")), "arp-claim"),
    ("arp-of-another", arp(arp_sender_ip=ip("10.0.0.2")), "arp-claim"),
    ("arp-with-another's-mac", arp(arp_sender_mac=MAC + 1), "arp-claim"),
    ("arp-read-as-ip", arp(protocol=IPV4), "arp-claim"),
    ("arp-of-another-hardware", arp(arp_htype=6), "arp-claim"),
    ("arp-about-another-protocol", arp(arp_ptype=IPV6), "arp-claim"),
    ("arp-with-longer-hardware-addresses", arp(arp_hlen=8), "arp-claim"),
    ("arp-with-longer-addresses", arp(arp_plen=16), "arp-claim"),
    ("arp-that-asks-otherwise", arp(arp_operation=8), "arp-claim"),
    ("dhcp", dhcp(), ""),
    ("dhcp-in-a-fragment", dhcp(ip_fragment=0x2000), "unapproved"),
    ("dhcp-to-elsewhere", dhcp(ip_daddr=ip("10.0.0.2")), "unapproved"),
    ("dhcp-read-as-something-else", dhcp(protocol=0x88B5), "unapproved"),
    ("802.1q", frame(0x8100), "tagged"),
    ("802.1ad", frame(0x88A8), "tagged"),
    ("eapol", frame(0x888E), "other"),
]


def expected(cause: str) -> tuple[str, list[str], list[str]]:
    """Verdict, counters, logs."""
    return ("drop", [f"fence.{cause}", "fence-dropped.eth0"], [f"fence.{cause}"]) if cause else ("accept", [], [])


@pytest.mark.parametrize(("name", "fields", "cause"), ROWS, ids=[row[0] for row in ROWS])
def test_frame(name: str, fields: dict[Field, Key], cause: str) -> None:
    outcome = run(FENCE, "egress.eth0", fields)
    assert (outcome.verdict.value, outcome.counters, outcome.logs) == expected(cause), name


SERVED: dict[str, Key] = {"l4proto": 17, "th_sport": 67, "th_dport": 68}
SERVED6: dict[str, Key] = {"l4proto": 17, "th_sport": 547, "th_dport": 546}
HOST_ROWS: list[tuple[str, dict[Field, Key], str]] = [
    ("ip", frame(IPV4, ip_saddr=ip("10.0.0.1"), l4proto=6, th_sport=1, th_dport=2), ""),
    ("ip-and-whole", frame(IPV4, ip_saddr=ip("10.0.0.1"), ip_fragment=0x4000), ""),
    ("ip-and-whole-of-another", frame(IPV4, ip_saddr=ip("10.0.0.2"), ip_fragment=0), "spoofed"),
    ("ip-and-whole-with-a-tag", frame(0x8100, ip_saddr=ip("10.0.0.1"), ip_fragment=0, protocol=IPV4), "tagged"),
    (
        "ip-and-whole-with-another's-mac",
        frame(IPV4, ip_saddr=ip("10.0.0.1"), ip_fragment=0, ether_saddr=1),
        "other-mac",
    ),
    ("ip-of-a-delegated-prefix", frame(IPV4, ip_saddr=ip("10.0.16.15")), ""),
    ("ip-beside-it", frame(IPV4, ip_saddr=ip("10.0.16.16")), "spoofed"),
    ("ip-of-another", frame(IPV4, ip_saddr=ip("10.0.0.2")), "spoofed"),
    ("ip6", frame(IPV6, ip6_saddr=ip("2001:db8::1"), l4proto=58), ""),
    ("discovery", frame(IPV6, ip6_saddr=ip(LINK), icmpv6_type=135, ip6_daddr=ip("ff02::1:ff00:1")), ""),
    ("discovery-of-its-own", frame(IPV6, ip6_saddr=ip("2001:db8::1"), icmpv6_type=136, ip6_daddr=ip("fe80::1")), ""),
    ("ip6-and-whole", frame(IPV6, ip6_saddr=ip("2001:db8::1"), ip6_fragment=0, l4proto=17), ""),
    ("ip6-and-whole-of-another", frame(IPV6, ip6_saddr=ip("2001:db8::2"), ip6_fragment=0, l4proto=17), "spoofed"),
    (
        "discovery-to-elsewhere",
        frame(
            IPV6,
            ip6_saddr=ip("2001:db8::1"),
            ip6_fragment=0,
            l4proto=58,
            icmpv6_type=135,
            ip6_daddr=ip("2001:db8::2"),
        ),
        "discovery",
    ),
    ("echo-to-elsewhere", frame(IPV6, ip6_saddr=ip("2001:db8::1"), icmpv6_type=128, ip6_daddr=ip("2001:db8::2")), ""),
    ("ip6-of-its-link", frame(IPV6, ip6_saddr=ip(LINK)), ""),
    ("ip6-of-the-gateway's-link", frame(IPV6, ip6_saddr=ip("fe80::1")), "spoofed"),
    ("ip6-of-nobody", frame(IPV6, ip6_saddr=0), ""),
    ("ip6-of-another", frame(IPV6, ip6_saddr=ip("2001:db8::2")), "spoofed"),
    ("ip-with-another's-mac", frame(IPV4, ether_saddr=MAC + 1), "other-mac"),
    ("ip-read-as-something-else", frame(IPV4, ip_saddr=ip("10.0.0.1"), protocol=0x88B5), "spoofed"),
    ("own-arp", arp(), ""),
    ("arp-of-another", arp(arp_sender_ip=ip("10.0.0.2")), "arp-claim"),
    ("dhcp-client", dhcp(), ""),
    ("dhcp-server", frame(IPV4, ip_saddr=ip("10.0.0.1"), **SERVED), ""),
    ("dhcp-server-tagged", frame(0x8100, protocol=IPV4, **SERVED), "tagged"),
    ("dhcpv6-server", frame(IPV6, ip6_saddr=ip("2001:db8::1"), **SERVED6), ""),
    ("802.1q", frame(0x8100, protocol=IPV4), "tagged"),
    ("802.1ad", frame(0x88A8, protocol=IPV6), "tagged"),
    ("eapol", frame(0x888E), "other"),
]


@pytest.mark.parametrize(("name", "fields", "cause"), HOST_ROWS, ids=[row[0] for row in HOST_ROWS])
def test_frame_that_comes_to_the_host(name: str, fields: dict[Field, Key], cause: str) -> None:
    fence = compile_fence({"eth0": ENI}, DEFAULTS, SECRET, Placement.HOST)
    outcome = run(fence, "ingress.eth0", fields, is_flood=False)
    assert (outcome.verdict.value, outcome.counters, outcome.logs) == expected(cause), name


OWN_DISCOVERY: dict[str, Key] = {"ip6_saddr": ip("2001:db8::1"), "ip6_fragment": 0, "l4proto": 58, "icmpv6_type": 135}
FLOOD_ROWS: list[tuple[str, dict[Field, Key], str]] = [
    ("ip", frame(IPV4, ip_saddr=ip("10.0.0.1"), ip_fragment=0x4000), ""),
    ("first-fragment", frame(IPV4, ip_saddr=ip("10.0.0.1"), ip_fragment=0x2000), "fragments"),
    ("later-fragment", frame(IPV4, ip_saddr=ip("10.0.0.1"), ip_fragment=1), "fragments"),
    ("ip6", frame(IPV6, ip6_saddr=ip("2001:db8::1"), ip6_fragment=0), ""),
    ("fragment6", frame(IPV6, ip6_saddr=ip("2001:db8::1"), ip6_fragment=1), "fragments"),
    ("discovery", frame(IPV6, ip6_saddr=ip(LINK), icmpv6_type=135, ip6_daddr=ip("ff02::1")), "discovery-limit"),
    ("own-discovery", frame(IPV6, **OWN_DISCOVERY), "discovery-limit"),
    ("echo", frame(IPV6, ip6_saddr=ip("2001:db8::1"), icmpv6_type=128), ""),
    ("arp", arp(), "discovery-limit"),
    ("arp-of-a-delegated-prefix", arp(arp_sender_ip=ip("10.0.16.3")), "discovery-limit"),
]


@pytest.mark.parametrize(("name", "fields", "cause"), FLOOD_ROWS, ids=[row[0] for row in FLOOD_ROWS])
def test_one_frame_of_too_many_that_come_to_the_host(name: str, fields: dict[Field, Key], cause: str) -> None:
    fence = compile_fence({"eth0": ENI}, DEFAULTS, SECRET, Placement.HOST)
    outcome = run(fence, "ingress.eth0", fields, is_flood=True)
    assert (outcome.verdict.value, outcome.counters, outcome.logs) == expected(cause), name


FROM_ELSEWHERE = frame(IPV4, ip_saddr=ip("198.51.100.1"), ip_fragment=0)
UPLINK_ROWS: list[tuple[str, dict[Field, Key], str, str]] = [  # what drops one, and what one of too many
    ("ip", FROM_ELSEWHERE, "", ""),
    ("ip-with-a-tag", FROM_ELSEWHERE | {Field.ETHER_TYPE: 0x8100}, "", ""),
    ("fragment", FROM_ELSEWHERE | {Field.IP_FRAGMENT: 1}, "", "fragments"),
    ("fragment6", frame(IPV6, ip6_saddr=ip("2001:db8:f::1"), ip6_fragment=1), "", "fragments"),
    ("an-eni's", frame(IPV4, ip_saddr=ip("10.0.0.1"), ip_fragment=0), "spoofed", "spoofed"),
    ("an-eni's-with-a-tag", frame(IPV4, ip_saddr=ip("10.0.16.3"), ether_type=0x8100), "spoofed", "spoofed"),
    ("an-eni's-fragment", frame(IPV6, ip6_saddr=ip("2001:db8::1"), ip6_fragment=1), "spoofed", "spoofed"),
    ("question", frame(ARP, arp_operation=1), "", "discovery-limit"),
    ("answer", frame(ARP, arp_operation=2), "", ""),
    ("question6", frame(IPV6, ip6_saddr=ip("fe80::1"), icmpv6_type=135), "", "discovery-limit"),
    ("answer6", frame(IPV6, ip6_saddr=ip("fe80::1"), icmpv6_type=136), "", ""),
    ("lldp", frame(0x88CC), "", ""),
]


@pytest.mark.parametrize("is_flood", [False, True], ids=["one", "of-too-many"])
@pytest.mark.parametrize(("name", "fields", "one", "many"), UPLINK_ROWS, ids=[row[0] for row in UPLINK_ROWS])
def test_frame_that_comes_by_an_uplink(
    name: str, fields: dict[Field, Key], one: str, many: str, *, is_flood: bool
) -> None:
    fence = compile_fence({"eth0": ENI}, DEFAULTS, SECRET, Placement.HOST, ("up0",))
    outcome = run(fence, "ingress.up0", fields | {Field.IIFNAME: "up0"}, is_flood=is_flood)
    verdict, counters, logs = expected(many if is_flood else one)
    of_uplink = [counter.replace("eth0", "up0") for counter in counters]
    assert (outcome.verdict.value, outcome.counters, outcome.logs) == (verdict, of_uplink, logs), name


def test_every_cause_has_a_row() -> None:
    assert {row[2] for row in (*ROWS, *HOST_ROWS, *FLOOD_ROWS)} == {"", *FENCE_CAUSES}


def test_only_base_chains_and_the_stamp_know_the_secret() -> None:
    other = compile_fence({"eth0": ENI}, DEFAULTS, PLACEHOLDER)
    assert {chain.name for chain in FENCE.chains if chain.rules != other.chain[chain.name].rules} == {"egress.eth0"}
    assert stamp_of(FENCE).digest == stamp_of(other).digest
    assert (stamp_of(FENCE).secret, stamp_of(other).secret) == (SECRET, PLACEHOLDER)


@pytest.mark.parametrize(
    "eni",
    [
        pytest.param(replace(ENI, mac_address="00:16:3e:00:00:02"), id="mac"),
        pytest.param(replace(ENI, private_ip_addresses=(Address.parse("10.0.0.9"),)), id="address"),
    ],
)
def test_digest_tells_what_the_fence_depends_on(eni: object) -> None:
    changed = compile_fence({"eth0": eni}, DEFAULTS, SECRET)  # type: ignore[dict-item]
    assert stamp_of(changed).digest != stamp_of(FENCE).digest


def test_each_interface_has_its_base_chain_on_its_device() -> None:
    two = compile_fence({"eth0": ENI, "eth1": replace(ENI, mac_address="00:16:3e:00:00:02")}, DEFAULTS, SECRET)
    hooks = {chain.name: chain.hook for chain in two.chains if chain.hook}
    assert hooks == {f"egress.eth{n}": Hook("egress", 0, f"eth{n}") for n in (0, 1)}
    text = add_chain(two, two.chain["egress.eth1"])
    assert text.endswith('{ type filter hook egress device "eth1" priority 0; }')


@pytest.mark.parametrize("where", Placement)
def test_chains_of_an_eni_have_no_sets_without_a_name(where: Placement) -> None:
    """The kernel compares each of these with all others."""
    enis = {f"eth{number}": make_eni(f"eni-{number}", f"10.0.0.{1 + number} 2001:db8::1", "sg") for number in range(3)}
    fence = compile_fence(enis, DEFAULTS, SECRET, where)
    having = {chain.name for chain in fence.chains if any(map(has_nameless_set, chain.rules))}
    assert having
    assert not any("eth" in name for name in having)


# the policy's side: who gets the mark


def policy(secret: int) -> Table:
    return compile_policy(POLICY, DEFAULTS, 3, secret)


def test_secret_moves_like_the_epoch_and_changes_no_digest() -> None:
    first, second = policy(SECRET), policy(PLACEHOLDER)
    changed = {chain.name for chain in first.chains if chain.rules != second.chain[chain.name].rules}
    # and none where packets come in: they may be read there with their mark
    assert changed == {"egress", pass_name(Direction.EGRESS), "egress-accept.ingress", "egress-accept.egress"}
    assert stamp_of(first).digest == stamp_of(second).digest == stamp_of(policy(0)).digest
    assert with_epoch(first, 3, PLACEHOLDER) == second
    assert f"{SECRET:#010x}" not in render_table(policy(0))
    assert policy(0).map["applied"] == make_stamp_map(Stamp(3, stamp_of(first).digest))


@pytest.mark.parametrize(
    ("hook", "fields", "expected"),
    [
        pytest.param("egress", {Field.OIFNAME: "eth0"}, SECRET, id="leaves-by-an-eni"),
        pytest.param("egress", {Field.OIFNAME: "lo"}, 0, id="loopback"),
        pytest.param("egress", {Field.OIFNAME: "docker0"}, 0, id="internal"),
        pytest.param("ingress", {Field.IIFNAME: "docker0"}, 0, id="comes-from-an-internal-one"),
    ],
)
def test_only_what_leaves_by_an_eni_is_marked(hook: str, fields: dict[Field, Key], expected: int) -> None:
    packet: dict[Field, Key] = {
        Field.NFPROTO: 2,
        Field.IP_SADDR: ip("10.0.0.1"),
        Field.IP_DADDR: ip("8.8.8.8"),
        Field.L4PROTO: 17,
        Field.TH_SPORT: 1,
        Field.TH_DPORT: 2,
        Field.CT_STATE: CtState.NEW,
        Field.CT_DIRECTION: CtDirection.ORIGINAL,
        Field.CT_MARK: 0,
    }
    outcome = run(policy(SECRET), hook, packet | fields)
    assert (outcome.verdict.value, outcome.packet_mark) == ("accept", expected)
