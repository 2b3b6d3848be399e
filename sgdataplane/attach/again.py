"""Workloads that came back: bindings bound again where their name leads now.

Owns what is clear enough for that. Is given bindings, and how to find a workload. Must not know who asks, nor what is
enforced: the reconcile after it does that, as of any binding.

    a name as of `ip netns`, or a path      the namespace that is there now
    a container's name or id                the container that runs under it now
    a process, or a path below /proc        never: numbers of processes are used again
    an alias or a MAC                       attach/discover.py, by what the interface says

It need not have the interface yet: a namespace that is enforced before its link comes is closed from its first packet.
The namespace before may have ended, or live on: then it is superseded, and enforced as well. Where it lives on, and the
name leads to what can't be bound, that is refused: somebody has to know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from sgdataplane.attach import router
from sgdataplane.attach.contained import told
from sgdataplane.attach.former import Former
from sgdataplane.attach.hostend import move_home
from sgdataplane.attach.registry import Binding, Means, current
from sgdataplane.attach.report import Refusal
from sgdataplane.attach.workload import Naming, Workload
from sgdataplane.errors import BindingError, SgDataplaneError
from sgdataplane.host.identity import found, held, identity_of, is_own, is_there
from sgdataplane.host.links import Links
from sgdataplane.model.state import CloudState

Locate = Callable[[Workload], str | None]  # None: nobody knows now
NOWHERE = {"InvalidContainer.NotFound", "InvalidContainer.NotRunning"}


@dataclass(frozen=True, slots=True)
class Again:
    """All bindings, some of them where their workload is now, and why others are not."""

    bindings: tuple[Binding, ...]
    refusals: tuple[Refusal, ...]


def bound_again(bindings: Sequence[Binding], former: Former, locate: Locate) -> Again:
    """What is gone and isn't found stays as it is."""
    now = {binding.eni_id: binding for binding in current(bindings)}
    before = [binding for binding in bindings if binding.superseded and not _is_gone(binding, former)]
    refusals = []
    for binding in current(bindings):
        is_gone = _is_gone(binding, former)
        led = _led(binding, locate, None if is_gone else former)
        if isinstance(led, Binding):
            led = _unowned(led, (*now.values(), *before))
        if isinstance(led, Binding):
            before = [other for other in before if not _is_same_interface(led, other)]
            before += [] if is_gone else _superseded(binding)
            now[binding.eni_id] = led
            if is_gone:
                let_go(binding)
        elif led is not None and not is_gone:
            refusals.append(led)
    return Again((*now.values(), *before), tuple(refusals))


def containers_of(bindings: Iterable[Binding]) -> frozenset[str]:
    """The containers that were attached by name or id."""
    workloads = (_named(binding) for binding in bindings)
    return frozenset(each.value for each in workloads if each is not None and each.naming is Naming.CONTAINER)


def follows_names(bindings: Iterable[Binding]) -> bool:
    """Whether one of these was attached by the name of a namespace."""
    workloads = (_named(binding) for binding in bindings)
    return any(each is not None and each.naming is Naming.NETNS for each in workloads)


def _named(binding: Binding) -> Workload | None:
    """What it was attached by, if that can lead elsewhere."""
    workload = Workload.of(binding) if binding.means is Means.ATTACH else None
    return None if workload is None or workload.naming is Naming.PID else workload


def _is_gone(binding: Binding, former: Former) -> bool:
    if former.is_quiet(binding):
        return former.is_known_gone(binding)
    try:
        return not is_there(binding.identity, binding.path)
    except (SgDataplaneError, OSError):  # the reconcile says why
        return False


def _is_same_interface(one: Binding, other: Binding) -> bool:
    return (one.identity, one.ifname) == (other.identity, other.ifname)


def _led(binding: Binding, locate: Locate, former: Former | None) -> Binding | Refusal | None:
    """Where its name leads now; why it can't be bound there; or None: there is nothing, or it is bound there. `former`:
    None if the namespace where it is bound has ended."""
    workload = _named(binding)
    if workload is None:
        return None
    try:
        path = locate(workload)
        if path is None:
            return None if former is None else _as_before(binding, former)
        if former is not None and os.stat(path).st_ino == binding.identity.inode:  # of those that live each has its own
            return None
        return _at(path, binding, workload)
    except BindingError as error:
        return None if error.problem.code in NOWHERE else _refusal(binding, error.problem.message)
    except (SgDataplaneError, OSError):  # there is nothing now
        return None
    except Exception as error:  # noqa: BLE001  # whatever it is, it is this namespace's
        return _refusal(binding, str(told(error)))


def _at(path: str, binding: Binding, workload: Workload) -> Binding | Refusal | None:
    """The same of a path."""
    with held(path) as place:
        led = replace(binding, path=path, identity=identity_of(place), host_end=None)
        if led.identity == binding.identity:
            return None
        if workload.naming is Naming.NETNS and os.path.realpath(path).startswith("/proc/"):
            return _refusal(binding, "its name leads to a process, whose number is used again")
        if is_own(place):
            return _refusal(binding, "its name leads to the machine's own namespace, or the one that sgdp runs in")
    return led


def _unowned(led: Binding, bindings: Iterable[Binding]) -> Binding | Refusal:
    owners = (other.eni_id for other in bindings if _is_same_interface(led, other) and other.eni_id != led.eni_id)
    owner = next(owners, None)
    return led if owner is None else _refusal(led, f"its name leads to an interface that is bound to {owner}")


def _as_before(binding: Binding, former: Former) -> Refusal | None:
    """What was said of it, if it is bound as it was then."""
    kept = (refusal for refusal in former.report.refusals if binding in former.report.bindings)
    return next((refusal for refusal in kept if refusal.eni_id == binding.eni_id), None)


def _refusal(binding: Binding, reason: str) -> Refusal:
    return Refusal(binding.eni_id, f"it stays bound where it is: {reason}", (str(binding),))


def _superseded(binding: Binding) -> list[Binding]:
    """It is enforced in its own namespace from now on: in host placement its end makes room for the next one's."""
    with found(binding.identity, binding.path) as place:
        move_home(binding, place)
    return [replace(binding, host_end=None, superseded=True)]


def let_go(binding: Binding) -> None:
    """Of one whose namespace has ended: its interface may live on elsewhere, with its host end in a router."""
    if binding.host_end is not None:
        router.take_down(binding.host_end.router, (binding.host_end.ifname,))


def give_mac(links: Links, binding: Binding, state: CloudState) -> None:
    """Its ENI's, if it was attached so: whoever starts a workload anew gives its interface another one."""
    eni = state.eni.get(binding.eni_id)
    if not binding.set_mac or eni is None:
        return
    if any(link.ifname == binding.ifname and link.mac != eni.mac_address for link in links.links()):
        links.set_mac(binding.ifname, eni.mac_address)
