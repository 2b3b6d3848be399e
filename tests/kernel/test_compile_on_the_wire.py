"""Generated states on the real kernel: each real packet has the fate, and the counter, that decide() says.

The table goes in the way the product puts it in: enforced over whatever the state before left there.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from sgdataplane.contract.counters import counter_name
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Desired, Settings
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import DHCP_BROADCAST, Options
from sgdataplane.model.semantics import decide
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import ICMP, ICMPV6, Direction, Family, Verdict
from sgdataplane.policy.resolve import interfaces_of
from tests.support.inputs import gen
from tests.support.inputs.building import enforce
from tests.support.probes.wirelab import WAY, WireLab

pytestmark = pytest.mark.kernel

PACKETS = 200
MACS = ("00:16:3e:00:00:00", "00:16:3e:00:00:01")
ECHO = {Family.IPV4: (ICMP, 8), Family.IPV6: (ICMPV6, 128)}
COUNTED = ("rule", "inner", "default", "audited")


@pytest.fixture(scope="module")
def lab(unique_prefix: str) -> Iterator[WireLab]:
    with WireLab(f"{unique_prefix}-wire", MACS) as made:
        yield made


def is_sendable(packet: Packet) -> bool:
    """Whether the wire can carry it as the opening packet of a session: a header chain that ends at its protocol.

    Of ICMP that is an echo request or neighbour discovery; all else opens nothing: conntrack calls it invalid.
    """
    if packet.remote.value == 0:
        return False  # the kernel takes it for itself, and the session would be one of lo
    if packet.protocol in (ICMP, ICMPV6):
        is_discovery = packet.family is Family.IPV6 and packet.icmp_type in (130, 133, 134, 135, 136, 137, 143)
        return (packet.protocol, packet.icmp_type) == ECHO[packet.family] or (
            is_discovery and packet.protocol == ICMPV6
        )
    return packet.protocol not in (0, 132)  # hop-by-hop options; SCTP, whose first chunk conntrack checks


def judged_counter(decision: Decision) -> str:
    """The counter of the rule, inner accept or default that decides; "" where something else does."""
    return "" if decision.is_fixed else counter_name(decision)


def is_judged_twice(packet: Packet, verdict: Verdict) -> bool:
    """The kernel runs the egress hook once more for its own copy of a broadcast (ip_mc_output). Both share one
    conntrack entry, so once one is accepted the other takes the fast path; a refused one is refused again."""
    is_broadcast = packet.direction is Direction.EGRESS and packet.remote == DHCP_BROADCAST
    return is_broadcast and verdict is Verdict.DROP


@dataclass
class Tally:
    """What was sent, and what of it proved something."""

    sent: int = 0
    proven: Counter[tuple[Direction, Family, Verdict]] = field(default_factory=Counter)


@pytest.mark.parametrize("states", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_real_packets_meet_the_fate_that_decide_says(lab: WireLab, states: int) -> None:
    tally = Tally()

    @seed(20261)
    @settings(max_examples=states, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(gen.states(), gen.options(), st.integers(0, 2**32))
    def agrees(state: CloudState, options: Options, packet_seed: int) -> None:
        interfaces = interfaces_of(state, state.network_interfaces[0])
        enforce(lab.instance, Desired(state, interfaces, options), settings=Settings(adoption_window=0))
        chance = random.Random(packet_seed)
        packets = [p for p in gen.packets(state, chance, 2 * PACKETS) if p.eni_id in interfaces and is_sendable(p)]
        before = send(lab, packets[:PACKETS], interfaces)
        tally.sent += len(packets[:PACKETS])
        check(lab, [(packet, decide(state, packet, options)) for packet in packets[:PACKETS]], before, tally)

    agrees()
    print(f"{tally.sent} packets sent, of which proved: {dict(tally.proven)}")
    assert tally.proven.total() > tally.sent * 0.6
    assert all(tally.proven[combination] > states for combination in product(Direction, Family, Verdict)), tally.proven


def send(lab: WireLab, packets: list[Packet], interfaces: Mapping[str, str]) -> dict[str, int]:
    """Put them all on the wire, numbered from 1; the counters as they were before."""
    lab.clear()
    before = lab.counters(TABLE)
    for number, packet in enumerate(packets, start=1):
        lab.put(number, packet, int(interfaces[packet.eni_id].removeprefix("eth")))
    return before


def check(lab: WireLab, decided: list[tuple[Packet, Decision]], before: dict[str, int], tally: Tally) -> None:
    """Each packet that came as far as our hook went on, or not, as decided; and was counted where it should."""
    noted = lab.noted()
    hits: Counter[str] = Counter()
    for number, (packet, decision) in enumerate(decided, start=1):
        way = WAY[packet.direction]
        if number not in noted[f"{way}_before", packet.family]:
            continue  # the kernel's own checks of addresses took it before any hook of ours: it proves nothing
        verdict = decision.verdict
        assert (number in noted[f"{way}_after", packet.family]) == (verdict is Verdict.ACCEPT), (packet, decision)
        tally.proven[packet.direction, packet.family, verdict] += 1
        hits[judged_counter(decision)] += 2 if is_judged_twice(packet, verdict) else 1
    del hits[""]
    after = lab.counters(TABLE)
    rises = {name: count - before.get(name, 0) for name, count in after.items() if name.split(".")[0] in COUNTED}
    assert {name: count for name, count in rises.items() if count} == dict(hits)
