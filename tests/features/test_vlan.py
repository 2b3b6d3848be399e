"""VLAN devices on top of an ENI's link: what is tagged passes in neither direction, whatever the rules allow."""

from __future__ import annotations

from contextlib import suppress

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from sgdataplane.net.values import Family
from tests.features.probes import VLANS, require
from tests.features.upper import OPEN, OTHER, OWN, REFUSED, Line, Scene, Spot
from tests.fence.hostbench import device, mac_in
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import HERE

pytestmark = [pytest.mark.traffic, pytest.mark.optional]

TAGS = {
    "802.1q": ("vlan", "id", "7"),
    "802.1ad": ("vlan", "proto", "802.1ad", "id", "7"),
}
by_tag = pytest.mark.parametrize("tag", [*TAGS, "qinq"])
by_family = pytest.mark.parametrize("family", Family, ids=lambda family: family.value)
# What stops a packet that a device's own kernel sends, and a frame from a packet socket on such a device.
CAUSES = {
    "instance": {"in": "ingress.unknown-interface", "out": "egress.unknown-interface", "frame": "fence.tagged"},
    "host": {"in": "ingress.unknown-interface", "out": "fence.tagged", "frame": "fence.tagged"},
}


@pytest.fixture(scope="module", autouse=True)
def _feature() -> None:
    require(VLANS)


def tagged(scene: Scene, end: Spot, tag: str, namespace: str = "") -> Spot:
    """A VLAN device on that end; of two tags the inner one's."""
    if tag != "qinq":
        return scene.add(end, *TAGS[tag], namespace=namespace)
    place, outer = scene.add(end, *TAGS["802.1ad"], ifname="outer")
    run_in(place, "ip", "link", "set", outer, "up")
    return scene.add((place, outer), "vlan", "id", "8", namespace=namespace)


@by_tag
@by_family
@pytest.mark.parametrize("way", ["in", "out"])
def test_tagged_packets_pass_in_neither_direction(
    scene: Scene, placement: str, tag: str, family: Family, way: str
) -> None:
    own, other = tagged(scene, scene.own, tag), tagged(scene, scene.other, tag)
    scene.number(own, other)
    line = scene.lines(own[0], other[0], family)[way]
    assert line.passes(scene.plain[way])
    scene.enforce()
    for _ in range(2):
        assert CAUSES[placement][way] in scene.dropped(line, way)


@by_tag
def test_tagged_frames_of_a_packet_socket_do_not_leave(scene: Scene, placement: str, tag: str) -> None:
    """The device puts the tags on."""
    own, other = tagged(scene, scene.own, tag), tagged(scene, scene.other, tag)
    scene.number(own, other)
    line = scene.lines(own[0], other[0], Family.IPV4)["out"]
    packet = IP(src=OWN[0], dst=OTHER[0]) / UDP(sport=7, dport=OPEN)

    def send() -> bytes:
        frame = Ether(src=mac_in(*own), dst=mac_in(*other)) / packet / Raw(b"frame")
        with device(*own) as door, suppress(OSError):  # what the sender of a frame is told that was dropped
            door(bytes(frame))
        return b"frame"

    assert line.passes(scene.plain["out"], send)
    scene.enforce()
    assert CAUSES[placement]["frame"] in scene.dropped(line, "out", send)


def priority_tagged(scene: Scene, tag: type[Packet], port: int) -> bytes:
    """From the other end to the ENI's own address, with a tag of VLAN 0, which is none."""
    known = f"{tag.__name__} {port}".encode()
    head = Ether(src=mac_in(*scene.other), dst=mac_in(*scene.own)) / tag(vlan=0, prio=5)
    with device(*scene.other) as send:
        send(bytes(head / IP(src=HERE["peer"][0], dst=HERE["instance"][0]) / UDP(sport=7, dport=port) / Raw(known)))
    return known


@pytest.mark.placement("instance")
@pytest.mark.parametrize("tag", [Dot1Q, Dot1AD], ids=["802.1q", "802.1ad"])
def test_priority_tags_change_no_verdict_on_the_way_in(scene: Scene, tag: type[Packet]) -> None:
    """The kernel takes them off, and the packet is judged as any: as the rules have it."""
    tagged(scene, scene.own, "802.1q")
    ends = (scene.pair["peer"], HERE["peer"][0]), (scene.pair["instance"], HERE["instance"][0])
    allowed, refused = (Line(scene.stack, *ends, port) for port in (OPEN, REFUSED))
    assert refused.passes(scene.plain["in"], lambda: priority_tagged(scene, tag, REFUSED))
    scene.enforce()
    assert allowed.passes(scene.plain["in"], lambda: priority_tagged(scene, tag, OPEN))
    drops = scene.dropped(refused, "in", lambda: priority_tagged(scene, tag, REFUSED))
    assert "default.ingress.drop" in drops


@pytest.mark.placement("instance")
@by_family
def test_device_that_root_moves_out_of_the_instance_gets_what_comes_unjudged_and_sends_nothing(
    scene: Scene, elsewhere: str, family: Family
) -> None:
    """A limit (docs/design/fence.md): the policy is where the interface is."""
    own, other = tagged(scene, scene.own, "802.1q", elsewhere), tagged(scene, scene.other, "802.1q")
    scene.number(own, other)
    lines = scene.lines(own[0], other[0], family)
    scene.enforce()
    assert lines["in"].passes(scene.plain["in"])
    assert "fence.tagged" in scene.dropped(lines["out"], "out")
