"""macvlan, ipvlan and bonds on top of an ENI's interface: what they send is stopped or judged in both placements, what
comes to them is judged by a router."""

from __future__ import annotations

import pytest

from sgdataplane.enforce import remove
from sgdataplane.net.values import Family
from tests.features.probes import BONDS, IPVLAN, MACVLAN, Feature, require
from tests.features.upper import OPEN, OTHER, REFUSED, Line, Scene, put_under
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import HERE

pytestmark = [pytest.mark.traffic, pytest.mark.optional]

UPPER: dict[str, tuple[Feature, tuple[str, ...]]] = {
    "macvlan-bridge": (MACVLAN, ("macvlan", "mode", "bridge")),
    "macvlan-passthru": (MACVLAN, ("macvlan", "mode", "passthru")),
    "ipvlan-l2": (IPVLAN, ("ipvlan", "mode", "l2")),
    "ipvlan-l3": (IPVLAN, ("ipvlan", "mode", "l3")),
}
by_upper = pytest.mark.parametrize("name", UPPER)
by_family = pytest.mark.parametrize("family", Family, ids=lambda family: family.value)
# What has counted what such a device sends: by the MAC or, where that is the ENI's, the address. (ipvlan in layer 3 has
# the instance's own kernel send it.)
STOPS = {
    "instance": {"fence.other-mac", "fence.unapproved", "egress.spoofed"},
    "host": {"fence.other-mac", "fence.spoofed"},
}


def on_top(scene: Scene, name: str, elsewhere: str) -> tuple[str, str]:
    """The device, moved into another namespace, with addresses that aren't the ENI's."""
    feature, kind = UPPER[name]
    require(feature)
    made = scene.add(scene.own, *kind, namespace=elsewhere)
    scene.number(made, scene.other)
    if scene.placement == "instance":  # which is asked for the way, where the device works in layer 3
        for address in OTHER:
            run_in(scene.own[0], "ip", "route", "add", address, "dev", scene.own[1])
    return made


@by_upper
@by_family
def test_what_a_device_in_another_namespace_sends_does_not_leave(
    scene: Scene, elsewhere: str, placement: str, name: str, family: Family
) -> None:
    made = on_top(scene, name, elsewhere)
    line = scene.lines(made[0], scene.other[0], family)["out"]
    line.must_pass()
    scene.enforce()
    assert scene.dropped(line, "out") & STOPS[placement]


@by_upper
@by_family
def test_what_comes_to_a_device_in_another_namespace(
    scene: Scene, elsewhere: str, placement: str, name: str, family: Family
) -> None:
    """A limit in an instance (docs/design/fence.md): the policy is where the interface is. A router judges all."""
    made = on_top(scene, name, elsewhere)
    line = scene.lines(made[0], scene.other[0], family)["in"]
    line.must_pass()
    scene.enforce()
    if placement == "instance":
        line.must_pass()
        return
    before = scene.drops()
    sent = line.send()
    assert scene.drops()["ingress.foreign"] > before["ingress.foreign"]
    assert remove(scene.pair["policy"])
    assert sent not in line.must_pass()


@by_family
def test_bond_that_an_instance_puts_its_interface_under(scene: Scene, placement: str, family: Family) -> None:
    """It passes nothing in an instance, as no ENI is bound to it. For a router it is the same link."""
    require(BONDS)
    put_under(scene, "bond0", "bond", "mode", "active-backup")
    at = list(Family).index(family)
    near, far = ((scene.pair[role], HERE[role][at]) for role in ("instance", "peer"))
    allowed, refused = (Line(scene.stack, far, near, port) for port in (OPEN, REFUSED))
    out = Line(scene.stack, near, far, REFUSED)
    for line in (allowed, refused, out):
        line.must_pass()
    scene.enforce()
    if placement == "host":
        allowed.must_pass()
        out.must_pass()
        assert not refused.passes(beside=allowed)
        return
    before, sent = scene.drops(), {line.send() for line in (allowed, refused, out)}
    after = scene.drops()
    assert after["ingress.unknown-interface"] >= before["ingress.unknown-interface"] + 2
    assert after["egress.unknown-interface"] >= before["egress.unknown-interface"] + 1
    assert remove(scene.own[0])
    for line in (allowed, refused, out):
        assert sent.isdisjoint(line.must_pass())
