"""The life of a lab: up, apply, down, and what is where.

Owns the order of the steps, so that `down` finds everything even if a verb is killed at any moment. It is given states
and an enforcer. Must not know how links are made or how a policy is compiled.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sgdataplane import enforce as enforcement
from sgdataplane.enforce import Desired, Settings
from sgdataplane.errors import LabError, SgDataplaneError, TerminatedError
from sgdataplane.host import netns
from sgdataplane.lab import build, trials
from sgdataplane.lab.parts import Endpoint, LabNode, Router
from sgdataplane.lab.record import CHANGING, LabFolder, LabRecord, lab_names
from sgdataplane.lab.topology import DEFAULT_EXTERNALS, Topology, plan
from sgdataplane.model.choices import IN_LAB, Choices
from sgdataplane.model.naming import MAX_LISTED, find_spelled_alike, list_ids, look_up
from sgdataplane.model.options import Options, Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address


@dataclass(frozen=True, slots=True)
class EnforceRequest:
    """One namespace where policy is to be put in force, for ENIs whose interfaces exist or are yet to come."""

    netns: str
    wanted: Desired
    previous: Desired | None
    """What was in force there; None at first."""
    time_scale: float
    """The factor of the lab's timeouts."""
    total: int
    """How many namespaces this change concerns."""
    on_change: Literal["revoke", "keep"]
    """What happens to sessions that the new policy doesn't accept."""
    is_wired: bool = False
    """Whether no link was touched since `previous` was put in force."""

    @property
    def settings(self) -> Settings:
        """How to enforce: no sessions are adopted, because an ENI in a lab has its policy before it has a link."""
        return Settings(on_change=self.on_change, time_scale=self.time_scale, adoption_window=0.0)


Enforcer = Callable[[EnforceRequest], None]


@dataclass(frozen=True, slots=True)
class Enforced:
    """A namespace that enforces policy."""

    name: str
    """The name of the instance or, in host placement, of the router."""
    netns: str
    desired: Desired


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is up: its record, its state, and what follows from both."""

    record: LabRecord
    """What the lab remembers of itself."""
    state: CloudState
    topology: Topology

    @property
    def placement(self) -> Placement:
        """Where the policy is enforced."""
        return self.record.choices.placement

    @property
    def is_planned(self) -> bool:
        """Whether nothing of it has been built, so that it only says what would be where."""
        return not self.record.namespaces

    @property
    def options(self) -> Options:
        """How the policy is evaluated."""
        return self.record.choices.options

    @property
    def unusual(self) -> tuple[str, ...]:
        """The choices that differ from a lab's defaults, in words."""
        return tuple(self.record.choices.unlike(replace(IN_LAB, placement=self.placement)))

    @property
    def enforced(self) -> tuple[Enforced, ...]:
        """All namespaces that enforce policy, with what each has to enforce."""
        if self.placement is Placement.HOST:
            return tuple(self._at_router(router) for router in self.topology.routers)
        return tuple(self._at_instance(node) for node in self.topology.nodes if node.is_instance)

    def _at_instance(self, node: LabNode) -> Enforced:
        carried = {end.eni_id: end.ifname for end in node.interfaces}
        return Enforced(node.name, node.netns, Desired(self.state, carried, self.options))

    def _at_router(self, router: Router) -> Enforced:
        carried = {end.eni_id: end.router_ifname for end in self.topology.ends_at(router) if end.eni_id}
        uplinks = self.topology.uplinks(router)
        return Enforced(router.name, router.netns, Desired(self.state, carried, self.options, Placement.HOST, uplinks))

    @property
    def desired(self) -> dict[str, Desired]:
        """What each namespace has to enforce, by the namespace."""
        return {entry.netns: entry.desired for entry in self.enforced}

    def router_of(self, end: Endpoint) -> Router:
        """Return the router that the end's link leads to."""
        return self.topology.router_of(end.node, end.interface)

    def enforces(self, end: Endpoint) -> str:
        """Return the namespace that enforces the policy of that end."""
        return self.router_of(end).netns if self.placement is Placement.HOST else end.node.netns

    def find_node(self, name: str) -> LabNode:
        """Return a node by its name or its instance's name.

        Raises:
            LabError: None or several match; the message has the names that exist.
        """
        named = look_up(name, {node.name: (node.alias,) for node in self.topology.nodes})
        if len(named.ids) == 1:
            return self.topology.node[named.ids[0]]
        if named.ids:
            raise LabError(f"node {name!r}", f"several nodes have that name: {list_ids(named.ids)}")
        if self.is_planned:
            raise LabError(f"end {name!r}", f"the state has no such instance, ENI or address{self._guess_name(name)}")
        raise LabError(f"node {name!r}", f"there is no such node; {self._nodes_like(named.near)}")

    def _guess_name(self, name: str) -> str:
        """Return what of the state may have been meant, for people who ask about a file and know of no lab."""
        names = {node.name: (node.alias,) for node in self.topology.nodes if node.is_instance}
        near = find_spelled_alike(name, {**names, **dict.fromkeys(self.state.eni, ())})
        return (
            f"; did you mean {' or '.join(near)}?" if near else f"; its instances: {list_ids(tuple(names)) or 'none'}"
        )

    def _nodes_like(self, near: tuple[str, ...]) -> str:
        known = tuple(self.topology.node)
        return f"this lab has {list_ids(known)}" if len(known) <= MAX_LISTED else f"near: {', '.join(near)}"


def up(record: LabRecord, state: CloudState, enforce: Enforcer) -> Lab:
    """Build a lab. After any failure, or Ctrl-C, nothing of it stays.

    Raises:
        LabError: A lab of that name exists, or one of its namespaces does.
    """
    folder = LabFolder(record.name)
    with folder.lock():
        refuse_existing(record.name)
        record = replace(record, namespaces=(), phase=CHANGING)
        try:
            lab = make_lab(record, state)
            _refuse_taken(lab.topology.netns_names)
            record = replace(record, namespaces=lab.topology.netns_names)
            folder.store(record)
            with hold_interrupts():
                _build(record, lab, None, enforce)
                record = folder.store_applied(record, state)
        except BaseException:  # leave nothing, not even the lock's folder, whatever it was; then raise it again
            with hold_interrupts():
                build.remove(record.namespaces)
                folder.remove()
            raise
    return replace(lab, record=record)


def refuse_existing(name: str) -> None:
    """Raise LabError if there is a lab of that name, in whatever condition."""
    if LabFolder(name).load() is not None:
        raise LabError(f"lab {name}", "it exists already; `sgdp lab apply` changes it, `down` removes it")


def apply(
    name: str, state: CloudState, enforce: Enforcer, choices: Choices | None = None, known: Lab | None = None
) -> Lab:
    """Change a running lab to another state; return when that is in force.

    On failure the previous state is put back. A Ctrl-C waits until the change is complete.

    Args:
        name: The lab.
        state: What it shall be.
        enforce: Puts one namespace's policy in force.
        choices: How the lab judges from then on; None for no change.
        known: What the caller's last apply returned. If nobody has changed the lab since, and its links stay, then the
            links aren't looked at.

    Raises:
        LabError: There is no such lab, or it can't become that state.
    """
    folder = LabFolder(name)
    with folder.lock():
        previous = _load(folder, known)
        record = previous.record
        asked = replace(record, choices=choices or record.choices)
        if asked.choices.placement is not record.choices.placement:
            raise LabError(f"lab {name}", "a lab stays in its placement; `sgdp lab up` builds another one")
        wanted = make_lab(asked, state)
        added = tuple(n for n in wanted.topology.netns_names if n not in record.namespaces)
        _refuse_taken(added)
        changing = replace(record, phase=CHANGING, namespaces=record.namespaces + added)
        with hold_interrupts():
            folder.store(changing)
            try:
                if previous is known and wanted.topology == known.topology:
                    _put_in_force(asked, wanted, previous, enforce, is_wired=True)
                else:
                    _build(replace(changing, choices=asked.choices), wanted, previous, enforce)
            except SgDataplaneError:
                _build(changing, previous, None, enforce)  # compare everything, as nobody knows how far the change came
                folder.store(record)
                raise
            done = replace(asked, namespaces=wanted.topology.netns_names)
            record = folder.store_applied(done, state)
        found = replace(wanted, record=record)
        trials.follow_all(found)
    return found


def down(name: str) -> tuple[str, ...]:
    """Remove a lab, however it was left and even if its record is lost; return the namespaces that were removed."""
    folder = LabFolder(name)
    with folder.lock():
        try:
            record = folder.load()
        except LabError:  # the record is unreadable, but the marks say what is the lab's
            record = None
        recorded = record.namespaces if record else ()
        with hold_interrupts():
            trials.forget(name)
            found = tuple(n for n in dict.fromkeys(recorded + build.find_marked_namespaces(name)) if netns.exists(n))
            build.remove(found)
            folder.remove()
    return found


@contextmanager
def watch(name: str) -> Iterator[Lab]:
    """Give the lab as it is, and as it stays while the block runs, because verbs that change it wait.

    Raises:
        LabError: There is no such lab, or a command died while changing it.
    """
    folder = LabFolder(name)
    if folder.load() is None:
        raise _no_such_lab(name)
    with folder.lock(shared=True):
        lab = _load(folder)
        if not lab.record.is_up:
            what = "a command died while changing it; `sgdp lab apply STATE` completes it, `down` removes it"
            raise LabError(f"lab {name}", what)
        yield lab


def look(name: str) -> Lab:
    """Return the lab as it is at this moment. Errors as in `watch`."""
    with watch(name) as lab:
        return lab


def record_of(name: str) -> LabRecord:
    """Return what a lab remembers of itself, in whatever condition it is.

    Raises:
        LabError: There is no such lab.
    """
    record = LabFolder(name).load()
    if record is None:
        raise _no_such_lab(name)
    return record


def state_file_of(name: str) -> Path:
    """Return the file of the state that was applied last.

    Raises:
        LabError: There is no such lab, or no state was applied.
    """
    record = record_of(name)
    if not record.state_file:
        raise LabError(f"lab {name}", "no state was applied to it yet")
    return LabFolder(name).path / record.state_file


def make_lab(record: LabRecord, state: CloudState) -> Lab:
    """Return the lab of a record and a state. LabError if the two can't make one."""
    return Lab(record, state, plan(record.name, state, parse_externals(record.externals), record.hosts))


def default_record(name: str) -> LabRecord:
    """Return the record of a lab with default choices."""
    return LabRecord(name, tuple(tuple(map(str, host)) for host in DEFAULT_EXTERNALS), ())


def parse_externals(externals: tuple[tuple[str, ...], ...]) -> tuple[tuple[Address, ...], ...]:
    """Parse the addresses of hosts outside. LabError if a text isn't an address."""
    return tuple(tuple(_parse_external(text) for text in host) for host in externals)


def _parse_external(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise LabError(f"external {text!r}", "an IPv4 or IPv6 address is expected") from error


def _load(folder: LabFolder, known: Lab | None = None) -> Lab:
    """Return the lab as it is recorded; `known` itself, if the record hasn't changed since."""
    record = folder.load()
    if known is not None and record == known.record and record.is_up:
        return known
    if record is None:
        folder.remove()  # taking the lock made it
        raise _no_such_lab(folder.name)
    if not record.state_file:
        raise LabError(f"lab {folder.name}", "a command died while building it; `sgdp lab down` removes it")
    return make_lab(record, folder.load_applied(record))


def _no_such_lab(name: str) -> LabError:
    names = ", ".join(lab_names())
    others = f" (running: {names})" if names else ""
    return LabError(f"lab {name}", f"no lab of that name is running{others}; run `sgdp lab up STATE` to build one")


def _refuse_taken(names: tuple[str, ...]) -> None:
    """Raise LabError if one of these namespaces exists: one that isn't this lab's is never touched."""
    taken = next((name for name in names if netns.exists(name)), None)
    if taken is not None:
        owner = build.lab_of(taken)
        whose = f"lab {owner}'s" if owner else "not a lab's"
        raise LabError(f"namespace {taken}", f"the name is taken and {whose}; choose another lab name with --name")


def _build(record: LabRecord, wanted: Lab, previous: Lab | None, enforce: Enforcer) -> None:
    """Make everything as `wanted`. `previous` is the lab as it was, None at first."""
    build.reconcile(
        wanted.topology, record.namespaces, lambda: _put_in_force(record, wanted, previous, enforce, is_wired=False)
    )


def _put_in_force(record: LabRecord, wanted: Lab, previous: Lab | None, enforce: Enforcer, *, is_wired: bool) -> None:
    """Put each namespace's policy in force."""
    asked, in_force = wanted.desired, previous.desired if previous else {}
    for name, desired in asked.items():
        before, on_change = in_force.get(name), record.choices.on_change
        enforce(EnforceRequest(name, desired, before, record.time_scale, len(asked), on_change, is_wired))


def enforce_policy(request: EnforceRequest) -> None:
    """Put one namespace's policy in force.

    Raises:
        KernelError: The kernel refuses it: then nothing changed there.
    """
    unproven = replace(request.settings, prove=False)
    before = None if request.previous is None else enforcement.build(request.previous, unproven)
    proven = enforcement.build(request.wanted, request.settings, before)
    enforcement.enforce(request.netns, proven, before, request.settings)


HELD = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Make SIGTERM raise TerminatedError while the block runs, so that it undoes what Ctrl-C would."""

    def interrupt(*_: object) -> None:
        raise TerminatedError

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is done.

    Then the first of them takes effect, unless the block failed.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread is interrupted
        yield
        return
    waiting: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: waiting.append(number)) for number in HELD}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if waiting:
        signal.raise_signal(waiting[0])
