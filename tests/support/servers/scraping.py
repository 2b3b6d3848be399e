"""Asking for metrics as Prometheus does, and what is in them.

Owns the request and reading the answer, by the client library's own parser. Must not know what is expected.
"""

from __future__ import annotations

import socket
from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families

from tests.support.probes.flood import wait_until

PREFIX = "sgdataplane_"


class Scrape:
    """What one answer says; names are without the prefix."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in families for sample in family.samples]

    def values(self, name: str, **labels: str) -> list[float]:
        """Of all series of that name that have these labels."""
        return [
            sample.value
            for sample in self.samples
            if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
        ]

    def value(self, name: str, **labels: str) -> float:
        """Of the only one."""
        (found,) = self.values(name, **labels)
        return found


def get(port: int, host: str = "127.0.0.1") -> tuple[int, str]:
    """Status and body."""
    connection = HTTPConnection(host, port, timeout=20)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def scrape(port: int) -> Scrape:
    """Ask as soon as the port is open: a program that has just started opens it after other signs of life."""
    wait_until(lambda: is_open(port))
    status, text = get(port)
    assert status == 200, text
    return Scrape(text)
