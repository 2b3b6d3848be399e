"""The metrics of relays and syncs for Prometheus, and the thread that serves them.

Owns the metrics: names, labels and their values, none of which a peer chooses. docs/reference/metrics.md lists them.
The text is made when somebody asks, in a thread of its own, from numbers that the loop only replaces. Must not know how
streams work.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sgdataplane import __version__
from sgdataplane.daemon.scrape import KeptText, MetricsServer
from sgdataplane.host.certificates import ends_in
from sgdataplane.host.processes import ProcessUsage
from sgdataplane.relay.counts import ANSWERS, ENDS, MESSAGES, RELAY_ERRORS, SYNC_FAILURES
from sgdataplane.relay.tls import TlsFiles
from sgdataplane.store.history import Version

if TYPE_CHECKING:  # a relay needs nothing of a host's side, and the other way round
    from sgdataplane.relay.server import Relay
    from sgdataplane.relay.sync import HostSync

RELAY_PREFIX, SYNC_PREFIX = "sgdataplane_relay", "sgdataplane_sync"
LOOK_S = 5.0  # until it is tried again to serve
OWN, AUTHORITY = "own", "authority"
CERTIFICATES = (OWN, AUTHORITY)
STAGES = RECEIVED, WRITTEN, ENFORCED = "received", "written", "enforced"
EXPIRY = "When it ends, in seconds since 1970: the own certificate, or the last one in `tls_ca`, as read at the start."
ABOUT = "Versions of the program and of Python."


class Told(NamedTuple):
    """The help text of a metric, its only label, and the values that this label may have."""

    words: str
    label: str = ""
    values: tuple[str, ...] = ()


# All metrics, without their prefixes. The library has some more of each process: process_*.
RELAY_METRICS: Mapping[str, Told] = {
    "streams": Told("Open streams: hosts that are connected to this relay."),
    "lagging_hosts": Told("Hosts with an open stream that don't say that they enforce all that concerns them."),
    "failing_hosts": Told("Hosts with an open stream that say that something can't be put in force."),
    "left_hosts": Told("Hosts whose stream has ended in the last 10 minutes and that haven't come back here."),
    "claims_refused": Told("ENIs that connected hosts claim, and that are another host's or nobody's."),
    "revision": Told("The store's last revision that the relay has read."),
    "epoch": Told("The store's epoch that the relay has read."),
    "revisions_total": Told("Revisions that the relay has read from the store's watch."),
    "store_snapshots_total": Told("Snapshots taken of the store because its watch had left the relay behind."),
    "store_read_timestamp_seconds": Told("When the store answered last, in seconds since 1970."),
    "answers_total": Told(
        "Answers to a host's hello: all that it needs, or what differs from what it has.", "kind", ANSWERS
    ),
    "streams_ended_total": Told("Streams that have ended, by reason.", "reason", ENDS),
    "messages_total": Told("Messages by kind; hosts send hello and report.", "kind", MESSAGES),
    "received_bytes_total": Told("Bytes of hosts' messages, without TLS."),
    "sent_bytes_total": Told("Bytes of messages to hosts, without TLS."),
    "errors_total": Told(
        "What failed, and is tried again: reading the store, writing the summary, a task beside the streams.",
        "kind",
        RELAY_ERRORS,
    ),
    "name_taken": Told("1 if another relay writes under the same name."),
    "store_full": Told("1 if the store had no space left at the relay's last write: its hosts' reports are lost."),
    "certificate_expiry_timestamp_seconds": Told(EXPIRY, "certificate", CERTIFICATES),
}
SYNC_METRICS: Mapping[str, Told] = {
    "connected": Told("1 if a relay has answered, and its stream is open."),
    "relay_heard_timestamp_seconds": Told(
        "When a relay's stream was open last, in seconds since 1970; 0: never. An open one ends after 15 s of silence."
    ),
    "revision": Told(
        "The store's revision that is received, written for the agent, and enforced; 0: none.", "stage", STAGES
    ),
    "epoch": Told("The epoch of that revision.", "stage", STAGES),
    "generations_total": Told("Generations written for the agent."),
    "failures_total": Told("What failed, and is tried again.", "kind", SYNC_FAILURES),
    "failed_enis": Told("ENIs here whose policy isn't in force."),
    "attached_enis": Told("ENIs that are attached here, as the agent says."),
    "claims_refused": Told("ENIs that are attached here, and that are another host's or nobody's."),
    "error": Told("1 if nothing newer can be put in force; `sgdp hosts` and the log say why."),
    "certificate_expiry_timestamp_seconds": Told(EXPIRY, "certificate", CERTIFICATES),
}
INFO = "build_info"


def text_of(collector: Collector, prefix: str) -> Callable[[], tuple[str, bytes] | None]:
    """Return a function that makes the text of all metrics of this process, with its content type."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # two series for one
    registry = CollectorRegistry()
    Info(f"{prefix}_build", ABOUT, registry=registry).info(
        {"version": __version__, "python": platform.python_version()}
    )
    ProcessUsage(registry=registry)
    registry.register(collector)
    return KeptText(lambda: generate_latest(registry), CONTENT_TYPE_LATEST)


async def serve_metrics(make_text: Callable[[], tuple[str, bytes] | None], at: str, logger: logging.Logger) -> None:
    """Serve metrics at an address and port ("": nowhere) until this is cancelled.

    If that fails, it is logged and tried again, because nothing else depends on it.
    """
    server, said = MetricsServer(make_text), ""
    try:
        while at:
            if (trouble := server.follow(at)) and trouble != said:
                logger.warning("metrics aren't served at %s", trouble)
            said = trouble
            await asyncio.sleep(LOOK_S)
    finally:
        server.close()


class RelayMetrics(Collector):
    """The metrics of one relay."""

    def __init__(self, relay: Relay, tls: TlsFiles) -> None:
        self._relay, self._ends = relay, certificate_ends(tls)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of now. The Prometheus client library calls it."""
        relay, counts = self._relay, self._relay.counts
        streams, version = list(relay.streams.values()), relay.documents.version  # in one step of Python's
        enforced = [one.report.enforced if one.report else None for one in streams]
        lags = [at is None or at.revision < one.needed for one, at in zip(streams, enforced, strict=True)]
        values: Mapping[str, float] = {
            "streams": len(streams),
            "lagging_hosts": sum(lags),
            "failing_hosts": sum(bool(one.report and (one.report.error or one.report.failed)) for one in streams),
            "left_hosts": len(relay.left),
            "claims_refused": sum(len(one.refused) for one in streams),
            "revision": version.revision,
            "epoch": version.epoch,
            "revisions_total": counts.revisions,
            "store_snapshots_total": counts.snapshots,
            "store_read_timestamp_seconds": counts.store_read,
            "received_bytes_total": counts.received,
            "sent_bytes_total": counts.sent,
            "name_taken": counts.is_name_taken,
            "store_full": counts.is_store_full,
        }
        by_word: Mapping[str, Mapping[str, float]] = {
            "answers_total": counts.answers,
            "streams_ended_total": counts.ended,
            "messages_total": counts.messages,
            "errors_total": counts.errors,
            "certificate_expiry_timestamp_seconds": self._ends,
        }
        return _families(RELAY_PREFIX, RELAY_METRICS, values, by_word)


class SyncMetrics(Collector):
    """The metrics of one host's sync."""

    def __init__(self, sync: HostSync, tls: TlsFiles) -> None:
        self._sync, self._ends = sync, certificate_ends(tls)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of now. The Prometheus client library calls it."""
        sync, counts = self._sync, self._sync.counts
        report = sync.report
        versions = {RECEIVED: sync.part.version, WRITTEN: sync.written, ENFORCED: report.enforced}
        known = {stage: version or Version(0, 0) for stage, version in versions.items()}
        values: Mapping[str, float] = {
            "connected": counts.is_connected,
            "relay_heard_timestamp_seconds": counts.last_heard(),
            "generations_total": counts.generations,
            "failed_enis": len(report.failed),
            "attached_enis": len(report.claims),
            "claims_refused": counts.refused,
            "error": bool(report.error),
        }
        by_word: Mapping[str, Mapping[str, float]] = {
            "revision": {stage: version.revision for stage, version in known.items()},
            "epoch": {stage: version.epoch for stage, version in known.items()},
            "failures_total": counts.failures,
            "certificate_expiry_timestamp_seconds": self._ends,
        }
        return _families(SYNC_PREFIX, SYNC_METRICS, values, by_word)


def certificate_ends(tls: TlsFiles) -> dict[str, float]:
    """Return when the certificates that TLS has just read end, in seconds since 1970, by whose they are.

    Files whose end can't be read are left out.
    """
    found = {}
    for name, file, choose in ((OWN, tls.certificate, _first), (AUTHORITY, tls.authority, max)):
        try:
            found[name] = choose(ends_in(Path(file)))
        except (OSError, ValueError):
            continue
    return found


def _first(ends: list[float]) -> float:
    return ends[0]


def _families(
    prefix: str,
    described: Mapping[str, Told],
    values: Mapping[str, float],
    by_word: Mapping[str, Mapping[str, float]],
) -> Iterator[Metric]:
    for name, (words, label, _) in described.items():
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        family = kind(f"{prefix}_{name}", words, labels=(label,) if label else ())
        series: Iterable[tuple[str, float]] = by_word[name].items() if label else [("", values[name])]
        for word, value in tuple(series):
            family.add_metric([word] if label else [], value)
        yield family
