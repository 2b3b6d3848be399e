"""For how long a command has been working, on a terminal; real ones, in processes of their own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

CLEAR = b"\r\x1b[K"
# A body runs where `line` is the line, which the timer draws; it waits for signals, never for time.
PROGRAM = """
import signal, sys
from sgdataplane.terminal.output import guard_output, say
from sgdataplane.terminal.progress import Progress, working
with guard_output(), working("x\\x1b[2J", quiet=0.01) as line:
    while line is not None and not line.is_drawn:
        signal.pause()
    {body}
"""


def shown(body: str) -> tuple[bytes, bytes]:
    """What a terminal at stderr gets, and what a pipe at stdout gets."""
    end, terminal = pty.openpty()
    command = [sys.executable, "-c", PROGRAM.format(body=body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        said = b""
        with suppress(OSError):  # EIO: nobody is at the other end any more
            while got := os.read(end, 1 << 16):
                said += got
        printed, _ = process.communicate()
    os.close(end)
    assert process.returncode == 0, said
    return said, printed


def test_the_line_is_cleared_at_the_end() -> None:
    said, printed = shown("pass")
    assert said == CLEAR + b"x\\x1b[2J: 0 s" + CLEAR
    assert printed == b""


@pytest.mark.parametrize(
    "body", ["say('done')", "print('done', file=sys.stderr)", "Progress('probing', 1).__enter__()._write('done')"]
)
def test_it_makes_room_for_whatever_else_is_shown(body: str) -> None:
    said, printed = shown(body)
    assert said.startswith(CLEAR + b"x\\x1b[2J: 0 s" + CLEAR)
    assert said.count(CLEAR) == 2, "it isn't drawn again"
    assert b"done" in said + printed


def test_where_there_is_no_terminal_nothing_is_drawn() -> None:
    text = "from sgdataplane.terminal.progress import working; assert working('x').__enter__() is None"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
