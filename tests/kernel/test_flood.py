"""Floods through many applies: no denied packet is received and no allowed one is lost, both ways, in both families.

Allowed packets mostly open a session each, and denied ones always do, so all of them meet the rules and not only the
fast path. The control is at the end: a denied target is allowed, and receives.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from sgdataplane.enforce import Settings
from sgdataplane.model.state import CloudState
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.probes.flood import DenseFlood, Flood, Target, wait_for_packets, wait_until
from tests.support.scenes.pair import HERE, Pair, desired_at

pytestmark = pytest.mark.kernel

ALLOWED, DENIED, DROPPED = range(5000, 5200), range(6000, 6008), 7000
FAMILIES = {0: "ipv4", 1: "ipv6"}
PACKETS = 100  # of each kind, between two applies
QUICK = Settings(time_scale=0.03)  # sessions of UDP end after a second


def state_of(step: int) -> CloudState:
    """What is flooded is judged the same at each step; everything around it changes, in five ways."""
    everywhere = ("0.0.0.0/0", "::/0")
    web = [
        *(f"ingress udp 5000/5999 from {far} 10" for far in everywhere),
        *(f"egress udp 6000/7000 to {far} drop" for far in everywhere),
        "ingress tcp 22/22 from sg-others" if step % 2 else "ingress tcp 22/22 from 192.0.2.0/24",
        f"ingress udp {4000 + step % 7}/{4900 - step % 3} from 10.0.{step % 5}.0/24 drop 3",
        f"ingress udp 8000/8000 from 10.0.0.{step % 3}/30 2",
        f"egress tcp {1 + step % 11}/99 to 2001:db8:{step % 4:x}::/48 drop",
    ]
    others = [
        make_eni(f"eni-{n}", f"10.0.9.{n + 1} 2001:db8:9::{n + 1}", "sg-others") for n in range(1 + step // 3 % 4)
    ]
    mine = make_eni("eni-a", " ".join(HERE["instance"]), "sg-web sg-more" if step // 5 % 2 else "sg-web")
    groups = [
        make_group("sg-web", web),
        make_group("sg-more", ["egress tcp 25/25 to ::/0 drop"]),
        make_group("sg-others"),
    ]
    return make_state(groups, [mine, *others])


def targets(role: str, ports: range) -> tuple[Target, ...]:
    return tuple((host, port) for port in ports for host in HERE[role])


def floods(folder: Path, names: Pair, family: int) -> list[Flood]:
    """Towards the instance and from it, in one family."""
    ways = (("peer", "instance"), ("instance", "peer"))
    return [
        Flood(
            folder,
            names[source],
            names[target],
            allowed=targets(target, ALLOWED)[family::2],
            denied=targets(target, DENIED)[family::2],
        )
        for source, target in ways
    ]


def apply_all(pair: Pair, applies: int, running: Sequence[Flood]) -> int:
    """Run through the steps, packets between each two; how many were full resyncs."""
    full_resyncs, previous = 0, desired_at(pair, state_of(0))
    for step in range(1, applies):
        desired = desired_at(pair, state_of(step))
        report = enforce(pair["policy"], desired, previous, replace(QUICK, resync=step % 8 == 0))
        assert (report.changed, report.leftover) == (True, "")
        wait_for_packets(running, PACKETS)
        full_resyncs += report.is_full_resync
        previous = desired
    return full_resyncs


def check(flood: Flood, least: int) -> None:
    print(f"allowed {flood.allowed}, denied {flood.denied}")
    assert flood.allowed.received == flood.allowed.sent
    assert flood.denied.received == 0
    assert min(flood.denied.sent, flood.allowed.sent) > least


LONG = [pytest.param(500, (family,), marks=pytest.mark.slow, id=f"500-{name}") for family, name in FAMILIES.items()]


@pytest.mark.parametrize(("applies", "families"), [pytest.param(10, (0, 1), id="10"), *LONG])
def test_flood_meets_no_gap(pair: Pair, tmp_path: Path, applies: int, families: tuple[int, ...]) -> None:
    enforce(pair["policy"], desired_at(pair, state_of(0)), settings=QUICK)
    with ExitStack() as stack:
        running = [stack.enter_context(flood) for family in families for flood in floods(tmp_path, pair, family)]
        full_resyncs = apply_all(pair, applies, running)
    for flood in running:
        check(flood, PACKETS * (applies - 1))
    assert applies // 10 <= full_resyncs <= applies // 4, "others touched nftables, or the generation was not foreseen"


@pytest.mark.parametrize("applies", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_dense_flood_meets_no_gap(pair: Pair, tmp_path: Path, applies: int) -> None:
    """Half a million packets a second: at each switch one is on its way, as likely as not."""
    instance = HERE["instance"][0]
    enforce(pair["policy"], desired_at(pair, state_of(0)), settings=QUICK)
    flood = DenseFlood(tmp_path, pair["peer"], pair["instance"], [(instance, 5000)], [(instance, 6000)])
    with flood:
        apply_all(pair, applies, [flood])
    check(flood, PACKETS * (applies - 1))


def test_denied_target_receives_once_it_is_allowed(pair: Pair, tmp_path: Path) -> None:
    """The control: the floods' denied targets are reachable, but for the rules."""
    open_to_all = [f"{way} {far}" for way in ("ingress all from", "egress all to") for far in ("0.0.0.0/0", "::/0")]
    state = make_state([make_group("sg-web", open_to_all)], [make_eni("eni-a", " ".join(HERE["instance"]), "sg-web")])
    enforce(pair["policy"], desired_at(pair, state), settings=QUICK)
    with ExitStack() as stack:
        running = [stack.enter_context(flood) for family in FAMILIES for flood in floods(tmp_path, pair, family)]
        wait_until(lambda: all(flood.denied.received > len(DENIED) * 100 for flood in running))
