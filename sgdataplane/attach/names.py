"""The names by which people know what runs at ENIs: "web" rather than the number that an engine gave its container.

Owns which name a workload has, and how it stands beside its ENI, in text and in JSON. The record keeps what a runtime
said ("attachment oci:8f417ca6329b"), because runtimes know a container by it. Must not know which verb shows a name.

Whoever starts a container or a pod chooses its name. It may say anything, so nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from sgdataplane.attach.registry import Binding, Registry, current
from sgdataplane.errors import BindingError, HostError

ATTACHMENT = "attachment "  # begins the words for what a container runtime attached
OCI = "oci:"  # begins the attachments of OCI hooks; no network's name has a colon
CONTAINER, POD = "container ", "pod "  # begin the words for such a workload
# A key of JSON that has an ENI's id -> the key beside it, which has the name of what runs there.
BESIDE = {"eni": "workload", "end": "end_workload"}


@dataclass(frozen=True, slots=True)
class WorkloadNames:
    """The names of containers and pods."""

    by_id: Mapping[str, str] = field(default_factory=dict)
    """A container's id, as engines show it -> its name."""
    pods: Mapping[str, str] = field(default_factory=dict)
    """The words for a namespace -> its pod."""
    places: Mapping[str, str] = field(default_factory=dict)
    """ENI id -> the words for the namespace where it is bound now."""

    @classmethod
    def of(cls, bindings: Iterable[Binding]) -> Self:
        """Return the names at these bindings. Ask the engines, if only they know one."""
        some = tuple(bindings)
        by_id = _ask_engines() if any(one.named.startswith(ATTACHMENT + OCI) for one in some) else {}
        pods = {one.named: one.pod for one in some if one.pod}
        return cls(by_id, pods, {one.eni_id: one.named for one in current(some)})

    @classmethod
    def read(cls, registry: Registry) -> Self:
        """Return the names at what is attached; none if the record can't be read."""
        with suppress(BindingError, HostError):
            return cls.of(registry.load())
        return cls()

    def workload(self, eni_id: str | None) -> str | None:
        """Return the name of an ENI's container or pod; None if nobody knows one."""
        return self._name(self.places.get(eni_id or "", "")) or None

    def label(self, eni_id: str) -> str:
        """Return an ENI as people see it."""
        return describe_eni(eni_id, self.workload(eni_id))

    def add_to(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return an object of JSON with those names beside its ENIs."""
        found: dict[str, Any] = {}
        for key, value in row.items():
            found[key] = value
            if key in BESIDE:
                found[BESIDE[key]] = self.workload(value)
        return found

    def place(self, named: str) -> str:
        """Return the words for a namespace that people understand: "container web"."""
        if not named.startswith(ATTACHMENT):
            return named
        network, _, container = named.removeprefix(ATTACHMENT).rpartition("/")
        if named in self.pods:
            words = f"{POD}{self.pods[named]}"
        else:
            words = f"{CONTAINER}{self._name(named) or container.removeprefix(OCI)}"
        return f"{words} of network {network}" if network else words

    def describe(self, binding: Binding) -> str:
        """Return the words for a bound interface: "eth0 of container web"."""
        return f"{binding.ifname} of {self.place(binding.named)}"

    def _name(self, named: str) -> str:
        """Return the name of what runs in that namespace; "" if nobody knows one."""
        if named.startswith(CONTAINER):
            return named.removeprefix(CONTAINER)
        return self.pods.get(named) or self.by_id.get(named.removeprefix(ATTACHMENT + OCI), "")


def describe_eni(eni_id: str, workload: str | None) -> str:
    """Return an ENI as people see it, with the name of what runs there: "eni-web1 (web)"."""
    return f"{eni_id} ({workload})" if workload else eni_id


def _ask_engines() -> dict[str, str]:
    from sgdataplane.attach.containers import names_by_id  # noqa: PLC0415  (few hosts need it)

    return names_by_id()


NO_NAMES = WorkloadNames()
