"""The metrics of the API, for Prometheus.

Owns the metrics: names and labels. Labels hold no text of clients or hosts: an action that isn't known has none. Must
not know who asks.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from sgdataplane import __version__
from sgdataplane.control.hosts.lags import HostCounts
from sgdataplane.control.hosts.status import HostStanding
from sgdataplane.host.certificates import ends_in
from sgdataplane.host.processes import ProcessUsage

PREFIX = "sgdataplane_api"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
STANDINGS = ", ".join(f"`{one.value.lower()}`" for one in HostStanding)
# All metrics, without our prefix: what it says, and its labels.
API_METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "requests_total": ("Requests by action and result; `code` is empty if it was done.", ("action", "code")),
    "request_seconds": ("Duration of a request in seconds, from its head to its answer.", ("action",)),
    "in_flight": ("Requests that are being answered.", ()),
    "hosts": (
        f"Hosts that were added and aren't revoked, by how far they are with the last revision: {STANDINGS}.",
        ("standing",),
    ),
    "hosts_lag_seconds": (
        "For how long the slowest of these hosts hasn't been known to enforce all that concerns it; 0 if all do.",
        (),
    ),
    "relays": ("Relays that have written into the store in the last 15 s.", ()),
    "store_full": ("1 if the store had no space left when the API wrote last: it takes no change.", ()),
    "certificate_expiry_timestamp_seconds": ("When the API's certificate ends, in seconds since 1970; 0: no TLS.", ()),
    "build_info": ("Versions of the API and of Python.", ("version", "python")),
}


KEPT_TIMES = 10.0  # as long as it took to count hosts, the result is said again (decision 033)


class ApiMetrics:
    """The metrics. Several threads may use them.

    Args:
        hosts: Counts them, without waiting for anything.
        is_store_full: Whether the store had no space left when the API wrote last.
        certificate: The API's.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(
        self,
        hosts: Callable[[], HostCounts] = HostCounts,
        is_store_full: Callable[[], bool] = bool,
        certificate: Path | None = None,
    ) -> None:
        self._is_store_full = is_store_full
        self._look, self._looking, self._kept_until = hosts, threading.Lock(), float("-inf")
        disable_created_metrics()  # type: ignore[no-untyped-call]  # two series for one
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(*_describe_metric("requests_total"), registry=registry)
        self._seconds = Histogram(*_describe_metric("request_seconds"), buckets=BUCKETS, registry=registry)
        self._in_flight = Gauge(*_describe_metric("in_flight"), registry=registry)
        self._hosts = Gauge(*_describe_metric("hosts"), registry=registry)
        self._lag = Gauge(*_describe_metric("hosts_lag_seconds"), registry=registry)
        self._relays = Gauge(*_describe_metric("relays"), registry=registry)
        self._full = Gauge(*_describe_metric("store_full"), registry=registry)
        Gauge(*_describe_metric("certificate_expiry_timestamp_seconds"), registry=registry).set(_end_of(certificate))
        about = Info(f"{PREFIX}_build", API_METRICS["build_info"][0], registry=registry)
        about.info({"version": __version__, "python": platform.python_version()})
        ProcessUsage(registry=registry)

    def note(self, action: str, code: str, seconds: float) -> None:
        """Count a request, and the seconds that it took. `action` is "" for an unknown one, `code` if it was done."""
        self._requests.labels(action, code).inc()
        self._seconds.labels(action).observe(seconds)

    def text(self, in_flight: int) -> bytes:
        """Return the metrics as text.

        That takes as long as counting hosts does: call it where that holds up nothing else.
        """
        self._in_flight.set(in_flight)
        self._full.set(self._is_store_full())
        with self._looking:
            began = time.monotonic()
            if began >= self._kept_until:
                self._count_hosts()
                now = time.monotonic()
                self._kept_until = now + KEPT_TIMES * (now - began)
        return generate_latest(self._registry)

    def _count_hosts(self) -> None:
        counts = self._look()
        for standing, count in counts.standings.items():
            self._hosts.labels(standing.value.lower()).set(count)
        self._lag.set(counts.lag_s)
        self._relays.set(counts.relays)


def _end_of(certificate: Path | None) -> float:
    try:
        return ends_in(certificate)[0] if certificate else 0.0
    except (OSError, ValueError):
        return 0.0


def _describe_metric(name: str) -> tuple[str, str, tuple[str, ...]]:
    words, labels = API_METRICS[name]
    return f"{PREFIX}_{name}", words, labels
