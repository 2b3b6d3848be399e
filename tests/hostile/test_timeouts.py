"""One ENI's idle timeouts against another's: of two that meet, the shorter ones hold, state by state.

On one host in host placement both ENIs' policies set the timeouts of one conntrack entry; elsewhere each end has one
of its own, and drops after its own timeouts.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import permutations, product

import pytest

from sgdataplane.enforce import Settings
from sgdataplane.host import netns, sysctl
from sgdataplane.host.conntrack import SessionTuple, Tracked, end_tracked, list_tracked, track_established
from sgdataplane.host.timeouts import FOLDER
from sgdataplane.lab import manage
from sgdataplane.lab.manage import Lab, enforce_policy
from sgdataplane.model.state import CloudState, ConnectionTracking
from sgdataplane.net.values import TCP, UDP, Address, Family
from tests.edges.scene import AF, Scene, drained, until
from tests.edges.scene import scene as running_scene
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE
from tests.support.scenes import labs
from tests.support.scenes.sessionlab import Place

pytestmark = pytest.mark.traffic

ESTABLISHED, CLOSED, UDP_VALUES = (30, 60, 80, 100, 200, 300, 500, 700, 910), (15, 11, 7, 3), (100, 80, 60, 30, 20, 10)
FAMILIES = (Family.IPV4, Family.IPV6)
SERVER, CLIENT = 7000, 7001
# Each of TCP's values and each of UDP's meets each, itself included; the last ENI has none of its own.
OWN = [ConnectionTracking(e, CLOSED[n % 4], UDP_VALUES[n % 6]) for n, e in enumerate(ESTABLISHED)]
OWN += [ConnectionTracking(60, 3, 60), ConnectionTracking(910, 15, 20), ConnectionTracking(910, 3, 10)]
OWN += [ConnectionTracking()]
FEW = OWN[::4] + OWN[-1:]
SITES = [  # placement, hosts
    pytest.param(("instance", 1), id="instance"),
    pytest.param(("host", 1), id="one-host"),
    pytest.param(("host", 2), id="two-hosts"),
]
RULES = [
    make_rule(f"{way} {protocol} {SERVER}/{SERVER} {word} {everybody}", f"{way}-{protocol}-{family}")
    for protocol in ("tcp", "udp")
    for way, word in (("ingress", "from"), ("egress", "to"))
    for family, everybody in (("ipv4", "10.0.0.0/24"), ("ipv6", "2001:db8::/64"))
]
Socket = socket.socket
Entries = dict[tuple[str, str], Tracked]  # by who opened the session and who answers


@dataclass
class Crowd:
    """Instances that let each other in, each with timeouts of its own."""

    lab: Lab
    trackings: dict[str, ConnectionTracking]
    opened: ExitStack = field(default_factory=ExitStack)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(permutations(self.trackings, 2))

    def address(self, name: str, family: Family) -> Address:
        return next(own for own in self.lab.state.eni[f"eni-{name}"].addresses if own.family is family)

    def socket(self, name: str, family: Family, kind: int, port: int = 0) -> Socket:
        with netns.inside(self.lab.topology.node[f"i-{name}"].netns):
            made = self.opened.enter_context(Socket(AF[family], kind))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(DEADLINE)
        made.bind((str(self.address(name, family)), port))
        return made

    def places(self) -> dict[str, set[str]]:
        """The ENIs that are enforced in each namespace."""
        names = {e.netns: {eni.removeprefix("eni-") for eni in e.desired.interfaces} for e in self.lab.enforced}
        return {place: found for place, found in names.items() if found}

    def entries(self, place: str, protocol: int, family: Family) -> Entries:
        """Of sessions with the servers' port."""
        owners = {self.address(name, family): name for name in self.trackings}
        with netns.inside(place):
            found = [e for e in list_tracked() if e.original.protocol == protocol and e.original.port == SERVER]
        ends = {(e.original.source, e.original.target): e for e in found if e.original.source.family is family}
        return {(owners[source], owners[target]): entry for (source, target), entry in ends.items()}

    def off(self, protocol: int, family: Family, state: str, limit: Callable[[ConnectionTracking], int]) -> list[str]:
        """A line for each session that has other timeouts than the shorter ones of its ends that are enforced in its
        namespace. What is left of one is less than it, and more than the next shorter one that any ENI has."""
        values = sorted({limit(tracking) for tracking in self.trackings.values()})
        found, seen = [], set()
        for place, here in self.places().items():
            for ends, entry in self.entries(place, protocol, family).items():
                expected = min(limit(self.trackings[name]) for name in ends if name in here)
                is_right = expected == next((value for value in values if value >= entry.seconds_left), None)
                if entry.state != state or not is_right:
                    found.append(f"{ends} at {place}: {entry.state} {entry.seconds_left}, not {expected}")
                seen.add(ends)
        assert seen == set(self.pairs)
        return found


def state_of(own: Mapping[str, ConnectionTracking]) -> CloudState:
    enis = [
        make_eni(f"eni-{letter}", f"10.0.0.{number} 2001:db8::{number:x}", "sg-all", connection_tracking=tracking)
        for number, (letter, tracking) in enumerate(own.items(), 1)
    ]
    return make_state([make_group("sg-all", RULES, advanced=True)], enis)


@contextmanager
def crowd(name: str, trackings: Iterable[ConnectionTracking], site: tuple[str, int], scale: float) -> Iterator[Crowd]:
    own = {chr(ord("a") + number): tracking for number, tracking in enumerate(trackings)}
    (placement, hosts), state = site, state_of(own)
    with (
        labs.running(name, state, enforce_policy, (), placement=placement, hosts=hosts, time_scale=scale) as lab,
        ExitStack() as opened,
    ):
        yield Crowd(lab, own, opened)


@pytest.fixture(scope="module", params=SITES)
def everyone(request: pytest.FixtureRequest, make_lab_name: Callable[[], str]) -> Iterator[Crowd]:
    own = OWN if request.param == ("host", 1) else FEW  # elsewhere the longest lab would show no more
    with crowd(make_lab_name(), own, request.param, 1.0) as found:
        yield found


@pytest.mark.parametrize("family", FAMILIES, ids=["ipv4", "ipv6"])
def test_every_udp_timeout_beside_every_other_one(everyone: Crowd, family: Family) -> None:
    crowd = everyone
    servers = {name: crowd.socket(name, family, socket.SOCK_DGRAM, SERVER) for name in crowd.trackings}
    clients = {name: crowd.socket(name, family, socket.SOCK_DGRAM, CLIENT) for name in crowd.trackings}
    for opener, answerer in crowd.pairs:
        clients[opener].sendto(b"?", servers[answerer].getsockname()[:2])
    askers = [(server, server.recvfrom(1)[1]) for server in servers.values() for _ in range(len(servers) - 1)]
    assert crowd.off(UDP, family, "UNREPLIED", lambda own: own.udp_timeout) == []
    for server, asker in askers:
        server.sendto(b"!", asker)
    assert all(client.recv(1) == b"!" for client in clients.values() for _ in range(len(servers) - 1))
    assert crowd.off(UDP, family, "REPLIED", lambda own: own.udp_timeout) == []


@pytest.mark.parametrize("family", FAMILIES, ids=["ipv4", "ipv6"])
def test_every_tcp_timeout_beside_every_other_one(everyone: Crowd, family: Family) -> None:
    """Established, and then closed by both ends."""
    crowd = everyone
    listeners = {name: crowd.socket(name, family, socket.SOCK_STREAM, SERVER) for name in crowd.trackings}
    for listener in listeners.values():
        listener.listen(len(listeners))
    clients = [crowd.socket(opener, family, socket.SOCK_STREAM) for opener, _ in crowd.pairs]
    for client, (_, server) in zip(clients, crowd.pairs, strict=True):
        client.connect(listeners[server].getsockname()[:2])
        client.send(b"?")
    accepted = [
        crowd.opened.enter_context(listener.accept()[0])
        for listener in listeners.values()
        for _ in range(len(listeners) - 1)
    ]
    assert all(one.recv(1) == b"?" for one in accepted)
    assert crowd.off(TCP, family, "ESTABLISHED", lambda own: own.tcp_established_timeout) == []
    for side in (clients, accepted):
        for one in side:
            one.shutdown(socket.SHUT_WR)
    assert all(one.recv(1) == b"" for one in (*clients, *accepted))
    until(lambda: has_closed(crowd, family), "the last acknowledgement")
    assert crowd.off(TCP, family, "TIME_WAIT", lambda own: own.tcp_closed_and_time_wait_timeout) == []


def has_closed(crowd: Crowd, family: Family) -> bool:
    entries = (entry for place in crowd.places() for entry in crowd.entries(place, TCP, family).values())
    return all(entry.state == "TIME_WAIT" for entry in entries)


@pytest.mark.parametrize("site", SITES)
def test_an_answer_after_the_shorter_one_reaches_nobody(
    make_lab_name: Callable[[], str], site: tuple[str, int]
) -> None:
    """Timeouts of 1 and 10 s, of who opens and of who answers. A session of two ENIs with 1 s, which is opened later,
    shows when the others' second is over."""
    short, long = ConnectionTracking(udp_timeout=10), ConnectionTracking(udp_timeout=100)
    with crowd(make_lab_name(), (short, long, short, short), site, 0.1) as scene:
        clients = {name: scene.socket(name, Family.IPV4, socket.SOCK_DGRAM, CLIENT) for name in "abc"}
        servers = {name: scene.socket(name, Family.IPV4, socket.SOCK_DGRAM, SERVER) for name in "abd"}
        pairs = [(clients[client], servers[server]) for client, server in ("ab", "ba", "cd")]
        for pair in pairs:
            exchange(*pair)
        until(lambda: not any(("c", "d") in scene.entries(place, UDP, Family.IPV4) for place in scene.places()))
        for client, server in pairs:
            with suppress(PermissionError):  # who is refused in its own namespace is told so
                server.sendto(b"too late", client.getsockname())
            assert drained(client) == []
        for pair in pairs:
            exchange(*pair)


def test_timeouts_that_change_hold_for_sessions_that_begin_then(make_lab_name: Callable[[], str]) -> None:
    with crowd(make_lab_name(), FEW, ("host", 1), 1.0) as scene:
        for own in (
            FEW[1:] + FEW[:1],
            [*FEW[:1] * (len(FEW) - 1), ConnectionTracking()],
            [ConnectionTracking()] * len(FEW),
        ):
            scene.trackings = dict(zip(scene.trackings, own, strict=True))
            scene.lab = manage.apply(scene.lab.record.name, state_of(scene.trackings), enforce_policy)
            with scene.opened:
                servers = {name: scene.socket(name, Family.IPV4, socket.SOCK_DGRAM, SERVER) for name in scene.trackings}
                clients = {name: scene.socket(name, Family.IPV4, socket.SOCK_DGRAM, CLIENT) for name in scene.trackings}
                (place,) = scene.places()
                with netns.inside(place):
                    end_tracked(lambda _: True)
                for client, server in scene.pairs:
                    exchange(clients[client], servers[server])
                assert scene.off(UDP, Family.IPV4, "REPLIED", lambda tracking: tracking.udp_timeout) == []


def exchange(client: Socket, server: Socket) -> None:
    client.sendto(b"?", server.getsockname()[:2])
    assert server.recv(1) == b"?"
    server.sendto(b"!", client.getsockname()[:2])
    assert client.recv(1) == b"!"


# sessions with who has no timeouts of its own


@pytest.fixture
def routed(make_lab_name: Callable[[], str]) -> Iterator[Scene]:
    """In host placement; the router has an address of its own in each family."""
    with running_scene(make_lab_name(), "host") as scene, ExitStack() as stack:
        for address in OF_THE_ROUTER:
            labs.run_in(scene.router, "ip", "address", "add", address, "dev", "lo")
        yield replace(scene, stack=stack)


@pytest.mark.parametrize("seconds", [10, 100], ids=["shorter-than-the-routers", "longer"])
def test_with_the_router_and_beyond_it_an_enis_own_timeouts_hold(routed: Scene, seconds: int) -> None:
    """Whoever opens the session."""
    scene, opened = routed, set()
    router = Place(scene.router, OF_THE_ROUTER)
    scene.enforce("ingress all from any", "egress all to any", tracking=ConnectionTracking(udp_timeout=seconds))
    for family, place in product(FAMILIES, (router, scene.outside)):
        for client, server in ((scene.near, place), (place, scene.near)):
            began = time.monotonic()
            exchange(scene.udp(client, family, CLIENT), scene.udp(server, family, SERVER))
            opened.add((client.address(family), server.address(family)))
            tracked = {(str(e.source), str(e.target)): s for e, s in left(scene).items() if e.port == SERVER}
            passed = time.monotonic() - began
            assert seconds - 1 - passed <= tracked[client.address(family), server.address(family)] <= seconds
            assert tracked.keys() <= opened
            scene.stack.close()


OF_THE_ROUTER = ("198.18.0.1", "2001:db8:ff::1")

# sessions from before an ENI's first policy

BEFORE = (
    "add table inet before",
    "add chain inet before seen { type filter hook prerouting priority 0; }",
    "add rule inet before seen ct state new counter",
)
TIMES = {TCP: 432_000, UDP: 180}  # what a kernel gives by itself; of UDP answered for a while, 120 by its latest word


@pytest.fixture
def unprotected(make_lab_name: Callable[[], str], placement: str) -> Iterator[Scene]:
    """Its conntrack is at work, with the kernel's own timeouts."""
    with running_scene(make_lab_name(), placement) as scene, ExitStack() as stack:
        with netns.inside(scene.enforced):
            sysctl.write(f"{FOLDER}/nf_conntrack_tcp_timeout_established", str(TIMES[TCP]))
            sysctl.write(f"{FOLDER}/nf_conntrack_udp_timeout", str(TIMES[UDP]))
        nft(scene.enforced, *BEFORE)
        yield replace(scene, stack=stack)


@pytest.mark.parametrize(
    ("own", "window"),
    [
        pytest.param(ConnectionTracking(), 30.0, id="adopted"),
        pytest.param(ConnectionTracking(60, 9, 20), 0.0, id="own-and-no-window"),
    ],
)
def test_a_session_from_before_the_first_policy_has_no_longer_than_the_others(
    unprotected: Scene, own: ConnectionTracking, window: float
) -> None:
    scene = unprotected
    for family in FAMILIES:
        client, server = scene.connect(scene.outside, scene.near, family, 443)
        client.send(b"?")
        assert server.recv(1) == b"?"
        scene.udp(scene.outside, family).sendto(b"?", (scene.near.address(family), 53))
    with netns.inside(scene.enforced):
        made = track_established([OF_OTHERS, *MANY], TIMES[TCP])
    assert made == len(MANY) + 1
    before = left(scene)
    assert all(seconds > LONGEST for seconds in before.values() if seconds > TIMES[UDP])
    assert len([seconds for seconds in before.values() if seconds > LONGEST]) == len(MANY) + 1 + len(FAMILIES)
    report = scene.enforce("ingress all from any", tracking=own, settings=Settings(adoption_window=window))
    after = left(scene)
    limits = {TCP: own.tcp_established_timeout, UDP: own.udp_timeout}
    ours = {ends: seconds for ends, seconds in after.items() if ends != OF_OTHERS}
    assert {ends: seconds for ends, seconds in ours.items() if seconds > limits[ends.protocol]} == {}
    assert min(seconds for ends, seconds in ours.items() if ends.protocol == TCP) > limits[TCP] - 10
    assert (report.shortened, after[OF_OTHERS] > LONGEST) == (len(ours), True)
    assert scene.enforce("ingress all from any", tracking=own).shortened == 0


def left(scene: Scene) -> dict[SessionTuple, int]:
    """Seconds of each session of TCP and UDP."""
    found = {entry.original: entry.seconds_left for entry in scene.tracked()}
    return {ends: seconds for ends, seconds in found.items() if ends.protocol in TIMES}


def session(source: str, target: str, port: int) -> SessionTuple:
    return SessionTuple(TCP, Address.parse(source), Address.parse(target), port, 443)


LONGEST = 910
OF_OTHERS = session("10.0.0.2", "198.51.100.7", 40000)  # `far`'s, which has no policy here
MANY = [
    session(*ends, port)
    for port in range(20_000, 20_500)
    for ends in (("10.0.0.1", "192.0.2.1"), ("192.0.2.1", "10.0.0.1"))
]
