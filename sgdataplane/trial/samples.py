"""Samples of a line's packets: the ends that they came from or went to, and their times.

Owns what is kept of them, and how they are read. Is given counters' names. Must not know lines.

Only counts by the kernel are exact. At most `SAMPLES_A_SECOND` packets of a line are logged in a second; and root in
a namespace can log in the name of a line. So a sample never says how many packets there were, and what is kept of each
line is bounded. The first packet of each second is always among the samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from sgdataplane.contract.counters import TRIAL_GROUP
from sgdataplane.contract.names import find_logged_counter
from sgdataplane.contract.sites import ARRIVING, Site
from sgdataplane.host import netns
from sgdataplane.host.nflog import Logged, Nflog
from sgdataplane.net.values import Address, Direction
from sgdataplane.observe.headers import parse_headers

MAX_ENDS = 64  # of each line: the least frequent ones make room (Misra and Gries 1982)
SHOWN = 5
PREROUTING = 0  # NF_INET_PRE_ROUTING


@dataclass(slots=True)
class LineSamples:
    """The samples of one line."""

    first: float
    """Seconds since 1970."""
    last: float
    """Seconds since 1970."""
    ends: dict[str, int] = field(default_factory=dict)
    """How many samples each address has; those that came least are missing."""

    def note(self, end: str, at: float) -> None:
        """Add a sample with that other end."""
        self.first, self.last = min(self.first, at), max(self.last, at)
        if end in self.ends or len(self.ends) < MAX_ENDS:
            self.ends[end] = self.ends.get(end, 0) + 1
        else:
            self.ends = {known: count - 1 for known, count in self.ends.items() if count > 1}

    @property
    def most(self) -> tuple[str, ...]:
        """The ends that came most often, the most frequent first."""
        return tuple(sorted(self.ends, key=lambda end: (-self.ends[end], end))[:SHOWN])

    def as_json(self) -> list[object]:
        """Return the samples as Samples.of reads them."""
        return [self.first, self.last, self.ends]


class Sample(NamedTuple):
    """A packet that was logged in the name of a counter."""

    counter: str
    end: str
    """The address of the end that isn't the ENI's."""
    at: float
    """Seconds since 1970."""


@dataclass(slots=True)
class Samples:
    """The samples of all lines, by counter."""

    by_counter: dict[str, LineSamples] = field(default_factory=dict)

    def note(self, sample: Sample) -> None:
        """Add a sample to those of its counter."""
        self.by_counter.setdefault(sample.counter, LineSamples(sample.at, sample.at)).note(sample.end, sample.at)

    def keep_only(self, counters: Iterable[str]) -> None:
        """Forget the samples of all other counters."""
        wanted = set(counters)
        self.by_counter = {name: found for name, found in self.by_counter.items() if name in wanted}

    def as_json(self) -> dict[str, object]:
        """Return the samples as a document."""
        return {name: found.as_json() for name, found in self.by_counter.items()}

    @classmethod
    def of(cls, document: object) -> Samples:
        """Return the samples in a document; what can't be read is left out."""
        found = cls()
        for name, entry in document.items() if isinstance(document, Mapping) else ():
            with suppress(ValueError, TypeError, AttributeError):
                first, last, ends = entry
                known = {str(Address.parse(str(end))): int(count) for end, count in ends.items()}
                found.by_counter[str(name)] = LineSamples(float(first), float(last), known)
        return found


class SampleListener:
    """A reader of samples in one namespace. It is for a selector; `read` never waits."""

    def __init__(self, path: str, site: Site) -> None:
        """Begin to listen. Errors as in Nflog; HostError if there is no such namespace."""
        self._site = site
        with netns.inside(path):
            self._log = Nflog(TRIAL_GROUP)

    def fileno(self) -> int:
        """Return the descriptor of the log's socket, for a selector."""
        return self._log.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._log.close()

    def read(self, now: float) -> Iterator[Sample]:
        """Yield the samples that have come. HostError if the kernel refuses.

        `now` is in seconds since 1970, for packets without a time.
        """
        for entry in self._log.read():
            counter, end = find_logged_counter(entry.prefix), self._end(entry)
            if counter is not None and end is not None:
                yield Sample(counter, str(end), entry.seconds or now)

    def _end(self, logged: Logged) -> Address | None:
        """Return the end that isn't the ENI's; None if the packet has none."""
        is_arriving = logged.hook == PREROUTING
        side = next(side for side in Direction if (self._site.hooks[side] == ARRIVING) == is_arriving)
        headers = parse_headers(logged.ethertype, logged.payload)
        return headers.source if side is Direction.INGRESS else headers.destination
