"""What is seen of named namespaces: which ones are looked at, what their interfaces say, and names that come and go."""

from __future__ import annotations

import selectors
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sgdataplane.attach.discover import Sights, look
from sgdataplane.errors import HostError
from sgdataplane.host import netns
from sgdataplane.host.events import number_of
from sgdataplane.host.links import Links, create_marked
from sgdataplane.host.rtnetlink import Label, labels_of
from sgdataplane.host.watch import NamesWatch
from tests.support.run.isolation import BY_ITSELF

pytestmark = pytest.mark.kernel
MAC = "02:00:00:00:00:07"
FREE = 1 << 20  # no namespace has so high a number


@pytest.fixture
def names(make_lab_name: Callable[[], str]) -> Iterator[Callable[[], str]]:
    """Makes names; the namespaces that got them are removed."""
    given: list[str] = []

    def name() -> str:
        given.append(make_lab_name())
        return given[-1]

    yield name
    for entry in given:
        netns.remove(entry)


@pytest.fixture
def workload(names: Callable[[], str], namespace: str) -> str:
    """A namespace with an interface, and a link to `namespace`."""
    name = names()
    netns.create(name)
    with Links(namespace) as links:
        links.add_veth("far", name, "eth0", MAC)
    with Links(name) as links:
        links.set_alias("eth0", "eni-a")
    return name


def seen(pattern: str) -> dict[str, tuple[Label, ...]]:
    places, errors = look([pattern])
    assert errors == []
    return {place.name: made(place.labels) for place in places}


def made(labels: Iterable[Label]) -> tuple[Label, ...]:
    """But for what a namespace may have by itself."""
    return tuple(label for label in labels if label.ifname not in BY_ITSELF)


def test_interfaces_are_read_from_outside_up_or_down(workload: str) -> None:
    loopback, eth0 = sorted(made(labels_of(number_of(workload))), key=lambda label: label.ifname, reverse=True)
    assert (loopback.ifname, loopback.is_loopback) == ("lo", True)
    assert eth0 == Label("eth0", "eni-a", MAC)
    with Links(workload) as links:
        links.set_up("eth0")
    assert eth0 in labels_of(number_of(workload))


def test_many_interfaces_are_read_whole(workload: str) -> None:
    commands = "".join(f"link add a{n} type veth peer b{n}\nlink set a{n} alias {'x' * 200}\n" for n in range(150))
    subprocess.run(["ip", "-n", workload, "-b", "-"], input=commands, text=True, check=True)
    assert len(made(labels_of(number_of(workload)))) == 302


def test_a_number_that_no_namespace_has_is_an_error() -> None:
    with pytest.raises(HostError, match="namespace of number"):
        labels_of(FREE)


def test_only_names_that_fit_are_looked_at(workload: str, namespace: str) -> None:
    assert seen(workload) == {workload: (Label("eth0", "eni-a", MAC),)}
    assert set(seen("*")) == {workload, namespace}
    assert seen("none*") == {}


def test_neither_ours_nor_our_own_nor_bare_files_are_looked_at(workload: str, names: Callable[[], str]) -> None:
    lab, own, bare, twice = names(), names(), names(), names()
    create_marked(lab, "sgdataplane lab=x node=y")
    (netns.RUN_DIR / bare).touch()
    for name, place in ((own, netns.OWN_NETNS), (twice, str(netns.path_of(workload)))):
        (netns.RUN_DIR / name).touch()
        subprocess.run(["mount", "--bind", place, str(netns.RUN_DIR / name)], check=True)
    assert {lab, own, twice, bare} <= set(netns.list_names())
    found = set(seen("*"))
    assert len(found & {workload, twice}) == 1
    assert not found & {lab, own, bare}


def test_quiet_namespace_is_not_looked_at_again_and_another_one_is(workload: str) -> None:
    sights, number = Sights(), number_of(workload)

    def aliases(*quiet: int) -> list[str]:
        sights.quiet = frozenset(quiet)
        (place,) = look([workload], sights)[0]
        return [label.alias for label in made(place.labels)]

    assert aliases() == ["eni-a"]
    with Links(workload) as links:
        links.set_alias("eth0", "eni-b")
    assert aliases(number) == ["eni-a"]
    assert aliases() == ["eni-b"]
    with netns.open_fd(workload):  # while it lives, no other namespace has its number
        netns.remove(workload)
        netns.create(workload)
        assert aliases(number) == []  # the name leads elsewhere now


def test_place_that_is_no_workload_s_is_looked_at_once(names: Callable[[], str]) -> None:
    lab, sights = names(), Sights()
    create_marked(lab, "sgdataplane lab=x node=y")
    assert look([lab], sights) == ((), [])
    with Links(lab) as links:
        links.set_alias("lo", "")
    assert look([lab], sights) == ((), [])
    netns.remove(lab)
    netns.create(lab)
    assert [place.name for place in look([lab], sights)[0]] == [lab]


@contextmanager
def watched() -> Iterator[Callable[[], bool]]:
    """Asks whether names have changed; only if there was something to wake for."""
    watch = NamesWatch()
    with selectors.DefaultSelector() as selector:
        selector.register(watch, selectors.EVENT_READ)
        try:
            yield lambda: bool(selector.select(0) and watch.take_changes())
        finally:
            watch.close()


def test_names_that_come_and_go_are_told_and_nothing_else_is(names: Callable[[], str], tmp_path: Path) -> None:
    name = names()
    with watched() as is_told:
        assert not is_told()
        for _ in range(20):
            netns.create(name)
            assert is_told()
            assert not is_told()
            netns.remove(name)
            assert is_told()
        subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
        assert not is_told()
        subprocess.run(["umount", str(tmp_path)], check=True)
        (netns.RUN_DIR / name).touch()  # as `ip netns add` does first; it is no namespace yet
        assert not is_told()
