"""Of which namespaces the agent may believe that nothing has happened there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from sgdataplane.attach.registry import Binding
from sgdataplane.attach.report import EniOutcome, EniReport, HostReport, Key, NamespaceReport
from sgdataplane.contract.tables import TABLE
from sgdataplane.daemon.namespaces import Drift, NamespaceWatch
from sgdataplane.host import netns
from sgdataplane.host.events import Message, number_of
from sgdataplane.host.identity import hold_namespace, identity_of
from sgdataplane.host.links import Links
from sgdataplane.nft.commits import NEW_FLOWTABLE
from tests.support.kernel.nft import nft
from tests.support.probes.flood import wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def names(make_lab_name: Callable[[], str]) -> Iterator[tuple[str, str]]:
    one, two = made = make_lab_name(), make_lab_name()
    for name in made:
        netns.create(name)
    yield one, two
    for name in made:
        netns.remove(name)


@pytest.fixture
def watch() -> Iterator[NamespaceWatch]:
    """In a namespace of its own, whose numbers nobody else's namespaces get: the kernel tells that a number's namespace
    has ended after it may have given the number to the next one."""
    with netns.nowhere(), closing(NamespaceWatch()) as watch:
        yield watch


def reported(name: str) -> NamespaceReport:
    path = str(netns.path_of(name))
    with hold_namespace(path) as place:
        binding = Binding(f"eni-{name}", "eth0", f"netns {name}", path, identity_of(place))
    return NamespaceReport(binding.identity, (EniReport(binding, EniOutcome.IN_FORCE),))


def test_what_is_heard_of_one_namespace_says_nothing_of_the_other(
    watch: NamespaceWatch, names: tuple[str, str]
) -> None:
    reports = [reported(name) for name in names]
    one, two = keys = [report.key for report in reports]

    def quiet() -> set[Key]:
        return set(watch.take_quiet())

    assert quiet() == set()
    assert watch.follow(HostReport(tuple(reports)))
    assert quiet() == set(), "something may have happened before it was listened to"
    assert quiet() == set(keys)
    assert not watch.follow(HostReport(tuple(reports)))
    nft(names[0], f"add table inet {TABLE}", "add table inet other")
    wait_until(lambda: watch.rules_changed()[0] != [])
    assert quiet() == {two}
    with Links(names[1]) as links:
        links.set_up("lo")
    wait_until(watch.links_changed)
    assert quiet() == {one}
    nft(names[0], "add chain inet other c")  # isn't ours
    nft(names[1], f"add table inet {TABLE}")
    wait_until(lambda: watch.rules_changed()[0] != [])
    assert quiet() == {one}
    watch.doubt()
    assert quiet() == set()
    assert quiet() == set(keys)


def test_a_flowtable_of_others_takes_another_look(
    watch: NamespaceWatch, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [reported(name) for name in names]
    watch.follow(HostReport(tuple(reports)))
    watch.take_quiet()
    message = Message(number_of(names[0]), NEW_FLOWTABLE, bytes(4))
    monkeypatch.setattr(watch.rules, "read", lambda _: ([message], False))
    assert watch.rules_changed() == ([], True)
    assert set(watch.take_quiet()) == {reports[1].key}


def test_a_namespace_that_ends_is_not_believed_to_be_there(watch: NamespaceWatch, names: tuple[str, str]) -> None:
    reports = [reported(name) for name in names]
    watch.follow(HostReport(tuple(reports)))
    watch.take_quiet()
    netns.remove(names[0])
    wait_until(watch.links_changed)
    assert set(watch.take_quiet()) == {reports[1].key}
    assert set(watch.take_quiet()) == {reports[1].key}


def test_of_one_that_was_left_nothing_more_is_heard_until_it_was_looked_at(
    watch: NamespaceWatch, names: tuple[str, str]
) -> None:
    reports = [reported(name) for name in names]
    one, two = (report.key for report in reports)
    watch.follow(HostReport(tuple(reports)))
    watch.take_quiet()
    watch.leave(frozenset({one}))
    for name in names:
        nft(name, f"add table inet {TABLE}")
    told: list[Drift] = []

    def has_told(count: int) -> bool:
        told.extend(watch.rules_changed()[0])
        return len(told) >= count

    wait_until(lambda: has_told(1))
    assert [drift.key for drift in told] == [two]
    assert watch.heard == {one, two}
    assert set(watch.take_quiet()) == set()
    watch.leave(frozenset())
    nft(names[0], f"add chain inet {TABLE} mine")
    wait_until(lambda: has_told(2))
    assert [drift.key for drift in told] == [two, one]
