"""ICMP errors about sessions of others: an ENI that may send nothing, and a host outside, make them up. Each time the
session's own end, or a router on its way, sends the same error afterwards, and that arrives: the control."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import permutations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet as Frame
from scapy.packet import Raw

from sgdataplane.host import netns
from sgdataplane.lab.manage import Lab, enforce_policy
from sgdataplane.model.semantics import decide_error
from sgdataplane.net.packet import IcmpError, Packet
from sgdataplane.net.values import UDP as UDP_NUMBER
from sgdataplane.net.values import Address, Direction, Family, Verdict
from tests.edges.scene import AF, FAMILIES, grown, until
from tests.edges.test_icmp_errors import (
    IP_MTU_DISCOVER,
    IP_PMTUDISC_DO,
    IPV6_MTU_DISCOVER,
    path_mtu,
    set_option,
)
from tests.fence.bench import token
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE
from tests.support.scenes import labs
from tests.support.scenes.sessionlab import Place

pytestmark = pytest.mark.traffic

PORT = 53
SHUT_IN = ["ingress all from 0.0.0.0/0", "ingress all from ::/0"]
OPEN = [*SHUT_IN, "egress all to 0.0.0.0/0", "egress all to ::/0"]
STATE = make_state(
    [make_group("sg-open", OPEN, advanced=True), make_group("sg-shut", SHUT_IN, advanced=True)],
    [
        make_eni("eni-a", "10.0.0.1 2001:db8::1", "sg-open"),
        make_eni("eni-b", "10.0.0.2 2001:db8::2", "sg-open"),
        make_eni("eni-x", "10.0.0.3 2001:db8::3", "sg-shut"),
        make_eni("eni-y", "10.0.0.4 2001:db8::4", "sg-open"),
    ],
)
HOSTS = (("198.51.100.7", "2001:db8:ffff::7"), ("198.51.100.8", "2001:db8:ffff::8"))
NAMES = ("outside", "other")  # of these
SMALL = {Family.IPV4: 600, Family.IPV6: 1280}
ERRORS = {"refused": errno.ECONNREFUSED, "too-big": errno.EMSGSIZE}
by_family = pytest.mark.parametrize("family", FAMILIES, ids=["ipv4", "ipv6"])
by_kind = pytest.mark.parametrize("kind", ERRORS)


def error_of(kind: str, family: Family) -> Frame:
    if family is Family.IPV4:
        return ICMP(type=3, code=3) if kind == "refused" else ICMP(type=3, code=4, nexthopmtu=SMALL[family])
    return ICMPv6DestUnreach(code=4) if kind == "refused" else ICMPv6PacketTooBig(mtu=SMALL[family])


@dataclass
class Stage:
    """`places`: of the ENIs and of the hosts outside, by name. Sockets that a test opens are closed when it ends."""

    router: str
    placement: str
    places: dict[str, Place]
    stack: ExitStack = field(default_factory=ExitStack)

    def socket(self, place: str, family: Family, kind: int, protocol: int = 0) -> socket.socket:
        with netns.inside(self.places[place].netns):
            made = self.stack.enter_context(socket.socket(AF[family], kind, protocol))
        made.settimeout(DEADLINE)
        return made

    def send(self, place: str, packet: Frame, ifname: str = "") -> bool:
        """Send a whole packet from a raw socket, by that interface. False if the policy there refuses it."""
        family = Family.IPV4 if packet.version == 4 else Family.IPV6
        with self.socket(place, family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
            if ifname:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ifname.encode())
            try:
                return bool(sender.sendto(bytes(packet), (packet.dst, 0)))
            except PermissionError:
                return False

    def refused(self, place: str) -> int:
        """How many errors were refused as being about sessions of others, where that place's packets are judged."""
        where = self.places[place].netns if self.placement == "instance" else self.router
        found = re.search(r"counter egress\.icmp-error-refused \{[^}]*?packets (\d+)", nft(where, "list counters"))
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Session:
    """A datagram from `client` to `server`, which got it. `asking`: the client's socket; `hearing`: all ICMP that
    comes there."""

    stage: Stage
    family: Family
    client: str
    server: str
    asking: socket.socket
    hearing: socket.socket

    @classmethod
    def opened(cls, stage: Stage, family: Family, client: str, server: str) -> Session:
        serving, asking = (stage.socket(place, family, socket.SOCK_DGRAM) for place in (server, client))
        serving.bind((stage.places[server].address(family), PORT))
        set_option(asking, (IP_MTU_DISCOVER, IP_PMTUDISC_DO), (IPV6_MTU_DISCOVER, IP_PMTUDISC_DO))
        asking.connect((stage.places[server].address(family), PORT))
        asking.send(b"?")
        answered = serving.recvfrom(1)[1]
        serving.sendto(b"!", answered)
        assert asking.recv(1) == b"!"
        serving.close()
        protocol = socket.IPPROTO_ICMP if family is Family.IPV4 else socket.IPPROTO_ICMPV6
        return cls(stage, family, client, server, asking, stage.socket(client, family, socket.SOCK_RAW, protocol))

    def ip(self, source: str, target: str) -> Frame:
        ends = {"src": self.stage.places[source].address(self.family)}
        ends["dst"] = self.stage.places[target].address(self.family)
        return IP(**ends) if self.family is Family.IPV4 else IPv6(**ends)

    def asked(self, data: bytes = b"?") -> Frame:
        """The packet that opened it."""
        sport = self.asking.getsockname()[1]
        return self.ip(self.client, self.server) / UDP(sport=sport, dport=PORT, chksum=1) / Raw(data)

    def error_by(self, sender: str, kind: str, data: bytes) -> bool:
        """Send the client an error about it, with data in what it quotes."""
        error = self.ip(sender, self.client) / error_of(kind, self.family) / Raw(bytes(self.asked(data)))
        return self.stage.send(sender, error)

    def hears(self, known: bytes) -> list[bytes]:
        """All ICMP that has come so far, and until that comes."""
        found: list[bytes] = []
        while not found or known not in found[-1]:
            found.append(self.hearing.recv(65535))
        return found

    def error(self) -> int:
        return self.asking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def forget(self) -> None:
        """What errors have said of the way's width."""
        option = "-4" if self.family is Family.IPV4 else "-6"
        labs.run_in(self.stage.places[self.client].netns, "ip", option, "route", "flush", "cache")


@contextmanager
def running_stage(name: str, placement: str) -> Iterator[Stage]:
    with labs.running(name, STATE, enforce_policy, HOSTS, placement=placement) as lab:
        router = next(iter(lab.topology.routers_of_vpc.values()))[0].netns
        yield Stage(router, placement, dict(_places(lab)))


def _places(lab: Lab) -> Iterator[tuple[str, Place]]:
    for node in lab.topology.nodes:
        ipv4, ipv6 = (str(node.interfaces[0].primary(family)) for family in FAMILIES)
        outside = {host[0]: name for host, name in zip(HOSTS, NAMES, strict=True)}
        yield outside.get(ipv4, node.name.removeprefix("i-")), Place(node.netns, (ipv4, ipv6))


@pytest.fixture(scope="module")
def module_stage(make_lab_name: Callable[[], str], placement: str) -> Iterator[Stage]:
    with running_stage(make_lab_name(), placement) as stage:
        yield stage


@pytest.fixture
def stage(module_stage: Stage) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield replace(module_stage, stack=stack)


def must_not_hear(session: Session, attacker: str, control: str, kind: str) -> None:
    """The client hears nothing of what the attacker sends, and is told nothing; of the control it is."""
    stage, family, (secret, known) = session.stage, session.family, (token(), token())
    before, width = stage.refused(attacker), path_mtu(session.asking)
    session.error_by(attacker, kind, secret)
    assert session.error_by(control, kind, known)
    assert not any(secret in packet for packet in session.hears(known))
    assert session.error() == ERRORS[kind]
    assert path_mtu(session.asking) == (SMALL[family] if kind == "too-big" else width)
    session.forget()
    session.error_by(attacker, kind, secret)
    until(lambda: stage.refused(attacker) == before + 2, "the count of the refused errors")
    assert (session.error(), path_mtu(session.asking)) == (0, width)


def seen_by(stage: Stage, place: str, session: Session) -> None:
    """Make the session known to conntrack in a place that it never came by, as the error would be invalid there. Over
    IPv4 its opening packet can be sent by the loopback; over IPv6 nothing leads there, and it takes CAP_NET_ADMIN."""
    if stage.placement == "host":
        return
    if session.family is Family.IPV4:
        assert stage.send(place, session.asked(), "lo")
        return
    source, target = (stage.places[name].address(session.family) for name in (session.client, session.server))
    ends = ("-s", source, "-d", target, "--sport", str(session.asking.getsockname()[1]), "--dport", str(PORT))
    labs.run_in(stage.places[place].netns, "conntrack", "-I", "-p", "udp", "-t", "60", *ends)


@by_family
@by_kind
@pytest.mark.parametrize("attacker", ["x", "y"], ids=["egress-denied", "egress-open"])
def test_an_eni_sends_no_error_about_a_session_of_two_others(
    stage: Stage, family: Family, kind: str, attacker: str
) -> None:
    """Neither data nor news. The session's own end may, though it has sent nothing more itself."""
    session = Session.opened(stage, family, "a", "b")
    seen_by(stage, attacker, session)
    must_not_hear(session, attacker, "b", kind)


@by_family
@by_kind
def test_an_eni_sends_outside_no_error_about_a_session_of_another(stage: Stage, family: Family, kind: str) -> None:
    """It would carry data out of a network that the ENI may send nothing from."""
    session = Session.opened(stage, family, "outside", "b")
    seen_by(stage, "x", session)
    must_not_hear(session, "x", "b", kind)


@by_family
@by_kind
@pytest.mark.placement("host")
def test_a_host_outside_sends_no_error_about_a_session_of_two_enis(stage: Stage, family: Family, kind: str) -> None:
    session = Session.opened(stage, family, "a", "b")
    must_not_hear(session, "outside", "b", kind)


@by_family
@by_kind
@pytest.mark.placement("instance")
def test_where_instances_judge_a_host_outside_is_believed_about_a_session_of_two_enis(
    stage: Stage, family: Family, kind: str
) -> None:
    """A limit: to an instance it may be a router on the way. (In host placement: the test above.)"""
    session, known = Session.opened(stage, family, "a", "b"), token()
    assert session.error_by("outside", kind, known)
    session.hears(known)
    assert session.error() == ERRORS[kind]
    session.forget()


@by_family
@by_kind
def test_a_router_outside_sends_errors_about_sessions_that_go_there(stage: Stage, family: Family, kind: str) -> None:
    """It may be on the way: nobody here can tell. So may the other end of the session."""
    session = Session.opened(stage, family, "a", "outside")
    for sender in ("other", "outside"):
        known = token()
        assert session.error_by(sender, kind, known)
        session.hears(known)
        assert session.error() == ERRORS[kind]
        session.forget()


@by_family
def test_errors_that_kernels_send_arrive(stage: Stage, family: Family) -> None:
    """Of the other end, where nobody listens: whether that is an ENI or outside."""
    for client, server in (("a", "b"), ("b", "a"), ("a", "outside"), ("outside", "a"), ("a", "x")):
        asking = stage.socket(client, family, socket.SOCK_DGRAM)
        asking.connect((stage.places[server].address(family), PORT + 1))
        asking.send(b"?")
        with suppress(ConnectionRefusedError):
            raise AssertionError(asking.recv(1))


@by_family
def test_errors_about_a_closed_port_come_from_who_may_send_nothing(stage: Stage, family: Family) -> None:
    """An error about a session that x accepted is a reply to it."""
    before = grown({}, {"x": stage.refused("x")})
    asking = stage.socket("y", family, socket.SOCK_DGRAM)
    asking.connect((stage.places["x"].address(family), PORT + 2))
    asking.send(b"?")
    with pytest.raises(ConnectionRefusedError):
        asking.recv(1)
    assert before == grown({}, {"x": stage.refused("x")})


@by_family
@pytest.mark.placement("host")
def test_who_may_send_an_error_about_which_session(stage: Stage, family: Family) -> None:
    """Each sender about each session: what arrives is what decide_error() says."""
    for client, server in permutations(("a", "b", "outside"), 2):
        session, arrived, expected = Session.opened(stage, family, client, server), set[str](), set[str]()
        for sender in sorted(stage.places.keys() - {client}):
            secret, known = token(), token()
            session.error_by(sender, "refused", secret)
            session.error_by(server, "refused", known)
            arrived |= {sender for packet in session.hears(known) if secret in packet}
            expected |= {sender} if may_send(session, sender) else set()
        assert arrived == expected, (client, server)
        assert server in arrived
        session.error()


def may_send(session: Session, sender: str) -> bool:
    """At the ENIs on the way; all are on this host."""
    ends = {name: Address.parse(place.address(session.family)) for name, place in session.stage.places.items()}
    sport, enis = session.asking.getsockname()[1], {"a", "b", "x", "y"}
    asked = partial(Packet, protocol=UDP_NUMBER, port=PORT, source_port=sport)
    if sender in enis:
        opening = asked(f"eni-{sender}", Direction.INGRESS, ends[session.client], ends[session.server])
        error = IcmpError(Direction.EGRESS, ends[session.client], ends[sender], opening)
        if decide_error(STATE, error).verdict is Verdict.DROP:
            return False
    if session.client not in enis:
        return sender in enis  # from elsewhere it would be about a packet to an ENI here
    opening = asked(f"eni-{session.client}", Direction.EGRESS, ends[session.server], ends[session.client])
    error = IcmpError(Direction.INGRESS, ends[sender], ends[session.client], opening)
    here = () if sender in enis else [eni.network_interface_id for eni in STATE.network_interfaces]
    return decide_error(STATE, error, here=here).verdict is Verdict.ACCEPT
