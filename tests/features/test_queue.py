"""Chains of others that queue packets to a program: what that accepts, our chains still judge."""

from __future__ import annotations

import pytest

from sgdataplane.net.values import Family
from tests.features.probes import QUEUES, require
from tests.features.queueing import program
from tests.features.upper import BARRED, OPEN, REFUSED, Line, Scene
from tests.support.kernel.nft import nft
from tests.support.scenes.pair import HERE

pytestmark = [pytest.mark.traffic, pytest.mark.optional]

QUEUE = 7
PLACES = {
    "first": ("prerouting", -500),
    "before": ("prerouting", -151),
    "after": ("prerouting", -149),
    "routed": ("postrouting", 149),
    "last": ("postrouting", 151),
}
# Where packets meet a chain, by placement and direction; and where they meet it before ours.
ARRIVING, LEAVING = {"first", "before"}, {"first", "before", "after", "routed"}
BEFORE_OURS = {("instance", "in"): ARRIVING, ("instance", "out"): {"routed"}}
BEFORE_OURS |= {("host", "in"): LEAVING, ("host", "out"): ARRIVING}
MEETS = {("instance", "in"): {"first", "before", "after"}, ("instance", "out"): {"routed", "last"}}
MEETS |= {("host", way): set(PLACES) for way in ("in", "out")}
by_family = pytest.mark.parametrize("family", Family, ids=lambda family: family.value)


@pytest.fixture(scope="module", autouse=True)
def _feature() -> None:
    require(QUEUES)


def lines(scene: Scene, family: Family, way: str) -> tuple[Line, Line]:
    """One that the rules allow and one that they don't."""
    at = list(Family).index(family)
    near, far = ((scene.pair[role], HERE[role][at]) for role in ("instance", "peer"))
    ends = (far, near) if way == "in" else (near, far)
    return Line(scene.stack, *ends, OPEN), Line(scene.stack, *ends, REFUSED if way == "in" else BARRED)


def queue(scene: Scene, place: str, flags: str = "") -> None:
    """These lines' packets."""
    hook, priority = PLACES[place]
    nft(
        scene.pair["policy"],
        "add table inet theirs",
        f"add chain inet theirs c {{ type filter hook {hook} priority {priority} ; }}",
        f"add rule inet theirs c udp dport {{ {OPEN}, {REFUSED}, {BARRED} }} queue {flags} to {QUEUE}",
    )


by_way_and_place = pytest.mark.parametrize(
    ("way", "place"), [(way, place) for way in ("in", "out") for place in PLACES]
)


@by_family
@pytest.mark.parametrize("times", [1, 2], ids=["accepts", "repeats"])
@by_way_and_place
def test_what_a_program_accepts_is_judged_all_the_same(
    scene: Scene, way: str, place: str, times: int, family: Family
) -> None:
    allowed, refused = lines(scene, family, way)
    refused.must_pass()
    scene.enforce()
    queue(scene, place)
    with program(scene.pair["policy"], QUEUE, repeats=times > 1) as made:
        allowed.must_pass()
        sent = refused.send()
        allowed.must_pass()
        assert sent not in refused.read()
        at = scene.placement, way
        assert made.count(allowed.last) == times * (place in MEETS[at])
        assert made.count(sent) == times * (place in BEFORE_OURS[at])


@by_way_and_place
def test_queue_that_nobody_listens_to_lets_nothing_pass_but_what_the_rules_allow(
    scene: Scene, way: str, place: str
) -> None:
    allowed, refused = lines(scene, Family.IPV4, way)
    refused.must_pass()
    scene.enforce()
    queue(scene, place, "flags bypass")
    allowed.must_pass()
    assert not refused.passes(beside=allowed)


def test_revoked_session_stops_though_a_program_has_its_packets(scene: Scene) -> None:
    """Each is asked about before it is judged."""
    allowed, refused = lines(scene, Family.IPV4, "in")
    queue(scene, "before")
    with program(scene.pair["policy"], QUEUE) as made:
        for line in (allowed, refused):
            line.must_pass()
        scene.enforce()
        for _ in range(3):
            assert not refused.passes(beside=allowed)
            assert made.count(refused.last) == 1
