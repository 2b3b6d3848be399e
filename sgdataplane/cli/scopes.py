"""Where policies are enforced: the namespaces of a lab, or of what is attached on this host. For verbs that look there
themselves.

Owns which these are, what each is to obey, and how it is held. Is given arguments with `name` (a lab's, or None) and
`config` (the agent's). Must not know what is looked for.

With --name it is that lab. Else it is what is attached here; if nothing is, the lab of the usual name.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from sgdataplane.cli.arguments import eni_of

if TYPE_CHECKING:
    from sgdataplane.attach.registry import Binding
    from sgdataplane.daemon.config import Config
    from sgdataplane.enforce import Desired
    from sgdataplane.lab.manage import Enforced, Lab
    from sgdataplane.model.options import Options, Placement
    from sgdataplane.model.state import CloudState
    from sgdataplane.observe.follow import Followed

USUAL = "lab"


@dataclass(frozen=True, slots=True)
class Scope:
    """A namespace where policy is enforced. `name`: of the node, workload or router; `namespace`: its own, both for
    people. `held`: a path that leads there while it is held, None: it has ended. `is_there`: whether it is, for others
    than us. `desired`: what it is to obey; None if the state can't be read. `interfaces`: ENI id -> name."""

    name: str
    namespace: str
    interfaces: Mapping[str, str]
    placement: Placement
    held: Callable[[], AbstractContextManager[str | None]]
    is_there: Callable[[], bool]
    desired: Desired | None

    @property
    def source(self) -> Followed:
        """For whoever listens there."""
        from sgdataplane.observe.follow import Followed

        state = None if self.desired is None else self.desired.state
        return Followed(self.name, self.held, self.is_there, self.interfaces, self.placement, state)


@dataclass(frozen=True, slots=True)
class Scopes:
    """`state`: what is to be obeyed; None if it can't be read. `nodes`: ENI id -> the instance that has it; `names`:
    instance -> other names of it. `known`: the agent's configuration, if it isn't a lab."""

    all: tuple[Scope, ...]
    state: CloudState | None
    options: Options
    nodes: Mapping[str, str]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    time_scale: float = 1.0
    lab: Lab | None = None
    known: Config | None = None

    def eni(self, name: str) -> str:
        """The id of the ENI that has that name or id. StateFileError if none here has, or several."""
        from sgdataplane.cli.named import attached_eni

        if self.lab is not None:
            return eni_of(self.lab.state, name)
        assert self.known is not None
        return attached_eni(self.known, name, {eni for scope in self.all for eni in scope.interfaces})

    def node(self, name: str) -> str:
        """The instance that has that name or id. LabError if none here has, or several."""
        from sgdataplane.errors import LabError
        from sgdataplane.model.naming import look_up

        if self.lab is not None:
            found = self.lab.find_node(name)
            if not found.is_instance:
                raise LabError(f"node {name}", "it is outside: no policy is applied to it, so none let it in")
            return found.name
        named = look_up(name, self.names)
        if len(named.ids) != 1:
            known = ", ".join(sorted(self.names)) or "none"
            raise LabError(f"instance {name}", f"not one instance with an ENI here has that name; these are: {known}")
        return named.ids[0]

    def having(self, eni_id: str) -> Scope:
        """Where that ENI is. LabError if it is nowhere."""
        from sgdataplane.errors import LabError

        found = next((scope for scope in self.all if eni_id in scope.interfaces), None)
        if found is None:
            known = ", ".join(sorted(eni for scope in self.all for eni in scope.interfaces)) or "none"
            raise LabError(f"ENI {eni_id}", f"it isn't enforced there; these are: {known}")
        return found


@contextmanager
def scopes(arguments: argparse.Namespace) -> Iterator[Scopes]:
    """Those that are asked about; a lab stays as it is while the block runs. LabError if there are none."""
    from sgdataplane.lab import manage

    here = None if arguments.name is not None else on_this_host(arguments)
    if here is not None:
        yield here
        return
    with manage.watch(arguments.name or USUAL) as lab:
        yield of_lab(lab)


def look(arguments: argparse.Namespace) -> Scopes:
    """The same, for whoever goes on for long: nothing is held."""
    from sgdataplane.lab import manage

    here = None if arguments.name is not None else on_this_host(arguments)
    return of_lab(manage.look(arguments.name or USUAL)) if here is None else here


def of_lab(lab: Lab) -> Scopes:
    nodes = {end.eni_id: node.name for node in lab.topology.nodes for end in node.interfaces if end.eni_id}
    of_all = tuple(map(_enforced, lab.enforced))
    return Scopes(of_all, lab.state, lab.options, nodes, {}, lab.record.time_scale, lab)


def _enforced(entry: Enforced) -> Scope:
    from sgdataplane.host import netns

    desired, there = entry.desired, partial(netns.is_same, entry.netns, netns.inode_of(entry.netns))
    held = partial(nullcontext, entry.netns)
    return Scope(entry.name, entry.netns, desired.interfaces, desired.placement, held, there, desired)


def on_this_host(arguments: argparse.Namespace) -> Scopes | None:
    """What is attached; None if nothing is, and there is a lab of the usual name. LabError if there isn't."""
    from sgdataplane.attach.registry import Registry
    from sgdataplane.daemon import config
    from sgdataplane.errors import LabError
    from sgdataplane.lab.record import LabFolder

    file = arguments.config
    known = config.load_config(file or config.CONFIG_FILE, must_exist=file is not None)
    bindings = Registry(known.bindings).load()
    if not bindings and LabFolder(USUAL).load() is not None:
        return None
    if not bindings:
        raise LabError("nothing to look at", f"nothing is attached here, and there is no lab of the name {USUAL}")
    return of_bindings(bindings, _state(known), known.choices.options, known.uplinks, known)


def _state(known: Config) -> CloudState | None:
    """What the agent enforces; None if it can't be read, for which the agent has its own words."""
    from sgdataplane.cli.output import say_aside
    from sgdataplane.errors import StateFileError
    from sgdataplane.statefile import load

    try:
        return load(known.state, profile="unlimited").state  # its quotas are for the agent to judge
    except StateFileError:
        say_aside(f"{known.state} can't be read: rules are named as their counters are")
        return None


def of_bindings(
    bindings: Sequence[Binding],
    state: CloudState | None,
    options: Options,
    uplinks: tuple[str, ...] = (),
    known: Config | None = None,
) -> Scopes:
    """`state`, `options`, `uplinks`: what is to be obeyed there."""
    by_place: dict[object, list[Binding]] = {}
    for binding in bindings:
        by_place.setdefault(binding.host_end.router if binding.host_end else binding.identity, []).append(binding)
    instances = {} if state is None else {entry.instance_id: entry for entry in state.instances}
    nodes = {binding.eni_id: _node(binding.eni_id, state) for binding in bindings}
    names = {node: [instances[node].instance_name] if node in instances else [] for node in nodes.values()}
    wanted = partial(_desired, state, options, uplinks)
    return Scopes(tuple(_bound(some, wanted) for some in by_place.values()), state, options, nodes, names, known=known)


def _node(eni_id: str, state: CloudState | None) -> str:
    """Its instance; an ENI of none stands for itself."""
    eni = None if state is None else state.eni.get(eni_id)
    return eni_id if eni is None else eni.instance_id or eni_id


def _bound(bindings: Sequence[Binding], wanted: Callable[[Mapping[str, str], Placement], Desired | None]) -> Scope:
    """One namespace."""
    from sgdataplane.host import netns
    from sgdataplane.host.identity import found, is_there
    from sgdataplane.model.options import Placement

    first = bindings[0]
    if first.host_end is None:
        interfaces = {binding.eni_id: binding.ifname for binding in bindings}
        hold, there = partial(found, first.identity, first.path), partial(is_there, first.identity, first.path)
        wish = wanted(interfaces, Placement.INSTANCE)
        return Scope(first.named, first.named, interfaces, Placement.INSTANCE, hold, there, wish)
    router = first.host_end.router
    interfaces = {binding.eni_id: binding.host_end.ifname for binding in bindings if binding.host_end}
    there = partial(netns.is_same, router, netns.inode_of(router))
    held, wish = partial(nullcontext, router), wanted(interfaces, Placement.HOST)
    return Scope(router, router, interfaces, Placement.HOST, held, there, wish)


def _desired(
    state: CloudState | None,
    options: Options,
    uplinks: tuple[str, ...],
    interfaces: Mapping[str, str],
    placement: Placement,
) -> Desired | None:
    from sgdataplane.attach.closed import with_closed
    from sgdataplane.enforce import Desired
    from sgdataplane.model.options import Placement as Placements

    if state is None:
        return None
    there = with_closed(state, interfaces)
    return Desired(there, interfaces, options, placement, uplinks if placement is Placements.HOST else ())
