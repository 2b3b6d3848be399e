"""Whatever happens in one namespace ends there: its ENIs are refused, and told so; its neighbours obey as ever."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from sgdataplane.attach import discover
from sgdataplane.attach.agenda import Heard
from sgdataplane.attach.registry import Means
from sgdataplane.attach.report import DEFAULT_MANNER, Manner
from sgdataplane.contract.tables import TABLE
from sgdataplane.daemon.cycle import Reconciler
from sgdataplane.daemon.metrics import KINDS
from sgdataplane.daemon.namespaces import NamespaceWatch
from sgdataplane.daemon.readings import Readings, read_namespace
from sgdataplane.daemon.schedule import Cause
from sgdataplane.daemon.source import LastGood
from sgdataplane.daemon.status import Status
from sgdataplane.errors import ContainedError, InternalError
from sgdataplane.host import netns
from sgdataplane.host.identity import SO_NETNS_COOKIE, identity_of
from sgdataplane.host.links import Links
from sgdataplane.host.nfnetlink import Nfnetlink
from sgdataplane.host.rtnetlink import Label, labels_of
from sgdataplane.model.options import Placement
from sgdataplane.nft import commits, kernel
from sgdataplane.nft.ir import Table
from sgdataplane.nft.messages import Writer
from sgdataplane.nft.uapi import SUBSYSTEM, TABLE_OWNER
from sgdataplane.terminal.output import Exit
from tests.support.inputs.statefiles import StateFiles
from tests.support.kernel.nft import listing, nft
from tests.support.scenes.attachbench import DNS, WEB, Bench
from tests.support.scenes.attachhost import HOST, state_of

pytestmark = pytest.mark.kernel
ERRORS: dict[str, Exception] = {
    "no-utf8": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "no-number": ValueError("not a number"),
    "too-short": struct.error("unpack requires a buffer of 4 bytes"),
    "no-attribute": KeyError(3),
    "no-memory": MemoryError(),
    "too-deep": RecursionError("maximum recursion depth exceeded"),
    "invariant": InternalError("an invariant broke"),
    "no-word": Exception(),
}
Bad = Callable[..., object]


@contextmanager
def reading_fails(place: str, error: Exception) -> Iterator[None]:
    """Whatever is read of nftables there raises that."""
    cookie = identity_of(place).cookie

    def failing(call: Bad) -> Bad:
        def called(netlink: Nfnetlink, *rest: object) -> object:
            if int.from_bytes(netlink._socket.getsockopt(1, SO_NETNS_COOKIE, 8), sys.byteorder) == cookie:
                raise error
            return call(netlink, *rest)

        return called

    with pytest.MonkeyPatch.context() as patched:
        for name in ("read_inventory", "read_trusted"):
            patched.setattr(kernel, name, failing(getattr(kernel, name)))
        yield


def reconciler(bench: Bench) -> Reconciler:
    return Reconciler(bench.registry, LastGood(bench.folder / "var"))


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_one_namespace_that_cannot_be_read_is_refused_alone(bench: Bench, error: Exception) -> None:
    path = bench.write(state_of(WEB))
    found = reconciler(bench)
    status = Status(path, path, path)
    with reading_fails(bench.place, error):
        report = found.run({Cause.START}, StateFiles(path), DEFAULT_MANNER, discover.BindRule())
    assert report.host is not None
    outcomes = {eni.binding.eni_id: eni.outcome.value for eni in report.host.enis}
    assert outcomes == {"eni-a": "refused", "eni-b": "in force"}
    assert (report.refused, report.is_whole) == (("eni-a",), False)  # so it is tried again, after a while
    (refused,) = (entry.error for entry in report.host.namespaces if entry.error is not None)
    assert isinstance(refused, InternalError if isinstance(error, InternalError) else ContainedError)
    assert next(kind for kind, of in KINDS if isinstance(refused, of)) == "bug"
    status.note_cycle(report)
    assert {eni.report.binding.eni_id: bool(eni.error) for eni in status.enis} == {"eni-a": True, "eni-b": False}
    assert not status.is_healthy
    heard = Heard(frozenset(report.host.by_key))
    again = found.run({Cause.RETRY}, StateFiles(path), DEFAULT_MANNER, discover.BindRule(), heard)
    assert again.is_whole
    assert "sgr-8080" in listing(bench.place, TABLE)


def test_what_is_in_force_there_stays(bench: Bench) -> None:
    assert bench.apply(state_of(WEB))["exit"] == "0"
    before = listing(bench.place, TABLE)
    with reading_fails(bench.place, ERRORS["no-utf8"]):
        outcomes = bench.apply(state_of(WEB, DNS))
    assert outcomes == {"eni-a": "refused", "eni-b": "in force", "exit": str(int(Exit.INTERNAL))}
    assert listing(bench.place, TABLE) == before


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_in_host_placement_a_workload_has_no_say(bench: Bench, error: Exception) -> None:
    """What can't be read is its own tables, which are to be removed there."""
    with reading_fails(bench.place, error):
        source = StateFiles(bench.write(state_of(WEB)))
        found = reconciler(bench).run({Cause.START}, source, Manner(placement=Placement.HOST), discover.BindRule())
    assert found.host is not None
    assert {eni.outcome.value for eni in found.host.enis} == {"in force"}
    warned = {eni.binding.eni_id: bool(eni.warnings) for eni in found.host.enis}
    assert warned == {"eni-a": True, "eni-b": False}
    assert bench.apply(state_of(WEB), *HOST)["exit"] == "0"


def test_what_cannot_be_looked_at_keeps_nobody_from_being_bound(
    make_lab_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(make_lab_name() for _ in range(2))
    for name in names:
        netns.create(name)
    bad = identity_of(str(netns.path_of(names[0])))
    numbers: list[int] = []

    def failing(number: int) -> tuple[Label, ...]:
        numbers.append(number)
        if len(numbers) == 1:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return labels_of(number)

    monkeypatch.setattr(discover, "labels_of", failing)
    try:
        places, errors = discover.look([names[0], names[1]])
    finally:
        for name in names:
            netns.remove(name)
    assert [place.name for place in places] == [names[1]]
    assert bad not in {place.identity for place in places}
    assert len(errors) == 1
    assert names[0] in errors[0]
    assert "UnicodeDecodeError" in errors[0]


def test_numbers_of_one_namespace_that_cannot_be_read_leave_the_others(bench: Bench) -> None:
    path = bench.write(state_of(WEB))
    report = reconciler(bench).run({Cause.START}, StateFiles(path), DEFAULT_MANNER, discover.BindRule())
    assert report.host is not None
    bad = identity_of(bench.place)

    def read(entry: object) -> object:
        if getattr(entry, "key", None) == bad:
            raise ValueError("not a number")
        return read_namespace(entry)  # type: ignore[arg-type]

    known, old = Readings(read=read).refresh(report.host.namespaces)  # type: ignore[arg-type]
    assert old == 1
    assert {key == bad: reading.use is None for key, reading in known.items()} == {True: True, False: False}


def test_a_commit_that_cannot_be_read_means_a_look_at_its_namespace(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.write(state_of(WEB))
    report = reconciler(bench).run({Cause.START}, StateFiles(path), DEFAULT_MANNER, discover.BindRule())
    assert report.host is not None
    watch = NamespaceWatch()
    try:
        watch.follow(report.host)
        watch.take_quiet()
        monkeypatch.setattr(commits, "parse_attributes", _raise)
        nft(bench.place, f"add counter inet {TABLE} theirs")
        drifts, is_lossy = watch.rules_changed()
        assert (len(drifts) > 0, is_lossy) == (True, False)
        assert {key == identity_of(bench.place) for key in watch.take_quiet()} == {False}
    finally:
        watch.close()


def _raise(_: bytes) -> dict[int, bytes]:
    raise KeyError(2)


def test_a_table_that_somebody_else_owns_is_told_as_that(bench: Bench) -> None:
    """Nobody else may change it, until its process has ended; the agent tries again."""
    path = bench.write(state_of(WEB))
    found = reconciler(bench)
    with owned_table(bench.place):
        report = found.run({Cause.START}, StateFiles(path), DEFAULT_MANNER, discover.BindRule())
        assert report.refused == ("eni-a",)
        assert report.host is not None
        (error,) = (entry.error for entry in report.host.namespaces if entry.error is not None)
        assert "belongs to a process there" in str(error)
    assert found.run({Cause.RETRY}, StateFiles(path), DEFAULT_MANNER, discover.BindRule()).is_whole


@contextmanager
def owned_table(place: str) -> Iterator[None]:
    with netns.inside(place):
        door = Nfnetlink()
    try:
        door.commit(SUBSYSTEM, Writer().add_table(Table(TABLE), TABLE_OWNER))
        yield
    finally:
        door.close()


@pytest.mark.parametrize("name", ['a"b', "a;b", "$a", "a*", "a\\", "#", "\u00e9"])
def test_an_interface_that_cannot_be_named_is_refused_at_once(
    bench: Bench, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Links(bench.place) as links:
        links._netlink.link("set", index=links.index_of("eth0"), state="down")  # before Linux 6.2 none that is up
        links._netlink.link("set", index=links.index_of("eth0"), ifname=name)
    bench.sgdp("clear")
    assert bench.attach(ifname=name) == Exit.INPUT
    assert "InvalidInterface.Name" in capsys.readouterr().err
    with Links(bench.place) as links:
        links._netlink.link("set", index=links.index_of(name), ifname="eth0")


def test_an_interface_that_cannot_be_named_is_refused_alone(bench: Bench) -> None:
    """A record of before such names were refused: the other interface of that namespace obeys."""
    with Links(bench.pair["peer"]) as links:
        links.add_veth("far", bench.place, 'a"b', "")
    state, bindings = state_of(WEB), bench.registry.load()
    other = next(binding for binding in bindings if binding.eni_id == "eni-a")
    bench.registry.store([other, replace(other, eni_id="eni-b", ifname='a"b')])
    assert bench.apply(state) == {"eni-a": "in force", "eni-b": "refused", "exit": str(int(Exit.KERNEL))}
    path = bench.write(state)
    report = reconciler(bench).run({Cause.START}, StateFiles(path), DEFAULT_MANNER, discover.BindRule((Means.ALIAS,)))
    status = Status(path, path, path)
    status.note_cycle(report)
    errors = {eni.report.binding.eni_id: eni.error for eni in status.enis}
    assert errors["eni-a"] == ""
    assert "InvalidInterface.Name" in errors["eni-b"]
    with Links(bench.pair["peer"]) as links:
        links.delete_link("far")
    bench.registry.store(bindings)
