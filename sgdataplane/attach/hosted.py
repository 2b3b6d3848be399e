"""Attached ENIs in host placement: the host ends of their links in their VPC's router, and the policy there.

Owns the order of the steps, so that no packet passes without a policy: an end is down when it comes to the router, and
is taken up when the policy knows it; what is enforced in the workload itself goes only then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sgdataplane.attach import router
from sgdataplane.attach.closed import with_closed
from sgdataplane.attach.compare import look
from sgdataplane.attach.hostend import move_in, with_host_end
from sgdataplane.attach.registry import Binding, HostEnd, Registry
from sgdataplane.attach.report import EniReport, Key, Manner, NamespaceReport, Outcome
from sgdataplane.enforce import Desired, enforce, remove
from sgdataplane.errors import ProofError, SgDataplaneError
from sgdataplane.host.identity import found
from sgdataplane.host.links import Links
from sgdataplane.model.placement import Placement
from sgdataplane.model.state import CloudState


@dataclass(frozen=True, slots=True)
class _Hosted:
    """A binding that has its host end."""

    binding: Binding
    end: HostEnd


def reconcile_hosted(
    registry: Registry, state: CloudState, bindings: Sequence[Binding], manner: Manner, former: Mapping[Key, Desired]
) -> list[NamespaceReport]:
    """1 find the host ends, and remember where they are   2 by router: move in, enforce, take up   3 leave the routers
    that have none any more. The caller holds the registry's lock."""
    placed = [_placed(state, binding) for binding in bindings]
    registry.store(entry if isinstance(entry, Binding) else entry.enis[0].binding for entry in placed)
    reports = [entry for entry in placed if isinstance(entry, NamespaceReport)]
    groups: dict[str, list[_Hosted]] = {}
    for entry in placed:
        if isinstance(entry, Binding) and entry.host_end is not None:
            groups.setdefault(entry.host_end.router, []).append(_Hosted(entry, entry.host_end))
    for name, group in groups.items():
        reports.append(_reconcile_router(name, state, group, manner, former.get(name)))
    for name in sorted(_routers(bindings) - _routers(_bindings(placed))):
        router.leave(name)
    return reports


def _bindings(placed: Iterable[Binding | NamespaceReport]) -> Iterator[Binding]:
    """Those that are there, also where they could not be asked for their host end."""
    for entry in placed:
        if isinstance(entry, Binding):
            yield entry
        else:
            yield from (eni.binding for eni in entry.enis if eni.outcome is not Outcome.GONE)


def _routers(bindings: Iterable[Binding]) -> set[str]:
    return {binding.host_end.router for binding in bindings if binding.host_end is not None}


def _placed(state: CloudState, binding: Binding) -> Binding | NamespaceReport:
    """The binding with its host end, or the report that it can't have one."""
    with found(binding.identity, binding.path) as place:
        if place is None:
            return NamespaceReport(binding.identity, (EniReport(binding, Outcome.GONE),))
        try:
            with Links(place) as links:
                if binding.ifname not in {link.ifname for link in links.links()}:
                    return NamespaceReport(binding.identity, (EniReport(binding, Outcome.ABSENT),))
            return with_host_end(binding, place, router.router_of(state.eni.get(binding.eni_id)))
        except SgDataplaneError as error:
            return NamespaceReport(binding.identity, (EniReport(binding, Outcome.REFUSED),), error=error)


def _reconcile_router(
    name: str, state: CloudState, group: Sequence[_Hosted], manner: Manner, former: Desired | None
) -> NamespaceReport:
    interfaces = {hosted.binding.eni_id: hosted.end.ifname for hosted in group}
    state_there = with_closed(state, interfaces)
    desired = Desired(state_there, interfaces, manner.options, Placement.HOST, manner.uplinks)
    known = {hosted.end.ifname: state.eni[eni] for hosted in group if (eni := hosted.binding.eni_id) in state.eni}
    try:
        desired.table(manner.settings.time_scale, former)  # what can't be compiled moves nothing
        router.make(name)
        for hosted in group:
            with found(hosted.binding.identity, hosted.binding.path) as place:
                if place is not None:
                    move_in(hosted.binding, place)
        applied = enforce(name, desired, former, manner.settings)
        router.fill(name, known)
        enis = tuple(_finished(state, hosted.binding) for hosted in group)
        with Links(name) as links:
            unbound = {link.ifname for link in links.links() if link.is_up}
    except (SgDataplaneError, ProofError) as error:
        refused = tuple(EniReport(hosted.binding, Outcome.REFUSED) for hosted in group)
        return NamespaceReport(name, refused, desired=former, error=error)
    unbound -= {"lo", *interfaces.values(), *manner.uplinks}
    return NamespaceReport(name, enis, desired, applied, unbound=tuple(sorted(unbound)))


def _finished(state: CloudState, binding: Binding) -> EniReport:
    """What of instance placement was in the workload is taken away."""
    with found(binding.identity, binding.path) as place:
        if place is None:
            return EniReport(binding, Outcome.GONE)
        remove(place)
        return look(place, state, binding)
