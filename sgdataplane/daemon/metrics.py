"""The metrics of the agent and of what it enforces, for Prometheus.

Owns the metrics: names, labels, and how many series there can be. docs/reference/metrics.md lists them; `make docs`
writes that page from METRICS. Must not know who asks. The agent's thread reports what happened, and another thread asks
for the text. Both only share the library's objects, which are thread-safe, and values that are replaced as a whole and
never changed.

Namespaces are read when the text is asked for, not by the agent's thread.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import Counter as CounterOf
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sgdataplane import __version__
from sgdataplane.attach.report import EniOutcome, NamespaceReport
from sgdataplane.daemon.cycle import READING, CycleReport
from sgdataplane.daemon.policy import Origin
from sgdataplane.daemon.readings import Readings
from sgdataplane.daemon.scrape import KeptText
from sgdataplane.daemon.status import EniStatus, Status
from sgdataplane.errors import HostError, InternalError, KernelError, LimitError, ProofError, SgDataplaneError
from sgdataplane.observe.capacity import read_neighbour_uses
from sgdataplane.visible import visible

PREFIX = "sgdataplane"
MAX_OF_EACH = 2000  # ENIs, and namespaces, that have series of their own
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STEPS = ("staged", "switched", "swept")
# Errors in one namespace.
KINDS: tuple[tuple[str, type[Exception]], ...] = (
    ("proof", ProofError),
    ("kernel", KernelError),
    ("host", HostError),
    ("limit", LimitError),
    ("other", SgDataplaneError),
    ("bug", InternalError),
)
# state, config: refused when read.    cycle: nothing could be done.    last-good: it could not be stored.
ERRORS = ("state", "config", "cycle", "last-good", *(kind for kind, _ in KINDS))


class Described(NamedTuple):
    """The description of a metric."""

    words: str  # its help text
    labels: tuple[str, ...] = ()  # their names
    values: tuple[str, ...] = ()  # those of its only label, if they are known beforehand


# All metrics, without our prefix. The library has some more of this process: process_*.
METRICS: Mapping[str, Described] = {
    "healthy": Described("1 if the agent is healthy, as `sgdp status` says."),
    "state_refused": Described("1 if the state on disk is refused, or an earlier policy is held in its place."),
    "cycle_seconds": Described("Duration of one cycle in seconds, whatever it had to do."),
    "apply_seconds": Described("Duration of the change of one namespace in seconds, with compile and proof."),
    "operations_total": Described("Rules, elements and other objects that changes added or removed.", ("step",), STEPS),
    "errors_total": Described("Errors by kind; an error that persists counts at each attempt.", ("kind",), ERRORS),
    "drift_commits_total": Described("Commits of other programs to sgdataplane's tables."),
    "drift_repairs_total": Described("Repairs of namespaces where other programs had changed sgdataplane's tables."),
    "drift_delays_total": Described("Repairs delayed because other programs keep changing sgdataplane's tables there."),
    "tampering_total": Described("Changes of other programs to links of routers; each is repaired or closed."),
    "enis": Described("Attached ENIs.", ("outcome",), tuple(outcome.value for outcome in EniOutcome)),
    "eni_in_force": Described("1 if the ENI's policy is in force at its interface.", ("eni", "namespace")),
    "eni_auditing": Described("1 while the ENI is in audit mode.", ("eni", "namespace")),
    "eni_epoch": Described("The epoch of the ENI's policy.", ("eni", "namespace")),
    "eni_dropped_packets_total": Described(
        "Packets of an ENI dropped, whatever the cause.", ("eni", "namespace", "direction")
    ),
    "dropped_packets_total": Described(
        "Packets dropped in a namespace, at all of its ENIs together.", ("namespace", "direction", "cause")
    ),
    "audited_packets_total": Described(
        "Packets that passed only as the ENI is in audit mode.", ("eni", "namespace", "direction", "group", "rule")
    ),
    "sessions": Described("Sessions in the namespace's conntrack table.", ("namespace",)),
    "session_limit": Described(
        "How many sessions the namespace's conntrack table may have (nf_conntrack_max).", ("namespace",)
    ),
    "conntrack_dropped_packets_total": Described(
        "Packets that the kernel dropped because conntrack was full; no other metric has them.", ("namespace",)
    ),
    "neighbour_entries": Described("Entries of the machine's neighbour table, of all namespaces.", ("family",)),
    "neighbour_limit": Described(
        "The neighbour table's limit (gc_thresh3); the kernel refuses more entries.", ("family",)
    ),
    "neighbours_refused_total": Described("Neighbour entries refused because the table was full.", ("family",)),
    "history_healthy": Described("1 if history is kept as it should be; no series if none is wanted."),
    "history_bytes": Described("Bytes of the history's file."),
    "history_unlogged_total": Described(
        "Denied packets and new sessions that came too fast to be recorded one by one; they are counted."
    ),
    "history_cpu_seconds_total": Described("Processor time of the process that records history."),
    "read_seconds": Described("Duration of the last reading of all namespaces in seconds."),
    "unread_namespaces": Described(
        "Namespaces that the last reading left out, for lack of time or because they ended."
    ),
    "build_info": Described("Versions of the agent and of Python.", ("version", "python")),
}


class Metrics(Collector):
    """All metrics. `note_cycle` and the like are for the agent's thread, `text` for one other thread."""

    def __init__(
        self, status: Status, readings: Readings | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make the metrics. `status` is read when the text is made."""
        self._status, self._clock = status, clock
        self._readings = readings or Readings()
        self._namespaces: tuple[NamespaceReport, ...] = ()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # two series for one
        self._registry = registry = CollectorRegistry()
        about = Info(f"{PREFIX}_build", METRICS["build_info"].words, registry=registry)
        about.info({"version": __version__, "python": platform.python_version()})
        self._applies = _histogram(registry, "apply_seconds")
        self._cycles = _histogram(registry, "cycle_seconds")
        self._operations = _counts(registry, "operations_total")
        self._errors = _counts(registry, "errors_total")
        self._repairs = _counts(registry, "drift_repairs_total")
        self._delays = _counts(registry, "drift_delays_total")
        ProcessCollector(registry=registry)
        registry.register(self)
        self._kept = KeptText(lambda: generate_latest(registry), CONTENT_TYPE_LATEST, clock)

    # what happens

    def note_cycle(self, report: CycleReport) -> None:
        """Note a cycle. Call it after the status has noted it."""
        if report.refusal and READING & report.causes and report.policy.origin is not Origin.HELD:
            self.note_error("state")
        if report.last_good_error:
            self.note_error("last-good")
        if report.host is None:
            self.note_error("cycle")
        else:
            self._namespaces = tuple(entry for entry in report.host.namespaces if entry.desired is not None)
            for entry in report.host.namespaces:
                if entry.key not in report.host.left:
                    self._note_namespace(entry)
        self._cycles.observe(report.seconds)

    def _note_namespace(self, entry: NamespaceReport) -> None:
        for error in (entry.error, *(eni.refusal for eni in entry.enis)):
            if error is not None:
                self.note_error(next(kind for kind, of in KINDS if isinstance(error, of)))
        if entry.applied is None:
            return
        if entry.applied.leftover:
            self.note_error("kernel")
        if entry.applied.changed:
            self._applies.observe(entry.applied.seconds)
            for step in STEPS:
                self._operations.labels(step).inc(getattr(entry.applied, step))

    def note_error(self, kind: str) -> None:
        """Count an error; `kind` is one of ERRORS."""
        self._errors.labels(kind).inc()

    def note_repair(self) -> None:
        """Count that a namespace was repaired after others had changed it."""
        self._repairs.inc()

    def note_delay(self) -> None:
        """Count that a namespace that others have changed has to wait for its turn."""
        self._delays.inc()

    # the text

    def text(self) -> tuple[str, bytes] | None:
        """Return the content type, and the metrics in Prometheus' text format, as they are or were a moment ago.

        It is None if making the text failed; the log says why.
        """
        return self._kept()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of now. The Prometheus client library calls it."""
        status = self._status
        yield _value("healthy", status.is_healthy)
        yield _value("state_refused", status.is_state_refused)
        yield _value("drift_commits_total", status.drifts)
        yield _value("tampering_total", status.tampered.count)
        yield from _of_enis(status.enis)
        yield from _of_history(status.history())
        yield from _of_neighbours()
        yield from self._of_namespaces(self._namespaces[:MAX_OF_EACH])

    def _of_namespaces(self, entries: Sequence[NamespaceReport]) -> Iterator[Metric]:
        started = self._clock()
        known, old = self._readings.refresh(entries)
        yield _value("read_seconds", self._clock() - started)
        yield _value("unread_namespaces", old)
        dropped: Counter[tuple[str, ...]] = Counter()
        of_enis: Counter[tuple[str, ...]] = Counter()
        sessions: Counter[tuple[str, ...]] = Counter()
        audited: Counter[tuple[str, ...]] = Counter()
        limits: dict[tuple[str, ...], int] = {}
        refused: Counter[tuple[str, ...]] = Counter()
        for entry in entries:
            reading = known[entry.key]
            if reading.use is not None:  # two namespaces may share a name while one is ending; they are added up
                dropped.update({(entry.named, *reason): packets for reason, packets in reading.tally.packets.items()})
                found = reading.tally.of_enis.items()
                of_enis.update({(of_eni.eni, entry.named, of_eni.direction): packets for of_eni, packets in found})
                would = reading.tally.audited.items()
                audited.update({(of.eni, entry.named, *of[1:]): packets for of, packets in would})
                sessions[entry.named,] += reading.use.entries
                refused[entry.named,] += reading.use.dropped
                if reading.use.limit:
                    limits[entry.named,] = reading.use.limit
        yield _label("dropped_packets_total", dropped.items())
        yield _label("eni_dropped_packets_total", list(of_enis.items())[: 2 * MAX_OF_EACH])
        yield _label("audited_packets_total", list(audited.items())[:MAX_OF_EACH])
        yield _label("sessions", sessions.items())
        yield _label("session_limit", limits.items())
        yield _label("conntrack_dropped_packets_total", refused.items())


def _of_history(history: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of history.

    There are no series if no history is wanted; only whether it is well until its process has said anything.
    """
    is_well = history["on"] and not history["error"] and not history["silent"]
    yield _label("history_healthy", [((), is_well)] if history["on"] else [])
    for name, key in (("bytes", "bytes"), ("unlogged_total", "unlogged"), ("cpu_seconds_total", "cpu_s")):
        value = history.get(key)
        yield _label(f"history_{name}", [] if value is None else [((), value)])


def _of_neighbours() -> Iterator[Metric]:
    """Yield the metrics of the machine's neighbour tables; none if the kernel refuses."""
    try:
        uses = read_neighbour_uses()
    except HostError:
        return
    yield _label("neighbour_entries", {(use.family,): use.entries for use in uses}.items())
    yield _label("neighbour_limit", {(use.family,): use.limit for use in uses}.items())
    yield _label("neighbours_refused_total", {(use.family,): use.refused for use in uses}.items())


def _of_enis(enis: Sequence[EniStatus]) -> Iterator[Metric]:
    found = Counter({(outcome.value,): 0 for outcome in EniOutcome})
    found.update((eni.report.outcome.value,) for eni in enis)
    yield _label("enis", found.items())
    names = {(eni.report.binding.eni_id, eni.namespace): eni for eni in enis[:MAX_OF_EACH]}
    running = {name: eni.report.outcome for name, eni in names.items() if eni.report.outcome is not EniOutcome.STOPPED}
    in_force = {name: int(outcome.is_in_force) for name, outcome in running.items()}
    yield _label("eni_in_force", in_force.items())
    audited = {name: 1 for name, outcome in running.items() if outcome is EniOutcome.AUDITING}
    yield _label("eni_auditing", audited.items())
    epochs = {name: eni.epoch for name, eni in names.items() if eni.epoch is not None}
    yield _label("eni_epoch", epochs.items())


def _histogram(registry: CollectorRegistry, name: str) -> Histogram:
    return Histogram(f"{PREFIX}_{name}", METRICS[name].words, registry=registry, buckets=BUCKETS)


def _counts(registry: CollectorRegistry, name: str) -> CounterOf:
    """Return a counter; it shows all values of its label from the start."""
    words, labels, values = METRICS[name]
    found = CounterOf(f"{PREFIX}_{name}", words, labels, registry=registry)
    for value in values:
        found.labels(value)
    return found


def _value(name: str, value: float) -> Metric:
    return _label(name, [((), value)])


def _label(name: str, series: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """Return a metric. A series is the values of the labels, and its own."""
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    family = kind(f"{PREFIX}_{name}", METRICS[name].words, labels=METRICS[name].labels)
    for values, value in series:
        family.add_metric([visible(part) for part in values], value)
    return family
