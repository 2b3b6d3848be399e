"""What a log line looks like, and what systemd hears."""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgdataplane.daemon.logs import LOGGER, Notifier, _ToJournal, _ToStderr, event, leads_to_journal, spell


def test_an_event_is_a_word_and_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sgdataplane"):
        event(logging.INFO, "applied", eni="eni-a", at="eth0 of pid 7", s=0.01234, epoch=None, error="two\nlines")
    assert caplog.messages == ['applied eni=eni-a at="eth0 of pid 7" s=0.012 epoch=None error="two\\nlines"']


@pytest.mark.parametrize(("value", "text"), [("", '""'), ('a"b', '"a\\"b"'), ("a=b", '"a=b"'), ("ü", "ü"), (7, "7")])
def test_values_are_quoted_where_they_would_mislead(value: object, text: str) -> None:
    assert spell(value) == text


def failed() -> logging.LogRecord:
    """A warning with a traceback."""
    record = logging.LogRecord("sgdataplane.agent", logging.WARNING, "", 0, "drift", (), None)
    try:
        raise ValueError("why")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    return record


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """What journald would hear."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(tmp_path / "journal"))
        door.setblocking(False)
        yield door


@pytest.fixture
def to_journal(journal: socket.socket) -> Iterator[_ToJournal]:
    """The agent's lines go there alone."""
    handler, before = _ToJournal(journal.getsockname()), LOGGER.handlers[:]
    LOGGER.handlers[:], LOGGER.propagate = [handler], False
    LOGGER.setLevel(logging.INFO)
    yield handler
    LOGGER.handlers[:], LOGGER.propagate = before, True
    handler.close()


def test_a_line_on_stderr_begins_with_its_time_and_a_word_for_the_level() -> None:
    record = failed()
    record.created = 1795835361.25
    line = _ToStderr().format(record)
    assert line.startswith("2026-11-28T03:09:21.250Z warning drift traceback=")
    assert "ValueError: why" in line
    assert "\n" not in line


@pytest.mark.usefixtures("to_journal")
def test_journald_gets_the_line_and_its_fields(journal: socket.socket) -> None:
    event(logging.WARNING, "eni", eni="eni-a", at="eth0 of pid 7", s=0.01234, epoch=None)
    (entry,) = heard(journal)
    assert entry.splitlines() == [
        'MESSAGE=eni eni=eni-a at="eth0 of pid 7" s=0.012 epoch=None',
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=sgdp",
        "SGDP_EVENT=eni",
        "SGDP_ENI=eni-a",
        "SGDP_AT=eth0 of pid 7",
        "SGDP_S=0.012",
    ]


@pytest.mark.usefixtures("to_journal")
def test_a_name_of_others_cannot_add_a_field_or_an_entry(journal: socket.socket) -> None:
    event(logging.ERROR, "drift", by="nft\nPRIORITY=7\n\nMESSAGE=all is well\x1b[2J", changes="\u2028\udcff")
    (entry,) = heard(journal)
    keys = [line.partition("=")[0] for line in entry.removesuffix("\n").split("\n")]
    assert keys == ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "SGDP_EVENT", "SGDP_BY", "SGDP_CHANGES"]
    assert "SGDP_BY=nft\\nPRIORITY=7\\n\\nMESSAGE=all is well\\x1b[2J\n" in entry
    assert entry.endswith("SGDP_CHANGES=\\u2028\\xff\n")


@pytest.mark.parametrize("is_gone", [True, False], ids=["no-journald", "too-long"])
def test_what_the_socket_does_not_take_goes_to_stderr(
    is_gone: bool, journal: socket.socket, to_journal: _ToJournal
) -> None:
    stderr = io.StringIO()
    to_journal.setStream(stderr)
    if is_gone:
        journal.close()
    event(logging.ERROR, "state-refused", error="x" * (1 if is_gone else 1 << 20))
    assert stderr.getvalue().startswith("<3>state-refused error=x")


@pytest.mark.parametrize("is_journal", [True, False], ids=["journald", "a-file"])
def test_the_agent_writes_times_unless_journald_has_them(is_journal: bool, tmp_path: Path) -> None:
    """A real process, whose stderr is a file. Nobody listens at the journal's socket, so what would go there is in the
    file, too."""
    log = tmp_path / "log"
    with log.open("w") as file:
        found = os.fstat(file.fileno())
        stream = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"} if is_journal else {}
        code = (
            "from sgdataplane.daemon import logs\n"
            f"logs._ToJournal.__init__.__defaults__ = ({str(tmp_path / 'nobody')!r},)\n"
            "logs.set_up('info'); logs.event(30, 'drift', eni='eni-a')"
        )
        subprocess.run([sys.executable, "-c", code], check=True, stderr=file, env={**os.environ, **stream})
    expected = r"<4>drift eni=eni-a" if is_journal else r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z warning drift eni=eni-a"
    assert re.fullmatch(expected, log.read_text().strip())


def test_the_journal_is_known_by_the_descriptor_and_not_by_the_variable_alone(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        found = os.fstat(file.fileno())
        stream = f"{found.st_dev}:{found.st_ino}"
        assert leads_to_journal({"JOURNAL_STREAM": stream}, file.fileno())
        assert not leads_to_journal({"JOURNAL_STREAM": "8:9"}, file.fileno())
        assert not leads_to_journal({}, file.fileno())


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
