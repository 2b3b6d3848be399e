"""The places where policies are enforced: in a lab, or on this host, at what is attached there.

Owns which of the two a verb means, the namespaces there, what each must enforce and how it is held; also what the agent
answers. Takes arguments with `name` (a lab's, or None) and `config` (the agent's file, or None). Must not know what a
verb looks for.

With --name, or SGDP_LAB and without --config, it is that lab. Without, it is this host; if nothing is there to look at,
it is the lab of the usual name.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from sgdataplane.attach.names import NO_NAMES, WorkloadNames
from sgdataplane.daemon.control import Request
from sgdataplane.daemon.lookup import agent_state, find_attached_eni, look_up_here
from sgdataplane.errors import HostError, LabError
from sgdataplane.model.naming import eni_of, look_up
from sgdataplane.model.options import Placement
from sgdataplane.terminal.arguments import usual_lab
from sgdataplane.terminal.output import say_aside

if TYPE_CHECKING:
    from sgdataplane.attach.registry import Binding
    from sgdataplane.daemon.config import Config
    from sgdataplane.enforce import Desired
    from sgdataplane.lab.manage import Lab
    from sgdataplane.model.options import Options
    from sgdataplane.model.state import CloudState
    from sgdataplane.observe.follow import Followed

USUAL = "lab"
Held = Callable[[], AbstractContextManager[str | None]]


@dataclass(frozen=True, slots=True)
class PolicyScope:
    """A namespace where policy is enforced."""

    name: str
    """The name of the instance, workload or router, for people."""
    namespace: str
    """The namespace's own name, for people."""
    interfaces: Mapping[str, str]
    """ENI id -> interface name."""
    placement: Placement
    held: Held
    """Holds the namespace and gives a path that leads there; None if it has ended."""
    is_there: Callable[[], bool]
    """Tells whether it exists for others than us."""
    desired: Desired | None
    """What it must enforce; None if the state can't be read."""

    @property
    def source(self) -> Followed:
        """The same namespace, as a listener takes it (observe/follow.py)."""
        from sgdataplane.observe.follow import Followed

        state = None if self.desired is None else self.desired.state
        return Followed(self.name, self.held, self.is_there, self.interfaces, self.placement, state)


@dataclass(frozen=True, slots=True)
class Scopes:
    """All namespaces of a lab or of this host. One of `lab` and `config` is set."""

    all: tuple[PolicyScope, ...]
    state: CloudState | None
    """What must be enforced; None if it can't be read."""
    options: Options
    nodes: Mapping[str, str]
    """ENI id -> the instance that has it."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Instance -> its other names."""
    time_scale: float = 1.0
    """The factor of all timeouts."""
    lab: Lab | None = None
    config: Config | None = None
    """The agent's configuration."""
    workloads: WorkloadNames = NO_NAMES
    """The names of containers and pods at ENIs, on this host."""

    def say_if_unread(self) -> None:
        """Say on stderr what a verb can't show if the state can't be read."""
        if self.state is None and self.config is not None:
            say_aside(f"{self.config.state} can't be read, so counter names are shown in place of rules")

    def eni(self, name: str) -> str:
        """Return the id of the ENI that `name` stands for. StateFileError if that is none here, or several."""
        if self.lab is not None:
            return eni_of(self.lab.state, name)
        assert self.config is not None
        return find_attached_eni(self.config, name, {eni for scope in self.all for eni in scope.interfaces})

    def node(self, name: str) -> str:
        """Return the instance that `name` stands for. LabError if that is none here, or several."""
        if self.lab is not None:
            found = self.lab.find_node(name)
            if not found.is_instance:
                raise LabError(f"node {name}", "it is outside every VPC, so no policy is applied to it")
            return found.name
        named = look_up(name, self.names)
        if len(named.ids) != 1:
            here = ", ".join(sorted(self.names)) or "none"
            why = "no instance with an ENI here has that name, or several have it"
            raise LabError(f"instance {name}", f"{why}; instances here: {here}")
        return named.ids[0]

    def having(self, eni_id: str) -> PolicyScope:
        """Return the namespace where that ENI's policy is enforced. LabError if there is none."""
        found = next((scope for scope in self.all if eni_id in scope.interfaces), None)
        if found is None:
            here = ", ".join(sorted(eni for scope in self.all for eni in scope.interfaces)) or "none"
            raise LabError(f"ENI {eni_id}", f"its policy isn't enforced there; these ENIs' policies are: {here}")
        return found


def find_named_lab(arguments: argparse.Namespace) -> str | None:
    """Return the lab that --name or the environment names; None if a lab isn't asked for."""
    return arguments.name or (usual_lab() if arguments.config is None else None)


@contextmanager
def scopes(arguments: argparse.Namespace) -> Iterator[Scopes]:
    """Give the scopes that a verb means; a lab can't change while the block runs.

    Raises:
        LabError: There are none.
    """
    from sgdataplane.lab import manage

    here = _on_this_host(arguments)
    if here is not None:
        yield here
        return
    with manage.watch(find_named_lab(arguments) or USUAL) as lab:
        yield of_lab(lab)


def look(arguments: argparse.Namespace) -> Scopes:
    """Return the same scopes for a verb that runs for long: nothing is held, so a lab can change meanwhile."""
    from sgdataplane.lab import manage

    return _on_this_host(arguments) or of_lab(manage.look(find_named_lab(arguments) or USUAL))


def of_lab(lab: Lab) -> Scopes:
    """Return the scopes of a lab."""
    nodes = {end.eni_id: node.name for node in lab.topology.nodes for end in node.interfaces if end.eni_id}
    found = tuple(
        PolicyScope(at.name, at.netns, at.desired.interfaces, at.desired.placement, *_by_name(at.netns), at.desired)
        for at in lab.enforced
    )
    return Scopes(found, lab.state, lab.options, nodes, {}, lab.record.time_scale, lab)


def _by_name(namespace: str) -> tuple[Held, Callable[[], bool]]:
    """Return how a namespace that has a name is held, and how to tell whether it is still there."""
    from sgdataplane.host import netns

    return partial(nullcontext, namespace), partial(netns.is_same, namespace, netns.inode_of(namespace))


def is_about_this_host(arguments: argparse.Namespace) -> bool:
    """Return whether a verb means what is attached here: no lab is named, and something is attached."""
    from sgdataplane.attach.registry import Registry

    return find_named_lab(arguments) is None and bool(Registry(agent_config(arguments).bindings).load())


def _on_this_host(arguments: argparse.Namespace) -> Scopes | None:
    """Return what is attached; None if a lab is meant.

    Raises:
        LabError: Nothing is attached, and there is no lab either.
    """
    from sgdataplane.attach.registry import Registry

    if find_named_lab(arguments) is not None:
        return None
    config = agent_config(arguments)
    bindings = Registry(config.bindings).load()
    if not bindings and _has_usual_lab():
        return None
    if not bindings:
        bound = f"no ENI is attached to this host (in {Registry(config.bindings).path}; --config names another place)"
        here = f"{bound}, and no lab named {USUAL} is running"
        raise LabError("nothing to look at", f"{here}; run `sgdp attach`, or `sgdp lab up STATE`")
    return of_bindings(bindings, agent_state(config), config.choices.options, config.uplinks, config)


def of_bindings(
    bindings: Sequence[Binding],
    state: CloudState | None,
    options: Options,
    uplinks: tuple[str, ...] = (),
    config: Config | None = None,
) -> Scopes:
    """Return the scopes of attached ENIs.

    Args:
        bindings: The attached ENIs.
        state: What must be enforced there; None if it can't be read.
        options: How it is evaluated.
        uplinks: The routers' interfaces that carry no ENI.
        config: The agent's configuration.
    """
    by_place: dict[object, list[Binding]] = {}
    for binding in bindings:
        by_place.setdefault(binding.host_end.router if binding.host_end else binding.identity, []).append(binding)
    instances = {} if state is None else {entry.instance_id: entry for entry in state.instances}
    nodes = {binding.eni_id: _node(binding.eni_id, state) for binding in bindings}
    names = {node: [instances[node].instance_name] if node in instances else [] for node in nodes.values()}
    desired_at = partial(_make_desired, state, options, uplinks)
    found = tuple(_make_scope(some, desired_at) for some in by_place.values())
    return Scopes(found, state, options, nodes, names, config=config, workloads=WorkloadNames.of(bindings))


def _node(eni_id: str, state: CloudState | None) -> str:
    """Return the ENI's instance; the ENI itself if it has none."""
    eni = None if state is None else state.eni.get(eni_id)
    return eni_id if eni is None else eni.instance_id or eni_id


def _make_scope(
    bindings: Sequence[Binding], desired_at: Callable[[Mapping[str, str], Placement], Desired | None]
) -> PolicyScope:
    """Return the namespace that these bindings share."""
    from sgdataplane.host.identity import find_namespace, is_there

    first = bindings[0]
    if first.host_end is None:
        interfaces = {binding.eni_id: binding.ifname for binding in bindings}
        name, whose = first.named, (first.identity, first.path)
        hold: tuple[Held, Callable[[], bool]] = partial(find_namespace, *whose), partial(is_there, *whose)
    else:
        interfaces = {binding.eni_id: binding.host_end.ifname for binding in bindings if binding.host_end}
        name = first.host_end.router
        hold = _by_name(name)
    there = interfaces, first.placement
    return PolicyScope(name, name, *there, *hold, desired_at(*there))


def _make_desired(
    state: CloudState | None,
    options: Options,
    uplinks: tuple[str, ...],
    interfaces: Mapping[str, str],
    placement: Placement,
) -> Desired | None:
    """Return what a namespace must enforce; ENIs that the state doesn't have are closed.

    None if there is no state.
    """
    from sgdataplane.attach.compare import with_closed
    from sgdataplane.enforce import Desired

    if state is None:
        return None
    whole = with_closed(state, interfaces)
    return Desired(whole, interfaces, options, placement, uplinks if placement.is_outside else ())


# the agent


def agent_config(arguments: argparse.Namespace) -> Config:
    """Return the agent's configuration.

    Raises:
        ConfigError: It is wrong, or a file named with --config doesn't exist.
    """
    from sgdataplane.daemon.config import CONFIG_FILE, load_config

    named = getattr(arguments, "config", None)
    return load_config(named or CONFIG_FILE, must_exist=named is not None)


def names_here(config: Config) -> WorkloadNames:
    """Return the names of containers and pods at what is attached here; none if the record of that can't be read."""
    from sgdataplane.attach.registry import Registry

    return WorkloadNames.read(Registry(config.bindings))


def ask_agent(arguments: argparse.Namespace, request: Request, *, eni: str | None = None) -> dict[str, object] | None:
    """Return the running agent's answer; None if a lab is meant.

    It is about the ENI named `eni` alone, if one is given.

    Raises:
        HostError: There is neither an agent nor a lab.
        StateFileError: The name isn't one ENI's.
    """
    from sgdataplane.daemon import control

    if find_named_lab(arguments) is not None:
        return None
    config = agent_config(arguments)
    if not config.socket.exists() and arguments.config is None:
        if _has_usual_lab():
            return None
        needed = f"on a host, {arguments.verb} needs the agent; in a lab, run `sgdp lab up STATE` first"
        raise HostError(str(config.socket), f"no agent and no lab named {USUAL} is running; {needed}")
    eni_id = "" if eni is None else look_up_here(config, eni).the_eni("no such ENI here", "an ENI that is known here")
    return control.ask(config.socket, request, eni=eni_id)


def _has_usual_lab() -> bool:
    from sgdataplane.lab.record import LabFolder

    return LabFolder(USUAL).load() is not None
