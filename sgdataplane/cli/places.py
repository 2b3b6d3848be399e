"""One ENI's namespace and what its counters count, for whoever follows its packets.

Owns putting that together. Is given arguments as scopes() takes them. Must not know what is looked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgdataplane.cli.scopes import of_lab, scopes

if TYPE_CHECKING:
    from pathlib import Path

    from sgdataplane.cli.scopes import Scope, Scopes
    from sgdataplane.compiler.site import Site
    from sgdataplane.lab.manage import Lab
    from sgdataplane.observe.hits import Subject


@dataclass(frozen=True)
class Place:
    """A namespace where policy is enforced, by name or path; the ENIs there, by interface; what counters count.
    `eni_id`: the ENI that was asked for."""

    namespace: str
    site: Site
    enis: Mapping[str, str]
    subjects: Mapping[str, Subject]
    eni_id: str
    is_lab: bool = False

    def ifname(self, eni_id: str) -> str:
        return next(ifname for ifname, found in self.enis.items() if found == eni_id)


@contextmanager
def place_of(arguments: argparse.Namespace, eni: str) -> Iterator[Place]:
    """Of an ENI, by its name, as long as the block runs. StateFileError if it is enforced nowhere that was asked about,
    or could be several ones; HostError if its namespace has ended."""
    from sgdataplane.errors import HostError

    with scopes(arguments) as there:
        eni_id = there.eni(eni)
        scope = there.having(eni_id)
        with scope.held() as path:
            if path is None:
                raise HostError(scope.name, "its namespace has ended")
            yield _at(there, scope, eni_id, path)


def in_lab(lab: Lab, eni: str) -> Place:
    """StateFileError if the lab's state has no such ENI."""
    there = of_lab(lab)
    eni_id = there.eni(eni)
    scope = there.having(eni_id)
    return _at(there, scope, eni_id, scope.namespace)


def _at(there: Scopes, scope: Scope, eni_id: str, path: str) -> Place:
    from sgdataplane.compiler.site import SITES
    from sgdataplane.observe.hits import subjects

    enis = {ifname: eni for eni, ifname in scope.interfaces.items()}
    counted = _asked_subjects(there.known.socket, eni_id) if there.known is not None else {}
    if there.lab is not None:
        counted = subjects(there.lab.state, scope.interfaces)
    return Place(path, SITES[scope.placement], enis, counted, eni_id, is_lab=there.lab is not None)


def _asked_subjects(socket: Path, eni_id: str) -> dict[str, Subject]:
    """What the agent says of counters; nothing, if none runs: then their names have to do."""
    from sgdataplane.daemon import client
    from sgdataplane.daemon.protocol import Request
    from sgdataplane.errors import HostError
    from sgdataplane.net.values import Direction, Verdict
    from sgdataplane.observe.hits import Subject

    try:
        answer: Any = client.ask(socket, Request.COUNTERS, eni=eni_id)
    except HostError:
        return {}
    rows = (row for scope in answer["counters"]["scopes"] for row in scope["counters"] if row["kind"] is not None)
    return {
        row["counter"]: Subject(
            row["counter"],
            row["kind"],
            Direction(row["direction"]),
            Verdict(row["verdict"]),
            row["security_group_id"] or "",
            row["security_group_rule_id"] or "",
            row["priority"] or 0,
            row["cause"] or "",
        )
        for row in rows
    }
