"""What a forced race must come to, and how the debugger talks to a machine; a thread plays the machine."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.vm.gdb import RAX, RDX, Debugger, LostError
from tests.vm.races import ENOUGH, Console, Places, Tally, verdicts

LOOKUP, KEY = 0xFFFFFFFFC05181F0, "0a000001"


def tally(*, may_miss: bool, harm: int, missed: int = ENOUGH, found: int = 0) -> Tally:
    end = {"may_miss": str(may_miss), "lost": str(harm), "leaked": "0"}
    return Tally(found, missed, 0, 30, end)


OLD = (tally(may_miss=True, harm=9), tally(may_miss=True, harm=0))
NEW = (tally(may_miss=False, harm=0), tally(may_miss=False, harm=0))


@pytest.mark.parametrize(
    ("tallies", "wrong"),
    [
        pytest.param(OLD, [], id="an-old-kernel-with-the-detour"),
        pytest.param(NEW, [], id="a-kernel-that-looks-again"),
        pytest.param((OLD[0], tally(may_miss=True, harm=1)), ["as-it-is-is-judged-right"], id="the-product-harms"),
        pytest.param((OLD[1], OLD[1]), ["in-place-is-judged-right"], id="the-control-harms-nobody"),
        pytest.param((NEW[0], tally(may_miss=False, harm=0, missed=3)), ["as-it-is-is-forced-20-times"], id="too-few"),
        pytest.param(OLD[:1], ["as-it-is-is-forced-20-times"], id="the-machine-was-gone"),
    ],
)
def test_old_kernels_must_harm_in_place_and_no_kernel_otherwise(tallies: tuple[Tally, ...], wrong: list[str]) -> None:
    found = [name for name, words in verdicts(tallies) if words]
    assert set(wrong) <= set(found)
    assert bool(found) is bool(wrong)


def test_a_console_tells_what_came_so_often(tmp_path: Path) -> None:
    path, over = tmp_path / "console", Event()
    console = Console(path, over)
    assert console.has("racing: begin ", 1) is None
    symbols = "nft_rhash_deactivate=a nft_rhash_lookup=b nft_rhash_activate=c"
    path.write_text(f"boot\r\nracing: begin {symbols} key={KEY}\r\nracing: begin {symbols} key=0b0000", "ascii")
    assert Places.of(console.wait("racing: begin ", 1)) == (0xA, 0xB, 0xC, bytes.fromhex(KEY))
    over.set()
    with pytest.raises(LostError):
        console.wait("racing: begin ", 2)  # its line hasn't ended


REGISTERS = struct.pack("<24Q", *range(100, 124)).hex().encode()
ANSWERS = {
    b"qSupported:vContSupported+": b"PacketSize=1000",
    b"?": b"T05thread:01;",
    b"Z0,%x,1" % LOOKUP: b"OK",
    b"z0,%x,1" % LOOKUP: b"OK",
    b"vCont;c": b"T05thread:02;",
    b"vCont;c:1": b"T05thread:p01.01;",
    b"vCont;s:2": b"T05thread:02;",
    b"Hg2": b"OK",
    b"g": REGISTERS,
    b"m10,4": KEY.encode(),
    b"m20,4": b"E14",
}


def play(listener: socket.socket, asked: list[bytes]) -> None:
    connection, _ = listener.accept()
    data = b""
    with connection:
        while more := connection.recv(4096):
            data += more
            while (end := data.find(b"#")) >= 0 and len(data) >= end + 3:
                command, data = data[data.index(b"$") + 1 : end], data[end + 3 :]
                asked.append(command)
                if command in ANSWERS:
                    answer = ANSWERS[command]
                    connection.sendall(b"+$%s#%02x" % (answer, sum(answer) & 0xFF))


def test_a_debugger_says_which_processor_goes_on_and_which_has_stopped(tmp_path: Path) -> None:
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "stub"))
        listener.listen()
        thread = Thread(target=play, args=(listener, asked))
        thread.start()
        with Debugger(tmp_path / "stub", 10.0) as debugger:
            with debugger.stopping_at(LOOKUP):
                assert (debugger.go(), debugger.go(1)) == (2, 1)
            debugger.step(2, 3)
            assert [debugger.register(2, number) for number in (RAX, RDX)] == [100, 103]
            assert [debugger.memory(2, address, 4) for address in (0x10, 0x20)] == [bytes.fromhex(KEY), b""]
        thread.join()
    assert asked.count(b"vCont;s:2") == 3
    assert asked[-1] == b"D"
