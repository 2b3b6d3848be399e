"""Policies and packets drawn from a seed: what arrives is what `decide()` and the model of sessions say."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet

from sgdataplane.lab.manage import enforce_policy
from sgdataplane.lab.replay.stage import build_lab
from tests.replay.conftest import Stage
from tests.support.scenes.labs import assert_gone, choices_at, state_of

pytestmark = pytest.mark.replay

PORTS = (22, 53, 80, 443)
GROUPS, INSTANCES = ("sg-1", "sg-2", "sg-3"), (1, 2, 3)
CIDRS = ("0.0.0.0/0", "10.5.0.0/31", "198.51.100.0/25", "192.0.2.0/24", "10.5.0.2/31")
CIDRS6 = ("::/0", "2001:db8:5::/127", "2001:db8:77::/64")
OUTSIDE, OUTSIDE6 = ("198.51.100.9", "198.51.100.200", "192.0.2.1"), ("2001:db8:77::1", "2001:db8:78::1")


def rules(chance: random.Random, own: str) -> Iterator[str]:
    for number in range(chance.randint(2, 7)):
        direction, protocol = (
            chance.choice(("ingress", "egress")),
            chance.choice(("tcp", "udp", "icmp", "icmpv6", "all")),
        )
        first, last = sorted(chance.choices(PORTS, k=2))
        ports = f"{first}/{last}" if protocol in ("tcp", "udp") else "-1/-1"
        side = "source" if direction == "ingress" else "dest"
        group = f"{side}_security_group_id: {chance.choice([g for g in GROUPS if g != own])}"
        cidr, cidr6 = f"cidr_ip: {chance.choice(CIDRS)}", f'ipv6_cidr_ip: "{chance.choice(CIDRS6)}"'
        remote = chance.choice((group, cidr6)) if protocol == "icmpv6" else chance.choice((group, cidr, cidr6))
        remote = cidr if protocol == "icmp" else remote
        more = f"policy: {chance.choice(('accept', 'drop'))}, priority: {chance.randint(1, 4)}"
        text = f"type: {direction}, ip_protocol: {protocol}, port_range: {ports}, {remote}, {more}"
        yield f"      - {{security_group_rule_id: {own}-{number}, {text}}}"


def state_text(chance: random.Random) -> str:
    lines = ["version: 1", 'vpcs: [{vpc_id: vpc-x, cidr_blocks: [10.5.0.0/16, "2001:db8:5::/64"]}]', "security_groups:"]
    for group in GROUPS:
        inner = chance.choice(("Accept", "Drop"))
        lines.append(f"  - security_group_id: {group}\n    vpc_id: vpc-x\n    inner_access_policy: {inner}\n    rules:")
        lines += rules(chance, group)
    lines.append("instances: [" + ", ".join(f"{{instance_id: i-{n}}}" for n in INSTANCES) + "]\nnetwork_interfaces:")
    for n in INSTANCES:
        groups = ", ".join(chance.sample(GROUPS, chance.randint(1, 2)))
        ends = (
            f'private_ip_addresses: [10.5.0.{n}], ipv6_addresses: ["2001:db8:5::{n}"], security_group_ids: [{groups}]'
        )
        lines.append(f"  - {{network_interface_id: eni-{n}, instance_id: i-{n}, type: primary, vpc_id: vpc-x, {ends}}}")
    return "\n".join(lines)


def packets(chance: random.Random, count: int) -> Iterator[Packet]:
    """Packets that open sessions, and packets that may be answers to earlier ones."""
    said: list[tuple[str, str, int, int]] = []
    for _ in range(count):
        is_ipv4 = chance.random() < 0.6
        inside = [f"10.5.0.{n}" if is_ipv4 else f"2001:db8:5::{n}" for n in INSTANCES]
        source, target = chance.sample([*inside, chance.choice(OUTSIDE if is_ipv4 else OUTSIDE6)], k=2)
        sport, dport = chance.randrange(20_000, 60_000), chance.choice(PORTS)
        if said and chance.random() < 0.4:
            target, source, dport, sport = chance.choice(said)
        said.append((source, target, sport, dport))
        ip = (IPv6 if ":" in source else IP)(src=source, dst=target)
        kind = chance.randrange(4)
        if kind == 0:
            yield ip / (ICMP(id=sport) if IP in ip else ICMPv6EchoRequest(id=sport))
        elif kind == 1:
            yield ip / TCP(sport=sport, dport=dport, flags=chance.choice(("S", "S", "A", "SA")))
        else:
            yield ip / UDP(sport=sport, dport=dport)


def check(seed: int, name: str, placement: str, folder: Path) -> None:
    chance = random.Random(seed)
    text = state_text(chance)
    with build_lab(name, state_of(text), choices_at(placement), enforce_policy) as (lab, everybody):
        report = Stage(lab, everybody, folder).replay(packets(chance, 400))
    assert_gone(name)
    told = [(flow.name, flow.problem) for flow in report.flows.values() if flow.problem]
    assert (report.disagreements, told) == (0, []), f"seed {seed}\n{text}"
    arrived = sum(flow.delivered for flow in report.flows.values())
    assert 20 < arrived < report.sent - 20, f"seed {seed}: {arrived} of {report.sent} arrived, which proves little"


def test_a_policy_at_random(lab_name: str, placement: str, tmp_path: Path) -> None:
    check(1, lab_name, placement, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_policies_at_random(seed: int, lab_name: str, placement: str, tmp_path: Path) -> None:
    check(seed, lab_name, placement, tmp_path)
