"""The conntrack side of the table, row by row: what the mark and the state of a packet's session make of it.

Two ENIs in one namespace: eth0 (slot 1) lets TCP 80 in and nothing out but to 8.8.8.0/24; eth1 (slot 2) lets all out.
Each row holds as well if there are more ENIs, whose sessions are then looked up instead of told one by one.
"""

from __future__ import annotations

from functools import lru_cache

import pytest

from sgdataplane.compiler.compile import compile_policy, with_epoch
from sgdataplane.compiler.verdicts import FEW
from sgdataplane.contract.fields import CtDirection, CtState, Field
from sgdataplane.contract.marks import HALF
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.contract.stamp import STAMP_MAP
from sgdataplane.model.options import DEFAULTS
from sgdataplane.net.values import AH, ICMP, ICMPV6, TCP, UDP, Address, Direction
from sgdataplane.nft.interp import run
from sgdataplane.nft.ir import Key, SetMark, Table
from sgdataplane.policy.resolve import resolve
from tests.support.inputs.builders import make_eni, make_group, make_state

IN, OUT = Direction.INGRESS, Direction.EGRESS
EPOCH = 9
FAR, OWN0, OWN1 = (Address.parse(text).value for text in ("8.8.8.8", "10.0.0.1", "10.0.0.2"))


@lru_cache(maxsize=2)
def table(enis_besides: int = 0) -> Table:
    groups = [
        make_group(
            "sg-0",
            ["ingress tcp 80/80 from 0.0.0.0/0", "ingress 51 from 2001:4860::/32", "egress all to 8.8.8.0/24"],
            advanced=True,
        ),
        make_group("sg-1", ["egress all to 0.0.0.0/0"], advanced=True),
    ]
    enis = [make_eni("eni-0", "10.0.0.1 2001:db8::1", "sg-0"), make_eni("eni-1", "10.0.0.2", "sg-1")]
    interfaces = {"eni-0": "eth0", "eni-1": "eth1"}
    for number in range(2, 2 + enis_besides):
        enis.append(make_eni(f"eni-{number}", f"10.0.0.{1 + number}", "sg-1"))
        interfaces[f"eni-{number}"] = f"eth{number}"
    policy = resolve(make_state(groups, enis), interfaces, DEFAULTS, ("docker0", "veth*"))
    return compile_policy(policy, DEFAULTS, EPOCH)


def mark(side: Direction, epoch: int = EPOCH, slot: int = 1) -> int:
    return INSTANCE.marks.encode_acceptance(side, epoch, slot)


def packet(hook: Direction, ifname: str, **fields: Key) -> dict[Field, Key]:
    """A TCP packet between FAR and OWN0, port 81 of OWN0, unless the fields say otherwise; a None takes one away."""
    source, target = (FAR, OWN0) if hook is IN else (OWN0, FAR)
    base: dict[Field, Key] = {
        Field.IIFNAME if hook is IN else Field.OIFNAME: ifname,
        Field.NFPROTO: 2,
        Field.IP_SADDR: source,
        Field.IP_DADDR: target,
        Field.L4PROTO: TCP,
        Field.TH_SPORT: 40000 if hook is IN else 81,
        Field.TH_DPORT: 81 if hook is IN else 40000,
        Field.TCP_FLAGS: 0x10,
        Field.CT_STATE: CtState.ESTABLISHED,
        Field.CT_DIRECTION: CtDirection.ORIGINAL,
        Field.CT_MARK: 0,
    }
    return base | {Field[name.upper()]: value for name, value in fields.items()}


def session(port: int) -> dict[str, Key]:
    """The entry of a TCP session from FAR to that port of OWN0, as an ICMP error about it carries it."""
    return {
        "ct_protocol": TCP,
        "ct_original_ip_saddr": FAR,
        "ct_original_ip_daddr": OWN0,
        "ct_original_sport": 40000,
        "ct_original_dport": port,
        "ct_reply_ip_saddr": OWN0,
        "ct_reply_ip_daddr": FAR,
        "ct_reply_sport": port,
        "ct_reply_dport": 40000,
    }


def fate(hook: Direction, fields: dict[Field, Key]) -> tuple[str, int]:
    few, many = (run(table(besides), hook.value, fields) for besides in (0, FEW))
    assert (few.verdict, few.mark, few.counters) == (many.verdict, many.mark, many.counters)
    return few.verdict.value, few.mark


ORIGINAL, REPLY = CtDirection.ORIGINAL, CtDirection.REPLY
# name, hook, interface, fields, verdict, mark afterwards (None: unchanged)
ROWS: list[tuple[str, Direction, str, dict[str, Key], str, int | None]] = [
    ("accepted in this epoch passes, whatever the rules", IN, "eth0", {"ct_mark": mark(IN)}, "accept", None),
    ("its reply too", OUT, "eth0", {"ct_mark": mark(IN), "ct_direction": REPLY}, "accept", None),
    ("one-way UDP stays new, and passes", IN, "eth0", {"ct_mark": mark(IN), "ct_state": CtState.NEW}, "accept", None),
    ("older epoch is judged again: refused", IN, "eth0", {"ct_mark": mark(IN, EPOCH - 1)}, "drop", 0),
    ("older epoch, still allowed", IN, "eth0", {"ct_mark": mark(IN, EPOCH - 1), "th_dport": 80}, "accept", mark(IN)),
    (
        "reply of an older epoch, still allowed",
        OUT,
        "eth0",
        {"ct_mark": mark(IN, EPOCH - 1), "ct_direction": REPLY, "th_sport": 80},
        "accept",
        mark(IN),
    ),
    (
        "reply of an older epoch, refused now",
        OUT,
        "eth0",
        {"ct_mark": mark(IN, EPOCH - 1), "ct_direction": REPLY},
        "drop",
        0,
    ),
    ("epoch of the other half says nothing", IN, "eth0", {"ct_mark": mark(OUT)}, "drop", mark(OUT)),
    (
        "accept leaves the other half alone",
        IN,
        "eth0",
        {"ct_mark": mark(OUT, 3), "th_dport": 80},
        "accept",
        mark(OUT, 3) | mark(IN),
    ),
    ("session of another ENI is judged here", IN, "eth0", {"ct_mark": mark(IN, slot=2)}, "drop", 0),
    ("and by an interface that no ENI has", IN, "eth9", {"ct_mark": mark(IN)}, "drop", None),
    (
        "spoofed source in another ENI's session",
        OUT,
        "eth0",
        {"ct_mark": mark(OUT, slot=2), "ip_saddr": OWN1},
        "drop",
        None,
    ),
    ("invalid never passes", IN, "eth0", {"ct_state": CtState.INVALID, "th_dport": 80}, "drop", None),
    ("untracked never passes", IN, "eth0", {"ct_state": CtState.UNTRACKED, "th_dport": 80}, "drop", None),
    ("mid-stream egress never opens", OUT, "eth1", {"ct_state": CtState.NEW, "ip_saddr": OWN1}, "drop", None),
    (
        "bare SYN opens",
        OUT,
        "eth1",
        {"ct_state": CtState.NEW, "ip_saddr": OWN1, "tcp_flags": 2},
        "accept",
        mark(OUT, slot=2),
    ),
    (
        "SYN with ACK doesn't",
        OUT,
        "eth1",
        {"ct_state": CtState.NEW, "ip_saddr": OWN1, "tcp_flags": 0x12},
        "drop",
        None,
    ),
    (
        "mid-stream ingress is judged",
        IN,
        "eth0",
        {"ct_state": CtState.NEW, "th_dport": 80},
        "accept",
        mark(IN),
    ),
    ("running outbound session is judged", OUT, "eth0", {}, "accept", mark(OUT)),
    ("loopback passes", IN, "lo", {}, "accept", None),
    ("internal interface passes", OUT, "docker0", {"ip_saddr": 5}, "accept", None),
    ("internal interfaces by their beginning", IN, "veth12", {}, "accept", None),
    ("what only begins like one doesn't", IN, "docker01", {}, "drop", None),
]
AH_PACKET: dict[str, Key] = {
    "l4proto": AH,
    "nfproto": 10,
    "ip6_saddr": Address.parse("2001:4860::8888").value,
    "ip6_daddr": Address.parse("2001:db8::1").value,
}
REFUSED_AH = AH_PACKET | {"ip6_saddr": 1}
AH_OVER_IPV4: dict[str, Key] = {"l4proto": AH, "ip_saddr": OWN1}
ROWS += [
    ("AH over IPv6 has no part in the session behind it", IN, "eth0", REFUSED_AH | {"ct_mark": mark(IN)}, "drop", None),
    ("and marks none where a rule takes AH", IN, "eth0", AH_PACKET, "accept", None),
    ("AH over IPv4 is a session of its own", OUT, "eth1", AH_OVER_IPV4, "accept", mark(OUT, slot=2)),
]
ICMP_ERROR: dict[str, Key] = {"ct_state": CtState.RELATED, "l4proto": ICMP, "icmp_type": 3}
# Errors that eth0 sends about packets from outside to its ports 81 and 80; and one that comes in about an answer.
REVOKED = {**ICMP_ERROR, "ct_direction": REPLY, **session(81)}
STAYING = {**ICMP_ERROR, "ct_direction": REPLY, **session(80)}
ABOUT_ANSWER = {**ICMP_ERROR, "ct_direction": ORIGINAL, **session(80)}
ICMP6_ERROR: dict[str, Key] = {
    "ct_state": CtState.RELATED,
    "l4proto": ICMPV6,
    "icmpv6_type": 2,
    "ip6_saddr": 1,
    "ip6_daddr": Address.parse("2001:db8::1").value,
    "nfproto": 10,
}
ROWS += [
    ("ICMP error of an accepted session", IN, "eth0", {**ICMP_ERROR, "ct_mark": mark(IN)}, "accept", None),
    ("IPv6 packet too big of one", IN, "eth0", {**ICMP6_ERROR, "ct_mark": mark(IN)}, "accept", None),
    ("ICMP error sent of one", OUT, "eth0", {**ICMP_ERROR, "ct_mark": mark(OUT)}, "accept", None),
    ("ICMP error of a revoked session", OUT, "eth0", {**REVOKED, "ct_mark": mark(IN, EPOCH - 1)}, "drop", None),
    ("ICMP error of a session nobody accepted", OUT, "eth0", REVOKED, "drop", None),
    ("ICMP error of one that stays", OUT, "eth0", {**STAYING, "ct_mark": mark(IN, EPOCH - 1)}, "accept", None),
    ("ICMP error about its answer", IN, "eth0", ABOUT_ANSWER, "accept", None),
    ("ICMP error of another ENI's session", OUT, "eth0", {**REVOKED, "ct_mark": mark(IN, slot=2)}, "drop", None),
    (
        "ICMP error from a foreign source, of one that stays",
        OUT,
        "eth0",
        {**STAYING, "ip_saddr": FAR},
        "drop",
        None,
    ),
    ("ICMP redirect of one that stays", OUT, "eth0", {**STAYING, "icmp_type": 5}, "drop", None),
    (
        "ICMP error from a foreign source",
        OUT,
        "eth0",
        {**ICMP_ERROR, "ct_mark": mark(OUT), "ip_saddr": FAR},
        "drop",
        None,
    ),
    ("ICMP redirect is no error", IN, "eth0", {**ICMP_ERROR, "icmp_type": 5, "ct_mark": mark(IN)}, "drop", None),
    (
        "what a helper expects is judged",
        IN,
        "eth0",
        {"ct_state": CtState.RELATED, "ct_mark": mark(IN), "tcp_flags": 2},
        "drop",
        0,
    ),
    (
        "a DHCP server's offer is refused",
        OUT,
        "eth0",
        {"l4proto": UDP, "th_sport": 67, "th_dport": 68, "ct_state": CtState.NEW},
        "drop",
        None,
    ),
    (
        "DHCP from any other port is judged",
        OUT,
        "eth0",
        {
            "l4proto": UDP,
            "ip_saddr": 0,
            "ip_daddr": 0xFFFFFFFF,
            "th_sport": 69,
            "th_dport": 67,
            "ct_state": CtState.NEW,
        },
        "drop",
        None,
    ),
]


@pytest.mark.parametrize(
    ("hook", "ifname", "fields", "verdict", "after"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_packet_of_a_session(
    hook: Direction, ifname: str, fields: dict[str, Key], verdict: str, after: int | None
) -> None:
    sent = packet(hook, ifname, **fields)
    if sent[Field.NFPROTO] == 10:
        del sent[Field.IP_SADDR], sent[Field.IP_DADDR]
    if sent[Field.L4PROTO] in (ICMP, ICMPV6):
        del sent[Field.TH_SPORT], sent[Field.TH_DPORT], sent[Field.TCP_FLAGS]
    if sent[Field.CT_STATE] in (CtState.INVALID, CtState.UNTRACKED):
        del sent[Field.CT_DIRECTION], sent[Field.CT_MARK]  # such a packet has no entry
    before = int(sent.get(Field.CT_MARK, 0))
    assert fate(hook, sent) == (verdict, before if after is None else after)


@pytest.mark.parametrize("besides", [0, FEW], ids=["few", "many"])
def test_a_half_is_never_written_in_parts(besides: int) -> None:
    """Else another ENI's verdict on the same entry could come in between, and its slot meet the epoch of this one."""
    written = [
        statement
        for chain in table(besides).chains
        for rule in chain.rules
        for statement in rule.statements
        if isinstance(statement, SetMark)
    ]
    assert {mark.keep for mark in written} == {0xFFFFFFFF & ~half for half in HALF.values()}
    assert all(
        mark.value == 0 or INSTANCE.marks.parts(side, mark.value)[0] == EPOCH
        for mark in written
        for side in Direction
        if not mark.keep & HALF[side]
    )


def test_another_epoch_of_many_enis_changes_no_rule_with_a_verdict() -> None:
    """Whoever adds such a rule makes the kernel validate the whole table."""
    now, later = table(enis_besides=FEW), with_epoch(table(enis_besides=FEW), EPOCH + 1)
    changed = [chain for chain in later.chains if chain != now.chain[chain.name]]
    assert len(changed) == 2 * (2 + FEW)  # for each side and ENI
    assert all(isinstance(part, SetMark) for chain in changed for entry in chain.rules for part in entry.statements)
    assert {entry.name for entry in later.maps if entry != now.map[entry.name]} == {
        STAMP_MAP,
        "ingress-sessions",
        "egress-sessions",
    }
