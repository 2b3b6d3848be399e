"""Live sessions in lines that close: the sessions that a change would end.

Owns that comparison. Is given sessions and lines. Must not know how either is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sgdataplane.net.values import Direction
from sgdataplane.observe.sessions import Session
from sgdataplane.policy.dimensions import DIMENSIONS, LOCAL, PORT, PROTOCOL, REMOTE, SOURCE_PORT
from sgdataplane.trial.lines import TrialLine

OVER = ("TIME_WAIT", "CLOSE")  # states of sessions that have ended, and that conntrack still keeps


def find_ending(sessions: Iterable[Session], lines: Iterable[TrialLine]) -> Iterator[tuple[Session, TrialLine]]:
    """Yield the sessions that the policy in force has accepted and that a line would end, each with the line."""
    by_place: dict[object, list[TrialLine]] = {}
    for line in lines:
        if not line.change.is_opening:
            by_place.setdefault(line.place, []).append(line)
    for session in sessions:
        place = session.eni_id, session.direction, session.family
        found = next((line for line in by_place.get(place, ()) if _has(line, session)), None)
        if found is not None and session.is_judged and session.state not in OVER:
            yield session, found


def _has(line: TrialLine, session: Session) -> bool:
    """Return whether the session's opening packet is in the line.

    A protocol without ports is in all ranges of ports.
    """
    is_in = session.direction is Direction.INGRESS
    near, far = session.local_port, session.remote_port
    numbers = {
        REMOTE: session.remote.value,
        LOCAL: session.local.value,
        PROTOCOL: session.protocol,
        PORT: near if is_in else far,
        SOURCE_PORT: far if is_in else near,
    }
    pairs = zip(DIMENSIONS, line.ranges, strict=True)
    return all(
        numbers[each] is None or any(first <= numbers[each] <= last for first, last in ranges)  # type: ignore[operator]
        for each, ranges in pairs
    )
