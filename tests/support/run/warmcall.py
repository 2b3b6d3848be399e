"""The end of tests/support/run/warm.py at which `sgdp` is called: `python -I -S warmcall.py SOCKET ARGUMENT...`.

Owns what a call hands over: arguments, environment, files, folder, namespaces and signals. Must not import what takes
long, since all of it is paid for at each call.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself imports much
import _socket
import os
import select
import sys

FORWARDED = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2)
NAMESPACES = ("mnt", "net")
STATUS_BYTES = 4


def pack(words: list[bytes]) -> bytes:
    """Words that contain no zero, with their length in front."""
    body = b"\0".join(words)
    return len(body).to_bytes(STATUS_BYTES, "little") + body


def request(words: list[str]) -> bytes:
    """Whether SIGINT is ignored, how many arguments there are, the arguments, and the environment."""
    arguments = [os.fsencode(word) for word in words]
    ignored = _signal.getsignal(_signal.SIGINT) is _signal.SIG_IGN
    variables = [name + b"=" + value for name, value in os.environb.items()]
    return pack([b"%d" % ignored, b"%d" % len(arguments), *arguments, *variables])


def open_places(folder: str) -> list[int]:
    """Where the program runs: its folder and its namespaces."""
    return [os.open(folder, os.O_PATH), *(os.open(f"/proc/thread-self/ns/{each}", os.O_RDONLY) for each in NAMESPACES)]


def call(connection: _socket.socket, body: bytes, files: list[int]) -> None:
    """`body`: a request. `files`: input, output, errors, and places."""
    packed = b"".join(number.to_bytes(4, sys.byteorder) for number in files)
    connection.sendmsg([body[:1]], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])
    rest = memoryview(body)[1:]
    while rest:
        rest = rest[connection.send(rest) :]


def end_alike(status: int) -> None:
    """End as the program did, by the same signal or with the same code."""
    if status < 0:
        _signal.signal(-status, _signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def note_signals() -> int:
    """From now on, the number of each signal that is to be forwarded can be read here, also of one that comes just
    before somebody waits."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in FORWARDED:
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, lambda *_: None)
    return reader


def main() -> None:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(sys.argv[1])
    body = request(sys.argv[2:])
    signals = note_signals()
    call(connection, body, [0, 1, 2, *open_places(".")])
    answer = b""  # its number, and then how it ended
    talk = connection.fileno()
    while len(answer) < 2 * STATUS_BYTES:
        ready, _, _ = select.select([signals, talk], [], [])
        if signals in ready:
            connection.send(os.read(signals, 64))
        if talk in ready:
            part = connection.recv(2 * STATUS_BYTES - len(answer))
            if not part:
                sys.exit("the process that runs programs is gone")
            answer += part
    end_alike(int.from_bytes(answer[STATUS_BYTES:], "little", signed=True))


if __name__ == "__main__":
    main()
