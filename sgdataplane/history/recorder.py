"""Recording history: listens in all places, and writes what it finds every few seconds.

Owns when places are read, and how much processor time that may take. Is given places, states and the file's path. Must
not know who gives them.

    every 5 s   places where something was heard: their counters are read, what was logged is confirmed and written
    every 1 s   the same, while somebody follows what is denied (live.py)
    every 60 s  all places: totals. A namespace that has ended is let go within a second
    at most     SHARE of a processor: then nothing is read for a while. What the sockets don't hold is only counted

No error ends it: one place, the file or the disk may fail, and it says so (`RecorderStatus`).
"""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sgdataplane.errors import HostError, InternalError, SgDataplaneError
from sgdataplane.history import file, live
from sgdataplane.history.budget import Budget, SteadyClock
from sgdataplane.history.deltas import Deltas, Grown
from sgdataplane.history.ends import Interpretation
from sgdataplane.history.gather import Gatherer
from sgdataplane.history.live import LiveServer
from sgdataplane.history.merge import Room, finish, steps
from sgdataplane.history.place import Findings, Listening, RecordedPlace
from sgdataplane.history.rows import BUCKET_S, Fate, FlowCount
from sgdataplane.history.sample import is_own
from sgdataplane.history.write import BucketOfRows, GapKey, HistoryWriter, PendingRows, TotalKey
from sgdataplane.host import quiet
from sgdataplane.model.decision import Decision
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState
from sgdataplane.nft.counters import Counted
from sgdataplane.observe.denied import Forged, Unlogged

LIVE_S = 1.0
FLUSH_S, TOTALS_S, MERGE_S, LOOK_S, AGAIN_S = 5.0, 60.0, 600.0, 1.0, 30.0
GATHER_S = 0.2  # after something came: more comes with it
MAX_PENDING = 50_000  # rows that wait for a disk that takes none; then they are given up
PER_SECOND, LEAST_PER_SECOND = 400, 5  # new sessions that are logged: in all places together, and in each
BUFFERS, LEAST_BUFFER, MOST_BUFFER = 64 << 20, 32 << 10, 1 << 20  # bytes: of all sockets together, and of each
LOGGER = logging.getLogger("sgdataplane.history")


@dataclass(slots=True)
class RecorderStatus:
    """What is told about history. `error`: why nothing is written, "" if it is. `since`: the start of the first bucket,
    seconds since 1970. `bytes`: of the file. `unlogged`: packets and sessions that came too fast to be recorded one by
    one, since the start; `forged`: log messages that weren't our rules'. `places`: where it listens; `silent`: where it
    can't, and why. `cpu_s`: processor time that it took."""

    path: str
    error: str = ""
    since: int | None = None
    bytes: int = 0
    unlogged: int = 0
    forged: int = 0
    given_up: int = 0
    places: int = 0
    silent: dict[str, str] = field(default_factory=dict)
    cpu_s: float = 0.0
    written: float = 0.0

    def as_json(self) -> dict[str, object]:
        return asdict(self)


class Recorder:
    """`read` is called each round with the time that is left until something is due, and says what changed."""

    def __init__(self, path: Path, room: Room, boot: str, clock: Callable[[], float] = time.time) -> None:
        self._path, self._room, self._boot, self._clock = path, room, boot, clock
        self.status = RecorderStatus(str(path))
        self._writer: HistoryWriter | None = None
        self._deltas, self._is_begun = Deltas({}), False
        self._gatherer, self._pending = Gatherer(), PendingRows()
        self._wanted: dict[object, RecordedPlace] = {}
        self._open: dict[object, Listening] = {}
        self._retry: dict[object, float] = {}
        self._meaning = Interpretation(CloudState(), Options())
        self._selector = selectors.EpollSelector()
        self._live = self._open_live()
        self._budget, self._steady = Budget(), SteadyClock()
        self._open_file()
        now = time.monotonic()
        self._due = {
            "flush": now + FLUSH_S,
            "totals": now + FLUSH_S,
            "merge": now + MERGE_S,
            "look": now,
            "file": now + AGAIN_S,
        }

    def close(self) -> None:
        """Write what there is, and let all places go."""
        with suppress(SgDataplaneError, OSError):
            self.flush(tuple(self._open.values()))
        for place in self._open.values():
            place.close()
        self._open.clear()
        self._selector.close()
        if self._live is not None:
            self._live.close()
        if self._writer is not None:
            self._writer.close()

    def _open_live(self) -> LiveServer | None:
        """Without it, nobody can follow what is denied; history is kept all the same."""
        try:
            server = LiveServer(self._path.with_name(live.NAME))
        except OSError as error:
            LOGGER.warning("log-not-served error=%s", error)
            return None
        self._selector.register(server, selectors.EVENT_READ, server.accept)
        return server

    @property
    def _is_followed(self) -> bool:
        return self._live is not None and self._live.has_clients

    # what is recorded

    def set_state(self, state: CloudState, options: Options) -> None:
        """All places obey this state from now on."""
        self._meaning = Interpretation(state, options)
        for place in self._open.values():
            place.set_state(state)

    def set_places(self, places: Iterable[RecordedPlace]) -> None:
        """Record these from now on, and no others."""
        self._wanted = {place.key: place for place in places}
        for key in [key for key, there in self._open.items() if self._wanted.get(key) != there.place]:
            self._leave(key)
        self._due["look"] = 0.0

    def note_removed(self, cookie: int, counters: Mapping[str, Counted]) -> None:
        """The last values of counters that a change has removed in a namespace."""
        for place in self._open.values():
            if place.cookie == cookie:
                grown = self._deltas.note_last(cookie, counters)
                self._add_totals(place.place.scope, grown, place.all_decisions, place.of_enis)

    def _leave(self, key: object) -> None:
        place = self._open.pop(key)
        with suppress(SgDataplaneError, OSError):
            self.flush((place,))
        for log in place.logs:
            self._selector.unregister(log)
        place.close()

    def _look(self) -> None:
        """Let places go that have ended, and listen in those that are new or could not be listened to."""
        for key, place in tuple(self._open.items()):
            if not _is_there(place):
                self._leave(key)
        now = time.monotonic()
        for key, wanted in self._wanted.items():
            if key not in self._open and self._retry.get(key, 0.0) <= now:
                self._listen(key, wanted)
        self._retry = {key: at for key, at in self._retry.items() if key in self._wanted and key not in self._open}
        self.status.places = len(self._open)
        self.status.silent = {
            k: v for k, v in self.status.silent.items() if k in {w.named for w in self._wanted.values()}
        }

    def _listen(self, key: object, wanted: RecordedPlace) -> None:
        count = max(1, len(self._wanted))
        per_second = max(LEAST_PER_SECOND, PER_SECOND // count)
        buffer_bytes = min(MOST_BUFFER, max(LEAST_BUFFER, BUFFERS // (2 * count)))
        try:
            place = Listening(wanted, self._meaning.state, per_second, buffer_bytes)
        except (SgDataplaneError, OSError, InternalError) as error:
            self._retry[key] = time.monotonic() + AGAIN_S
            self.status.silent[wanted.named] = str(error)
            return
        self._open[key] = place
        grown = self._deltas.note(place.cookie, place.first, time.monotonic())
        self._add_totals(wanted.scope, grown, place.decisions, place.of_enis)
        self.status.silent.pop(wanted.named, None)
        for log in place.logs:
            self._selector.register(log, selectors.EVENT_READ, key)

    # a round

    def register(self, watched: int, call: Callable[[], None]) -> None:
        """Call it whenever `watched` is readable."""
        self._selector.register(watched, selectors.EVENT_READ, call)

    def round(self) -> None:
        """Wait until something comes or is due, and do that."""
        due = min(self._due.values()) - time.monotonic()
        is_waiting = any(place.has_heard for place in self._open.values())
        ready = self._selector.select(max(0.0, min(due, FLUSH_S if is_waiting else due)))
        for key, _ in ready:
            if callable(key.data):
                key.data()
        if any(not callable(key.data) for key, _ in ready):
            time.sleep(GATHER_S)
            for key in {key.data for key, _ in ready if not callable(key.data)}:
                self._hear(key)
        self._do_what_is_due()
        self._budget.keep()

    def _hear(self, key: object) -> None:
        if key in self._open:
            with suppress(HostError, OSError):
                self._open[key].hear()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        self._steady.note(self._clock())
        if self._is_due("look", now, LOOK_S):
            self._look()
        if self._is_due("totals", now, TOTALS_S):
            self._due["flush"] = now + FLUSH_S
            self.flush(tuple(self._open.values()))
            self._deltas.keep_only({place.cookie for place in self._open.values()})
        elif self._is_due("flush", now, LIVE_S if self._is_followed else FLUSH_S):
            if self._live is not None:
                self._live.forget_gone()
            self.flush([place for place in self._open.values() if place.has_heard])
        if self._is_due("merge", now, MERGE_S) and self._writer is not None:
            self._merge(self._writer)
        self.status.cpu_s = time.process_time()

    def _is_due(self, what: str, now: float, every: float) -> bool:
        if self._due[what] > now:
            return False
        self._due[what] = now + every
        return True

    # reading and writing

    def flush(self, places: Iterable[Listening]) -> None:
        """Read these places, and write what there is."""
        self._open_file()
        counted = []
        for place in places:
            with suppress(SgDataplaneError, OSError):  # it has ended; or the kernel refuses, and we ask again
                counted.append((place, place.read_counters()))
        if counted:
            quiet.wait()
        for place, counters in counted:
            with suppress(SgDataplaneError, OSError):
                self._note(place, counters, place.judge(counters))
        self._write()

    def _note(self, place: Listening, counters: Mapping[str, Counted], findings: Findings) -> None:
        grown = self._deltas.note(place.cookie, counters, time.monotonic())
        self._add_totals(place.place.scope, grown, place.decisions, place.of_enis)
        now = int(self._clock())
        bucket = self._pending.at(now // BUCKET_S * BUCKET_S, BUCKET_S)
        self._tell(place, findings)
        for name, packet in findings.packets:
            at = min(now, max(now - BUCKET_S, int(packet.seconds)))
            seen = (self._meaning.opened if name in place.of_enis else self._meaning.dropped)(packet, at)
            if seen is None:
                findings.missing[name] = findings.missing.get(name, 0) + 1
            else:
                self._gatherer.note(seen, self._pending)
        for name, number in findings.missing.items():
            fate = Fate.ACCEPT if name in place.of_enis else Fate.DROP
            key = GapKey(place.place.scope, fate)
            bucket.gaps[key] = bucket.gaps.get(key, 0) + number
            self.status.unlogged += number
        self.status.forged += findings.forged
        _mark_sampled(self._pending, place, {key.fate for key in bucket.gaps if key.scope == place.place.scope})

    def _tell(self, place: Listening, findings: Findings) -> None:
        """Tell whoever follows what was denied."""
        if self._live is None or not self._live.has_clients:
            return
        named, now = place.place.named, self._clock()
        for name, packet in findings.packets:
            if name not in place.of_enis:
                self._live.send(named, packet)
        for name, number in findings.missing.items():
            if name not in place.of_enis:
                self._live.send(named, Unlogged(now, number, name, place.all_decisions.get(name)))
        if findings.forged:
            self._live.send(named, Forged(now, findings.forged))

    def _add_totals(
        self, scope: str, grown: Grown, decisions: Mapping[str, Decision], of_enis: Mapping[str, tuple[str, Decision]]
    ) -> None:
        now = int(self._clock())
        totals = self._pending.at(now // BUCKET_S * BUCKET_S, BUCKET_S).totals
        for name, (packets, size) in grown.items():
            whose, decision = of_enis.get(name) or (scope, decisions.get(name))
            if decision is None:
                continue
            found = totals.setdefault(TotalKey(whose, decision), FlowCount(0, 0, now, now))
            found.packets += packets
            found.bytes += size
            found.last = now

    def _open_file(self) -> None:
        if self._writer is not None or (self._is_begun and not self._is_due("file", time.monotonic(), AGAIN_S)):
            return
        try:
            self._writer = HistoryWriter(self._path, self._room.max_bytes, self._boot)
            if not self._is_begun:
                self._deltas = Deltas(self._writer.bases())
            self._note_absence(self._writer.alive)
        except HostError as error:
            self._fail(error)
        self._is_begun = True  # from now on, the last readings are ours

    def _note_absence(self, alive: int | None) -> None:
        """Nobody recorded from then on until now."""
        now = int(self._clock())
        if alive is not None and now - alive > 2 * BUCKET_S:
            self._pending.at(alive // BUCKET_S * BUCKET_S, BUCKET_S).gaps[GapKey("", Fate.DROP, True)] = now - alive

    def _write(self) -> None:
        if self._writer is None:
            self._give_up()
            return
        changed = self._deltas.take_changed()
        self._pending.bases |= {base: read for base, read in changed.items() if not is_own(base[1])}
        try:
            self._writer.write(self._pending, int(self._clock()))
        except HostError as error:
            self._fail(error)
            self._give_up()
            return
        self._pending = PendingRows()
        self.status.error, self.status.written = "", self._clock()
        self.status.bytes, self.status.since = file.size_of(self._path), self._writer.since

    def _give_up(self) -> None:
        """What can't be written and is too much to wait: flows, and when each total was counted."""
        if self._pending.size <= MAX_PENDING:
            return
        self.status.given_up += sum(len(some.flows) for some in self._pending.buckets.values())
        totals: dict[TotalKey, FlowCount] = {}
        for bucket in self._pending.buckets.values():
            for key, count in bucket.totals.items():
                found = totals.setdefault(key, FlowCount(0, 0, count.first, count.last))
                found.packets, found.bytes, found.last = (
                    found.packets + count.packets,
                    found.bytes + count.bytes,
                    count.last,
                )
        latest = max(self._pending.buckets, default=(0, BUCKET_S))
        self._pending = PendingRows({latest: BucketOfRows(totals=totals)}, self._pending.bases)

    def _fail(self, error: HostError) -> None:
        if str(error) != self.status.error:
            LOGGER.warning("history-not-kept error=%s", error)
        self.status.error = str(error)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _merge(self, writer: HistoryWriter) -> None:
        """As long as the clock has jumped lately, nobody knows what is old."""
        now = int(self._clock()) if self._steady.is_steady else None
        try:
            with file.refusals(self._path):
                has_gone = False
                for _ in steps(writer.db, self._room, now):
                    has_gone = True
                    self._budget.keep()
                if has_gone:
                    finish(writer.db)
                    writer.forget_names()
        except HostError as error:
            self._fail(error)


def _is_there(place: Listening) -> bool:
    """If that can't be told, it is."""
    try:
        return place.is_there()
    except (HostError, OSError):
        return True


def _mark_sampled(pending: PendingRows, place: Listening, fates: Iterable[Fate]) -> None:
    """Rows of a place with packets that weren't recorded one by one are samples."""
    marked = frozenset(fates)
    if not marked:
        return
    enis = place.place.interfaces.keys()
    for bucket in pending.buckets.values():
        for key, count in bucket.flows.items():
            if key.fate in marked and key.eni_id in enis:
                count.is_sampled = True
