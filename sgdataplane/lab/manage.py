"""A lab's life: up, apply, down, and what is where.

Owns the order of the steps, so that a kill at any moment leaves nothing that `down` can't find. Is given states and an
enforcer. Must not know how links are made or policy is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sgdataplane.errors import LabError, SgDataplaneError
from sgdataplane.host import netns
from sgdataplane.lab import build
from sgdataplane.lab.record import CHANGING, LabFolder, LabRecord, lab_names
from sgdataplane.lab.topology import DEFAULT_EXTERNALS, Node, Topology, plan
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address


@dataclass(frozen=True, slots=True)
class EnforceRequest:
    """One instance whose policy is to be put in force: its ENIs by interface name, also of interfaces yet to come.
    `previous` is the state that was in force there; None at first."""

    netns: str
    instance_id: str
    interfaces: Mapping[str, str]
    state: CloudState
    previous: CloudState | None
    options: Options
    time_scale: float


Enforcer = Callable[[EnforceRequest], None]


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is up: its record, its state and what follows from both."""

    record: LabRecord
    state: CloudState
    topology: Topology
    options: Options = DEFAULTS

    def find_node(self, name: str) -> Node:
        """A node by its name or its instance's name. LabError if there is none, with those there are."""
        if name in self.topology.node:
            return self.topology.node[name]
        named = [node for node in self.topology.nodes if node.alias == name]
        if len(named) == 1:
            return named[0]
        what = "several nodes have that name" if named else "there is no such node"
        raise LabError(f"node {name!r}", f"{what}; this lab has {', '.join(self.topology.node)}")


def up(record: LabRecord, state: CloudState, enforce: Enforcer) -> Lab:
    """Build a lab. LabError if one of that name is there; on any failure, or Ctrl-C, nothing of it stays."""
    folder = LabFolder(record.name)
    with folder.locked():
        if folder.load() is not None:
            raise LabError(f"lab {record.name}", "it is there already; `sgdp lab apply` changes it, `down` removes it")
        topology = plan(record.name, state, parse_externals(record.externals))
        _refuse_taken(topology)
        record = replace(record, namespaces=topology.netns_names, phase=CHANGING)
        folder.store(record)
        try:
            _build(record, topology, state, None, enforce)
            record = folder.store_applied(record, state)
        except BaseException:  # whatever it was, also an interrupt: leave nothing, then let it pass
            build.remove(topology.netns_names)
            folder.remove()
            raise
    return Lab(record, state, topology)


def apply(name: str, state: CloudState, enforce: Enforcer) -> Lab:
    """Change a running lab to another state; returns when that is in force. On failure the former state is put back."""
    folder = LabFolder(name)
    with folder.locked():
        record, former = _load(folder)
        externals = parse_externals(record.externals)
        topology, former_topology = plan(name, state, externals), plan(name, former, externals)
        taken = tuple(n for n in topology.netns_names if n not in record.namespaces)
        _refuse_taken(topology, taken)
        changing = replace(record, phase=CHANGING, namespaces=record.namespaces + taken)
        folder.store(changing)
        try:
            _build(changing, topology, state, former, enforce)
        except SgDataplaneError:
            _build(changing, former_topology, former, state, enforce)
            folder.store(record)
            raise
        record = folder.store_applied(replace(changing, namespaces=topology.netns_names), state)
    return Lab(record, state, topology)


def down(name: str) -> tuple[str, ...]:
    """Remove all of a lab, however it was left, and also one whose record is lost; the namespaces removed."""
    folder = LabFolder(name)
    with folder.locked():
        try:
            record = folder.load()
        except LabError:  # unreadable: the marks tell
            record = None
        recorded = record.namespaces if record else ()
        found = tuple(n for n in dict.fromkeys(recorded + build.marked_namespaces(name)) if netns.exists(n))
        build.remove(found)
        folder.remove()
    return found


def look(name: str) -> Lab:
    """The lab as it is. LabError if there is none, or if a verb died half-way through it."""
    folder = LabFolder(name)
    if folder.load() is None:
        raise _no_such_lab(name)
    with folder.locked(shared=True):
        record, state = _load(folder)
    if not record.is_up:
        raise LabError(
            f"lab {name}", "a verb died while changing it; `sgdp lab apply STATE` completes it, `down` removes it"
        )
    return Lab(record, state, plan(name, state, parse_externals(record.externals)))


def default_record(name: str) -> LabRecord:
    """The record of a lab nobody asked anything special of."""
    return LabRecord(name, tuple(tuple(map(str, host)) for host in DEFAULT_EXTERNALS), ())


def parse_externals(externals: tuple[tuple[str, ...], ...]) -> tuple[tuple[Address, ...], ...]:
    """Addresses of hosts outside from text. LabError for what isn't one."""
    return tuple(tuple(_parse_external(text) for text in host) for host in externals)


def _parse_external(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise LabError(f"external {text!r}", "an IPv4 or IPv6 address is expected") from error


def _load(folder: LabFolder) -> tuple[LabRecord, CloudState]:
    record = folder.load()
    if record is None:
        folder.remove()  # what taking the lock made
        raise _no_such_lab(folder.name)
    if not record.state_file:
        raise LabError(f"lab {folder.name}", "a verb died while building it; `sgdp lab down` removes it")
    return record, folder.load_applied(record)


def _no_such_lab(name: str) -> LabError:
    others = ", ".join(lab_names()) or "none"
    return LabError(f"lab {name}", f"there is no such lab (there are: {others}); `sgdp lab up STATE` builds one")


def _refuse_taken(topology: Topology, which: tuple[str, ...] | None = None) -> None:
    """A namespace of that name which isn't ours is never touched."""
    taken = [name for name in (topology.netns_names if which is None else which) if netns.exists(name)]
    if taken:
        owner = build.lab_of(taken[0])
        whose = f"lab {owner}'s" if owner else "not a lab's"
        raise LabError(f"namespace {taken[0]}", f"the name is taken and {whose}; choose another lab name with --name")


def _build(
    record: LabRecord, topology: Topology, state: CloudState, previous: CloudState | None, enforce: Enforcer
) -> None:
    def put_policy_in_force() -> None:
        for node in topology.nodes:
            if node.is_instance:
                interfaces = {interface.eni_id: interface.ifname for interface in node.interfaces}
                enforce(EnforceRequest(node.netns, node.name, interfaces, state, previous, DEFAULTS, record.time_scale))

    build.reconcile(topology, record.namespaces, put_policy_in_force)
