"""What would hold the kernel too long is refused before anything is changed, on the real kernel, with its pace made up;
and the real pace, which whoever looks can't see being measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from sgdataplane.enforce import Desired, Settings, hold, remove
from sgdataplane.errors import HeldError
from sgdataplane.host import netns
from sgdataplane.nft.ir import Table
from sgdataplane.nft.kernel import NetlinkKernel, _measure_pace
from sgdataplane.nft.transaction import Kind, Operation, Transaction, Verb
from sgdataplane.nft.validation import PROBE, REMEMBERING, Pace, _create_table, lattice_of
from tests.support.inputs.builders import make_eni, make_group, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel.nft import nft
from tests.support.probes.links import veths_in
from tests.support.scenes.attachbench import DNS, WEB, Bench, state_of
from tests.support.scenes.attachhost import HOST, ROUTER, ROUTER_TWO, with_second_vpc
from tests.support.scenes.attachhost import state_of as state_of_two
from tests.support.scenes.pair import Session

pytestmark = pytest.mark.kernel
DEEP = 13  # levels, of 2.4 million paths
VISIT_S = 1.0  # any table of any ENI takes too long then
Slow = Callable[[str], None]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    """From then on visits take long in namespaces whose name or path begins so; elsewhere the kernel remembers."""
    begins: list[str] = []

    def pace(kernel: NetlinkKernel) -> Pace:
        is_slow = any(kernel.namespace.startswith(begin) for begin in begins)
        return Pace(remembers=False, ns_per_visit=VISIT_S * 1e9) if is_slow else REMEMBERING

    monkeypatch.setattr(NetlinkKernel, "pace", pace)
    monkeypatch.setattr(hold, "MATTERS", 0)
    return begins.append


def policy(port: int) -> Desired:
    group = make_group("sg-a", [f"ingress tcp {port}/{port} from 0.0.0.0/0"])
    return Desired(make_state([group], [make_eni("eni-a", "10.0.0.2", "sg-a")]), {"eni-a": "eth0"})


ONE, TWO = policy(22), policy(23)
PLAIN = Settings(adoption_window=0)


def rules(namespace: str) -> str:
    """Everything, counts included."""
    return nft(namespace, "list ruleset")


def test_change_that_takes_too_long_changes_nothing_and_a_cheap_one_is_made(namespace: str, slow: Slow) -> None:
    enforce(namespace, ONE, settings=PLAIN)
    before = rules(namespace)
    slow(namespace)
    with pytest.raises(HeldError, match="nothing was changed"):
        enforce(namespace, TWO, ONE, PLAIN)
    assert rules(namespace) == before
    assert not enforce(namespace, ONE, ONE, PLAIN).changed
    assert remove(namespace), "what is to be removed is never refused"
    assert rules(namespace) == ""


def test_table_that_is_cheap_here_is_not_refused(namespace: str) -> None:
    report = enforce(namespace, ONE, settings=PLAIN)
    assert (report.changed, report.slow) == (True, "")
    assert enforce(namespace, TWO, ONE, PLAIN).slow == ""


def test_refused_workload_keeps_its_policy_and_its_packets(
    bench: Bench, web: Session, dns: Session, slow: Slow
) -> None:
    bench.attach()
    assert bench.apply(state_of(WEB)) == {"eni-a": "in force", "exit": "0"}
    assert not dns.passes(beside=web)
    slow("/")
    assert bench.apply(state_of(WEB, DNS)) == {"eni-a": "refused", "exit": "3"}
    assert not dns.passes(beside=web)
    assert bench.sgdp("detach", "--eni", "eni-a") == 0
    assert dns.passes(beside=web)
    assert rules(bench.place) == ""


def test_refused_first_load_leaves_a_workload_as_it_was(bench: Bench, web: Session, dns: Session, slow: Slow) -> None:
    bench.attach()
    slow("/")
    assert bench.apply(state_of(WEB)) == {"eni-a": "refused", "exit": "3"}
    assert rules(bench.place) == ""
    assert dns.passes(beside=web)


@pytest.fixture
def two(host_bench: Bench) -> Bench:
    return host_bench


def test_router_that_refuses_moves_nothing_in_and_others_go_on(two: Bench, home: str, slow: Slow) -> None:
    slow(ROUTER)
    assert veths_in(home).keys() == {"v-instance", "v-peer"}
    said = two.apply(with_second_vpc(state_of_two(WEB), "eni-b"), *HOST)
    assert said == {"eni-a": "refused", "eni-b": "in force", "exit": "3"}
    assert veths_in(home).keys() == {"v-instance"}
    assert (set(veths_in(ROUTER)), set(veths_in(ROUTER_TWO))) == (set(), {"eni-b"})
    assert rules(ROUTER) == ""


def test_router_that_refuses_a_change_keeps_what_it_has(two: Bench, slow: Slow) -> None:
    assert two.apply(state_of_two(WEB), *HOST)["exit"] == "0"
    with Session(two.pair, WEB) as web, Session(two.pair, DNS) as dns:
        assert not dns.passes(beside=web)
        slow(ROUTER)
        said = two.apply(state_of_two(WEB, DNS), *HOST)
        assert said == {"eni-a": "refused", "eni-b": "refused", "exit": "3"}
        assert not dns.passes(beside=web)
    assert two.sgdp("clear") == 0
    assert not netns.exists(ROUTER)


def test_long_change_is_told_on_the_way_and_in_json(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.attach()
    visit = Pace(remembers=False, ns_per_visit=1e7)
    monkeypatch.setattr(NetlinkKernel, "pace", lambda _: visit)
    monkeypatch.setattr(hold, "MATTERS", 0)
    bench.read_output()
    assert bench.sgdp("apply", bench.write(state_of(WEB)), "--json") == 0
    said = capsys.readouterr()
    (line,) = json.loads(said.out)["enis"][0]["warnings"][-1:]
    assert line.startswith("a change holds the kernel for about ")
    assert f"warning: policy of eni-a: {line}\n" in said.err


def took(door: NetlinkKernel, table: Table) -> float:
    """Seconds of a commit with a target that nothing leads to."""
    began = time.perf_counter()
    door.run(Transaction.of(table, [Operation(Verb.ADD, Kind.RULES, PROBE)]))
    return time.perf_counter() - began


def test_real_pace_is_that_of_a_larger_lattice(namespace: str, lab_name: str) -> None:
    large, small = lattice_of(DEEP), lattice_of(1)
    beside = f"{lab_name}-beside"
    netns.create(beside)
    try:
        with NetlinkKernel(namespace) as deep, NetlinkKernel(beside) as flat:
            deep.run(_create_table(large))
            flat.run(_create_table(small))
            longer = min(took(deep, large) for _ in range(3)) / min(took(flat, small) for _ in range(3))
            pace = deep.pace()
    finally:
        netns.remove(beside)
    assert pace.remembers is (longer < 10), f"{pace}, a commit takes {longer:.1f} times as long beside the lattice"
    assert pace.remembers or 1 < pace.ns_per_visit < 10_000


def test_measuring_leaves_nothing_and_touches_no_namespace_that_anybody_sees(namespace: str) -> None:
    with NetlinkKernel(namespace) as kernel, netns.inside(namespace):
        before = netns.list_names(), rules(namespace), kernel.inventory("any").generation
        _measure_pace.cache_clear()
        first = kernel.pace()
        assert (netns.list_names(), rules(namespace), kernel.inventory("any").generation) == before
        assert kernel.pace() is first, "once a process"
