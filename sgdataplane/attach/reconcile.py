"""The reconcile, which makes this host's attached ENIs obey a state.

Owns the order of the steps, and instance placement: per namespace, desired -> built -> enforced. Must not know who
asks: `sgdp apply` once, or the agent in each cycle.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from sgdataplane.attach.again import Locate, bind_again, give_mac
from sgdataplane.attach.agenda import Agenda
from sgdataplane.attach.compare import Interfaces, look, names_up, with_closed
from sgdataplane.attach.helper import helper, is_worth
from sgdataplane.attach.hosted import reconcile_hosted, record
from sgdataplane.attach.owncommits import CommitFile
from sgdataplane.attach.registry import Binding, Registry, current, find_unfit_name, in_order, refuse
from sgdataplane.attach.report import (
    DEFAULT_MANNER,
    EniOutcome,
    EniReport,
    HostReport,
    Key,
    Manner,
    NamespaceReport,
    contain_error,
    get_ageing,
)
from sgdataplane.attach.router import leave
from sgdataplane.attach.workload import Workload
from sgdataplane.collection import no_collection
from sgdataplane.enforce import Desired, TableSummary, enforce, is_in_force, trim_encoded
from sgdataplane.errors import ContainedError, HostError
from sgdataplane.host.identity import find_namespace
from sgdataplane.host.links import Links
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState

OWN_SHARE = 1 / 2  # beside a helper


def reconcile(
    registry: Registry,
    state: CloudState,
    manner: Manner = DEFAULT_MANNER,
    agenda: Agenda | None = None,
    locate: Locate = Workload.locate,
) -> HostReport:
    """Make everything that is attached obey the state. A namespace that fails doesn't keep others from it.

    What was attached by a name is bound where the name leads now (`locate`). If that fails, it stays bound and the
    report says why. `agenda` is what the caller knows since the previous reconcile; without it, commits are noted for
    the agent.

    Raises:
        BindingError: Instance placement is asked for while some ENIs are in host placement. Nothing is changed.
    """
    agenda = agenda or Agenda(noting=CommitFile(registry.folder).note_commits)
    with registry.lock(), no_collection():  # what is built stays, and is looked through again and again
        previous = registry.load()
        again = bind_again(previous, agenda, locate)
        bindings = in_order(again.bindings)
        if bindings != previous:
            record(registry, bindings, agenda)
        state = agenda.modes.of(state, current(bindings), manner.audit, time.time())
        if manner.placement is Placement.HOST:
            superseded = [binding for binding in bindings if binding.superseded]
            reports = reconcile_hosted(registry, state, bindings, manner, agenda)
            reports += _reconcile_workloads(state, superseded, replace(manner, placement=Placement.INSTANCE), agenda)
        else:
            _require_instance_placement(bindings)
            reports = _reconcile_workloads(state, bindings, manner, agenda)
        _leave_routers(again.ended, reports)
        if agenda.unrecorded is not None:
            reports = _refuse_unrecorded(reports, registry.load(), agenda.unrecorded)
    trim_encoded()
    return HostReport(
        tuple(reports),
        again.refusals,
        again.ended,
        "" if agenda.unrecorded is None else str(agenda.unrecorded),
        agenda.uplinks,
        tuple(agenda.tampering),
        state,
    )


def _refuse_unrecorded(
    reports: Iterable[NamespaceReport], recorded: Collection[Binding], error: HostError
) -> list[NamespaceReport]:
    """Return the reports; ENIs whose bindings aren't in the record are refused.

    What was enforced for them stays in force: otherwise a workload that starts again would be open because a disk is
    full. All other ENIs are as usual.
    """

    def refuse_if_unrecorded(eni: EniReport) -> EniReport:
        is_recorded = eni.binding in recorded or eni.outcome.is_ended
        return eni if is_recorded else replace(eni, outcome=EniOutcome.REFUSED, refusal=eni.refusal or error)

    return [replace(report, enis=tuple(map(refuse_if_unrecorded, report.enis))) for report in reports]


def _leave_routers(ended: Iterable[Binding], reports: Iterable[NamespaceReport]) -> None:
    """Remove the routers in which only these had an end."""
    ends = [binding.host_end for binding in ended if binding.host_end is not None]
    for name in sorted({end.router for end in ends} - {report.key for report in reports}):
        leave(name, [end.ifname for end in ends])


def _require_instance_placement(bindings: Sequence[Binding]) -> None:
    hosted = [binding.eni_id for binding in bindings if binding.host_end is not None]
    if hosted:
        expected = "host; or run `sgdp detach` first, which moves the host ends of their links back"
        message = "there are ENIs in host placement"
        refuse("--placement", "InvalidPlacement.Differs", message, ", ".join(hosted), expected)


def _reconcile_workloads(
    state: CloudState, bindings: Sequence[Binding], manner: Manner, agenda: Agenda
) -> list[NamespaceReport]:
    """Report on each namespace, after a look at those that may not be as they should and whose turn has come."""
    groups: dict[Key, list[Binding]] = {}
    for binding in bindings:
        groups.setdefault(binding.identity, []).append(binding)
    state = with_closed(state, {binding.eni_id for binding in bindings})
    work = {key: partial(_reconcile_workload, state, of, manner, agenda) for key, of in groups.items()}
    spent_s = 0.0  # by looks because of events

    def report_one(key: Key) -> NamespaceReport:
        nonlocal spent_s
        report = agenda.report_settled(key, groups[key], state, spent_s) or agenda.look(key, work[key])
        spent_s += report.looked_s or 0.0
        return report

    def report_all(keys: Iterable[Key]) -> dict[Key, NamespaceReport]:
        return {key: report_one(key) for key in keys}

    order = agenda.order(groups, state)
    due = agenda.due(order, state)
    if agenda.helped is None or not is_worth(sum(map(len, due))):
        reports = report_all(order)
    else:
        theirs = {key for some in due for key in _helpers_share(some, groups, state)}
        with helper({key: work[key] for key in order if key in theirs}, agenda.between, agenda.helped) as handed:
            reports = report_all([key for key in order if key not in theirs])
        for key, report in handed.reports.items():
            with suppress(Exception):  # whatever it is, we visit the namespace ourselves
                reports[key] = _with_proven(report, handed.summaries[key], state, manner, agenda)
        reports |= report_all([key for key in order if key in theirs and key not in reports])
    return [reports[key] for key in groups]


def _helpers_share(keys: Iterable[Key], groups: Mapping[Key, Sequence[Binding]], state: CloudState) -> Sequence[Key]:
    """Return the namespaces that a helper visits.

    ENIs with the same groups stay together, since a process proves the rules of a group once.
    """

    def profiles(key: Key) -> list[tuple[str, ...]]:
        return [state.eni[binding.eni_id].security_group_ids for binding in groups[key]]

    every = sorted(keys, key=profiles)
    return every[round(len(every) * OWN_SHARE) :]


def _with_proven(
    report: NamespaceReport, known: TableSummary, state: CloudState, manner: Manner, agenda: Agenda
) -> NamespaceReport:
    """Return a helper's report, with what it proved.

    As at a restart, we build that only if somebody needs more than its summary.
    """
    desired = Desired(state, {eni.binding.eni_id: eni.binding.ifname for eni in report.enis}, manner.options)
    return replace(report, proven=agenda.build(report.key, desired, manner.settings, known))


def _reconcile_workload(
    state: CloudState, bindings: Sequence[Binding], manner: Manner, agenda: Agenda
) -> NamespaceReport:
    key = bindings[0].identity
    try:
        with find_namespace(key, bindings[0].path) as place:
            if place is None:
                return NamespaceReport(key, tuple(agenda.report_ended(binding) for binding in bindings))
            return _enforce(place, state, bindings, manner, agenda)
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this namespace only
        refusal = contain_error(error)
        kept = None if isinstance(refusal, ContainedError) else agenda.in_force.get(key)  # else we know nothing
        refused = tuple(EniReport(binding, EniOutcome.REFUSED) for binding in bindings)
        known = get_ageing(refusal, agenda.report.by_key.get(key))
        return NamespaceReport(key, refused, proven=kept, error=refusal, aged=known)


def _enforce(
    place: str, state: CloudState, bindings: Sequence[Binding], manner: Manner, agenda: Agenda
) -> NamespaceReport:
    """Enforce a namespace's policy (desired, built, enforced), look at its interfaces, and report."""
    key = bindings[0].identity
    refusals = {binding.eni_id: unfit for binding in bindings if (unfit := find_unfit_name(binding)) is not None}
    if len(refusals) == len(bindings):
        raise refusals[bindings[0].eni_id]
    interfaces = {binding.eni_id: binding.ifname for binding in bindings if binding.eni_id not in refusals}
    proven = agenda.build(key, Desired(state, interfaces, manner.options), manner.settings)
    with agenda.noting(place):
        applied = enforce(place, proven, agenda.in_force.get(key), manner.settings, agenda.clearance(key))
    with Links(place) as links:
        for binding in bindings:
            give_mac(links, binding, state)
        seen = Interfaces.read(links)
    enis = tuple(
        EniReport(binding, EniOutcome.REFUSED, refusal=refusals[binding.eni_id])
        if binding.eni_id in refusals
        else look(seen, state, binding)
        for binding in bindings
    )
    unbound = names_up(seen.links) - {"lo", *interfaces.values()}
    return NamespaceReport(key, enis, proven, applied, unbound=tuple(sorted(unbound)), links=seen.links)


def is_as_reported(report: NamespaceReport) -> bool:
    """Whether a workload's namespace is certainly as this report of instance placement says.

    Neither nftables nor links may have changed. It is False if that can't be told.
    """
    if isinstance(report.key, str) or report.proven is None or not report.is_settled:
        return False
    try:
        with find_namespace(report.key, report.enis[0].binding.path) as place:
            if place is None or not is_in_force(place, report.proven):
                return False
            with Links(place) as links:
                return links.links() == report.links
    except Exception as error:  # noqa: BLE001  # whatever it is, it concerns this namespace only
        contain_error(error)
        return False
