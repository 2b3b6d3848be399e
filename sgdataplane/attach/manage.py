"""The commands attach, detach and clear: they make and undo bindings.

Owns what is refused. Must not know how a policy is put in force: attaching alone affects no packet, the next reconcile
does. Only an attachment of a container runtime closes its namespace at once; a reconcile then opens what the policy
accepts.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace

from sgdataplane.attach.again import take_mac
from sgdataplane.attach.compare import Interfaces, mac_difference, warnings_of, with_closed
from sgdataplane.attach.ends import Look, look_after
from sgdataplane.attach.exposure import find_exposed
from sgdataplane.attach.names import ATTACHMENT
from sgdataplane.attach.owncommits import CommitFile
from sgdataplane.attach.registry import Binding, Means, Registry, current, find_unfit_name, is_same_interface, refuse
from sgdataplane.attach.report import contain_error
from sgdataplane.attach.router import leave, move_home
from sgdataplane.attach.workload import Workload
from sgdataplane.enforce import Desired, build, enforce, is_enforced, remove
from sgdataplane.errors import HostError
from sgdataplane.host.identity import Identity, find_namespace, hold_namespace, identity_of, is_own, is_there
from sgdataplane.host.linkentry import Link
from sgdataplane.host.links import Links
from sgdataplane.model.choices import ON_HOSTS
from sgdataplane.model.modes import Mode
from sgdataplane.model.state import CloudState, Eni


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """A request to bind an interface of a namespace to an ENI."""

    eni_id: str
    workload: Workload
    ifname: str
    state: CloudState | None = None
    """The state, which must have the ENI; None: there is none yet."""
    set_mac: bool = False
    """Give the interface the ENI's MAC. Without it, the interface has to have that already."""
    attachment: str = ""
    """NETWORK/CONTAINER or oci:CONTAINER of a runtime.

    Such an interface may come later, and passes nothing until its policy is in force.
    """
    mode: Mode = Mode.ENFORCE
    """Audit puts the ENI into audit mode, whatever the state says."""
    pod: str = ""
    """NAMESPACE/NAME of its Kubernetes pod, if the runtime says it."""

    def binding_at(self, path: str, identity: Identity) -> Binding:
        """Return the binding that is asked for, in that namespace."""
        named, means = (str(self.workload), Means.ATTACH)
        if self.attachment:
            named, means = describe_attachment(self.attachment), Means.RUNTIME
        return Binding(
            self.eni_id,
            self.ifname,
            named,
            path,
            identity,
            means=means,
            set_mac=self.set_mac,
            mode=self.mode,
            pod=self.pod,
        )


def describe_attachment(attachment: str) -> str:
    """Return the words for the namespace of an attachment of a container runtime."""
    return f"{ATTACHMENT}{attachment}"


@dataclass(frozen=True, slots=True)
class Attached:
    """A binding as it is now."""

    binding: Binding
    previous: Binding | None  # the same interface, if it was bound to this ENI already
    warnings: tuple[str, ...] = ()  # where the interface and the ENI differ

    @property
    def is_new(self) -> bool:
        """Whether it wasn't bound like this already."""
        return self.previous is None

    @property
    def has_other_mode(self) -> bool:
        """Whether it was bound already, in another mode."""
        return self.previous is not None and self.previous.mode is not self.binding.mode


@dataclass(frozen=True, slots=True)
class Detached:
    """A binding that was undone."""

    binding: Binding
    is_gone: bool
    """Whether its namespace had ended."""
    others: int
    """How many ENIs have their rules in the same namespace.

    If there are any, the rules stay. After the next reconcile this interface passes nothing, or isn't there.
    """
    end_at: str = ""
    """Where the host end is if it could not go home, else ""."""
    left: str = ""
    """What of ours stays, in words."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """The result of detaching everything."""

    bindings: int  # how many were undone
    left: tuple[str, ...] = ()  # what of ours stays, in words
    refused: tuple[tuple[str, str], ...] = ()  # pairs of an ENI whose binding wasn't undone and the reason


def attach(registry: Registry, request: AttachRequest) -> Attached:
    """Bind as requested. What is bound like this already stays bound.

    Raises:
        BindingError: It can't be bound like this. Nothing was changed.
    """
    eni = None if request.state is None else request.state.eni[request.eni_id]
    path, commits = request.workload.locate(), CommitFile(registry.folder)
    with registry.lock(), ExitStack() as stack:
        place = _hold_namespace(stack, request.workload, path)
        binding = request.binding_at(path, identity_of(place))
        links = stack.enter_context(Links(place))
        link = _link(binding, links.links())
        bindings = registry.load()
        kept, previous = _beside(bindings, binding)
        if eni and link:
            _require_mac(binding, eni, link, set_mac=request.set_mac)
        if previous is not None:
            binding = replace(binding, host_end=previous.host_end)
        registry.store((*kept, binding))
        warnings = _fit(binding, eni, link, links) if eni and link else ()
        if request.attachment:
            with commits.note_commits(place):
                _close(place, binding)
        for ended in set(bindings) - {*kept, previous}:
            _release(ended, commits, is_last=not any(_is_enforced_with(ended, other) for other in kept))
    reach = (f"{binding}: {line}" for line in find_exposed((binding,)).values())
    return Attached(binding, previous, (*warnings, *reach))


def _hold_namespace(stack: ExitStack, workload: Workload, path: str) -> str:
    """Return a path to the namespace that stays valid while we work.

    Raises:
        BindingError: There is no such namespace, or it is our own.
    """
    try:
        place = stack.enter_context(hold_namespace(path))
        identity_of(place)
    except HostError as error:
        refuse(str(workload), "InvalidNamespace.NotFound", error.detail, path, workload.wanted)
    if is_own(place):
        message = "that is the machine's own namespace, or the one that sgdp runs in"
        refuse(str(workload), "InvalidNamespace.Own", message, path, "the namespace of a workload")
    return place


def _close(place: str, binding: Binding) -> None:
    """Close a namespace until a reconcile enforces a policy.

    Where one is in force, a new interface passes nothing anyway.
    """
    if not is_enforced(place, fence=False):
        closed = with_closed(CloudState(), (binding.eni_id,))
        enforce(place, build(Desired(closed, {binding.eni_id: binding.ifname}, ON_HOSTS.options)))


def _link(binding: Binding, links: Collection[Link]) -> Link | None:
    """Return the interface; None if it may come later.

    Raises:
        BindingError: There is no such interface, or rules can't name it.
    """
    fit = {link.ifname: link for link in links if link.ifname != "lo"}
    may_come_later = binding.means is Means.RUNTIME and binding.ifname != "lo"
    if binding.ifname not in fit and not may_come_later:
        message = "loopback can't be an ENI" if binding.ifname == "lo" else "the namespace has no such interface"
        meant = sorted(name for name, link in fit.items() if link.is_up) or sorted(fit)
        expected = f"one of {', '.join(meant)}" if meant else "a namespace that has an interface"
        refuse(binding.named, "InvalidInterface.NotFound", message, binding.ifname, expected)
    unfit = find_unfit_name(binding)
    if unfit is not None:
        raise unfit
    return fit.get(binding.ifname)


def _beside(bindings: Collection[Binding], new: Binding) -> tuple[tuple[Binding, ...], Binding | None]:
    """Return the bindings that stay beside the new one, and the one that is the same already, if any.

    Raises:
        BindingError: The interface or the ENI is bound to another one.
    """
    same = next((other for other in bindings if is_same_interface(other, new)), None)
    if same is not None and same.eni_id != new.eni_id:
        expected = f"`sgdp detach --eni {same.eni_id}` first"
        refuse(new.named, "InvalidInterface.Bound", "the interface is bound to another ENI", new.ifname, expected)
    for other in bindings:
        is_other = other.eni_id == new.eni_id and other is not same
        if is_other and is_there(other.identity, other.path):
            expected = f"`sgdp detach --eni {new.eni_id}` first"
            refuse("--eni", "InvalidEniId.Bound", f"the ENI is bound to {other}", new.eni_id, expected)
    return tuple(other for other in bindings if other.eni_id != new.eni_id), same


def _require_mac(binding: Binding, eni: Eni, link: Link, *, set_mac: bool) -> None:
    """Refuse a MAC that isn't the ENI's, if it isn't to be set.

    Raises:
        BindingError: It is refused.
    """
    if mac_difference(link, eni) and not set_mac:
        expected = f"{eni.mac_address}; --set-mac gives it to the interface"
        refuse(
            str(binding), "InvalidMacAddress.Differs", "the interface doesn't have the ENI's MAC", link.mac, expected
        )


def _fit(binding: Binding, eni: Eni, link: Link, links: Links) -> tuple[str, ...]:
    """Set the MAC if it differs; return warnings about the addresses."""
    if mac_difference(link, eni):
        take_mac(links, link, eni.mac_address)
        link = replace(link, mac=eni.mac_address)
    return tuple(f"{binding}: {line}" for line in warnings_of(link, Interfaces.read(links), eni))


def detach(registry: Registry, eni_id: str) -> Detached:
    """Undo a binding, and the ones that it superseded.

    With the last binding of a namespace our rules go, and nothing is judged there any more. In host placement the
    link's host end moves back to where it was, and is down there.

    Raises:
        BindingError: The ENI isn't attached.
    """
    commits = CommitFile(registry.folder)
    with registry.lock():
        bindings = registry.load()
        _right_names(bindings)
        kept = tuple(other for other in bindings if other.eni_id != eni_id)
        if len(kept) == len(bindings):
            known = ", ".join(binding.eni_id for binding in current(bindings))
            expected = f"one of {known}" if known else "an attached ENI, but none is attached"
            refuse("--eni", "InvalidEniId.NotFound", "the ENI is not attached", eni_id, expected)
        for superseded in set(bindings) - {*kept, *current(bindings)}:
            _release(superseded, commits, is_last=not any(_is_enforced_with(superseded, other) for other in kept))
        (binding,) = (other for other in current(bindings) if other.eni_id == eni_id)
        is_gone = not is_there(binding.identity, binding.path)
        others = sum(_is_enforced_with(binding, other) for other in kept)
        end_at, left = _release(binding, commits, is_last=not others)
        registry.store(kept)  # last: after a crash before this, the binding still leads to the rules
    return Detached(binding, is_gone, others, end_at, left)


def _right_names(bindings: Collection[Binding]) -> None:
    """Give host ends their own names back, if others have changed them: what follows goes by names."""
    ends = [(binding, binding.host_end) for binding in bindings if binding.host_end is not None]
    for router in sorted({end.router for _, end in ends}):
        here = [(binding, end.ifname) for binding, end in ends if end.router == router]
        try:
            look_after(router, [binding for binding, _ in here], Look(only=[name for _, name in here]))
        except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this router only
            contain_error(error)


def _is_enforced_with(one: Binding, other: Binding) -> bool:
    """Whether the rules of both are in one namespace."""
    if one.host_end is None or other.host_end is None:
        return one.host_end is other.host_end and one.identity == other.identity
    return one.host_end.router == other.host_end.router


def _release(binding: Binding, commits: CommitFile, *, is_last: bool) -> tuple[str, str]:
    """Undo what was done for a binding.

    Return where its host end is if it could not go home, and what of ours stays, in words; "" for none.
    """
    end = binding.host_end
    with find_namespace(binding.identity, binding.path) as place:
        if end is not None:
            end_at = move_home(binding, place)
            return end_at, leave(end.router, (end.ifname,)) if is_last else ""
        if place is not None and is_last:
            with commits.note_commits(place):
                remove(place)
    return "", ""


def clear(registry: Registry) -> Cleared:
    """Detach everything that is attached. What fails stays attached, and doesn't stop the rest."""
    commits = CommitFile(registry.folder)
    with registry.lock():
        todo = list(registry.load())
        _right_names(todo)
        kept: list[Binding] = []
        left: list[str] = []
        refused: list[tuple[str, str]] = []
        done = 0
        while todo:
            binding = todo.pop(0)
            is_last = not any(_is_enforced_with(binding, other) for other in (*kept, *todo))
            try:
                left.append(_release(binding, commits, is_last=is_last)[1])
                done += not binding.superseded
            except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this namespace only
                kept.append(binding)
                refused.append((binding.eni_id, str(contain_error(error))))
        if kept:
            registry.store(kept)
        else:
            registry.forget()
    return Cleared(done, tuple(line for line in left if line), tuple(refused))
