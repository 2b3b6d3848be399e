"""`sgdp top` in real terminals of two sizes, while sessions are opened: all its tables fit, and q ends it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.probes.flood import ROOT, wait_until
from tests.support.scenes.attachbench import WEB
from tests.support.scenes.historyscene import HistoryScene, history_at

pytestmark = [pytest.mark.daemon, pytest.mark.placement("instance")]
HOME, CONTROL = "\x1b[H", re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
END_S = 30


class Terminal:
    """A terminal in which a program runs, as somebody sees it."""

    def __init__(self, end: int) -> None:
        self._end, self._said = end, ""
        self.process: subprocess.Popen[bytes]

    @property
    def screens(self) -> list[list[str]]:
        """What has been drawn so far, each time from the top; the last one may be incomplete."""
        while select.select([self._end], [], [], 0)[0]:
            try:
                self._said += os.read(self._end, 1 << 16).decode()
            except OSError:  # nobody is at the other end any more
                break
        return [CONTROL.sub("", drawn).replace("\r", "").splitlines() for drawn in self._said.split(HOME)[1:]]

    def press(self, key: str) -> None:
        os.write(self._end, key.encode())

    @property
    def attributes(self) -> list[object]:
        return list(termios.tcgetattr(self._end))


@contextmanager
def terminal_with(command: list[str], columns: int, lines: int) -> Iterator[Terminal]:
    end, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
    shown = Terminal(end)
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    streams = {"stdin": inner, "stdout": inner, "stderr": inner}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **streams) as shown.process:  # type: ignore[call-overload]
        try:
            yield shown
        finally:
            shown.process.kill()
    os.close(inner)
    os.close(end)


@pytest.fixture
def kept(
    make_lab_name: Callable[[], str], tmp_path: Path, placement: str, capsys: pytest.CaptureFixture[str]
) -> Iterator[HistoryScene]:
    with history_at(placement, make_lab_name, tmp_path, lambda: capsys.readouterr().out) as kept:
        yield kept


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50)])
def test_its_tables_fit_and_q_ends_it(kept: HistoryScene, columns: int, lines: int) -> None:
    config = str(kept.scene.agent.config)
    command = [sys.executable, "-m", "sgdataplane", "top", "--config", config, "--interval", "0.5"]
    with terminal_with(command, columns, lines) as shown:
        before = shown.attributes

        def has_rates() -> bool:
            kept.scene.visit(WEB, 2)
            return with_rates(shown) != []

        wait_until(has_rates)
        for drawn in shown.screens[:-1]:
            assert len(drawn) < lines
            assert max(map(len, drawn)) <= columns
        last = with_rates(shown)[-1]
        print("\n".join(last))
        tables = ("ENI ", "RULE ", "OTHER END ")
        assert [table for line in last for table in tables if line.startswith(table)] == [*tables]
        assert shown.attributes != before, "keys come at once"
        shown.press("x")
        shown.press("q")
        assert shown.process.wait(END_S) == 0
        assert shown.attributes == before


def with_rates(shown: Terminal) -> list[list[str]]:
    """The screens so far that have the rule's row."""
    return [drawn for drawn in shown.screens[:-1] if any(f"sgr-{WEB}" in line for line in drawn)]
