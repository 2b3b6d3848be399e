"""This host's attached ENIs made to obey a state.

Owns the order: what is locked, which placement is asked, what is forgotten. Must not know who asks: `sgdp apply` once,
or a daemon on every cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sgdataplane.attach.again import Locate, bound_again, give_mac
from sgdataplane.attach.closed import with_closed
from sgdataplane.attach.compare import Interfaces, look, names_up
from sgdataplane.attach.contained import told
from sgdataplane.attach.former import Former
from sgdataplane.attach.hosted import reconcile_hosted
from sgdataplane.attach.registry import Binding, Registry, in_order, refuse, unfit_name
from sgdataplane.attach.report import DEFAULT_MANNER, EniReport, HostReport, Key, Manner, NamespaceReport, Outcome
from sgdataplane.attach.workload import Workload
from sgdataplane.enforce import Desired, enforce
from sgdataplane.errors import ContainedError
from sgdataplane.host.identity import found
from sgdataplane.host.links import Links
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState


def reconcile(
    registry: Registry,
    state: CloudState,
    manner: Manner = DEFAULT_MANNER,
    former: Former | None = None,
    locate: Locate = Workload.locate,
) -> HostReport:
    """Make all that is attached obey the state; one that refuses doesn't keep others from it. What was attached by a
    name is bound where that leads now (`locate`), or stays and is told. `former`: what the caller knows since the last
    time.

    BindingError, and nothing is changed, if some are in host placement and instance placement is asked for.
    """
    former = former or Former()
    with registry.locked():
        before = registry.load()
        again = bound_again(before, former, locate)
        bindings = in_order(again.bindings)
        if bindings != before:
            registry.store(bindings)
        if manner.placement is Placement.HOST:
            superseded = [binding for binding in bindings if binding.superseded]
            reports = reconcile_hosted(registry, state, bindings, manner, former)
            reports += _reconcile_workloads(state, superseded, replace(manner, placement=Placement.INSTANCE), former)
        else:
            _require_instance_placement(bindings)
            reports = _reconcile_workloads(state, bindings, manner, former)
    return HostReport(tuple(reports), frozenset(former.left), frozenset(former.owed), again.refusals)


def _require_instance_placement(bindings: Sequence[Binding]) -> None:
    hosted = [binding.eni_id for binding in bindings if binding.host_end is not None]
    if hosted:
        expected = "host, or `sgdp detach` before, which moves the host ends of their links back"
        message = "there are ENIs in host placement"
        refuse("--placement", "InvalidPlacement.Differs", message, ", ".join(hosted), expected)


def _reconcile_workloads(
    state: CloudState, bindings: Sequence[Binding], manner: Manner, former: Former
) -> list[NamespaceReport]:
    """Each namespace that may not be as it has to be, as far as its turn has come."""
    groups: dict[Key, list[Binding]] = {}
    for binding in bindings:
        groups.setdefault(binding.identity, []).append(binding)
    there = with_closed(state, {binding.eni_id for binding in bindings})
    reports = {
        key: former.settled(key, groups[key], there)
        or former.look(key, partial(_reconcile_workload, state, there, groups[key], manner, former))
        for key in former.ordered(groups, there)
    }
    return [reports[key] for key in groups]


def _reconcile_workload(
    state: CloudState, there: CloudState, bindings: Sequence[Binding], manner: Manner, former: Former
) -> NamespaceReport:
    """`there`: the state, with all ENIs that are attached."""
    key = bindings[0].identity
    try:
        with found(key, bindings[0].path) as place:
            if place is None:
                return NamespaceReport(key, tuple(EniReport(binding, Outcome.GONE) for binding in bindings))
            return _enforced(place, (state, there), bindings, manner, former)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is this namespace's
        refusal = told(error)
        kept = None if isinstance(refusal, ContainedError) else former.in_force.get(key)  # then nothing is believed
        refused = tuple(EniReport(binding, Outcome.REFUSED) for binding in bindings)
        return NamespaceReport(key, refused, proven=kept, error=refusal)


def _enforced(
    place: str, states: tuple[CloudState, CloudState], bindings: Sequence[Binding], manner: Manner, former: Former
) -> NamespaceReport:
    """`states`: the state, and the same with all ENIs that are attached."""
    key, (state, there) = bindings[0].identity, states
    refusals = {binding.eni_id: unfit for binding in bindings if (unfit := unfit_name(binding)) is not None}
    if len(refusals) == len(bindings):
        raise refusals[bindings[0].eni_id]
    interfaces = {binding.eni_id: binding.ifname for binding in bindings if binding.eni_id not in refusals}
    proven = former.built(key, Desired(there, interfaces, manner.options), manner.settings)
    applied = enforce(place, proven, former.in_force.get(key), manner.settings)
    with Links(place) as links:
        for binding in bindings:
            give_mac(links, binding, state)
        seen = Interfaces.read(links)
    enis = tuple(
        EniReport(binding, Outcome.REFUSED, refusal=refusals[binding.eni_id])
        if binding.eni_id in refusals
        else look(seen, state, binding)
        for binding in bindings
    )
    unbound = names_up(seen.links) - {"lo", *interfaces.values()}
    return NamespaceReport(key, enis, proven, applied, unbound=tuple(sorted(unbound)))
