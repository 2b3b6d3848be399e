"""Workloads that came back: bindings whose namespace has ended, bound again where their name leads now.

Owns what is clear enough for that. Is given bindings, and how to find a workload. Must not know who asks, nor what is
enforced: the reconcile after it does that, as of any binding.

    a name as of `ip netns`, or a path      the namespace that is there now
    a container's name or id                the container that runs under it now
    a process, or a path below /proc        never: numbers of processes are used again
    an alias or a MAC                       attach/discover.py, by what the interface says

It need not have the interface yet: a namespace that is enforced before its link comes is closed from its first packet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sgdataplane.attach import router
from sgdataplane.attach.contained import told
from sgdataplane.attach.former import Former
from sgdataplane.attach.registry import Binding, Means
from sgdataplane.attach.workload import Naming, Workload
from sgdataplane.errors import SgDataplaneError
from sgdataplane.host.identity import held, identity_of, is_own, is_there
from sgdataplane.host.links import Links
from sgdataplane.model.state import CloudState

Locate = Callable[[Workload], str]


def bound_again(bindings: Sequence[Binding], former: Former, locate: Locate) -> tuple[Binding, ...]:
    """All bindings, some of them where their workload is now."""
    now = {binding.eni_id: binding for binding in bindings}
    for binding in bindings:
        found = _again(binding, locate) if _is_gone(binding, former) else None
        if found is not None and not any(_is_same_interface(found, other) for other in now.values()):
            now[binding.eni_id] = found
    return tuple(now.values())


def containers_of(bindings: Iterable[Binding]) -> frozenset[str]:
    """The containers that were attached by name or id."""
    found = (Workload.of(binding) for binding in bindings if binding.means is Means.ATTACH)
    return frozenset(each.value for each in found if each is not None and each.naming is Naming.CONTAINER)


def _is_gone(binding: Binding, former: Former) -> bool:
    if former.is_quiet(binding):
        return former.is_known_gone(binding)
    try:
        return not is_there(binding.identity, binding.path)
    except (SgDataplaneError, OSError):  # the reconcile says why
        return False


def _is_same_interface(one: Binding, other: Binding) -> bool:
    return (one.identity, one.ifname) == (other.identity, other.ifname)


def _again(binding: Binding, locate: Locate) -> Binding | None:
    """None if it isn't clear where it is, or it is nowhere."""
    workload = Workload.of(binding) if binding.means is Means.ATTACH else None
    if workload is None or workload.naming is Naming.PID:
        return None
    try:
        path = locate(workload)
        if workload.naming is Naming.NETNS and os.path.realpath(path).startswith("/proc/"):
            return None
        with held(path) as place:
            if is_own(place):
                return None
            found = replace(binding, path=path, identity=identity_of(place), host_end=None)
        let_go(binding)
    except (SgDataplaneError, OSError):
        return None
    except Exception as error:  # noqa: BLE001  # whatever it is, it is this namespace's
        told(error)
        return None
    return found


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
