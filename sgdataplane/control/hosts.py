"""Hosts: the machines that enforce, each as a document; and which of them an ENI is bound to.

Owns what a host's document holds, what a host may be called, and the binding. Must not know how anything gets to a
host.

    host/NAME   about: {"created": seconds since 1970, "revoked": bool, "refused_serials": [of certificates, as text]}
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

from sgdataplane.control.documents import Documents, Fields, ResourceKind, about, path_of, state_in
from sgdataplane.control.store import Body, Path

TAG = "sgdp:host"  # of an instance: the host of those of its ENIs that nothing else binds
FIELD = "host"  # in `about` of an ENI: the host that claimed it, or that AttachNetworkInterface named
LONGEST = 253
NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
EXPECTED = "a DNS name: labels of a-z, 0-9 and -, with dots between them, 253 characters at most"


@dataclass(frozen=True, slots=True)
class StoredHost:
    """`created`: seconds since 1970. `refused_serials`: certificates that don't open a stream any more."""

    name: str
    created: float
    is_revoked: bool = False
    refused_serials: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return path_of(ResourceKind.HOST, self.name)

    def body(self) -> Body:
        said: Fields = {
            "created": self.created,
            "revoked": self.is_revoked,
            "refused_serials": [*self.refused_serials],
        }
        return {"about": said}

    @staticmethod
    def of(name: str, body: Body) -> StoredHost:
        said = about(body)
        serials = cast("list[str]", said.get("refused_serials", []))
        created, is_revoked = cast(float, said.get("created", 0.0)), said.get("revoked") is True
        return StoredHost(name, created, is_revoked, tuple(serials))


def is_host_name(text: str) -> bool:
    return len(text) <= LONGEST and NAME.fullmatch(text) is not None


def hosts_in(documents: Documents) -> dict[str, StoredHost]:
    """All hosts, by name."""
    found = documents.of_kind[ResourceKind.HOST]
    return {name: StoredHost.of(name, found[name]) for name in sorted(found)}


def host_of(documents: Documents, eni: Body) -> str | None:
    """The host that an ENI is bound to: the one that claimed it or that AttachNetworkInterface named; else the one that
    its instance's tag names; else the only host that there is. A host that is revoked counts: to revoke moves nothing.
    """
    instance = documents.of_kind[ResourceKind.INSTANCE].get(str(state_in(eni).get("instance_id", "")))
    return bound(eni, instance, documents.of_kind[ResourceKind.HOST])


def bound(eni: Body, instance: Body | None, hosts: Collection[str]) -> str | None:
    """The same, from an ENI, its instance if it has one, and the names of all hosts."""
    named = about(eni).get(FIELD) or (tagged(instance) if instance else "")
    if named:
        return str(named)
    return next(iter(hosts)) if len(hosts) == 1 else None


def tagged(instance: Body) -> str:
    """The host that an instance's tag names; "" if none does."""
    return cast("dict[str, str]", about(instance).get("tags", {})).get(TAG, "")
