"""This host's attached ENIs made to obey a state, namespace by namespace.

Owns the grouping of bindings, and what becomes of those whose namespace or ENI is gone. Is given bindings, whose lock
the caller holds, and a state. Must not know who asks: `sgdp apply` once, or a daemon on every cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sgdataplane.attach.closed import with_closed
from sgdataplane.attach.compare import address_differences, mac_difference
from sgdataplane.attach.registry import Binding, Registry
from sgdataplane.enforce import DEFAULT_SETTINGS, ApplyReport, Desired, Settings, enforce
from sgdataplane.errors import ProofError, SgDataplaneError
from sgdataplane.host.identity import Identity, found
from sgdataplane.host.links import Links
from sgdataplane.model.options import DEFAULTS, Options
from sgdataplane.model.state import CloudState


class Outcome(Enum):
    """IN_FORCE: the interface obeys the ENI's policy. CLOSED: the state has no such ENI, so nothing passes. ABSENT: the
    interface isn't there; when it comes, it obeys the policy, but is fenced only by the next reconcile. REFUSED: the
    kernel did, and what was in force still is. GONE: the namespace has ended, and never comes again."""

    IN_FORCE = "in force"
    CLOSED = "closed"
    ABSENT = "absent"
    REFUSED = "refused"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Manner:
    """How states are read and put in force."""

    options: Options = DEFAULTS
    settings: Settings = DEFAULT_SETTINGS


@dataclass(frozen=True, slots=True)
class EniReport:
    """What became of one binding. `warnings`: why packets may be dropped that no rule drops."""

    binding: Binding
    outcome: Outcome
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceReport:
    """What was done in one namespace: `applied` is None where nothing could be, and `error` says why. `unbound`: its
    other interfaces, which pass nothing, too."""

    enis: tuple[EniReport, ...]
    desired: Desired | None = None
    applied: ApplyReport | None = None
    error: SgDataplaneError | ProofError | None = None
    unbound: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostReport:
    """What was done, by namespace. `in_force` is for the next reconcile, which then changes only what differs."""

    namespaces: tuple[NamespaceReport, ...]
    in_force: Mapping[Identity, Desired] = field(default_factory=dict)

    @property
    def enis(self) -> tuple[EniReport, ...]:
        found = (eni for namespace in self.namespaces for eni in namespace.enis)
        return tuple(sorted(found, key=lambda eni: eni.binding.eni_id))

    @property
    def gone(self) -> frozenset[str]:
        """ENIs whose binding means nothing any more."""
        return frozenset(eni.binding.eni_id for eni in self.enis if eni.outcome is Outcome.GONE)


def reconcile_attached(
    registry: Registry,
    state: CloudState,
    manner: Manner = Manner(),
    former: Mapping[Identity, Desired] | None = None,
) -> HostReport:
    """reconcile() of all that is attached, alone; bindings whose namespace is gone are forgotten afterwards."""
    with registry.locked():
        bindings = registry.load()
        report = reconcile(state, bindings, manner, former)
        if report.gone:
            registry.store(binding for binding in bindings if binding.eni_id not in report.gone)
    return report


def reconcile(
    state: CloudState,
    bindings: Sequence[Binding],
    manner: Manner = Manner(),
    former: Mapping[Identity, Desired] | None = None,
) -> HostReport:
    """Make all namespaces that these bindings are of obey the state. One that refuses doesn't keep others from it.

    `former` is `in_force` of the last report, if the caller has it.
    """
    groups: dict[Identity, list[Binding]] = {}
    for binding in bindings:
        groups.setdefault(binding.identity, []).append(binding)
    known = former or {}
    reports = {
        identity: _reconcile_one(state, group, manner, known.get(identity)) for identity, group in groups.items()
    }
    in_force = {identity: report.desired for identity, report in reports.items() if report.desired is not None}
    return HostReport(tuple(reports.values()), in_force)


def _reconcile_one(
    state: CloudState, bindings: Sequence[Binding], manner: Manner, former: Desired | None
) -> NamespaceReport:
    with found(bindings[0].identity, bindings[0].path) as place:
        if place is None:
            return NamespaceReport(tuple(EniReport(binding, Outcome.GONE) for binding in bindings))
        interfaces = {binding.eni_id: binding.ifname for binding in bindings}
        desired = Desired(with_closed(state, interfaces), interfaces, manner.options)
        try:
            applied = enforce(place, desired, former, manner.settings)
            enis, unbound = _look(place, state, bindings)
        except (SgDataplaneError, ProofError) as error:
            refused = tuple(EniReport(binding, Outcome.REFUSED) for binding in bindings)
            return NamespaceReport(refused, desired=former, error=error)
    return NamespaceReport(enis, desired, applied, unbound=unbound)


def _look(place: str, state: CloudState, bindings: Sequence[Binding]) -> tuple[tuple[EniReport, ...], tuple[str, ...]]:
    """What the interfaces are like, and which are up that are nobody's."""
    with Links(place) as links:
        link = {link.ifname: link for link in links.links()}
        addresses = links.addresses()
    enis = []
    for binding in bindings:
        eni = state.eni.get(binding.eni_id)
        if eni is None or binding.ifname not in link:
            enis.append(EniReport(binding, Outcome.CLOSED if eni is None else Outcome.ABSENT))
            continue
        own = [entry.address for entry in addresses if entry.ifname == binding.ifname]
        mac = mac_difference(link[binding.ifname], eni)
        warnings = (*((mac,) if mac else ()), *address_differences(own, eni))
        enis.append(EniReport(binding, Outcome.IN_FORCE, warnings))
    bound = {"lo", *(binding.ifname for binding in bindings)}
    return tuple(enis), tuple(sorted(name for name, found in link.items() if found.is_up and name not in bound))
