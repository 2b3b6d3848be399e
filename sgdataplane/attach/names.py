"""The names by which people know bound workloads: "web" rather than the number that an engine gave its container.

Owns how the record's words for a namespace are shown. The record keeps what a runtime said ("attachment
oci:8f417ca6329b"), because runtimes know a container by it. Must not know who shows a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from sgdataplane.attach.containers import names_by_id
from sgdataplane.attach.workload import Naming

ATTACHMENT = "attachment "  # begins the words for what a container runtime attached
OCI = "oci:"  # begins the attachments of OCI hooks; no network's name has a colon
CONTAINER = f"{Naming.CONTAINER.value} "


@dataclass(frozen=True, slots=True)
class WorkloadNames:
    """The names of containers, by the ids that engines show."""

    by_id: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, named: Iterable[str]) -> Self:
        """Ask the engines, if the words for one of these namespaces have an id of theirs in place of a name."""
        return cls(names_by_id() if any(one.startswith(ATTACHMENT + OCI) for one in named) else {})

    def container(self, named: str) -> str:
        """Return the name of the container whose namespace it is; "" if it is no container's, or nobody knows it."""
        if named.startswith(CONTAINER):
            return named.removeprefix(CONTAINER)
        return self.by_id.get(named.removeprefix(ATTACHMENT + OCI), "")

    def place(self, named: str) -> str:
        """Return the words for a namespace that people understand: "container web"."""
        if not named.startswith(ATTACHMENT):
            return named
        network, _, container = named.removeprefix(ATTACHMENT).rpartition("/")
        if network:
            return f"{CONTAINER}{container} of network {network}"
        return f"{CONTAINER}{self.container(named) or container.removeprefix(OCI)}"

    def label(self, eni_id: str, named: str) -> str:
        """Return an ENI's label, with its container's name beside it: "eni-web1 (web)"."""
        container = self.container(named)
        return f"{eni_id} ({container})" if container else eni_id
