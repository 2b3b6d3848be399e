"""A trial on a host of 1,000 ENIs, each with 1,000 rules: when it counts, what it takes, and what a packet meets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.contract.sites import INSTANCE
from sgdataplane.model.options import DEFAULTS
from sgdataplane.model.state import CloudState
from sgdataplane.net.packet import Packet
from sgdataplane.net.values import TCP, Direction, Family
from sgdataplane.nft.interp import PacketOutcome, run
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.trial import running
from sgdataplane.trial.lines import MAX_COUNTERS, TrialLines, lines_at
from sgdataplane.trial.tables import TrialPlace, compile_trial
from tests.support.inputs.hardpolicies import host, targets
from tests.support.models import wire

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
ENIS, NAME = 1_000, "t"
START_S, PROCESS_MB = 120.0, 400.0


def without_first_rule(state: CloudState) -> CloudState:
    """The state, where one group of about 100 ENIs has a rule less."""
    first, *others = state.security_groups
    return replace(state, security_groups=(replace(first, rules=first.rules[1:]), *others))


@cache
def before() -> CloudState:
    return host(0, ENIS)


def interfaces() -> Mapping[str, str]:
    return {eni.network_interface_id: f"h{number}" for number, eni in enumerate(targets(before()))}


def try_it(enis: Mapping[str, str]) -> tuple[TrialLines, Table]:
    found = lines_at(StateDiff(before(), without_first_rule(before()), DEFAULTS), enis)
    return found, compile_trial(NAME, TrialPlace(INSTANCE, enis, DEFAULTS), found)


def resident_mb() -> float:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def opening(line_eni: str, port: int) -> Packet:
    eni = before().eni[line_eni]
    near = next(address for address in eni.addresses if address.family is Family.IPV4)
    far = next(
        address
        for other in targets(before())
        for address in other.addresses
        if address.family is Family.IPV4 and address != near
    )
    return Packet(line_eni, Direction.INGRESS, far, near, TCP, port, 40_000)


def walk(table: Table, ifname: str, eni: str) -> list[PacketOutcome]:
    """What packets to many ports of an ENI meet."""
    return [run(table, "ingress", wire.opening(opening(eni, port), ifname)) for port in range(1, 60_000, 1_009)]


def test_it_begins_in_time_with_little_memory_and_a_packet_meets_as_much_as_with_one_eni(namespace: str) -> None:
    assert len(interfaces()) == ENIS
    held, began = resident_mb(), time.process_time()
    found, table = try_it(interfaces())
    with NetlinkKernel(namespace) as kernel:
        running.put(kernel, table)
        took, grown = time.process_time() - began, resident_mb() - held
        again = time.process_time()
        counted = running.read(kernel, table.name, found.counter_names)
        reading = time.process_time() - again
    print(f"{len(found.lines):,} lines: counts after {took:.1f} s, {grown:.0f} MB; a reading {reading * 1000:.0f} ms")
    assert set(counted) == set(found.counter_names)
    assert len(found.lines) > MAX_COUNTERS
    assert found.is_merged
    assert took < START_S
    assert grown < PROCESS_MB
    assert reading < 1.0

    concerned = sorted({line.change.eni_id for line in found.lines})
    assert 10 < len(concerned) < ENIS
    eni = concerned[0]
    alone = {eni: interfaces()[eni]}
    few, many = walk(try_it(alone)[1], alone[eni], eni), walk(table, alone[eni], eni)
    assert any(each.lookups for each in many)
    assert all(one.lookups <= other.lookups + 1 for one, other in zip(many, few, strict=True)), "which ENI it is"
    assert [len(each.chains) for each in many] == [len(each.chains) for each in few]
