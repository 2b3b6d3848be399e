"""Attached ENIs in host placement: the host ends of their links are in their VPC's router, and so is the policy.

Owns the order of the steps, so that no packet passes without a policy. A host end is down when it enters the router,
and goes up once the policy knows it. Only then are rules in the workload itself removed. The policy of a host end that
is in a router stays in force there, whatever its workload does with the interface.

A router that is quiet is as its previous report says, but for the links with events. So if one ENI comes, only that
ENI's workload and host end are looked at; if nothing differs, nothing is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from sgdataplane.attach import router
from sgdataplane.attach.again import give_mac, let_go
from sgdataplane.attach.agenda import Agenda
from sgdataplane.attach.compare import (
    Interfaces,
    absent,
    choose_obeying_outcome,
    find_known_eni,
    look,
    names_up,
    with_closed,
)
from sgdataplane.attach.ends import Look, Tampering, look_after, number_end
from sgdataplane.attach.registry import Binding, HostEnd, Registry, current, in_order
from sgdataplane.attach.report import EniOutcome, EniReport, Manner, NamespaceReport, Told, contain_error, get_ageing
from sgdataplane.attach.router import Ends, Hosted, Present, Where, find_other_end, make_hosted, move_in
from sgdataplane.attach.stacked import remove_stacked
from sgdataplane.enforce import Desired, Proven, check_fence, check_hold, check_kernel, enforce, remove
from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.identity import find_namespace
from sgdataplane.host.links import Links
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState

LASTING = (
    EniOutcome.IN_FORCE,
    EniOutcome.AUDITING,
    EniOutcome.CLOSED,
    EniOutcome.MISADDRESSED,
)  # until something is heard, or the state changes


@dataclass(slots=True)
class _Group:
    """The ENIs of one router, and how far they have come."""

    router: str
    entries: list[Hosted]
    desired: Desired  # what the router has to obey
    previous: Proven | None  # what it obeyed before
    previous_report: NamespaceReport | None = None  # the router's; None if nothing there is certain
    certain: frozenset[str] = frozenset()  # the host ends that are certainly as that report says
    proven: Proven | None = None  # what the router has to obey, once it is built
    error: Told | None = None  # why they can't all be there
    refused: dict[str, Told] = field(default_factory=dict)  # the ENIs that are refused alone, and why

    @property
    def pinned(self) -> dict[str, int]:
        """The indices of the router's host ends."""
        numbers = {entry.end.ifname: entry.end.numbers for entry in self.entries}
        return {ifname: found.index for ifname, found in numbers.items() if found is not None}

    @property
    def previous_ends(self) -> Ends | None:
        """The host ends that are up already, with the ENIs for which they were; None if that isn't certain."""
        desired = None if self.previous_report is None else self.previous_report.desired
        if desired is None:
            return None
        enis = {ifname: find_known_eni(desired.state, eni_id) for eni_id, ifname in desired.interfaces.items()}
        return {ifname: eni for ifname, eni in enis.items() if eni is not None and ifname in self.certain}


def reconcile_hosted(
    registry: Registry, state: CloudState, bindings: Sequence[Binding], manner: Manner, agenda: Agenda
) -> list[NamespaceReport]:
    """Make the routers of this host obey the state. The caller holds the registry's lock.

    1. Look after the routers' links, find the host ends, and record where they are.
    2. Build each router's table, move its ends in, and record that.
    3. Enforce the table, and take the ends up.
    4. Leave the routers that have no ends any more.

    Superseded bindings are only recorded.
    """
    certain = {name: _certain_ends(name, agenda) for name in sorted(_routers(bindings))}
    around = [name for name, ends in certain.items() if ends is None]
    agenda.tampering += remove_stacked(bindings, around, agenda.heard.stacked)
    there = {name: _look_after(name, bindings, ends, manner, agenda) for name, ends in certain.items()}
    placed = [_place(state, binding, there, agenda) for binding in current(bindings)]
    reports = [entry for entry in placed if isinstance(entry, NamespaceReport)]
    groups = _groups(state, [entry for entry in placed if isinstance(entry, Hosted)], manner, agenda)
    moving = _record(registry, bindings, groups, reports, agenda)
    if agenda.unrecorded is not None:  # nobody would know where the ends came from
        kept, refused = _without_unrecorded(groups, bindings, agenda.unrecorded)
        groups, reports = _groups(state, kept, manner, agenda), reports + refused
    rested = {group.router: report for group in groups if (report := _at_rest(group, agenda)) is not None}
    for group in groups:
        if group.router not in rested:
            _move_in(group, manner, agenda)
    moved = _record(registry, moving, groups, reports, agenda)
    reports += [
        rested.get(group.router) or _enforce(group, _find_waiting(group, groups), state, manner, agenda)
        for group in groups
    ]
    ends = {binding.host_end.ifname for binding in (*bindings, *moving) if binding.host_end is not None}
    for name in sorted(_routers((*bindings, *moving)) - _routers(moved)):
        router.leave(name, ends)
    return reports


def record(registry: Registry, bindings: Sequence[Binding], agenda: Agenda) -> None:
    """Store the bindings; the agenda notes if they can't be written."""
    try:
        registry.store(bindings)
    except HostError as error:
        agenda.unrecorded = error


def _without_unrecorded(
    groups: Iterable[_Group], recorded: Sequence[Binding], error: HostError
) -> tuple[list[Hosted], list[NamespaceReport]]:
    """Return the entries that are recorded as they are, and reports of the others, which stay where they are."""
    entries = [entry for group in groups for entry in group.entries]
    there = {binding.eni_id: binding for binding in current(recorded)}
    kept = [entry for entry in entries if entry.binding in recorded]
    others = [there[entry.binding.eni_id] for entry in entries if entry.binding not in recorded]
    return kept, [
        NamespaceReport(binding.identity, (EniReport(binding, EniOutcome.REFUSED),), error=error) for binding in others
    ]


def _record(
    registry: Registry,
    known: Sequence[Binding],
    groups: Iterable[_Group],
    reports: Iterable[NamespaceReport],
    agenda: Agenda,
) -> tuple[Binding, ...]:
    """Store the bindings with their host ends where they are now.

    Bindings whose namespace has ended have no host end any more.
    """
    there = [entry.binding for group in groups for entry in group.entries]
    there += [eni.binding for report in reports for eni in report.enis]
    now = in_order((*there, *(binding for binding in known if binding.superseded)))
    if now != tuple(known):
        record(registry, now, agenda)
    return now


def _routers(bindings: Iterable[Binding]) -> set[str]:
    return {binding.host_end.router for binding in bindings if binding.host_end is not None}


def _certain_ends(name: str, agenda: Agenda) -> frozenset[str] | None:
    """Return the host ends in a router that are certainly as they were; None if nothing there is certain."""
    report = agenda.report.by_key.get(name)
    return None if report is None else agenda.certain_ends(report)


def _look_after(
    name: str, bindings: Sequence[Binding], certain: frozenset[str] | None, manner: Manner, agenda: Agenda
) -> frozenset[str]:
    """Close what others put into the router, set right what they changed there, and return its host ends.

    If it is known which ends had events, only those are looked at.
    """
    report = agenda.report.by_key.get(name)
    here = [binding for binding in bindings if binding.host_end is not None and binding.host_end.router == name]
    only = None if certain is None else {end.ifname for b in here if (end := b.host_end) is not None} - certain
    if certain is not None and not only:
        return certain
    known = () if report is None else report.enis
    up = {eni.binding.eni_id for eni in known if eni.outcome.is_in_force and eni.binding in here}
    try:
        look = Look(manner.uplinks, agenda.uplinks.get(name, {}), only, up)
        looked = look_after(name, here, look)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this router only
        contain_error(error)
        return frozenset()
    agenda.uplinks[name] = looked.uplinks
    agenda.tampering += looked.tampering
    return looked.there | (certain or frozenset())


def _place(state: CloudState, binding: Binding, there: Present, agenda: Agenda) -> Hosted | NamespaceReport:
    """Return the binding with its host end, or a report of why it can't have one. A quiet workload isn't asked."""
    try:
        if agenda.is_known_gone(binding):
            return _report_ended(binding, agenda)
        if agenda.is_quiet(binding) and (where := find_other_end(binding, None, there)) is not None:
            return _make_hosted(state, binding, where)
        with find_namespace(binding.identity, binding.path) as place:
            return _find_hosted(state, binding, place, there, agenda)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this namespace only
        return NamespaceReport(binding.identity, (EniReport(binding, EniOutcome.REFUSED),), error=contain_error(error))


def _make_hosted(state: CloudState, binding: Binding, where: Where) -> Hosted:
    """Return the binding with its host end, and with the end's numbers if it is where it has to be."""
    entry = make_hosted(binding, where, router.router_of(find_known_eni(state, binding.eni_id)))
    return _with_numbers(entry) if entry.is_there else entry


def _with_numbers(entry: Hosted) -> Hosted:
    binding = number_end(entry.binding)
    assert binding.host_end is not None
    return replace(entry, binding=binding, end=binding.host_end)


def _find_hosted(
    state: CloudState, binding: Binding, place: str | None, there: Present, agenda: Agenda
) -> Hosted | NamespaceReport:
    if place is None:
        let_go(binding)
        return _report_ended(binding, agenda)
    where = find_other_end(binding, place, there)
    if where is not None:
        if binding.host_end is not None:
            _note_move(binding, binding.host_end, where, there, agenda)
        return _make_hosted(state, binding, where)
    with Links(place) as links:
        seen = links.links()
    if binding.ifname not in {link.ifname for link in seen}:
        return NamespaceReport(binding.identity, (absent(seen, find_known_eni(state, binding.eni_id), binding),))
    detail = "host placement needs a veth link whose other end is in the machine's namespace or one under /run/netns"
    raise HostError(str(binding), detail)


def _report_ended(binding: Binding, agenda: Agenda) -> NamespaceReport:
    return NamespaceReport(binding.identity, (agenda.report_ended(replace(binding, host_end=None)),))


def _note_move(binding: Binding, end: HostEnd, where: Where, there: Present, agenda: Agenda) -> None:
    """Note if others have moved the host end of a workload.

    Raises:
        HostError: The workload's link leads to another link of the router than the one that we put there.
    """
    if end.numbers is None or end.ifname in there.get(end.router, ()):
        return
    at, ifname = where
    if at == end.router:
        why = "which isn't the host end that sgdataplane put there; detach the ENI and attach it again"
        detail = f"its link leads to {ifname} of {at}, {why}"
        raise HostError(str(binding), detail)
    what = f"{end.ifname} was moved to {at} as {ifname}; moved back"
    agenda.tampering.append(Tampering(end.router, what, (binding.eni_id,)))


def _groups(state: CloudState, entries: Iterable[Hosted], manner: Manner, agenda: Agenda) -> list[_Group]:
    by_router: dict[str, list[Hosted]] = {}
    for entry in entries:
        by_router.setdefault(entry.wanted, []).append(entry)
    groups = []
    for name, group in by_router.items():
        interfaces = {entry.binding.eni_id: entry.end.ifname for entry in group}
        there = with_closed(state, interfaces)
        desired = Desired(there, interfaces, manner.options, Placement.HOST, manner.uplinks)
        made = _Group(name, group, desired, agenda.in_force.get(name))
        previous = agenda.report.by_key.get(name)
        certain = None if previous is None else agenda.certain_ends(previous)
        if certain is not None:
            moving = {entry.end.ifname for entry in group if not entry.is_there}  # in the place of a link of that name
            made.previous_report, made.certain = previous, certain - moving
        groups.append(made)
    return groups


def _at_rest(group: _Group, agenda: Agenda) -> NamespaceReport | None:
    """Return the router's report if nothing has changed there and its workloads are quiet, too. Else None."""
    is_quiet = group.router in agenda.heard.quiet
    is_quiet &= all(entry.is_there and agenda.is_quiet(entry.binding) for entry in group.entries)
    previous = group.previous_report
    if previous is None or not is_quiet or any(eni.outcome not in LASTING for eni in previous.enis):
        return None
    return agenda.report_settled(group.router, [entry.binding for entry in group.entries], group.desired.state)


def _move_in(group: _Group, manner: Manner, agenda: Agenda) -> None:
    """Build the router's table, and move the host ends in.

    Nothing moves if the table can't be built or fenced or would hold the kernel too long, or the kernel can't enforce
    it.
    """
    settings, desired = manner.settings, group.desired
    is_move = not all(entry.is_there for entry in group.entries)
    try:
        group.proven = agenda.build(group.router, desired, settings)
        router.make(group.router)
        check_kernel(group.router)
        if is_move and settings.fence and group.previous is None:
            check_fence(group.router, desired)
        if is_move:
            check_hold(group.router, group.proven, group.previous, settings)
        for number, entry in enumerate(group.entries):
            if not entry.is_there:
                group.entries[number] = _move_entry_in(entry, group)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this router only
        group.error = contain_error(error)


def _move_entry_in(entry: Hosted, group: _Group) -> Hosted:
    """Return the entry in its router. If something fails after the move, its ENI alone is refused."""
    moved = move_in(entry)
    try:
        return _with_numbers(moved)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this workload only
        group.refused[entry.binding.eni_id] = contain_error(error)
        return moved


def _find_waiting(group: _Group, groups: Iterable[_Group]) -> set[str]:
    """Return the host ends in this router that belong into another one, which refused them."""
    elsewhere = (entry.where for other in groups if other is not group for entry in other.entries)
    return {ifname for at, ifname in elsewhere if at == group.router}


def _enforce(group: _Group, waiting: set[str], state: CloudState, manner: Manner, agenda: Agenda) -> NamespaceReport:
    """Enforce the router's table, and take its host ends up.

    The ends that are `waiting` for another router go down, as this policy doesn't know them.
    """
    name, known = group.router, {entry.end.ifname: entry.binding.eni_id for entry in group.entries}
    try:
        if group.error is not None:
            raise group.error
        assert group.proven is not None
        router.take_down(name, waiting)
        with agenda.noting(str(netns.path_of(name))):
            applied = enforce(name, group.proven, group.previous, manner.settings, agenda.clearance(name))
        enis = {ifname: eni for ifname, eni_id in known.items() if (eni := find_known_eni(state, eni_id)) is not None}
        pinned = group.pinned
        there = {ifname: eni for ifname, eni in enis.items() if ifname in pinned}
        _note_changes(group, router.configure_ends(name, there, group.previous_ends, pinned), agenda)
        unbound = _names_up(group) - {"lo", *known, *manner.uplinks}
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this router only
        refused = tuple(EniReport(entry.binding, EniOutcome.REFUSED) for entry in group.entries)
        refusal = contain_error(error)
        aged = get_ageing(refusal, agenda.report.by_key.get(name))
        return NamespaceReport(name, refused, proven=group.previous, error=refusal, aged=aged)
    reports = _report_group(group, state, agenda)
    return NamespaceReport(name, reports, group.proven, applied, unbound=tuple(sorted(unbound)))


def _note_changes(group: _Group, changed: Iterable[tuple[str, str]], agenda: Agenda) -> None:
    """Note what others did since we looked after the router, and `configure_ends` has set right.

    An end that was up is down, or is part of another interface.
    """
    told = {eni_id for each in agenda.tampering for eni_id in each.enis}  # we take an end down to rename it
    previous = agenda.report.by_key.get(group.router)
    up = {eni.binding for eni in (previous.enis if previous else ()) if eni.outcome.is_in_force}
    known = {entry.end.ifname: entry.binding for entry in group.entries if entry.binding in up}
    for ifname, what in changed:
        binding = known.get(ifname)
        if binding is not None and binding.eni_id not in told:
            agenda.tampering.append(Tampering(group.router, f"{ifname} {what}", (binding.eni_id,)))


def _names_up(group: _Group) -> set[str]:
    """Return the interfaces that are up in the router, or at least those that aren't ours."""
    if group.previous_report is not None:
        return set(group.previous_report.unbound)
    with Links(group.router) as links:
        return names_up(links.links())


def _report_group(group: _Group, state: CloudState, agenda: Agenda) -> tuple[EniReport, ...]:
    """Return the report of each ENI."""
    previous = agenda.report.by_key.get(group.router)
    known = {} if previous is None else {eni.binding: eni for eni in previous.enis}
    state_then = None if previous is None or previous.desired is None else previous.desired.state
    return tuple(
        EniReport(entry.binding, EniOutcome.REFUSED, refusal=refusal)
        if (refusal := group.refused.get(entry.binding.eni_id)) is not None
        else _previous_report_of(known.get(entry.binding), group, state_then, state, agenda)
        or _look(state, entry.binding, agenda)
        for entry in group.entries
    )


def _previous_report_of(
    report: EniReport | None, group: _Group, state_then: CloudState | None, state: CloudState, agenda: Agenda
) -> EniReport | None:
    """Return the previous report, if its workload is quiet and still bound to the same ENI. Else None.

    After an event at a host end, what was wrong in its workload may be right.
    """
    if report is None or state_then is None or report.outcome not in LASTING or not agenda.is_quiet(report.binding):
        return None
    is_same = find_known_eni(state, report.binding.eni_id) == find_known_eni(state_then, report.binding.eni_id)
    end = report.binding.host_end
    is_certain = end is not None and end.ifname in group.certain
    return report if is_same and (is_certain or not report.warnings) else None


def _look(state: CloudState, binding: Binding, agenda: Agenda) -> EniReport:
    """Remove our rules from the workload itself, and report on it.

    Root of the workload may prevent that, which is only a warning.
    """
    try:
        with find_namespace(binding.identity, binding.path) as place:
            if place is None:
                return agenda.report_ended(binding)
            with agenda.noting(place):
                remove(place)
            with Links(place) as links:
                give_mac(links, binding, state)
                return look(Interfaces.read(links), state, binding)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this workload only
        eni = find_known_eni(state, binding.eni_id)
        outcome = EniOutcome.CLOSED if eni is None else choose_obeying_outcome(eni)
        return EniReport(binding, outcome, (str(contain_error(error)),))
