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
    from sgdataplane.contract.sites import Site
    from sgdataplane.lab.manage import Lab
    from sgdataplane.model.decision import Decision


@dataclass(frozen=True)
class Place:
    """A namespace where policy is enforced, by name or path; the ENIs there, by interface. `decisions`: what each
    counter counts. `eni_id`: the ENI that was asked for."""

    namespace: str
    site: Site
    enis: Mapping[str, str]
    decisions: Mapping[str, Decision]
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
    from sgdataplane.contract.sites import SITES
    from sgdataplane.observe.hits import decisions

    enis = {ifname: eni for eni, ifname in scope.interfaces.items()}
    counted = _asked_decisions(there.known.socket, eni_id) if there.known is not None else {}
    if there.lab is not None:
        counted = decisions(there.lab.state, scope.interfaces)
    return Place(path, SITES[scope.placement], enis, counted, eni_id, is_lab=there.lab is not None)


def _asked_decisions(socket: Path, eni_id: str) -> dict[str, Decision]:
    """What the agent says that its counters count; nothing, if none runs: then their names have to do."""
    from sgdataplane.daemon import client
    from sgdataplane.daemon.protocol import Request
    from sgdataplane.errors import HostError
    from sgdataplane.observe.hits import decision_of

    try:
        answer: Any = client.ask(socket, Request.COUNTERS, eni=eni_id)
    except HostError:
        return {}
    rows = (row for scope in answer["counters"]["scopes"] for row in scope["counters"])
    return {row["counter"]: decision for row in rows if (decision := decision_of(row)) is not None}
