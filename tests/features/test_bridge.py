"""Bridges at an ENI's link: what passes one is judged or dropped, with and without connection tracking in bridges."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sgdataplane.enforce import remove
from sgdataplane.errors import HostError
from sgdataplane.host import netns, sysctl
from sgdataplane.net.values import Family
from tests.features.probes import BRIDGE_CONNTRACK, BRIDGE_NETFILTER, BRIDGES, Feature, require
from tests.features.upper import OPEN, REFUSED, Line, Scene, Spot, put_under
from tests.fence.hostbench import mac_in
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.attachhost import ENIS, HOST, ROUTER, hosted_pair, state_of
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import HERE, Session

pytestmark = [pytest.mark.traffic, pytest.mark.optional]

BRIDGE = ("bridge", "mcast_snooping", "0")
MODES: dict[str, tuple[Feature, ...]] = {
    "plain": (),
    "conntrack": (BRIDGE_CONNTRACK,),
    "call-iptables": (BRIDGE_NETFILTER,),
}
by_mode = pytest.mark.parametrize("mode", MODES)
by_family = pytest.mark.parametrize("family", Family, ids=lambda family: family.value)


@pytest.fixture(scope="module", autouse=True)
def _feature() -> None:
    require(BRIDGES)


@pytest.fixture
def bridging(scene: Scene, mode: str) -> Scene:
    """The instance's bridges do as the mode says."""
    require(*MODES[mode])
    place = scene.own[0]
    if mode == "conntrack":
        accepting = "ct state established,related,new accept"
        for hook in ("prerouting", "forward", "postrouting"):
            chain = f"add chain bridge theirs {hook} {{ type filter hook {hook} priority 0 ; }}"
            nft(place, "add table bridge theirs", chain, f"add rule bridge theirs {hook} {accepting}")
    call_ip(place, is_done=mode == "call-iptables")
    return scene


def call_ip(namespace: str, *, is_done: bool) -> None:
    """Whether IP in bridges meets the hooks of IP. Where the kernel can, it does unless told not to."""
    with netns.inside(namespace), suppress(HostError):
        sysctl.write_all({f"bridge/bridge-nf-call-{name}": str(int(is_done)) for name in ("iptables", "ip6tables")})


def own_lines(scene: Scene, family: Family) -> dict[str, Line]:
    """Between the ENI's own address and the peer's: to a port that is open, to one that isn't, and out."""
    at = list(Family).index(family)
    near, far = ((scene.pair[role], HERE[role][at]) for role in ("instance", "peer"))
    ways = {"open": (far, near, OPEN), "refused": (far, near, REFUSED), "out": (near, far, REFUSED)}
    return {way: Line(scene.stack, *ends) for way, ends in ways.items()}


@pytest.mark.placement("instance")
@by_mode
@by_family
def test_bridge_that_an_instance_puts_its_interface_under_passes_nothing(bridging: Scene, family: Family) -> None:
    """The policy knows the interface; the bridge is one that no ENI is bound to. The control is before and after."""
    put_under(bridging, "br0", *BRIDGE)
    wait_for_ports(bridging.own[0], 1)
    lines = own_lines(bridging, family).values()
    for line in lines:
        line.must_pass()
    bridging.enforce()
    before, sent = bridging.drops(), {line.send() for line in lines}
    after = bridging.drops()
    for way, count in (("ingress", 2), ("egress", 1)):
        assert after[f"{way}.unknown-interface"] >= before[f"{way}.unknown-interface"] + count
    assert remove(bridging.own[0])
    for line in lines:
        assert sent.isdisjoint(line.must_pass())


@pytest.mark.placement("host")
@by_mode
@by_family
def test_what_passes_an_instance_s_bridge_is_judged_by_the_router(bridging: Scene, family: Family) -> None:
    put_under(bridging, "br0", *BRIDGE)
    wait_for_ports(bridging.own[0], 1)
    lines = own_lines(bridging, family)
    bridging.enforce()
    for way in ("open", "out"):
        lines[way].must_pass()
    assert not lines["refused"].passes(beside=lines["open"])


def behind_a_bridge(scene: Scene, namespace: str, mac: str = "") -> Spot:
    """The instance's end and a link to that namespace are ports of one bridge; the end there, with addresses."""
    place, lower = scene.own
    address = ("address", mac) if mac else ()
    run_in(place, "ip", "link", "add", "br0", "type", *BRIDGE)
    run_in(place, "ip", "link", "add", "port", "type", "veth", "peer", "name", "eth0", *address, "netns", namespace)
    for port in (lower, "port"):
        run_in(place, "ip", "link", "set", port, "master", "br0")
    for device in ("port", "br0"):
        run_in(place, "ip", "link", "set", device, "up")
    scene.number((namespace, "eth0"), scene.other)
    wait_for_ports(place, 2)
    return namespace, "eth0"


def wait_for_ports(namespace: str, count: int) -> None:
    """A port carries nothing before the kernel has noticed that its link is up; nor does a bridge."""
    wait_until(lambda: run_in(namespace, "bridge", "link", "show").count("state forwarding") == count)
    shown = ("ip", "-json", "link", "show", "type", "bridge")
    wait_until(lambda: {link["operstate"] for link in json.loads(run_in(namespace, *shown))} == {"UP"})


OF_PLACEMENT = {"instance": {"fence.other-mac", "fence.unapproved"}, "host": {"fence.other-mac", "fence.spoofed"}}


@by_mode
@by_family
@pytest.mark.parametrize("has_mac", [False, True], ids=["own-mac", "eni-s-mac"])
def test_what_a_bridge_takes_from_another_port_does_not_leave(
    bridging: Scene, elsewhere: str, placement: str, family: Family, has_mac: bool
) -> None:
    """Beside what the link's own kernel sends. Where IP in bridges meets the hooks of IP, the policy is the first."""
    inner = behind_a_bridge(bridging, elsewhere, mac_in(*bridging.own) if has_mac else "")
    line = bridging.lines(inner[0], bridging.other[0], family)["out"]
    assert line.passes(bridging.plain["out"])
    bridging.enforce()
    drops = bridging.dropped(line, "out")
    assert drops & {"ingress.unknown-interface", *OF_PLACEMENT[placement]}


@by_mode
@by_family
def test_what_comes_to_another_port_of_a_bridge(
    bridging: Scene, elsewhere: str, placement: str, mode: str, family: Family
) -> None:
    """A limit in an instance (docs/design/fence.md): a bridge takes a frame before the policy sees it, unless IP in
    bridges meets the hooks of IP. A router judges what it sends, whatever is behind the link."""
    inner = behind_a_bridge(bridging, elsewhere)
    line = bridging.lines(inner[0], bridging.other[0], family)["in"]
    line.must_pass()
    bridging.enforce()
    if placement == "instance" and mode != "call-iptables":
        line.must_pass()
        return
    cause = "ingress.unknown-interface" if placement == "instance" else "ingress.foreign"
    before = bridging.drops()
    sent = line.send()
    assert bridging.drops()[cause] > before[cause]  # by more, if a kernel speaks of itself meanwhile
    assert remove(bridging.pair["policy"])
    assert sent not in line.must_pass()


@pytest.fixture
def bench(make_lab_name: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    """Two workloads whose host ends are in `bench.home`."""
    home = make_lab_name()
    with hosted_pair(home, tmp_path, lambda: capsys.readouterr().out) as made:
        made.pair = {**made.pair, "home": home}
        yield made


def bridge(namespace: str, *ports: str) -> None:
    call_ip(namespace, is_done=False)
    run_in(namespace, "ip", "link", "add", "br0", "up", "type", *BRIDGE)
    for port in ports:
        run_in(namespace, "ip", "link", "set", port, "master", "br0")
    wait_for_ports(namespace, len(ports))


def test_host_end_that_was_a_bridge_s_port_is_none_in_its_router(bench: Bench) -> None:
    """As a container's is before `apply --placement host` moves it: what its bridge carried, the router judges."""
    bridge(bench.pair["home"], "v-instance", "v-peer")
    introduce_directly(bench)
    with Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
        for session in (web, dns):
            session.must_pass()
        assert bench.apply(state_of(DNS), *HOST)["exit"] == "0"
        assert "master" not in run_in(ROUTER, "ip", "link", "show")
        introduce_to_the_router(bench)
        dns.must_pass()
        assert not web.passes(beside=dns)


def test_host_ends_that_root_of_the_host_bridges_are_apart_again_with_the_next_apply(bench: Bench) -> None:
    assert bench.apply(state_of(DNS), *HOST)["exit"] == "0"
    with Session(bench.pair, WEB) as web, Session(bench.pair, DNS) as dns:
        assert not web.passes(beside=dns)
        bridge(ROUTER, "eni-a", "eni-b")
        introduce_directly(bench)
        bridged = web.send()  # the bridge takes it past the policy, and the fence lets it out of no port
        assert bench.apply(state_of(DNS), *HOST)["exit"] == "0"
        assert "master" not in run_in(ROUTER, "ip", "link", "show")
        if "br0" in run_in(ROUTER, "ip", "link", "show"):
            run_in(ROUTER, "ip", "link", "delete", "br0")
        introduce_to_the_router(bench)
        assert not web.passes(beside=dns)
        assert bench.apply(state_of(DNS, WEB), *HOST)["exit"] == "0"
        assert bridged not in web.must_pass()


def introduce_directly(bench: Bench) -> None:
    """Each takes the other for its neighbour, as in one segment."""
    for role, other in (("instance", "peer"), ("peer", "instance")):
        know(bench, role, other, mac_in(bench.pair[other], "eth0"))


def introduce_to_the_router(bench: Bench) -> None:
    for role, other in (("instance", "peer"), ("peer", "instance")):
        know(bench, role, other, mac_in(ROUTER, ENIS[role]))


def know(bench: Bench, role: str, other: str, mac: str) -> None:
    for address in HERE[other]:
        run_in(bench.pair[role], "ip", "neigh", "replace", address, "lladdr", mac, "dev", "eth0")
