"""Workloads with a process that reaches the namespaces of the machine, routers among them.

Owns the words for it, and what to do about it. Its input is bindings. Must not know what such a process has done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from sgdataplane.attach.registry import Binding
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.capabilities import NetAdmin, belongs_to_machine, find_net_admins
from sgdataplane.host.identity import find_namespace

ADVICE = "run the workload in a user namespace of its own, or without CAP_NET_ADMIN"


def find_exposed(bindings: Iterable[Binding]) -> Mapping[Binding, str]:
    """Return a line for each binding whose workload has such a process."""
    listed = list(bindings)
    admins = find_net_admins({binding.identity.inode for binding in listed})
    suspects = [binding for binding in listed if binding.identity.inode in admins]
    return {b: describe(admins[b.identity.inode]) for b in suspects if _is_the_machines(b)}


def describe(admin: NetAdmin) -> str:
    """Return what such a process can do, and what to do about it."""
    has = "has" if admin.is_sure else "may gain"
    return (
        f"process {admin.pid} there {has} CAP_NET_ADMIN in the machine's user namespace, so it can set down and change "
        f"other workloads' links: {ADVICE}"
    )


def _is_the_machines(binding: Binding) -> bool:
    """Whether its namespace belongs to the machine's user namespace. Then its own links lead such a process on."""
    with suppress(SgDataplaneError, OSError), find_namespace(binding.identity, binding.path) as place:
        return place is not None and belongs_to_machine(place)
    return False
