"""Workloads that return: bindings are bound again where their names lead now.

Owns which names are safe for that. Its input is bindings, and how to find a workload. Must not know who asks, or what
is enforced: the reconcile after it treats these bindings like any other.

    a name as of `ip netns`, or a path      bound again in the namespace that is there now
    a container's name or id                bound again in the container that runs under it now
    a process, or a path below /proc        never, as process numbers are used again
    an alias or a MAC                       attach/discover.py does that, by the interface's label
    an attachment of a container runtime    never, as the runtime makes a new one for each namespace; so it ends with
                                            its namespace, whether the runtime has said so or not

The namespace need not have the interface yet: if rules come before the link, it is closed from its first packet. If the
previous namespace lives on, its binding is superseded, and its rules stay. If it lives on and the name leads to a place
that can't be bound, that is refused and reported, so that somebody learns of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sgdataplane.attach import router
from sgdataplane.attach.agenda import Agenda
from sgdataplane.attach.compare import find_known_eni
from sgdataplane.attach.containers import STOPPED
from sgdataplane.attach.registry import Binding, Means, current, is_same_interface
from sgdataplane.attach.report import Refusal, contain_error
from sgdataplane.attach.router import move_home
from sgdataplane.attach.workload import Naming, Workload
from sgdataplane.errors import BindingError, SgDataplaneError
from sgdataplane.host import netns
from sgdataplane.host.identity import find_namespace, hold_namespace, identity_of, is_own, is_there
from sgdataplane.host.linkentry import Link
from sgdataplane.host.links import InterfaceAddress, Links
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import link_local

Locate = Callable[[Workload], str | None]  # None: unknown at the moment
LINK_LOCAL_LENGTH = 64
NOWHERE = {"InvalidContainer.NotFound", "InvalidContainer.NotRunning", STOPPED}


@dataclass(frozen=True, slots=True)
class Again:
    """The result of binding again."""

    bindings: tuple[Binding, ...]
    """All of them, some bound where their workload is now."""
    refusals: tuple[Refusal, ...]
    """Why others weren't."""
    ended: tuple[Binding, ...] = ()
    """What a container runtime had bound in namespaces that have ended; not among the bindings."""


def bind_again(bindings: Sequence[Binding], agenda: Agenda, locate: Locate) -> Again:
    """Bind again what can be found.

    A binding whose namespace has ended and whose workload isn't found stays as it is.
    """
    now = {binding.eni_id: binding for binding in current(bindings)}
    superseded = [binding for binding in bindings if binding.superseded and not _is_gone(binding, agenda)]
    refusals, ended = [], []
    for binding in current(bindings):
        is_gone = _is_gone(binding, agenda)
        if is_gone and binding.means is Means.RUNTIME:
            let_go(binding)
            ended.append(now.pop(binding.eni_id))
            continue
        rebound = _follow_name(binding, locate, agenda, is_gone=is_gone)
        if isinstance(rebound, Binding):
            rebound = _refuse_if_owned(rebound, (*now.values(), *superseded))
        if isinstance(rebound, Binding):
            superseded = [other for other in superseded if not is_same_interface(rebound, other)]
            superseded += [] if is_gone else _supersede(binding)
            now[binding.eni_id] = rebound
            if is_gone:
                let_go(binding)
        elif rebound is not None and not is_gone:
            refusals.append(rebound)
    return Again((*now.values(), *superseded), tuple(refusals), tuple(ended))


def containers_of(bindings: Iterable[Binding]) -> frozenset[str]:
    """Return the containers that were attached by name or id."""
    workloads = (_find_workload(binding) for binding in bindings)
    return frozenset(each.value for each in workloads if each is not None and each.naming is Naming.CONTAINER)


def follows_names(bindings: Iterable[Binding], names: Collection[str]) -> bool:
    """Whether one of these was attached by one of these names of namespaces, or by a path that may lead to any."""
    workloads = (_find_workload(binding) for binding in bindings)
    paths = (Path(each.value) for each in workloads if each is not None and each.naming is Naming.NETNS)
    return any(path.parent != netns.RUN_DIR or path.name in names for path in paths)


def _find_workload(binding: Binding) -> Workload | None:
    """Return the workload by which it was attached; None if that name can't lead elsewhere later."""
    workload = Workload.of(binding) if binding.means is Means.ATTACH else None
    return None if workload is None or workload.naming is Naming.PID else workload


def _is_gone(binding: Binding, agenda: Agenda) -> bool:
    if agenda.is_quiet(binding):
        return agenda.is_known_gone(binding)
    try:
        return not is_there(binding.identity, binding.path)
    except (SgDataplaneError, OSError):  # the reconcile reports why
        return False


def _follow_name(binding: Binding, locate: Locate, agenda: Agenda, *, is_gone: bool) -> Binding | Refusal | None:
    """Return the binding where its name leads now, or why it can't be bound there.

    It is None if nothing is there, or it is bound there already. `is_gone` is whether the namespace where it is bound
    has ended. If so, the agenda notes what its engine says.
    """
    workload = _find_workload(binding)
    if workload is None:
        return None
    try:
        path = locate(workload)
        if path is None:
            return None if is_gone else _as_before(binding, agenda)
        if not is_gone and os.stat(path).st_ino == binding.identity.inode:  # no two living namespaces share an inode
            return None
        return _at(path, binding, workload)
    except BindingError as error:
        if error.problem.code not in NOWHERE:
            return _refusal(binding, error.problem.message)
        agenda.said[binding.eni_id] = error
        return None
    except (SgDataplaneError, OSError):  # nothing is there now
        return None
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this namespace only
        return _refusal(binding, str(contain_error(error)))


def _at(path: str, binding: Binding, workload: Workload) -> Binding | Refusal | None:
    """Return the binding at a path, or why it can't be there; None if it is there already."""
    with hold_namespace(path) as place:
        rebound = replace(binding, path=path, identity=identity_of(place), host_end=None)
        if rebound.identity == binding.identity:
            return None
        if workload.naming is Naming.NETNS and os.path.realpath(path).startswith("/proc/"):
            return _refusal(binding, "its name leads to a process, and process numbers are used again")
        if is_own(place):
            return _refusal(binding, "its name leads to the machine's own namespace, or the one that sgdp runs in")
    return rebound


def _refuse_if_owned(rebound: Binding, bindings: Iterable[Binding]) -> Binding | Refusal:
    same = (other.eni_id for other in bindings if is_same_interface(rebound, other))
    owner = next((eni_id for eni_id in same if eni_id != rebound.eni_id), None)
    return rebound if owner is None else _refusal(rebound, f"its name leads to an interface that is bound to {owner}")


def _as_before(binding: Binding, agenda: Agenda) -> Refusal | None:
    """Return the previous refusal, if its binding is the same as then."""
    kept = (refusal for refusal in agenda.report.refusals if binding in agenda.report.bindings)
    return next((refusal for refusal in kept if refusal.eni_id == binding.eni_id), None)


def _refusal(binding: Binding, reason: str) -> Refusal:
    return Refusal(binding.eni_id, f"it stays bound where it is: {reason}", (str(binding),))


def _supersede(binding: Binding) -> list[Binding]:
    """Return the binding as superseded: from now on its rules are in its own namespace.

    In host placement, its host end moves home and makes room for the new one.
    """
    with find_namespace(binding.identity, binding.path) as place:
        move_home(binding, place)
    return [replace(binding, host_end=None, superseded=True)]


def let_go(binding: Binding) -> None:
    """Take down the host end of a binding whose namespace has ended.

    The link may live on with its interface elsewhere.
    """
    if binding.host_end is not None:
        router.take_down(binding.host_end.router, (binding.host_end.ifname,))


def give_mac(links: Links, binding: Binding, state: CloudState) -> None:
    """Give the interface its ENI's MAC, if it was attached so; a restarted workload's interface has another one."""
    eni = find_known_eni(state, binding.eni_id)
    if not binding.set_mac or eni is None:
        return
    link = links.link(binding.ifname)
    if link is not None and link.mac != eni.mac_address:
        take_mac(links, link, eni.mac_address)


def take_mac(links: Links, link: Link, mac: str) -> None:
    """Give the interface this MAC, and its link-local address in place of the former MAC's.

    The kernel makes that address only when an interface goes up. Packets from the former address count as spoofed.
    """
    links.set_mac(link.ifname, mac)
    former = InterfaceAddress(link.ifname, link_local(link.mac), LINK_LOCAL_LENGTH)
    if former in links.addresses():
        links.add_address(replace(former, address=link_local(mac)))
        links.delete_address(former)
