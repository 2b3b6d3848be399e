"""Where ENIs are enforced, for verbs that look there themselves: in a lab, or at workloads of this host.

Owns finding that. Is given arguments with `name` (a lab's, or None) and `config`. Must not know what is looked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sgdataplane.cli.arguments import eni_of

if TYPE_CHECKING:
    from pathlib import Path

    from sgdataplane.attach.registry import Binding
    from sgdataplane.compiler.site import Site
    from sgdataplane.daemon.config import Config
    from sgdataplane.lab.manage import Enforced, Lab
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
    or could be several ones."""
    from sgdataplane.attach.registry import Registry
    from sgdataplane.cli.named import UNKNOWN, attached_named
    from sgdataplane.daemon import config
    from sgdataplane.lab import manage
    from sgdataplane.lab.record import LabFolder

    known = config.load_config(arguments.config or config.CONFIG_FILE, must_exist=arguments.config is not None)
    bindings = Registry(known.bindings).load() if arguments.name is None else ()
    named = attached_named(known, eni, {binding.eni_id for binding in bindings})
    if named.ids or (arguments.name is None and LabFolder("lab").load() is None):
        with _attached(bindings, named.the_eni(*UNKNOWN), known) as place:
            yield place
        return
    with manage.watch(arguments.name or "lab") as lab:
        yield in_lab(lab, eni)


def in_lab(lab: Lab, eni: str) -> Place:
    """StateFileError if the lab's state has no such ENI."""
    eni_id = eni_of(lab.state, eni)
    return _at(lab, next(entry for entry in lab.enforced if eni_id in entry.desired.interfaces), eni_id)


def _at(lab: Lab, entry: Enforced, eni_id: str) -> Place:
    from sgdataplane.observe.hits import subjects

    carried = entry.desired.interfaces
    enis = {ifname: eni_id for eni_id, ifname in carried.items()}
    return Place(entry.netns, entry.desired.site, enis, subjects(lab.state, carried), eni_id, is_lab=True)


@contextmanager
def _attached(bindings: tuple[Binding, ...], eni_id: str, known: Config) -> Iterator[Place]:
    from sgdataplane.attach.registry import current
    from sgdataplane.compiler.site import HOST, INSTANCE
    from sgdataplane.errors import HostError
    from sgdataplane.host.identity import found

    binding = next(entry for entry in current(bindings) if entry.eni_id == eni_id)
    subjects = _asked_subjects(known.socket, eni_id)
    if binding.host_end is not None:
        ends = [(entry.host_end, entry.eni_id) for entry in bindings if entry.host_end is not None]
        enis = {end.ifname: eni for end, eni in ends if end.router == binding.host_end.router}
        yield Place(binding.host_end.router, HOST, enis, subjects, eni_id)
        return
    enis = {entry.ifname: entry.eni_id for entry in bindings if entry.identity == binding.identity}
    with found(binding.identity, binding.path) as place:
        if place is None:
            raise HostError(binding.named, "its namespace has ended")
        yield Place(place, INSTANCE, enis, subjects, eni_id)


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
