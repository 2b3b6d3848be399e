"""TCP in the middle of a session that the kernel does not know: judged where it comes in, dropped where it goes out;
and the adoption window, in which sessions that ran before the ENI was protected go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from sgdataplane.contract.tables import ADOPTING, TABLE
from sgdataplane.enforce import Settings, remove
from sgdataplane.model.options import Options
from sgdataplane.net.values import Family
from sgdataplane.nft.kernel import NetlinkKernel
from tests.edges.scene import FAMILIES, NO_WINDOW, Scene, drained, grown, until
from tests.edges.scene import scene as running_scene
from tests.support.kernel.nft import nft

pytestmark = pytest.mark.traffic

IDS = ["ipv4", "ipv6"]
RULES = ("ingress tcp 80/80 from any", "egress tcp 443/443 to any")
JUDGE, STRICT = Options(midstream_egress="judge"), Options(strict_syn=True)
OUT_REFUSED = "default.egress.drop"


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
@pytest.mark.parametrize(
    ("sent", "options", "counted"),
    [
        pytest.param(("in", 80), Options(), "rule", id="in: judged, open"),
        pytest.param(("in", 81), Options(), "default.ingress.drop", id="in: judged, closed"),
        pytest.param(("in", 80), STRICT, "ingress.midstream", id="in, strict: dropped"),
        pytest.param(("out", 443), Options(), "egress.midstream", id="out: dropped"),
        pytest.param(("out", 443), JUDGE, "rule", id="out, judge: judged, open"),
        pytest.param(("out", 444), JUDGE, "default.egress.drop", id="out, judge: judged, closed"),
        pytest.param(("out", 443), replace(JUDGE, strict_syn=True), "egress.midstream", id="out, strict: dropped"),
    ],
)
def test_a_bare_acknowledgement(
    scene: Scene, sent: tuple[str, int], options: Options, counted: str, family: Family
) -> None:
    way, port = sent
    scene.enforce(*RULES, options=options)
    scene.forget_all()
    here, there = (scene.outside, scene.near) if way == "in" else (scene.near, scene.outside)
    header = IP if family is Family.IPV4 else IPv6
    before = scene.counts()
    packet = header(src=here.address(family), dst=there.address(family)) / TCP(sport=4000, dport=port, flags="A", seq=9)
    scene.send(here, packet)
    until(lambda: counted in causes(scene, before), "the counter's rise")
    # A socket that nobody has answers an acknowledgement with a reset, which is of the session if that was accepted.
    assert causes(scene, before) == {counted}


def causes(scene: Scene, before: dict[str, int]) -> set[str]:
    """What was counted since, any rule as `rule`; neighbour discovery left out."""
    found = (name for name in grown(before, scene.counts()) if not name.endswith(".always"))
    return {"rule" if name.startswith("rule.") else name for name in found}


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_a_forgotten_inbound_session_comes_back_from_outside_only(scene: Scene, family: Family) -> None:
    """Its entry is gone, as after its timeout."""
    scene.enforce(*RULES, "egress tcp 1/65535 to any")
    outside, near = scene.connect(scene.outside, scene.near, family, 80)
    exchange(outside, near)
    scene.forget_all()
    before = scene.counts()
    near.send(b"from within")
    until(lambda: "egress.midstream" in causes(scene, before), "refusal")
    assert drained(outside) == []
    outside.send(b"from outside")
    assert near.recv(20) == b"from outside"
    assert outside.recv(20) == b"from within"  # TCP has sent it again


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_a_forgotten_outbound_session_comes_back_from_nowhere(scene: Scene, family: Family) -> None:
    scene.enforce(*RULES)
    near, outside = scene.connect(scene.near, scene.outside, family, 443)
    exchange(outside, near)
    scene.forget_all()
    before = scene.counts()
    near.send(b"from within")
    outside.send(b"from outside")
    until(lambda: {"egress.midstream", "default.ingress.drop"} <= causes(scene, before), "refusals")
    exchange(*scene.connect(scene.near, scene.outside, family, 443))  # what is new is accepted
    assert (drained(near), drained(outside)) == ([], [])


def exchange(*ends: object) -> None:
    for sender, receiver in (ends, ends[::-1]):
        sender.send(b".")  # type: ignore[attr-defined]
        assert receiver.recv(1) == b"."  # type: ignore[attr-defined]


# the adoption window


@pytest.fixture(params=["untracked", "tracked"])
def unprotected(request: pytest.FixtureRequest, make_lab_name: Callable[[], str], placement: str) -> Iterator[Scene]:
    """A lab whose instance has no policy yet; with or without conntrack at work where that will be."""
    with running_scene(make_lab_name(), placement) as made, ExitStack() as stack:
        if request.param == "tracked":
            nft(
                made.enforced,
                "add table inet other",
                "add chain inet other in { type filter hook prerouting priority 0; }",
                "add rule inet other in ct state new counter",
            )
        yield replace(made, stack=stack)


def test_what_an_eni_has_running_goes_on_when_it_is_protected(unprotected: Scene) -> None:
    scene = unprotected
    outbound = [scene.connect(scene.near, scene.outside, family, 443) for family in FAMILIES]
    inbound = [scene.connect(scene.near, scene.outside, family, 4430) for family in FAMILIES]
    allowed = [scene.connect(scene.outside, scene.near, family, 80) for family in FAMILIES]
    refused = inbound
    report = scene.enforce(*RULES, settings=Settings())
    assert (report.adopting, report.adoption_window) == ((scene.lab.site.ifname,), 30.0)
    for near, outside in outbound:
        exchange(near, outside)
    for outside, near in allowed:
        exchange(outside, near)
    before = scene.counts()
    for near, _ in refused:
        near.send(b"no rule lets this out")
    until(lambda: grown(before, scene.counts()).get(OUT_REFUSED, 0) >= len(refused), "refusal")
    assert [drained(outside) for _, outside in refused] == [[]] * len(refused)


def test_without_a_window_only_what_conntrack_knows_goes_on(unprotected: Scene, request: pytest.FixtureRequest) -> None:
    scene = unprotected
    is_tracked = request.node.callspec.params["unprotected"] == "tracked"
    near, outside = scene.connect(scene.near, scene.outside, Family.IPV4, 443)
    report = scene.enforce(*RULES)
    assert (report.adopting, report.adoption_window) == ((), 0.0)
    before = scene.counts()
    near.send(b"?")
    if is_tracked:
        assert outside.recv(1) == b"?"
    else:
        until(lambda: "egress.midstream" in causes(scene, before), "refusal")
        exchange(*scene.connect(scene.near, scene.outside, Family.IPV4, 443))
        assert drained(outside) == []


def test_a_window_ends_by_itself_and_what_was_adopted_stays(scene: Scene) -> None:
    """Nor is its end taken for a change by others, nor does a later apply, or one of everything anew, open it again."""
    ifname = scene.lab.site.ifname
    remove(scene.enforced)
    used, silent = (scene.connect(scene.near, scene.outside, Family.IPV6, 443) for _ in range(2))
    window = Settings(adoption_window=4.0)  # still open after two looks and an apply on a slow machine
    scene.enforce(*RULES, settings=window)
    scene.forget_all()  # what it was told of when the window opened, too (tests/sessions/test_seeding.py)
    exchange(*used)
    left = windows(scene)
    assert 0 < left[ifname] <= 4000
    anew = scene.enforce(*RULES, settings=replace(window, resync=True))
    assert (anew.is_full_resync, anew.adopting) == (True, ())
    assert 0 < windows(scene)[ifname] <= left[ifname]
    until(lambda: windows(scene) == {}, "the end of the window")
    again = scene.enforce(*RULES, settings=window)
    assert (again.changed, again.is_full_resync, again.adopting) == (False, False, ())
    before = scene.counts()
    silent[0].send(b"too late")
    until(lambda: "egress.midstream" in causes(scene, before), "refusal")
    exchange(*used)
    assert drained(silent[1]) == []
    changed = scene.enforce(*RULES, "ingress tcp 81/81 from any", settings=window)
    assert (changed.changed, changed.adopting, windows(scene)) == (True, (), {})


def windows(scene: Scene) -> dict[str, int]:
    """Milliseconds left of each window that is open."""
    with NetlinkKernel(scene.enforced) as kernel:
        return dict(kernel.inventory(TABLE).expiring[ADOPTING])


def test_what_somebody_put_among_the_windows_for_good_is_gone_after_a_resync(scene: Scene) -> None:
    scene.enforce(*RULES)
    ifname = scene.lab.site.ifname
    nft(scene.enforced, f'add element inet {TABLE} {ADOPTING} {{ "{ifname}" : accept }}')
    assert windows(scene) == {ifname: 0}
    scene.enforce(*RULES, settings=replace(NO_WINDOW, resync=True))
    assert windows(scene) == {}
