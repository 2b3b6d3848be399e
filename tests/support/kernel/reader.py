"""A BPF program that takes some milliseconds, all of them under RCU's read lock, as packets are on their way.

Owns bpf(2) as far as it takes. Runs on the last processor, so that who waits for it can run on others.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import time
from types import TracebackType
from typing import Self

SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_LOAD, PROG_TEST_RUN = 5, 10  # linux/bpf.h
SOCKET_FILTER, KTIME_GET_NS = 1, 5
STEPS = 150_000  # the verifier follows a million instructions at most; a loop has three
RETURNED = struct.Struct("=4xI28xI")  # of an answer: what the program returned, and the time it took in ns
MOVE, CALL, SUBTRACT, JUMP_UNLESS, EXIT = 0xB7, 0x85, 0x17, 0x55, 0x95

Span = tuple[int, int]  # ns of time.perf_counter_ns


def _instruction(code: int, register: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, register, offset, value)


PROGRAM = b"".join(
    (
        _instruction(MOVE, 6, value=STEPS),
        _instruction(CALL, value=KTIME_GET_NS),
        _instruction(SUBTRACT, 6, value=1),
        _instruction(JUMP_UNLESS, 6, offset=-3, value=0),
        _instruction(EXIT),  # with the last time as its answer, cut to 32 bits
    )
)
_libc = ctypes.CDLL(None, use_errno=True)


class Reader:
    """The loaded program."""

    def __enter__(self) -> Self:
        code, licence = ctypes.create_string_buffer(PROGRAM, len(PROGRAM)), ctypes.create_string_buffer(b"GPL")
        where = (ctypes.addressof(code), ctypes.addressof(licence))
        asked = struct.pack("=IIQQ", SOCKET_FILTER, len(PROGRAM) // 8, *where)
        self._program = _bpf(PROG_LOAD, asked)[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._program)

    def run(self, times: int) -> list[Span]:
        """When each run began and ended. The calling thread stays on the last processor."""
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        return [self._run_once() for _ in range(times)]

    def _run_once(self) -> Span:
        """By the kernel's clock: on a busy machine it is long after its end that the caller goes on."""
        packet = ctypes.create_string_buffer(64)
        before = time.perf_counter_ns()  # the same clock
        asked = struct.pack("=IIIIQQII", self._program, 0, len(packet), 0, ctypes.addressof(packet), 0, 1, 0)
        answer = _bpf(PROG_TEST_RUN, asked)[1]
        low, took = RETURNED.unpack_from(answer)
        end = before + (low - before) % (1 << 32)
        return end - took, end


def _bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """What the call gave, and the attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes, 128)
    found = int(_libc.syscall(SYS_BPF, command, buffer, len(buffer)))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found, buffer.raw
