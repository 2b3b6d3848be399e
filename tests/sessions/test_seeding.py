"""What an ENI has running when it is protected for the first time goes on, whoever of the two ends speaks alone; what
the policy refuses ends with its next segment, whoever sends it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

import pytest

from sgdataplane.enforce import Settings, remove
from sgdataplane.host import netns, sockets
from sgdataplane.host.conntrack import SessionTuple, track_established
from sgdataplane.host.sockets import list_tcp_sessions
from sgdataplane.net.values import TCP, Address, Family, Prefix
from tests.edges.scene import FAMILIES, RESET, Scene, drained, grown, until
from tests.edges.scene import scene as running_scene
from tests.support.kernel.conntrack import tuple_of
from tests.support.kernel.nft import nft
from tests.support.probes.flood import DEADLINE

pytestmark = pytest.mark.traffic

IDS = ["ipv4", "ipv6"]
RULES = ("ingress tcp 80/80 from any", "egress tcp 443/443 to any")
OPEN, CLOSED = {"download": 443, "upload": 80}, {"download": 444, "upload": 81}
REFUSED_BY = {"download": "default.egress.drop", "upload": "default.ingress.drop"}
CHUNK, MUCH, MOST = 1 << 16, 1 << 21, 1 << 30


@pytest.fixture(scope="module")
def unprotected_scene(make_lab_name: Callable[[], str]) -> Iterator[Scene]:
    with running_scene(make_lab_name()) as made:
        yield made


@pytest.fixture
def scene(unprotected_scene: Scene) -> Iterator[Scene]:
    """Its instance has no table of ours and conntrack no entry, nor any work."""
    remove(unprotected_scene.near.netns)
    unprotected_scene.forget_all()
    with ExitStack() as stack:
        yield replace(unprotected_scene, stack=stack)


@dataclass(frozen=True, slots=True)
class OneWay:
    """A session in which from now on only one end speaks: the far one of a session that `near` opened (a download), or
    `near` in one that it was asked for (an upload)."""

    near: socket.socket
    outside: socket.socket
    is_download: bool

    @property
    def ends(self) -> tuple[socket.socket, socket.socket]:
        """The speaker, and the silent one."""
        return (self.outside, self.near) if self.is_download else (self.near, self.outside)

    @property
    def opened(self) -> SessionTuple:
        """As whoever opened it sees it."""
        seen = [end for sock in (self.near, self.outside) for end in (sock.getsockname(), sock.getpeername())][:2]
        (near, near_port), (outside, port) = ((plain(end[0]), int(end[1])) for end in seen)
        session = SessionTuple(TCP, near, outside, near_port, port)
        return session if self.is_download else session.reverse


def plain(text: str) -> Address:
    return Address.parse(text.removeprefix("::ffff:"))


def one_way(scene: Scene, family: Family, port: int, kind: str) -> OneWay:
    """Its server listens for as long as it runs."""
    client, server = (scene.near, scene.outside) if kind == "download" else (scene.outside, scene.near)
    listener = scene.listen(server, family, port)
    opener = scene.open(client, family, socket.SOCK_STREAM)
    opener.connect((server.address(family), port))
    accepted = scene.stack.enter_context(listener.accept()[0])
    return talk(opener, accepted, kind)


def talk(opener: socket.socket, accepted: socket.socket, kind: str) -> OneWay:
    """Both have spoken once."""
    for sock in (opener, accepted):
        sock.settimeout(DEADLINE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    exchange(opener, accepted)
    is_download = kind == "download"
    return OneWay(*((opener, accepted) if is_download else (accepted, opener)), is_download)


def exchange(*ends: socket.socket) -> None:
    for sender, receiver in (ends, ends[::-1]):
        sender.send(b".")
        assert receiver.recv(1) == b"."


def arrives(session: OneWay) -> None:
    """Much of what the speaker says is heard, by somebody who stays silent."""
    speaker, listener = session.ends
    sent, heard = bytes(range(256)) * 256, bytearray()
    speaking = threading.Thread(target=speaker.sendall, args=(sent,))
    speaking.start()
    while len(heard) < len(sent):
        heard += listener.recv(CHUNK)
    speaking.join()
    assert heard == sent


@pytest.mark.parametrize("kind", OPEN)
@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_one_way_sessions_go_on_or_end_as_the_policy_says(scene: Scene, family: Family, kind: str) -> None:
    allowed, refused = (one_way(scene, family, ports[kind], kind) for ports in (OPEN, CLOSED))
    report = scene.enforce(*RULES, settings=Settings())
    assert (report.adopting, report.seeded) == (("eth0",), 2)
    entries = {entry.original: entry for entry in scene.tracked()}
    assert entries.keys() == {allowed.opened, refused.opened}
    assert {(entry.state, entry.mark) for entry in entries.values()} == {("ESTABLISHED", 0)}
    assert all(900 < entry.seconds_left <= 910 for entry in entries.values())
    before = scene.counts()
    be_refused(scene, refused.ends[0], REFUSED_BY[kind])
    arrives(allowed)
    assert drained(refused.ends[1]) == []
    assert {name for name in grown(before, scene.counts()) if "drop" in name or "midstream" in name} == {
        REFUSED_BY[kind]
    }


@pytest.mark.parametrize("kind", OPEN)
def test_a_refused_session_is_heard_by_no_end_and_allowed_again_it_goes_on(scene: Scene, kind: str) -> None:
    session = one_way(scene, Family.IPV4, CLOSED[kind], kind)
    scene.enforce(*RULES, settings=Settings())
    for speaker in session.ends:
        be_refused(scene, speaker, REFUSED_BY[kind])
    assert [drained(end) for end in session.ends] == [[], []]
    scene.enforce(*RULES, "egress tcp 444/444 to any", "ingress tcp 81/81 from any", settings=Settings())
    assert [end.recv(1) for end in session.ends] == [b"!", b"!"]


def be_refused(scene: Scene, speaker: socket.socket, counter: str) -> None:
    before = scene.counts()
    speaker.send(b"!")
    until(lambda: counter in grown(before, scene.counts()), "refusal")


def test_a_stream_in_full_flow_meets_its_first_policy(scene: Scene) -> None:
    """The client says nothing, but it acknowledges; some of what is on its way may have to be sent again."""
    session = one_way(scene, Family.IPV6, 443, "download")
    speaker, listener = session.ends
    enough = threading.Event()

    def speak() -> None:
        with suppress(TimeoutError):  # the listener says it better
            for _ in range(MOST // CHUNK):
                if enough.is_set():
                    break
                speaker.sendall(bytes(CHUNK))
            speaker.shutdown(socket.SHUT_WR)

    speaking = threading.Thread(target=speak)
    speaking.start()
    try:
        hear(listener, MUCH)
        assert scene.enforce(*RULES, settings=Settings()).seeded == 1
        hear(listener, 8 * MUCH)  # more than all buffers on the way hold
        enough.set()
        while listener.recv(CHUNK):
            pass
        assert "ingress.invalid" not in scene.counts()  # though conntrack has not seen how the ends scale windows
    finally:
        enough.set()
        speaking.join()


def hear(listener: socket.socket, count: int) -> None:
    while count > 0:
        data = listener.recv(CHUNK)
        assert data
        count -= len(data)


@pytest.mark.parametrize("kind", OPEN)
def test_ipv4_through_sockets_of_ipv6_is_ipv4(scene: Scene, kind: str) -> None:
    """`near` listens at :: for both families, or reaches IPv4 by an address that is mapped into IPv6."""
    near, outside = scene.near, scene.outside
    with netns.inside(near.netns):
        ours = scene.stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
    if kind == "download":
        listener = scene.listen(outside, Family.IPV4, 443)
        ours.connect((f"::ffff:{outside.addresses[0]}", 443))
        session = talk(ours, scene.stack.enter_context(listener.accept()[0]), kind)
    else:
        ours.bind(("::", 80))
        ours.listen()
        opener = scene.open(outside, Family.IPV4, socket.SOCK_STREAM)
        opener.connect((near.addresses[0], 80))
        session = talk(opener, scene.stack.enter_context(ours.accept()[0]), kind)
    assert scene.enforce(*RULES, settings=Settings()).seeded == 1
    assert [entry.original for entry in scene.tracked()] == [session.opened]
    arrives(session)


@pytest.mark.parametrize("kind", OPEN)
@pytest.mark.parametrize("who", ["near", "outside"])
def test_half_closed_sessions_go_on(scene: Scene, kind: str, who: str) -> None:
    """The end that was silent has said that it will stay so; what it had running the other way arrives."""
    session = one_way(scene, Family.IPV4, OPEN[kind], kind)
    speaker, listener = session.ends
    if (session.near is listener) != (who == "near"):
        speaker, listener = listener, speaker
    listener.shutdown(socket.SHUT_WR)
    assert speaker.recv(1) == b""
    assert scene.enforce(*RULES, settings=Settings()).seeded == 1
    speaker.send(b"all the rest")
    speaker.shutdown(socket.SHUT_WR)
    assert (listener.recv(20), listener.recv(20)) == (b"all the rest", b"")


def test_a_server_that_takes_one_session_only_is_still_a_server(scene: Scene) -> None:
    """Nobody listens any more at a port that no client is given by the kernel."""
    near_first = [scene.connect(scene.outside, scene.near, family, 80) for family in FAMILIES]
    for outside, near in near_first:
        exchange(outside, near)
    assert scene.enforce(*RULES, settings=Settings()).seeded == len(FAMILIES)
    for outside, near in near_first:
        arrives(OneWay(near, outside, is_download=False))


def test_what_conntrack_knows_already_stays_what_it_is(scene: Scene) -> None:
    nft(
        scene.near.netns,
        "add table inet other",
        "add chain inet other in { type filter hook prerouting priority 0; }",
        "add rule inet other in ct state new counter",
    )
    try:
        sessions = [one_way(scene, Family.IPV4, port, kind) for kind, port in OPEN.items()]
        before = {entry.original for entry in scene.tracked()}
        assert before == {session.opened for session in sessions}
        assert scene.enforce(*RULES, settings=Settings()).seeded == 0
        assert {entry.original for entry in scene.tracked()} == before
        for session in sessions:
            arrives(session)
    finally:
        nft(scene.near.netns, "delete table inet other")


def test_a_session_that_begins_meanwhile_is_seeded_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = [one_way(scene, Family.IPV4, 443, "download")]

    def list_and_begin_one(own: Collection[Prefix]) -> list[SessionTuple]:
        listed = list_tcp_sessions(own)
        if len(sessions) < 2:
            sessions.append(one_way(scene, Family.IPV4, 80, "upload"))
        return listed

    monkeypatch.setattr(sockets, "list_tcp_sessions", list_and_begin_one)
    assert scene.enforce(*RULES, settings=Settings()).seeded == 2
    for session in sessions:
        arrives(session)


def test_without_a_window_nothing_is_seeded(scene: Scene) -> None:
    one_way(scene, Family.IPV4, 443, "download")
    report = scene.enforce(*RULES)
    assert (report.seeded, scene.tracked()) == (0, [])


def test_a_second_apply_seeds_nothing(scene: Scene) -> None:
    session = one_way(scene, Family.IPV4, 443, "download")
    assert scene.enforce(*RULES, settings=Settings()).seeded == 1
    scene.forget_all()
    changed = scene.enforce(*RULES, "ingress tcp 81/81 from any", settings=Settings())
    assert (changed.changed, changed.seeded) == (True, 0)
    assert session.opened not in [entry.original for entry in scene.tracked()]


def test_only_sessions_of_these_addresses_with_others_are_listed(scene: Scene) -> None:
    session = one_way(scene, Family.IPV4, 443, "download")
    with netns.inside(scene.near.netns):
        mine = scene.listen(scene.near, Family.IPV4, 80)
        within = scene.stack.enter_context(socket.create_connection(mine.getsockname()))
        assert within.getsockname()[0] == scene.near.addresses[0]
        listed = [list_tcp_sessions([Prefix.parse(text)]) for text in (scene.near.addresses[0], "10.9.0.0/16")]
    assert listed == [[session.opened], []]


@pytest.mark.parametrize("text", ["10.0.0.1/40000 198.51.100.7/443", "2001:db8::1/40000 2001:db8::2/443"], ids=IDS)
def test_an_entry_is_made_once_whichever_end_is_named_first(scene: Scene, text: str) -> None:
    session = tuple_of(text)
    with netns.inside(scene.near.netns):
        assert [track_established([entry], 77) for entry in (session, session, session.reverse)] == [1, 0, 0]
    (entry,) = scene.tracked()
    assert (entry.original, entry.reply, entry.state, entry.mark) == (session, session.reverse, "ESTABLISHED", 0)
    assert 70 < entry.seconds_left <= 77
