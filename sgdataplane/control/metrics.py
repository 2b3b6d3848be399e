"""What is measured of the API, for Prometheus.

Owns the metrics: names and labels. Labels hold no text of clients: an action that isn't known has none. Must not know
who asks.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from sgdataplane import __version__

PREFIX = "sgdataplane_api"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
# All metrics, without our prefix: what it says, and its labels.
API_METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "requests_total": ("Requests by action and result; `code` is empty if it was done.", ("action", "code")),
    "request_seconds": ("Duration of a request in seconds, from its head to its answer.", ("action",)),
    "in_flight": ("Requests that are being answered.", ()),
    "build_info": ("Versions of the API and of Python.", ("version", "python")),
}


class ApiMetrics:
    """Safe for several threads."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # two series for one
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(*_named("requests_total"), registry=registry)
        self._seconds = Histogram(*_named("request_seconds"), buckets=BUCKETS, registry=registry)
        self._in_flight = Gauge(*_named("in_flight"), registry=registry)
        about = Info(f"{PREFIX}_build", API_METRICS["build_info"][0], registry=registry)
        about.info({"version": __version__, "python": platform.python_version()})
        ProcessCollector(registry=registry)

    def note(self, action: str, code: str, seconds: float) -> None:
        self._requests.labels(action, code).inc()
        self._seconds.labels(action).observe(seconds)

    def text(self, in_flight: int) -> bytes:
        self._in_flight.set(in_flight)
        return generate_latest(self._registry)


def _named(name: str) -> tuple[str, str, tuple[str, ...]]:
    words, labels = API_METRICS[name]
    return f"{PREFIX}_{name}", words, labels
