"""One trial: its lines follow the policy in force, their counts outlive tables, namespaces and machines.

Owns what a trial knows, and what becomes of its lines with an apply. Is given scopes: the namespaces where policies are
in force. Must not know who calls it when, or how anything is shown.

A change of the policy takes two steps. `plan()` compares the states and compiles tables; it takes its time, and touches
nothing. `carry_out()` puts the tables into the kernel. If either fails, the trial is paused with the reason: its tables
go, its counts stay, and the next change of the policy tries again. What a packet counts for between an apply and the
moment when the trial follows is a line of the policy before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sgdataplane.analyse.diff import StateDiff
from sgdataplane.contract.tables import TRIALS
from sgdataplane.enforce import Desired
from sgdataplane.errors import InternalError, SgDataplaneError
from sgdataplane.host import netns
from sgdataplane.host.identity import boot_id, identity_of
from sgdataplane.model.state import CloudState
from sgdataplane.nft.counters import Counted
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import NetlinkKernel
from sgdataplane.observe.ledger import Ledger, Sum
from sgdataplane.observe.ledgertext import ledger_as_json, ledger_of
from sgdataplane.statefile.proposals import propose
from sgdataplane.trial import running
from sgdataplane.trial.lines import LineFinder, TrialLine, TrialLines, lines_at
from sgdataplane.trial.linetext import line_as_plain, line_of
from sgdataplane.trial.record import TrialFolder, TrialRecord
from sgdataplane.trial.samples import Sample, Samples
from sgdataplane.trial.tables import TrialPlace, compile_trial, table_name

MAX_DONE = 1_000  # lines that an apply has made true
ALL = ""  # the one scope of the ledger: a counter is named after its line, wherever it is
NOTHING = Sum(0, 0, "")


@dataclass(frozen=True)
class TrialScope:
    """A namespace where a policy is in force."""

    key: object
    """Tells the namespace from others."""
    held: Callable[[], AbstractContextManager[str | None]]
    """Holds the namespace, and gives a path to it; None if it has ended."""
    desired: Desired
    """The policy in force there."""

    @property
    def place(self) -> TrialPlace:
        """Where the policy's table stands, and what it obeys."""
        return TrialPlace(self.desired.site, self.desired.interfaces, self.desired.options)


@dataclass(frozen=True)
class PlannedTable:
    """The table that a trial wants in one namespace."""

    scope: TrialScope
    found: TrialLines
    table: Table


Plan = tuple[PlannedTable, ...]


@dataclass(frozen=True, slots=True)
class DoneLine:
    """A line that an apply has made true."""

    line: TrialLine
    packets: int | None
    """How many packets it had counted; None if it shared a counter."""
    at: str
    """When it was found to be true, as in RFC 3339."""


@dataclass(frozen=True)
class CountersByEni:
    """The names of a trial's counters, and at which ENIs they are."""

    by_line: Mapping[str, str]
    """The counter of each line, by the line's name."""
    every: frozenset[str]
    """The counters of all lines."""
    by_eni: Mapping[str, frozenset[str]]
    """The counters of each ENI's lines."""

    @classmethod
    def of(cls, lines: Mapping[str, TrialLine], counters: Mapping[str, str]) -> CountersByEni:
        """Return the counters of these lines."""
        by_eni: dict[str, set[str]] = {}
        for name, line in lines.items():
            by_eni.setdefault(line.change.eni_id, set()).add(counters[name])
        every = frozenset(counters.values())
        return cls(counters, every, {eni: frozenset(found) for eni, found in by_eni.items()})


@dataclass
class Trial:
    """A trial and everything that it has counted."""

    folder: TrialFolder
    record: TrialRecord
    after: CloudState | None
    """The state on trial, as it was given; None if the state in force declares the trial."""
    paused: str = ""
    """Why it doesn't count, or empty."""
    lines: dict[str, TrialLine] = field(default_factory=dict)
    """All of its lines by name; they may share counters."""
    counters: dict[str, str] = field(default_factory=dict)
    """The counter of each line, by the line's name."""
    done: list[DoneLine] = field(default_factory=list)
    """Lines that an apply has made true, at most MAX_DONE."""
    ledger: Ledger = field(default_factory=Ledger)
    samples: Samples = field(default_factory=Samples)
    _by_eni: CountersByEni | None = None

    @classmethod
    def load(cls, folder: TrialFolder, name: str) -> Trial:
        """Return the trial as it was noted.

        Raises:
            TrialError: There is none of that name.
            StateFileError: Its state can't be read.
        """
        record = folder.record(name)
        found = cls(folder, record, None if record.group else folder.state(name))
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            found._take(folder.read_seen(name))
        return found

    @property
    def name(self) -> str:
        """The trial's name."""
        return self.record.name

    def _take(self, seen: Mapping[str, object]) -> None:
        """Go on with what was seen.

        ValueError and the like if the document isn't one; then what was read until there counts.
        """
        self.ledger = ledger_of(seen.get("ledger"), boot_id())
        self.samples = Samples.of(seen.get("samples"))
        self.paused = str(seen.get("paused", ""))
        lines = {line.name: line for line in map(line_of, _list(seen.get("lines")))}
        counters = dict(zip(lines, map(str, _list(seen.get("counters"))), strict=True))
        self.lines, self.counters = lines, counters
        self.done = [DoneLine(line_of(line), count, str(at)) for line, count, at in _list(seen.get("done"))]

    def note(self) -> None:
        """Keep what was seen. OSError if that can't be written."""
        self.samples.keep_only(self.counters.values())
        seen = {
            "ledger": ledger_as_json(self.ledger, boot_id()),
            "samples": self.samples.as_json(),
            "paused": self.paused,
            "lines": [line_as_plain(line) for line in self.lines.values()],
            "counters": list(self.counters.values()),
            "done": [[line_as_plain(one.line), one.packets, one.at] for one in self.done],
        }
        self.folder.note(self.name, seen)

    # following the policy

    def plan(self, scopes: Sequence[TrialScope], after: CloudState | None = None) -> Plan:
        """Return what is to be counted where, now that these policies are in force. This touches nothing.

        `after` is the state on trial as it would be obeyed here, if that isn't as it was given.

        Raises:
            StateFileError: The rules on trial name what isn't there.
        """
        wanted, given = frozenset(self.record.enis), after or self.after
        diffs: dict[tuple[int, object], StateDiff] = {}
        found = []
        for scope in scopes:
            enis = [eni for eni in scope.desired.interfaces if not wanted or eni in wanted]
            if enis:
                lines = lines_at(self._diff(diffs, scope.desired, given), enis)
                found.append(PlannedTable(scope, lines, compile_trial(self.name, scope.place, lines)))
        return tuple(found)

    def _diff(
        self, known: dict[tuple[int, object], StateDiff], desired: Desired, given: CloudState | None
    ) -> StateDiff:
        key = id(desired.state), desired.options
        if key not in known:
            after = propose(desired.state, self.record.group) if given is None else given
            known[key] = StateDiff(desired.state, after, desired.options)
        return known[key]

    def carry_out(self, plan: Plan, scopes: Iterable[TrialScope]) -> None:
        """Count what is planned, and nothing else, in these namespaces.

        Raises:
            KernelError: The kernel refuses it somewhere.
        """
        planned = {entry.scope.key: entry for entry in plan}
        for scope in scopes:
            with _enter(scope) as kernel:
                if kernel is None:
                    continue
                entry = planned.get(scope.key)
                if entry is None or not entry.found.lines:
                    self._read(scope, kernel)
                    running.remove(kernel, table_name(self.name))
                else:
                    self._put(entry, kernel)
        self._follow([line for entry in plan for line in entry.found.lines], plan)
        self.paused = ""

    def _put(self, entry: PlannedTable, kernel: NetlinkKernel) -> None:
        """Put a table into the kernel; add what removed counters have counted."""
        cookie = identity_of(kernel.namespace).cookie
        last = running.put(kernel, entry.table)
        if last:
            self.ledger.note_last(cookie, ALL, last, _now())
        self._note(cookie, running.read(kernel, entry.table.name, entry.found.counter_names))

    def _follow(self, lines: Sequence[TrialLine], plan: Plan) -> None:
        """Take these lines from now on; note those that no longer differ anywhere as made true by an apply."""
        here = {eni for entry in plan for eni in entry.scope.desired.interfaces}
        new = {line.name: line for line in lines}
        gone = [line for name, line in self.lines.items() if name not in new and line.change.eni_id in here]
        finder = LineFinder(lines if gone else ())
        for line in gone:
            if not finder.meets(line):
                self.done.append(DoneLine(line, self.packets_of(line), _now()))
        self.done = [one for one in self.done if one.line.name not in new][-MAX_DONE:]
        self.lines = new
        self.counters = {name: entry.found.counters[name] for entry in plan for name in entry.found.counters}

    def pause(self, reason: str, scopes: Iterable[TrialScope]) -> None:
        """Stop counting, and keep what was counted."""
        self.paused = reason
        self.end(scopes)

    # what was seen

    def read(self, scopes: Iterable[TrialScope]) -> bool:
        """Add what was counted since the last reading; return whether all tables are there.

        A namespace that can't be read keeps its counts until it can.
        """
        is_whole = True
        for scope in scopes:
            with suppress(SgDataplaneError, OSError), _enter(scope) as kernel:
                if kernel is not None:
                    is_whole &= self._read(scope, kernel)
        return is_whole

    def _read(self, scope: TrialScope, kernel: NetlinkKernel) -> bool:
        """Add what one namespace has counted; return whether its table is there, if it needs one."""
        by_eni = self._counters.by_eni
        mine = {counter for eni in scope.desired.interfaces for counter in by_eni.get(eni, ())}
        found = running.read(kernel, table_name(self.name), sorted(mine))
        self._note(identity_of(kernel.namespace).cookie, found)
        return bool(found) or not mine

    def note_sample(self, sample: Sample) -> None:
        """Keep a packet of one of the lines; any other is another trial's, or nobody's."""
        if sample.counter in self._counters.every:
            self.samples.note(sample)

    def _note(self, cookie: int, counters: Mapping[str, Counted]) -> None:
        if counters:
            self.ledger.note(cookie, ALL, counters, _now())

    @property
    def _counters(self) -> CountersByEni:
        if self._by_eni is None or self._by_eni.by_line is not self.counters:
            self._by_eni = CountersByEni.of(self.lines, self.counters)
        return self._by_eni

    def sum_of(self, line: TrialLine) -> Sum:
        """Return what the line's counter has counted, which other lines may share."""
        return self.ledger.scopes.get(ALL, {}).get(self.counters.get(line.name, ""), NOTHING)

    def packets_of(self, line: TrialLine) -> int | None:
        """Return how many packets the line has counted; None if its counter is shared."""
        return None if self.is_shared(line) else self.sum_of(line).packets

    def is_shared(self, line: TrialLine) -> bool:
        """Return whether other lines count with the same counter."""
        return self.counters.get(line.name, "") != line.counter

    def end(self, scopes: Iterable[TrialScope]) -> None:
        """Count a last time, and remove the tables."""
        for scope in scopes:
            with suppress(SgDataplaneError, OSError), _enter(scope) as kernel:
                if kernel is not None:
                    self._read(scope, kernel)
                    running.remove(kernel, table_name(self.name))


def follow(trial: Trial, scopes: Sequence[TrialScope]) -> None:
    """Make a trial follow the policies in force in these namespaces.

    Errors pause the trial, and do nothing else.
    """
    try:
        trial.carry_out(trial.plan(scopes), scopes)
    except (SgDataplaneError, InternalError, OSError, MemoryError, RecursionError) as error:
        trial.pause(str(error) or type(error).__name__, scopes)


def remove_others(scopes: Iterable[TrialScope], names: Iterable[str]) -> None:
    """Remove the tables of all trials but these. KernelError if the kernel refuses."""
    wanted = set(map(table_name, names))
    for scope in scopes:
        with _enter(scope) as kernel:
            for table in () if kernel is None else kernel.tables(TRIALS):
                if kernel is not None and table not in wanted:
                    running.remove(kernel, table)


@contextmanager
def _enter(scope: TrialScope) -> Iterator[NetlinkKernel | None]:
    """Open a socket to the namespace's nftables; None if the namespace has ended."""
    with scope.held() as path:
        if path is None:
            yield None
            return
        with NetlinkKernel(str(netns.path_of(path))) as kernel:
            yield kernel


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("it is not a list")
    return value


def _now() -> str:
    return spell_time(time.time())


def spell_time(seconds: float) -> str:
    """Write seconds since 1970 as in RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
