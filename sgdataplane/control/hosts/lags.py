"""How many hosts have come how far, and for how long the slowest one hasn't, for metrics of all hosts together.

Owns since when a host hasn't settled what is in the store. Its input is what hosts report. Must not know Prometheus.

A host never says since when it lags. So this remembers which version the store had at which time, as often as it is
asked, and the last of these that each host has settled. While commits go on and a host follows them, its lag is at most
the time between two askings.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sgdataplane.control.hosts.status import HostBoard, HostStanding, HostStatus, standing_of
from sgdataplane.store.documents import Documents
from sgdataplane.store.history import Version
from sgdataplane.store.hosts import hosts_in

MAX_VERSIONS = 60  # that are remembered with their times


@dataclass(frozen=True, slots=True)
class HostCounts:
    """The counts of hosts that were added and aren't revoked."""

    standings: Mapping[HostStanding, int] = field(default_factory=lambda: dict.fromkeys(HostStanding, 0))
    """How many hosts have each standing."""
    lag_s: float = 0.0
    """For how many seconds the slowest host hasn't been known to enforce all that concerns it; 0 if all do."""
    relays: int = 0
    """How many relays report."""


class HostLags:
    """The lags of all hosts. One thread at a time may use it.

    `documents` returns the current ones, and `clock` seconds that never go back.
    """

    def __init__(
        self,
        documents: Callable[[], Documents],
        board: HostBoard,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._documents, self._board, self._clock = documents, board, clock
        self._versions: deque[tuple[float, Version]] = deque(maxlen=MAX_VERSIONS)
        self._settled: dict[str, float] = {}  # host -> the time of the last version that it has settled

    def look(self) -> HostCounts:
        """Return the counts of now, by what the board has read."""
        documents, words, now, wall = self._documents(), self._board.known, self._clock(), self._board.now
        version = documents.version
        self._versions.append((now, version))
        hosts = [name for name, host in hosts_in(documents).items() if not host.is_revoked]
        standings = {name: standing_of(words.get(name), version, wall) for name in hosts}
        self._settled = {name: self._find_settled_at(name, standings[name], words.get(name), now) for name in hosts}
        counts = Counter(standings.values())
        lag = max((now - at for at in self._settled.values()), default=0.0)
        return HostCounts({one: counts[one] for one in HostStanding}, lag, self._board.relays())

    def _find_settled_at(self, name: str, standing: HostStanding, word: HostStatus | None, now: float) -> float:
        """Return the time of the last remembered version that a host has settled.

        While a host is silent, nobody knows whether it has settled a later one; and nothing is settled where something
        fails.
        """
        since = self._settled.get(name, now)
        if standing is HostStanding.ENFORCED:
            return now
        if standing is HostStanding.LAGGING and word is not None:
            later = (at for at, version in reversed(self._versions) if at > since and word.has_settled(version))
            return next(later, since)
        return since
