"""Host placement: what is quiet isn't looked at, and the router is the same as if all had been looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest

from sgdataplane.attach import hosted
from sgdataplane.attach.agenda import Agenda, Heard
from sgdataplane.attach.reconcile import reconcile
from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, HostReport, Key, Manner, NamespaceReport
from sgdataplane.host.links import Links
from sgdataplane.model.options import Placement
from sgdataplane.model.state import CloudState
from sgdataplane.net.values import Address
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.attachhost import ROUTER, state_of
from tests.support.scenes.labs import run_in
from tests.support.scenes.pair import Session

pytestmark = pytest.mark.kernel
MANNER = Manner(placement=Placement.HOST)


@dataclass
class Host:
    """The bench's workloads, reconciled as an agent does. `looked`: the ENIs whose workloads were looked at."""

    bench: Bench
    report: HostReport = field(default_factory=lambda: HostReport(()))
    looked: list[str] = field(default_factory=list)

    def reconcile(self, state: CloudState, *quiet: Key, links: Collection[Sequence[str]] = ()) -> NamespaceReport:
        """The router's report. `quiet`: nothing was heard of these namespaces. `links`: only these of the router's
        links were heard."""
        self.looked.clear()
        heard: dict[Key, Collection[Sequence[str]]] = {ROUTER: links} if links else {}
        agenda = Agenda(self.report, Heard(frozenset(quiet), links=heard))
        self.report = reconcile(self.bench.registry, state, MANNER, agenda)
        return self.report.by_key[ROUTER]

    @property
    def everybody(self) -> tuple[Key, ...]:
        return (ROUTER, *(binding.identity for binding in self.bench.registry.load()))

    @property
    def router(self) -> tuple[object, ...]:
        """What is set up in the router, apart from rules."""
        with Links(ROUTER) as links:
            ends = sorted((link.ifname, link.is_up) for link in links.links())
            settings = ends, links.routes(), links.addresses()
        neighbours = run_in(ROUTER, "ip", "neighbour", "show", "nud", "permanent")
        return *settings, sorted(neighbours.splitlines())


@pytest.fixture
def host(host_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Host:
    made, look = Host(host_bench), hosted._look

    def noted(state: CloudState, binding: Binding, agenda: Agenda) -> object:
        made.looked.append(binding.eni_id)
        return look(state, binding, agenda)

    monkeypatch.setattr(hosted, "_look", noted)
    return made


def with_address(state: CloudState, address: str) -> CloudState:
    """The second ENI has that IPv4 address instead of its own."""
    first, second = state.network_interfaces
    moved = replace(second, private_ip_addresses=(Address.parse(address),))
    return replace(state, network_interfaces=(first, moved))


def test_if_all_is_quiet_nothing_is_looked_at(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of(WEB)
    first = host.reconcile(state)
    assert host.looked == ["eni-a", "eni-b"]
    with monkeypatch.context() as patched:  # not while the bench is cleared away
        patched.setattr(hosted, "enforce", None)
        patched.setattr(hosted, "look_after", None)
        assert host.reconcile(state, *host.everybody).enis == first.enis
        assert host.looked == []
        with pytest.raises(KeyError):  # the control: a look would call these, and the ENIs are refused
            host.reconcile(state)


def test_one_that_comes_is_the_only_one_that_is_looked_at(host: Host) -> None:
    bindings = host.bench.registry.load()
    host.bench.registry.store(bindings[:1])
    host.reconcile(state_of(WEB))
    quiet = (ROUTER, bindings[0].identity)
    host.bench.registry.store((*host.bench.registry.load(), bindings[1]))
    host.reconcile(state_of(WEB), *quiet)
    assert host.looked == ["eni-b"]
    with Session(host.bench.pair, WEB) as web, Session(host.bench.pair, DNS) as dns:
        assert not dns.passes(beside=web)
    set_up = host.router
    host.reconcile(state_of(WEB))
    assert (host.looked, host.router) == (["eni-a", "eni-b"], set_up)


def test_new_policy_reaches_the_router_of_quiet_workloads(host: Host) -> None:
    host.reconcile(state_of(WEB))
    with Session(host.bench.pair, WEB) as web, Session(host.bench.pair, DNS) as dns:
        web.must_pass()
        host.reconcile(state_of(DNS), *host.everybody)
        assert host.looked == []
        assert not web.passes(beside=dns)


def test_address_that_changes_in_the_state_moves_its_route_and_neighbour(host: Host) -> None:
    state = state_of(WEB)
    host.reconcile(state)
    before, moved = host.router, with_address(state, "10.10.0.77")
    host.reconcile(moved, *host.everybody)
    assert host.looked == ["eni-b"]
    after = host.router
    assert after != before
    host.reconcile(moved)
    assert host.router == after
    host.reconcile(state, *host.everybody)
    assert host.router == before


def test_after_an_event_at_a_host_end_what_is_missing_there_comes_back(host: Host) -> None:
    """And only workloads with warnings are looked at, for these may be right now."""
    state = state_of(WEB)
    host.reconcile(state)
    before, (_, *workloads) = host.router, host.everybody
    with Links(ROUTER) as links:
        links.set_down("eni-b")
    assert host.router != before
    host.reconcile(state, *workloads)
    assert (host.looked, host.router) == ([], before)
    run_in(host.bench.pair["peer"], "ip", "address", "add", "192.0.2.77/32", "dev", "eth0")
    assert host.reconcile(state, ROUTER, workloads[0]).enis[1].warnings
    run_in(host.bench.pair["peer"], "ip", "address", "del", "192.0.2.77/32", "dev", "eth0")
    assert not host.reconcile(state, *workloads).enis[1].warnings
    assert host.looked == ["eni-b"]


HEARD = {
    "its own": ([["eni-b"]], True),
    "another one": ([["eni-a"]], False),
    "another one that entered": ([["v", "eni-a"]], False),
    "it had another name": ([["eni-b", "eni-a"]], True),
    "an unknown one, too": ([["eni-a"], ["new"]], True),
    "another one that was renamed": ([["eni-a", "new"]], True),
}


@pytest.mark.parametrize(("links", "is_seen"), HEARD.values(), ids=HEARD)
def test_only_the_host_ends_that_were_heard_are_set_up(host: Host, links: list[list[str]], is_seen: bool) -> None:
    """A link with another name may be a host end that was renamed, so then all are."""
    state = state_of(WEB)
    host.reconcile(state)
    before, (_, *workloads) = host.router, host.everybody
    with Links(ROUTER) as there:
        there.set_down("eni-b")
    host.reconcile(state, *workloads, links=links)
    assert (host.router == before, host.looked) == (is_seen, [])


def test_host_end_that_has_gone_is_found_missing_when_it_was_heard(host: Host) -> None:
    state = state_of(WEB)
    host.reconcile(state)
    _, *workloads = host.everybody
    with Links(ROUTER) as links:
        links.delete_link("eni-b")
    host.reconcile(state, *workloads, links=[["eni-b"]])
    outcomes = {eni.binding.eni_id: eni.outcome for eni in host.report.enis}
    assert outcomes == {"eni-a": EniOutcome.IN_FORCE, "eni-b": EniOutcome.ABSENT}


def test_workload_that_has_ended_is_gone_once_its_end_was_heard(host: Host) -> None:
    state = state_of(WEB)
    host.reconcile(state)
    at, first, _ = host.everybody
    kept, binding = host.bench.registry.load()
    ended = replace(binding, identity=replace(binding.identity, cookie=1))  # no namespace has that one
    host.bench.registry.store((kept, ended))
    host.reconcile(state, at, first)
    assert (host.report.gone, host.looked) == (frozenset({"eni-b"}), [])
    host.bench.registry.store((kept, binding))
