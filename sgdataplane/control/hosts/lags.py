"""How many hosts have come how far, and for how long the slowest one hasn't: what metrics say of all hosts together.

Owns since when a host hasn't settled what is in the store. Is given what hosts say. Must not know Prometheus.

A host never says since when it lags. So this remembers which version the store had at which time, as often as somebody
asks, and of each host the last of these that it has settled. While commits go on and a host follows them, its lag is at
most the time between two askings.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sgdataplane.control.hosts.status import HostBoard, HostStanding, HostWord, standing_of
from sgdataplane.store.documents import Documents
from sgdataplane.store.history import Version
from sgdataplane.store.hosts import hosts_in

MOST_VERSIONS = 60  # that are remembered with their times


@dataclass(frozen=True, slots=True)
class HostCounts:
    """Of hosts that were added and aren't revoked. `standings`: how many have each. `lag_s`: for how long the slowest
    one hasn't been known to enforce all that concerns it; 0 if all do. `relays`: that say something."""

    standings: Mapping[HostStanding, int] = field(default_factory=lambda: dict.fromkeys(HostStanding, 0))
    lag_s: float = 0.0
    relays: int = 0


class HostLags:
    """`documents`: asked for those of now. For one thread at a time. `clock`: in seconds, which only go on."""

    def __init__(
        self,
        documents: Callable[[], Documents],
        board: HostBoard,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._documents, self._board, self._clock = documents, board, clock
        self._versions: deque[tuple[float, Version]] = deque(maxlen=MOST_VERSIONS)
        self._settled: dict[str, float] = {}  # host -> the time of the last version that it has settled

    def look(self) -> HostCounts:
        """As it is now, by what the board has read."""
        documents, words, now, wall = self._documents(), self._board.known, self._clock(), self._board.now
        version = documents.version
        self._versions.append((now, version))
        hosts = [name for name, host in hosts_in(documents).items() if not host.is_revoked]
        standings = {name: standing_of(words.get(name), version, wall) for name in hosts}
        self._settled = {name: self._settled_at(name, standings[name], words.get(name), now) for name in hosts}
        counts = Counter(standings.values())
        lag = max((now - at for at in self._settled.values()), default=0.0)
        return HostCounts({one: counts[one] for one in HostStanding}, lag, self._board.relays())

    def _settled_at(self, name: str, standing: HostStanding, word: HostWord | None, now: float) -> float:
        """The time of the last remembered version that a host has settled. What it has of a later one, nobody knows
        while it is silent, and nothing is settled where something fails."""
        since = self._settled.get(name, now)
        if standing is HostStanding.ENFORCED:
            return now
        if standing is HostStanding.LAGGING and word is not None:
            later = (at for at, version in reversed(self._versions) if at > since and word.has_settled(version))
            return next(later, since)
        return since
