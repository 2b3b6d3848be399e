"""Which namespaces a cycle may skip: what the agent hears of those where it enforces, of hosted workloads, and of those
that it only searches."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import pytest

from sgdataplane.attach.registry import Binding, HostEnd
from sgdataplane.attach.report import EniOutcome, EniReport, HostReport, NamespaceReport
from sgdataplane.daemon.namespaces import NamespaceWatch
from sgdataplane.host import netns
from sgdataplane.host.events import number_of
from sgdataplane.host.identity import Identity, identity_of
from sgdataplane.host.links import Links
from tests.support.probes.flood import DEADLINE, wait_until

pytestmark = pytest.mark.kernel
MAC = "02:00:00:00:00:07"
OTHER_MAC = "02:00:00:00:00:08"


@dataclass
class Scene:
    """A router with the host end `end`, and its workload."""

    router: str
    workload: str
    watch: NamespaceWatch

    @property
    def identity(self) -> Identity:
        return identity_of(str(netns.path_of(self.workload)))

    @property
    def report(self) -> HostReport:
        path = str(netns.path_of(self.workload))
        end = HostEnd(self.router, "end", "v", "/proc/1/ns/net", Identity(1, 1))
        binding = Binding("eni-a", "eth0", f"netns {self.workload}", path, self.identity, end)
        return HostReport((NamespaceReport(self.router, (EniReport(binding, EniOutcome.IN_FORCE),)),))

    def hear(self) -> bool:
        """Whether there was something to hear. One reading may return a part, on a busy machine."""
        select.select([self.watch.links], [], [], 5)
        is_heard = False
        while select.select([self.watch.links], [], [], 0)[0]:
            is_heard |= self.watch.links_changed()
        return is_heard


@pytest.fixture
def scene(make_lab_name: Callable[[], str]) -> Iterator[Scene]:
    """In a namespace where nobody else numbers namespaces."""
    with ExitStack() as stack:
        stack.enter_context(netns.nowhere())
        watch = stack.enter_context(closing(NamespaceWatch()))
        yield stack.enter_context(followed(Scene(make_lab_name(), make_lab_name(), watch)))


@contextmanager
def followed(made: Scene) -> Iterator[Scene]:
    """Its namespaces exist, and the watch listens to them."""
    for name in (made.router, made.workload):
        netns.create(name)
    try:
        with Links(made.router) as links:
            links.add_veth("end", made.workload, "eth0", MAC)
        made.watch.follow(made.report)
        made.watch.take_quiet()
        yield made
    finally:
        for name in (made.router, made.workload):
            netns.remove(name)


def test_router_of_which_links_were_heard_is_not_quiet_and_its_workload_is(scene: Scene) -> None:
    identity = scene.identity
    assert set(scene.watch.take_quiet()) == {scene.router, identity}
    with Links(scene.router) as links:
        links.set_mac("end", OTHER_MAC)  # one event; an interface that goes up gets a second one, later
    assert scene.hear()
    assert scene.watch.heard == {scene.router}
    assert scene.watch.take_quiet() == {identity}
    assert set(*scene.watch.take_links()[scene.router]) == {"end"}
    assert (set(scene.watch.take_quiet()), scene.watch.take_links()) == ({scene.router, identity}, {})


def test_link_that_enters_a_router_is_heard_with_its_new_name_last(scene: Scene) -> None:
    with Links(scene.workload) as links:
        links.add_veth("v", scene.workload, "p", "02:00:00:00:00:09")
        links.move("v", scene.router, "eni-b")
    assert scene.hear()
    scene.watch.take_quiet()
    (names,) = scene.watch.take_links()[scene.router]
    assert names[-1] == "eni-b"
    with Links(scene.router) as links:
        links.delete_link("eni-b")


def test_nothing_is_quiet_after_doubt(scene: Scene) -> None:
    with Links(scene.router) as links:
        links.set_mac("end", OTHER_MAC)  # one event; an interface that goes up gets a second one, later
    assert scene.hear()
    scene.watch.doubt()
    assert (set(scene.watch.take_quiet()), scene.watch.take_links()) == (set(), {})


def test_router_with_the_number_of_one_that_has_ended_is_looked_at_as_a_whole(make_lab_name: Callable[[], str]) -> None:
    """Its predecessor's end is still waiting to be read."""
    earlier, router, workload = (make_lab_name() for _ in range(3))
    with ExitStack() as stack:
        stack.enter_context(netns.nowhere())
        netns.create(earlier)
        number = number_of(earlier)
        watch = stack.enter_context(closing(NamespaceWatch()))
        netns.remove(earlier)
        assert select.select([watch.links], [], [], DEADLINE)[0]
        scene = stack.enter_context(followed(Scene(router, workload, watch)))
        assert number_of(router) == number
        with Links(router) as links:
            links.set_mac("end", OTHER_MAC)
        assert scene.hear()
        assert (router in watch.take_quiet(), watch.take_links()) == (False, {})


def test_of_a_hosted_workload_only_the_end_is_heard(scene: Scene) -> None:
    identity = scene.identity
    with Links(scene.workload) as links:
        links.set_up("eth0")
    assert not scene.hear()
    assert identity in scene.watch.take_quiet()
    netns.remove(scene.workload)
    wait_until(lambda: scene.hear() and identity not in scene.watch.take_quiet())  # the link goes first


def test_of_a_searched_namespace_each_link_and_the_end_are_heard(scene: Scene) -> None:
    number = number_of(scene.workload)
    scene.watch.look_at(frozenset({number}))
    assert scene.watch.take_quiet_numbers() == {number}
    with Links(scene.workload) as links:
        links.set_mac("eth0", "02:00:00:00:00:08")
    assert scene.hear()
    assert scene.watch.take_quiet_numbers() == set()
    assert scene.watch.take_quiet_numbers() == {number}
    netns.remove(scene.workload)
    wait_until(lambda: scene.hear() and number not in scene.watch.take_quiet_numbers())
