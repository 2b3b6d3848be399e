"""The inputs of a build as a digest: what a state says that concerns some ENIs, and the program.

Owns that judgement; policy/reach.py makes the same one of two states. Must not know what is built.

A digest may depend on too much, never on too little: tests/property/test_inputs.py compares it with what is compiled.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from sgdataplane.enforce.desired import Desired
from sgdataplane.model.modes import Mode
from sgdataplane.model.state import CloudState, Eni, GroupRef, PrefixListRef, SecurityGroupRule

MAX_ENIS = 10_000  # of a state: to read more takes longer than to build
PACKAGE = str(Path(__file__).parents[1])


class Inputs:
    """The inputs that one state gives. `previous` is of an earlier state, whose records it may share."""

    def __init__(self, state: CloudState, previous: Inputs | None = None) -> None:
        self.state = state
        self._previous = {} if previous is None else previous.records
        self.records: dict[int, tuple[object, str]] = {}  # by identity
        self._groups: dict[str, str] = {}

    def digest(self, desired: Desired, time_scale: float) -> str | None:
        """Return the digest of all that a build of `desired` depends on; None if the state is too large."""
        if len(self.state.network_interfaces) > MAX_ENIS:
            return None
        manner = time_scale, desired.options, desired.placement, desired.uplinks, self.state.vpcs
        return _digest(manner, [(ifname, *self._of_eni(eni_id)) for eni_id, ifname in desired.interfaces.items()])

    def _of_eni(self, eni_id: str) -> tuple[object, ...]:
        eni = self.state.eni[eni_id]
        return self._of(eni), [self._of_group(group_id) for group_id in eni.security_group_ids]

    def _of_group(self, group_id: str) -> str:
        """Return the digest of a group, its members, and what its rules name."""
        if group_id not in self._groups:
            group = self.state.group[group_id]
            named = [self._digest_named(rule) for rule in group.rules]
            self._groups[group_id] = _digest(self._of(group), self._members(group_id), named)
        return self._groups[group_id]

    def _digest_named(self, rule: SecurityGroupRule) -> object:
        """Return the digests of what a rule names, which need not be there."""
        ports = self._of(self.state.port_list.get(rule.port_list_id))
        match rule.remote:
            case GroupRef(group_id):
                group = self.state.group.get(group_id)
                return ports, group and group.vpc_id, self._members(group_id)
            case PrefixListRef(prefix_list_id):
                return ports, self._of(self.state.prefix_list.get(prefix_list_id))
        return ports

    def _members(self, group_id: str) -> list[str]:
        return [self._of_member(eni) for eni in self.state.enis_of_group.get(group_id, ())]

    def _of_member(self, eni: Eni) -> str:
        """Return the digest of an ENI as a member, without its mode, which concerns nobody else."""
        if eni.mode is Mode.ENFORCE and not eni.audit_until:
            return self._of(eni)
        return _digest(replace(eni, mode=Mode.ENFORCE, audit_until=""))

    def _of(self, record: object) -> str:
        """Return a record's own digest, by its repr, which shows all of its fields."""
        known = self.records.get(id(record)) or self._previous.get(id(record))
        if known is None or known[0] is not record:
            known = record, _digest(record)
        self.records[id(record)] = known
        return known[1]


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


@cache
def program() -> str:
    """Return the digest of this program as it is on disk, and of the Python that runs it.

    It is "" if the program's source isn't there. Call it at the start, before the source can be replaced.
    """
    hashed = hashlib.sha256(repr((sys.version, sys.flags.optimize)).encode())
    paths = sorted(_list_sources())
    try:
        for path in paths:
            with open(path, "rb", buffering=0) as file:
                content = file.read()
            hashed.update(repr((path[len(PACKAGE) :], len(content))).encode())
            hashed.update(content)
    except OSError:
        return ""
    return hashed.hexdigest() if paths else ""


def _list_sources() -> Iterator[str]:
    """Yield the paths of this program's modules. `Path.rglob()` takes twice the time, at each start of an agent."""
    for folder, _, files in os.walk(PACKAGE):
        yield from (f"{folder}/{file}" for file in files if file.endswith(".py"))
