"""What a log line looks like, and what systemd hears."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path

import pytest

from sgdataplane.daemon.logs import Notifier, _Formatter, event, spelt


def test_an_event_is_a_word_and_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sgdataplane"):
        event(logging.INFO, "applied", eni="eni-a", at="eth0 of pid 7", s=0.01234, epoch=None, error="two\nlines")
    assert caplog.messages == ['applied eni=eni-a at="eth0 of pid 7" s=0.012 epoch=None error="two\\nlines"']


@pytest.mark.parametrize(("value", "text"), [("", '""'), ('a"b', '"a\\"b"'), ("a=b", '"a=b"'), ("ü", "ü"), (7, "7")])
def test_values_are_quoted_where_they_would_mislead(value: object, text: str) -> None:
    assert spelt(value) == text


def test_journald_gets_the_level_as_it_wants_it() -> None:
    record = logging.LogRecord("sgdataplane.agent", logging.WARNING, "", 0, "drift", (), None)
    assert _Formatter({}).format(record) == "warning drift"
    assert _Formatter({"JOURNAL_STREAM": "8:9"}).format(record) == "<4>drift"
    try:
        raise ValueError("why")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    line = _Formatter({}).format(record)
    assert "ValueError: why" in line
    assert "\n" not in line


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
