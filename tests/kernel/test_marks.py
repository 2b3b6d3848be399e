"""Passes over the sessions of a namespace: what one slice does, and where a pass ends, whatever root there does."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from itertools import pairwise

import pytest

from sgdataplane.contract.sites import HOST, INSTANCE
from sgdataplane.enforce import Clearance, Clearing, KernelSessions
from sgdataplane.enforce.clearing import MAX_PASSES, at
from sgdataplane.host import netns, nfnetlink
from sgdataplane.host.conntrack import CTA_MARK, CTA_TUPLE_ORIG, end_tracked, list_tracked
from sgdataplane.host.marks import SLABS, SLICE, SPARE, MarkPass, count_everywhere
from sgdataplane.host.netlink import attribute, nest, parse_attributes
from sgdataplane.net.values import Direction
from tests.support.kernel.conntrack import fill_many, marks_of

pytestmark = pytest.mark.kernel
MANY = 3000


def both(epoch: int) -> int:
    return sum(HOST.marks.encode_acceptance(side, epoch, 9) for side in Direction)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each call to the kernel has that changes sessions."""
    found: list[int] = []
    tell_all = nfnetlink.Nfnetlink.tell_all

    def noted(
        door: nfnetlink.Nfnetlink,
        kind: int,
        messages: Sequence[tuple[int, bytes]],
        ignored: Container[int] = (),
        flags: int = 0,
    ) -> None:
        found.append(len(messages))
        tell_all(door, kind, messages, ignored, flags)

    monkeypatch.setattr(nfnetlink.Nfnetlink, "tell_all", noted)
    return found


@pytest.mark.parametrize("many", [MANY, pytest.param(200_000, marks=pytest.mark.slow)])
def test_slice_is_small_and_one_message_clears_both_fields_of_a_session(
    namespace: str, requests: list[int], many: int
) -> None:
    fill_many(namespace, many, both(3))
    requests.clear()
    with netns.inside(namespace):
        sweep = MarkPass(HOST.marks.epoch_fields, range(1, 16))
    seen = [0]
    with sweep:
        while sweep.step():  # outside that namespace
            seen.append(sweep.seen)
    assert (sweep.seen, sweep.cleared, sweep.is_endless) == (many, 2 * many, False)
    assert max(after - before for before, after in pairwise(seen)) <= SLICE
    assert (sum(requests), max(requests)) == (many, SLICE)
    assert set(marks_of(namespace)) == {both(3) & ~sum(HOST.marks.epoch_fields)}


def test_sessions_that_end_while_they_are_cleared_harm_nothing(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_many(namespace, 2 * SLICE, both(3))
    change, ended = MarkPass._change, list[int]()

    def ending(sweep: MarkPass, data: bytes) -> bytes:
        if not ended:
            with netns.inside(namespace):
                ended.append(marks_ended())
        return change(sweep, data)

    monkeypatch.setattr(MarkPass, "_change", ending)
    assert Clearing(at(namespace), HOST.marks, range(1, 16)).run()
    assert (ended, marks_of(namespace)) == ([2 * SLICE], [])


def marks_ended() -> int:
    return end_tracked(lambda _: True)


def test_list_that_others_make_longer_all_the_time_is_given_up(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root of an instance's namespace could: as many sessions come as are read."""
    fill_many(namespace, SLICE, both(3))
    data: list[tuple[int, bytes]] = []
    with netns.inside(namespace), nfnetlink.Nfnetlink() as door:
        data += list(door.entries(nfnetlink.message_kind(1, 1)))
    monkeypatch.setattr(nfnetlink.Nfnetlink, "entries", lambda *_: endless(data))
    clearing = Clearing(at(namespace), INSTANCE.marks, range(1, 1 << 10))
    assert not clearing.run()
    assert (clearing.passes, clearing.seen <= 2 * SLICE + SPARE + SLICE) == (1, True)


def endless(entries: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    while True:
        yield from entries


def test_marks_that_root_writes_again_and_again_are_given_up_and_no_session_is_lost(
    namespace: str, requests: list[int]
) -> None:
    fill_many(namespace, MANY, both(3))
    clearing = Clearing(at(namespace), HOST.marks, range(1, 16))
    for number, _ in enumerate(clearing.slices()):
        if number % 5 == 0:
            with netns.inside(namespace):
                put_back()
    assert (clearing.is_clear, clearing.passes) == (False, MAX_PASSES)
    assert max(requests) <= SLICE
    assert len(marks_of(namespace)) == MANY
    assert Clearing(at(namespace), HOST.marks, range(1, 16)).run(), "control: without root it ends"


def put_back() -> None:
    """Each mark is as it was."""
    with nfnetlink.Nfnetlink() as reader, nfnetlink.Nfnetlink() as writer:
        found = list(reader.entries(nfnetlink.message_kind(1, 1)))
        for first in range(0, len(found), SLICE):
            changes = [(family, with_mark(data)) for family, data in found[first : first + SLICE]]
            writer.tell_all(nfnetlink.message_kind(1, 0), changes)


def with_mark(data: bytes) -> bytes:
    tuple_of = parse_attributes(data)[CTA_TUPLE_ORIG]
    mark = attribute(CTA_MARK, both(3).to_bytes(4, "big"))
    return nest(CTA_TUPLE_ORIG, [tuple_of]) + mark


@pytest.mark.parametrize(
    ("most", "everywhere", "is_done"),
    [(None, 10**7, True), (MANY, 0, True), (MANY - 1, 0, False), (MANY, 10**7, False)],
    ids=["nobody-waits", "few", "many", "many-elsewhere"],
)
def test_apply_looks_through_sessions_itself_only_if_that_is_quick(
    namespace: str, monkeypatch: pytest.MonkeyPatch, most: int | None, everywhere: int, *, is_done: bool
) -> None:
    monkeypatch.setattr("sgdataplane.enforce.sessions.count_everywhere", lambda: everywhere)
    fill_many(namespace, MANY, both(3))
    sessions = KernelSessions(namespace, HOST.marks, Clearance(most=most))
    assert sessions.forget_epochs(range(1, 16), None) == is_done
    assert set(marks_of(namespace)) == {both(3) & ~sum(HOST.marks.epoch_fields) if is_done else both(3)}


def test_sessions_of_all_namespaces_are_counted(namespace: str) -> None:
    if not os.access(SLABS, os.R_OK):
        pytest.skip("this kernel doesn't say")
    fill_many(namespace, MANY)
    assert count_everywhere() >= MANY


def test_namespace_without_sessions_is_clear_at_once(namespace: str) -> None:
    clearing = Clearing(at(namespace), HOST.marks, range(1, 16))
    assert (clearing.run(), clearing.seen) == (True, 0)
    with netns.inside(namespace):
        assert list_tracked() == []
