"""Floods between hosts while the cloud's SDK changes rules: nothing that a rule refuses comes through."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.probes.flood import Flood, PacedFlood, wait_until
from tests.support.probes.witness import Watch, Witness, grown
from tests.support.scenes.hostscloud import rule
from tests.support.scenes.hostsscene import Scene
from tests.support.servers.sdks import Driver

pytestmark = [pytest.mark.traffic, pytest.mark.slow, pytest.mark.optional]

ALLOWED, TURNED = 7100, 7101
MANY_ALLOWED, MANY_DENIED = range(5000, 5100), range(5400, 5500)
TURNS, PACKETS = 5, 1000


def test_a_flood_is_let_in_and_shut_out_by_the_sdk_and_nothing_else_changes(
    scene: Scene, sdk: Driver, tmp_path: Path
) -> None:
    """From two hosts to a third one. One flood has two running kinds of sessions, of which one is let in and refused in
    turn: once SgdpWait says that it is refused, its packets still come to the policy, and none passes. The other flood
    opens sessions all the time, half of which are never allowed. What is allowed arrives, all of it."""
    cloud, group = scene.cloud, scene.groups["db"]
    address, target = cloud.address("db"), cloud.netns("db")
    many = [[(address, port) for port in ports] for ports in (MANY_ALLOWED, MANY_DENIED)]
    opened = (rule(ALLOWED, "UDP"), rule(f"{MANY_ALLOWED[0]}/{MANY_ALLOWED[-1]}", "UDP"))
    watches = (Watch("allowed", (f"udp dport {ALLOWED}",)), Watch("turned", (f"udp dport {TURNED}",)))
    with cloud.through(sdk):
        cloud.open(group, *opened)
        cloud.settle()
        witness = scene.witness("db", watches)
        with (
            Flood(tmp_path, cloud.netns("web"), target, [(address, ALLOWED)], [(address, TURNED)]) as turned,
            PacedFlood(tmp_path, cloud.netns("far"), target, *many) as steady,
        ):
            for _ in range(TURNS):
                cloud.open(group, rule(TURNED, "UDP"))
                cloud.settle()
                counted(witness, "in_after", "turned")
                cloud.shut(group, rule(TURNED, "UDP"))
                cloud.settle()
                now = counted(witness, "in_before", "turned")
                assert now["in_after", "turned"] == 0
                assert now["in_after", "allowed"] > 0
        cloud.shut(group, *opened)
    print(turned.allowed, turned.denied, steady.allowed, steady.denied, f"sent again: {sdk.again}")
    assert turned.allowed.sent == turned.allowed.received
    assert 0 < turned.denied.received < turned.denied.sent
    assert steady.allowed.sent == steady.allowed.received > 0
    assert steady.denied.received == 0 < steady.denied.sent


def counted(witness: Witness, place: str, watch: str) -> dict[tuple[str, str], int]:
    """What comes until so many packets of that kind have come to that place."""
    before = witness.counts()
    wait_until(lambda: grown(before, witness.counts())[place, watch] > PACKETS)
    return dict(grown(before, witness.counts()))
