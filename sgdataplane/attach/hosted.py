"""Attached ENIs in host placement: the host ends of their links are in their VPC's router, and so is the policy.

Owns the order of the steps, so that no packet passes without a policy. A host end is down when it enters the router,
and goes up once the policy knows it. Only then are rules in the workload itself removed. The policy of a host end that
is in a router holds there, whatever its workload does with the interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sgdataplane.attach import router
from sgdataplane.attach.again import give_mac, let_go
from sgdataplane.attach.agenda import Agenda
from sgdataplane.attach.compare import Interfaces, look, names_up, with_closed
from sgdataplane.attach.registry import Binding, Registry, current, in_order
from sgdataplane.attach.report import EniOutcome, EniReport, Key, Manner, NamespaceReport, Told, told
from sgdataplane.attach.router import Hosted, hosted, move_in, where_is
from sgdataplane.enforce import Desired, Proven, check_fence, check_hold, check_kernel, enforce, remove
from sgdataplane.errors import HostError
from sgdataplane.host.identity import found
from sgdataplane.host.links import Links
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState


@dataclass(slots=True)
class _Group:
    """The ENIs of one router, and how far they have come. `proven`: what the router is to obey, once it is built.
    `error`: why they can't all be there."""

    router: str
    entries: list[Hosted]
    desired: Desired
    previous: Proven | None
    proven: Proven | None = None
    error: Told | None = None


def reconcile_hosted(
    registry: Registry, state: CloudState, bindings: Sequence[Binding], manner: Manner, agenda: Agenda
) -> list[NamespaceReport]:
    """1 find the host ends, and record where they are   2 build each router's table, move its ends in, and record that
    3 enforce it, and take the ends up   4 leave the routers that have no ends any more. The caller holds the registry's
    lock. Superseded bindings are only recorded."""
    placed = [_ended(each) if agenda.is_known_gone(each) else _placed(state, each) for each in current(bindings)]
    reports = [entry for entry in placed if isinstance(entry, NamespaceReport)]
    groups = _groups(state, [entry for entry in placed if isinstance(entry, Hosted)], manner, agenda.in_force)
    moving = _record(registry, bindings, groups, reports)
    for group in groups:
        _move_in(group, manner, agenda)
    moved = _record(registry, moving, groups, reports)
    reports += [_enforced(group, _waiting(group, groups), state, manner) for group in groups]
    ends = {binding.host_end.ifname for binding in (*bindings, *moving) if binding.host_end is not None}
    for name in sorted(_routers((*bindings, *moving)) - _routers(moved)):
        router.leave(name, ends)
    return reports


def _record(
    registry: Registry, known: Sequence[Binding], groups: Iterable[_Group], reports: Iterable[NamespaceReport]
) -> tuple[Binding, ...]:
    """Store the bindings with their host ends where they are now; those whose namespace has ended have none any
    more."""
    there = [entry.binding for group in groups for entry in group.entries]
    there += [eni.binding for report in reports for eni in report.enis]
    now = in_order((*there, *(binding for binding in known if binding.superseded)))
    if now != tuple(known):
        registry.store(now)
    return now


def _routers(bindings: Iterable[Binding]) -> set[str]:
    return {binding.host_end.router for binding in bindings if binding.host_end is not None}


def _placed(state: CloudState, binding: Binding) -> Hosted | NamespaceReport:
    """The binding with its host end, or a report of why it can't have one."""
    try:
        with found(binding.identity, binding.path) as place:
            return _found(state, binding, place)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this namespace only
        return NamespaceReport(binding.identity, (EniReport(binding, EniOutcome.REFUSED),), error=told(error))


def _found(state: CloudState, binding: Binding, place: str | None) -> Hosted | NamespaceReport:
    if place is None:
        let_go(binding)
        return _ended(binding)
    where = where_is(binding, place)
    if where is not None:
        return hosted(binding, where, router.router_of(state.eni.get(binding.eni_id)))
    with Links(place) as links:
        if binding.ifname not in {link.ifname for link in links.links()}:
            return NamespaceReport(binding.identity, (EniReport(binding, EniOutcome.ABSENT),))
    detail = "host placement needs a veth link whose other end is in our own namespace or one under /run/netns"
    raise HostError(str(binding), detail)


def _ended(binding: Binding) -> NamespaceReport:
    return NamespaceReport(binding.identity, (EniReport(replace(binding, host_end=None), EniOutcome.GONE),))


def _groups(
    state: CloudState, entries: Iterable[Hosted], manner: Manner, in_force: Mapping[Key, Proven]
) -> list[_Group]:
    by_router: dict[str, list[Hosted]] = {}
    for entry in entries:
        by_router.setdefault(entry.wanted, []).append(entry)
    groups = []
    for name, group in by_router.items():
        interfaces = {entry.binding.eni_id: entry.end.ifname for entry in group}
        there = with_closed(state, interfaces)
        desired = Desired(there, interfaces, manner.options, Placement.HOST, manner.uplinks)
        groups.append(_Group(name, group, desired, in_force.get(name)))
    return groups


def _move_in(group: _Group, manner: Manner, agenda: Agenda) -> None:
    """Build the router's table, and move the host ends in. Nothing moves if the table can't be built or fenced, would
    hold the kernel too long, or the kernel can't enforce it."""
    settings, desired = manner.settings, group.desired
    is_move = not all(entry.is_there for entry in group.entries)
    try:
        group.proven = agenda.built(group.router, desired, settings)
        router.make(group.router)
        check_kernel(group.router)
        if is_move and settings.fence:
            check_fence(group.router, desired)
        if is_move:
            check_hold(group.router, group.proven, group.previous, settings)
        for number, entry in enumerate(group.entries):
            group.entries[number] = move_in(entry)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this router only
        group.error = told(error)


def _waiting(group: _Group, groups: Iterable[_Group]) -> set[str]:
    """Host ends in this router that belong into another one, which refused them."""
    elsewhere = (entry.where for other in groups if other is not group for entry in other.entries)
    return {ifname for at, ifname in elsewhere if at == group.router}


def _enforced(group: _Group, waiting: set[str], state: CloudState, manner: Manner) -> NamespaceReport:
    """Enforce the router's table, and take its host ends up. `waiting` go down, as this policy doesn't know them."""
    name, known = group.router, {entry.end.ifname: entry.binding.eni_id for entry in group.entries}
    try:
        if group.error is not None:
            raise group.error
        assert group.proven is not None
        router.take_down(name, waiting)
        applied = enforce(name, group.proven, group.previous, manner.settings)
        router.fill(name, {ifname: state.eni[eni] for ifname, eni in known.items() if eni in state.eni})
        with Links(name) as links:
            unbound = names_up(links.links())
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this router only
        refused = tuple(EniReport(entry.binding, EniOutcome.REFUSED) for entry in group.entries)
        return NamespaceReport(name, refused, proven=group.previous, error=told(error))
    enis = tuple(_finished(state, entry.binding) for entry in group.entries)
    unbound -= {"lo", *known, *manner.uplinks}
    return NamespaceReport(name, enis, group.proven, applied, unbound=tuple(sorted(unbound)))


def _finished(state: CloudState, binding: Binding) -> EniReport:
    """Remove our rules from the workload itself. Its root may prevent that, which is only a warning."""
    try:
        with found(binding.identity, binding.path) as place:
            if place is None:
                return EniReport(binding, EniOutcome.GONE)
            remove(place)
            with Links(place) as links:
                give_mac(links, binding, state)
                return look(Interfaces.read(links), state, binding)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this workload only
        outcome = EniOutcome.IN_FORCE if binding.eni_id in state.eni else EniOutcome.CLOSED
        return EniReport(binding, outcome, (str(told(error)),))
