"""An instance, or a host outside, opens as many sessions as it can. All ENIs share the router's conntrack table, so
each has a limit. Its own established sessions, and all that others open, go on.

The table itself is the machine's, and too large to be filled here (tests/edges/test_table_full.py does that). So the
limit is a small one, at which each session is counted.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

import pytest

from sgdataplane.contract.fields import KeyType
from sgdataplane.contract.tables import TABLE
from sgdataplane.enforce import Settings
from sgdataplane.host import netns
from sgdataplane.host.conntrack import end_tracked, list_tracked
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.lab import manage
from sgdataplane.lab.manage import Lab, enforce_policy
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address
from sgdataplane.nft.readback import read_table
from tests.edges.scene import until
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE
from tests.support.scenes import labs

pytestmark = [pytest.mark.traffic, pytest.mark.slow]

LIMIT, OTHERS, PORT, REFUSED = 200, 15, 53, 9999
FLOOD = 5 * LIMIT
QUIET_S = 0.5  # a router delivers within the sender's own call
A, B, C, OUTSIDE = "10.0.0.1", "10.0.0.2", "10.0.0.3", "198.51.100.7"
RULES = """
      - {type: egress, ip_protocol: udp, port_range: 1/9000, cidr_ip: 0.0.0.0/0}
      - {type: egress, ip_protocol: tcp, port_range: 1/9000, cidr_ip: 0.0.0.0/0}
      - {type: egress, ip_protocol: icmp, port_range: -1/-1, cidr_ip: 0.0.0.0/0}
      - {type: ingress, ip_protocol: all, port_range: -1/-1, cidr_ip: 0.0.0.0/0}"""


def state_of(dropped: int = 0) -> CloudState:
    """`dropped`: a port to which nobody sends, and which a rule refuses."""
    port = f"port_range: {dropped}/{dropped}, cidr_ip: 192.0.2.0/24"
    more = f"\n      - {{type: ingress, ip_protocol: tcp, policy: drop, {port}}}" if dropped else ""
    enis = "".join(
        f"""
  - {{network_interface_id: eni-{name}, instance_id: i-{name}, type: primary, vpc_id: vpc-a, security_group_ids: [sg-a],
     mac_address: "00:16:3e:00:00:0{name}", private_ip_addresses: [{address}]}}"""
        for name, address in (("a", A), ("b", B), ("c", C))
    )
    return labs.state_of(f"""
version: 1
vpcs: [{{vpc_id: vpc-a, cidr_blocks: [10.0.0.0/16]}}]
security_groups:
  - security_group_id: sg-a
    vpc_id: vpc-a
    security_group_type: enterprise
    rules:{RULES}{more}
instances: [{{instance_id: i-a}}, {{instance_id: i-b}}, {{instance_id: i-c}}]
network_interfaces:{enis}
""")


@dataclass
class Router:
    """A router with three ENIs, and a host outside. `homes`: namespaces by address."""

    lab: Lab
    netns: str
    homes: dict[str, str]
    stack: ExitStack

    def endpoint(self, address: str, kind: int, protocol: int = 0) -> socket.socket:
        with netns.inside(self.homes[address]):
            made = self.stack.enter_context(socket.socket(socket.AF_INET, kind, protocol))
        made.settimeout(DEADLINE)
        return made

    def udp(self, address: str, port: int = 0) -> socket.socket:
        made = self.endpoint(address, socket.SOCK_DGRAM)
        made.bind((address, port))
        return made

    def open(self, source: str, target: str, count: int, first: int = 1000) -> None:
        """Datagrams from one port to as many ports, each of which opens a session."""
        sender = self.udp(source)
        for number in range(count):
            with suppress(OSError):  # it hears that nobody listens
                sender.sendto(b"x", (target, first + number % 8000))

    def opened(self, source: str) -> Counter[str]:
        """The sessions in the router's table that this address has opened, by the other end."""
        with netns.inside(self.netns):
            found = list_tracked()
        return Counter(str(one.original.target) for one in found if one.original.source == Address.parse(source))

    def arrivals(self, source: str, target: str, count: int = OTHERS) -> int:
        """How many of so many new sessions reach the target within half a second."""
        receiver = self.udp(target, PORT)
        for number in range(count):
            self.udp(source).sendto(b"%d" % number, (target, PORT))
        receiver.settimeout(QUIET_S)
        found = set[bytes]()
        with suppress(TimeoutError):
            while len(found) < count:
                found.add(receiver.recv(100))
        receiver.close()
        return len(found)

    def drops(self, name: str) -> int:
        text = nft(self.netns, f"list counter inet {TABLE} {name}")
        return int(text.split("packets ")[1].split()[0])

    def forget(self, source: str) -> None:
        """As if the sessions that this address has opened had ended."""
        with netns.inside(self.netns):
            end_tracked(lambda one: one.original.source == Address.parse(source))


@contextmanager
def running(name: str, limit: int, state: CloudState | None = None) -> Iterator[Router]:
    record = labs.record_of(name, "host")
    options = replace(record.choices.options, sessions_per_eni=limit)
    record = replace(record, choices=replace(record.choices, options=options), externals=((OUTSIDE,),))
    lab = manage.up(record, state or state_of(), enforce_policy)
    try:
        router = lab.topology.routers_of_vpc["vpc-a"][0].netns
        nodes = {node.name: node.netns for node in lab.topology.nodes if node.is_instance}
        homes = {A: nodes["i-a"], B: nodes["i-b"], C: nodes["i-c"]}
        homes[OUTSIDE] = next(node.netns for node in lab.topology.nodes if not node.is_instance)
        with ExitStack() as stack:
            yield Router(lab, router, homes, stack)
    finally:
        manage.down(name)


@pytest.fixture
def router(make_lab_name: Callable[[], str]) -> Iterator[Router]:
    with running(make_lab_name(), LIMIT) as made:
        yield made


@pytest.fixture
def unlimited(make_lab_name: Callable[[], str]) -> Iterator[Router]:
    """The control: without a limit, one ENI takes what it likes of the table."""
    with running(make_lab_name(), 0) as made:
        yield made


def established(router: Router, source: str, target: str) -> tuple[socket.socket, socket.socket]:
    """A session with an answer."""
    server, client = router.udp(target, PORT + 1), router.udp(source)
    client.connect((target, PORT + 1))
    exchange(client, server)
    return client, server


def exchange(client: socket.socket, server: socket.socket) -> None:
    client.send(b"?")
    data, address = server.recvfrom(10)
    server.sendto(data, address)
    assert client.recv(10) == b"?"


def test_without_a_limit_one_eni_takes_what_it_likes(unlimited: Router) -> None:
    unlimited.open(A, OUTSIDE, FLOOD)
    assert unlimited.opened(A)[OUTSIDE] >= FLOOD


@pytest.mark.parametrize("target", [OUTSIDE, B], ids=["outside", "another-eni"])
def test_flood_of_an_eni_stops_at_its_limit_and_leaves_others_theirs(router: Router, target: str) -> None:
    client, server = established(router, A, C)
    before = router.drops("egress.session-limit")
    router.open(A, target, FLOOD)
    assert LIMIT // 2 < sum(router.opened(A).values()) <= LIMIT + 2  # the first refused ones are forgotten at once
    assert router.drops("egress.session-limit") >= before + FLOOD - LIMIT - 2
    assert router.arrivals(A, C) == 0
    assert (router.arrivals(B, C), router.arrivals(C, OUTSIDE), router.arrivals(OUTSIDE, B)) == (OTHERS,) * 3
    assert router.arrivals(OUTSIDE, A) == OTHERS  # others may still open sessions to it
    for _ in range(OTHERS):
        exchange(client, server)


def test_flood_from_outside_closes_neither_what_the_eni_opens_nor_others(router: Router) -> None:
    client, server = established(router, OUTSIDE, A)
    router.open(OUTSIDE, A, FLOOD)
    assert sum(router.opened(OUTSIDE).values()) <= LIMIT + 2
    assert router.drops("ingress.session-limit") >= FLOOD - LIMIT - 2
    assert router.arrivals(OUTSIDE, A) == 0
    assert (router.arrivals(A, C), router.arrivals(B, A), router.arrivals(OUTSIDE, B)) == (OTHERS,) * 3
    exchange(client, server)


def test_an_eni_just_below_its_limit_loses_nothing(router: Router) -> None:
    router.open(A, OUTSIDE, LIMIT - OTHERS)
    assert router.arrivals(A, C) == OTHERS
    assert router.drops("egress.session-limit") == 0


def test_replies_and_refused_packets_take_no_room(router: Router) -> None:
    """What the policy refuses makes no session. Nor is a reply one."""
    sender = router.udp(A)
    for number in range(FLOOD):
        sender.sendto(b"x", (OUTSIDE, REFUSED + number))
    client, server = established(router, B, A)
    for _ in range(FLOOD):
        exchange(client, server)
    assert router.arrivals(A, C, LIMIT - 20) == LIMIT - 20
    assert router.drops("egress.session-limit") == 0


def test_an_eni_opens_sessions_again_when_its_own_have_ended(router: Router) -> None:
    router.open(A, OUTSIDE, FLOOD)
    assert router.arrivals(A, C) == 0
    router.forget(A)
    until(lambda: router.arrivals(A, C) == OTHERS, "new sessions")


def held(router: Router) -> set[object]:
    """The names of sets that packets fill."""
    with netns.inside(router.netns), Nfnetlink() as door:
        found = read_table(door, TABLE)
    assert found is not None
    assert found.odd == ()
    return {entry.name for entry in found.table.maps if entry.room and entry.key_type is KeyType.MARK_IFNAME}


def test_updates_under_a_flood_neither_reset_the_count_nor_lose_a_session(router: Router) -> None:
    """Each update begins another epoch, so that all sessions are judged again, those without an answer among them."""
    client, server = established(router, A, C)
    one_way, receiver = router.udp(A), router.udp(C, PORT + 2)
    one_way.sendto(b"0", (C, PORT + 2))
    assert receiver.recv(10) == b"0"
    router.open(A, OUTSIDE, FLOOD)
    sets = held(router)
    desired = next(iter(router.lab.desired.values()))
    for number in range(1, 20):
        following = replace(desired, state=state_of(number))
        assert enforce(router.netns, following, desired, Settings(adoption_window=0)).changed
        desired = following
        router.open(A, OUTSIDE, 50, first=3000 + 50 * number)
        one_way.sendto(b"%d" % number, (C, PORT + 2))
        assert receiver.recv(10) == b"%d" % number
        exchange(client, server)
    assert sum(router.opened(A).values()) <= LIMIT + 20
    assert held(router) == sets
    assert router.arrivals(B, C) == OTHERS


def test_sampling_bounds_a_large_flood(make_lab_name: Callable[[], str]) -> None:
    """At a limit where one in sixteen is counted."""
    limit = 4096
    with running(make_lab_name(), limit) as router:
        router.open(A, OUTSIDE, limit)
        assert router.drops("egress.session-limit") == 0
        for target in (B, C):
            router.open(A, target, 2 * limit)
        count = sum(router.opened(A).values())
        assert limit < count < 1.6 * limit
        assert router.arrivals(B, C) == OTHERS


def test_every_protocol_counts(router: Router) -> None:
    """TCP that nobody answers, and ICMP identifiers."""
    nft(router.homes[OUTSIDE], "add table inet quiet")
    nft(router.homes[OUTSIDE], "add chain inet quiet input { type filter hook input priority 0; policy drop; }")
    for number in range(LIMIT // 2):
        opener = router.endpoint(A, socket.SOCK_STREAM)
        opener.setblocking(False)
        with suppress(BlockingIOError):
            opener.connect((OUTSIDE, 1000 + number))
    pinger = router.endpoint(A, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    for number in range(LIMIT):
        pinger.sendto(echo(number), (OUTSIDE, 0))
    assert LIMIT - 10 < sum(router.opened(A).values()) <= LIMIT + 2
    assert router.drops("egress.session-limit") > LIMIT // 4
    assert (router.arrivals(A, C), router.arrivals(B, C)) == (0, OTHERS)


def echo(identifier: int) -> bytes:
    head = bytes([8, 0]), identifier.to_bytes(2), (1).to_bytes(2)
    total = 0x0800 + identifier + 1
    return head[0] + (~(total + (total >> 16)) & 0xFFFF).to_bytes(2) + head[1] + head[2]
