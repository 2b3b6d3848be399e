"""Sessions that ran before conntrack was at work, told to it from the sockets of the calling thread's namespace.

Owns the order of the steps. Is given prefixes. Must not know policy.
"""

from __future__ import annotations

from collections.abc import Collection

from sgdataplane.host import sysctl
from sgdataplane.host.conntrack import track_established
from sgdataplane.host.sockets import list_tcp_sessions
from sgdataplane.host.timeouts import FOLDER
from sgdataplane.net.values import Prefix

MAX_PASSES = 3


def seed_sessions(own: Collection[Prefix]) -> int:
    """Have conntrack know the running TCP sessions of these addresses, as the end that opened each would have made it
    known; how many it did not know.

    Looks again for those that began meanwhile: 10,000 take 0.4 s. Errors as in list_tcp_sessions and track_established.
    """
    seconds = sysctl.read_number(f"{FOLDER}/nf_conntrack_tcp_timeout_established")
    made, known = 0, set()
    for _ in range(MAX_PASSES):
        new = [session for session in list_tcp_sessions(own) if session not in known]
        if not new:
            break
        made += track_established(new, seconds)
        known.update(new)
    return made
