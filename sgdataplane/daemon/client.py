"""Asking the running agent.

Owns the client's end of the control socket. Is given its path. Must not know what answers mean.
"""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path

from sgdataplane.daemon.protocol import MAX_ANSWER_BYTES, ProtocolError, Request, parse_answer, spell_request
from sgdataplane.errors import HostError

ANSWER_S = 30.0  # an agent in the middle of a cycle answers after it

TIMEVAL = struct.Struct("@ll")


def ask(path: Path, request: Request, seconds: float = ANSWER_S, *, eni: str = "") -> dict[str, object]:
    """What it answers; `eni`: of this one alone, where that can be asked. HostError if there is no agent, or it
    refuses, or takes too long."""
    deadline = time.monotonic() + seconds
    data = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, TIMEVAL.pack(int(seconds), 0))
            door.connect(str(path))  # waits where the queue is full, as it would not with settimeout()
            door.settimeout(seconds)
            door.sendall(spell_request(request, eni))
            while not data.endswith(b"\n") and len(data) <= MAX_ANSWER_BYTES:
                door.settimeout(max(0.001, deadline - time.monotonic()))
                part = door.recv(1 << 20)
                if not part:
                    break
                data += part
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise HostError(str(path), "no agent is running there; `sgdp agent` is one") from error
    except (TimeoutError, BlockingIOError) as error:
        raise HostError(str(path), f"the agent gave no answer in {seconds:g} s") from error
    except OSError as error:
        raise HostError(str(path), error.strerror or str(error)) from error
    try:
        return parse_answer(data)
    except ProtocolError as error:
        raise HostError(str(path), str(error)) from error
