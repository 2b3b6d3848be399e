"""An ENI turns from one mode to the other under a flood: no allowed packet is lost, what its rules refuse passes while
it is audited, and none of it once it is enforced, sessions that were opened meanwhile included."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgdataplane.enforce import Desired
from sgdataplane.model.modes import Mode
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Direction
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.probes.flood import DenseFlood, Flood, wait_for_packets, wait_until
from tests.support.scenes.pair import HERE, Pair, desired_at

pytestmark = pytest.mark.kernel
ALLOWED, DENIED = 5000, 6000
PACKETS = 300  # of each kind, between two changes
SWITCHES = [6, pytest.param(300, marks=pytest.mark.slow)]
# Where packets leave, what is refused is an error for who sends, which a dense flood doesn't expect.
KINDS = [
    pytest.param(Direction.INGRESS, Flood, id="ingress-sessions"),
    pytest.param(Direction.INGRESS, DenseFlood, id="ingress-opening-packets"),
    pytest.param(Direction.EGRESS, Flood, id="egress-sessions"),
]
FAR = {Direction.INGRESS: ("peer", "instance"), Direction.EGRESS: ("instance", "peer")}  # from, to


def states() -> tuple[CloudState, CloudState]:
    """Enforced, and audited."""
    rules = [f"ingress udp {ALLOWED}/{ALLOWED} from 10.0.0.1", f"egress udp {ALLOWED}/{ALLOWED} to 10.0.0.1"]
    state = make_state([make_group("sg-a", rules, advanced=True)], [make_eni("eni-a", HERE["instance"][0], "sg-a")])
    return state, state.with_mode({"eni-a"}, Mode.AUDIT)


def flooding(pair: Pair, folder: Path, way: Direction, kind: type[Flood]) -> Flood:
    source, target = FAR[way]
    there = HERE[target][0]
    return kind(folder, pair[source], pair[target], [(there, ALLOWED)], [(there, DENIED)])


@pytest.mark.parametrize(("way", "kind"), KINDS)
@pytest.mark.parametrize("switches", SWITCHES)
def test_no_mode_loses_what_is_allowed_and_only_audit_passes_the_rest(
    pair: Pair, tmp_path: Path, way: Direction, kind: type[Flood], switches: int
) -> None:
    enforced, audited = (desired_at(pair, state) for state in states())
    enforce(pair["policy"], enforced)
    with flooding(pair, tmp_path, way, kind) as flood:
        enforce(pair["policy"], enforced, enforced)  # the flood's own rules are somebody's commit
        wait_for_packets([flood], PACKETS)
        assert flood.denied.received == 0
        for _ in range(switches // 2):
            turn(pair, audited, enforced)
            seen = flood.denied.received
            wait_until(lambda seen=seen: flood.denied.received > seen + PACKETS)  # type: ignore[misc]
            turn(pair, enforced, audited)
            flood.wait_until_counted()  # what passed before the switch may still wait in a socket
            seen = flood.denied.received
            wait_for_packets([flood], PACKETS)
            assert flood.denied.received == seen, "refused packets came after the switch to enforce"
    print(f"{switches} switches, {way.value}: allowed {flood.allowed}, denied {flood.denied}")
    assert flood.allowed.received == flood.allowed.sent > PACKETS * switches
    assert 0 < flood.denied.received < flood.denied.sent


def turn(pair: Pair, after: Desired, before: Desired) -> None:
    report = enforce(pair["policy"], after, before)
    assert (report.changed, report.is_full_resync, report.leftover) == (True, False, "")


def test_turning_to_audit_keeps_the_epoch_and_turning_to_enforce_takes_another(pair: Pair) -> None:
    enforced, audited = (desired_at(pair, state) for state in states())
    first = enforce(pair["policy"], enforced)
    second = enforce(pair["policy"], audited, enforced)
    third = enforce(pair["policy"], enforced, audited)
    epochs = [own_epoch(report) for report in (first, second, third)]
    assert epochs[0] == epochs[1] != epochs[2]


def own_epoch(report: object) -> int:
    """The epoch of the only ENI."""
    stamp = report.ageing.stamp  # type: ignore[attr-defined]
    (epoch,) = set(stamp.epochs([1]).values())
    return int(epoch)
