"""Which sockets of netfilter are used again, and when they are closed."""

from __future__ import annotations

import socket
import sys
import threading

import pytest

from sgdataplane.host import netns, nfsocket
from sgdataplane.host.netlink import open_netlink
from sgdataplane.host.nfnetlink import Nfnetlink, message_kind
from sgdataplane.nft.uapi import GETCHAIN, SUBSYSTEM
from tests.support.probes.flood import wait_until

pytestmark = pytest.mark.kernel

SO_COOKIE = 57


def cookie_of(door: Nfnetlink) -> int:
    """Names a socket for good."""
    return int.from_bytes(door._socket.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)


@pytest.fixture(autouse=True)
def _none_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfsocket, "_KEEPER", nfsocket._Keeper())


def used_in(namespace: str) -> int:
    with netns.inside(namespace), Nfnetlink() as door:
        return cookie_of(door)


def test_who_comes_next_gets_the_same_socket(namespace: str) -> None:
    assert used_in(namespace) == used_in(namespace)


def test_two_at_once_have_one_each_and_both_are_kept(namespace: str) -> None:
    def both() -> set[int]:
        with netns.inside(namespace), Nfnetlink() as one, Nfnetlink() as other:
            return {cookie_of(one), cookie_of(other)}

    first = both()
    assert len(first) == 2
    assert both() == first


def test_another_namespace_gets_another_socket(namespace: str) -> None:
    netns.create("elsewhere")
    try:
        assert used_in(namespace) != used_in("elsewhere")
        with netns.inside("elsewhere"), Nfnetlink() as door:
            assert door._held.namespace == netns.inode_of("elsewhere")
    finally:
        netns.remove("elsewhere")


def test_what_failed_is_not_kept(namespace: str) -> None:
    with netns.inside(namespace):
        door = Nfnetlink()
    failed = cookie_of(door)
    with pytest.raises(OSError, match="Invalid"), door:
        door.ask(message_kind(SUBSYSTEM, GETCHAIN))  # without a name
    assert used_in(namespace) != failed


def test_what_was_closed_is_not_kept(namespace: str) -> None:
    with netns.inside(namespace):
        door = Nfnetlink()
        closed = cookie_of(door)
        door.close()
    assert used_in(namespace) != closed


def test_a_socket_that_somebody_wrote_to_is_not_used_again(namespace: str) -> None:
    with netns.inside(namespace):
        with Nfnetlink() as door:
            kept, number = cookie_of(door), door._socket.getsockname()[0]
        with open_netlink(nfsocket.NETLINK_NETFILTER) as stranger:
            stranger.sendto(bytes(16), (number, 0))
    assert used_in(namespace) != kept


def test_they_are_closed_once_nobody_needs_one(namespace: str) -> None:
    """So a namespace ends that nothing else keeps."""
    with netns.inside(namespace), Nfnetlink() as door:
        kept = door._socket
    assert kept.fileno() != -1
    wait_until(lambda: kept.fileno() == -1)


def test_no_more_than_so_many_are_kept(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfsocket, "MAX_KEPT", 2)
    monkeypatch.setattr(nfsocket, "KEPT_S", 1000.0)
    with netns.inside(namespace):
        made = [Nfnetlink() for _ in range(4)]
        for door in made:
            door.keep()
        wait_until(lambda: [door._socket.fileno() == -1 for door in made] == [True, True, False, False])


def test_without_memory_for_a_thread_nothing_is_kept(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    nfsocket.call_aside(lambda: None)  # its pool has a thread
    with netns.inside(namespace):
        door = Nfnetlink()
    kept = door._socket
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        door.keep()
    wait_until(lambda: kept.fileno() == -1)
