"""The recorder of history: it listens in all places, and writes what it finds every few seconds.

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
from dataclasses import replace
from pathlib import Path

from sgdataplane.contract.counters import counter_name
from sgdataplane.errors import HostError, InternalError, SgDataplaneError
from sgdataplane.history import live
from sgdataplane.history.budget import CpuBudget
from sgdataplane.history.ends import Interpretation
from sgdataplane.history.gather import Gatherer
from sgdataplane.history.keep import Keeper, RecorderStatus
from sgdataplane.history.live import LiveServer
from sgdataplane.history.merge import HistoryLimits
from sgdataplane.history.place import Findings, Listening, RecordedPlace
from sgdataplane.history.rows import BUCKET_S, Fate
from sgdataplane.history.write import GapKey, PendingRows
from sgdataplane.host import quiet
from sgdataplane.model.options import Options
from sgdataplane.model.state import CloudState
from sgdataplane.nft.counters import Counted
from sgdataplane.observe.denied import Forged, Unlogged
from sgdataplane.visible import visible

LIVE_S = 1.0
FLUSH_S, TOTALS_S, MERGE_S, LOOK_S, AGAIN_S = 5.0, 60.0, 600.0, 1.0, 30.0
TOGETHER = 50  # places that are read with one wait
GATHER_S = 0.2  # after something came: more comes with it
PER_SECOND, LEAST_PER_SECOND = 400, 5  # new sessions that are logged: in all places together, and in each
BUFFERS, LEAST_BUFFER, MAX_BUFFER = 64 << 20, 32 << 10, 1 << 20  # bytes: of all sockets together, and of each
LOGGER = logging.getLogger("sgdataplane.history")


class Recorder:
    """The recorder. Call `round` again and again; it waits until there is something to do.

    Attributes:
        budget: The processor time that it may take.
    """

    def __init__(self, path: Path, limits: HistoryLimits, boot: str, clock: Callable[[], float] = time.time) -> None:
        self._keeper = Keeper(path, limits, boot, clock)
        self._gatherer = Gatherer()
        self._wanted: dict[object, RecordedPlace] = {}
        self._open: dict[object, Listening] = {}
        self._retry: dict[object, float] = {}
        self._meaning = Interpretation(CloudState(), Options())
        self._selector = selectors.EpollSelector()
        self._live = self._open_live(path.with_name(live.NAME))
        self.budget = CpuBudget()
        now = time.monotonic()
        self._due = {
            "flush": now + FLUSH_S,
            "totals": now + FLUSH_S,
            "merge": now + MERGE_S,
            "look": now,
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
        self._keeper.close()

    @property
    def status(self) -> RecorderStatus:
        """What is sent to the agent."""
        return self._keeper.status

    def _open_live(self, path: Path) -> LiveServer | None:
        """Return the server of the live view; None if its socket can't be made.

        Without it, nobody can follow what is denied; history is kept all the same.
        """
        try:
            server = LiveServer(path)
        except OSError as error:
            LOGGER.warning("log-not-served error=%s", visible(str(error)))
            return None
        self._selector.register(server, selectors.EVENT_READ, server.accept)
        return server

    @property
    def _is_followed(self) -> bool:
        """Whether anybody follows what is denied."""
        return self._live is not None and self._live.has_clients

    # what is recorded

    def set_state(self, state: CloudState, options: Options) -> None:
        """Take this state as the one that all places obey from now on."""
        self._meaning = Interpretation(state, options)
        for place in self._open.values():
            place.set_meaning(self._meaning)

    def set_places(self, places: Iterable[RecordedPlace]) -> None:
        """Record these places from now on, and no others."""
        self._wanted = {place.key: place for place in places}
        for key in [key for key, there in self._open.items() if self._wanted.get(key) != there.place]:
            self._leave(key)
        self._due["look"] = 0.0

    def note_removed(self, cookie: int, counters: Mapping[str, Counted]) -> None:
        """Add the last values of counters that a change has removed in a namespace."""
        for place in self._open.values():
            if place.cookie == cookie:
                grown = self._keeper.deltas.note_last(cookie, counters)
                self._keeper.add_totals(place.place.scope, grown, place.all_decisions, place.of_enis)

    def _leave(self, key: object) -> None:
        """Read a place a last time, and let it go."""
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
        """Begin to listen in a place; if that fails, note why, and try again after AGAIN_S."""
        count = max(1, len(self._wanted))
        per_second = max(LEAST_PER_SECOND, PER_SECOND // count)
        buffer_bytes = min(MAX_BUFFER, max(LEAST_BUFFER, BUFFERS // (2 * count)))
        try:
            place = Listening(wanted, self._meaning, per_second, buffer_bytes)
        except (SgDataplaneError, OSError, InternalError) as error:
            self._retry[key] = time.monotonic() + AGAIN_S
            self.status.silent[wanted.named] = str(error)
            return
        self._open[key] = place
        grown = self._keeper.deltas.note(place.cookie, place.first, time.monotonic())
        self._keeper.add_totals(wanted.scope, grown, place.decisions, place.of_enis)
        self._note_gap(place, Fate.DROP, sum(grown[name][0] for name in grown.keys() & place.refusing))
        self._due["flush"] = 0.0  # so that the file knows from where on we count
        self.status.silent.pop(wanted.named, None)
        for log in place.logs:
            self._selector.register(log, selectors.EVENT_READ, key)

    # a round

    def register(self, watched: int, call: Callable[[], None]) -> None:
        """Call `call` whenever the descriptor `watched` is readable."""
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
        self.budget.keep()

    def _hear(self, key: object) -> None:
        if key in self._open:
            with suppress(HostError, OSError):
                self._open[key].hear()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._is_due("look", now, LOOK_S):
            self._look()
        if self._is_due("totals", now, TOTALS_S):
            self._due["flush"] = now + FLUSH_S
            self.flush(tuple(self._open.values()))
            self._keeper.deltas.keep_only({place.cookie for place in self._open.values()})
        elif self._is_due("flush", now, LIVE_S if self._is_followed else FLUSH_S):
            if self._live is not None:
                self._live.forget_gone()
            self.flush([place for place in self._open.values() if place.has_heard])
        if self._is_due("merge", now, MERGE_S):
            self._keeper.merge(self.budget)
        self.status.cpu_s = time.process_time()

    def _is_due(self, what: str, now: float, every: float) -> bool:
        """Return whether something is due; if so, it is due again after `every` seconds."""
        if self._due[what] > now:
            return False
        self._due[what] = now + every
        return True

    # reading and writing

    def flush(self, places: Iterable[Listening]) -> None:
        """Read these places, and write what there is."""
        waiting = list(places)
        while waiting:
            self._read(waiting[:TOGETHER])
            del waiting[:TOGETHER]
            if waiting:
                self.budget.keep()
        self._keeper.write()

    def _read(self, places: Iterable[Listening]) -> None:
        """Read some places, with one wait for all of them."""
        counted = []
        for place in places:
            with suppress(SgDataplaneError, OSError):  # it has ended; or the kernel refuses, and we ask again
                counted.append((place, place.read_counters()))
        if counted:
            quiet.wait()
        for place, counters in counted:
            with suppress(SgDataplaneError, OSError):
                self._note(place, counters, place.judge(counters))

    def _note(self, place: Listening, counters: Mapping[str, Counted], findings: Findings) -> None:
        """Add to the pending rows what one reading of a place found."""
        grown = self._keeper.deltas.note(place.cookie, counters, time.monotonic())
        self._keeper.add_totals(place.place.scope, grown, place.decisions, place.of_enis)
        now, bucket, pending = self._keeper.now, self._keeper.bucket, self._keeper.pending
        self._tell(place, findings)
        for name, packet in findings.packets:
            at = min(now, max(now - BUCKET_S, int(packet.seconds)))
            seen = (self._meaning.interpret_opened if name in place.of_enis else self._meaning.interpret_dropped)(
                packet, at
            )
            if seen is None:
                findings.missing[name] = findings.missing.get(name, 0) + 1
            else:
                self._gatherer.note(seen, pending)
        for name, number in findings.missing.items():
            self._note_gap(place, Fate.ACCEPT if name in place.of_enis else Fate.DROP, number)
        self.status.forged += findings.forged
        _mark_sampled(pending, place, {key.fate for key in bucket.gaps if key.scope == place.place.scope})

    def _note_gap(self, place: Listening, fate: Fate, number: int) -> None:
        """Note that so many were counted there, and aren't recorded one by one."""
        if number:
            gaps, key = self._keeper.bucket.gaps, GapKey(place.place.scope, fate)
            gaps[key] = gaps.get(key, 0) + number
            self.status.unlogged += number

    def _tell(self, place: Listening, findings: Findings) -> None:
        """Send clients what was denied, and what passed only because its ENI is in audit mode."""
        if self._live is None or not self._live.has_clients:
            return
        named, now = place.place.named, time.time()
        for name, packet in findings.packets:
            decision = self._meaning.decision(packet) if name in place.of_enis else None
            if name not in place.of_enis:
                self._live.send(named, packet)
            elif decision is not None and decision.would is not None:
                self._live.send(named, replace(packet, counter=counter_name(decision), decision=decision))
        for name, number in findings.missing.items():
            if name not in place.of_enis:
                self._live.send(named, Unlogged(now, number, name, place.all_decisions.get(name)))
        if findings.forged:
            self._live.send(named, Forged(now, findings.forged))


def _is_there(place: Listening) -> bool:
    """Return whether the place's namespace exists; True if that can't be told."""
    try:
        return place.is_there()
    except (HostError, OSError):
        return True


def _mark_sampled(pending: PendingRows, place: Listening, fates: Iterable[Fate]) -> None:
    """Mark the rows of a place with packets that weren't recorded one by one: they are samples.

    An audited session is one that was accepted.
    """
    marked = set(fates)
    if Fate.ACCEPT in marked:
        marked.add(Fate.AUDITED)
    if not marked:
        return
    enis = place.place.interfaces.keys()
    for bucket in pending.buckets.values():
        for key, count in bucket.flows.items():
            if key.fate in marked and key.eni_id in enis:
                count.is_sampled = True
