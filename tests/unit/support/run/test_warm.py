"""`sgdp` that forks from a process with everything imported is as a new process: its code, files, signals, folder, and
nothing is left of the call before."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents.samples import EXAMPLES, ROOT
from tests.support.probes.flood import wait_until
from tests.support.run.waiting import is_so_within
from tests.support.run.warm import DAEMONS, warm_program
from tests.support.run.warmprocess import start_program, warm_programs

ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8"}
COLD = [sys.executable, "-m", "sgdataplane"]
ASKED = ("explain", "shop.yaml", "web1", "db1", "tcp/5432")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("warm")
    shutil.copytree(EXAMPLES, made / "examples")
    return made


@pytest.fixture(scope="module")
def sgdp(folder: Path) -> Iterator[list[str]]:
    with warm_program(folder, ENVIRONMENT) as script:
        yield ["sh", "-c", script, "sgdp"]


def run(program: list[str], folder: Path, *words: str, **more: str) -> tuple[int, bytes, bytes]:
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)} | more
    at = folder / "examples"
    done = subprocess.run([*program, *words], cwd=at, env=environment, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "words", [ASKED, ("explain",), ("no-such-verb",), ("check", "no such file"), ("check", "\udcff"), ()], ids=ascii
)
def test_it_does_what_a_new_interpreter_does(words: tuple[str, ...], sgdp: list[str], folder: Path) -> None:
    assert run(sgdp, folder, *words) == run(COLD, folder, *words)


def test_its_environment_is_its_callers(sgdp: list[str], folder: Path) -> None:
    narrow = run(sgdp, folder, "check", "shop.yaml", COLUMNS="60")
    assert narrow == run(COLD, folder, "check", "shop.yaml", COLUMNS="60")
    assert narrow != run(sgdp, folder, "check", "shop.yaml", COLUMNS="100")


def test_it_reads_its_callers_input(sgdp: list[str], folder: Path) -> None:
    state = (EXAMPLES / "shop.yaml").read_bytes()
    done = subprocess.run(
        [*sgdp, "export", "-", "--to", "native"], cwd=folder, input=state, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == run(COLD, folder, "export", "shop.yaml", "--to", "native")[1]


def test_a_pipe_ends_with_it(sgdp: list[str], folder: Path) -> None:
    with subprocess.Popen([*sgdp, *ASKED], cwd=folder / "examples", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read().startswith(b"The flow passes")
        assert process.wait() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_signal_reaches_it(number: signal.Signals, code: int, sgdp: list[str], folder: Path) -> None:
    """It reads a state from its input, which doesn't end.

    Python looks for signals only where a read is interrupted, not between two reads of one call. A signal that comes in
    that moment waits for the next one, in every interpreter.
    """
    reader, writer = os.pipe()
    with subprocess.Popen([*sgdp, "check", "-"], cwd=folder, stdin=reader, stderr=subprocess.DEVNULL) as process:

        def is_ended() -> bool:
            process.send_signal(number)
            return is_so_within(1.0, lambda: process.poll() is not None)

        try:
            os.write(writer, b" ")
            wait_until(lambda: b"warmcall" in Path(f"/proc/{process.pid}/cmdline").read_bytes() and not unread(reader))
            wait_until(is_ended)
        finally:
            process.kill()
    assert process.returncode == code
    os.close(reader)
    os.close(writer)


def unread(reader: int) -> int:
    """Bytes in a pipe."""
    return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("verb", DAEMONS)
def test_what_goes_on_is_a_process_of_its_own(verb: str, sgdp: list[str], folder: Path) -> None:
    assert b"warmcall" not in sgdp[2].encode().split(b";;")[0]
    assert run(sgdp, folder, verb, "--help") == run(COLD, folder, verb, "--help")


def test_it_ends_with_its_test(tmp_path: Path) -> None:
    with warm_program(tmp_path, ENVIRONMENT) as script:
        pass
    done = subprocess.run(["sh", "-c", script, "sgdp", "--version"], capture_output=True, check=False)
    assert done.returncode != 0


def test_one_that_ends_before_anybody_has_looked_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_process = os.pidfd_open

    def open_late(pid: int) -> int:
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        return open_process(pid)

    with warm_programs(tmp_path):
        monkeypatch.setattr(os, "pidfd_open", open_late)
        with start_program("no-such-verb") as program:
            program.kill()
            assert program.stderr is not None
            assert "no-such-verb" in program.stderr.read()
            assert program.wait(30) == 2
