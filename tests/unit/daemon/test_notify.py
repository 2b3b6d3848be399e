from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from sgdataplane.daemon.notify import Notifier


class Time:
    now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def systemd(tmp_path: Path) -> socket.socket:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    door.bind(str(tmp_path / "notify"))
    door.setblocking(False)
    return door


def heard(door: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(door.recv(4096).decode())
        except BlockingIOError:
            return found


def test_systemd_is_told(systemd: socket.socket) -> None:
    with systemd:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
        notifier.tell("READY=1", "STATUS=fine")
        notifier.tell("RELOADING=1")
        notifier.beat()  # it asked for no watchdog
        ready, reloading = heard(systemd)
        assert ready == "READY=1\nSTATUS=fine"
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
        assert notifier.wait_s is None


def test_an_abstract_address_will_do(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(f"\0{tmp_path}")
        Notifier({"NOTIFY_SOCKET": f"@{tmp_path}"}).tell("READY=1")
        assert door.recv(100) == b"READY=1"


def test_the_watchdog_hears_from_it_twice_in_its_time(systemd: socket.socket) -> None:
    clock = Time()
    with systemd:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "4000000"}, clock)
        notifier.beat()
        notifier.beat()
        assert heard(systemd) == ["WATCHDOG=1"]
        assert notifier.wait_s == 2.0
        clock.now += 2.0
        notifier.beat()
        assert heard(systemd) == ["WATCHDOG=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/no/where"}, {"WATCHDOG_USEC": "x"}])
def test_nobody_who_listens_is_no_error(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    notifier.beat()
    notifier.tell("READY=1")
    assert notifier.wait_s is None
