"""The reports of relays on their hosts, and what follows from them: whether a revision is in force at a host.

Owns the shape of a summary, the newest report about each host, and its standing. Must not know how summaries are kept,
or who asks.

A summary is the report of one relay:

    {"time": seconds since 1970, "epoch": E, "seen": R, "hosts": {name: {
        "connected": bool, "since": seconds since 1970, "enforced": [epoch, revision] or null, "needed": R,
        "age": seconds, "failed": [{"eni", "why"}], "error": text, "claims": [ENI ids],
        "trials": [what trials of groups' rules have seen: relay/wire.py]}}}
    where the last four may be absent

`seen` is the store's last revision that the relay knows; `needed` the last one that concerned the host, `enforced` the
last one that the host said is in force, and `age` how long ago it said anything. So a host has settled a revision that
it enforces; and while it is connected, one that its relay has seen if nothing after what it enforces concerned it. A
relay may leave out claims that are bound already.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

from sgdataplane.control.hosts.following import NONE
from sgdataplane.store.history import Version
from sgdataplane.store.interface import SUMMARY_S, Body, Json, Store, StoreError, SummaryMark

SILENT_S = 15.0  # after which nobody knows what is in force at a host
MAX_TOLD = 3  # failures in one line
# What is believed of one summary: a relay of ours writes less.
MAX_HOSTS, MAX_FAILURES, MAX_CLAIMS, MAX_TEXT, MAX_NAME = 20_000, 20, 1_000, 1_000, 253
MAX_TRIALS, MAX_LINES = 16, 200  # of a host, and of each of these
MAX_NUMBER = 1 << 62
MAX_RELAYS, MAX_WORDS = 256, 200_000  # whose reports are remembered; of hosts
# Between two readings for those who wait: so many times as long as one takes, within these bounds.
REST, SHORTEST_S, LONGEST_S = 9, 0.01, 0.25


class HostStanding(enum.StrEnum):
    """How a host stands with regard to a revision. Nobody knows anything of a host that is UNKNOWN."""

    ENFORCED = "Enforced"
    LAGGING = "Lagging"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class TrialCounts:
    """What the trial of a group's rules has seen at one host."""

    group: str
    since: int  # when the trial began, in seconds since 1970
    paused: str = ""  # why nothing is counted now, or empty
    opens: int = 0  # packets of lines that open
    closes: int = 0  # packets of lines that close
    count: int = 0  # how many lines there are
    lines: tuple[Body, ...] = ()  # those with the most packets, as `sgdp trial show --json` has them


@dataclass(frozen=True, slots=True)
class HostStatus:
    """The newest report about a host."""

    relay: str  # whose report it is
    time: float  # when the relay reported, in seconds since 1970
    heard: float  # when the host was heard last, in seconds since 1970
    is_connected: bool = False  # whether the host has a stream at this relay
    since: float = 0.0  # when that stream was opened, in seconds since 1970
    seen: Version = NONE  # the store's last version that the relay knows
    needed: int = 0  # the last revision that concerned the host
    enforced: Version = NONE  # the last version that is in force at the host
    failed: tuple[tuple[str, str], ...] = ()  # pairs of an ENI that isn't enforced and the reason
    error: str = ""  # why nothing newer is in force; "" if nothing is wrong
    claims: tuple[str, ...] = ()  # ENIs that are attached at the host
    trials: tuple[TrialCounts, ...] = ()  # what trials of groups' rules have seen there

    def is_known(self, now: float) -> bool:
        """Whether the report still counts.

        A relay whose clock differs by more than `SILENT_S` counts as silent, too.
        """
        is_fresh = abs(now - self.time) <= SILENT_S
        return is_fresh and (self.is_connected or now - self.heard <= SILENT_S)

    def has_settled(self, version: Version) -> bool:
        """Whether everything up to that version that concerns the host is in force there.

        A relay doesn't find out what concerns a host that isn't connected.
        """
        if self.enforced >= version:
            return True
        is_same = self.is_connected and self.enforced.epoch == self.seen.epoch == version.epoch
        return is_same and self.seen >= version and self.needed <= self.enforced.revision

    def standing(self, version: Version, now: float) -> HostStanding:
        """Return how the host stands with regard to a version."""
        if not self.is_known(now):
            return HostStanding.UNKNOWN
        if self.failed and self.needed <= self.enforced.revision:  # it was in force, and isn't any more
            return HostStanding.FAILED
        if self.has_settled(version):
            return HostStanding.ENFORCED
        return HostStanding.FAILED if self.why and self.seen >= version else HostStanding.LAGGING

    @property
    def why(self) -> str:
        """What is wrong there, in one line; "" if nothing is."""
        told = [f"{eni}: {why}" if eni else why for eni, why in self.failed[:MAX_TOLD]]
        more = [f"and {count} more"] if (count := len(self.failed) - MAX_TOLD) > 0 else []
        return "; ".join(filter(None, (self.error, *told, *more)))


def standing_of(word: HostStatus | None, version: Version, now: float) -> HostStanding:
    """Return how a host stands with regard to a version; UNKNOWN if nothing was reported about it."""
    return word.standing(version, now) if word else HostStanding.UNKNOWN


class RelayReport(Mapping[str, HostStatus]):
    """The last summary of a relay: what it says of each host.

    Who waits for a few of a thousand hosts needs only these, so what is said of a host is read when somebody asks. A
    field that isn't as it should be counts as not reported, so no summary is refused.
    """

    def __init__(self, relay: str, summary: Body) -> None:
        self._relay, self._summary = relay, summary
        self.time = _number(summary.get("time"))  # when it was made, in seconds since 1970
        hosts = summary.get("hosts")
        found = islice(hosts.items(), MAX_HOSTS) if isinstance(hosts, dict) else ()
        self._said = {name: said for name, said in found if isinstance(said, dict) and len(name) <= MAX_NAME}
        self._read: dict[str, HostStatus] = {}

    def __getitem__(self, host: str) -> HostStatus:
        found = self._read.get(host)
        if found is None:
            found = self._read[host] = _read_status(self._relay, self._summary, self._said[host])
        return found

    def __contains__(self, host: object) -> bool:
        return host in self._said

    def __iter__(self) -> Iterator[str]:
        return iter(self._said)

    def __len__(self) -> int:
        return len(self._said)

    def is_silent(self, now: float) -> bool:
        """Whether the relay has said nothing for so long that nobody knows anything of its hosts."""
        return abs(now - self.time) > SILENT_S


class NewestWords(Mapping[str, HostStatus]):
    """The newest report about each host. The streams of a relay that is silent at `now` have ended.

    `gone` has the last reports about hosts that no relay reports on any more.
    """

    def __init__(self, reports: Mapping[str, RelayReport], gone: Mapping[str, HostStatus], now: float) -> None:
        self._reports = [(report, report.is_silent(now)) for _, report in sorted(reports.items())]
        self._gone = gone

    def __getitem__(self, host: str) -> HostStatus:
        said = [
            replace(report[host], is_connected=False) if has_ended else report[host]
            for report, has_ended in self._reports
            if host in report
        ]
        return max(said, key=_rank) if said else self._gone[host]

    def __contains__(self, host: object) -> bool:
        return any(host in report for report, _ in self._reports) or host in self._gone

    def __iter__(self) -> Iterator[str]:
        names = dict.fromkeys(name for report, _ in self._reports for name in report) | dict.fromkeys(self._gone)
        return islice(names, MAX_WORDS)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def words_in(summaries: Mapping[str, Body], now: float) -> Mapping[str, HostStatus]:
    """Return the newest report about each host."""
    return NewestWords({relay: RelayReport(relay, body) for relay, body in summaries.items()}, {}, now)


def _rank(word: HostStatus) -> tuple[bool, float, float]:
    """Return a key by which reports are ordered, the newest one last.

    A host has one stream; another relay may remember one that has ended.
    """
    return word.is_connected, word.since if word.is_connected else word.heard, word.time


def _read_status(relay: str, summary: Body, said: Body) -> HostStatus:
    """Return what a relay's summary says of a host."""
    at, epoch, seen = _number(summary.get("time")), _whole(summary.get("epoch")), _whole(summary.get("seen"), -1)
    return HostStatus(
        relay,
        at,
        at - _number(said.get("age")),
        said.get("connected") is True,
        _number(said.get("since")),
        Version(epoch, seen),
        _whole(said.get("needed"), MAX_NUMBER),
        _version(said.get("enforced")),
        tuple(_failures(said.get("failed"))),
        _text(said.get("error")),
        tuple(one for one in _list(said.get("claims"))[:MAX_CLAIMS] if isinstance(one, str)),
        tuple(_trials(said.get("trials"))),
    )


def _trials(value: Json) -> Iterator[TrialCounts]:
    for one in (one for one in _list(value)[:MAX_TRIALS] if isinstance(one, dict)):
        opens, closes, count = (_whole(one.get(name)) for name in ("opens", "closes", "count"))
        lines = tuple(line for line in _list(one.get("lines"))[:MAX_LINES] if isinstance(line, dict))
        head = _text(one.get("group")), _whole(one.get("since")), _text(one.get("paused"))
        yield TrialCounts(*head, opens, closes, count, lines)


def _failures(value: Json) -> Iterator[tuple[str, str]]:
    failures = (one for one in _list(value)[:MAX_FAILURES] if isinstance(one, dict))
    return ((_text(one.get("eni")), _text(one.get("why"))) for one in failures)


def _version(value: Json) -> Version:
    pair = _list(value)
    return Version(_whole(pair[0], -1), _whole(pair[1], -1)) if len(pair) == 2 else NONE


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _text(value: Json) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _number(value: Json) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and -MAX_NUMBER <= value <= MAX_NUMBER else 0.0  # type: ignore[arg-type, operator]


def _whole(value: Json, other: int = 0) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and -1 <= value <= MAX_NUMBER else other  # type: ignore[return-value, operator]


class HostBoard:
    """The newest report about each host. Several threads may use it.

    A report that its relay doesn't repeat any more, because the stream or the relay has ended, stays as the last one.
    `clock` returns seconds since 1970.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._words: Mapping[str, HostStatus] = {}
        self._gone: dict[str, HostStatus] = {}  # the last reports about hosts that no relay reports on any more
        self._reports: dict[str, RelayReport] = {}  # by relay, in the order in which they were read
        self._silent: set[str] = set()  # the relays that were silent at the last reading
        self._mark: SummaryMark = None
        self._read_at = float("-inf")
        self._took_s = self._took_before_s = 0.0  # by the last two readings

    @property
    def pause_s(self) -> float:
        """The least time between two readings for those who wait, in seconds: then readings take a tenth of it.

        The shorter of two readings counts. One that finds news takes longer, and the next one seldom finds any.
        """
        return min(LONGEST_S, max(SHORTEST_S, REST * min(self._took_s, self._took_before_s)))

    def await_news(self, most_s: float, is_stopping: threading.Event) -> None:
        """Return when it makes sense to look again, after so many seconds at most.

        That is when something may have been reported and the last reading is `pause_s` ago.
        """
        ends = time.monotonic() + min(most_s, LONGEST_S)
        self._store.await_summaries(self._mark, ends - time.monotonic())
        is_stopping.wait(max(0.0, min(ends, self._read_at + self.pause_s) - time.monotonic()))

    def look(self, most_s: float = 0.0) -> Mapping[str, HostStatus]:
        """Return the reports as they were at most so many seconds ago.

        If the store can't be reached, they are what was known before, which gets old.
        """
        with self._lock:
            if time.monotonic() - self._read_at >= most_s:
                self._read()
            return self._words

    @property
    def now(self) -> float:
        """The current time, in seconds since 1970."""
        return self._clock()

    @property
    def known(self) -> Mapping[str, HostStatus]:
        """The reports as they were read last. This never waits for the store."""
        return self._words

    def relays(self) -> int:
        """Return how many relays have reported in the last `SILENT_S`, as far as it was read."""
        now = self._clock()
        return sum(not report.is_silent(now) for report in list(self._reports.values()))

    def _read(self) -> None:
        """Read what is new. A store that can't be reached costs those who wait as much time as one that can."""
        began = time.monotonic()
        with suppress(StoreError):
            new = self._store.new_summaries(self._mark)
            self._take(new.bodies, self._clock())
            self._mark = new.mark
        self._read_at = time.monotonic()
        self._took_s, self._took_before_s = self._read_at - began, self._took_s

    def _take(self, summaries: Mapping[str, Body], now: float) -> None:
        """Take over new summaries, and which relays are silent now. Without news, the words stay the same object."""
        replaced = [found for relay in summaries if (found := self._reports.pop(relay, None)) is not None]
        self._reports |= {relay: RelayReport(relay, body) for relay, body in summaries.items()}
        replaced += self._forget_oldest(now)
        silent = {relay for relay, report in self._reports.items() if report.is_silent(now)}
        if summaries or replaced or silent != self._silent:
            self._silent, self._gone = silent, self._find_gone(replaced, now)
            self._words = NewestWords(self._reports, self._gone, now)

    def _forget_oldest(self, now: float) -> list[RelayReport]:
        """Forget the reports that are a day old, and those that were read first if there are too many. Return them."""
        forgotten = [relay for relay, report in self._reports.items() if now - report.time > SUMMARY_S]
        kept = {relay: len(report) for relay, report in self._reports.items() if relay not in forgotten}
        while len(kept) > MAX_RELAYS or sum(kept.values()) > MAX_WORDS:
            forgotten.append(first := next(iter(kept)))
            del kept[first]
        return [self._reports.pop(relay) for relay in forgotten]

    def _find_gone(self, replaced: Iterable[RelayReport], now: float) -> dict[str, HostStatus]:
        """Return the last reports, of a day, about hosts that no relay reports on any more.

        `replaced` are reports that have newer ones now, or none: only from these can hosts be gone.
        """
        reports = self._reports.values()
        lost = {
            name: replace(report[name], is_connected=False, claims=())
            for report in replaced
            for name in report
            if not any(name in other for other in reports)
        }
        gone = (
            (name, word)
            for name, word in {**self._gone, **lost}.items()
            if now - word.time < SUMMARY_S and not any(name in report for report in reports)
        )
        return dict(islice(gone, MAX_WORDS))
