"""This host's attached ENIs made to obey a state.

Owns the order: what is locked, which placement is asked, what is forgotten. Must not know who asks: `sgdp apply` once,
or a daemon on every cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdataplane.attach.closed import with_closed
from sgdataplane.attach.compare import look
from sgdataplane.attach.hosted import reconcile_hosted
from sgdataplane.attach.registry import Binding, Registry, refuse
from sgdataplane.attach.report import DEFAULT_MANNER, EniReport, HostReport, Key, Manner, NamespaceReport, Outcome
from sgdataplane.enforce import Desired, enforce
from sgdataplane.errors import ProofError, SgDataplaneError
from sgdataplane.host.identity import Identity, found
from sgdataplane.host.links import Links
from sgdataplane.model.placement import Placement
from sgdataplane.model.state import CloudState


def reconcile(
    registry: Registry,
    state: CloudState,
    manner: Manner = DEFAULT_MANNER,
    former: Mapping[Key, Desired] | None = None,
) -> HostReport:
    """Make all that is attached obey the state; one that refuses doesn't keep others from it. Bindings whose namespace
    is gone are forgotten. `former` is `in_force` of the last report, if the caller has it.

    BindingError, and nothing is changed, if some are in host placement and instance placement is asked for.
    """
    with registry.locked():
        bindings = registry.load()
        if manner.placement is Placement.HOST:
            reports = reconcile_hosted(registry, state, bindings, manner, former or {})
        else:
            _require_instance_placement(bindings)
            reports = _reconcile_workloads(state, bindings, manner, former or {})
        report = HostReport(tuple(reports))
        if report.gone:
            registry.store(binding for binding in registry.load() if binding.eni_id not in report.gone)
    return report


def _require_instance_placement(bindings: Sequence[Binding]) -> None:
    hosted = [binding.eni_id for binding in bindings if binding.host_end is not None]
    if hosted:
        expected = "host, or `sgdp detach` before, which moves the host ends of their links back"
        message = "there are ENIs in host placement"
        refuse("--placement", "InvalidPlacement.Differs", message, ", ".join(hosted), expected)


def _reconcile_workloads(
    state: CloudState, bindings: Sequence[Binding], manner: Manner, former: Mapping[Key, Desired]
) -> list[NamespaceReport]:
    groups: dict[Identity, list[Binding]] = {}
    for binding in bindings:
        groups.setdefault(binding.identity, []).append(binding)
    return [_reconcile_workload(state, group, manner, former.get(identity)) for identity, group in groups.items()]


def _reconcile_workload(
    state: CloudState, bindings: Sequence[Binding], manner: Manner, former: Desired | None
) -> NamespaceReport:
    key = bindings[0].identity
    with found(key, bindings[0].path) as place:
        if place is None:
            return NamespaceReport(key, tuple(EniReport(binding, Outcome.GONE) for binding in bindings))
        interfaces = {binding.eni_id: binding.ifname for binding in bindings}
        desired = Desired(with_closed(state, interfaces), interfaces, manner.options)
        try:
            applied = enforce(place, desired, former, manner.settings)
            enis = tuple(look(place, state, binding) for binding in bindings)
            with Links(place) as links:
                unbound = {link.ifname for link in links.links() if link.is_up} - {"lo", *interfaces.values()}
        except (SgDataplaneError, ProofError) as error:
            refused = tuple(EniReport(binding, Outcome.REFUSED) for binding in bindings)
            return NamespaceReport(key, refused, desired=former, error=error)
    return NamespaceReport(key, enis, desired, applied, unbound=tuple(sorted(unbound)))
