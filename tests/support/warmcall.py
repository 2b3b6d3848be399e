"""The end of tests/support/warm.py at which `sgdp` is called: `python -I -S warmcall.py SOCKET ARGUMENT...`.

Owns what a call hands over: arguments, environment, files, folder, namespaces and signals. Must not import what takes
long, since all of it is paid for at each call.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` itself imports much
import _socket
import os
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


def call(connection: _socket.socket, words: list[str], files: list[int]) -> None:
    """`files`: input, output, errors, and places."""
    body = request(words)
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


def main() -> None:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(sys.argv[1])
    call(connection, sys.argv[2:], [0, 1, 2, *open_places(".")])
    for number in FORWARDED:
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            _signal.signal(number, lambda number, _: connection.send(bytes([number])))
    answer = b""  # its number, and then how it ended
    while part := connection.recv(2 * STATUS_BYTES - len(answer)):
        answer += part
    if len(answer) != 2 * STATUS_BYTES:
        sys.exit("the process that runs programs is gone")
    end_alike(int.from_bytes(answer[STATUS_BYTES:], "little", signed=True))


if __name__ == "__main__":
    main()
