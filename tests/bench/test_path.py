"""The path and the probes themselves: with our own filter, without one, and with one that lets everybody in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench.errors import BenchError
from bench.measures import Measure
from bench.ours import Ours, OursOnTrial, by_enis, by_members, by_rules
from bench.path import Ends, Path, RoutedPath, wait_until_up
from bench.probes import PROBES, audited, connections, denied
from bench.run import Stand, change
from bench.variants import HOST, OURS, Variant

from sgdataplane.contract.tables import TRIALS
from sgdataplane.host import netns
from sgdataplane.host.links import Links
from sgdataplane.host.netns import OWN_NETNS
from sgdataplane.model.modes import Mode
from sgdataplane.model.options import Placement
from sgdataplane.nft.kernel import NetlinkKernel

pytestmark = pytest.mark.kernel


@pytest.fixture
def ends(lab_name: str) -> Iterator[Ends]:
    with Path(lab_name) as path:
        yield Ends(path)


def test_a_path_without_filter_lets_everybody_through(ends: Ends) -> None:
    ends.check(is_denying=False)
    with pytest.raises(BenchError, match="the stranger's packets are let through"):
        ends.check(is_denying=True)


@pytest.mark.parametrize("kind", [Path, RoutedPath])
def test_a_path_is_made_when_its_links_are_up(lab_name: str, kind: type[Path]) -> None:
    with kind(lab_name) as path:
        for namespace in {path.sender, path.receiver, path.filtering}:
            with Links(namespace) as links:
                assert {link.operstate for link in links.links() if link.kind == "veth"} == {"UP"}
        Ends(path).check(is_denying=False)
    with pytest.raises(BenchError, match="didn't come up"):
        wait_until_up(OWN_NETNS, "lo", seconds=0)  # a loopback's state is unknown


def test_every_measure_has_a_figure_behind_our_filter_and_changes_take_effect(ends: Ends) -> None:
    ours = Ours(ends.path.filtering, by_rules(ends.path.mac, 10))
    ours.load()
    ends.check(is_denying=True)
    figures = dict(change(Stand(Variant(OURS, 10), ends, ours)))
    for probe in (*PROBES, denied):
        figures.update(probe(ends, 0))
    assert set(figures) == set(Measure) - {Measure.LOAD, Measure.AUDITED}
    assert min(figures.values()) > 0


def test_every_measure_has_a_figure_in_a_router_and_changes_take_effect(lab_name: str) -> None:
    with RoutedPath(lab_name) as path:
        ends = Ends(path)
        ends.check(is_denying=False)
        path.add_ends(["eni-0000", "eni-0001"])
        ours = Ours(path.filtering, by_enis(path.mac, 3, Placement.HOST))
        ours.load()
        ends.check(is_denying=True)
        figures = dict(change(Stand(Variant(HOST, 3), ends, ours)))
        for probe in (*PROBES, denied):
            figures.update(probe(ends, 0))
    assert set(figures) == set(Measure) - {Measure.LOAD, Measure.AUDITED}


def test_audit_mode_lets_the_stranger_in(ends: Ends) -> None:
    ours = Ours(ends.path.filtering, by_rules(ends.path.mac, 10, Mode.AUDIT))
    ours.load()
    ends.check(is_denying=False)
    assert audited(ends, 0)[Measure.AUDITED] > 0
    Ours(ends.path.filtering, by_rules(ends.path.mac, 10)).load()
    with pytest.raises(BenchError, match="packets arrived"):
        audited(ends, 0)


def test_a_trial_counts_each_new_session_of_the_path(ends: Ends) -> None:
    ours = OursOnTrial(ends.path.filtering, by_rules(ends.path.mac, 10))
    ours.load()
    ends.check(is_denying=True)  # it opens the datagrams' session, which the following ones find
    before = counted_by_trials(ends.path.filtering)
    for number in range(1, 4):
        ends.check(is_denying=True)
        assert counted_by_trials(ends.path.filtering) == before + number
    assert set(connections(ends, 0)) == {Measure.CONNECT}
    assert counted_by_trials(ends.path.filtering) > before + 3


def counted_by_trials(namespace: str) -> int:
    with NetlinkKernel(str(netns.path_of(namespace))) as kernel:
        (table,) = kernel.tables(TRIALS)
        counters = kernel.inventory(table).counters
        return sum(count.packets for count in kernel.read_counters(table, counters).values())


def test_a_member_that_joins_is_let_in_and_one_that_leaves_is_not(ends: Ends) -> None:
    ours = Ours(ends.path.filtering, by_members(ends.path.mac, 16))
    ours.load()
    ends.check(is_denying=True)
    for _ in range(2):
        change(Stand(Variant(OURS, 16), ends, ours))


def test_a_change_that_does_nothing_is_noticed(ends: Ends) -> None:
    ours = Ours(ends.path.filtering, by_rules(ends.path.mac, 10))
    ours.load()
    ours.add = lambda: None  # type: ignore[method-assign]
    with pytest.raises(BenchError, match="was not in force"):
        change(Stand(Variant(OURS, 10), ends, ours))
